"""The composition root: from the options of `twistd econe` and econe.conf to a running service.

The one place where the reactor comes from; everything below is handed it.
"""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from twisted.application import strports
from twisted.application.service import IService, MultiService
from twisted.internet.endpoints import quoteStringArgument
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger, globalLogPublisher
from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError

from econed import config, credentials
from econed.actions.address_chores import AddressKeeper
from econed.actions.instance_types import FileTypes, read_file_types
from econed.auth.authenticator import Authenticator
from econed.auth.users import UserDirectory
from econed.catalogue import all_actions, all_chores
from econed.clock import WallClock
from econed.config import ConfigError, Finding, Settings
from econed.dispatch import Dispatcher
from econed.interfaces import InThread, IOpenNebula
from econed.logs import logger
from econed.opennebula.documents import Note
from econed.opennebula.tokens import CertificateKey, PasswordKey, ServerKey
from econed.reconciler import Reconciler, ReconcilerService, ReportService
from econed.resource import EC2Resource, Service
from econed.sandbox.backend import SandboxBackend
from econed.sandbox.cloud import elastic_ips, populate
from econed.sandbox.oned import Oned
from econed.scripts import Scripts
from econed.site import EC2Site
from econed.upload import Uploads, is_own_url
from econed.wire.encoder import Encoder
from econed.wire.model import Model
from econed.xmlrpc_backend import Limits, XMLRPCBackend

_T = TypeVar("_T")
_FORMS = ("5.12", "7.4")
_LAST_PORT = 65535
log = Logger(namespace="econed")


def _port(text: str) -> int:
    """Return a port as an option gives it; 0 is any free one."""
    port = int(text)
    if not 0 <= port <= _LAST_PORT:
        raise ValueError(f"{text} is no port: it must be from 0 to {_LAST_PORT}")
    return port


def _count(text: str) -> int:
    count = int(text)
    if count < 0:
        raise ValueError(f"{text} is less than none")
    return count


class Options(UsageOptions):
    """The options of `twistd econe`."""

    longdesc = "The Amazon EC2 Query API for OpenNebula."
    optParameters: ClassVar[list[list[Any]]] = [
        ["config", "c", None, "Configuration file (default: /etc/one/econe.conf, or etc/econe.conf in ONE_LOCATION)."],
        ["port", "p", None, "TCP port to listen on, in place of the configured one; 0 is any free one.", _port],
        ["sandbox-form", None, None, "With --sandbox: the OpenNebula to be like, 5.12 or 7.4 (default)."],
        ["sandbox-vms", None, 0, "With --sandbox: how many running instances to begin with.", _count],
    ]
    optFlags: ClassVar[list[list[Any]]] = [
        ["sandbox", None, "Run on an OpenNebula in memory, to try econed without a cloud; nothing is kept."]
    ]

    def __init__(self) -> None:
        super().__init__()
        self["listen"] = []
        self["users"] = []

    def opt_listen(self, endpoint: str) -> None:
        """Endpoint to listen on, as Twisted describes them (tcp:4567:interface=127.0.0.1); may be given repeatedly."""
        self["listen"].append(endpoint)

    def opt_sandbox_user(self, user: str) -> None:
        """With --sandbox: a user NAME:SECRET, the secret as EC2 clients use it; may be given repeatedly."""
        name, colon, secret = user.partition(":")
        if not (name and colon and secret):
            raise UsageError("--sandbox-user takes NAME:SECRET")
        self["users"].append((name, secret))

    def postOptions(self) -> None:
        """Refuse options that have no meaning with, or without, each other."""
        if not self["sandbox"] and (self["users"] or self["sandbox-vms"] or self["sandbox-form"]):
            raise UsageError("--sandbox-user, --sandbox-vms and --sandbox-form go with --sandbox")
        if self["sandbox-form"] not in (None, *_FORMS):
            raise UsageError("--sandbox-form is 5.12 or 7.4")
        if self["listen"] and self["port"] is not None:
            raise UsageError("--port and --listen exclude each other")


def makeService(options: Options, note: Note | None = None) -> IService:
    """Return the daemon as a service (what `twistd` calls).

    `note` is told which elements of oned's documents are read. With something wrong in options or configuration the
    process ends here (`SystemExit`), with all of it on standard error: nothing runs yet, and twistd would show another
    exception as a traceback.
    """
    from twisted.internet import reactor

    prepare = _sandboxed if options["sandbox"] else _configured
    try:
        settings, one = prepare(options, os.environ, reactor)
        file_types = read_types(config_path(options, os.environ), settings)
        return make_service(reactor, settings, one, _endpoints(options, settings), note, file_types=file_types)
    except ConfigError as error:
        raise SystemExit(f"econe: the configuration cannot be used:\n{error}") from None
    except UsageError as error:
        raise SystemExit(f"econe: {error}") from None


