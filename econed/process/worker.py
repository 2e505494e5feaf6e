"""A worker: one of several processes that serve requests. It takes commands from the supervisor and reports to it."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from econed.process.lifecycle import Handler, Process, Signals
from econed.process.messages import (
    Begin,
    Command,
    CountsReply,
    Drain,
    Draining,
    Failed,
    GetCounts,
    Heartbeat,
    InvalidMessage,
    LineBuffer,
    Ready,
    ReopenLog,
    Report,
    encode,
    parse_command,
)

HEARTBEAT_INTERVAL = 1.0
"""Seconds between two heartbeats of a worker whose reactor runs."""

FINAL_REPORT_TIMEOUT = 5.0
"""Seconds a worker waits for its final report to be read before exiting anyway."""


@dataclass(frozen=True)
class WorkerParts:
    """What a worker consists of: its process, its counts, and a function that reopens its log files."""

    process: Process
    counts: Callable[[], Mapping[str, Any]]
    reopen_log: Handler


class CannotStart(Exception):
    """The worker cannot be set up; the message says why."""


class WorkerProtocol(Protocol):
    """The worker's end of the two pipes to the supervisor.

    `set_up` creates the worker from its first command, or raises `CannotStart`. `on_exit` is called with the exit code.
    When the supervisor exits, for any reason, the worker finishes its requests and exits.
    """

    def __init__(
        self,
        set_up: Callable[[Begin], Awaitable[WorkerParts]],
        signals: Signals,
        clock: IReactorTime,
        on_exit: Callable[[int], None],
        log: Logger,
    ) -> None:
        self._set_up = set_up
        self._signals = signals
        self._clock = clock
        self._on_exit = on_exit
        self._log = log
        self._lines = LineBuffer()
        self._parts: WorkerParts | None = None
        self._is_orphaned = False
        self._was_signalled = False
        self._exit_code: int | None = None
        self._heartbeats = LoopingCall(self._send_heartbeat)
        self._heartbeats.clock = clock

    def connectionMade(self) -> None:
        """Install signal handlers: a signal may be sent to this worker only."""
        self._signals.install(
            {
                signal.SIGTERM: self._stop_signal,
                signal.SIGINT: self._stop_signal,
                signal.SIGHUP: self._reopen_log,  # only the supervisor reloads the configuration
                signal.SIGUSR1: self._reopen_log,
            }
        )

    def dataReceived(self, data: bytes) -> None:
        """Carry out the commands of the supervisor."""
        try:
            for line in self._lines.feed(data):
                self._carry_out(parse_command(line))
        except InvalidMessage as error:
            self._log.error("draining: invalid command from the supervisor: {error}", error=str(error))
            self._drain()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Exit if the worker has finished; drain if the supervisor has exited."""
        if self._exit_code is not None:
            self._on_exit(self._exit_code)
            return
        self._is_orphaned = True
        self._log.error("draining: the supervisor has exited")
        self._drain()

    def _carry_out(self, command: Command) -> None:
        match command:
            case Begin():
                beginning = Deferred.fromCoroutine(self._begin(command))
                beginning.addErrback(self._report_failure)
            case Drain():
                self._drain()
            case ReopenLog():
                self._reopen_log()
            case GetCounts(number):
                self._report(CountsReply(number, self._counts()))

    async def _begin(self, begin: Begin) -> None:
        parts = await self._set_up(begin)
        await parts.process.listen()
        parts.process.start()
        self._parts = parts
        self._report(Ready())
        heartbeats = self._heartbeats.start(HEARTBEAT_INTERVAL)
        heartbeats.addErrback(lambda failure: self._log.failure("heartbeats failed", failure=failure))

    def _report_failure(self, failure: Failure) -> None:
        if failure.check(CannotStart):
            self._log.error("starting failed: {reason}", reason=str(failure.value))
        else:
            self._log.failure("starting failed", failure=failure)
        self._report(Failed(failure.getErrorMessage()))
        self._exit(1)

    def _stop_signal(self) -> None:
        """Drain; exit immediately on the second signal."""
        if self._parts is None or (self._parts.process.is_draining and self._was_signalled):
            self._on_exit(0)
            return
        self._was_signalled = True
        if not self._parts.process.is_draining:
            self._report(Draining())
        self._drain()

    def _drain(self) -> None:
        if self._parts is None:
            self._exit(0)
        elif not self._parts.process.is_draining:
            self._parts.process.drained().addBoth(lambda _: self._exit(0))

    def _reopen_log(self) -> None:
        if self._parts is not None:
            self._parts.reopen_log()

    def _send_heartbeat(self) -> None:
        self._report(Heartbeat(self._counts()))

    def _counts(self) -> Mapping[str, Any]:
        return {} if self._parts is None else self._parts.counts()

    def _report(self, report: Report) -> None:
        if self.transport is not None and not self._is_orphaned:
            self.transport.write(encode(report))

    def _exit(self, code: int) -> None:
        """Exit when the supervisor has read the final report, or after `FINAL_REPORT_TIMEOUT`."""
        if self._exit_code is not None:
            return
        if self._parts is not None:
            self._send_heartbeat()
        self._exit_code = code
        if self._heartbeats.running:
            self._heartbeats.stop()
        if not self._is_orphaned and self.transport is not None:
            self._clock.callLater(FINAL_REPORT_TIMEOUT, self._on_exit, code)
            self.transport.loseConnection()
        else:
            self._on_exit(code)
