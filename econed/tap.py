"""The composition root: from the options of `twistd econe` and econe.conf to a running service.

The one place where the reactor comes from; everything below is handed it.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import replace
from pathlib import Path
from socket import socket
from typing import Any, ClassVar, TypeVar

from twisted.application.service import IService
from twisted.logger import Logger
from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError

from econed import config, credentials, logs, systemd
from econed.actions.instance_types import FileTypes, read_file_types
from econed.certificates import Files
from econed.clock import WallClock, steady
from econed.config import ConfigError, Finding
from econed.daemon import make_one_process, make_process, make_supervisor
from econed.interfaces import IOpenNebula
from econed.listening import Bound, CannotListen, adopted, bound, described, handed_over, places, warn_of_plain
from econed.opennebula.documents import Note
from econed.opennebula.tokens import CertificateKey, PasswordKey, ServerKey
from econed.pid_file import HeldPidFile, PidFile
from econed.sandbox.backend import SandboxBackend
from econed.sandbox.cloud import elastic_ips, populate
from econed.sandbox.oned import Oned
from econed.settings import Settings
from econed.systemd import Notifier
from econed.workers import Plan
from econed.xmlrpc_backend import Limits, XMLRPCBackend

_T = TypeVar("_T")
_FORMS = ("5.12", "7.4")
_SANDBOX_REGIONS = ("us-east-1",)
"""What the region of a sandbox is called too, so that what people have at hand runs as it is."""
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

    steady(reactor)
    environ = os.environ
    try:
        notifier = systemd.notifier(environ, os.getpid())
        handed = _handed_over(options, environ)
        if options["sandbox"] or options["listen"]:
            service = _one_process(options, environ, reactor, handed, notifier, note)
        else:
            service = _supervised(options, environ, reactor, handed, notifier)
    except ConfigError as error:
        raise SystemExit(f"econe: the configuration cannot be used:\n{error}") from None
    except (UsageError, CannotListen) as error:
        raise SystemExit(f"econe: {error}") from None
    pid_file = (_twistd(options) or {}).get("pidfile")
    if pid_file:
        HeldPidFile(PidFile(Path(pid_file))).setServiceParent(service)
    return service


def _handed_over(options: Options, environ: MutableMapping[str, str]) -> tuple[socket, ...]:
    """Return the sockets that systemd has bound, unless the options say where to listen."""
    descriptors = systemd.handed_over(systemd.initial(), os.getpid())
    systemd.forget_sockets(environ)
    if not options["listen"]:
        try:
            return systemd.sockets(descriptors)
        except ValueError as error:
            raise CannotListen(str(error)) from None
    if descriptors and not any(description.startswith("systemd:") for description in options["listen"]):
        log.warn("the sockets in LISTEN_FDS are not used: --listen says where")
    return ()


def _one_process(
    options: Options,
    environ: Mapping[str, str],
    reactor: Any,
    handed: Sequence[socket],
    notifier: Notifier,
    note: Note | None,
) -> IService:
    """Return the daemon as one process: with an oned in memory, or listening where it was told."""
    prepare = _sandboxed if options["sandbox"] else _configured
    settings, one = prepare(options, environ, reactor)
    if settings.workers > 1:
        log.warn("workers has no effect with --sandbox and --listen: one process serves")
    types = read_types(config_path(options, environ), settings)
    if options["listen"]:
        places = [described(reactor, description, settings) for description in options["listen"]]
    else:
        sockets = _sockets(options, settings, handed)
        places = [adopted(reactor, each.socket, each.is_tls, each.where) for each in sockets]
    serving = make_process(reactor, settings, one, places, note, types=types)
    return make_one_process(reactor, settings, serving, notifier, logs.log_under(_twistd(options), settings))


def _supervised(
    options: Options, environ: Mapping[str, str], reactor: Any, handed: Sequence[socket], notifier: Notifier
) -> IService:
    """Return the daemon as a supervisor with workers."""

    def load(before: tuple[Bound, ...]) -> Plan:
        source = config.read(config_path(options, environ))
        settings, server, findings = credentials.load_with_settings(source, environ)
        _warn(findings)
        read_types(source.path, settings)
        files = Files.of(settings)
        if files is not None:
            files.read()
        try:
            backend(reactor, settings, server)
        except ValueError as error:
            raise ConfigError((Finding(str(source.path), str(error)),)) from None
        return Plan(source, settings, _sockets(options, settings, handed, before), logs.LogPlace.of(_twistd(options)))

    plan = load(())
    if plan.log.kind == "unknown" and plan.settings.log_file is None:
        log.warn("the workers log to standard output: set log_file for one log of all processes")
    return make_supervisor(reactor, plan, load, environ, notifier, logs.log_under(_twistd(options), plan.settings))


def _sockets(
    options: Options, settings: Settings, handed: Sequence[socket], before: tuple[Bound, ...] = ()
) -> tuple[Bound, ...]:
    """Return what to listen on: what systemd has handed over, else as the options and the settings say."""
    if handed:
        if options["port"] is not None:
            raise UsageError("--port has no effect where systemd hands sockets over")
        found = handed_over(handed, settings)
    else:
        found = bound(places(settings, options["port"]), before)
    warn_of_plain(found, log)
    return found


def _twistd(options: Options) -> Mapping[str, Any] | None:
    """Return the options of twistd itself; None where it is not twistd that runs this."""
    return options.parent if options.parent is not None else logs.twistd_of(sys.argv)


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
    settings = Settings(region_names=_SANDBOX_REGIONS)
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
        print(f"sandbox user: access key {name}, secret key {secret}", flush=True)  # noqa: T201  not for the log
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


def _warn(findings: Sequence[Finding]) -> None:
    for finding in findings:
        log.warn("{finding}", finding=str(finding))
