"""Strangers cannot find out which users exist: not by responses, calls to oned or metrics."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.logger import formatEvent

from econed.config.settings import Settings
from tests.support.metrics import samples
from tests.support.serving import Server, get, send_request, signed

NAMES = ["alice", "disabled", "certified", "tokened", "nobody", "no-body"]
"""A user, a disabled user, a user of the driver x509, one with login tokens, and two names without a user."""

_VARIABLE = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|Date: [^\r]*")
"""The parts that differ between any two requests: their ids and dates."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Return a daemon with users of each kind and an empty cache."""
    server = Server(Settings(tmpdir=str(tmp_path), failed_signatures=None))
    disabled = server.cloud.oneadmin("one.user.allocate", "disabled", "secret", "core", [])
    server.cloud.oneadmin("one.user.enable", disabled, False)
    server.cloud.oneadmin("one.user.allocate", "certified", "/CN=certified", "x509", [])
    server.cloud.oneadmin("one.user.allocate", "tokened", "-", "ldap", [])
    for _ in range(10):
        server.cloud.as_user("tokened", "one.user.login", "tokened", "", -1, -1)
    yield server
    server.close()


async def observed(server: Server, name: str, secret: str) -> tuple[list[str], bytes, list[str]]:
    """Return the effects of a request: the calls to oned, the response, and the lines of the log without the reason."""
    calls_before, events_before = len(server.cloud.oned.calls), len(server.events)
    client = await send_request(server, get(server, signed(server, name, secret)))
    calls = [call.method for call in list(server.cloud.oned.calls)[calls_before:]]
    lines = [str(formatEvent(event)).partition(", key ")[0] for event in server.events[events_before:]]
    response = _VARIABLE.sub(b"", client.received)
    return calls, response, [_VARIABLE.sub(b"", line.encode()).decode() for line in lines]


@pytest_twisted.ensureDeferred
async def test_a_wrong_signature_does_not_reveal_whether_the_user_exists(server: Server) -> None:
    """Response and calls are the same for any name, at any number of requests, and so is the number of log lines."""
    for pause in (0, 2, 2, 3, 60):
        server.cloud.clock.advance(pause)
        observations = []
        for name in NAMES:
            observations.append(await observed(server, name, "wrong"))
            server.cloud.clock.advance(2)
        first, *rest = observations
        if pause == 0:  # the very first request reads all users, for any name
            assert first[0] == ["one.userpool.info"]
            first = ([*rest[0][0]], *first[1:])
        assert rest == [first] * len(rest)
        assert b"401 Unauthorized" in first[1]
        assert b"AuthFailure" in first[1]
    metrics = samples(server.metrics.snapshot())
    assert not [key for key in metrics if any(name in part for name in NAMES for part in key)]


@pytest.mark.parametrize("name", NAMES)
@pytest_twisted.ensureDeferred
async def test_the_first_request_to_a_process_does_not_reveal_it_either(server: Server, name: str) -> None:
    """Nor do the following ones, immediately and later."""
    calls = []
    for pause in (0, 0, 1, 1, 3):
        server.cloud.clock.advance(pause)
        calls.append((await observed(server, name, "wrong"))[0])
    users = len(list(server.cloud.oned.cloud.users))
    refresh = ["one.grouppool.info", *["one.user.info"] * min(users, 8)]
    assert calls == [["one.userpool.info"], [], [], refresh, refresh]


@pytest_twisted.ensureDeferred
async def test_the_log_says_what_the_response_does_not(server: Server) -> None:
    """Which of the reasons for AuthFailure applies, and to whom."""
    reasons = {}
    for name in NAMES[:5]:
        await observed(server, name, "wrong")
        reasons[name] = str(formatEvent(server.events[-1])).partition(", key ")[2]
    assert reasons == {
        "alice": "alice: wrong secret key, or the request was changed after it was signed",
        "disabled": "disabled: the user is disabled",
        "certified": "certified: the user has no secret key: no password with the driver x509, no valid login token",
        "tokened": "tokened: wrong secret key, or the request was changed after it was signed",
        "nobody": "nobody: no user with this name is known",
    }


@pytest_twisted.ensureDeferred
async def test_a_correct_signature_causes_a_call_for_its_user_only(server: Server) -> None:
    """Only users whose signature was verified are read again."""
    await observed(server, "alice", "alicepw")
    server.cloud.clock.advance(3)
    calls, response, _ = await observed(server, "alice", "alicepw")
    assert calls[0] == "one.user.info"
    assert b"200 OK" in response
