"""The limit on concurrent calls, and calls that wait for a slot."""

from __future__ import annotations

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError

from econed.errors import OpenNebulaUnavailable
from econed.xmlrpc_backend import CallLimits
from tests.support.oned_stubs import reply, replying
from tests.xmlrpc_backend.calling_oned import BackendHarness, failure_of, modern, started


@pytest_twisted.ensureDeferred
async def test_the_number_of_concurrent_calls_is_limited(harness: BackendHarness) -> None:
    server = harness.serve(modern(lambda peer: None))
    backend = harness.backend(server.url, CallLimits(calls=2))
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
    backend = harness.backend(server.url, CallLimits(calls=1))
    calls = [started(backend.call("alice", "one.vm.action", "resume", number)) for number in range(5)]
    assert [await call for call in calls] == [0, 1, 2, 3, 4]
    assert [peer.arguments[-1] for peer in server.connections[1:]] == [0, 1, 2, 3, 4]


@pytest_twisted.ensureDeferred
async def test_a_cancelled_waiting_call_takes_no_slot(harness: BackendHarness) -> None:
    server = harness.serve(modern(lambda peer: None))
    backend = harness.backend(server.url, CallLimits(calls=1))
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
async def test_the_deadline_includes_the_wait_for_a_slot(harness: BackendHarness) -> None:
    server = harness.serve(modern(lambda peer: None))
    backend = harness.backend(server.url, CallLimits(calls=1, deadline=30))
    first = started(backend.call("alice", "one.vm.action", "resume", 1))
    await server.request(2)
    harness.clock.advance(10)
    second = started(backend.call("alice", "one.vm.action", "resume", 2))
    harness.clock.advance(20)
    assert isinstance(await failure_of(first), OpenNebulaUnavailable)
    await server.request(3)
    harness.clock.advance(10)
    assert isinstance(await failure_of(second), OpenNebulaUnavailable)
    third = started(backend.call("alice", "one.vm.action", "resume", 3))
    fourth = started(backend.call("alice", "one.vm.action", "resume", 4))
    await server.request(4)
    harness.clock.advance(30)
    assert isinstance(await failure_of(third), OpenNebulaUnavailable)
    assert isinstance(await failure_of(fourth), OpenNebulaUnavailable)
    assert [peer.arguments[-1] for peer in server.connections[1:]] == [1, 2, 3]


@pytest_twisted.ensureDeferred
async def test_cancelling_a_call_closes_its_connection_and_releases_its_slot(harness: BackendHarness) -> None:
    server = harness.serve(modern(lambda peer: None))
    backend = harness.backend(server.url, CallLimits(calls=1))
    call = started(backend.call("alice", "one.vm.action", "resume", 1))
    peer = await server.request(2)
    call.cancel()
    with pytest.raises(CancelledError):
        await call
    await peer.lost
    server.behaviour = modern(replying(True, 1, 0))
    assert await backend.call("alice", "one.vm.action", "resume", 1) == 1
