"""Work that many wait for and that is done once."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

_T = TypeVar("_T")


class SingleFlight(Generic[_T]):
    """One run of something for all who ask while it is under way; it is given up when nobody waits any more."""

    def __init__(self, start: Callable[[], Coroutine[Deferred[Any], Any, _T]]) -> None:
        self._start = start
        self._waiting: dict[Deferred[_T], None] = {}
        self._run: Deferred[Any] | None = None

    @property
    def is_running(self) -> bool:
        """Whether somebody waits for it."""
        return bool(self._waiting)

    def join(self) -> Deferred[_T]:
        """Return what comes of the run under way, or of a new one."""
        waiter: Deferred[_T] = Deferred(self._leave)
        waiting = self._waiting
        waiting[waiter] = None
        if len(waiting) == 1:
            self._run = Deferred.fromCoroutine(self._start())
            self._run.addBoth(self._land, waiting)
        return waiter

    def _land(self, result: _T | Failure, waiting: dict[Deferred[_T], None]) -> None:
        """Answer those who waited for this run; beside one that was given up and ends late there may be another."""
        if self._waiting is waiting:
            self._waiting = {}
        for waiter in tuple(waiting):
            if not waiter.called:  # one who was answered may have cancelled another
                waiter.callback(result)

    def _leave(self, waiter: Deferred[_T]) -> None:
        self._waiting.pop(waiter, None)
        if not self._waiting and self._run is not None:
            self._waiting = {}
            self._run.cancel()
