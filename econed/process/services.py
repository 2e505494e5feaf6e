"""The services that twistd runs: the daemon as one process, or as a supervisor with workers. And their exit."""

from __future__ import annotations

import atexit
import os
import random
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

from twisted.application.internet import TimerService
from twisted.application.service import IService, MultiService
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from econed.config.settings import Settings
from econed.process.admin_port import AdminPort, WatchedProcess
from econed.process.generations import Plan
from econed.process.lifecycle import Handler, MakeLogger, Process, Serving, Signals
from econed.process.listening import CannotListen
from econed.process.spawning import Spawner
from econed.process.supervisor import EXIT_GRACE, Load, Supervisor
from econed.process.systemd import Notifier
from econed.telemetry.audit_log import AuditLog
from econed.telemetry.logs import LoggedService, ProcessLog
from econed.telemetry.metrics import Metrics


def watchdog(notifier: Notifier, clock: IReactorTime) -> TimerService | None:
    """Return a service that notifies systemd's watchdog for as long as the reactor runs; None without a watchdog."""
    if notifier.watchdog is None:
        return None
    service = TimerService(notifier.watchdog / 2, notifier.alive)
    service.clock = clock
    return service


class Stop:
    """Stops the reactor, once, and sets the exit code of the process: twistd itself exits only with 0 or a signal."""

    def __init__(self, reactor: Any, at_exit: Callable[..., object] = atexit.register) -> None:
        self._reactor = reactor
        self._at_exit = at_exit
        self._was_called = False

    def __call__(self, code: int = 0) -> None:
        """Stop the reactor, when it runs, and exit with this code."""
        if self._was_called:
            return
        self._was_called = True
        if code:
            self._at_exit(_exit, code)
        self._reactor.callWhenRunning(self._stop)

    def _stop(self) -> None:
        with suppress(ReactorNotRunning):  # stopped already, by twistd for example
            self._reactor.stop()


