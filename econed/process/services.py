"""What twistd runs: the daemon as one process, or as a supervisor with its workers; and how that ends."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from twisted.application.internet import TimerService
from twisted.application.service import MultiService
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from econed.process.lifecycle import Handler, Process, Signals
from econed.process.supervisor import GRACE, Supervisor
from econed.process.systemd import Notifier
from econed.telemetry.logs import LoggedService, ProcessLog


def watchdog(notifier: Notifier, clock: IReactorTime) -> TimerService | None:
    """Return a service that keeps systemd's watchdog quiet for as long as the reactor runs; None if there is none."""
    if notifier.watchdog is None:
        return None
    service = TimerService(notifier.watchdog / 2, notifier.alive)
    service.clock = clock
    return service


class Stop:
    """Ends the process by its reactor, once, with an exit code: twistd itself knows none but 0 and those of signals."""

    def __init__(self, reactor: Any, at_exit: Callable[..., object] = atexit.register) -> None:
        self._reactor = reactor
        self._at_exit = at_exit
        self._is_told = False

    def __call__(self, code: int = 0) -> None:
        """End, as soon as what is to be done before has been done."""
        if self._is_told:
            return
        self._is_told = True
        if code:
            self._at_exit(_exit, code)
        self._reactor.callWhenRunning(self._stop)

    def _stop(self) -> None:
        with suppress(ReactorNotRunning):  # something else has stopped it
            self._reactor.stop()


def _exit(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class OneProcess(LoggedService):
    """The daemon as one process, without a supervisor: what twistd runs for `--listen` and `--sandbox`.

    `renewed` is called to read the certificates anew, `stop` to end the process.
    """

    def __init__(
        self,
        process: Process,
        signals: Signals,
        notifier: Notifier,
        clock: IReactorTime,
        *,
        log: ProcessLog | None,
        renewed: Callable[[], Awaitable[object]] | None,
        stop: Handler,
    ) -> None:
        super().__init__(log)
        self._process = process
        self._signals = signals
        self._notifier = notifier
        self._renewed = renewed
        self._stop = stop
        self._said = Logger(namespace="econed")
        _guard(notifier, clock, self)

    def startService(self) -> None:
        """Serve: the ports listen already."""
        super().startService()
        self._process.start()
        self._signals.lead_to(
            {
                signal.SIGTERM: self.end,
                signal.SIGINT: self.end,
                signal.SIGHUP: self.renew,
                signal.SIGUSR1: self.reopen_log,
            }
        )
        self._notifier.ready("serves")

    def stopService(self) -> Any:
        """Stop what runs beside the requests, if the end came without a drain."""
        return defer.gatherResults([defer.maybeDeferred(self._process.stop), defer.maybeDeferred(super().stopService)])

    def reopen_log(self) -> None:
        """Open the log anew."""
        _reopen(self._log)

    def end(self) -> None:
        """Drain and end the process; called again, end it at once."""
        if self._process.is_draining:
            self._said.warn("told to end a second time: ends at once")
            self._stop()
            return
        self._notifier.stopping("finishes the requests under way", self._process.drain_timeout + GRACE)
        self._process.drained().addBoth(lambda _: self._stop())

    def renew(self) -> None:
        """Open the log anew, and read the certificates anew; the configuration stays, which is said."""
        self._notifier.reloading()
        self.reopen_log()
        self._said.info("SIGHUP: log and certificates are read anew; a process without supervisor keeps its settings")
        renewing = Deferred.fromCoroutine(self._renew())
        renewing.addErrback(lambda failure: self._said.failure("the certificates were not read anew", failure=failure))
        renewing.addBoth(lambda _: self._notifier.ready("serves"))

    async def _renew(self) -> None:
        if self._renewed is not None:
            await self._renewed()


class Supervised(LoggedService):
    """The daemon as a supervisor with its workers: what twistd runs."""

    def __init__(
        self,
        supervisor: Supervisor,
        signals: Signals,
        notifier: Notifier,
        reactor: Any,
        log: ProcessLog | None,
    ) -> None:
        super().__init__(log)
        self._supervisor = supervisor
        self._signals = signals
        self._reactor = reactor
        _guard(notifier, reactor, self)

    def startService(self) -> None:
        """Start the workers when the reactor runs."""
        super().startService()
        self._reactor.callWhenRunning(self._supervisor.start)
        self._signals.lead_to(
            {
                signal.SIGTERM: self._supervisor.end,
                signal.SIGINT: self._supervisor.end,
                signal.SIGHUP: self.renew,
                signal.SIGUSR1: self.reopen_log,
            }
        )

    def stopService(self) -> Any:
        """End the workers at once, if they have not ended before."""
        self._supervisor.kill()
        return super().stopService()

    def reopen_log(self) -> None:
        """Open the log anew, in all processes."""
        _reopen(self._log)
        self._supervisor.reopen_log()

    def renew(self) -> None:
        """Open the log anew and read the configuration anew; new workers read the certificates."""
        self.reopen_log()
        self._supervisor.reload()


def _guard(notifier: Notifier, clock: IReactorTime, parent: MultiService) -> None:
    guard = watchdog(notifier, clock)
    if guard is not None:
        guard.setServiceParent(parent)


def _reopen(log: ProcessLog | None) -> None:
    if log is not None:
        log.reopen()
