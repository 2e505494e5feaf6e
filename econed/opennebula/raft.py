"""The Raft roles of the servers of an OpenNebula HA zone (OpenNebula source, RaftManager.h, Request.cc)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from econed.errors import InvalidReply, OpenNebulaCode, OpenNebulaRefusal

if TYPE_CHECKING:
    from lxml.etree import _Element

RAFT_STATUS_METHOD: Final = "one.zone.raftstatus"
"""The method that returns a server's own Raft status, for users who may ADMIN the zone."""

_NOT_STARTED: Final = (
    "Cannot process request, oned cluster in election mode",
    "Cannot process request, oned cluster is replicating log",
    "Cannot process request, no leader found",
)
"""Refusals by a server that has checked nothing but who the leader is: the same texts from 5.4 to 7.4."""

AMBIGUOUS_CODES: Final = frozenset({OpenNebulaCode.INTERNAL, OpenNebulaCode.REPLICATION})
"""The codes of refusals that may concern the server and not the call. INTERNAL is also that of invalid attributes."""


class RaftState(IntEnum):
    """A server's role; SOLO is outside of any HA zone. Servers that are not leaders forward writes or refuse them."""

    SOLO = 0
    CANDIDATE = 1
    FOLLOWER = 2
    LEADER = 3


@dataclass(frozen=True)
class RaftStatus:
    """The status that a server reports; `term` increases with each election that it has learned of."""

    state: RaftState
    term: int


def parse_raft_status(document: _Element) -> RaftStatus:
    """Return the status in a document of `RAFT_STATUS_METHOD`; raises `InvalidReply` for another document."""
    try:
        return RaftStatus(RaftState(int(document.findtext("STATE") or "")), int(document.findtext("TERM") or ""))
    except ValueError:
        raise InvalidReply(RAFT_STATUS_METHOD, "a status without a known state, or without a term") from None


def was_not_started(refusal: OpenNebulaRefusal) -> bool:
    """Whether a server refused a call before starting it, because the zone has no leader.

    Only the text shows this: the code is that of many refusals, and the state may have changed since. With an unknown
    text a write is not retried, so that it is never carried out twice.
    """
    return refusal.code == OpenNebulaCode.INTERNAL and refusal.reason.endswith(_NOT_STARTED)
