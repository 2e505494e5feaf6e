"""Processes of the daemon: everything they are made of, put together once from the settings and handed down."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from twisted.application.service import IService, MultiService
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger, globalLogPublisher
from twisted.python.failure import Failure

from econed.actions.addresses.chores import AddressKeeper
from econed.actions.machines.stop_times import StopTimeRecorder
from econed.actions.pacing import Pacer
from econed.actions.shared_reads import SharedReads
from econed.auth.authenticator import SignatureAuthenticator
from econed.auth.users import UserDirectory
from econed.auth.x509 import CertificateAuthenticator
from econed.catalogue import all_actions, all_chores
from econed.clock import WallClock
from econed.config.settings import Settings
from econed.dispatch import Dispatcher
from econed.fetching.fetcher import ImageFetcher
from econed.fetching.own_host import can_oned_read_tmpdir
from econed.http.peers import Peers
from econed.http.site import EC2Site
from econed.http.upload_directory import UploadDirectory, UploadLimits
from econed.interfaces import IAuthenticator, ICallLimiter, InThread, IOpenNebula, IScripts, IUserDirectory
from econed.opennebula.documents import OnRead
from econed.opennebula.file_templates import FileTypes
from econed.opennebula.long_documents import LongDocuments
from econed.process.admin import AdminPort, WatchedProcess
from econed.process.certificates import TLSFiles
from econed.process.generations import Plan
from econed.process.health import LagWatch, OnedState, OnedWatch
from econed.process.lifecycle import Process, Signals
from econed.process.listening import CannotListen, Listener, max_connections
from econed.process.services import OneProcess, Stop, Supervised
from econed.process.spawning import Spawner
from econed.process.supervisor import Load, Supervisor
from econed.process.systemd import Notifier
from econed.process.tls import ServerTLS
from econed.reconciler import Reconciler, ReconcilerService, ReportService
from econed.resource import EC2Resource, Service
from econed.scripts import Scripts
from econed.telemetry.access_log import call_logger
from econed.telemetry.logs import ProcessLog, logger
from econed.telemetry.metrics import Metrics
from econed.telemetry.observed_calls import ObservedOpenNebula
from econed.wire.encoder import Encoder
from econed.wire.model import Model

_T = TypeVar("_T")


@dataclass(frozen=True)
class Serving:
    """A serving process with its metrics; `renew_certificates` is None without TLS."""

    process: Process
    metrics: Metrics
    renew_certificates: Callable[[], Awaitable[object]] | None


def make_process(
    reactor: Any,
    settings: Settings,
    one: IOpenNebula,
    places: Sequence[Listener],
    on_read: OnRead | None = None,
    *,
    types: FileTypes | None = None,
) -> Serving:
    """Put a process that serves together: everything it needs is made here, once, and handed down.

    `places` are where it listens, `types` the files of the instance types. Raises `ConfigError` for certificates that
    cannot be used.
    """
    making = _Making(
        reactor,
        settings,
        WallClock(reactor),
        Metrics(each.name for each in all_actions()),
        _in_thread(reactor),
        MultiService(),
        on_read,
    )
    one = _watched(making, one)
    unasked = ObservedOpenNebula(
        one, making.clock, call_logger(making.log())
    )  # what no single request is the reason for
    scripts = _scripts(making)
    uploads = _uploads(making)
    users = UserDirectory(unasked, making.clock, on_read, making.metrics.cache_lookup, making.log())
    service = replace(_service(making, one, users, scripts, types), fetcher=_fetcher(making, uploads))
    resource = EC2Resource(service)
    site = _site(making, resource, uploads, service.peers)
    _reconcile(making, unasked, uploads, scripts)
    tls = _tls(making)
    listening = [_over_tls(place, tls) for place in places]
    work = (resource.changes.drained,)
    process = Process(site, listening, making.beside, reactor, settings.drain_timeout, making.log(), work)
    return Serving(process, making.metrics, None if tls is None else tls.reload)


def make_one_process(
    reactor: Any, settings: Settings, serving: Serving, notifier: Notifier, log: ProcessLog | None
) -> IService:
    """Return the daemon as one process without a supervisor, which listens from now on; raises `CannotListen`."""
    listening = Deferred.fromCoroutine(serving.process.listen())
    failures: list[Failure] = []
    listening.addErrback(failures.append)
    if failures:
        raise CannotListen(failures[0].getErrorMessage())
    service = OneProcess(
        serving.process,
        Signals(reactor),
        notifier,
        reactor,
        process_log=log,
        renew_certificates=serving.renew_certificates,
        stop_reactor=Stop(reactor),
        log=Logger(namespace="econed"),
    )
    serving.metrics.set_worker_count(1)
    watched = WatchedProcess(serving.metrics, lambda: serving.process.is_draining)
    AdminPort(reactor, watched, service, Logger(namespace="econed.admin")).follow(settings.admin_port)
    return service


def make_supervisor(
    reactor: Any, plan: Plan, load: Load, environ: Mapping[str, str], notifier: Notifier, log: ProcessLog | None
) -> IService:
    """Return the daemon as a supervisor with workers, which start when the reactor runs."""
    said = Logger(namespace="econed.supervisor")
    metrics = Metrics()
    supervisor = Supervisor(
        plan,
        Spawner(reactor, environ, said),
        load,
        reactor,
        jitter=random.random,
        notifier=notifier,
        metrics=metrics,
        on_exit=Stop(reactor),
        on_reload=lambda plan: followed(plan.settings),
        log=said,
    )
    service = Supervised(supervisor, Signals(reactor), notifier, reactor, log)
    admin = AdminPort(reactor, supervisor, service, Logger(namespace="econed.admin"))
    admin.follow(plan.settings.admin_port)

    def followed(settings: Settings) -> None:
        """Have the supervisor itself go by a new configuration, as its workers do."""
        if log is not None:
            log.follow(settings)
        try:
            admin.follow(settings.admin_port)
        except CannotListen as error:
            said.error("the administrator's port stays where it is: {error}", error=str(error))

    return service


@dataclass(frozen=True)
class _Making:
    """What all parts of a process are made with. `beside` takes those that run beside the requests."""

    reactor: Any
    settings: Settings
    clock: WallClock
    metrics: Metrics
    in_thread: InThread
    beside: MultiService
    on_read: OnRead | None

    def log(self, namespace: str = "econed") -> Logger:
        """Return the logger of one part, as loud as econe.conf says."""
        return logger(namespace, self.settings.debug_level, globalLogPublisher)


def _watched(making: _Making, one: IOpenNebula) -> IOpenNebula:
    """Return oned with every call counted; what watches it, and the reactor, runs beside the requests."""
    clock, metrics, log = making.clock, making.metrics, making.log("econed.watch")
    if ICallLimiter.providedBy(one):
        metrics.track_oned_calls(lambda: one.calls_in_flight, lambda: one.calls_waiting)
    state = OnedState(clock)
    metrics.track_oned_state(lambda: state.is_reachable, lambda: state.last_reply)
    observed = ObservedOpenNebula(one, clock, metrics.oned_call_ended, state)
    OnedWatch(observed, state, clock, log).setServiceParent(making.beside)
    LagWatch(metrics.set_reactor_lag, time.monotonic, clock, log).setServiceParent(making.beside)
    return observed


def _scripts(making: _Making) -> Scripts:
    settings = making.settings
    return Scripts(
        making.reactor,
        settings.associate_script,
        settings.disassociate_script,
        settings.script_timeout,
        making.log("econed.scripts"),
        making.metrics.script_ended,
    )


def _service(
    making: _Making, one: IOpenNebula, users: IUserDirectory, scripts: IScripts, types: FileTypes | None
) -> Service:
    return Service(
        dispatcher=Dispatcher(Model.load(), all_actions()),
        authenticator=_authenticator(making, users),
        peers=Peers(making.settings.trusted_proxies, making.log()),
        encoder=Encoder(),
        oned=one,
        settings=making.settings,
        clock=making.clock,
        in_thread=making.in_thread,
        scripts=scripts,
        pacer=Pacer(making.clock),
        file_types=types,
        log=making.log(),
        on_read=making.on_read,
        metrics=making.metrics,
        shared_reads=SharedReads(LongDocuments(making.clock.seconds, making.log())),
    )


def _authenticator(making: _Making, users: IUserDirectory) -> IAuthenticator:
    """Return what tells who is calling, as `auth` says."""
    if making.settings.auth == "x509":
        return CertificateAuthenticator(users, making.clock, making.log())
    return SignatureAuthenticator(users, making.clock, ssl_server=making.settings.ssl_server)


def _uploads(making: _Making) -> UploadDirectory:
    settings = making.settings
    can_oned_read = partial(can_oned_read_tmpdir, settings)
    limits = UploadLimits(settings.max_upload, settings.upload_share)
    return UploadDirectory(settings.tmpdir, limits, making.in_thread, can_oned_read, making.metrics.upload_ended)


def _fetcher(making: _Making, uploads: UploadDirectory) -> ImageFetcher:
    log = making.log("econed.fetching")
    return ImageFetcher(making.reactor, making.reactor, uploads, making.settings, making.in_thread, log)


def _site(making: _Making, resource: EC2Resource, uploads: UploadDirectory, peers: Peers) -> EC2Site:
    site = EC2Site(
        resource,
        making.reactor,
        uploads,
        making.settings,
        max_connections=max_connections(),
        is_exempt=peers.trusts,
        refused=making.metrics.limit_exceeded,
        log=making.log(),
    )
    making.metrics.track_connections(lambda: site.connections)
    return site


def _reconcile(making: _Making, one: IOpenNebula, uploads: UploadDirectory, scripts: IScripts) -> None:
    """Have what requests leave behind finished, beside them."""
    clock, log = making.clock, making.log("econed.reconciler")
    stops = StopTimeRecorder(one, clock, making.on_read, log)
    long_documents = LongDocuments(clock.seconds, log)
    reconciler = Reconciler(one, clock, all_chores(uploads), log, making.on_read, (stops.round,), long_documents)
    network = making.settings.elasticips_vnet_id
    if network is not None:
        keeper = AddressKeeper(one, network, scripts, clock, making.on_read, log)
        reconciler = replace(reconciler, for_all=(stops.round, keeper.round))
        ReportService(keeper.report, clock, log).setServiceParent(making.beside)
    rounds = ReconcilerService(reconciler, clock, random.random, log, making.metrics.round_ended)
    rounds.setServiceParent(making.beside)


def _tls(making: _Making) -> ServerTLS | None:
    files = TLSFiles.of(making.settings)
    if files is None:
        return None
    tls = ServerTLS(files, making.clock, making.in_thread, making.log("econed.tls"), making.metrics)
    tls.setServiceParent(making.beside)
    return tls


def _over_tls(place: Listener, tls: ServerTLS | None) -> Listener:
    if tls is None or not place.is_tls:
        return place
    return replace(place, endpoint=tls.over(place.endpoint))


def _in_thread(reactor: Any) -> InThread:
    def in_thread(work: Callable[[], _T]) -> Awaitable[_T]:
        return deferToThreadPool(reactor, reactor.getThreadPool(), work)

    return in_thread
