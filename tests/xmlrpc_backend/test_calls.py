"""Calls of oned: arguments, replies, refusals, and what is observed and logged."""

from __future__ import annotations

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError
from twisted.logger import Logger, LogLevel, formatEvent
from zope.interface.verify import verifyObject

from econed.errors import OpenNebulaRefusal
from econed.interfaces import IOpenNebula
from econed.opennebula.tokens import PasswordKey
from econed.telemetry.observed_calls import ObservedOpenNebula
from econed.xmlrpc_backend import XMLRPCBackend
from tests.support.oned_stubs import StubConnection, reply, replying
from tests.xmlrpc_backend.calling_oned import PASSWORD, PROBE, BackendHarness, failure_of, modern, started, token

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
    assert server.connections[-1].arguments == (token("alice"), 5, "wéb", True, 'A="<&>"', False)


@pytest_twisted.ensureDeferred
async def test_a_call_without_a_user_is_made_as_serveradmin(harness: BackendHarness) -> None:
    server = harness.serve(modern(replying(True, "7.4.0", 0)))
    assert await harness.backend(server.url).call(None, "one.system.version") == "7.4.0"
    assert server.connections[-1].arguments == (token(None),)


@pytest_twisted.ensureDeferred
async def test_the_request_has_the_host_and_path_of_the_url(harness: BackendHarness) -> None:
    server = harness.serve(modern(replying(True, 1, 0)))
    await harness.backend(server.url).call("alice", "one.vm.action", "resume", 1)
    assert server.connections[-1].head[0] == b"POST /RPC2 HTTP/1.0"
    assert b"Host: " + server.url.split("/")[2].encode() in server.connections[-1].head


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
    server = harness.serve(lambda peer: peer.respond(reply(True, f"<VM><A>{'x' * 300_000}</A></VM>", 0)))
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


# Observers and log


@pytest_twisted.ensureDeferred
async def test_an_observer_is_called_once_for_every_call_with_its_outcome(harness: BackendHarness) -> None:
    seen: list[tuple[str, float, str]] = []
    server = harness.serve(modern(replying(True, "<VM/>", 0)))
    backend = ObservedOpenNebula(harness.backend(server.url), harness.clock, lambda *outcome: seen.append(outcome))
    await backend.document("alice", "one.vm.info", 1, False)
    for behaviour in (replying(False, "no", 2048), StubConnection.close, lambda peer: peer.respond(b"?")):
        server.behaviour = modern(behaviour)
        await failure_of(backend.call("alice", "one.vm.action", "resume", 1))
    request_count = len(server.connections)
    server.behaviour = modern(lambda peer: None)
    call = started(backend.call("alice", "one.vm.action", "resume", 1))
    await server.request(request_count + 1)
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
    assert harness.events == []
    await failure_of(backend.document("alice", "one.vm.info", 1, False))
    assert [event["log_level"] for event in harness.events] == [LogLevel.debug]
    assert formatEvent(harness.events[0]).startswith("retrying: one.vm.info: ")
