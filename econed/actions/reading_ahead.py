"""Reading ahead of a response: the next set of a list, and all of a short result before it has its turn."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from twisted.internet.defer import Deferred

if TYPE_CHECKING:
    from collections.abc import Hashable

    from econed.actions.action import Parts
    from econed.actions.sets import Read, Sets

_D = TypeVar("_D")

MAX_AHEAD: Final = 3
"""Sets that a process reads ahead at a time: a client that stops reading leaves one in memory, of some 8 MiB."""

MAX_AHEAD_PER_SESSION: Final = 1
"""Sets that are read ahead at a time for one session."""

MAX_SHORT_RESULTS: Final = 16
"""Results of few documents that are produced before their turn, in a process at a time."""

MAX_SHORT_RESULTS_PER_SESSION: Final = 8
"""Such results for one session: a user can make the documents of their machines long, up to some MiB."""


class ReadAhead:
    """The limits on sets that are read ahead in one process. What is beyond them is read when it has its turn."""

    def __init__(self, maximum: int = MAX_AHEAD, maximum_per_session: int = MAX_AHEAD_PER_SESSION) -> None:
        self._maximum = maximum
        self._maximum_per_session = maximum_per_session
        self._sessions: list[Hashable] = []

    @property
    def count(self) -> int:
        """How many sets are being read ahead, or have been."""
        return len(self._sessions)

    def begin(self, session: Hashable) -> bool:
        """Whether another set may be read ahead; if so it counts until `end`."""
        if len(self._sessions) >= self._maximum or self._sessions.count(session) >= self._maximum_per_session:
            return False
        self._sessions.append(session)
        return True

    def end(self, session: Hashable) -> None:
        """Stop counting a set."""
        self._sessions.remove(session)

    async def result(self, session: Hashable, result: Parts[Any]) -> Parts[Any]:
        """Return a result of few documents; it is produced now, before it has its turn, if the limits permit.

        So the reads of several requests can be one call to oned, and only what the client receives waits for the turn
        (`econed.http.response_memory`).
        """
        if not self.begin(session):
            return result
        produced = self._produced(session, result)
        try:
            await anext(produced)
        except BaseException:
            await produced.aclose()
            raise
        return produced

    async def _produced(self, session: Hashable, result: Parts[Any]) -> Parts[Any]:
        """Yield nothing when all is produced, then the parts; from then on, closing it ends their count."""
        try:
            async with aclosing(result):
                parts = deque([part async for part in result])
            yield {}
            while parts:
                yield parts.popleft()
        finally:
            self.end(session)

    async def sets(self, session: Hashable, sets: Sets[_D]) -> Sets[_D]:
        """Yield the readers of `sets`, each of which begins to read the next set once it has read its own."""
        async with aclosing(sets):
            next_set = _NextSet(self, session, sets)
            try:
                while await next_set.advance():
                    yield next_set.take
            finally:
                next_set.close()


class _NextSet(Generic[_D]):
    """The next set of a list: not requested yet, or being read ahead."""

    def __init__(self, limits: ReadAhead, session: Hashable, sets: Sets[_D]) -> None:
        self._limits = limits
        self._session = session
        self._sets = sets
        self._read: Read[_D] | None = None
        self._ahead: Deferred[Iterable[_D]] | None = None

    async def advance(self) -> bool:
        """Find the next reader unless that was done ahead; whether there is one."""
        if self._read is None:
            self._read = await _next_or_none(self._sets)
        return self._read is not None

    async def take(self) -> Iterable[_D]:
        """Return the documents of the next set, and begin to read the one after it."""
        read, self._read = self._read, None
        assert read is not None  # noqa: S101 - called once after each successful `advance`
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            documents = await read()
        else:
            try:
                documents = await ahead
            finally:
                self._limits.end(self._session)
        await self.advance()
        if self._read is not None and self._limits.begin(self._session):
            self._ahead = Deferred.fromCoroutine(self._read())
        return documents

    def close(self) -> None:
        """Drop what was read ahead."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            self._limits.end(self._session)
            ahead.addErrback(lambda _: None)
            ahead.cancel()


async def _next_or_none(sets: Sets[_D]) -> Read[_D] | None:
    try:
        return await anext(sets)
    except StopAsyncIteration:
        return None
