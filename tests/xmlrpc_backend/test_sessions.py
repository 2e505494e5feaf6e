"""The session string of a call: the form of token that oned accepts, and refused credentials."""

from __future__ import annotations

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, DeferredList

from econed.answers import failure
from econed.errors import OpenNebulaRefusal, ServerAccountRefused
from econed.opennebula.tokens import CipherForm
from econed.services import EC2
from econed.user import TokenLogin
from tests.support.oned_stubs import replying
from tests.xmlrpc_backend.calling_oned import PROBE, REFUSED, BackendHarness, failure_of, modern, started, taking, token


@pytest_twisted.ensureDeferred
async def test_the_accepted_form_of_token_is_determined_by_the_first_call(
    harness: BackendHarness,
) -> None:
    server = harness.serve(taking(CipherForm.ZERO_IV, replying(True, 1, 0)))
    backend = harness.backend(server.url)
    for _ in range(3):
        assert await backend.call("alice", "one.vm.action", "resume", 1) == 1
    assert server.calls == [PROBE, PROBE] + ["one.vm.action"] * 3
    assert server.connections[-1].arguments[0] == token("alice", CipherForm.ZERO_IV)


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
async def test_the_session_of_a_login_token_needs_no_server_token(harness: BackendHarness) -> None:
    """So the accepted form of server tokens is not determined for it."""
    server = harness.serve(replying(True, 1, 0))
    assert await harness.backend(server.url).call(TokenLogin("alice", "a token"), "one.vm.action", "resume", 1) == 1
    assert server.calls == ["one.vm.action"]
    assert server.connections[0].arguments[0] == "alice:a token"


@pytest_twisted.ensureDeferred
async def test_a_refused_login_token_has_ended(harness: BackendHarness) -> None:
    """No other form is tried: it is an AuthFailure. Its text is not in the error."""
    server = harness.serve(replying(*REFUSED))
    login = TokenLogin("alice", "a token")
    error = await failure_of(harness.backend(server.url).call(login, "one.vm.action", "resume", 1))
    assert isinstance(error, OpenNebulaRefusal)
    assert failure(error, EC2).error.code == "AuthFailure"
    assert server.calls == ["one.vm.action"]
    assert "a token" not in f"{error!r} {error}"


@pytest_twisted.ensureDeferred
async def test_a_login_token_of_a_name_with_a_colon_is_refused_before_the_call(harness: BackendHarness) -> None:
    """The session would be another user's."""
    server = harness.serve(replying(True, 1, 0))
    call = harness.backend(server.url).call(TokenLogin("alice:x", "a token"), "one.vm.action", "resume", 1)
    error = await failure_of(call)
    assert isinstance(error, OpenNebulaRefusal)
    assert error.code == 256
    assert server.calls == []


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
    server.connections.clear()
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
    sent = [peer.arguments[0] for peer in server.connections if peer.method != PROBE]
    assert sent == [token("alice")] * 2
