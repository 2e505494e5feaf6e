"""Creates a serving process from the settings: each part is created once, and injected where it is used."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, TypeVar

from twisted.application.service import MultiService
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from econed.actions.addresses.chores import AddressReconciler
from econed.actions.machines.stop_times import StopTimeRecorder
from econed.actions.pacing import Pacer
from econed.actions.process_memory import ProcessMemory
from econed.actions.zones_and_clusters import ZonesAndClusters
from econed.auth.authenticator import SignatureAuthenticator
from econed.auth.kinds import all_signers
from econed.auth.users import UserDirectory
from econed.auth.x509 import CertificateAuthenticator
from econed.calls.queue import CallQueue
from econed.calls.turns import Owner
from econed.catalogue import all_actions, all_chores
from econed.clock import WallClock
from econed.config.settings import Settings
from econed.configtest import dispatcher
from econed.credentials.revocations import RevocationList
from econed.fetching.fetcher import ImageFetcher
from econed.fetching.own_host import can_oned_read_tmpdir
from econed.http.peers import Peers
from econed.http.site import EC2Site
from econed.http.upload_directory import UploadDirectory, UploadLimits
from econed.interfaces import IAuthenticator, InThread, IOpenNebula, IScripts, IUserDirectory
from econed.opennebula.documents import OnRead
from econed.opennebula.file_templates import FileTypes
from econed.opennebula.long_documents import LongDocuments
from econed.opennebula.session import Session
from econed.process.certificates import TLSFiles
from econed.process.health import LagWatch, OnedState, OnedWatch
from econed.process.lifecycle import MakeLogger, Process, Serving
from econed.process.listening import Listener, max_connections
from econed.process.tls import ServerTLS
from econed.reconciler import Reconciler, ReconcilerService, ReportService
from econed.resource import EC2Resource, Service
from econed.scripts import Scripts
from econed.sealing import Sealer
from econed.telemetry.access_log import call_logger
from econed.telemetry.audit_log import AuditLog
from econed.telemetry.metrics import Metrics
from econed.telemetry.observed_calls import ObservedOpenNebula
from econed.wire.encoder import Encoder

_T = TypeVar("_T")

HEALTH: Final = Owner("health", goes_first=True)
USERS: Final = Owner("users", goes_first=True)
"""Every request waits for its user, and the number of these calls is limited (`econed.auth.users`)."""

ZONES_AND_CLUSTERS: Final = Owner("zones and clusters", goes_first=True)
"""Requests of all users wait for these calls, of which there are two in ten seconds."""

RECONCILER: Final = Owner("reconciler")


def make_process(
    reactor: Any,
    settings: Settings,
    oned: IOpenNebula,
    listeners: Sequence[Listener],
    make_logger: MakeLogger,
    sealer: Sealer,
    *,
    file_types: FileTypes | None = None,
    on_read: OnRead | None = None,
) -> Serving:
    """Return a serving process: a worker, or the only process of the daemon.

    `file_types` are the files of the instance types, if any. Raises `ConfigError` for invalid
    certificates, and for a botocore without something that econed uses.
    """
    metrics = Metrics(action.name for action in all_actions())
    parts = _Parts(
        reactor, settings, WallClock(reactor), metrics, make_logger, _threads(reactor), MultiService(), on_read
    )
    calls = _call_queue(parts, oned)
    scripts = _scripts(parts)
    uploads = _uploads(parts)
    users = UserDirectory(_oned_for(parts, calls, USERS), parts.clock, on_read, metrics.cache_lookup, log=parts.log())
    memory = _memory(parts, _oned_for(parts, calls, ZONES_AND_CLUSTERS))
    service = _service(parts, calls, users, memory, scripts, _fetcher(parts, uploads), file_types, sealer)
    resource = EC2Resource(service)
    site = _site(parts, resource, uploads, service.peers)
    _add_reconciler(parts, _oned_for(parts, calls, RECONCILER), uploads, scripts)
    tls = _add_tls(parts)
    process = Process(
        site,
        [_with_tls(listener, tls) for listener in listeners],
        parts.background_services,
        reactor,
        settings.drain_timeout,
        parts.log(),
        pending_work=(resource.changes.drained,),
    )
    return Serving(process, metrics, None if tls is None else tls.reload, service.audit_log)


@dataclass(frozen=True)
class _Parts:
    """The common dependencies of the parts of a serving process; parts add their services to `background_services`."""

    reactor: Any
    settings: Settings
    clock: WallClock
    metrics: Metrics
    make_logger: MakeLogger
    in_thread: InThread
    background_services: MultiService
    on_read: OnRead | None

    def log(self, namespace: str = "econed") -> Logger:
        """Return the logger of one part."""
        return self.make_logger(namespace)


def _threads(reactor: Any) -> InThread:
    def in_thread(work: Callable[[], _T]) -> Awaitable[_T]:
        return deferToThreadPool(reactor, reactor.getThreadPool(), work)

    return in_thread


def _call_queue(parts: _Parts, oned: IOpenNebula) -> CallQueue:
    """Return the queue of all calls of the process, and add the health checks of oned and the reactor."""
    clock, metrics, log = parts.clock, parts.metrics, parts.log("econed.watch")
    state = OnedState(clock)
    metrics.track_oned_state(lambda: state.is_reachable, lambda: state.last_reply, lambda: state.rejects_credentials)
    sent = ObservedOpenNebula(oned, clock, metrics.oned_call_ended, state)
    calls = CallQueue(sent, parts.settings.one_calls, parts.reactor)
    metrics.track_oned_calls(lambda: calls.calls_in_flight, lambda: calls.calls_waiting)
    OnedWatch(calls.share(HEALTH), state, clock, log).setServiceParent(parts.background_services)
    LagWatch(metrics.set_reactor_lag, time.monotonic, clock, log).setServiceParent(parts.background_services)
    return calls


def _oned_for(parts: _Parts, calls: CallQueue, owner: Owner) -> IOpenNebula:
    """Return oned for a part of the daemon, whose calls belong to no single request."""
    return ObservedOpenNebula(calls.share(owner), parts.clock, call_logger(parts.log()))


def _scripts(parts: _Parts) -> Scripts:
    settings = parts.settings
    return Scripts(
        parts.reactor,
        settings.associate_script,
        settings.disassociate_script,
        settings.script_timeout,
        parts.log("econed.scripts"),
        parts.metrics.script_ended,
    )


def _uploads(parts: _Parts) -> UploadDirectory:
    settings = parts.settings
    can_oned_read = partial(can_oned_read_tmpdir, settings)
    limits = UploadLimits(settings.max_upload, settings.upload_share)
    return UploadDirectory(settings.tmpdir, limits, parts.in_thread, can_oned_read, parts.metrics.upload_ended)


def _fetcher(parts: _Parts, uploads: UploadDirectory) -> ImageFetcher:
    log = parts.log("econed.fetching")
    return ImageFetcher(parts.reactor, parts.reactor, uploads, parts.settings, parts.in_thread, log)


def _memory(parts: _Parts, oned: IOpenNebula) -> ProcessMemory:
    """Return an empty memory; zones and clusters are read through `oned`."""
    serveradmin = Session(oned, None, parts.on_read)
    return ProcessMemory(ZonesAndClusters(serveradmin, parts.clock), LongDocuments(parts.clock.seconds, parts.log()))


def _service(
    parts: _Parts,
    calls: CallQueue,
    users: IUserDirectory,
    memory: ProcessMemory,
    scripts: IScripts,
    fetcher: ImageFetcher,
    file_types: FileTypes | None,
    sealer: Sealer,
) -> Service:
    audit_path = parts.settings.audit_log
    return Service(
        dispatcher=dispatcher(),
        authenticator=_authenticator(parts, users, sealer, _oned_for(parts, calls, USERS)),
        peers=Peers(parts.settings.trusted_proxies, parts.log()),
        encoder=Encoder(),
        calls=calls,
        settings=parts.settings,
        clock=parts.clock,
        in_thread=parts.in_thread,
        scripts=scripts,
        pacer=Pacer(parts.clock),
        file_types=file_types,
        fetcher=fetcher,
        log=parts.log(),
        on_read=parts.on_read,
        metrics=parts.metrics,
        memory=memory,
        sealer=sealer,
        audit_log=None if audit_path is None else AuditLog(audit_path, parts.clock),
    )


def _authenticator(parts: _Parts, users: IUserDirectory, sealer: Sealer, oned: IOpenNebula) -> IAuthenticator:
    if parts.settings.auth == "x509":
        return CertificateAuthenticator(users, parts.clock, parts.log())
    revocations = RevocationList(Session(oned, None, parts.on_read), parts.clock)
    kinds = all_signers(users, sealer, revocations, parts.settings.secret_keys)
    return SignatureAuthenticator(kinds, parts.clock, ssl_server=parts.settings.ssl_server)


def _site(parts: _Parts, resource: EC2Resource, uploads: UploadDirectory, peers: Peers) -> EC2Site:
    site = EC2Site(
        resource,
        parts.reactor,
        uploads,
        parts.settings,
        max_connections=max_connections(),
        is_exempt=peers.trusts,
        refused=parts.metrics.limit_exceeded,
        log=parts.log(),
    )
    parts.metrics.track_connections(lambda: site.connections)
    return site


def _add_reconciler(parts: _Parts, oned: IOpenNebula, uploads: UploadDirectory, scripts: IScripts) -> None:
    """Add the services that complete work of requests in the background."""
    clock, log = parts.clock, parts.log("econed.reconciler")
    stops = StopTimeRecorder(oned, clock, parts.on_read, log=log)
    long_documents = LongDocuments(clock.seconds, log)
    reconciler = Reconciler(oned, clock, all_chores(uploads), log, parts.on_read, (stops.round,), long_documents)
    network_id = parts.settings.elasticips_vnet_id
    if network_id is not None:
        addresses = AddressReconciler(oned, network_id, scripts, clock, parts.on_read, log)
        reconciler = replace(reconciler, for_all=(stops.round, addresses.round))
        ReportService(addresses.report, clock, log).setServiceParent(parts.background_services)
    rounds = ReconcilerService(reconciler, clock, random.random, log, parts.metrics.round_ended)
    rounds.setServiceParent(parts.background_services)


def _add_tls(parts: _Parts) -> ServerTLS | None:
    files = TLSFiles.of(parts.settings)
    if files is None:
        return None
    tls = ServerTLS(files, parts.clock, parts.in_thread, parts.log("econed.tls"), parts.metrics)
    tls.setServiceParent(parts.background_services)
    return tls


def _with_tls(listener: Listener, tls: ServerTLS | None) -> Listener:
    if tls is None or not listener.is_tls:
        return listener
    return replace(listener, endpoint=tls.over(listener.endpoint))
