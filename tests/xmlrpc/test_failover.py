"""Failover between oneds: calls go to the leader; when it fails, reads succeed and no change is made twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

from econed.errors import InvalidReply, OpenNebulaError, OpenNebulaUnavailable
from econed.interfaces import IOnedProxy
from econed.opennebula.raft import RAFT_STATUS_METHOD, RaftState, RaftStatus
from econed.xmlrpc.failover import FRESH_FOR, STALE_AFTER, WATCH_INTERVAL, FailoverProxy, LeaderTracker, proxy_for
from econed.xmlrpc.leader import CONTRADICTION_WAIT, STATUS_TIMEOUT, RaftLeader, ServerGroup, ServerStatus, leader_of
from tests.support.oned_stubs import reply

READ, WRITE = "one.vm.info", "one.vm.action"
SESSIONS = ("serveradmin token", "serveradmin token of the other form")
DONE = reply(True, 7, 0)
UNKNOWN = reply(False, "[one.zone.raftstatus] User couldn't be authenticated, aborting call.", 256, -1, -1)
LEADER, FOLLOWER, CANDIDATE, SOLO = RaftState.LEADER, RaftState.FOLLOWER, RaftState.CANDIDATE, RaftState.SOLO
ELECTION = "[one.vm.action] Cannot process request, oned cluster in election mode"
RECONCILING = "[one.vm.action] Cannot process request, oned cluster is replicating log"
NO_LEADER = "[one.vm.action] Cannot process request, no leader found"

Reply = bytes | OpenNebulaError | None


@implementer(IOnedProxy)
@dataclass(eq=False)
class OnedStub:
    """A server in the state that the test sets.

    `replies` are sent one a call, the last one repeatedly; None is no reply. `before_reply` is called with the method
    of each call.
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
            return UNKNOWN
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
class Log:
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
        self.servers = [OnedStub(f"http://{name}/RPC2", state) for name, state in zip("abcde", states, strict=False)]
        self.group = ServerGroup(self.servers, lambda: SESSIONS, self.clock)
        self.log = Log()
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

    def elect(self, leader: OnedStub, term: int = 2) -> None:
        """Make a server the leader, and the other running ones followers."""
        for server in self.servers:
            if server.state is not None:
                server.state, server.term = FOLLOWER, term
        leader.state, leader.term = LEADER, term

    def calls(self) -> list[list[str]]:
        """Return the methods called on each server."""
        return [[call[0] for call in server.calls] for server in self.servers]


# The leader by the statuses


def status_of(server: OnedStub, state: RaftState | None, term: int = 1, **more: Any) -> ServerStatus:
    return ServerStatus(server, None if state is None else RaftStatus(state, term), **more)


A, B, C = (OnedStub(f"http://{name}/RPC2") for name in "abc")


@pytest.mark.parametrize(
    ("statuses", "known", "expected"),
    [
        ((status_of(A, FOLLOWER), status_of(B, LEADER)), None, RaftLeader(B, 1)),
        ((status_of(A, LEADER, 3), status_of(B, LEADER, 4)), None, RaftLeader(B, 4)),
        ((status_of(A, LEADER, 3), status_of(B, FOLLOWER, 4)), None, None),
        ((status_of(A, LEADER, 3), status_of(B, CANDIDATE, 4)), None, RaftLeader(A, 3)),
        ((status_of(A, FOLLOWER), status_of(B, CANDIDATE)), None, None),
        ((status_of(A, None), status_of(B, SOLO, 0)), None, RaftLeader(B, 0)),
        ((status_of(A, SOLO, 0), status_of(B, LEADER)), None, RaftLeader(B, 1)),
        ((status_of(A, None, is_silent=True), status_of(B, FOLLOWER)), RaftLeader(A, 1), RaftLeader(A, 1)),
        ((status_of(A, None), status_of(B, FOLLOWER)), RaftLeader(A, 1), None),
        ((status_of(A, None, is_silent=True), status_of(B, LEADER, 2)), RaftLeader(A, 1), RaftLeader(B, 2)),
        ((status_of(A, None), status_of(B, None, is_reachable=True)), None, RaftLeader(B, 0)),
        ((status_of(A, FOLLOWER), status_of(B, None, is_reachable=True)), None, None),
        ((status_of(A, None), status_of(B, None)), None, None),
    ],
)
def test_the_leader_is_the_server_elected_last(
    statuses: Sequence[ServerStatus], known: RaftLeader | None, expected: RaftLeader | None
) -> None:
    """Unless a follower knows of a later election. A candidate with a higher term may be cut off from the others."""
    assert leader_of(statuses, known) == expected


