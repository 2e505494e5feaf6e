"""An OpenNebula HA zone: several servers before one database, each of which leads, follows, or waits for an election.

As in OpenNebula's source (Request.cc, RequestManagerZone.cc, RaftManager.cc, alike from 5.12 to 7.4). Who leads is for
the test to say: there are no elections here.
"""

from __future__ import annotations

from typing import Final

from econed.errors import OpenNebulaCode
from econed.opennebula.methods import is_read_only
from econed.opennebula.raft import RAFT_STATUS_METHOD, RaftState
from econed.sandbox.objects.infrastructure import raft_status
from econed.sandbox.oned import Oned

_FOR_THE_LEADER: Final = frozenset({"one.system.version", "one.system.config"})
"""Methods that only ask, and that a server does not answer by itself all the same."""


class HAZone:
    """The servers, with ids from 0, before the one database of `oned`; server 0 leads at first."""

    def __init__(self, oned: Oned, servers: int = 3) -> None:
        self.oned = oned
        self.term = 0
        self.members = tuple(Member(self, number) for number in range(servers))
        self.elect(self.members[0])

    @property
    def leader(self) -> Member | None:
        """Who leads, among those that run."""
        return next((each for each in self.members if each.is_up and each.state is RaftState.LEADER), None)

    def elect(self, leader: Member) -> None:
        """Let one lead and the others follow, those too that do not run: they follow when they are back."""
        self.term += 1
        for each in self.members:
            each.state = RaftState.LEADER if each is leader else RaftState.FOLLOWER
            each.term = self.term
        leader.is_reconciling = False

    def begin_election(self) -> None:
        """Let nobody lead: all that run are candidates."""
        self.term += 1
        for each in self.members:
            if each.is_up:
                each.state, each.term = RaftState.CANDIDATE, self.term


class Member:
    """One server of a zone; `execute` is its API. `is_up` is False once it has died: others no longer reach it."""

    def __init__(self, zone: HAZone, number: int) -> None:
        self._zone = zone
        self._number = number
        self.state = RaftState.FOLLOWER
        self.term = 0
        self.is_up = True
        self.is_reconciling = False

    def execute(self, method: str, *params: object) -> list[object]:
        """Serve one call as a server of this state does; otherwise as `Oned.execute`."""
        if method == RAFT_STATUS_METHOD:
            reply = self._zone.oned.execute(method, *params)
            return [True, raft_status(self._number, self.state, self.term), 0] if reply[0] else reply
        if is_read_only(method) and method not in _FOR_THE_LEADER:
            return self._zone.oned.execute(method, *params)
        # Who calls comes first, also where nothing is done for him.
        known = self._zone.oned.execute("one.user.info", *params[:1], -1, False)
        if not known[0]:
            return _refused(method, "User couldn't be authenticated, aborting call.", OpenNebulaCode.AUTHENTICATION)
        if self.state is RaftState.FOLLOWER:
            return self._passed_on(method, params)
        if self.state is RaftState.CANDIDATE:
            return _refused(method, "Cannot process request, oned cluster in election mode")
        if self.is_reconciling:
            return _refused(method, "Cannot process request, oned cluster is replicating log")
        return self._zone.oned.execute(method, *params)

    def _passed_on(self, method: str, params: tuple[object, ...]) -> list[object]:
        leader = self._zone.leader
        if leader is None:
            is_known = any(each.state is RaftState.LEADER for each in self._zone.members)
            text = "RPC call timed out and aborted" if is_known else "Cannot process request, no leader found"
            return _refused(method, text)
        return leader.execute(method, *params)


def _refused(method: str, text: str, code: OpenNebulaCode = OpenNebulaCode.INTERNAL) -> list[object]:
    return [False, f"[{method}] {text}", int(code), -1, -1]
