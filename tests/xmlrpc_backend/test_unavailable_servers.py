"""Servers that are stopped, do not reply in time, or lose the connection; only reads are retried."""

from __future__ import annotations

import pytest
import pytest_twisted
from twisted.internet.defer import maybeDeferred

from econed.errors import OpenNebulaUnavailable
from econed.opennebula.methods import is_read_only
from econed.xmlrpc_backend import CallLimits
from tests.support.oned_stubs import Behaviour, StubConnection, reply, replying
from tests.xmlrpc_backend.calling_oned import PROBE, BackendHarness, failure_of, modern, sends, started


@pytest_twisted.ensureDeferred
async def test_a_backend_works_when_oned_is_started_after_it(harness: BackendHarness) -> None:
    stopped = harness.serve(modern(replying(True, 1, 0)))
    await maybeDeferred(harness.ports.pop().stopListening)
    backend = harness.backend(stopped.url)
    error = await failure_of(backend.call("alice", "one.vm.action", "resume", 1))
    assert isinstance(error, OpenNebulaUnavailable)
    assert "refused" in error.reason
    harness.serve(modern(replying(True, 1, 0)), port=int(stopped.url.split(":")[2].split("/")[0]))
    assert await backend.call("alice", "one.vm.action", "resume", 1) == 1


@pytest_twisted.ensureDeferred
async def test_a_call_without_a_reply_is_cancelled_at_the_deadline(harness: BackendHarness) -> None:
    server = harness.serve(modern(lambda peer: None))
    call = started(harness.backend(server.url, CallLimits(deadline=30)).call("alice", "one.vm.action", "resume", 1))
    peer = await server.request(2)
    harness.clock.advance(29.9)
    assert not call.called
    harness.clock.advance(0.2)
    error = await failure_of(call)
    assert isinstance(error, OpenNebulaUnavailable)
    assert "30 s" in error.reason
    await peer.lost
    assert server.calls == [PROBE, "one.vm.action"]


@pytest_twisted.ensureDeferred
async def test_a_slow_reply_does_not_extend_the_deadline(harness: BackendHarness) -> None:
    server = harness.serve(modern(lambda peer: peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n")))
    call = started(harness.backend(server.url, CallLimits(deadline=10)).document("alice", "one.vm.info", 1, False))
    peer = await server.request(2)
    for _ in range(9):
        peer.send(b"<")
        harness.clock.advance(1)
    assert not call.called
    harness.clock.advance(1)
    assert isinstance(await failure_of(call), OpenNebulaUnavailable)
    await peer.lost


@pytest_twisted.ensureDeferred
async def test_the_search_for_the_form_ends_at_the_deadline(
    harness: BackendHarness,
) -> None:
    server = harness.serve(lambda peer: None)
    backend = harness.backend(server.url, CallLimits(deadline=30))
    call = started(backend.call("alice", "one.vm.action", "resume", 1))
    await server.request(1)
    harness.clock.advance(30)
    assert isinstance(await failure_of(call), OpenNebulaUnavailable)
    server.behaviour = modern(replying(True, 1, 0))
    assert await backend.call("alice", "one.vm.action", "resume", 1) == 1


def half_a_response(peer: StubConnection) -> None:
    """Announce more bytes than are sent."""
    body = reply(True, "<VM/>", 0)
    peer.respond(body[: len(body) // 2], length=len(body))


LOST_CONNECTIONS: dict[str, Behaviour] = {
    "closes at once": StubConnection.close,
    "resets": StubConnection.reset,
    "sends half a head": sends(b"HTTP/1.1 200"),
    "sends half a response": half_a_response,
    "is a proxy without oned": lambda peer: peer.respond(b"<html>Bad Gateway</html>", "502 Bad Gateway"),
    "is being restarted": lambda peer: peer.respond(b"", "503 Service Unavailable"),
}


@pytest.mark.parametrize("behaviour", LOST_CONNECTIONS.values(), ids=LOST_CONNECTIONS.keys())
@pytest_twisted.ensureDeferred
async def test_after_a_lost_connection_a_read_is_retried_once_and_a_change_is_not(
    harness: BackendHarness, behaviour: Behaviour
) -> None:
    server = harness.serve(modern(behaviour))
    backend = harness.backend(server.url)
    assert isinstance(await failure_of(backend.document("alice", "one.vm.info", 1, False)), OpenNebulaUnavailable)
    assert server.calls == [PROBE, "one.vm.info", "one.vm.info"]
    assert isinstance(await failure_of(backend.call("alice", "one.vm.action", "resume", 1)), OpenNebulaUnavailable)
    assert server.calls[3:] == ["one.vm.action"]


@pytest_twisted.ensureDeferred
async def test_the_retry_of_a_read_succeeds(harness: BackendHarness) -> None:
    server = harness.serve(modern(lambda peer: None))
    call = started(harness.backend(server.url).document("alice", "one.vm.info", 1, False))
    peer = await server.request(2)
    server.behaviour = modern(replying(True, "<VM><ID>1</ID></VM>", 0))
    peer.reset()
    assert (await call).findtext("ID") == "1"


@pytest_twisted.ensureDeferred
async def test_the_deadline_includes_the_retry(harness: BackendHarness) -> None:
    server = harness.serve(modern(lambda peer: None))
    call = started(harness.backend(server.url, CallLimits(deadline=30)).document("alice", "one.vm.info", 1, False))
    first = await server.request(2)
    harness.clock.advance(20)
    first.reset()
    await server.request(3)
    harness.clock.advance(10)
    assert isinstance(await failure_of(call), OpenNebulaUnavailable)


@pytest.mark.parametrize(
    ("method", "reads"),
    [
        ("one.vm.info", True),
        ("one.vmpool.infoset", True),
        ("one.vmpool.infoextended", True),
        ("one.vmpool.accounting", True),
        ("one.system.version", True),
        ("one.system.config", True),
        ("one.vm.monitoring", True),
        ("one.vm.action", False),
        ("one.template.instantiate", False),
        ("one.user.update", False),
        ("one.user.login", False),
        ("one.vn.hold", False),
    ],
)
def test_only_reading_methods_are_read_only(method: str, reads: bool) -> None:
    assert is_read_only(method) is reads