def make_service(
    reactor: Any,
    settings: Settings,
    one: IOpenNebula,
    endpoints: list[str],
    note: Note | None = None,
    *,
    file_types: FileTypes | None = None,
) -> MultiService:
    """Put the daemon together: everything it needs is made here, once, and handed down.

    `endpoints` are Twisted's descriptions of where to listen. A port that is taken ends the start with an error. Raises
    `UsageError` for a description that is none.
    """
    clock = WallClock(reactor)
    requests, chores, commands = (
        logger(name, settings.debug_level, globalLogPublisher)
        for name in ("econed", "econed.reconciler", "econed.scripts")
    )
    scripts = Scripts(
        reactor, settings.associate_script, settings.disassociate_script, settings.script_timeout, commands
    )
    service = Service(
        dispatcher=Dispatcher(Model.load(), all_actions()),
        authenticator=Authenticator(UserDirectory(one, clock, note), clock, ssl_server=settings.ssl_server),
        encoder=Encoder(),
        one=one,
        settings=settings,
        clock=clock,
        in_thread=_in_thread(reactor),
        scripts=scripts,
        file_types=file_types,
        log=requests,
        note=note,
    )
    uploads = Uploads(settings.tmpdir, settings.max_upload, service.in_thread, partial(is_own_url, settings.one_xmlrpc))
    site = EC2Site(EC2Resource(service), reactor, uploads)
    parent = MultiService()
    for description in endpoints:
        _listening(reactor, description, site).setServiceParent(parent)
    reconciler = Reconciler(one, clock, all_chores(uploads), note, chores)
    if settings.elasticips_vnet_id is not None:
        keeper = AddressKeeper(one, settings.elasticips_vnet_id, scripts, clock, note, chores)
        reconciler = replace(reconciler, for_all=(keeper.round,))
        ReportService(keeper.report, clock, chores).setServiceParent(parent)
    ReconcilerService(reconciler, clock, random.random, chores).setServiceParent(parent)
    return parent


def _configured(options: Options, environ: Mapping[str, str], reactor: Any) -> tuple[Settings, IOpenNebula]:
    settings, server, findings = credentials.load_with_settings(config_path(options, environ), environ)
    _warn(findings)
    try:
        return settings, backend(reactor, settings, server)
    except ValueError as error:
        raise UsageError(str(error)) from None


def backend(
    reactor: Any, settings: Settings, server: credentials.Credentials | credentials.Certificate
) -> XMLRPCBackend:
    """Return the client of oned that the settings name, as this server account; raises as `XMLRPCBackend.at`."""
    limits = Limits(deadline=settings.one_timeout, reply_bytes=settings.one_max_reply, calls=settings.one_calls)
    ca_file = None if settings.one_ca_file is None else Path(settings.one_ca_file)
    return XMLRPCBackend.at(reactor, settings.one_xmlrpc, server.name, _key(server), ca_file=ca_file, limits=limits)


def _key(server: credentials.Credentials | credentials.Certificate) -> ServerKey:
    """Return what the server account makes tokens of."""
    if isinstance(server, credentials.Certificate):
        return CertificateKey(server.key)
    return PasswordKey(server.password)


def _sandboxed(options: Options, environ: Mapping[str, str], reactor: Any) -> tuple[Settings, IOpenNebula]:
    settings = Settings()
    if options["config"]:
        settings, findings = config.load(Path(options["config"]), environ)
        _warn(findings)
    oned = Oned(WallClock(reactor), version=options["sandbox-form"] or _FORMS[-1])
    users = options["users"] or [("demo", secrets.token_hex(20))]
    try:
        populate(oned, users=users, vms=options["sandbox-vms"])
    except ValueError as error:
        raise UsageError(str(error)) from None
    if not options["config"]:
        settings = replace(settings, elasticips_vnet_id=elastic_ips(oned))
    if not options["users"]:
        ((name, secret),) = users
        log.info("sandbox user: access key {name}, secret key {secret}", name=name, secret=secret)
    return settings, SandboxBackend(oned)


def read_types(conf: Path, settings: Settings) -> FileTypes | None:
    """Return the files of the instance types, read; None where the types are OpenNebula templates.

    `conf` is where econe.conf is. Raises `ConfigError`.
    """
    if not settings.use_file_templates:
        return None
    return read_file_types(conf.parent / config.TEMPLATE_DIRECTORY, settings.instance_types)


def config_path(options: Options, environ: Mapping[str, str]) -> Path:
    """Return where econe.conf is: where the option says, else where OpenNebula has it."""
    return Path(options["config"]) if options["config"] else config.default_path(environ)


def _endpoints(options: Options, settings: Settings) -> list[str]:
    """Return what to listen on: as the options say, else the configured host and port."""
    if options["listen"]:
        return list(options["listen"])
    port = settings.port if options["port"] is None else options["port"]
    return [f"tcp:{port}:interface={quoteStringArgument(settings.host)}"]


def _listening(reactor: Any, description: str, site: EC2Site) -> IService:
    try:
        return strports.service(description, site, reactor)
    except (ValueError, TypeError, LookupError, OSError) as error:  # what endpoint parsers raise, each its own
        raise UsageError(f"nothing can listen on {description!r}: {error}") from None


def _warn(findings: Sequence[Finding]) -> None:
    for finding in findings:
        log.warn("{finding}", finding=str(finding))


def _in_thread(reactor: Any) -> InThread:
    def in_thread(work: Callable[[], _T]) -> Awaitable[_T]:
        return deferToThreadPool(reactor, reactor.getThreadPool(), work)

    return in_thread
