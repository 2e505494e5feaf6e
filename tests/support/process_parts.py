"""Stand-ins for the parts of a serving process: its connections, its endpoints, and a reactor with signals."""

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
    """Connections whose number a test sets."""

    def __init__(self) -> None:
        self.connections = 0
        self.busy = 0
        self.is_draining = False
        self.is_aborted = False
        self._waiting: list[Deferred[None]] = []

    def drain(self) -> None:
        """Record it."""
        self.is_draining = True

    async def all_closed(self) -> None:
        """Wait for `go`."""
        if self.connections:
            waiting: Deferred[None] = Deferred()
            self._waiting.append(waiting)
            await waiting

    def abort(self) -> None:
        """Record it."""
        self.is_aborted = True
        self.connections = 0

    def go(self) -> None:
        """Close all connections."""
        self.connections = 0
        for waiting in self._waiting:
            waiting.callback(None)


class Endpoint:
    """An endpoint that does not really listen."""

    def __init__(self, error: Exception | None = None, stopped: Deferred[None] | None = None) -> None:
        self._error = error
        self._stopped = succeed(None) if stopped is None else stopped
        self.is_listening = False

    def listen(self, factory: object) -> Deferred[Any]:
        """Listen, or fail."""
        result: Deferred[Any] = Deferred()
        if self._error is not None:
            result.errback(self._error)
        else:
            self.is_listening = True
            result.callback(self)
        return result

    def stopListening(self) -> Deferred[None]:
        """Stop listening."""
        self.is_listening = False
        return self._stopped


class Reactor(Clock):
    """A running reactor that gets its signals from a test."""

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
        """Record it."""
        self.stops.append("stopped")

    def install(self, signal_number: int, handler: Callable[..., None]) -> None:
        """Install the handler of a signal."""
        self.handlers[signal_number] = handler

    def signal(self, signal_number: signal.Signals) -> None:
        """Handle a signal."""
        self.handlers[signal_number](signal_number, None)
