"""Long computations of requests, in threads: few at a time, and one of each user's.

Python computes in one thread at a time. Whenever the reactor has waited for the network, it waits for its turn beside
the threads that compute, and the longer the more of them there are. And what oned answers is decoded in the same
threads, of which there are ten.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from twisted.internet.defer import CancelledError, Deferred

from econed.http.work_in_progress import WorkInProgress
from econed.interfaces import InThread
from econed.slots import Slots

_T = TypeVar("_T")

AT_A_TIME = 2
"""Computations at a time in one process.

Beside two threads that read 5,000 key pairs, the reactor waits for its turn for 50 ms at most, beside ten for 130
(measured); with one, nobody could have a key made while another's key pairs are read.
"""


class Computing:
    """The long computations of one process, in the order of asking, but for a user's own: these wait for each other."""

    def __init__(self, in_thread: InThread) -> None:
        self._in_thread = in_thread
        self._all = Slots(AT_A_TIME)
        self._users: dict[str, Slots] = {}
        """The one slot of each user who has anything to compute."""
        self._computations = WorkInProgress()

    def of(self, user: str) -> InThread:
        """Return what runs the computations of a user in a thread, one after the other."""

        def in_thread(work: Callable[[], _T]) -> Awaitable[_T]:
            return self._computed(user, work)

        return in_thread

    async def _computed(self, user: str, work: Callable[[], _T]) -> _T:
        own = self._users.setdefault(user, Slots(1))
        await own.acquire()
        try:
            await self._all.acquire()
        except CancelledError:
            self._leave(user, own)
            raise
        result: _T = await self._computations.shielded(Deferred.fromCoroutine(self._run(user, own, work)))
        return result

    async def _run(self, user: str, own: Slots, work: Callable[[], _T]) -> _T:
        """Compute; the slots are taken to the end of the thread, which nothing can cut short."""
        try:
            return await self._in_thread(work)
        finally:
            self._all.release()
            self._leave(user, own)

    def _leave(self, user: str, own: Slots) -> None:
        own.release()
        if not own.taken and not own.waiting:
            del self._users[user]
