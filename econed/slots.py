"""A bounded number of things at once: calls that are made to oned, by a whole process or for one request."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from econed.interfaces import IOpenNebula

if TYPE_CHECKING:
    from lxml.etree import _Element

CALLS_OF_A_REQUEST = 5
"""Calls to oned that one request makes at once. What it has to do beyond them waits within the request."""


class Slots:
    """So many slots, given in the order in which they are asked for.

    Asking, giving back and leaving the queue cost the same however many wait: a request with thousands of calls that
    is cancelled must not hold up the reactor.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._free = limit
        self._queue: OrderedDict[Deferred[None], None] = OrderedDict()
        self._is_granting = False

    @property
    def taken(self) -> int:
        """How many slots are taken."""
        return self.limit - self._free

    @property
    def waiting(self) -> int:
        """How many wait for one."""
        return len(self._queue)

    def acquire(self) -> Deferred[None]:
        """Return what fires when a slot is the caller's; whoever cancels it leaves the queue."""
        if self._free and not self._queue:
            self._free -= 1
            return succeed(None)
        waiting: Deferred[None] = Deferred(self._queue.pop)
        self._queue[waiting] = None
        return waiting

    def release(self) -> None:
        """Give a slot back."""
        self._free += 1
        if self._is_granting:
            return  # called by one who has just got a slot and needed it no longer: the loop below goes on
        self._is_granting = True
        try:
            while self._free and self._queue:
                first, _ = self._queue.popitem(last=False)
                self._free -= 1
                first.callback(None)
        finally:
            self._is_granting = False

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(self, *_: object) -> None:
        self.release()


@implementer(IOpenNebula)
class FewAtOnce:
    """oned for one request: no more than `slots` of its calls are made at once, whatever it has to do."""

    def __init__(self, one: IOpenNebula, slots: Slots) -> None:
        self._one = one
        self._slots = slots

    async def call(self, user: str | None, method: str, *args: object) -> str | int | bool:
        """Call `method` and return the value of the reply (`IOpenNebula.call`)."""
        async with self._slots:
            return await self._one.call(user, method, *args)

    async def document(self, user: str | None, method: str, *args: object) -> _Element:
        """Call `method` and return the root of the document in the reply (`IOpenNebula.document`)."""
        async with self._slots:
            return await self._one.document(user, method, *args)
