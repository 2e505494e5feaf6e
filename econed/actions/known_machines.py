"""Which machines a process has seen: where the next list of the same session is read on.

A list is read by ranges of ids, so the ids that are known decide only how many machines each range has. They also
tell which machines may have ended since the last list: those that were alive then and are no longer. oned itself can
name these only at the cost of reading its accounting records, which contain all machines again.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Mapping
from typing import Final

MAX_AGE: Final = 3600
"""Seconds since the newest machine was looked for, after which nothing counts as known.

Until then few machines have been created; of those, the ended ones have to be read too.
"""

MAX_ENDED: Final = 10_000
"""Ended machines above which nothing counts as known: reading each of them costs as much as looking for them again."""

MAX_SESSIONS: Final = 1000
"""Sessions whose lists a process remembers."""

MAX_OWNERS: Final = 8
"""Lists of one session that a process remembers: filters on other owners must not displace those of other sessions."""

MAX_IDS: Final = 1_000_000
"""Ids in all lists that a process remembers, of 4 bytes each."""


class KnownMachines:
    """The ids of the machines that one session has seen in its lists.

    Every machine with an id up to `highest` that the session could see at `looked_at`, and that was alive then or
    ended after `ended_since`, is either alive or ended here. Times are in seconds since the epoch; `ended_since` is
    compared with oned's own times. No method waits, so lists that are read at the same time leave this true.
    """

    def __init__(
        self, alive: Iterable[int], ended: Iterable[int], *, highest: int, looked_at: int, ended_since: int
    ) -> None:
        self._alive = _sorted(alive)
        self._ended = _sorted(ended)
        self.highest = highest
        self.looked_at = looked_at
        self.ended_since = ended_since

    def __len__(self) -> int:
        return len(self._alive) + len(self._ended)

    def is_usable(self, now: int, ended_since: int | None) -> bool:
        """Whether a list can be read on from here, with the machines that ended after `ended_since` (None: without)."""
        if not 0 <= now - self.looked_at <= MAX_AGE or len(self._ended) > MAX_ENDED:
            return False
        return ended_since is None or self.ended_since <= ended_since

    @property
    def last_id(self) -> int:
        """The highest id that belongs to a range; -1 if no machine is known."""
        return max((self.highest, *self._alive[-1:], *self._ended[-1:]))

    def end_of_range(self, first: int, size: int, *, ended: bool) -> int:
        """Return the last id of a range from `first` on that has up to `size` of the machines known to be alive.

        With `ended` it also has up to `size` of those that have ended. The machines up to `last_id` are divided evenly,
        into as few ranges as possible.
        """
        start = bisect_left(self._alive, first)
        remaining = len(self._alive) - start
        last = self.last_id
        if remaining > size:
            count = -(-remaining // size)
            last = self._alive[start + -(-remaining // count) - 1]
        ended_ids = _slice(self._ended, first, last)
        if ended and ended_ids.stop - ended_ids.start > size:
            last = self._ended[ended_ids.start + size - 1]
        return last

    def ended_between(self, first: int, last: int) -> array[int]:
        """Return the ids in a range of the machines that have ended recently, or may have."""
        return self._ended[_slice(self._ended, first, last)]

    def add_newer(self, alive: Iterable[int], ended: Iterable[int], *, looked_at: int) -> None:
        """Add the machines that have been created since `highest` was read; they were read at `looked_at`."""
        alive, ended = _sorted(alive), _sorted(ended)
        self.highest = max((self.highest, *alive[-1:], *ended[-1:]))
        self._alive = _sorted({*self._alive, *alive}) if alive else self._alive
        self._ended = _sorted({*self._ended, *ended}) if ended else self._ended
        self.looked_at = looked_at

    def replace_alive(self, first: int, last: int, alive: Iterable[int]) -> array[int]:
        """Record which machines of a range were alive when it was read, and return those that no longer were.

        These may have ended, and are known as ended until `forget`.
        """
        current = _sorted(alive)
        known = _slice(self._alive, first, last)
        missing = array("i", sorted(set(self._alive[known]).difference(current)))
        self._alive[known] = current
        if missing:
            self._ended = _sorted({*self._ended, *missing})
        return missing

    def forget(self, ids: Iterable[int], *, alive: Iterable[int], ended_since: int) -> None:
        """Stop counting machines as ended: those `alive` are alive, the others ended at `ended_since` or earlier.

        Machines that ended then are missing here from now on.
        """
        forgotten = set(ids)
        if forgotten:
            self._ended = array("i", (id_ for id_ in self._ended if id_ not in forgotten))
        if living := set(alive):
            self._alive = _sorted({*self._alive, *living})
        self.ended_since = max(self.ended_since, ended_since)


class KnownLists:
    """The machines that one process knows, by session and owner filter.

    The sessions that were used least recently are forgotten first, and so are the lists of a session.
    """

    def __init__(self, max_ids: int = MAX_IDS) -> None:
        self._max_ids = max_ids
        self._sessions: OrderedDict[Hashable, OrderedDict[int, KnownMachines]] = OrderedDict()

    def get(self, session: Hashable, owner: int) -> KnownMachines | None:
        """Return what is known, None if nothing is."""
        lists = self._sessions.get(session)
        if lists is None or owner not in lists:
            return None
        self._sessions.move_to_end(session)
        lists.move_to_end(owner)
        return lists[owner]

    def remember(self, session: Hashable, owner: int, known: KnownMachines) -> None:
        """Remember a list as the newest, and forget the oldest ones if there are too many lists or ids."""
        lists = self._sessions.setdefault(session, OrderedDict())
        self._sessions.move_to_end(session)
        lists[owner] = known
        lists.move_to_end(owner)
        if len(lists) > MAX_OWNERS:
            lists.popitem(last=False)
        count = self.count
        while self._sessions and (count > self._max_ids or len(self._sessions) > MAX_SESSIONS):
            _, forgotten = self._sessions.popitem(last=False)
            count -= _count(forgotten)

    @property
    def count(self) -> int:
        """How many ids are remembered."""
        return sum(map(_count, self._sessions.values()))


def _count(lists: Mapping[int, KnownMachines]) -> int:
    return sum(map(len, lists.values()))


def _sorted(ids: Iterable[int]) -> array[int]:
    return array("i", sorted(ids))


def _slice(ids: array[int], first: int, last: int) -> slice:
    return slice(bisect_left(ids, first), bisect_right(ids, last))
