"""How the servers of an OpenNebula HA zone stand to each other (OpenNebula source, RaftManager.h, Request.cc)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from econed.errors import InvalidReply, OpenNebulaCode, OpenNebulaRefusal

if TYPE_CHECKING:
    from lxml.etree import _Element

RAFT_STATUS_METHOD: Final = "one.zone.raftstatus"
"""The method that says how a server stands, for users who may ADMIN the zone; every server answers for itself."""

_NOT_BEGUN: Final = (
    "Cannot process request, oned cluster in election mode",
    "Cannot process request, oned cluster is replicating log",
    "Cannot process request, no leader found",
)
"""What a server says that has looked at nothing but who leads: the same from 5.4 to 7.4."""

AMBIGUOUS_CODES: Final = frozenset({OpenNebulaCode.INTERNAL, OpenNebulaCode.REPLICATION})
"""The codes by which a server may mean itself and not the call. INTERNAL is also that of bad attributes."""


class RaftState(IntEnum):
    """What a server is; SOLO is one outside of any HA zone. Those that are no leader pass writes on, or refuse them."""

    SOLO = 0
    CANDIDATE = 1
    FOLLOWER = 2
    LEADER = 3


@dataclass(frozen=True)
class RaftStatus:
    """What a server says of itself; `term` grows with every election that it has heard of."""

    state: RaftState
    term: int


def parse_raft_status(document: _Element) -> RaftStatus:
    """Return what the document of `RAFT_STATUS_METHOD` says; raises `InvalidReply` for another."""
    try:
        return RaftStatus(RaftState(int(document.findtext("STATE") or "")), int(document.findtext("TERM") or ""))
    except ValueError:
        raise InvalidReply(RAFT_STATUS_METHOD, "a status without a known state, or without a term") from None


def was_not_started(refusal: OpenNebulaRefusal) -> bool:
    """Whether a server refused a call before it began with it, because nobody leads.

    The one thing that only the text tells: the code is that of any refusal, and the state may have changed since. A
    text that is not known costs the second try of a write, and never makes a second machine.
    """
    return refusal.code == OpenNebulaCode.INTERNAL and refusal.reason.endswith(_NOT_BEGUN)
