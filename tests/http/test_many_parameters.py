"""Requests with very many parameters, over real sockets: they are read in turns, between which others are answered."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted

from econed.actions.filters import MAX_LENGTH, MAX_VALUES
from econed.actions.pacing import PARAMETER, SLICE
from econed.config.settings import Settings
from tests.support.reactor_turns import wait_until
from tests.support.serving import Server, connected, get, send_request, signed

MANY = SLICE // PARAMETER


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server whose clock stands still: what gives way goes on when the test lets time pass."""
    made = Server(Settings(tmpdir=str(tmp_path)))
    yield made
    made.close()
    made.site.abort()


def form(server: Server, count: int) -> bytes:
    """Return a request that names so many images."""
    return posted(server, {f"ImageId.{number}": f"ami-{number:08d}" for number in range(1, count + 1)})


def posted(server: Server, parameters: dict[str, str]) -> bytes:
    """Return a request for images, as a form."""
    body = signed(server, method="POST", Action="DescribeImages", **parameters).encode()
    head = f"POST / HTTP/1.1\r\nHost: {server.address}\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def is_answered_at_once(server: Server) -> bool:
    """Whether a small request is, while what was put off stays so."""
    small = await connected(server)
    small.send(get(server, signed(server)))
    await wait_until(lambda: small.has_response)
    return small.status == 200


@pytest_twisted.ensureDeferred
async def test_a_request_with_many_parameters_gives_way_before_it_is_authenticated_and_before_it_is_decoded(
    server: Server,
) -> None:
    await send_request(server, get(server, signed(server)))
    large = await connected(server)
    large.send(form(server, MANY + 500))
    assert await is_answered_at_once(server)
    assert not large.received
    before = len(server.cloud.oned.calls)
    server.cloud.clock.advance(0)
    await wait_until(lambda: large.has_response)
    assert large.code == "InvalidParameterValue"
    assert len(server.cloud.oned.calls) == before


@pytest_twisted.ensureDeferred
async def test_a_request_with_few_parameters_is_answered_at_once(server: Server) -> None:
    small = await connected(server)
    small.send(form(server, 100))
    await wait_until(lambda: small.has_response)
    assert small.code == "InvalidAMIID.NotFound"


@pytest_twisted.ensureDeferred
async def test_a_request_with_long_patterns_gives_way_before_they_are_compiled(server: Server) -> None:
    """However many such requests come at once: between two of them others are answered."""
    await send_request(server, get(server, signed(server)))
    patterns = {f"Filter.1.Value.{number}": f"{'x' * (MAX_LENGTH - 1)}*" for number in range(1, MAX_VALUES + 1)}
    long = await connected(server)
    long.send(posted(server, {"Filter.1.Name": "name", **patterns}))
    assert await is_answered_at_once(server)
    assert not long.received
    server.cloud.clock.advance(0)
    await wait_until(lambda: long.has_response)
    assert long.status == 200
