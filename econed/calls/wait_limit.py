"""How long a request waits in the queue of calls to oned."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

from twisted.internet.interfaces import IDelayedCall, IReactorTime

MAX_WAIT: Final = 60.0
"""Seconds after which a request gives up if all its calls wait and none was sent or ended. SDKs give up then, too."""

_C = TypeVar("_C", bound=Hashable)


class WaitLimit(Generic[_C]):
    """The limit on the time for which the calls of one request wait.

    `give_up` is called with each of them if for `MAX_WAIT` seconds there was no progress: it must remove the call.
    """

    def __init__(self, clock: IReactorTime, give_up: Callable[[_C], None]) -> None:
        self._clock = clock
        self._give_up = give_up
        self._waiting: dict[_C, None] = {}
        self._progress_at = 0.0
        self._timer: IDelayedCall | None = None

    def begin_wait(self, call: _C) -> None:
        """Add a call that waits."""
        if not self._waiting:
            self.progress()
        self._waiting[call] = None
        if self._timer is None:
            self._timer = self._clock.callLater(MAX_WAIT, self._check)

    def end_wait(self, call: _C) -> None:
        """Remove a call, if it waits."""
        self._waiting.pop(call, None)
        if not self._waiting and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def progress(self) -> None:
        """Record that a call of the request was sent or has ended."""
        self._progress_at = self._clock.seconds()

    def _check(self) -> None:
        self._timer = None
        remaining = self._progress_at + MAX_WAIT - self._clock.seconds()
        if remaining > 0:
            self._timer = self._clock.callLater(remaining, self._check)
            return
        for call in tuple(self._waiting):
            if call in self._waiting:  # the failure of another may have cancelled it
                self._give_up(call)
