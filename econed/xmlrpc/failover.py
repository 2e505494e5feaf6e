"""Failover between the oned servers of a zone: calls go to the leader, and to the new leader when it fails.

A call is repeated only where that is safe: a reading call always, a changing call only if it certainly never started.
The caller sets the deadline of a call, by cancelling it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from econed.errors import OpenNebulaUnavailable
from econed.interfaces import IOnedProxy
from econed.opennebula.methods import is_read_only
from econed.opennebula.raft import AMBIGUOUS_CODES, was_not_started
from econed.opennebula.replies import parse_refusal
from econed.single_flight import SingleFlight
from econed.xmlrpc.leader import RaftLeader, ServerGroup, ServerStatus

CONNECT_TIMEOUT: Final = 2.0
"""Timeout in seconds for a connection to one of several servers."""

FRESH_FOR: Final = 3.0
"""Seconds for which a known leader is used without a new lookup; a deposed leader still serves reads, with old data."""

STALE_AFTER: Final = 15.0
"""Seconds after which a call waits for the lookup, which otherwise runs in the background."""

WATCH_INTERVAL: Final = 3.0
"""Seconds between two lookups of the leader while a call has no reply, to notice that its server was replaced."""

_MIN_PAUSE: Final = 0.2
_MAX_PAUSE: Final = 2.0


class LeaderTracker:
    """The current leader of a group, looked up when needed. Concurrent callers share one lookup."""

    def __init__(self, group: ServerGroup, clock: IReactorTime, jitter: Callable[[], float], log: Logger) -> None:
        """Track the leader of `group`. `jitter` (0 to 1) spreads the pauses of many processes; changes are logged."""
        self._group = group
        self._clock = clock
        self._jitter = jitter
        self._log = log
        self._leader: RaftLeader | None = None
        self._looked_up_at = 0.0
        self._logged_server: IOnedProxy | None = None
        self._was_missing = False
        self._search = SingleFlight(self._find)
        self._refresh = SingleFlight(self.look_up)

    async def leader(self) -> RaftLeader:
        """Return the leader; waits until there is one."""
        leader = self._leader
        if leader is None or self._age > STALE_AFTER:
            return await self._search.join()
        if self._age > FRESH_FOR and not self._refresh.is_running:
            self._refresh.join()  # in the background
        return self._leader or leader

    async def recent_leader(self) -> RaftLeader | None:
        """Return the leader, at most `FRESH_FOR` seconds old; None if there is none."""
        if self._leader is not None and self._age <= FRESH_FOR:
            return self._leader
        return await self._refresh.join()

    def invalidate(self, leader: RaftLeader) -> None:
        """Forget this leader: it did not act as a leader."""
        if self._leader == leader:
            self._leader = None

    async def look_up(self) -> RaftLeader | None:
        """Look up the leader now, in a lookup that is not shared; return None if there is none."""
        leader, statuses = await self._group.leader(self._leader)
        self._record(leader, statuses)
        return leader

    async def pause(self, attempt: int) -> None:
        """Wait before the next attempt: exponential backoff with jitter."""
        longest = min(_MAX_PAUSE, _MIN_PAUSE * 2**attempt)
        await deferLater(self._clock, longest * (1 + self._jitter()) / 2)

    @property
    def _age(self) -> float:
        return self._clock.seconds() - self._looked_up_at

    async def _find(self) -> RaftLeader:
        attempt = 0
        while (leader := await self.look_up()) is None:
            await self.pause(min(attempt, 10))
            attempt += 1
        return leader

    def _record(self, leader: RaftLeader | None, statuses: Sequence[ServerStatus]) -> None:
        self._leader, self._looked_up_at = leader, self._clock.seconds()
        if leader is None:
            if not self._was_missing:
                self._log.warn("no oned leads: {standings}", standings="; ".join(map(str, statuses)))
            self._was_missing = True
            return
        if self._logged_server is None:
            self._log.info("oned at {url} leads", url=leader.server.url)
        elif leader.server is not self._logged_server:
            self._log.warn("oned at {url} leads now, not {old}", url=leader.server.url, old=self._logged_server.url)
        elif self._was_missing:
            self._log.warn("oned at {url} leads again", url=leader.server.url)
        self._logged_server, self._was_missing = leader.server, False


@implementer(IOnedProxy)
class FailoverProxy:
    """The servers of a group as one proxy (`IOnedProxy`)."""

    def __init__(self, group: ServerGroup, tracker: LeaderTracker, clock: IReactorTime) -> None:
        """Call the leader of `group`, which `tracker` looks up."""
        self.url = ", ".join(server.url for server in group.servers)
        self._tracker = tracker
        self._clock = clock

    def callRemote(self, method: str, session: str, *args: object) -> Deferred[bytes]:
        """Call `method` on the leader (`IOnedProxy.callRemote`).

        Waits for a leader until cancelled. A reading call fails only with `InvalidReply`, a changing call also with
        `OpenNebulaUnavailable` if it may have been started.
        """
        return Deferred.fromCoroutine(self._call(method, session, args))

    async def _call(self, method: str, session: str, args: tuple[object, ...]) -> bytes:
        attempts = _Attempts(self._tracker)
        while True:
            leader = await attempts.next_leader()
            try:
                body = await self._call_while_leading(leader, method, session, args)
            except OpenNebulaUnavailable as error:
                self._tracker.invalidate(leader)
                if error.never_sent or is_read_only(method):
                    continue
                raise
            if not await self._must_repeat(leader, method, body):
                return body

    async def _must_repeat(self, leader: RaftLeader, method: str, body: bytes) -> bool:
        """Whether a reply is a refusal because of the server's Raft state.

        Raises `OpenNebulaUnavailable` if a changing call may have been carried out in part.
        """
        refusal = parse_refusal(method, body)
        if refusal is None or refusal.code not in AMBIGUOUS_CODES:
            return False
        if was_not_started(refusal):
            self._tracker.invalidate(leader)
            return True
        if await self._tracker.look_up() == leader:
            return False
        if is_read_only(method):
            return True
        reason = f"{leader.server.url} is no longer the leader, and refused: {refusal.reason}"
        raise OpenNebulaUnavailable(method, reason)

    async def _call_while_leading(
        self, leader: RaftLeader, method: str, session: str, args: tuple[object, ...]
    ) -> bytes:
        """Call the leader, and cancel the call when another server is elected: a host without power never closes it."""
        reply = leader.server.callRemote(method, session, *args)
        successors: list[RaftLeader] = []

        def cancel(successor: RaftLeader) -> None:
            successors.append(successor)
            reply.cancel()

        watch = Deferred.fromCoroutine(self._successor(leader))
        watch.addCallbacks(cancel, _trap_cancelled)
        try:
            return await reply
        except CancelledError:
            if not successors:
                raise
            reason = f"no reply from {leader.server.url}, and {successors[0].server.url} leads now"
            raise OpenNebulaUnavailable(method, reason) from None
        finally:
            watch.cancel()

    async def _successor(self, leader: RaftLeader) -> RaftLeader:
        """Return the leader on another server, when there is one."""
        while True:
            await deferLater(self._clock, WATCH_INTERVAL)
            current = await self._tracker.recent_leader()
            if current is not None and current.server is not leader.server:
                return current


class _Attempts:
    """The attempts of one call: a new leader is called immediately, the same leader only after a pause."""

    def __init__(self, tracker: LeaderTracker) -> None:
        self._tracker = tracker
        self._last_leader: RaftLeader | None = None
        self._pauses: Iterator[int] = iter(range(10))

    async def next_leader(self) -> RaftLeader:
        leader = await self._tracker.leader()
        if leader == self._last_leader:
            await self._tracker.pause(next(self._pauses, 10))
            leader = await self._tracker.leader()
        self._last_leader = leader
        return leader


def _trap_cancelled(failure: Failure) -> None:
    failure.trap(CancelledError)


def proxy_for(group: ServerGroup, clock: IReactorTime, jitter: Callable[[], float], log: Logger) -> IOnedProxy:
    """Return the proxy of a group's only server, or a proxy with failover for several servers."""
    if len(group.servers) == 1:
        return group.servers[0]
    return FailoverProxy(group, LeaderTracker(group, clock, jitter, log), clock)
