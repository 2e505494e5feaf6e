"""The client of oned over real sockets: replies, refusals, lost connections, invalid replies, limits and TLS."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from twisted.internet.defer import CancelledError, Deferred, DeferredList, maybeDeferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, Logger, LogLevel, formatEvent
from zope.interface.verify import verifyObject

from econed.errors import (
    InvalidReply,
    OpenNebulaError,
    OpenNebulaRefusal,
    OpenNebulaUnavailable,
    ReplyTooLarge,
    ServerAccountRefused,
)
from econed.interfaces import IOpenNebula
from econed.opennebula.methods import MAX_GROUP_POOL, MAX_LIST, MAX_USER, MAX_USER_POOL, is_read_only
from econed.opennebula.tokens import CipherForm, PasswordKey, session_token
from econed.telemetry.observed_calls import ObservedOpenNebula
from econed.xmlrpc.proxy import OnedProxy, oned_endpoint
from econed.xmlrpc_backend import CallLimits, XMLRPCBackend
from tests.support.certificates import server_options
from tests.support.oned_stubs import Behaviour, OnedStub, StubConnection, reply, replying

T = TypeVar("T")
DEFAULT = CallLimits()
NOW = 1_795_337_859.0
PASSWORD = "server password"
PROBE = "one.user.info"
REFUSED = (False, "[one.user.info] User couldn't be authenticated, aborting call.", 256, -1, -1)


def token(user: str | None, form: CipherForm = CipherForm.KEY_IV) -> str:
    """Return the session string that a backend of these tests sends."""
    return session_token("serveradmin", PasswordKey(PASSWORD), user, NOW, form)


def taking(form: CipherForm, then: Behaviour) -> Behaviour:
    """Return the behaviour of an oned that accepts one form of token, for serveradmin and alice."""

    def behave(peer: StubConnection) -> None:
        if peer.arguments[0] not in (token(None, form), token("alice", form)):
            peer.answer(reply(*REFUSED))
        elif peer.method == PROBE:
            peer.answer(reply(True, "<USER><ID>1</ID></USER>", 0))
        else:
            then(peer)

    return behave


def modern(then: Behaviour) -> Behaviour:
    """Return the behaviour of an oned of 6.2 or later."""
    return taking(CipherForm.KEY_IV, then)


@dataclass
class BackendHarness:
    """Servers on loopback, backends for them, and a clock."""

    reactor: Any
    clock: Clock = field(default_factory=Clock)
    ports: list[Any] = field(default_factory=list)
    servers: list[OnedStub] = field(default_factory=list)
    said: list[LogEvent] = field(default_factory=list)
    in_threads: int = 0

    def serve(
        self, behaviour: Behaviour, on_connect: Behaviour | None = None, port: int = 0, tls: Any = None
    ) -> OnedStub:
        """Start a server with this behaviour."""
        server = OnedStub(behaviour, on_connect)
        if tls is None:
            listening = self.reactor.listenTCP(port, server, interface="127.0.0.1")
        else:
            listening = self.reactor.listenSSL(port, server, tls, interface="127.0.0.1")
        server.url = f"http{'s' if tls else ''}://127.0.0.1:{listening.getHost().port}/RPC2"
        self.ports.append(listening)
        self.servers.append(server)
        return server

    def backend(self, url: str, limits: CallLimits = DEFAULT, ca_file: Path | None = None) -> XMLRPCBackend:
        """Return a backend for `url`, with the harness's clock for its deadlines."""

        async def in_thread(work: Callable[[], T]) -> T:
            self.in_threads += 1
            return work()

        proxy = OnedProxy(self.reactor, url, oned_endpoint(self.reactor, url, ca_file), limits.reply_bytes)
        return XMLRPCBackend(
            proxy,
            "serveradmin",
            PasswordKey(PASSWORD),
            self.clock,
            in_thread,
            limits=limits,
            now=lambda: NOW,
            log=Logger(namespace="econed", observer=self.said.append),  # type: ignore[arg-type]
        )

    async def close(self) -> None:
        """Stop all servers and close all connections."""
        for port in self.ports:
            await maybeDeferred(port.stopListening)
        for server in self.servers:
            for peer in server.peers:
                peer.reset()
                await peer.lost


