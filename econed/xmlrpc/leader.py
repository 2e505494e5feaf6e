"""Which oned leads: the servers of a zone, asked all at once how they stand (`one.zone.raftstatus`)."""

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

TO_ANSWER: Final = 3.0
"""Seconds that a server has to say how it stands; at its first token it may have to start a driver for it."""

GRACE: Final = 0.25
"""Seconds that the others have to contradict one who says that it leads, where most have not answered yet."""


@dataclass(frozen=True)
class Standing:
    """How one server stands. `raft` is None where it does not say; then `trouble` says in words why.

    `is_silent`: no answer in time. `is_there`: it answers, be it with a refusal.
    """

    server: IOnedProxy
    raft: RaftStatus | None = None
    trouble: str = ""
    is_silent: bool = False
    is_there: bool = False

    def __str__(self) -> str:
        return f"{self.server.url}: {self.raft.state.name.lower() if self.raft else self.trouble}"


@dataclass(frozen=True)
class Leader:
    """The server to which calls go, and since which election."""

    server: IOnedProxy
    term: int


class Zone:
    """The servers of one zone."""

    def __init__(
        self, servers: Sequence[IOnedProxy], sessions: Callable[[], Sequence[str]], clock: IReactorTime
    ) -> None:
        """Ask `servers` in one of `sessions`: serveradmin's, a token of each form that oned may take."""
        self.servers = tuple(servers)
        self._sessions = sessions
        self._clock = clock
        self._taken: dict[IOnedProxy, int] = {}

    async def standings(self) -> tuple[Standing, ...]:
        """Return how all servers stand, after `TO_ANSWER` seconds at most for each token that is tried."""
        return await self._asked(in_hurry=False)

    async def leader(self, known: Leader | None = None) -> tuple[Leader | None, tuple[Standing, ...]]:
        """Return who leads, and what was heard until that was certain; `known` is who led, as in `leader_of`."""
        heard = await self._asked(in_hurry=True)
        return leader_of(heard, known), heard

    async def _asked(self, in_hurry: bool) -> tuple[Standing, ...]:
        gathering = _Gathering(len(self.servers), self._clock, in_hurry)
        asked = [Deferred.fromCoroutine(self._ask(server)) for server in self.servers]
        for each in asked:
            each.addCallbacks(gathering.hear, gathering.fail)
        try:
            await gathering.enough
        finally:
            gathering.end()
            for each in asked:
                each.cancel()
        return tuple(sorted(gathering.heard, key=lambda standing: self.servers.index(standing.server)))

    async def _ask(self, server: IOnedProxy) -> Standing:
        standing = Standing(server)
        sessions = self._sessions()
        first = self._taken.get(server, 0)
        for number in (first, *(each for each in range(len(sessions)) if each != first)):
            standing, is_taken = await self._ask_in(server, sessions[number])
            if is_taken:
                self._taken[server] = number
            if is_taken or not standing.is_there:
                break
        return standing

    async def _ask_in(self, server: IOnedProxy, session: str) -> tuple[Standing, bool]:
        """Return how a server stands, and whether it took the session."""
        try:
            body = await server.callRemote(RAFT_STATUS_METHOD, session).addTimeout(TO_ANSWER, self._clock)
            raft = parse_raft_status(parse_document(RAFT_STATUS_METHOD, body))
        except DeferredTimeout:
            return Standing(server, trouble=f"no answer within {TO_ANSWER:g} s", is_silent=True), False
        except OpenNebulaRefusal as refusal:
            standing = Standing(server, trouble=f"{refusal.reason} ({refusal.code})", is_there=True)
            return standing, refusal.code != OpenNebulaCode.AUTHENTICATION
        except OpenNebulaError as error:
            return Standing(server, trouble=error.reason), False
        return Standing(server, raft, is_there=True), True


class _Gathering:
    """What has been heard, until it is enough."""

    def __init__(self, most: int, clock: IReactorTime, in_hurry: bool) -> None:
        self.heard: list[Standing] = []
        self.enough: Deferred[None] = Deferred()
        self._most = most
        self._clock = clock
        self._in_hurry = in_hurry
        self._grace: IDelayedCall | None = None

    def hear(self, standing: Standing) -> None:
        self.heard.append(standing)
        if len(self.heard) == self._most:
            self._finish()
        elif self._in_hurry and self._has_leader():
            if len(self.heard) > self._most // 2:
                self._finish()
            elif self._grace is None:
                self._grace = self._clock.callLater(GRACE, self._finish)

    def fail(self, failure: Failure) -> None:
        """Pass on what should not have happened; once it is enough, servers are no longer waited for."""
        if not self.enough.called:
            self.enough.errback(failure)

    def end(self) -> None:
        if self._grace is not None and self._grace.active():
            self._grace.cancel()

    def _has_leader(self) -> bool:
        leads = any(each.raft is not None and each.raft.state is RaftState.LEADER for each in self.heard)
        return leads and leader_of(self.heard) is not None

    def _finish(self) -> None:
        if not self.enough.called:
            self.enough.callback(None)


def leader_of(standings: Sequence[Standing], known: Leader | None = None) -> Leader | None:
    """Return who leads; None while nobody does.

    Who was elected last, unless a follower knows of a later election. Without an HA zone, the first that is alone. If
    nobody leads and the one `known` to lead is silent, it goes on: it may be busy, and calls will show. If no server
    says how it stands, the first that answers: its refusal of the call says more than silence.
    """
    said = [(standing.server, standing.raft) for standing in standings if standing.raft is not None]
    leaders = [Leader(server, raft.term) for server, raft in said if raft.state is RaftState.LEADER]
    if leaders:
        last = max(leaders, key=lambda leader: leader.term)
        later = any(raft.state is RaftState.FOLLOWER and raft.term > last.term for _, raft in said)
        return None if later else last
    alone = next((Leader(server, raft.term) for server, raft in said if raft.state is RaftState.SOLO), None)
    if alone is not None:
        return alone
    if known is not None and any(each.server is known.server and each.is_silent for each in standings):
        return known
    if said:
        return None
    return next((Leader(each.server, 0) for each in standings if each.is_there), None)
