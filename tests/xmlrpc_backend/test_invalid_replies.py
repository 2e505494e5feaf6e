"""Invalid replies, and replies that exceed a limit."""

from __future__ import annotations

import pytest
import pytest_twisted

from econed.errors import InvalidReply, OpenNebulaUnavailable, ReplyTooLarge
from econed.opennebula.methods import MAX_GROUP_POOL, MAX_LIST, MAX_USER, MAX_USER_POOL
from econed.xmlrpc_backend import CallLimits
from tests.support.oned_stubs import Behaviour, StubConnection, reply, replying
from tests.xmlrpc_backend.calling_oned import DEFAULT_LIMITS, PROBE, BackendHarness, failure_of, modern, sends


def endless_head(peer: StubConnection) -> None:
    """Send headers that never end."""
    peer.send(b"HTTP/1.1 200 OK\r\n" + b"X-Header: more\r\n" * 20_000)


INVALID_REPLIES: dict[str, Behaviour] = {
    "garbage": sends(b"\x00\xff garbage\r\n\r\n"),
    "an empty line": lambda peer: peer.send(b"\r\n"),
    "a line without an end": lambda peer: peer.send(b"x" * 70_000),
    "headers that are none": lambda peer: peer.send(b"HTTP/1.1 200 OK\r\nnonsense\r\nmore\r\n\r\n"),
    "a length that is none": lambda peer: peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n"),
    "headers without end": endless_head,
    "an internal error": lambda peer: peer.respond(b"oops", "500 Internal OnedStub Error"),
    "a redirection": lambda peer: peer.respond(b"", "302 Found"),
    "a web page": lambda peer: peer.respond(b"<html><body>It works!</body></html>"),
    "no text": lambda peer: peer.respond(b"\xff\xfe\x00\x01"),
    "half a document": lambda peer: peer.respond(reply(True, "<VM/>", 0)[:-20]),
    "another method's reply": replying(True, 5, 0),
    "a reply without a value": replying(True),
}


@pytest.mark.parametrize("behaviour", INVALID_REPLIES.values(), ids=INVALID_REPLIES.keys())
@pytest_twisted.ensureDeferred
async def test_an_invalid_reply_is_not_retried(harness: BackendHarness, behaviour: Behaviour) -> None:
    server = harness.serve(modern(behaviour))
    error = await failure_of(harness.backend(server.url).document("alice", "one.vm.info", 1, False))
    assert isinstance(error, InvalidReply)
    assert server.calls == [PROBE, "one.vm.info"]
    await server.connections[-1].lost


@pytest_twisted.ensureDeferred
async def test_a_reply_that_exceeds_the_limit_is_aborted(harness: BackendHarness) -> None:
    server = harness.serve(modern(lambda peer: peer.send(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 10_000_000)))
    call = harness.backend(server.url, CallLimits(reply_bytes=1_000_000)).document("alice", "one.vm.info", 1, False)
    error = await failure_of(call)
    assert isinstance(error, InvalidReply)
    assert "1000000 bytes" in error.reason
    await server.connections[-1].lost


@pytest_twisted.ensureDeferred
async def test_a_reply_whose_announced_length_exceeds_the_limit_is_aborted(harness: BackendHarness) -> None:
    server = harness.serve(modern(lambda peer: peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000001\r\n\r\n")))
    call = harness.backend(server.url, CallLimits(reply_bytes=1_000_000)).document("alice", "one.vm.info", 1, False)
    assert isinstance(await failure_of(call), InvalidReply)
    await server.connections[-1].lost


@pytest.mark.parametrize(
    ("method", "limit"),
    [
        ("one.user.info", MAX_USER),
        ("one.userpool.info", MAX_USER_POOL),
        ("one.grouppool.info", MAX_GROUP_POOL),
        ("one.imagepool.info", MAX_LIST),
        ("one.templatepool.info", MAX_LIST),
        ("one.vmpool.infoset", MAX_LIST),
        ("one.vmpool.infoextended", MAX_LIST),
        ("one.vmpool.info", DEFAULT_LIMITS.reply_bytes),
    ],
)
@pytest_twisted.ensureDeferred
async def test_documents_that_users_make_long_have_own_limits(harness: BackendHarness, method: str, limit: int) -> None:
    """A longer announced length is refused before the body is read."""
    announced = limit

    def behave(peer: StubConnection) -> None:
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % announced)
        peer.close()

    server = harness.serve(modern(lambda peer: None))
    backend = harness.backend(server.url)
    await backend.document("alice", "one.user.info", -1, False)
    server.behaviour = behave
    assert isinstance(await failure_of(backend.document("alice", method)), OpenNebulaUnavailable), "closed early"
    announced = limit + 1
    error = await failure_of(backend.document("alice", method))
    assert isinstance(error, ReplyTooLarge)
    assert f"{limit} bytes" in error.reason


@pytest_twisted.ensureDeferred
async def test_a_response_without_a_length_ends_with_the_connection(harness: BackendHarness) -> None:
    server = harness.serve(modern(sends(b"HTTP/1.0 200 OK\r\n\r\n" + reply(True, 7, 0))))
    assert await harness.backend(server.url).call("alice", "one.vm.action", "resume", 1) == 7