@pytest_twisted.async_yield_fixture
async def harness() -> AsyncIterator[BackendHarness]:
    """Return a harness, which is closed after the test."""
    from twisted.internet import reactor

    made = BackendHarness(reactor)
    yield made
    await made.close()


def started(work: Any) -> Deferred[Any]:
    """Start a coroutine without waiting for it."""
    return Deferred.fromCoroutine(work)


async def failure_of(work: Any) -> OpenNebulaError:
    """Return the error that a call raises."""
    with pytest.raises(OpenNebulaError) as raised:
        await work
    return raised.value


# Replies


@pytest_twisted.ensureDeferred
async def test_the_backend_provides_the_interface(harness: BackendHarness) -> None:
    assert verifyObject(IOpenNebula, harness.backend("http://127.0.0.1:2633/RPC2"))


@pytest_twisted.ensureDeferred
async def test_a_call_has_the_users_session_and_its_arguments(harness: BackendHarness) -> None:
    server = harness.serve(modern(replying(True, 42, 0)))
    made = await harness.backend(server.url).call("alice", "one.template.instantiate", 5, "wéb", True, 'A="<&>"', False)
    assert made == 42
    assert server.calls == [PROBE, "one.template.instantiate"]
    assert server.asking[-1].arguments == (token("alice"), 5, "wéb", True, 'A="<&>"', False)


@pytest_twisted.ensureDeferred
async def test_a_call_without_a_user_is_made_as_serveradmin(harness: BackendHarness) -> None:
    server = harness.serve(modern(replying(True, "7.4.0", 0)))
    assert await harness.backend(server.url).call(None, "one.system.version") == "7.4.0"
    assert server.asking[-1].arguments == (token(None),)


@pytest_twisted.ensureDeferred
async def test_the_request_has_the_host_and_path_of_the_url(harness: BackendHarness) -> None:
    server = harness.serve(modern(replying(True, 1, 0)))
    await harness.backend(server.url).call("alice", "one.vm.action", "resume", 1)
    assert server.asking[-1].head[0] == b"POST /RPC2 HTTP/1.0"
    assert b"Host: " + server.url.split("/")[2].encode() in server.asking[-1].head


@pytest_twisted.ensureDeferred
async def test_a_document_is_parsed(harness: BackendHarness) -> None:
    server = harness.serve(modern(replying(True, "<VM><ID>7</ID><NAME><![CDATA[a<b]]></NAME></VM>", 0)))
    root = await harness.backend(server.url).document("alice", "one.vm.info", 7, False)
    assert (root.tag, root.findtext("ID"), root.findtext("NAME")) == ("VM", "7", "a<b")


@pytest_twisted.ensureDeferred
async def test_only_large_replies_are_decoded_in_a_thread(harness: BackendHarness) -> None:
    text = "x" * 300_000
    server = harness.serve(modern(replying(True, f"<VM><A>{text}</A></VM>", 0)))
    backend = harness.backend(server.url)
    assert (await backend.document("alice", "one.vm.info", 7, False)).findtext("A") == text
    assert harness.in_threads == 1
    server.behaviour = modern(replying(True, "<VM/>", 0))
    await backend.document("alice", "one.vm.info", 7, False)
    assert harness.in_threads == 1


@pytest_twisted.ensureDeferred
async def test_a_large_reply_is_decoded_in_the_reactors_threads(harness: BackendHarness) -> None:
    server = harness.serve(lambda peer: peer.answer(reply(True, f"<VM><A>{'x' * 300_000}</A></VM>", 0)))
    backend = XMLRPCBackend.at(harness.reactor, (server.url,), "serveradmin", PasswordKey(PASSWORD), log=Logger("test"))
    root = await backend.document("alice", "one.vm.info", 7, False)
    assert len(root.findtext("A") or "") == 300_000