# Without failures


def test_it_provides_the_interface_of_a_single_server() -> None:
    harness = GroupHarness()
    assert verifyObject(IOnedProxy, harness.client)
    assert verifyObject(IOnedProxy, harness.servers[0])
    assert harness.client.url == "http://a/RPC2, http://b/RPC2, http://c/RPC2"


def test_with_one_url_there_is_no_failover() -> None:
    harness = GroupHarness(LEADER)
    assert proxy_for(harness.group, harness.clock, lambda: 1.0, Logger("x")) is harness.servers[0]


def test_calls_go_to_the_leader_with_their_session_and_arguments() -> None:
    harness = GroupHarness(FOLLOWER, LEADER, FOLLOWER)
    assert harness.start(READ) == [DONE]
    assert harness.start(WRITE) == [DONE]
    assert [server.calls for server in harness.servers] == [[], [(READ, "alice", 1), (WRITE, "alice", 1)], []]
    assert [len(server.status_calls) for server in harness.servers][1] == 1, "one lookup for both calls"
    assert harness.log.lines == [(LogLevel.info, "oned at http://b/RPC2 leads")]


def test_statuses_are_read_as_serveradmin_with_the_form_of_token_that_each_server_accepts() -> None:
    """Other users may not read them. During an upgrade the servers accept different forms."""
    harness = GroupHarness()
    harness.servers[2].accepted_session = SESSIONS[1]
    first = harness.results(Deferred.fromCoroutine(harness.group.statuses()))
    assert [str(status) for status in first[0]] == [
        "http://a/RPC2: leader",
        "http://b/RPC2: follower",
        "http://c/RPC2: follower",
    ]
    harness.results(Deferred.fromCoroutine(harness.group.statuses()))
    assert [server.status_calls for server in harness.servers] == [
        [SESSIONS[0]] * 2,
        [SESSIONS[0]] * 2,
        [*SESSIONS, SESSIONS[1]],
    ]


def test_one_silent_server_does_not_delay_calls_when_a_majority_has_replied() -> None:
    harness = GroupHarness(FOLLOWER, LEADER, FOLLOWER)
    harness.servers[0].is_silent = True
    assert harness.start() == [DONE]
    assert not harness.clock.getDelayedCalls()


def test_of_two_servers_a_silent_one_is_waited_for_shortly() -> None:
    """It may know of a later election."""
    harness = GroupHarness(LEADER, FOLLOWER)
    harness.servers[1].is_silent = True
    results = harness.start()
    assert results == []
    harness.clock.advance(CONTRADICTION_WAIT)
    assert results == [DONE]


def test_concurrent_calls_share_one_lookup() -> None:
    harness = GroupHarness()
    harness.servers[0].is_silent = harness.servers[1].is_silent = True
    results = [harness.start() for _ in range(5)]
    harness.clock.advance(STATUS_TIMEOUT / 2)
    assert [len(server.status_calls) for server in harness.servers] == [1, 1, 1]
    for server in harness.servers[:2]:
        server.is_silent = False
    harness.advance(STATUS_TIMEOUT * 2)
    assert results == [[DONE]] * 5


