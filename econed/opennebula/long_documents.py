"""How lists are read although users have made some of the documents in them too long.

Any user can make documents of their own long and share them with everybody, and oned sends a pool whole. So the reply
to a pool has a bound (`econed.opennebula.methods`), what is beyond it is read in halves, and an object whose document
alone is beyond it is left out.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Final, TypeVar

from twisted.logger import Logger

from econed.errors import ReplyTooLarge

_T = TypeVar("_T")

SKIP_SECONDS: Final = 60.0
"""Seconds for which a document that was too long is not asked for again."""

MAX_SKIPPED: Final = 1000
"""How many such documents are remembered; the oldest is forgotten first."""

MAX_CALLS: Final = 256
"""Calls to oned that one list takes at most; what they have not read is left out."""

_LAST_ID: Final = 2**31 - 1


class LongDocuments:
    """The objects whose documents were too long lately, and how others are read without them.

    One is shared by a whole process. `now` tells the seconds on a clock. Objects are known by the method that reads
    their pool and their ids: a document is equally long for whoever reads it.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic, log: Logger | None = None) -> None:
        self._now = now
        self._log = log or Logger(namespace="econed")
        self._noted: OrderedDict[tuple[str, int], float] = OrderedDict()

    async def by_ids(
        self, method: str, ids: Iterable[int], read: Callable[[Sequence[int]], Awaitable[Sequence[_T]]]
    ) -> tuple[_T, ...]:
        """Return what `read` returns for these ids, without those whose documents are too long.

        One call where nothing is. Raises what `read` raises but `ReplyTooLarge`.
        """
        known = self._known(method)
        wanted = [each for each in ids if each not in known]
        return await self._in_halves(method, [wanted] if wanted else [], read)

    async def by_range(
        self,
        method: str,
        first: int,
        last: int,
        read: Callable[[int, int], Awaitable[Sequence[_T]]],
        *,
        of_all: bool = True,
    ) -> tuple[_T, ...]:
        """Return what `read` returns for the ids from `first` to `last`, without what is too long; -1 is no bound.

        As `by_ids`. `of_all` says whether it reads the objects of all users: where it does not, it begins with one call
        whatever is known, because long ones of others are none of these. The order is that of oned where one call is
        enough, otherwise the highest ids come first.
        """
        whole = range(_LAST_ID if last < 0 else last, max(first, 0) - 1, -1)

        async def read_part(ids: Sequence[int]) -> Sequence[_T]:
            return await (read(first, last) if ids == whole else read(ids[-1], ids[0]))

        known = sorted(self._known(method), reverse=True) if of_all else ()
        parts = list(_between(whole, known))
        return await self._in_halves(method, parts, read_part)

    async def _in_halves(
        self, method: str, parts: Iterable[Sequence[int]], read: Callable[[Sequence[int]], Awaitable[Sequence[_T]]]
    ) -> tuple[_T, ...]:
        found: list[_T] = []
        waiting = list(parts)[::-1]
        calls, is_bounded = 0, False
        while waiting and calls < MAX_CALLS:
            part = waiting.pop()
            calls += 1
            try:
                found += await read(part)
            except ReplyTooLarge as error:
                if len(part) == 1:
                    self._note(method, part[0], error)
                    continue
                if part[0] == _LAST_ID and not is_bounded:
                    is_bounded = True
                    part = part[_LAST_ID - await _highest(part, read) :]
                    calls += _CALLS_FOR_HIGHEST
                middle = len(part) // 2
                waiting += [half for half in (part[middle:], part[:middle]) if half]
        if waiting:
            self._log.warn(
                "a list is not whole: {method} was called {calls} times, and of ids from {first} to {last} not all "
                "are read",
                method=method,
                calls=calls,
                first=min(min(part[0], part[-1]) for part in waiting),
                last=max(max(part[0], part[-1]) for part in waiting),
            )
        return tuple(found)

    def _known(self, method: str) -> set[int]:
        """Return the ids of what is left out of a pool now."""
        now = self._now()
        while self._noted and not 0 <= now - next(iter(self._noted.values())) < SKIP_SECONDS:
            self._noted.popitem(last=False)
        return {object_id for of, object_id in self._noted if of == method}

    def _note(self, method: str, object_id: int, error: ReplyTooLarge) -> None:
        """Remember that a document is too long, and say so in the log."""
        key = (method, object_id)
        if key not in self._noted:
            self._log.warn("object {id} is left out of lists: {error}", id=object_id, error=str(error))
        self._noted[key] = self._now()
        self._noted.move_to_end(key)
        if len(self._noted) > MAX_SKIPPED:
            self._noted.popitem(last=False)


def _between(whole: range, left_out: Iterable[int]) -> Iterator[range]:
    """Yield the parts of a range of falling ids between these, which fall too."""
    start = whole.start
    for object_id in left_out:
        if object_id in whole:
            if start > object_id:
                yield range(start, object_id, -1)
            start = object_id - 1
    if start > whole.stop:
        yield range(start, whole.stop, -1)


_CALLS_FOR_HIGHEST: Final = 5


async def _highest(ids: Sequence[int], read: Callable[[Sequence[int]], Awaitable[Sequence[object]]]) -> int:
    """Return a number above which none of these ids, which fall from `_LAST_ID`, is that of an object.

    The ids in use are low, and halves of all numbers that could be ids would be read in vain: so the number of bits
    of the highest is looked for, in `_CALLS_FOR_HIGHEST` calls.
    """
    least, most = 0, _LAST_ID.bit_length()
    while least < most:
        bits = (least + most) // 2
        if (1 << bits) <= ids[-1] or await _is_any(ids[: _LAST_ID - (1 << bits) + 1], read):
            least = bits + 1
        else:
            most = bits
    return (1 << least) - 1


async def _is_any(ids: Sequence[int], read: Callable[[Sequence[int]], Awaitable[Sequence[object]]]) -> bool:
    try:
        return bool(await read(ids))
    except ReplyTooLarge:
        return True
