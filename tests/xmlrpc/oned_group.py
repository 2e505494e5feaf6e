"""A client of several oneds whose states and replies the test sets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel
from twisted.python.failure import Failure
from zope.interface import implementer

from econed.errors import OpenNebulaError, OpenNebulaUnavailable
from econed.interfaces import IOnedProxy
from econed.opennebula.raft import RAFT_STATUS_METHOD, RaftState
from econed.xmlrpc.failover import FailoverProxy, LeaderTracker
from econed.xmlrpc.leader import ServerGroup
from tests.support.oned_stubs import reply

READ, WRITE = "one.vm.info", "one.vm.action"
SESSIONS = ("serveradmin token", "serveradmin token of the other form")
DONE = reply(True, 7, 0)
UNKNOWN_USER = reply(False, "[one.zone.raftstatus] User couldn't be authenticated, aborting call.", 256, -1, -1)
LEADER, FOLLOWER, CANDIDATE, SOLO = RaftState.LEADER, RaftState.FOLLOWER, RaftState.CANDIDATE, RaftState.SOLO

Reply = bytes | OpenNebulaError | None


@implementer(IOnedProxy)
@dataclass(eq=False)
class ServerStub:
    """A server in the state that the test sets.

    `replies` has the reply to each call in turn, the last for all further calls; None is no reply.
    `before_reply` is called with the method of each call.
    """

    url: str
    state: RaftState | None = FOLLOWER
    term: int = 1
    replies: list[Reply] = field(default_factory=lambda: [DONE])
    status: Reply = None
    is_silent: bool = False
    accepted_session: str = SESSIONS[0]
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    sent: list[tuple[object, Reply]] = field(default_factory=list)
    status_calls: list[str] = field(default_factory=list)
    open_calls: list[tuple[str, Deferred[bytes]]] = field(default_factory=list)
    before_reply: Callable[[str], None] = lambda method: None

    def callRemote(self, method: str, session: str, *args: object) -> Deferred[bytes]:
        """Reply at once or not at all."""
        if method == RAFT_STATUS_METHOD:
            self.status_calls.append(session)
            return self._fired(method, self._status(session))
        self.calls.append((method, session, *args))
        self.before_reply(method)
        next_reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        self.sent.append((args[-1] if args else None, next_reply))
        return self._fired(method, next_reply)

    def _status(self, session: str) -> Reply:
        if self.is_silent:
            return None
        if self.status is not None:
            return self.status
        if session != self.accepted_session:
            return UNKNOWN_USER
        if self.state is None:
            return refused_connection(RAFT_STATUS_METHOD)
        return reply(True, f"<RAFT><STATE>{self.state.value}</STATE><TERM>{self.term}</TERM></RAFT>", 0)

    def _fired(self, method: str, result: Reply) -> Deferred[bytes]:
        deferred: Deferred[bytes] = Deferred()
        if isinstance(result, bytes):
            deferred.callback(result)
        elif result is not None:
            deferred.errback(Failure(result))
        else:
            self.open_calls.append((method, deferred))
        return deferred

    def stop(self) -> None:
        """Refuse connections from now on."""
        self.state, self.replies = None, [refused_connection(WRITE)]


def refused_connection(method: str) -> OpenNebulaUnavailable:
    return OpenNebulaUnavailable(method, "connection refused", never_sent=True)


def lost_connection() -> OpenNebulaUnavailable:
    return OpenNebulaUnavailable(WRITE, "the connection was lost")


def refused(text: str, code: int = 8192) -> bytes:
    return reply(False, text, code, -1, -1)


@implementer(ILogObserver)
class RecordedLog:
    """Records what is logged."""

    def __init__(self) -> None:
        self.lines: list[tuple[LogLevel, str]] = []

    def __call__(self, event: LogEvent) -> None:
        """Record an event."""
        self.lines.append((event["log_level"], event["log_format"].format(**event)))


class GroupHarness:
    """A client of the servers a, b, c (or more). By default a is the leader."""

    def __init__(self, *states: RaftState | None) -> None:
        states = states or (LEADER, FOLLOWER, FOLLOWER)
        self.clock = Clock()
        self.servers = [ServerStub(f"http://{name}/RPC2", state) for name, state in zip("abcde", states, strict=False)]
        self.group = ServerGroup(self.servers, lambda: SESSIONS, self.clock)
        self.log = RecordedLog()
        self.tracker = LeaderTracker(self.group, self.clock, lambda: 1.0, Logger("econed", observer=self.log))
        self.client = FailoverProxy(self.group, self.tracker, self.clock)

    def start(self, method: str = READ, number: int = 1) -> list[Any]:
        """Start a call; its result or error is in the returned list when it has ended."""
        return self.results(self.client.callRemote(method, "alice", number))

    def results(self, work: Deferred[Any]) -> list[Any]:
        results: list[Any] = []
        work.addBoth(lambda result: results.append(result.value if isinstance(result, Failure) else result))
        return results

    def advance(self, seconds: float, step: float = 0.05) -> None:
        """Advance the clock in small steps."""
        self.clock.pump([step] * round(seconds / step))

    def elect(self, leader: ServerStub, term: int = 2) -> None:
        """Make a server the leader, and the other running ones followers."""
        for server in self.servers:
            if server.state is not None:
                server.state, server.term = FOLLOWER, term
        leader.state, leader.term = LEADER, term

    def calls(self) -> list[list[str]]:
        """Return the methods called on each server."""
        return [[call[0] for call in server.calls] for server in self.servers]