def test_wrong_credentials_are_a_refusal() -> None:
    """The call is made although no status could be read: its refusal says more than a timeout."""
    harness = GroupHarness()
    for server in harness.servers:
        server.accepted_session, server.replies = "another token", [refused("no", 256)]
    assert harness.start() == [refused("no", 256)]


def test_a_deposed_leader_is_noticed_in_the_background() -> None:
    """It answers reads from an outdated database."""
    harness = GroupHarness()
    harness.start()
    harness.elect(harness.servers[1])
    for server in harness.servers:
        server.is_silent = True
    harness.clock.advance(FRESH_FOR + 0.1)
    assert harness.start() == [DONE], "without a delay"
    (_, status_call) = harness.servers[1].open_calls.pop()
    status_call.callback(reply(True, "<RAFT><STATE>3</STATE><TERM>2</TERM></RAFT>", 0))
    harness.clock.advance(CONTRADICTION_WAIT)
    assert harness.start() == [DONE]
    assert harness.calls() == [[READ, READ], [READ], []]
    assert harness.log.lines[1:] == [(LogLevel.warn, "oned at http://b/RPC2 leads now, not http://a/RPC2")]


def test_after_a_long_time_without_calls_the_leader_is_looked_up_before_the_call() -> None:
    harness = GroupHarness()
    harness.start()
    harness.elect(harness.servers[1])
    harness.clock.advance(STALE_AFTER + 0.1)
    harness.start()
    assert harness.calls() == [[READ], [READ], []]


def test_a_known_leader_that_is_too_busy_to_return_its_status_is_still_called() -> None:
    harness = GroupHarness()
    harness.start()
    harness.servers[0].is_silent = True
    harness.clock.advance(STALE_AFTER + 0.1)
    results = harness.start()
    harness.advance(STATUS_TIMEOUT + 0.1)
    assert results == [DONE]
    assert harness.calls() == [[READ, READ], [], []]


# Failover


@pytest.mark.parametrize("method", [READ, WRITE])
def test_a_call_that_was_never_sent_goes_to_the_new_leader(method: str) -> None:
    harness = GroupHarness()
    harness.start()
    harness.servers[0].stop()
    harness.elect(harness.servers[1])
    harness.servers[0].state = None
    assert harness.start(method) == [DONE]
    assert harness.calls()[1] == [method]


def test_a_read_whose_connection_is_lost_is_repeated_on_the_new_leader() -> None:
    harness = GroupHarness()
    harness.start()
    harness.servers[0].replies = [lost_connection()]
    harness.elect(harness.servers[2])
    harness.servers[0].state = None
    assert harness.start(READ) == [DONE]
    assert harness.calls() == [[READ, READ], [], [READ]]


def test_a_change_whose_connection_is_lost_is_not_repeated_and_raises_unavailable() -> None:
    harness = GroupHarness()
    harness.start()
    harness.servers[0].replies = [lost_connection()]
    harness.elect(harness.servers[2])
    (error,) = harness.start(WRITE)
    assert isinstance(error, OpenNebulaUnavailable)
    assert harness.calls() == [[READ, WRITE], [], []]
    assert harness.start(WRITE) == [DONE], "the next call goes to the new leader at once"
    assert harness.calls()[2] == [WRITE]


@pytest.mark.parametrize("method", [READ, WRITE])
def test_calls_wait_while_there_is_no_leader_and_look_it_up_with_pauses(method: str) -> None:
    harness = GroupHarness()
    harness.start()
    harness.servers[0].stop()
    harness.servers[1].state = harness.servers[2].state = CANDIDATE
    results = harness.start(method)
    harness.advance(8)
    assert results == []
    assert 5 <= len(harness.servers[1].status_calls) - 1 <= 10, "with pauses"
    harness.elect(harness.servers[1])
    harness.advance(2.1)
    assert results == [DONE]
    assert [line for _, line in harness.log.lines] == [
        "oned at http://a/RPC2 leads",
        "no oned leads: http://a/RPC2: connection refused; http://b/RPC2: candidate; http://c/RPC2: candidate",
        "oned at http://b/RPC2 leads now, not http://a/RPC2",
    ]


