"""The leader of several oneds: by their statuses, how often it is looked up, and calls to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import Logger, LogLevel
from zope.interface.verify import verifyObject

from econed.interfaces import IOnedProxy
from econed.opennebula.raft import RaftState, RaftStatus
from econed.xmlrpc.failover import FRESH_FOR, STALE_AFTER, proxy_for
from econed.xmlrpc.leader import CONTRADICTION_WAIT, STATUS_TIMEOUT, RaftLeader, ServerStatus, leader_of
from tests.support.oned_stubs import reply
from tests.xmlrpc.oned_group import (
    CANDIDATE,
    DONE,
    FOLLOWER,
    LEADER,
    READ,
    SESSIONS,
    SOLO,
    WRITE,
    GroupHarness,
    ServerStub,
    refused,
)

# The leader by the statuses


def status_of(server: ServerStub, state: RaftState | None, term: int = 1, **more: Any) -> ServerStatus:
    return ServerStatus(server, None if state is None else RaftStatus(state, term), **more)


A, B, C = (ServerStub(f"http://{name}/RPC2") for name in "abc")


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
    """A follower may know of a later election. A candidate with a higher term may be isolated from the others."""
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
    """The call is made although no status could be read, since its refusal is clearer than a timeout."""
    harness = GroupHarness()
    for server in harness.servers:
        server.accepted_session, server.replies = "another token", [refused("no", 256)]
    assert harness.start() == [refused("no", 256)]


def test_a_deposed_leader_is_noticed_in_the_background() -> None:
    """A deposed leader replies to reads from an outdated database."""
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
