"""The pools of oned, and how their objects are listed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Generic, TypeVar

from econed.sandbox.objects.base import Kind, PoolObject
from econed.sandbox.refusals import no_such

PoolObjectT = TypeVar("PoolObjectT", bound=PoolObject)


class Pool(Generic[PoolObjectT]):
    """The objects of a kind, by id, and the id of the next object."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self._objects: dict[int, PoolObjectT] = {}
        self._next_id = 0

    def __iter__(self) -> Iterator[PoolObjectT]:
        return iter(self._objects.values())

    def __len__(self) -> int:
        return len(self._objects)

    def allocate_id(self) -> int:
        """Return the id for the next object."""
        self._next_id += 1
        return self._next_id - 1

    def release_id(self, object_id: int) -> None:
        """Give an id back if it was the last one allocated, because the allocation of its object failed."""
        if self._next_id == object_id + 1:
            self._next_id = object_id

    def skip_to(self, object_id: int) -> None:
        """Make sure that the next id is at least this one."""
        self._next_id = max(self._next_id, object_id)

    def add(self, pool_object: PoolObjectT) -> None:
        """Add an object; ids grow, so the pool stays sorted by id."""
        self._objects[pool_object.id] = pool_object

    def remove(self, pool_object: PoolObjectT) -> None:
        """Remove an object."""
        self._objects.pop(pool_object.id, None)

    def find(self, object_id: int) -> PoolObjectT | None:
        """Return the object with this id, or None."""
        return self._objects.get(object_id)

    def find_by_name(self, uid: int, name: str) -> PoolObjectT | None:
        """Return the object of this name that the user owns, or None."""
        return next((member for member in self if (member.uid, member.name) == (uid, name)), None)

    def get(self, object_id: int) -> PoolObjectT:
        """Return the object with this id; refuses with code 1024."""
        pool_object = self._objects.get(object_id)
        if pool_object is None:
            raise no_such(self.kind.long_name, object_id)
        return pool_object

    def newest_first(self, first: int = -1, last: int = -1) -> Iterator[PoolObjectT]:
        """Return the objects one by one, the highest id first, as oned lists them.

        If `first` is an id, only those from `first` to `last` (-1: no bound), without a look at the others; a `last`
        below -1 is no id, but the length of a page.
        """
        if first < 0 or last < -1:
            return reversed(self._objects.values())
        highest = next(reversed(self._objects), -1)
        ids = range(highest if last == -1 else min(last, highest), first - 1, -1)
        return (found for found in map(self._objects.get, ids) if found is not None)


def page(pool_objects: Iterable[PoolObjectT], start: int, end: int) -> Sequence[PoolObjectT]:
    """Return the page or the range of ids of `pool_objects`, which are sorted newest first and read as far as needed.

    `end < -1` with `start >= 0` is a page: -end objects from offset `start`. Otherwise both are ids: from `start`
    (if not -1) up to `end` (if not -1).
    """
    if end < -1 and start >= 0:
        return [*islice(pool_objects, start, start - end)]
    if start < 0 or end < -1:
        return [*pool_objects]
    return [member for member in pool_objects if member.id >= start and (end == -1 or member.id <= end)]