@pytest.mark.parametrize("method", [READ, WRITE])
def test_with_all_servers_down_a_call_ends_when_it_is_cancelled(method: str) -> None:
    harness = GroupHarness(None, None, None)
    work = harness.client.callRemote(method, "alice")
    results = harness.results(work)
    harness.advance(30)
    assert results == []
    work.cancel()
    assert isinstance(results[0], CancelledError)
    assert harness.clock.getDelayedCalls() == [], "the lookups have results"
    assert len(harness.log.lines) == 1


@pytest.mark.parametrize("text", [ELECTION, RECONCILING, NO_LEADER])
def test_a_call_that_was_refused_before_it_began_is_repeated_on_the_new_leader(text: str) -> None:
    harness = GroupHarness()
    harness.start()
    harness.servers[0].replies = [refused(text)]
    harness.elect(harness.servers[1])
    assert harness.start(WRITE) == [DONE]
    assert harness.calls() == [[READ, WRITE], [WRITE], []]


def test_a_leader_that_still_replicates_its_log_is_called_again_after_a_pause() -> None:
    """By its status it is the leader; only the text of the refusal says that it is not ready."""
    harness = GroupHarness()
    harness.servers[0].replies = [refused(RECONCILING), refused(RECONCILING), DONE]
    results = harness.start(WRITE)
    assert harness.calls()[0] == [WRITE]
    harness.advance(2)
    assert results == [DONE]
    assert harness.calls()[0] == [WRITE] * 3


def test_an_internal_error_of_the_leader_is_returned() -> None:
    """Invalid attributes and addresses in use have the same code."""
    harness = GroupHarness()
    harness.servers[0].replies = [refused("[one.vn.hold] Address is not free")]
    assert harness.start(WRITE) == [refused("[one.vn.hold] Address is not free")]
    assert harness.calls()[0] == [WRITE]


@pytest.mark.parametrize("code", [8192, 65536])
def test_an_internal_error_of_a_deposed_leader_for_a_change_raises_unavailable(code: int) -> None:
    """A follower returns it if it could not forward the call or got no reply; so part may have been done."""
    harness = GroupHarness()
    harness.start()
    harness.elect(harness.servers[1])
    harness.servers[0].replies = [refused("[one.vm.action] RPC call timed out and aborted", code)]
    (error,) = harness.start(WRITE)
    assert isinstance(error, OpenNebulaUnavailable)
    assert not error.never_sent
    assert harness.calls() == [[READ, WRITE], [], []]


def test_an_internal_error_for_a_change_across_two_elections_raises_unavailable() -> None:
    """The server is the leader again, but in another term."""
    harness = GroupHarness()
    harness.start()
    harness.servers[0].replies = [refused("[one.vm.action] Error updating the database")]
    harness.elect(harness.servers[0], term=3)
    (error,) = harness.start(WRITE)
    assert isinstance(error, OpenNebulaUnavailable)


def test_a_read_is_repeated_after_an_internal_error_of_a_deposed_leader() -> None:
    harness = GroupHarness()
    harness.start()
    harness.elect(harness.servers[1])
    harness.servers[0].replies = [refused("[one.system.version] RPC call timed out and aborted")]
    assert harness.start(READ) == [DONE]


def test_other_replies_of_a_follower_are_returned() -> None:
    """It forwards calls to the leader."""
    harness = GroupHarness()
    harness.start()
    harness.elect(harness.servers[1])
    harness.servers[0].replies = [refused("[one.vm.action] no", 2048)]
    assert harness.start(WRITE) == [refused("[one.vm.action] no", 2048)]
    assert harness.calls() == [[READ, WRITE], [], []]


def test_an_invalid_reply_is_not_a_reason_for_failover() -> None:
    harness = GroupHarness()
    harness.servers[0].replies = [InvalidReply(READ, "HTTP status 404")]
    (error,) = harness.start(READ)
    assert isinstance(error, InvalidReply)
    assert harness.calls()[0] == [READ]