@pytest_twisted.ensureDeferred
async def test_a_refusal_has_oneds_code_and_is_not_retried(harness: BackendHarness) -> None:
    server = harness.serve(modern(replying(False, "[one.vm.info] Error getting virtual machine [9].", 1024, 9, -1)))
    error = await failure_of(harness.backend(server.url).document("alice", "one.vm.info", 9, False))
    assert isinstance(error, OpenNebulaRefusal)
    assert (error.method, error.code) == ("one.vm.info", 1024)
    assert server.calls == [PROBE, "one.vm.info"]


@pytest.mark.parametrize("text", ["\U0001f600", "nul\x00", "bell\x07", "\ud800", "cr\r"])
@pytest_twisted.ensureDeferred
async def test_a_text_that_xml_rpc_cannot_encode_is_refused_before_the_call(harness: BackendHarness, text: str) -> None:
    server = harness.serve(modern(replying(True, 1, 0)))
    error = await failure_of(harness.backend(server.url).call("alice", "one.vm.rename", 1, text))
    assert isinstance(error, OpenNebulaRefusal)
    assert error.code == 4096
    assert server.calls == []


@pytest.mark.parametrize("number", [2**31, -(2**31) - 1, 1.5, None])
@pytest_twisted.ensureDeferred
async def test_a_number_outside_of_oneds_range_is_refused_before_the_call(
    harness: BackendHarness, number: object
) -> None:
    server = harness.serve(modern(replying(True, 1, 0)))
    error = await failure_of(harness.backend(server.url).call("alice", "one.vm.action", "resume", number))
    assert isinstance(error, OpenNebulaRefusal)
    assert server.calls == []


# Sessions


@pytest_twisted.ensureDeferred
async def test_the_accepted_form_of_token_is_determined_by_the_first_call(
    harness: BackendHarness,
) -> None:
    server = harness.serve(taking(CipherForm.ZERO_IV, replying(True, 1, 0)))
    backend = harness.backend(server.url)
    for _ in range(3):
        assert await backend.call("alice", "one.vm.action", "resume", 1) == 1
    assert server.calls == [PROBE, PROBE] + ["one.vm.action"] * 3
    assert server.asking[-1].arguments[0] == token("alice", CipherForm.ZERO_IV)


@pytest.mark.parametrize(("user", "is_the_daemons_fault"), [("alice", False), (None, True)])
@pytest_twisted.ensureDeferred
async def test_an_unknown_user_is_distinguished_from_a_refused_server_account(
    harness: BackendHarness, user: str | None, is_the_daemons_fault: bool
) -> None:
    """The former is an AuthFailure, the latter an InternalError."""
    server = harness.serve(modern(replying(*REFUSED)))
    error = await failure_of(harness.backend(server.url).call(user, "one.vm.action", "resume", 1))
    assert isinstance(error, OpenNebulaRefusal)
    assert error.code == 256
    assert isinstance(error, ServerAccountRefused) == is_the_daemons_fault
    assert server.calls == [PROBE, "one.vm.action", PROBE]


@pytest_twisted.ensureDeferred
async def test_credentials_refused_in_every_form_are_those_of_the_server_account(
    harness: BackendHarness,
) -> None:
    server = harness.serve(replying(*REFUSED))
    error = await failure_of(harness.backend(server.url).call("alice", "one.vm.action", "resume", 1))
    assert isinstance(error, ServerAccountRefused)


@pytest_twisted.ensureDeferred
async def test_concurrent_first_calls_share_the_search_for_the_form(harness: BackendHarness) -> None:
    server = harness.serve(taking(CipherForm.ZERO_IV, replying(True, 1, 0)))
    backend = harness.backend(server.url)
    await DeferredList([started(backend.call("alice", "one.vm.action", "resume", each)) for each in range(6)])
    assert server.calls.count(PROBE) == 2


