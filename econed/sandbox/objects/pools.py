"""The pools of oned, and how their objects are listed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

from econed.sandbox.objects.base import Kind, PoolObject
from econed.sandbox.refusals import no_such

Member = TypeVar("Member", bound=PoolObject)


class Pool(Generic[Member]):
    """The objects of one kind, by number, with the number of the next one."""

    def __init__(self, kind: Kind, first: int = 0) -> None:
        self.kind = kind
        self._members: dict[int, Member] = {}
        self._next = first

    def __iter__(self) -> Iterator[Member]:
        return iter(self._members.values())

    def __len__(self) -> int:
        return len(self._members)

    def take_id(self) -> int:
        """Return the number for the next object."""
        self._next += 1
        return self._next - 1

    def give_back_id(self, number: int) -> None:
        """Let the next object have this number after all, as making one failed."""
        if self._next == number + 1:
            self._next = number

    def skip_to(self, number: int) -> None:
        """Let the next object have at least this number."""
        self._next = max(self._next, number)

    def put(self, member: Member) -> None:
        """Add an object; numbers grow, so the pool stays in their order."""
        self._members[member.id] = member

    def drop(self, member: Member) -> None:
        """Remove an object."""
        self._members.pop(member.id, None)

    def find(self, number: int) -> Member | None:
        """Return the object with this number, or None."""
        return self._members.get(number)

    def get(self, number: int) -> Member:
        """Return the object with this number; refuses with code 1024."""
        member = self._members.get(number)
        if member is None:
            raise no_such(self.kind.called, number)
        return member

    def newest_first(self) -> list[Member]:
        """Return all objects, the highest number first, as oned lists them."""
        return list(reversed(self._members.values()))


def page(members: Sequence[Member], start: int, end: int) -> Sequence[Member]:
    """Return the page or span of `members`, which come newest first.

    `end < -1` with `start >= 0` is a page: -end objects from offset `start`. Otherwise both are numbers: from `start`
    (if not -1) up to `end` (if not -1).
    """
    if end < -1 and start >= 0:
        return members[start : start - end]
    if start < 0 or end < -1:
        return members
    return [member for member in members if member.id >= start and (end == -1 or member.id <= end)]
