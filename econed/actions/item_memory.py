"""What a process remembers of the items of lists, as long as their documents do not change: bounded, by session.

See `econed.opennebula.unchanged_machines` for how documents are recognized.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from econed.opennebula.unchanged_machines import Known, MachineParser

MAX_ITEMS: Final = 16_000
"""Items that a process remembers, of some 3 KB each."""

MAX_ITEMS_PER_SESSION: Final = 12_000
"""Items that it remembers for one session, so that they do not displace those of all others."""

MAX_SESSIONS: Final = 4_000
"""Sessions of which it remembers items."""

UNUSED_SECONDS: Final = 600
"""Seconds after which an item that was not listed again makes room for another."""


class RememberedItem(Known, Protocol):
    """The item of a machine, as long as the machine's document has this fingerprint."""

    @property
    def used_at(self) -> int:
        """When the item was last listed, in seconds since the epoch."""

    def is_usable(self, filters: frozenset[str]) -> bool:
        """Whether it can be listed by a request with filters of these names."""


_I = TypeVar("_I", bound=RememberedItem)


class SessionItems(Generic[_I]):
    """The items of one session, by the ids of their machines."""

    def __init__(self, maximum: int = MAX_ITEMS_PER_SESSION) -> None:
        self._maximum = maximum
        self._by_id: dict[int, _I] = {}
        self._tidied_at = 0

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, machine_id: int) -> _I | None:
        """Return what is remembered of a machine."""
        return self._by_id.get(machine_id)

    def parser(self, filters: frozenset[str]) -> MachineParser[_I]:
        """Return the parser of replies for a list with these filters; parsers for equal lists are equal."""
        return MachineParser(_Lookup(self, filters))

    def remember(self, item: _I) -> None:
        """Remember an item instead of what is remembered of its machine, if there is room."""
        if len(self._by_id) >= self._maximum and item.id not in self._by_id:
            self._forget_unused(item.used_at)
            if len(self._by_id) >= self._maximum:
                return
        self._by_id[item.id] = item

    def forget(self, machine_ids: Iterable[int]) -> None:
        """Forget what is remembered of some machines."""
        for machine_id in machine_ids:
            self._by_id.pop(machine_id, None)

    def _forget_unused(self, now: int) -> None:
        if now - self._tidied_at >= UNUSED_SECONDS:
            self._tidied_at = now
            items = self._by_id.items()
            self._by_id = {id_: item for id_, item in items if now - item.used_at < UNUSED_SECONDS}


class ItemMemory(Generic[_I]):
    """The items of all sessions; those of the session that was used least recently are forgotten first."""

    def __init__(self, maximum: int = MAX_ITEMS, max_sessions: int = MAX_SESSIONS) -> None:
        self._maximum = maximum
        self._max_sessions = max_sessions
        self._sessions: OrderedDict[Hashable, SessionItems[_I]] = OrderedDict()
        self._count = 0

    def of(self, session: Hashable) -> SessionItems[_I]:
        """Return the items of a session, to be read, after others have been forgotten if there are too many."""
        items = self._sessions.setdefault(session, SessionItems())
        self._sessions.move_to_end(session)
        while len(self._sessions) > 1 and (self._count > self._maximum or len(self._sessions) > self._max_sessions):
            _, forgotten = self._sessions.popitem(last=False)
            self._count -= len(forgotten)
        return items

    def remember(self, session: Hashable, item: _I) -> None:
        """Remember an item of a session (`SessionItems.remember`)."""
        items = self.of(session)
        before = len(items)
        items.remember(item)
        self._count += len(items) - before

    def forget(self, session: Hashable, machine_ids: Iterable[int]) -> None:
        """Forget what is remembered of some machines in a session."""
        items = self.of(session)
        before = len(items)
        items.forget(machine_ids)
        self._count += len(items) - before

    @property
    def count(self) -> int:
        """How many items are remembered."""
        return self._count


@dataclass(frozen=True)
class _Lookup(Generic[_I]):
    """Finds what is remembered of a machine, if it is usable with these filters.

    It runs in other threads and changes nothing: what it has found remains valid if it is forgotten meanwhile.
    """

    items: SessionItems[_I]
    filters: frozenset[str]

    def __call__(self, machine_id: int) -> _I | None:
        found = self.items.get(machine_id)
        return found if found is not None and found.is_usable(self.filters) else None