@pytest_twisted.ensureDeferred
async def test_cancelling_one_of_several_calls_does_not_cancel_the_search_for_the_form(harness: BackendHarness) -> None:
    server = harness.serve(lambda peer: None)
    backend = harness.backend(server.url)
    first, second = (started(backend.call("alice", "one.vm.action", "resume", each)) for each in range(2))
    probe = await server.request(1)
    first.cancel()
    with pytest.raises(CancelledError):
        await first
    server.behaviour = modern(replying(True, 1, 0))
    modern(replying())(probe)
    assert await second == 1


@pytest_twisted.ensureDeferred
async def test_cancelling_the_only_call_cancels_the_search_for_the_form(harness: BackendHarness) -> None:
    server = harness.serve(lambda peer: None)
    call = started(harness.backend(server.url).call("alice", "one.vm.action", "resume", 1))
    probe = await server.request(1)
    call.cancel()
    with pytest.raises(CancelledError):
        await call
    await probe.lost


@pytest_twisted.ensureDeferred
async def test_after_an_upgrade_of_oned_the_form_is_determined_again_and_the_call_made(
    harness: BackendHarness,
) -> None:
    server = harness.serve(taking(CipherForm.ZERO_IV, replying(True, 1, 0)))
    backend = harness.backend(server.url)
    await backend.call("alice", "one.vm.action", "resume", 1)
    server.asking.clear()
    server.behaviour = modern(replying(True, 2, 0))
    assert await backend.call("alice", "one.vm.action", "resume", 1) == 2
    assert server.calls == ["one.vm.action", PROBE, PROBE, "one.vm.action"]


@pytest_twisted.ensureDeferred
async def test_an_unknown_user_is_refused_after_one_check_of_the_form(harness: BackendHarness) -> None:
    server = harness.serve(modern(replying(True, 1, 0)))
    error = await failure_of(harness.backend(server.url).call("mallory", "one.vm.action", "resume", 1))
    assert isinstance(error, OpenNebulaRefusal)
    assert error.code == 256
    assert server.calls == [PROBE, "one.vm.action", PROBE]


@pytest_twisted.ensureDeferred
async def test_a_user_name_with_a_colon_is_refused_before_the_call(harness: BackendHarness) -> None:
    server = harness.serve(modern(replying(True, 1, 0)))
    error = await failure_of(harness.backend(server.url).call("alice:x", "one.vm.action", "resume", 1))
    assert isinstance(error, OpenNebulaRefusal)
    assert error.code == 256
    assert "one.vm.action" not in server.calls


@pytest_twisted.ensureDeferred
async def test_after_a_refusal_the_credentials_are_tried_again(harness: BackendHarness) -> None:
    server = harness.serve(replying(*REFUSED))
    backend = harness.backend(server.url)
    error = await failure_of(backend.call("alice", "one.vm.action", "resume", 1))
    assert isinstance(error, OpenNebulaRefusal)
    assert error.code == 256
    assert server.calls == [PROBE, PROBE]
    server.behaviour = modern(replying(True, 1, 0))
    assert await backend.call("alice", "one.vm.action", "resume", 1) == 1


@pytest_twisted.ensureDeferred
async def test_two_processes_send_the_same_session_string(harness: BackendHarness) -> None:
    server = harness.serve(modern(replying(True, 1, 0)))
    for _ in range(2):
        await harness.backend(server.url).call("alice", "one.vm.action", "resume", 1)
    sent = [peer.arguments[0] for peer in server.asking if peer.method != PROBE]
    assert sent == [token("alice")] * 2


# Unavailable servers


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


def sends(data: bytes) -> Behaviour:
    """Return the behaviour of sending some bytes and closing the connection."""

    def behave(peer: StubConnection) -> None:
        peer.send(data)
        peer.close()

    return behave


