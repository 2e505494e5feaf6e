"""The filters that oned's pool calls take (OpenNebula, "XML-RPC API"; oned, RequestManagerPoolInfoFilter.h)."""

from __future__ import annotations

from enum import IntEnum


class OwnerFilter(IntEnum):
    """Whose objects a pool call lists. In its place a user's id lists the objects of that user."""

    GROUP = -4
    """Those of the user's primary group that they may see."""
    MINE = -3
    """Those that the user owns."""
    VISIBLE = -2
    """All that the user may see."""
    MINE_AND_GROUPS = -1
    """Those that the user owns, and those of their groups that they may see."""


class StateFilter(IntEnum):
    """Which machines a pool call lists. In its place a `VmState` lists the machines in that state."""

    ANY = -2
    """All machines, DONE ones included."""
    NOT_DONE = -1
    """All machines that are not DONE."""
