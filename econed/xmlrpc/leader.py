"""Finds the leader among the configured oned servers, by calling `one.zone.raftstatus` on all of them concurrently."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from econed.errors import OpenNebulaCode, OpenNebulaError, OpenNebulaRefusal
from econed.interfaces import IOnedProxy
from econed.opennebula.raft import RAFT_STATUS_METHOD, RaftState, RaftStatus, parse_raft_status
from econed.opennebula.replies import parse_document

STATUS_TIMEOUT: Final = 3.0
"""Timeout of the call in seconds; for its first token a server may have to start an authentication driver."""

CONTRADICTION_WAIT: Final = 0.25
"""Seconds to wait for contradicting statuses when one server says that it leads and most have not replied yet."""


@dataclass(frozen=True)
class ServerStatus:
    """The Raft status of one server. If it did not return its status, `raft` is None and `error` says why.

    `is_silent`: no reply in time. `is_reachable`: it replied, with its status or a refusal.
    """

    server: IOnedProxy
    raft: RaftStatus | None = None
    error: str = ""
    is_silent: bool = False
    is_reachable: bool = False

    def __str__(self) -> str:
        return f"{self.server.url}: {self.raft.state.name.lower() if self.raft else self.error}"


@dataclass(frozen=True)
class RaftLeader:
    """The server to which calls go, and the term in which it was elected."""

    server: IOnedProxy
    term: int


class ServerGroup:
    """The oned servers of `one_xmlrpc`: a single server, or those of one HA zone."""

    def __init__(
        self, servers: Sequence[IOnedProxy], sessions: Callable[[], Sequence[str]], clock: IReactorTime
    ) -> None:
        """Call `servers` with one of `sessions`: a token of serveradmin in each form that oned may accept."""
        self.servers = tuple(servers)
        self._sessions = sessions
        self._clock = clock
        self._accepted_forms: dict[IOnedProxy, int] = {}

    async def statuses(self) -> tuple[ServerStatus, ...]:
        """Return the status of all servers, after at most `STATUS_TIMEOUT` seconds for each token that is tried."""
        return await self._collect(until_leader_is_certain=False)

    async def leader(self, known: RaftLeader | None = None) -> tuple[RaftLeader | None, tuple[ServerStatus, ...]]:
        """Return the leader, and the statuses received until it was certain; `known` is that of `leader_of`."""
        statuses = await self._collect(until_leader_is_certain=True)
        return leader_of(statuses, known), statuses

    async def _collect(self, *, until_leader_is_certain: bool) -> tuple[ServerStatus, ...]:
        collector = _StatusCollector(len(self.servers), self._clock, until_leader_is_certain)
        calls = [Deferred.fromCoroutine(self._status(server)) for server in self.servers]
        for call in calls:
            call.addCallbacks(collector.add, collector.fail)
        try:
            await collector.done
        finally:
            collector.cancel_wait()
            for call in calls:
                call.cancel()
        return tuple(sorted(collector.statuses, key=lambda status: self.servers.index(status.server)))

    async def _status(self, server: IOnedProxy) -> ServerStatus:
        """Return the status of a server, trying the form of token first that it accepted last."""
        status = ServerStatus(server)
        sessions = self._sessions()
        first = self._accepted_forms.get(server, 0)
        for form in (first, *(other for other in range(len(sessions)) if other != first)):
            status, is_accepted = await self._status_in(server, sessions[form])
            if is_accepted:
                self._accepted_forms[server] = form
            if is_accepted or not status.is_reachable:
                break
        return status

    async def _status_in(self, server: IOnedProxy, session: str) -> tuple[ServerStatus, bool]:
        """Return the status of a server, and whether it accepted the session."""
        try:
            body = await server.callRemote(RAFT_STATUS_METHOD, session).addTimeout(STATUS_TIMEOUT, self._clock)
            raft = parse_raft_status(parse_document(RAFT_STATUS_METHOD, body))
        except DeferredTimeout:
            return ServerStatus(server, error=f"no reply within {STATUS_TIMEOUT:g} s", is_silent=True), False
        except OpenNebulaRefusal as refusal:
            status = ServerStatus(server, error=f"{refusal.reason} ({refusal.code})", is_reachable=True)
            return status, refusal.code != OpenNebulaCode.AUTHENTICATION
        except OpenNebulaError as error:
            return ServerStatus(server, error=error.reason), False
        return ServerStatus(server, raft, is_reachable=True), True


class _StatusCollector:
    """Collects statuses. `done` fires when all servers have replied or, if requested, when the leader is certain."""

    def __init__(self, servers: int, clock: IReactorTime, until_leader_is_certain: bool) -> None:
        self.statuses: list[ServerStatus] = []
        self.done: Deferred[None] = Deferred()
        self._servers = servers
        self._clock = clock
        self._until_leader_is_certain = until_leader_is_certain
        self._wait: IDelayedCall | None = None

    def add(self, status: ServerStatus) -> None:
        self.statuses.append(status)
        if len(self.statuses) == self._servers:
            self._finish()
        elif self._until_leader_is_certain and self._has_leader():
            if len(self.statuses) > self._servers // 2:
                self._finish()
            elif self._wait is None:
                self._wait = self._clock.callLater(CONTRADICTION_WAIT, self._finish)

    def fail(self, failure: Failure) -> None:
        """Fail on an unexpected error; after `done` has fired, errors are those of cancelled calls."""
        if not self.done.called:
            self.done.errback(failure)

    def cancel_wait(self) -> None:
        if self._wait is not None and self._wait.active():
            self._wait.cancel()

    def _has_leader(self) -> bool:
        is_claimed = any(status.raft is not None and status.raft.state is RaftState.LEADER for status in self.statuses)
        return is_claimed and leader_of(self.statuses) is not None

    def _finish(self) -> None:
        if not self.done.called:
            self.done.callback(None)


def leader_of(statuses: Sequence[ServerStatus], known: RaftLeader | None = None) -> RaftLeader | None:
    """Return the leader according to these statuses; None if there is none.

    It is the server that was elected last, unless a follower reports a later election. Without an HA zone it is the
    first server in state SOLO. If there is none and the `known` leader is silent, it remains the leader: it may
    only be busy. If no server returned its status, it is the first reachable server: its refusal of the
    call tells the caller more than a timeout.
    """
    rafts = [(status.server, status.raft) for status in statuses if status.raft is not None]
    leaders = [RaftLeader(server, raft.term) for server, raft in rafts if raft.state is RaftState.LEADER]
    if leaders:
        latest = max(leaders, key=lambda leader: leader.term)
        is_deposed = any(raft.state is RaftState.FOLLOWER and raft.term > latest.term for _, raft in rafts)
        return None if is_deposed else latest
    solo = next((RaftLeader(server, raft.term) for server, raft in rafts if raft.state is RaftState.SOLO), None)
    if solo is not None:
        return solo
    if known is not None and any(status.server is known.server and status.is_silent for status in statuses):
        return known
    if rafts:
        return None
    return next((RaftLeader(status.server, 0) for status in statuses if status.is_reachable), None)
