"""Long computations of requests in threads: a few at a time, and one for each user.

Python runs one thread at a time. Whenever the reactor returns from waiting for the network, it competes with the
computing threads, and waits longer the more of them there are. Replies of oned are decoded in the same pool of ten
threads.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from twisted.internet.defer import CancelledError, Deferred

from econed.http.work_in_progress import WorkInProgress
from econed.interfaces import InThread
from econed.slots import Slots

_T = TypeVar("_T")

MAX_COMPUTATIONS = 2
"""Computations at a time in one process.

Beside two threads that read 5,000 key pairs, the reactor waits for 50 ms at most, beside ten threads for 130 ms
(measured). With one thread, no user could create a key pair while another user's key pairs are read.
"""


class Computations:
    """The long computations of one process, in the order of the calls; those of one user run one after the other."""

    def __init__(self, in_thread: InThread) -> None:
        self._in_thread = in_thread
        self._slots = Slots(MAX_COMPUTATIONS)
        self._user_slots: dict[str, Slots] = {}
        """One slot for each user with a computation that runs or waits."""
        self._in_progress = WorkInProgress()

    def of(self, user: str) -> InThread:
        """Return a function that runs computations of a user in a thread, one after the other."""

        def in_thread(work: Callable[[], _T]) -> Awaitable[_T]:
            return self._compute(user, work)

        return in_thread

    async def _compute(self, user: str, work: Callable[[], _T]) -> _T:
        user_slot = self._user_slots.setdefault(user, Slots(1))
        await user_slot.acquire()
        try:
            await self._slots.acquire()
        except CancelledError:
            self._release(user, user_slot)
            raise
        result: _T = await self._in_progress.shielded(Deferred.fromCoroutine(self._run(user, user_slot, work)))
        return result

    async def _run(self, user: str, user_slot: Slots, work: Callable[[], _T]) -> _T:
        """Compute; both slots are held until the thread has ended, since a thread cannot be cancelled."""
        try:
            return await self._in_thread(work)
        finally:
            self._slots.release()
            self._release(user, user_slot)

    def _release(self, user: str, user_slot: Slots) -> None:
        user_slot.release()
        if not user_slot.taken and not user_slot.waiting:
            del self._user_slots[user]
