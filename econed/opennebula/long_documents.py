"""Reading lists in which users have made some of the documents too long.

Any user can make the documents of their own objects long and share the objects with all users, and oned sends a pool
as one reply. So replies with pools are limited (`econed.opennebula.methods`). A list that exceeds the limit is read in
halves, and an object whose document alone exceeds it is left out.
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
"""Seconds before a document that was too long is requested again."""

MAX_SKIPPED: Final = 1000
"""Maximum number of such documents to remember; the oldest is forgotten first."""

MAX_CALLS: Final = 256
"""Maximum calls to oned for a list; objects not read by then are left out."""

_LAST_ID: Final = 2**31 - 1


class LongDocuments:
    """Reads lists without the objects whose documents were too long recently.

    All sessions of a process share an instance. `now` returns a time in seconds. Objects are identified by the method
    that reads their pool and by their ids: a document has the same length for every user.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic, log: Logger | None = None) -> None:
        self._now = now
        self._log = log or Logger(namespace="econed")
        self._too_long_at: OrderedDict[tuple[str, int], float] = OrderedDict()

    async def by_ids(
        self, method: str, ids: Iterable[int], read: Callable[[Sequence[int]], Awaitable[Sequence[_T]]]
    ) -> tuple[_T, ...]:
        """Return what `read` returns for these ids, without objects whose documents are too long.

        This is one call where no document is too long. Raises what `read` raises, except `ReplyTooLarge`.
        """
        skipped = self._skipped_ids(method)
        readable = [object_id for object_id in ids if object_id not in skipped]
        return await self._read_in_halves(method, [readable] if readable else [], read)

    async def by_range(
        self,
        method: str,
        first: int,
        last: int,
        read: Callable[[int, int], Awaitable[Sequence[_T]]],
        *,
        lists_all_users: bool = True,
    ) -> tuple[_T, ...]:
        """Return what `read` returns for the ids from `first` to `last` (-1: no bound), without long documents.

        Errors are those of `by_ids`. `lists_all_users` says whether `read` lists the objects of all users. If not,
        the whole range is tried first, because the documents known to be too long may be other users'. The order is
        oned's where one call is enough, otherwise the highest ids come first.
        """
        whole = range(_LAST_ID if last < 0 else last, max(first, 0) - 1, -1)

        async def read_part(ids: Sequence[int]) -> Sequence[_T]:
            return await (read(first, last) if ids == whole else read(ids[-1], ids[0]))

        skipped = sorted(self._skipped_ids(method), reverse=True) if lists_all_users else ()
        return await self._read_in_halves(method, _parts_without(whole, skipped), read_part)

    async def _read_in_halves(
        self, method: str, parts: Iterable[Sequence[int]], read: Callable[[Sequence[int]], Awaitable[Sequence[_T]]]
    ) -> tuple[_T, ...]:
        objects: list[_T] = []
        unread = list(parts)[::-1]
        calls, highest_is_known = 0, False
        while unread and calls < MAX_CALLS:
            part = unread.pop()
            calls += 1
            try:
                objects += await read(part)
            except ReplyTooLarge as error:
                if len(part) == 1:
                    self._skip(method, part[0], error)
                    continue
                if part[0] == _LAST_ID and not highest_is_known:
                    highest_is_known = True
                    part = part[_LAST_ID - await _highest_possible_id(part, read) :]
                    calls += _CALLS_FOR_HIGHEST
                middle = len(part) // 2
                unread += [half for half in (part[middle:], part[:middle]) if half]
        if unread:
            self._log.warn(
                "list truncated: not all ids from {first} to {last} read after {calls} calls of {method}",
                method=method,
                calls=calls,
                first=min(min(part[0], part[-1]) for part in unread),
                last=max(max(part[0], part[-1]) for part in unread),
            )
        return tuple(objects)

    def _skipped_ids(self, method: str) -> set[int]:
        """Return the ids that are currently left out of a pool."""
        now = self._now()
        while self._too_long_at and not 0 <= now - next(iter(self._too_long_at.values())) < SKIP_SECONDS:
            self._too_long_at.popitem(last=False)
        return {object_id for skipped_method, object_id in self._too_long_at if skipped_method == method}

    def _skip(self, method: str, object_id: int, error: ReplyTooLarge) -> None:
        """Remember that a document is too long, and log it."""
        key = (method, object_id)
        if key not in self._too_long_at:
            self._log.warn("leaving object {id} out of lists: {error}", id=object_id, error=str(error))
        self._too_long_at[key] = self._now()
        self._too_long_at.move_to_end(key)
        if len(self._too_long_at) > MAX_SKIPPED:
            self._too_long_at.popitem(last=False)


def _parts_without(whole: range, skipped: Iterable[int]) -> Iterator[range]:
    """Yield the parts of a descending range of ids between the skipped ids, which are also in descending order."""
    start = whole.start
    for object_id in skipped:
        if object_id in whole:
            if start > object_id:
                yield range(start, object_id, -1)
            start = object_id - 1
    if start > whole.stop:
        yield range(start, whole.stop, -1)


_CALLS_FOR_HIGHEST: Final = 5


async def _highest_possible_id(ids: Sequence[int], read: Callable[[Sequence[int]], Awaitable[Sequence[object]]]) -> int:
    """Return an upper bound of the ids in use, of ids that descend from `_LAST_ID`.

    The ids in use are low, so that halving the range of all possible ids would waste calls. This is a binary search for
    the number of bits of the highest id, in `_CALLS_FOR_HIGHEST` calls.
    """
    low, high = 0, _LAST_ID.bit_length()
    while low < high:
        bits = (low + high) // 2
        if (1 << bits) <= ids[-1] or await _has_objects(ids[: _LAST_ID - (1 << bits) + 1], read):
            low = bits + 1
        else:
            high = bits
    return (1 << low) - 1


async def _has_objects(ids: Sequence[int], read: Callable[[Sequence[int]], Awaitable[Sequence[object]]]) -> bool:
    try:
        return bool(await read(ids))
    except ReplyTooLarge:
        return True
