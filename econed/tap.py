"""The composition root: from the options of `twistd econe` and econe.conf to a running service.

The reactor is imported only here and in `econed.worker_main`; into all other modules it is injected.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from socket import socket
from typing import TYPE_CHECKING, Any, ClassVar

from twisted.application.service import IService
from twisted.logger import Logger, globalLogPublisher
from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError

from econed import configtest
from econed.actions.instances.file_types import configured_file_types
from econed.clock import use_monotonic_timers
from econed.config import credentials, loading, sealing_keys
from econed.config.loading import ConfigError, ConfigProblem, Source
from econed.config.settings import Settings
from econed.interfaces import IOpenNebula
from econed.process import systemd
from econed.process.generations import Plan
from econed.process.listening import (
    BoundSocket,
    CannotListen,
    adopt,
    bind_all,
    from_description,
    listen_addresses,
    sockets_from_systemd,
    warn_of_plain_http,
)
from econed.process.pid_file import PidFile, PidFileLock
from econed.process.services import make_one_process, make_supervisor
from econed.process.systemd import Notifier
from econed.process.twistd import twistd_options
from econed.sealing import KEY_SIZE, Sealer
from econed.telemetry import logs

if TYPE_CHECKING:
    from econed.opennebula.documents import OnRead

_FORMS = ("5.12", "7.4")
_MAX_PORT = 65535


def _port(text: str) -> int:
    """Return the port of an option; 0 is any free port."""
    port = int(text)
    if not 0 <= port <= _MAX_PORT:
        raise ValueError(f"{text} is not a port: it must be from 0 to {_MAX_PORT}")
    return port


def _count(text: str) -> int:
    count = int(text)
    if count < 0:
        raise ValueError(f"{text} is less than 0")
    return count


class Options(UsageOptions):
    """The options of `twistd econe`."""

    longdesc = "The Amazon EC2 Query API for OpenNebula."
    optParameters: ClassVar[list[list[Any]]] = [
        ["config", "c", None, "Configuration file (default: /etc/one/econe.conf, or etc/econe.conf in ONE_LOCATION)."],
        ["port", "p", None, "TCP port to listen on, instead of the configured port; 0 is any free port.", _port],
        ["sandbox-form", None, None, "With --sandbox: the version of OpenNebula, 5.12 or 7.4 (default)."],
        ["sandbox-vms", None, 0, "With --sandbox: the number of running instances at the start.", _count],
    ]
    optFlags: ClassVar[list[list[Any]]] = [
        ["sandbox", None, "Run on an OpenNebula in memory, to try econed without a cloud; no state is stored."]
    ]

    def __init__(self) -> None:
        super().__init__()
        self["listen"] = []
        self["users"] = []

    def opt_listen(self, endpoint: str) -> None:
        """Endpoint description of Twisted to listen on (tcp:4567:interface=127.0.0.1); may be repeated."""
        self["listen"].append(endpoint)

    def opt_sandbox_user(self, user: str) -> None:
        """With --sandbox: a user NAME:SECRET, with the secret key for EC2 clients; may be repeated."""
        name, colon, secret = user.partition(":")
        if not (name and colon and secret):
            raise UsageError("--sandbox-user takes NAME:SECRET")
        self["users"].append((name, secret))

    def postOptions(self) -> None:
        """Refuse invalid combinations of options."""
        if not self["sandbox"] and (self["users"] or self["sandbox-vms"] or self["sandbox-form"]):
            raise UsageError("--sandbox-user, --sandbox-vms and --sandbox-form require --sandbox")
        if self["sandbox-form"] not in (None, *_FORMS):
            raise UsageError("--sandbox-form is 5.12 or 7.4")
        if self["listen"] and self["port"] is not None:
            raise UsageError("--port and --listen exclude each other")


def makeService(options: Options, on_read: OnRead | None = None) -> IService:
    """Return the daemon as a service, for twistd.

    `on_read` is called with the path of each element read from oned's documents. If options or configuration are
    invalid, all errors go to standard error and the process exits (`SystemExit`): twistd would print another exception
    as a traceback.
    """
    from twisted.internet import reactor

    use_monotonic_timers(reactor)
    try:
        return _Start(
            options=options,
            environ=os.environ,
            reactor=reactor,
            twistd=options.parent if options.parent is not None else twistd_options(sys.argv),
            notifier=systemd.notifier(os.environ, os.getpid()),
            log=Logger(namespace="econed"),
        ).service(on_read)
    except ConfigError as error:
        raise SystemExit(f"econe: invalid configuration:\n{error}") from None
    except (UsageError, CannotListen) as error:
        raise SystemExit(f"econe: {error}") from None


@dataclass(frozen=True)
class _Start:
    """The start of the daemon, with everything it depends on. `twistd` are twistd's options, None without twistd."""

    options: Options
    environ: MutableMapping[str, str]
    reactor: Any
    twistd: Mapping[str, Any] | None
    notifier: Notifier
    log: Logger

    def service(self, on_read: OnRead | None) -> IService:
        """Return the daemon as a service that also locks twistd's pid file."""
        passed = self._passed_sockets()
        if self.options["sandbox"] or self.options["listen"]:
            service = self._one_process(passed, on_read)
        else:
            service = self._supervisor(passed)
        pid_file = (self.twistd or {}).get("pidfile")
        if pid_file:
            PidFileLock(PidFile(Path(pid_file))).setServiceParent(service)
        return service

    def _passed_sockets(self) -> tuple[socket, ...]:
        """Return the sockets that systemd has passed, unless --listen replaces them."""
        descriptors = systemd.passed_descriptors(systemd.initial_environment(), os.getpid())
        systemd.forget_sockets(self.environ)
        endpoints = self.options["listen"]
        if not endpoints:
            try:
                return systemd.sockets(descriptors)
            except ValueError as error:
                raise CannotListen(str(error)) from None
        if descriptors and not any(endpoint.startswith("systemd:") for endpoint in endpoints):
            self.log.warn("ignoring the sockets in LISTEN_FDS because of --listen")
        return ()

    # With workers

    def _supervisor(self, passed: Sequence[socket]) -> IService:
        def load(current: tuple[BoundSocket, ...]) -> Plan:
            """Read and check the whole configuration, and open the sockets (`Load`)."""
            source = loading.read(self._config_path(), self.environ)
            loaded = configtest.load(source, self.environ)
            self._warn(loaded.warnings)
            sockets = self._sockets(loaded.settings, passed, current)
            return Plan(source, loaded.settings, sockets, logs.TwistdLogTarget.of(self.twistd))

        plan = load(())
        if plan.log.kind == "unknown" and plan.settings.log_file is None:
            self.log.warn("workers log to standard output: set log_file for one log of all processes")
        process_log = logs.log_for_twistd(self.twistd, plan.settings)
        return make_supervisor(self.reactor, plan, load, self.environ, self.notifier, process_log)

    def _sockets(
        self, settings: Settings, passed: Sequence[socket], current: tuple[BoundSocket, ...] = ()
    ) -> tuple[BoundSocket, ...]:
        """Return the sockets to listen on: those passed by systemd, otherwise by the options and settings."""
        port = self.options["port"]
        if passed and port is not None:
            raise UsageError("--port has no effect with sockets passed by systemd")
        sockets = (
            sockets_from_systemd(passed, settings) if passed else bind_all(listen_addresses(settings, port), current)
        )
        warn_of_plain_http(sockets, self.log)
        return sockets

    # Without workers

    def _one_process(self, passed: Sequence[socket], on_read: OnRead | None) -> IService:
        from econed.daemon import make_process  # a supervisor needs neither the actions nor the model

        settings, oned, sealer = self._sandbox() if self.options["sandbox"] else self._configured()
        if settings.workers > 1:
            self.log.warn("workers has no effect with --sandbox and --listen: there is one process")
        file_types = configured_file_types(self._config_path(), settings)
        if self.options["listen"]:
            endpoints = self.options["listen"]
            listeners = [from_description(self.reactor, endpoint, settings) for endpoint in endpoints]
        else:
            sockets = self._sockets(settings, passed)
            listeners = [adopt(self.reactor, bound.socket, bound.is_tls, bound.where) for bound in sockets]
        process_log = logs.log_for_twistd(self.twistd, settings)

        def make_logger(namespace: str) -> Logger:
            """Return a logger that filters by level, unless the log of the process does."""
            if process_log is not None:
                return Logger(namespace=namespace)
            return logs.logger(namespace, settings.debug_level, globalLogPublisher)

        serving = make_process(
            self.reactor, settings, oned, listeners, make_logger, sealer, file_types=file_types, on_read=on_read
        )
        return make_one_process(self.reactor, settings, serving, self.notifier, process_log, make_logger)

    def _configured(self) -> tuple[Settings, IOpenNebula, Sealer]:
        """Return the settings of econe.conf, a client of the oned that they name, and what seals with its keys."""
        from econed.xmlrpc_backend import XMLRPCBackend  # a supervisor reads no documents of oned

        settings, server, warnings = credentials.load_with_settings(self._config_path(), self.environ)
        keys, key_warnings = sealing_keys.load(settings, server)
        self._warn((*warnings, *key_warnings))
        try:
            return settings, XMLRPCBackend.configured(self.reactor, settings, server, self.log), keys.sealer()
        except ValueError as error:
            raise UsageError(str(error)) from None

    def _sandbox(self) -> tuple[Settings, IOpenNebula, Sealer]:
        """Return settings for a sandbox, a client of it, and what seals with a key that lives as long as it does."""
        from econed.sandbox import embedded  # production never imports the sandbox

        options = self.options
        where = Path(options["config"]) if options["config"] else Source(self._config_path(), "")
        settings, warnings = loading.load(where, self.environ)
        self._warn(warnings)
        oned, elastic_ips = embedded.embedded(
            self.reactor, options["sandbox-form"], options["users"], options["sandbox-vms"]
        )
        if not options["config"]:
            names = settings.region_names or embedded.REGIONS
            settings = replace(settings, elasticips_vnet_id=elastic_ips, region_names=names)
        return settings, oned, Sealer((os.urandom(KEY_SIZE),))

    def _config_path(self) -> Path:
        """Return the path of econe.conf: that of the option, otherwise OpenNebula's."""
        return Path(self.options["config"]) if self.options["config"] else loading.default_path(self.environ)

    def _warn(self, warnings: Sequence[ConfigProblem]) -> None:
        for warning in warnings:
            self.log.warn("{finding}", finding=str(warning))
