"""Limits on concurrent calls to oned, for a whole process or for one request."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from econed.interfaces import IOpenNebula

if TYPE_CHECKING:
    from lxml.etree import _Element

MAX_CALLS_PER_REQUEST = 5
"""Maximum concurrent calls to oned for one request; further calls wait within the request."""


class Slots:
    """A semaphore with `limit` slots, acquired in the order of the requests.

    Acquiring, releasing and cancelling take constant time: a cancelled request with thousands of waiting calls must not
    block the reactor.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._free = limit
        self._queue: OrderedDict[Deferred[None], None] = OrderedDict()
        self._is_granting = False

    @property
    def taken(self) -> int:
        """The number of acquired slots."""
        return self.limit - self._free

    @property
    def waiting(self) -> int:
        """The number of callers waiting for a slot."""
        return len(self._queue)

    def acquire(self) -> Deferred[None]:
        """Return a Deferred that fires when the caller has a slot; cancelling it leaves the queue."""
        if self._free and not self._queue:
            self._free -= 1
            return succeed(None)
        waiting: Deferred[None] = Deferred(self._queue.pop)
        self._queue[waiting] = None
        return waiting

    def release(self) -> None:
        """Release a slot."""
        self._free += 1
        if self._is_granting:
            return  # called by a caller that has just acquired its slot in the loop below, which continues
        self._is_granting = True
        try:
            while self._free and self._queue:
                waiting, _ = self._queue.popitem(last=False)
                self._free -= 1
                waiting.callback(None)
        finally:
            self._is_granting = False

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(self, *_: object) -> None:
        self.release()


@implementer(IOpenNebula)
class LimitedOpenNebula:
    """A client of oned for one request, with a limit on its concurrent calls."""

    def __init__(self, oned: IOpenNebula, slots: Slots) -> None:
        self._oned = oned
        self._slots = slots

    async def call(self, user: str | None, method: str, *args: object) -> str | int | bool:
        """Call `method` and return the value of the reply (`IOpenNebula.call`)."""
        async with self._slots:
            return await self._oned.call(user, method, *args)

    async def document(self, user: str | None, method: str, *args: object) -> _Element:
        """Call `method` and return the root of the document in the reply (`IOpenNebula.document`)."""
        async with self._slots:
            return await self._oned.document(user, method, *args)
