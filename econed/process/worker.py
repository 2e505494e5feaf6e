"""One of the processes that serve side by side: does what the supervisor says, and reports to it."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from twisted.application.internet import TimerService
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from econed.process.lifecycle import Handler, Process, Signals
from econed.process.messages import (
    Ask,
    Beat,
    Begin,
    Command,
    Counted,
    Drain,
    Draining,
    Failed,
    Garbled,
    Lines,
    Ready,
    ReopenLog,
    Report,
    command,
    encode,
)

BEAT_EVERY = 1.0
"""Seconds between two reports of a worker whose reactor runs."""

LAST_WORDS = 5.0
"""Seconds that the last report has to be read, before the worker ends all the same."""


@dataclass(frozen=True)
class Made:
    """What a worker is made of: the process, what it has counted, how its log is opened anew."""

    process: Process
    counted: Callable[[], Mapping[str, Any]]
    reopen_log: Handler


class CannotStart(Exception):
    """A worker cannot be put together; the message says why."""


class WorkerProtocol(Protocol):
    """A worker at its end of the two pipes.

    `make` puts it together from its first command, or raises `CannotStart`. `ended` is told the exit code. When the
    supervisor is gone, however that came, the worker finishes what it has and ends.
    """

    def __init__(
        self,
        make: Callable[[Begin], Awaitable[Made]],
        signals: Signals,
        clock: IReactorTime,
        ended: Callable[[int], None],
        log: Logger,
    ) -> None:
        self._make = make
        self._signals = signals
        self._clock = clock
        self._ended = ended
        self._log = log
        self._lines = Lines()
        self._made: Made | None = None
        self._is_alone = False
        self._was_signalled = False
        self._code: int | None = None
        self._beats = TimerService(BEAT_EVERY, self._beat)
        self._beats.clock = clock

    def connectionMade(self) -> None:
        """Take signals from now on: they come also to a worker alone."""
        self._signals.lead_to(
            {
                signal.SIGTERM: self._told_to_end,
                signal.SIGINT: self._told_to_end,
                signal.SIGHUP: self._reopen_log,  # a new configuration comes by way of the supervisor
                signal.SIGUSR1: self._reopen_log,
            }
        )

    def dataReceived(self, data: bytes) -> None:
        """Do what the supervisor says."""
        try:
            for line in self._lines.of(data):
                self._do(command(line))
        except Garbled as error:
            self._log.error("the supervisor talks nonsense: {error}", error=str(error))
            self._drain()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """End: that is what was waited for, or there is no supervisor any more."""
        if self._code is not None:
            self._ended(self._code)
            return
        self._is_alone = True
        self._log.error("the supervisor is gone: finishes the requests under way and ends")
        self._drain()

    def _do(self, told: Command) -> None:
        match told:
            case Begin():
                beginning = Deferred.fromCoroutine(self._begin(told))
                beginning.addErrback(self._cannot_start)
            case Drain():
                self._drain()
            case ReopenLog():
                self._reopen_log()
            case Ask(number):
                self._report(Counted(number, self._counted()))

    async def _begin(self, begin: Begin) -> None:
        made = await self._make(begin)
        await made.process.listen()
        made.process.start()
        self._made = made
        self._report(Ready())
        self._beats.startService()

    def _cannot_start(self, failure: Failure) -> None:
        if failure.check(CannotStart):
            self._log.error("cannot start: {reason}", reason=str(failure.value))
        else:
            self._log.failure("cannot start", failure=failure)
        self._report(Failed(failure.getErrorMessage()))
        self._end(1)

    def _told_to_end(self) -> None:
        """Drain; told so a second time, by a signal again, end at once."""
        if self._made is None or (self._made.process.is_draining and self._was_signalled):
            self._ended(0)
            return
        self._was_signalled = True
        if not self._made.process.is_draining:
            self._report(Draining())
        self._drain()

    def _drain(self) -> None:
        if self._made is None:
            self._end(0)
        elif not self._made.process.is_draining:
            self._made.process.drained().addBoth(lambda _: self._end(0))

    def _reopen_log(self) -> None:
        if self._made is not None:
            self._made.reopen_log()

    def _beat(self) -> None:
        self._report(Beat(self._counted()))

    def _counted(self) -> Mapping[str, Any]:
        return {} if self._made is None else self._made.counted()

    def _report(self, report: Report) -> None:
        if self.transport is not None and not self._is_alone:
            self.transport.write(encode(report))

    def _end(self, code: int) -> None:
        """End when the supervisor has the last report, or could not be told."""
        if self._code is not None:
            return
        if self._made is not None:
            self._report(Beat(self._counted()))
        self._code = code
        if self._beats.running:
            self._beats.stopService()
        if not self._is_alone and self.transport is not None:
            self._clock.callLater(LAST_WORDS, self._ended, code)
            self.transport.loseConnection()
        else:
            self._ended(code)
