"""Failover between oneds: when the leader fails, reads succeed and no change is made twice."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError
from twisted.logger import LogLevel

from econed.errors import InvalidReply, OpenNebulaUnavailable
from econed.xmlrpc.failover import WATCH_INTERVAL
from tests.xmlrpc.oned_group import (
    CANDIDATE,
    DONE,
    READ,
    WRITE,
    GroupHarness,
    lost_connection,
    refused,
    refused_connection,
)

ELECTION = "[one.vm.action] Cannot process request, oned cluster in election mode"
RECONCILING = "[one.vm.action] Cannot process request, oned cluster is replicating log"
NO_LEADER = "[one.vm.action] Cannot process request, no leader found"


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
