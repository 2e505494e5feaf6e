"""Memory that goes back to the system.

The C library gives back by itself what is free at the top of its heap alone. What is free below something that is
still in use stays with the process: after long lists that was measured to be 257 of 271 MiB.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

GIVEN_BACK_AFTER = 5.0
"""Seconds from something large being freed to what is free being given back; what is freed meanwhile goes with it."""


def trim() -> None:
    """Give back to the system what is free in the C library's heap; nothing where that cannot (malloc_trim(3))."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)


class Memory:
    """Gives back memory by `give_back`, a while after something large was freed, on an injected clock."""

    def __init__(self, clock: IReactorTime, give_back: Callable[[], None]) -> None:
        self._clock = clock
        self._give_back = give_back
        self._next: IDelayedCall | None = None

    def freed(self) -> None:
        """Take note that something large has been freed."""
        if self._next is None:
            self._next = self._clock.callLater(GIVEN_BACK_AFTER, self._go)

    def _go(self) -> None:
        self._next = None
        self._give_back()
