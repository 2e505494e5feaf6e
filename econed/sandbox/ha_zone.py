"""An OpenNebula HA zone: servers with a common database, each of them leader, follower or candidate.

The rules are those of OpenNebula's source (Request.cc, RequestManagerZone.cc, RaftManager.cc, alike from 5.12 to 7.4).
There are no elections: the test chooses the leader.
"""

from __future__ import annotations

from typing import Final

from econed.errors import OpenNebulaCode
from econed.opennebula.methods import is_read_only
from econed.opennebula.raft import RAFT_STATUS_METHOD, RaftState
from econed.sandbox.objects.infrastructure import raft_status
from econed.sandbox.oned import Oned

_LEADER_ONLY: Final = frozenset({"one.system.version", "one.system.config"})
"""Reading methods that a server nevertheless does not execute itself."""


class HAZone:
    """The servers of a zone, with ids from 0, on the database of `oned`; server 0 is the first leader."""

    def __init__(self, oned: Oned, servers: int = 3) -> None:
        self.oned = oned
        self.term = 0
        self.servers = tuple(ZoneServer(self, server_id) for server_id in range(servers))
        self.elect(self.servers[0])

    @property
    def leader(self) -> ZoneServer | None:
        """The running server that is the leader, or None."""
        return next((server for server in self.servers if server.is_up and server.state is RaftState.LEADER), None)

    def elect(self, leader: ZoneServer) -> None:
        """Make a server the leader and all others followers, including those that do not run."""
        self.term += 1
        for server in self.servers:
            server.state = RaftState.LEADER if server is leader else RaftState.FOLLOWER
            server.term = self.term
        leader.is_reconciling = False

    def begin_election(self) -> None:
        """Make all running servers candidates, so that there is no leader."""
        self.term += 1
        for server in self.servers:
            if server.is_up:
                server.state, server.term = RaftState.CANDIDATE, self.term


class ZoneServer:
    """A server of a zone; `execute` is its API. The others cannot reach it while `is_up` is False."""

    def __init__(self, zone: HAZone, server_id: int) -> None:
        self._zone = zone
        self._server_id = server_id
        self.state = RaftState.FOLLOWER
        self.term = 0
        self.is_up = True
        self.is_reconciling = False

    def execute(self, method: str, *params: object) -> list[object]:
        """Serve a call as a server in this state does; otherwise as `Oned.execute`."""
        if method == RAFT_STATUS_METHOD:
            reply = self._zone.oned.execute(method, *params)
            return [True, raft_status(self._server_id, self.state, self.term), 0] if reply[0] else reply
        if is_read_only(method) and method not in _LEADER_ONLY:
            return self._zone.oned.execute(method, *params)
        # oned authenticates the caller before it checks its own state.
        authenticated = self._zone.oned.execute("one.user.info", *params[:1], -1, False)
        if not authenticated[0]:
            return _refused(method, "User couldn't be authenticated, aborting call.", OpenNebulaCode.AUTHENTICATION)
        if self.state is RaftState.FOLLOWER:
            return self._forward(method, params)
        if self.state is RaftState.CANDIDATE:
            return _refused(method, "Cannot process request, oned cluster in election mode")
        if self.is_reconciling:
            return _refused(method, "Cannot process request, oned cluster is replicating log")
        return self._zone.oned.execute(method, *params)

    def _forward(self, method: str, params: tuple[object, ...]) -> list[object]:
        leader = self._zone.leader
        if leader is None:
            is_known = any(server.state is RaftState.LEADER for server in self._zone.servers)
            text = "RPC call timed out and aborted" if is_known else "Cannot process request, no leader found"
            return _refused(method, text)
        return leader.execute(method, *params)


def _refused(method: str, text: str, code: OpenNebulaCode = OpenNebulaCode.INTERNAL) -> list[object]:
    return [False, f"[{method}] {text}", int(code), -1, -1]
