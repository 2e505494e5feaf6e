"""What a process that serves is made of, as stand-ins: connections, where it listens, a reactor with its signals."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from econed.interfaces import IDrainable


@implementer(IDrainable)
class Connections:
    """Connections that come and go as a test says."""

    def __init__(self) -> None:
        self.connections = 0
        self.busy = 0
        self.is_draining = False
        self.is_aborted = False
        self._waiting: list[Deferred[None]] = []

    def drain(self) -> None:
        """Take note."""
        self.is_draining = True

    async def empty(self) -> None:
        """Wait for `go`."""
        if self.connections:
            waiting: Deferred[None] = Deferred()
            self._waiting.append(waiting)
            await waiting

    def abort(self) -> None:
        """Take note."""
        self.is_aborted = True
        self.connections = 0

    def go(self) -> None:
        """Let all of them end."""
        self.connections = 0
        for each in self._waiting:
            each.callback(None)


class Endpoint:
    """Where nobody really listens."""

    def __init__(self, error: Exception | None = None, stopped: Deferred[None] | None = None) -> None:
        self._error = error
        self._stopped = succeed(None) if stopped is None else stopped
        self.is_listening = False

    def listen(self, factory: object) -> Deferred[Any]:
        """Listen, or fail."""
        made: Deferred[Any] = Deferred()
        if self._error is not None:
            made.errback(self._error)
        else:
            self.is_listening = True
            made.callback(self)
        return made

    def stopListening(self) -> Deferred[None]:
        """Listen no more."""
        self.is_listening = False
        return self._stopped


class Reactor(Clock):
    """A reactor that runs, and whose signals are calls of a test."""

    def __init__(self) -> None:
        super().__init__()
        self.handlers: dict[int, Callable[..., None]] = {}
        self.stops: list[str] = []

    def callWhenRunning(self, work: Callable[..., Any], *arguments: Any) -> None:
        """Call it."""
        work(*arguments)

    def callFromThread(self, work: Callable[..., Any]) -> None:
        """Call it."""
        work()

    def stop(self) -> None:
        """Take note."""
        self.stops.append("stopped")

    def install(self, number: int, handler: Callable[..., None]) -> None:
        """Have a signal lead to a handler."""
        self.handlers[number] = handler

    def signal(self, number: signal.Signals) -> None:
        """Be sent a signal."""
        self.handlers[number](number, None)
