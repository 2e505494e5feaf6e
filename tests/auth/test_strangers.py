"""What a stranger can see of who is a user: nothing, by answers, by calls to oned, by log lines and numbers."""

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

NAMES = ["alice", "disabled", "certified", "nobody", "no-body"]
"""A user, one who is disabled, one who comes by certificate, and two names that are nobody's."""

_CHANGING = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|Date: [^\r]*")
"""What differs between any two requests: their ids and their date."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Return a daemon with users of each kind, none of whom it knows yet."""
    running = Server(Settings(tmpdir=str(tmp_path), failed_signatures=None))
    disabled = running.cloud.oneadmin("one.user.allocate", "disabled", "secret", "core", [])
    running.cloud.oneadmin("one.user.enable", disabled, False)
    running.cloud.oneadmin("one.user.allocate", "certified", "/CN=certified", "x509", [])
    yield running
    running.close()


async def told(server: Server, name: str, secret: str) -> tuple[list[str], bytes, list[str]]:
    """Return what a request comes to: the calls to oned, the answer, the lines of the log."""
    before, lines = len(server.cloud.oned.calls), len(server.events)
    client = await send_request(server, get(server, signed(server, name, secret)))
    calls = [call.method for call in list(server.cloud.oned.calls)[before:]]
    said = [str(formatEvent(event)) for event in server.events[lines:]]
    answer = _CHANGING.sub(b"", client.received)
    return calls, answer, [_CHANGING.sub(b"", line.encode()).decode() for line in said]


@pytest_twisted.ensureDeferred
async def test_a_wrong_signature_tells_nothing_of_who_is_a_user(server: Server) -> None:
    """The same answer, after the same calls, with the same lines in the log, whoever is named, however often."""
    for pause in (0, 2, 2, 3, 60):
        server.cloud.clock.advance(pause)
        found = []
        for name in NAMES:
            found.append(await told(server, name, "wrong"))
            server.cloud.clock.advance(2)
        first, *rest = found
        if pause == 0:  # the first request of all is what the users are read for, whoever it names
            assert first[0] == ["one.userpool.info"]
            first = ([*rest[0][0]], *first[1:])
        assert rest == [first] * len(rest)
        assert b"401 Unauthorized" in first[1]
        assert b"AuthFailure" in first[1]
    numbers = samples(server.metrics.snapshot())
    assert not [key for key in numbers if any(name in part for name in NAMES for part in key)]


@pytest.mark.parametrize("name", NAMES)
@pytest_twisted.ensureDeferred
async def test_the_first_request_to_a_process_tells_nothing_either(server: Server, name: str) -> None:
    """Nor the next ones, at once and after a while."""
    seen_calls = []
    for pause in (0, 0, 1, 1, 3):
        server.cloud.clock.advance(pause)
        seen_calls.append((await told(server, name, "wrong"))[0])
    users = len(list(server.cloud.oned.cloud.users))
    look = ["one.grouppool.info", *["one.user.info"] * min(users, 8)]
    assert seen_calls == [["one.userpool.info"], [], [], look, look]


@pytest_twisted.ensureDeferred
async def test_a_right_signature_costs_its_user_a_call_and_nobody_else(server: Server) -> None:
    """Only who has shown the secret is looked at again."""
    await told(server, "alice", "alicepw")
    server.cloud.clock.advance(3)
    calls, answer, _ = await told(server, "alice", "alicepw")
    assert calls[0] == "one.user.info"
    assert b"200 OK" in answer
