"""One read shared by all requests of a user that wait for it, and one such read at a time for each user.

For expensive reads whose result is the same for all, such as the list of machines. A request never gets a result of a
read that began before the request: if a read is in flight, it gets the next.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, TypeAlias, TypeVar, cast

from twisted.internet.defer import Deferred

_T = TypeVar("_T")
_Read: TypeAlias = Callable[[], Coroutine[Any, Any, Any]]


class _SharedRead:
    """One read and the requests that wait for it. It is cancelled when no request waits for it any more."""

    def __init__(self, read: _Read) -> None:
        self._read = read
        self._running: Deferred[Any] | None = None
        self.waiting: dict[Deferred[Any], None] = {}

    def start(self) -> Deferred[Any]:
        """Begin to read; the Deferred returned fires when it has ended and all waiting requests have the result."""
        self._running = Deferred.fromCoroutine(self._read())
        return self._running.addBoth(self._deliver)

    def remove(self, waiting: Deferred[Any]) -> None:
        """Remove a request that no longer waits."""
        self.waiting.pop(waiting, None)
        if not self.waiting and self._running is not None:
            self._running.cancel()

    def _deliver(self, result: Any) -> None:
        for waiting in list(self.waiting):
            del self.waiting[waiting]
            waiting.callback(result)  # a Failure makes it fail


class SharedReads:
    """The shared reads of one process."""

    def __init__(self) -> None:
        self._queues: dict[Hashable, OrderedDict[Hashable, _SharedRead]] = {}
        """For each user with a read in flight the reads that follow, by key."""

    async def get(self, user: Hashable, key: Hashable, read: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Return the result of `read`, or of another request's read for this user with the same `key`.

        Either begins after this call. Raises what the read raises.
        """
        queue = self._queues.get(user)
        shared = None if queue is None else queue.get(key)
        if shared is None:
            shared = _SharedRead(read)
            if queue is not None:
                queue[key] = shared
        waiting: Deferred[Any] = Deferred(shared.remove)
        shared.waiting[waiting] = None
        if queue is None:
            self._queues[user] = OrderedDict()
            self._start(user, shared)
        return cast(_T, await waiting)

    def _start(self, user: Hashable, shared: _SharedRead) -> None:
        shared.start().addBoth(lambda _: self._next(user))

    def _next(self, user: Hashable) -> None:
        queue = self._queues[user]
        while queue:
            _, shared = queue.popitem(last=False)
            if shared.waiting:
                self._start(user, shared)
                return
        del self._queues[user]
