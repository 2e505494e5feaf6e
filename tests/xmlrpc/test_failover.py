"""Several oneds as one: whoever leads is called, and a fall of his costs reads nothing and writes no doubt."""

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
from econed.xmlrpc.failover import FRESH, STALE, WATCH, Leadership, OnedServers, as_one
from econed.xmlrpc.leader import GRACE, TO_ANSWER, Leader, Standing, Zone, leader_of
from tests.support.oned_stubs import reply

READ, WRITE = "one.vm.info", "one.vm.action"
SESSIONS = ("serveradmin token", "serveradmin token of the other form")
DONE = reply(True, 7, 0)
UNKNOWN = reply(False, "[one.zone.raftstatus] User couldn't be authenticated, aborting call.", 256, -1, -1)
LEADS, FOLLOWS, STANDS, ALONE = RaftState.LEADER, RaftState.FOLLOWER, RaftState.CANDIDATE, RaftState.SOLO
ELECTION = "[one.vm.action] Cannot process request, oned cluster in election mode"
RECONCILING = "[one.vm.action] Cannot process request, oned cluster is replicating log"
NO_LEADER = "[one.vm.action] Cannot process request, no leader found"

Answer = bytes | OpenNebulaError | None


@implementer(IOnedProxy)
@dataclass(eq=False)
class OnedStub:
    """A server as a test wants it. `answers` are used up one a call, the last stays; None is no answer at all."""

    url: str
    state: RaftState | None = FOLLOWS
    term: int = 1
    answers: list[Answer] = field(default_factory=lambda: [DONE])
    status: Answer = None
    is_deaf: bool = False
    takes: str = SESSIONS[0]
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    given: list[tuple[object, Answer]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    open: list[tuple[str, Deferred[bytes]]] = field(default_factory=list)
    before: Callable[[str], None] = lambda method: None

    def callRemote(self, method: str, session: str, *args: object) -> Deferred[bytes]:
        """Answer as told, at once or not at all."""
        if method == RAFT_STATUS_METHOD:
            self.asked.append(session)
            return self._settled(method, self._status(session))
        self.calls.append((method, session, *args))
        self.before(method)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.given.append((args[-1] if args else None, answer))
        return self._settled(method, answer)

    def _status(self, session: str) -> Answer:
        if self.is_deaf:
            return None
        if self.status is not None:
            return self.status
        if session != self.takes:
            return UNKNOWN
        if self.state is None:
            return refused_connection(RAFT_STATUS_METHOD)
        return reply(True, f"<RAFT><STATE>{self.state.value}</STATE><TERM>{self.term}</TERM></RAFT>", 0)

    def _settled(self, method: str, answer: Answer) -> Deferred[bytes]:
        answered: Deferred[bytes] = Deferred()
        if isinstance(answer, bytes):
            answered.callback(answer)
        elif answer is not None:
            answered.errback(Failure(answer))
        else:
            self.open.append((method, answered))
        return answered

    def dies(self) -> None:
        """Refuse connections from now on."""
        self.state, self.answers = None, [refused_connection(WRITE)]


def refused_connection(method: str) -> OpenNebulaUnavailable:
    return OpenNebulaUnavailable(method, "connection refused", never_sent=True)


def broken_off() -> OpenNebulaUnavailable:
    return OpenNebulaUnavailable(WRITE, "the connection broke off")


def refused(text: str, code: int = 8192) -> bytes:
    return reply(False, text, code, -1, -1)


@implementer(ILogObserver)
class Log:
    """What was logged."""

    def __init__(self) -> None:
        self.lines: list[tuple[LogLevel, str]] = []

    def __call__(self, event: LogEvent) -> None:
        """Keep it."""
        self.lines.append((event["log_level"], event["log_format"].format(**event)))


class ZoneHarness:
    """A zone of servers a, b, c (or more), a leading, and a client of it."""

    def __init__(self, *states: RaftState | None) -> None:
        states = states or (LEADS, FOLLOWS, FOLLOWS)
        self.clock = Clock()
        self.servers = [OnedStub(f"http://{name}/RPC2", state) for name, state in zip("abcde", states, strict=False)]
        self.zone = Zone(self.servers, lambda: SESSIONS, self.clock)
        self.log = Log()
        self.leadership = Leadership(self.zone, self.clock, lambda: 1.0, Logger("econed", observer=self.log))
        self.client = OnedServers(self.zone, self.leadership, self.clock)

    def start(self, method: str = READ, number: int = 1) -> list[Any]:
        """Make a call; what comes of it is in the list when it has come."""
        return self.results(self.client.callRemote(method, "alice", number))

    def results(self, work: Deferred[Any]) -> list[Any]:
        ended: list[Any] = []
        work.addBoth(lambda result: ended.append(result.value if isinstance(result, Failure) else result))
        return ended

    def pass_time(self, seconds: float, step: float = 0.05) -> None:
        """Let time pass in small steps."""
        self.clock.pump([step] * round(seconds / step))

    def elect(self, leader: OnedStub, term: int = 2) -> None:
        """Let a server lead and the other living ones follow."""
        for each in self.servers:
            if each.state is not None:
                each.state, each.term = FOLLOWS, term
        leader.state, leader.term = LEADS, term

    def calls(self) -> list[list[str]]:
        """Return the methods that each server was called with."""
        return [[call[0] for call in each.calls] for each in self.servers]


# Who leads


def standing(server: OnedStub, state: RaftState | None, term: int = 1, **more: Any) -> Standing:
    return Standing(server, None if state is None else RaftStatus(state, term), **more)


A, B, C = (OnedStub(f"http://{name}/RPC2") for name in "abc")


@pytest.mark.parametrize(
    ("standings", "known", "leads"),
    [
        ((standing(A, FOLLOWS), standing(B, LEADS)), None, Leader(B, 1)),
        ((standing(A, LEADS, 3), standing(B, LEADS, 4)), None, Leader(B, 4)),
        ((standing(A, LEADS, 3), standing(B, FOLLOWS, 4)), None, None),
        ((standing(A, LEADS, 3), standing(B, STANDS, 4)), None, Leader(A, 3)),
        ((standing(A, FOLLOWS), standing(B, STANDS)), None, None),
        ((standing(A, None), standing(B, ALONE, 0)), None, Leader(B, 0)),
        ((standing(A, ALONE, 0), standing(B, LEADS)), None, Leader(B, 1)),
        ((standing(A, None, is_silent=True), standing(B, FOLLOWS)), Leader(A, 1), Leader(A, 1)),
        ((standing(A, None), standing(B, FOLLOWS)), Leader(A, 1), None),
        ((standing(A, None, is_silent=True), standing(B, LEADS, 2)), Leader(A, 1), Leader(B, 2)),
        ((standing(A, None), standing(B, None, is_there=True)), None, Leader(B, 0)),
        ((standing(A, FOLLOWS), standing(B, None, is_there=True)), None, None),
        ((standing(A, None), standing(B, None)), None, None),
    ],
)
def test_who_leads(standings: Sequence[Standing], known: Leader | None, leads: Leader | None) -> None:
    """The last elected, unless a follower has heard of a later election; a candidate may be cut off and count alone."""
    assert leader_of(standings, known) == leads


# As long as nothing falls


def test_it_is_a_way_to_oned_as_a_single_server_is() -> None:
    harness = ZoneHarness()
    assert verifyObject(IOnedProxy, harness.client)
    assert verifyObject(IOnedProxy, harness.servers[0])
    assert harness.client.url == "http://a/RPC2, http://b/RPC2, http://c/RPC2"


def test_with_one_url_nothing_stands_between_and_nothing_more_is_asked() -> None:
    harness = ZoneHarness(LEADS)
    assert as_one(harness.zone, harness.clock, lambda: 1.0, Logger("x")) is harness.servers[0]


def test_calls_go_to_the_leader_with_their_session_and_arguments() -> None:
    harness = ZoneHarness(FOLLOWS, LEADS, FOLLOWS)
    assert harness.start(READ) == [DONE]
    assert harness.start(WRITE) == [DONE]
    assert [each.calls for each in harness.servers] == [[], [(READ, "alice", 1), (WRITE, "alice", 1)], []]
    assert [len(each.asked) for each in harness.servers][1] == 1, "asked once for both"
    assert harness.log.lines == [(LogLevel.info, "oned at http://b/RPC2 leads")]


def test_servers_are_asked_as_serveradmin_in_the_form_that_each_takes() -> None:
    """Who may not ADMIN the zone is not told; during an upgrade the servers take different forms."""
    harness = ZoneHarness()
    harness.servers[2].takes = SESSIONS[1]
    first = harness.results(Deferred.fromCoroutine(harness.zone.standings()))
    assert [str(each) for each in first[0]] == [
        "http://a/RPC2: leader",
        "http://b/RPC2: follower",
        "http://c/RPC2: follower",
    ]
    harness.results(Deferred.fromCoroutine(harness.zone.standings()))
    assert [each.asked for each in harness.servers] == [[SESSIONS[0]] * 2, [SESSIONS[0]] * 2, [*SESSIONS, SESSIONS[1]]]


def test_one_silent_server_does_not_keep_calls_when_most_have_answered() -> None:
    harness = ZoneHarness(FOLLOWS, LEADS, FOLLOWS)
    harness.servers[0].is_deaf = True
    assert harness.start() == [DONE]
    assert not harness.clock.getDelayedCalls()


def test_where_two_are_listed_the_silent_one_has_a_moment_to_contradict() -> None:
    harness = ZoneHarness(LEADS, FOLLOWS)
    harness.servers[1].is_deaf = True
    ended = harness.start()
    assert ended == []
    harness.clock.advance(GRACE)
    assert ended == [DONE]


def test_all_that_wait_share_one_look() -> None:
    harness = ZoneHarness()
    harness.servers[0].is_deaf = harness.servers[1].is_deaf = True
    ended = [harness.start() for _ in range(5)]
    harness.clock.advance(TO_ANSWER / 2)
    assert [len(each.asked) for each in harness.servers] == [1, 1, 1]
    for server in harness.servers[:2]:
        server.is_deaf = False
    harness.pass_time(TO_ANSWER * 2)
    assert ended == [[DONE]] * 5


def test_wrong_credentials_come_out_as_such() -> None:
    """The refusal of the call says it; waiting for a leader would not."""
    harness = ZoneHarness()
    for server in harness.servers:
        server.takes, server.answers = "another token", [refused("no", 256)]
    assert harness.start() == [refused("no", 256)]


def test_a_leader_put_aside_is_noticed_beside_the_calls() -> None:
    """It answers reads for ever, from a database that nobody brings up to date."""
    harness = ZoneHarness()
    harness.start()
    harness.elect(harness.servers[1])
    for server in harness.servers:
        server.is_deaf = True
    harness.clock.advance(FRESH + 0.1)
    assert harness.start() == [DONE], "not held up"
    (_, asked) = harness.servers[1].open.pop()
    asked.callback(reply(True, "<RAFT><STATE>3</STATE><TERM>2</TERM></RAFT>", 0))
    harness.clock.advance(GRACE)
    assert harness.start() == [DONE]
    assert harness.calls() == [[READ, READ], [READ], []]
    assert harness.log.lines[1:] == [(LogLevel.warn, "oned at http://b/RPC2 leads now, not http://a/RPC2")]


def test_after_a_long_silence_the_leader_is_looked_up_before_the_call() -> None:
    harness = ZoneHarness()
    harness.start()
    harness.elect(harness.servers[1])
    harness.clock.advance(STALE + 0.1)
    harness.start()
    assert harness.calls() == [[READ], [READ], []]


def test_a_leader_that_is_too_busy_to_say_so_goes_on_being_called() -> None:
    harness = ZoneHarness()
    harness.start()
    harness.servers[0].is_deaf = True
    harness.clock.advance(STALE + 0.1)
    ended = harness.start()
    harness.pass_time(TO_ANSWER + 0.1)
    assert ended == [DONE]
    assert harness.calls() == [[READ, READ], [], []]


# The leader falls


@pytest.mark.parametrize("method", [READ, WRITE])
def test_a_call_that_never_left_goes_to_the_next_leader(method: str) -> None:
    harness = ZoneHarness()
    harness.start()
    harness.servers[0].dies()
    harness.elect(harness.servers[1])
    harness.servers[0].state = None
    assert harness.start(method) == [DONE]
    assert harness.calls()[1] == [method]


def test_a_read_that_breaks_off_is_made_again_on_the_next_leader() -> None:
    harness = ZoneHarness()
    harness.start()
    harness.servers[0].answers = [broken_off()]
    harness.elect(harness.servers[2])
    harness.servers[0].state = None
    assert harness.start(READ) == [DONE]
    assert harness.calls() == [[READ, READ], [], [READ]]


def test_a_write_that_breaks_off_is_made_once_and_said_to_be_in_doubt() -> None:
    harness = ZoneHarness()
    harness.start()
    harness.servers[0].answers = [broken_off()]
    harness.elect(harness.servers[2])
    (error,) = harness.start(WRITE)
    assert isinstance(error, OpenNebulaUnavailable)
    assert harness.calls() == [[READ, WRITE], [], []]
    assert harness.start(WRITE) == [DONE], "the next one goes to the new leader at once"
    assert harness.calls()[2] == [WRITE]


@pytest.mark.parametrize("method", [READ, WRITE])
def test_while_nobody_leads_calls_wait_and_look_again_in_pauses(method: str) -> None:
    harness = ZoneHarness()
    harness.start()
    harness.servers[0].dies()
    harness.servers[1].state = harness.servers[2].state = STANDS
    ended = harness.start(method)
    harness.pass_time(8)
    assert ended == []
    assert 5 <= len(harness.servers[1].asked) - 1 <= 10, "not all the time"
    harness.elect(harness.servers[1])
    harness.pass_time(2.1)
    assert ended == [DONE]
    assert [line for _, line in harness.log.lines] == [
        "oned at http://a/RPC2 leads",
        "no oned leads: http://a/RPC2: connection refused; http://b/RPC2: candidate; http://c/RPC2: candidate",
        "oned at http://b/RPC2 leads now, not http://a/RPC2",
    ]


@pytest.mark.parametrize("method", [READ, WRITE])
def test_with_all_servers_down_a_call_ends_when_its_caller_gives_up(method: str) -> None:
    harness = ZoneHarness(None, None, None)
    work = harness.client.callRemote(method, "alice")
    ended = harness.results(work)
    harness.pass_time(30)
    assert ended == []
    work.cancel()
    assert isinstance(ended[0], CancelledError)
    assert harness.clock.getDelayedCalls() == [], "nobody goes on looking"
    assert len(harness.log.lines) == 1


@pytest.mark.parametrize("text", [ELECTION, RECONCILING, NO_LEADER])
def test_what_a_server_refused_before_it_began_is_made_again_by_whoever_leads(text: str) -> None:
    harness = ZoneHarness()
    harness.start()
    harness.servers[0].answers = [refused(text)]
    harness.elect(harness.servers[1])
    assert harness.start(WRITE) == [DONE]
    assert harness.calls() == [[READ, WRITE], [WRITE], []]


def test_a_leader_that_still_reconciles_its_log_is_tried_again_after_a_pause() -> None:
    """It says that it leads: only the text tells that it does nothing yet."""
    harness = ZoneHarness()
    harness.servers[0].answers = [refused(RECONCILING), refused(RECONCILING), DONE]
    ended = harness.start(WRITE)
    assert harness.calls()[0] == [WRITE]
    harness.pass_time(2)
    assert ended == [DONE]
    assert harness.calls()[0] == [WRITE] * 3


def test_an_internal_error_of_the_one_who_leads_is_its_answer() -> None:
    """Bad attributes and taken addresses have the same code."""
    harness = ZoneHarness()
    harness.servers[0].answers = [refused("[one.vn.hold] Address is not free")]
    assert harness.start(WRITE) == [refused("[one.vn.hold] Address is not free")]
    assert harness.calls()[0] == [WRITE]


@pytest.mark.parametrize("code", [8192, 65536])
def test_an_internal_error_of_one_who_no_longer_leads_leaves_a_write_in_doubt(code: int) -> None:
    """A follower says so when it could not pass a call on, or got no answer; or it fell in the middle of it."""
    harness = ZoneHarness()
    harness.start()
    harness.elect(harness.servers[1])
    harness.servers[0].answers = [refused("[one.vm.action] RPC call timed out and aborted", code)]
    (error,) = harness.start(WRITE)
    assert isinstance(error, OpenNebulaUnavailable)
    assert not error.never_sent
    assert harness.calls() == [[READ, WRITE], [], []]


def test_an_internal_error_across_two_elections_leaves_a_write_in_doubt() -> None:
    """The server that leads again is not the leader that it was."""
    harness = ZoneHarness()
    harness.start()
    harness.servers[0].answers = [refused("[one.vm.action] Error updating the database")]
    harness.elect(harness.servers[0], term=3)
    (error,) = harness.start(WRITE)
    assert isinstance(error, OpenNebulaUnavailable)


def test_an_internal_error_of_one_who_no_longer_leads_costs_a_read_nothing() -> None:
    harness = ZoneHarness()
    harness.start()
    harness.elect(harness.servers[1])
    harness.servers[0].answers = [refused("[one.system.version] RPC call timed out and aborted")]
    assert harness.start(READ) == [DONE]


def test_any_other_answer_of_a_follower_is_the_leaders_own() -> None:
    """It passes calls on."""
    harness = ZoneHarness()
    harness.start()
    harness.elect(harness.servers[1])
    harness.servers[0].answers = [refused("[one.vm.action] no", 2048)]
    assert harness.start(WRITE) == [refused("[one.vm.action] no", 2048)]
    assert harness.calls() == [[READ, WRITE], [], []]


def test_nonsense_is_nobodys_fall() -> None:
    harness = ZoneHarness()
    harness.servers[0].answers = [InvalidReply(READ, "HTTP status 404")]
    (error,) = harness.start(READ)
    assert isinstance(error, InvalidReply)
    assert harness.calls()[0] == [READ]


# A leader without power


@pytest.mark.parametrize("method", [READ, WRITE])
def test_a_call_without_an_answer_is_given_up_when_another_leads(method: str) -> None:
    """A machine without power closes no connection."""
    harness = ZoneHarness()
    harness.start()
    harness.servers[0].answers, harness.servers[0].is_deaf = [None], True
    ended = harness.start(method)
    harness.elect(harness.servers[1])
    harness.servers[0].state = None
    harness.pass_time(2 * WATCH + 0.5)
    if method == READ:
        assert ended == [DONE]
    else:
        assert isinstance(ended[0], OpenNebulaUnavailable)
        assert "http://b/RPC2 leads now" in str(ended[0])
    assert harness.calls()[0] == [READ, method]
    ((_, first),) = [each for each in harness.servers[0].open if each[0] == method]
    assert first.called, "the connection is closed"


def test_a_slow_call_is_left_alone_while_its_server_leads() -> None:
    harness = ZoneHarness()
    harness.servers[0].answers = [None]
    ended = harness.start(WRITE)
    harness.pass_time(20)
    assert ended == []
    harness.servers[0].open[0][1].callback(DONE)
    assert ended == [DONE]
    assert harness.clock.getDelayedCalls() == [], "nobody watches any more"


def test_a_caller_who_gives_up_breaks_the_call_off() -> None:
    harness = ZoneHarness()
    harness.servers[0].answers = [None]
    work = harness.client.callRemote(WRITE, "alice")
    ended = harness.results(work)
    work.cancel()
    assert isinstance(ended[0], CancelledError)
    assert harness.servers[0].open[0][1].called
    assert harness.clock.getDelayedCalls() == []


# It comes back


def test_a_leader_that_comes_back_to_lead_is_called_again() -> None:
    harness = ZoneHarness()
    harness.start()
    harness.servers[0].dies()
    harness.servers[1].state = harness.servers[2].state = STANDS
    ended = harness.start(WRITE)
    harness.pass_time(3)
    harness.servers[0].answers = [DONE]
    harness.elect(harness.servers[0], term=2)
    harness.pass_time(3)
    assert ended == [DONE]
    assert harness.log.lines[-1] == (LogLevel.warn, "oned at http://a/RPC2 leads again")


def test_a_server_that_says_it_leads_and_takes_no_calls_is_not_asked_all_the_time() -> None:
    harness = ZoneHarness()
    harness.servers[0].answers = [refused_connection(WRITE)]
    work = harness.client.callRemote(WRITE, "alice")
    ended = harness.results(work)
    harness.pass_time(20)
    assert ended == []
    assert 8 <= len(harness.servers[0].calls) <= 20
    work.cancel()


def test_flapping_costs_reads_time_only_and_makes_no_write_twice() -> None:
    """Leadership goes round with every call, which breaks off each time."""
    harness = ZoneHarness()
    falls = iter(range(2, 1000))

    def fall(method: str) -> None:
        term = next(falls)
        if term % 3:
            harness.elect(harness.servers[term % 3], term)

    for server in harness.servers:
        server.before = fall
        server.answers = [broken_off(), DONE, refused(ELECTION), DONE] * 40
    ends = [harness.start(WRITE if number % 2 else READ, number) for number in range(40)]
    harness.pass_time(60)
    assert [len(each) for each in ends] == [1] * 40
    assert all(each == [DONE] for each in ends[::2]), "reads"
    begun = [number for each in harness.servers for number, answer in each.given if answer != refused(ELECTION)]
    for number in range(1, 40, 2):
        (end,) = ends[number]
        assert begun.count(number) == 1, "whatever came of it"
        assert end == DONE or (isinstance(end, OpenNebulaUnavailable) and not end.never_sent)
    assert {type(each[0]) for each in ends[1::2]} == {bytes, OpenNebulaUnavailable}, "both happened"
