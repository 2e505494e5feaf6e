"""A limit on concurrent work, such as the calls to oned for one request."""

from __future__ import annotations

from collections import OrderedDict

from twisted.internet.defer import Deferred, succeed

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
