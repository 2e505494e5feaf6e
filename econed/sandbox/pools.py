"""How oned cuts its pools into pages and spans."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from econed.sandbox.objects import PoolObject

Member = TypeVar("Member", bound=PoolObject)


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