def _exit(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class OneProcess(LoggedService):
    """The daemon as one process, without a supervisor (`--listen` and `--sandbox`).

    `renew_certificates` reads the certificates again, `stop_reactor` ends the process.
    """

    def __init__(
        self,
        process: Process,
        signals: Signals,
        notifier: Notifier,
        clock: IReactorTime,
        *,
        process_log: ProcessLog | None,
        renew_certificates: Callable[[], Awaitable[object]] | None,
        audit_log: AuditLog | None = None,
        stop_reactor: Handler,
        log: Logger,
    ) -> None:
        super().__init__(process_log)
        self._process = process
        self._signals = signals
        self._notifier = notifier
        self._renew_certificates = renew_certificates
        self._audit_log = audit_log
        self._stop_reactor = stop_reactor
        self._log = log
        _add_watchdog(notifier, clock, self)

    def startService(self) -> None:
        """Start the process, which listens already, and install the signal handlers."""
        super().startService()
        self._process.start()
        self._signals.install(
            {
                signal.SIGTERM: self.stop,
                signal.SIGINT: self.stop,
                signal.SIGHUP: self.reload,
                signal.SIGUSR1: self.reopen_log,
            }
        )
        self._notifier.ready("serving")

    def stopService(self) -> Any:
        """Stop the background services, if the reactor stops without draining."""
        return defer.gatherResults([defer.maybeDeferred(self._process.stop), defer.maybeDeferred(super().stopService)])

    def stop(self) -> None:
        """Drain and exit; exit immediately on the second call."""
        if self._process.is_draining:
            self._log.warn("second stop signal: exiting immediately")
            self._stop_reactor()
            return
        self._notifier.stopping("finishing the requests in progress", self._process.drain_timeout + EXIT_GRACE)
        self._process.drained().addBoth(lambda _: self._stop_reactor())

    def reopen_log(self) -> None:
        """Reopen the files of the log and the audit log."""
        super().reopen_log()
        if self._audit_log is not None:
            self._audit_log.reopen()

    def reload(self) -> None:
        """Reopen the log file and read the certificates again, but not the configuration, as the log says."""
        self._notifier.reloading()
        self.reopen_log()
        self._log.info("SIGHUP: reloading log and certificates; without a supervisor the configuration is not reloaded")
        reloading = Deferred.fromCoroutine(self._reload_certificates())
        reloading.addErrback(lambda failure: self._log.failure("reloading the certificates failed", failure=failure))
        reloading.addBoth(lambda _: self._notifier.ready("serving"))

    async def _reload_certificates(self) -> None:
        if self._renew_certificates is not None:
            await self._renew_certificates()


class Supervised(LoggedService):
    """The daemon as a supervisor with its workers."""

    def __init__(
        self,
        supervisor: Supervisor,
        signals: Signals,
        notifier: Notifier,
        reactor: Any,
        process_log: ProcessLog | None,
    ) -> None:
        super().__init__(process_log)
        self._supervisor = supervisor
        self._signals = signals
        self._reactor = reactor
        _add_watchdog(notifier, reactor, self)

    def startService(self) -> None:
        """Start the workers when the reactor runs, and install the signal handlers."""
        super().startService()
        self._reactor.callWhenRunning(self._supervisor.start)
        self._signals.install(
            {
                signal.SIGTERM: self._supervisor.stop,
                signal.SIGINT: self._supervisor.stop,
                signal.SIGHUP: self.reload,
                signal.SIGUSR1: self.reopen_log,
            }
        )

    def stopService(self) -> Any:
        """Kill the workers that still run."""
        self._supervisor.kill()
        return super().stopService()

    def reopen_log(self) -> None:
        """Reopen the log file in all processes."""
        super().reopen_log()
        self._supervisor.reopen_log()

    def reload(self) -> None:
        """Reopen the log file and reload the configuration; new workers read the certificates."""
        self.reopen_log()
        self._supervisor.reload()


def _add_watchdog(notifier: Notifier, clock: IReactorTime, parent: MultiService) -> None:
    service = watchdog(notifier, clock)
    if service is not None:
        service.setServiceParent(parent)


def make_supervisor(
    reactor: Any, plan: Plan, load: Load, environ: Mapping[str, str], notifier: Notifier, process_log: ProcessLog | None
) -> IService:
    """Return the daemon as a supervisor, which starts its workers when the reactor runs."""
    log, metrics = Logger(namespace="econed.supervisor"), Metrics()

    def on_reload(plan: Plan) -> None:
        """Apply the log and the administrator's port of a new configuration to the supervisor itself."""
        if process_log is not None:
            process_log.apply_settings(plan.settings)
        try:
            admin.set_port(plan.settings.admin_port)
        except CannotListen as error:
            log.error("moving the administrator's port failed: {error}", error=str(error))

    supervisor = Supervisor(
        plan,
        Spawner(reactor, environ, log),
        load,
        reactor,
        jitter=random.random,
        notifier=notifier,
        metrics=metrics,
        on_exit=Stop(reactor),
        on_reload=on_reload,
        log=log,
    )
    service = Supervised(supervisor, Signals(reactor), notifier, reactor, process_log)
    admin = AdminPort(reactor, supervisor, service, Logger(namespace="econed.admin"))
    admin.set_port(plan.settings.admin_port)
    return service


def make_one_process(
    reactor: Any,
    settings: Settings,
    serving: Serving,
    notifier: Notifier,
    process_log: ProcessLog | None,
    make_logger: MakeLogger,
) -> IService:
    """Return the daemon as one process without a supervisor. It listens immediately; raises `CannotListen`."""
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
        process_log=process_log,
        renew_certificates=serving.renew_certificates,
        audit_log=serving.audit_log,
        stop_reactor=Stop(reactor),
        log=make_logger("econed"),
    )
    serving.metrics.set_worker_count(1)
    watched = WatchedProcess(serving.metrics, lambda: serving.process.is_draining)
    AdminPort(reactor, watched, service, make_logger("econed.admin")).set_port(settings.admin_port)
    return service
