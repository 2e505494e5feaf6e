"""Coalesces concurrent requests for the same work into one run."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

_T = TypeVar("_T")


class SingleFlight(Generic[_T]):
    """Shares one run of `start` between all callers that join while it runs; cancelled when all callers are."""

    def __init__(self, start: Callable[[], Coroutine[Deferred[Any], Any, _T]]) -> None:
        self._start = start
        self._waiting: dict[Deferred[_T], None] = {}
        self._run: Deferred[Any] | None = None

    @property
    def is_running(self) -> bool:
        """Whether a run with waiting callers is in progress."""
        return bool(self._waiting)

    def join(self) -> Deferred[_T]:
        """Return the result of the current run, or of a new run. Cancelling the Deferred leaves the run."""
        waiter: Deferred[_T] = Deferred(self._leave)
        waiting = self._waiting
        waiting[waiter] = None
        if len(waiting) == 1:
            self._run = Deferred.fromCoroutine(self._start())
            self._run.addBoth(self._finish, waiting)
        return waiter

    def _finish(self, result: _T | Failure, waiting: dict[Deferred[_T], None]) -> None:
        """Pass the result to the callers of this run; a cancelled run may end while a new run is in progress."""
        if self._waiting is waiting:
            self._waiting = {}
        for waiter in tuple(waiting):
            if not waiter.called:  # a callback of an earlier waiter may have cancelled it
                waiter.callback(result)

    def _leave(self, waiter: Deferred[_T]) -> None:
        self._waiting.pop(waiter, None)
        if not self._waiting and self._run is not None:
            self._waiting = {}
            self._run.cancel()


class KeyedFlights:
    """Runs of work by key: a caller with the key of a run in progress shares it."""

    def __init__(self) -> None:
        self._flights: dict[Hashable, SingleFlight[Any]] = {}

    async def run(self, key: Hashable, work: Callable[[], Coroutine[Deferred[Any], Any, _T]]) -> _T:
        """Return the result of the run in progress with this key, or of `work`; raises what it raises."""
        flight: SingleFlight[_T] = self._flights.setdefault(key, SingleFlight(work))
        try:
            return await flight.join()
        finally:
            if not flight.is_running and self._flights.get(key) is flight:
                del self._flights[key]
