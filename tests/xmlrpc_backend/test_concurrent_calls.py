"""The limit on concurrent calls, and calls that wait in the queue, with the real client of oned."""

from __future__ import annotations

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError

from econed.calls.queue import CallQueue, CallShare
from econed.calls.turns import Owner
from econed.errors import OpenNebulaUnavailable
from econed.xmlrpc_backend import CallLimits
from tests.support.oned_stubs import OnedStub, reply, replying
from tests.xmlrpc_backend.calling_oned import DEFAULT_LIMITS, BackendHarness, failure_of, modern, started


def queued(harness: BackendHarness, server: OnedStub, calls: int, limits: CallLimits = DEFAULT_LIMITS) -> CallShare:
    """Return the share of a request in a queue with `calls` slots."""
    return CallQueue(harness.backend(server.url, limits), calls, harness.clock).share(Owner(2))


@pytest_twisted.ensureDeferred
async def test_the_number_of_concurrent_calls_is_limited(harness: BackendHarness) -> None:
    server = harness.serve(modern(lambda peer: None))
    backend = queued(harness, server, 2)
    calls = [started(backend.call("alice", "one.vm.action", "resume", number)) for number in range(5)]
    for answered in range(5):
        peer = await server.request(answered + 2)
        assert len(server.peers) <= 1 + answered + 2
        peer.respond(reply(True, 1, 0))
        await peer.lost
    assert [await call for call in calls] == [1] * 5


@pytest_twisted.ensureDeferred
async def test_waiting_calls_are_made_in_order(harness: BackendHarness) -> None:
    server = harness.serve(modern(lambda peer: peer.respond(reply(True, peer.arguments[-1], 0))))
    backend = queued(harness, server, 1)
    calls = [started(backend.call("alice", "one.vm.action", "resume", number)) for number in range(5)]
    assert [await call for call in calls] == [0, 1, 2, 3, 4]
    assert [peer.arguments[-1] for peer in server.connections[1:]] == [0, 1, 2, 3, 4]


@pytest_twisted.ensureDeferred
async def test_a_cancelled_waiting_call_takes_no_slot(harness: BackendHarness) -> None:
    server = harness.serve(modern(lambda peer: None))
    backend = queued(harness, server, 1)
    first, second, third = (started(backend.call("alice", "one.vm.action", "resume", each)) for each in range(3))
    peer = await server.request(2)
    second.cancel()
    with pytest.raises(CancelledError):
        await second
    peer.respond(reply(True, 0, 0))
    assert await first == 0
    peer = await server.request(3)
    assert peer.arguments[-1] == 2
    peer.respond(reply(True, 2, 0))
    assert await third == 2


@pytest_twisted.ensureDeferred
async def test_the_deadline_of_a_call_begins_when_it_is_sent(harness: BackendHarness) -> None:
    server = harness.serve(modern(lambda peer: None))
    backend = queued(harness, server, 1, CallLimits(deadline=30))
    first = started(backend.call("alice", "one.vm.action", "resume", 1))
    await server.request(2)
    harness.clock.advance(10)
    second = started(backend.call("alice", "one.vm.action", "resume", 2))
    harness.clock.advance(20)
    assert isinstance(await failure_of(first), OpenNebulaUnavailable)
    peer = await server.request(3)
    harness.clock.advance(29)
    peer.respond(reply(True, 2, 0))
    assert await second == 2
    assert [peer.arguments[-1] for peer in server.connections[1:]] == [1, 2]


@pytest_twisted.ensureDeferred
async def test_cancelling_a_call_closes_its_connection_and_releases_its_slot(harness: BackendHarness) -> None:
    server = harness.serve(modern(lambda peer: None))
    backend = queued(harness, server, 1)
    call = started(backend.call("alice", "one.vm.action", "resume", 1))
    peer = await server.request(2)
    call.cancel()
    with pytest.raises(CancelledError):
        await call
    await peer.lost
    server.behaviour = modern(replying(True, 1, 0))
    assert await backend.call("alice", "one.vm.action", "resume", 1) == 1