def half_a_response(peer: StubConnection) -> None:
    """Announce more bytes than are sent."""
    body = reply(True, "<VM/>", 0)
    peer.answer(body[: len(body) // 2], length=len(body))


LOST_CONNECTIONS: dict[str, Behaviour] = {
    "closes at once": StubConnection.close,
    "resets": StubConnection.reset,
    "sends half a head": sends(b"HTTP/1.1 200"),
    "sends half a response": half_a_response,
    "is a proxy without oned": lambda peer: peer.answer(b"<html>Bad Gateway</html>", "502 Bad Gateway"),
    "is being restarted": lambda peer: peer.answer(b"", "503 Service Unavailable"),
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


# Invalid replies


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
    "an internal error": lambda peer: peer.answer(b"oops", "500 Internal OnedStub Error"),
    "a redirection": lambda peer: peer.answer(b"", "302 Found"),
    "a web page": lambda peer: peer.answer(b"<html><body>It works!</body></html>"),
    "no text": lambda peer: peer.answer(b"\xff\xfe\x00\x01"),
    "half a document": lambda peer: peer.answer(reply(True, "<VM/>", 0)[:-20]),
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
    await server.asking[-1].lost


@pytest_twisted.ensureDeferred
async def test_a_reply_that_exceeds_the_limit_is_aborted(harness: BackendHarness) -> None:
    server = harness.serve(modern(lambda peer: peer.send(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 10_000_000)))
    call = harness.backend(server.url, CallLimits(reply_bytes=1_000_000)).document("alice", "one.vm.info", 1, False)
    error = await failure_of(call)
    assert isinstance(error, InvalidReply)
    assert "1000000 bytes" in error.reason
    await server.asking[-1].lost


@pytest_twisted.ensureDeferred
async def test_a_reply_whose_announced_length_exceeds_the_limit_is_aborted(harness: BackendHarness) -> None:
    server = harness.serve(modern(lambda peer: peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000001\r\n\r\n")))
    call = harness.backend(server.url, CallLimits(reply_bytes=1_000_000)).document("alice", "one.vm.info", 1, False)
    assert isinstance(await failure_of(call), InvalidReply)
    await server.asking[-1].lost


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
        ("one.vmpool.info", DEFAULT.reply_bytes),
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


# Slots


@pytest_twisted.ensureDeferred
async def test_the_number_of_concurrent_calls_is_limited(harness: BackendHarness) -> None:
    server = harness.serve(modern(lambda peer: None))
    backend = harness.backend(server.url, CallLimits(calls=2))
    calls = [started(backend.call("alice", "one.vm.action", "resume", number)) for number in range(5)]
    for answered in range(5):
        peer = await server.request(answered + 2)
        assert len(server.peers) <= 1 + answered + 2
        peer.answer(reply(True, 1, 0))
        await peer.lost
    assert [await call for call in calls] == [1] * 5


@pytest_twisted.ensureDeferred
async def test_waiting_calls_are_made_in_order(harness: BackendHarness) -> None:
    server = harness.serve(modern(lambda peer: peer.answer(reply(True, peer.arguments[-1], 0))))
    backend = harness.backend(server.url, CallLimits(calls=1))
    calls = [started(backend.call("alice", "one.vm.action", "resume", number)) for number in range(5)]
    assert [await call for call in calls] == [0, 1, 2, 3, 4]
    assert [peer.arguments[-1] for peer in server.asking[1:]] == [0, 1, 2, 3, 4]


@pytest_twisted.ensureDeferred
async def test_a_cancelled_waiting_call_takes_no_slot(harness: BackendHarness) -> None:
    server = harness.serve(modern(lambda peer: None))
    backend = harness.backend(server.url, CallLimits(calls=1))
    first, second, third = (started(backend.call("alice", "one.vm.action", "resume", each)) for each in range(3))
    peer = await server.request(2)
    second.cancel()
    with pytest.raises(CancelledError):
        await second
    peer.answer(reply(True, 0, 0))
    assert await first == 0
    peer = await server.request(3)
    assert peer.arguments[-1] == 2
    peer.answer(reply(True, 2, 0))
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
    assert [peer.arguments[-1] for peer in server.asking[1:]] == [1, 2, 3]


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


# Observers and log


@pytest_twisted.ensureDeferred
async def test_an_observer_is_called_once_for_every_call_with_its_outcome(harness: BackendHarness) -> None:
    seen: list[tuple[str, float, str]] = []
    server = harness.serve(modern(replying(True, "<VM/>", 0)))
    backend = ObservedOpenNebula(harness.backend(server.url), harness.clock, lambda *outcome: seen.append(outcome))
    await backend.document("alice", "one.vm.info", 1, False)
    for behaviour in (replying(False, "no", 2048), StubConnection.close, lambda peer: peer.answer(b"?")):
        server.behaviour = modern(behaviour)
        await failure_of(backend.call("alice", "one.vm.action", "resume", 1))
    asked = len(server.asking)
    server.behaviour = modern(lambda peer: None)
    call = started(backend.call("alice", "one.vm.action", "resume", 1))
    await server.request(asked + 1)
    harness.clock.advance(3)
    call.cancel()
    with pytest.raises(CancelledError):
        await call
    assert seen == [
        ("one.vm.info", 0, "ok"),
        ("one.vm.action", 0, "refused"),
        ("one.vm.action", 0, "unavailable"),
        ("one.vm.action", 0, "nonsense"),
        ("one.vm.action", 3, "cancelled"),
    ]


@pytest_twisted.ensureDeferred
async def test_a_retry_is_logged_at_the_debug_level(harness: BackendHarness) -> None:
    """A change is not retried."""
    server = harness.serve(modern(StubConnection.close))
    backend = harness.backend(server.url)
    await failure_of(backend.call("alice", "one.vm.action", "resume", 1))
    assert harness.said == []
    await failure_of(backend.document("alice", "one.vm.info", 1, False))
    assert [event["log_level"] for event in harness.said] == [LogLevel.debug]
    assert formatEvent(harness.said[0]).startswith("retrying: one.vm.info: ")


# TLS


@dataclass(frozen=True)
class Authority:
    """A certificate authority with a server certificate, and its PEM file."""

    file: Path
    options: Any


def authority(directory: Path, name: str, host: str) -> Authority:
    """Create an authority and a certificate of it for `host`, an address or a name."""
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.fromtimestamp(time.time(), UTC)

    def certificate(subject: x509.Name, key: Any, *extensions: x509.ExtensionType) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(keys[0], hashes.SHA256())

    def pem(made: x509.Certificate) -> bytes:
        return made.public_bytes(serialization.Encoding.PEM)

    root = certificate(issuer, keys[0], x509.BasicConstraints(ca=True, path_length=None))
    try:
        alternative: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        alternative = x509.DNSName(host)
    leaf = certificate(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "oned")]),
        keys[1],
        x509.SubjectAlternativeName([alternative]),
    )
    private = keys[1].private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = directory / f"{name}.pem"
    file.write_bytes(pem(root))
    return Authority(file, server_options(pem(leaf) + private))


@pytest_twisted.ensureDeferred
async def test_https_trusts_the_configured_authority(harness: BackendHarness, tmp_path: Path) -> None:
    ours = authority(tmp_path, "ours", "127.0.0.1")
    server = harness.serve(modern(replying(True, 1, 0)), tls=ours.options)
    backend = harness.backend(server.url, ca_file=ours.file)
    assert await backend.call("alice", "one.vm.action", "resume", 1) == 1


@pytest_twisted.ensureDeferred
async def test_a_file_may_have_several_authorities(harness: BackendHarness, tmp_path: Path) -> None:
    ours, other = authority(tmp_path, "ours", "127.0.0.1"), authority(tmp_path, "other", "127.0.0.1")
    both = tmp_path / "both.pem"
    both.write_bytes(other.file.read_bytes() + ours.file.read_bytes())
    server = harness.serve(modern(replying(True, 1, 0)), tls=ours.options)
    assert await harness.backend(server.url, ca_file=both).call("alice", "one.vm.action", "resume", 1) == 1


@pytest.mark.parametrize("given", ["another authority", "the system's"])
@pytest_twisted.ensureDeferred
async def test_nothing_is_sent_to_a_server_with_a_certificate_of_another_authority(
    harness: BackendHarness, tmp_path: Path, given: str
) -> None:
    ours, other = authority(tmp_path, "ours", "127.0.0.1"), authority(tmp_path, "other", "127.0.0.1")
    server = harness.serve(modern(replying(True, 1, 0)), tls=other.options)
    backend = harness.backend(server.url, ca_file=ours.file if given == "another authority" else None)
    error = await failure_of(backend.call("alice", "one.vm.action", "resume", 1))
    assert isinstance(error, OpenNebulaUnavailable)
    assert "certificate verify failed" in error.reason
    assert server.calls == []


@pytest_twisted.ensureDeferred
async def test_nothing_is_sent_to_a_server_with_a_certificate_for_another_host(
    harness: BackendHarness, tmp_path: Path
) -> None:
    ours = authority(tmp_path, "ours", "oned.example")
    server = harness.serve(modern(replying(True, 1, 0)), tls=ours.options)
    backend = harness.backend(server.url, ca_file=ours.file)
    assert isinstance(await failure_of(backend.call("alice", "one.vm.action", "resume", 1)), OpenNebulaUnavailable)
    assert server.calls == []


@pytest.mark.parametrize(
    ("what", "never_sent", "is_secure"),
    [
        ("nobody listens", True, False),
        ("nobody listens", True, True),
        ("a stranger's certificate", True, True),
        ("cut in the handshake", True, True),
        ("cut", False, False),
        ("cut", False, True),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_call_is_certainly_not_sent_only_without_a_connection(
    harness: BackendHarness, tmp_path: Path, what: str, never_sent: bool, is_secure: bool
) -> None:
    """Only then a change may be repeated. Over TLS there is a connection after the handshake."""
    ours, other = authority(tmp_path, "ours", "127.0.0.1"), authority(tmp_path, "other", "127.0.0.1")
    options = (other if "stranger" in what else ours).options if is_secure and "handshake" not in what else None
    server = harness.serve(
        lambda peer: peer.reset(), lambda peer: peer.reset() if "handshake" in what else None, tls=options
    )
    url = server.url.replace("http:", "https:") if is_secure else server.url
    if what == "nobody listens":
        await maybeDeferred(harness.ports.pop().stopListening)
    proxy = OnedProxy(
        harness.reactor, url, oned_endpoint(harness.reactor, url, ours.file if is_secure else None), 1 << 20
    )
    error = await failure_of(proxy.callRemote("one.vm.action", "session"))
    assert isinstance(error, OpenNebulaUnavailable)
    assert error.never_sent is never_sent
    assert server.calls == ([] if never_sent else ["one.vm.action"])


@pytest.mark.parametrize("url", ["", "localhost:2633", "ftp://localhost/", "http://", "http:///RPC2"])
@pytest_twisted.ensureDeferred
async def test_an_invalid_url_is_an_error(harness: BackendHarness, url: str) -> None:
    with pytest.raises(ValueError, match="not the http or https URL"):
        oned_endpoint(harness.reactor, url)


@pytest_twisted.ensureDeferred
async def test_a_file_without_an_authority_is_an_error(harness: BackendHarness, tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing")
    with pytest.raises(ValueError, match="PEM"):
        oned_endpoint(harness.reactor, "https://127.0.0.1/RPC2", empty)
    with pytest.raises(FileNotFoundError):
        oned_endpoint(harness.reactor, "https://127.0.0.1/RPC2", tmp_path / "missing.pem")
