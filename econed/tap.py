"""The composition root: from the options of `twistd econe` and econe.conf to a running service.

The one place where the reactor comes from; everything below is handed it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import replace
from pathlib import Path
from socket import socket
from typing import Any, ClassVar

from twisted.application.service import IService
from twisted.logger import Logger
from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError

from econed.actions.instances.types import configured_file_types
from econed.clock import use_monotonic_timers
from econed.config import credentials, loading
from econed.config.loading import ConfigError, ConfigProblem
from econed.config.settings import Settings
from econed.daemon import make_one_process, make_process, make_supervisor
from econed.interfaces import IOpenNebula
from econed.opennebula.documents import OnRead
from econed.process import systemd
from econed.process.certificates import TLSFiles
from econed.process.generations import Plan
from econed.process.listening import (
    BoundSocket,
    CannotListen,
    adopt,
    bind_all,
    from_description,
    places,
    sockets_from_systemd,
    warn_of_plain_http,
)
from econed.process.pid_file import HeldPidFile, PidFile
from econed.process.systemd import Notifier
from econed.telemetry import logs
from econed.xmlrpc_backend import XMLRPCBackend

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


def makeService(options: Options, on_read: OnRead | None = None) -> IService:
    """Return the daemon as a service (what `twistd` calls).

    `on_read` is called with each element read from oned's documents. With something wrong in options or configuration
    the process ends here (`SystemExit`), with all of it on standard error: nothing runs yet, and twistd would show
    another exception as a traceback.
    """
    from twisted.internet import reactor

    use_monotonic_timers(reactor)
    environ = os.environ
    try:
        notifier = systemd.notifier(environ, os.getpid())
        handed = _handed_over(options, environ)
        if options["sandbox"] or options["listen"]:
            service = _one_process(options, environ, reactor, handed, notifier, on_read)
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
    descriptors = systemd.passed_descriptors(systemd.initial_environment(), os.getpid())
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
    on_read: OnRead | None,
) -> IService:
    """Return the daemon as one process: with an oned in memory, or listening where it was told."""
    prepare = _sandboxed if options["sandbox"] else _configured
    settings, one = prepare(options, environ, reactor)
    if settings.workers > 1:
        log.warn("workers has no effect with --sandbox and --listen: one process serves")
    types = configured_file_types(config_path(options, environ), settings)
    if options["listen"]:
        places = [from_description(reactor, description, settings) for description in options["listen"]]
    else:
        sockets = _sockets(options, settings, handed)
        places = [adopt(reactor, each.socket, each.is_tls, each.where) for each in sockets]
    serving = make_process(reactor, settings, one, places, on_read, types=types)
    return make_one_process(reactor, settings, serving, notifier, logs.log_for_twistd(_twistd(options), settings))


def _supervised(
    options: Options, environ: Mapping[str, str], reactor: Any, handed: Sequence[socket], notifier: Notifier
) -> IService:
    """Return the daemon as a supervisor with workers."""

    def load(current: tuple[BoundSocket, ...]) -> Plan:
        source = loading.read(config_path(options, environ))
        settings, server, findings = credentials.load_with_settings(source, environ)
        _warn(findings)
        configured_file_types(source.path, settings)
        files = TLSFiles.of(settings)
        if files is not None:
            files.read()
        try:
            XMLRPCBackend.configured(reactor, settings, server, log)
        except ValueError as error:
            raise ConfigError((ConfigProblem(str(source.path), str(error)),)) from None
        return Plan(source, settings, _sockets(options, settings, handed, current), logs.LogPlace.of(_twistd(options)))

    plan = load(())
    if plan.log.kind == "unknown" and plan.settings.log_file is None:
        log.warn("the workers log to standard output: set log_file for one log of all processes")
    return make_supervisor(reactor, plan, load, environ, notifier, logs.log_for_twistd(_twistd(options), plan.settings))


def _sockets(
    options: Options, settings: Settings, handed: Sequence[socket], before: tuple[BoundSocket, ...] = ()
) -> tuple[BoundSocket, ...]:
    """Return what to listen on: what systemd has handed over, else as the options and the settings say."""
    if handed:
        if options["port"] is not None:
            raise UsageError("--port has no effect where systemd hands sockets over")
        found = sockets_from_systemd(handed, settings)
    else:
        found = bind_all(places(settings, options["port"]), before)
    warn_of_plain_http(found, log)
    return found


def _twistd(options: Options) -> Mapping[str, Any] | None:
    """Return the options of twistd itself; None where it is not twistd that runs this."""
    return options.parent if options.parent is not None else logs.twistd_options(sys.argv)


def _configured(options: Options, environ: Mapping[str, str], reactor: Any) -> tuple[Settings, IOpenNebula]:
    settings, server, findings = credentials.load_with_settings(config_path(options, environ), environ)
    _warn(findings)
    try:
        return settings, XMLRPCBackend.configured(reactor, settings, server, log)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _sandboxed(options: Options, environ: Mapping[str, str], reactor: Any) -> tuple[Settings, IOpenNebula]:
    from econed.sandbox import embedded  # production never imports the sandbox

    settings = Settings(region_names=embedded.REGIONS)
    if options["config"]:
        settings, findings = loading.load(Path(options["config"]), environ)
        _warn(findings)
    backend, elastic_ips = embedded.embedded(reactor, options["sandbox-form"], options["users"], options["sandbox-vms"])
    if not options["config"]:
        settings = replace(settings, elasticips_vnet_id=elastic_ips)
    return settings, backend


def config_path(options: Options, environ: Mapping[str, str]) -> Path:
    """Return where econe.conf is: where the option says, else where OpenNebula has it."""
    return Path(options["config"]) if options["config"] else loading.default_path(environ)


def _warn(findings: Sequence[ConfigProblem]) -> None:
    for finding in findings:
        log.warn("{finding}", finding=str(finding))
