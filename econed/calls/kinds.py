"""Kinds of calls to oned, by what they cost: reads of a few objects, changes, and reads of many objects."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Final

from econed.opennebula.machine_sets import is_small_set
from econed.opennebula.methods import is_read_only


class CallKind(IntEnum):
    """The kinds, in the order in which the calls of one user are sent."""

    OBJECT = 0
    """A read of one object or of a few, or of what only administrators can make long."""
    CHANGE = 1
    BULK = 2
    """A read of many objects."""


_SHORT_POOLS: Final = frozenset(
    {"clusterpool", "datastorepool", "grouppool", "hostpool", "vnpool", "vntemplatepool", "zonepool"}
)
"""Pools whose objects only administrators create, or few of which a user has."""


def kind_of(method: str, args: Sequence[object]) -> CallKind:
    """Return the kind of a call."""
    if not is_read_only(method):
        return CallKind.CHANGE
    name = method.split(".")[1]
    if not name.endswith("pool") or name in _SHORT_POOLS or is_small_set(method, args) or _is_one_image(method, args):
        return CallKind.OBJECT
    return CallKind.BULK


def _is_one_image(method: str, args: Sequence[object]) -> bool:
    """Whether a call reads the images from one id to the same id."""
    if method != "one.imagepool.info":
        return False
    _, first, last = args
    return first == last != -1
