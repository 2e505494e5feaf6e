"""One read for all requests of a user that wait for it, and one such read at a time for each user.

Meant for what costs much and is the same for all, as which machines there are. A request never gets an answer from
before it came: whoever comes while a read is under way gets the next.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, TypeAlias, TypeVar, cast

from twisted.internet.defer import Deferred

from econed.opennebula.long_documents import LongDocuments

_T = TypeVar("_T")
_Read: TypeAlias = Callable[[], Coroutine[Any, Any, Any]]


class _Shared:
    """One read and who waits for it. It ends with the last of them."""

    def __init__(self, read: _Read) -> None:
        self._read = read
        self._running: Deferred[Any] | None = None
        self.waiting: dict[Deferred[Any], None] = {}

    def start(self) -> Deferred[Any]:
        """Begin to read, and return what fires when it has ended and everybody has the answer."""
        self._running = Deferred.fromCoroutine(self._read())
        return self._running.addBoth(self._answer)

    def leave(self, waiting: Deferred[Any]) -> None:
        """Take note that somebody does not wait any more."""
        self.waiting.pop(waiting, None)
        if not self.waiting and self._running is not None:
            self._running.cancel()

    def _answer(self, result: Any) -> None:
        for waiting in list(self.waiting):
            del self.waiting[waiting]
            waiting.callback(result)  # a Failure makes it fail


class SharedReads:
    """The reads of one process that requests share.

    `long_documents` is what they know of documents that are too long.
    """

    def __init__(self, long_documents: LongDocuments | None = None) -> None:
        self.long_documents = long_documents or LongDocuments()
        self._queues: dict[Hashable, OrderedDict[Hashable, _Shared]] = {}
        """For each user with a read under way those that are to come, by what they read."""

    async def get(self, user: Hashable, key: Hashable, read: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Return what `read` returns, or an equal one of another request of this user, begun after this was called.

        Equal are reads of the same `key`. Raises what the read raises.
        """
        queue = self._queues.get(user)
        shared = None if queue is None else queue.get(key)
        if shared is None:
            shared = _Shared(read)
            if queue is not None:
                queue[key] = shared
        waiting: Deferred[Any] = Deferred(shared.leave)
        shared.waiting[waiting] = None
        if queue is None:
            self._queues[user] = OrderedDict()
            self._start(user, shared)
        return cast(_T, await waiting)

    def _start(self, user: Hashable, shared: _Shared) -> None:
        shared.start().addBoth(lambda _: self._next(user))

    def _next(self, user: Hashable) -> None:
        queue = self._queues[user]
        while queue:
            _, shared = queue.popitem(last=False)
            if shared.waiting:
                self._start(user, shared)
                return
        del self._queues[user]