# A leader without power


@pytest.mark.parametrize("method", [READ, WRITE])
def test_a_call_without_a_reply_is_cancelled_when_another_server_is_elected(method: str) -> None:
    """A machine without power closes no connection."""
    harness = GroupHarness()
    harness.start()
    harness.servers[0].replies, harness.servers[0].is_silent = [None], True
    results = harness.start(method)
    harness.elect(harness.servers[1])
    harness.servers[0].state = None
    harness.advance(2 * WATCH_INTERVAL + 0.5)
    if method == READ:
        assert results == [DONE]
    else:
        assert isinstance(results[0], OpenNebulaUnavailable)
        assert "http://b/RPC2 leads now" in str(results[0])
    assert harness.calls()[0] == [READ, method]
    ((_, call),) = [item for item in harness.servers[0].open_calls if item[0] == method]
    assert call.called, "the connection is closed"


def test_a_slow_call_is_not_cancelled_while_its_server_is_the_leader() -> None:
    harness = GroupHarness()
    harness.servers[0].replies = [None]
    results = harness.start(WRITE)
    harness.advance(20)
    assert results == []
    harness.servers[0].open_calls[0][1].callback(DONE)
    assert results == [DONE]
    assert harness.clock.getDelayedCalls() == [], "the watch has results"


def test_cancelling_cancels_the_call_in_flight() -> None:
    harness = GroupHarness()
    harness.servers[0].replies = [None]
    work = harness.client.callRemote(WRITE, "alice")
    results = harness.results(work)
    work.cancel()
    assert isinstance(results[0], CancelledError)
    assert harness.servers[0].open_calls[0][1].called
    assert harness.clock.getDelayedCalls() == []


# Recovery


def test_a_leader_that_is_elected_again_is_called_again() -> None:
    harness = GroupHarness()
    harness.start()
    harness.servers[0].stop()
    harness.servers[1].state = harness.servers[2].state = CANDIDATE
    results = harness.start(WRITE)
    harness.advance(3)
    harness.servers[0].replies = [DONE]
    harness.elect(harness.servers[0], term=2)
    harness.advance(3)
    assert results == [DONE]
    assert harness.log.lines[-1] == (LogLevel.warn, "oned at http://a/RPC2 leads again")


def test_a_leader_that_refuses_connections_is_called_with_pauses() -> None:
    harness = GroupHarness()
    harness.servers[0].replies = [refused_connection(WRITE)]
    work = harness.client.callRemote(WRITE, "alice")
    results = harness.results(work)
    harness.advance(20)
    assert results == []
    assert 8 <= len(harness.servers[0].calls) <= 20
    work.cancel()


def test_with_an_election_at_every_call_reads_succeed_and_no_change_is_made_twice() -> None:
    """Each call changes the leader, and loses its connection."""
    harness = GroupHarness()
    terms = iter(range(2, 1000))

    def change_leader(method: str) -> None:
        term = next(terms)
        if term % 3:
            harness.elect(harness.servers[term % 3], term)

    for server in harness.servers:
        server.before_reply = change_leader
        server.replies = [lost_connection(), DONE, refused(ELECTION), DONE] * 40
    results = [harness.start(WRITE if number % 2 else READ, number) for number in range(40)]
    harness.advance(60)
    assert [len(result) for result in results] == [1] * 40
    assert all(result == [DONE] for result in results[::2]), "reads"
    begun = [number for server in harness.servers for number, sent in server.sent if sent != refused(ELECTION)]
    for number in range(1, 40, 2):
        (result,) = results[number]
        assert begun.count(number) == 1, "each change is made once"
        assert result == DONE or (isinstance(result, OpenNebulaUnavailable) and not result.never_sent)
    assert {type(result[0]) for result in results[1::2]} == {bytes, OpenNebulaUnavailable}, "both happened"
