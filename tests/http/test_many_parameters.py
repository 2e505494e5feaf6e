"""Requests with very many parameters, over real sockets: other requests run between the steps of parsing them."""

from __future__ import annotations

import pytest_twisted

from econed.actions.filters import MAX_LENGTH, MAX_VALUES
from econed.actions.pacing import PARAMETER_COST, SLICE
from econed.wire.parameter_tree import MAX_ELEMENTS
from tests.support.reactor_turns import wait_until
from tests.support.serving import Server, connected, get, send_request, signed

MANY = max(SLICE // PARAMETER_COST, MAX_ELEMENTS) + 500
FEW = SLICE // PARAMETER_COST // 10


def many_images(server: Server, count: int) -> bytes:
    """Return a request with so many image ids."""
    return form_of(server, {f"ImageId.{number}": f"ami-{number:08d}" for number in range(1, count + 1)})


def form_of(server: Server, parameters: dict[str, str]) -> bytes:
    """Return a DescribeImages request as a form."""
    body = signed(server, method="POST", Action="DescribeImages", **parameters).encode()
    head = f"POST / HTTP/1.1\r\nHost: {server.address}\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def small_request_succeeds(server: Server) -> bool:
    """Whether a small request succeeds while the clock stands still."""
    small = await connected(server)
    small.send(get(server, signed(server)))
    await wait_until(lambda: small.has_response)
    return small.status == 200


@pytest_twisted.ensureDeferred
async def test_other_requests_run_before_one_with_many_parameters_is_authenticated_and_decoded(
    server: Server,
) -> None:
    await send_request(server, get(server, signed(server)))
    large = await connected(server)
    large.send(many_images(server, MANY))
    assert await small_request_succeeds(server)
    assert not large.received
    before = len(server.cloud.oned.calls)
    server.cloud.clock.advance(0)
    await wait_until(lambda: large.has_response)
    assert large.code == "InvalidParameterValue"
    assert len(server.cloud.oned.calls) == before


@pytest_twisted.ensureDeferred
async def test_a_request_with_few_parameters_small_request_succeeds(server: Server) -> None:
    small = await connected(server)
    small.send(many_images(server, FEW))
    await wait_until(lambda: small.has_response)
    assert small.code == "InvalidAMIID.NotFound"


@pytest_twisted.ensureDeferred
async def test_other_requests_run_before_long_patterns_are_compiled(server: Server) -> None:
    """However many such requests there are, other requests run between them."""
    await send_request(server, get(server, signed(server)))
    patterns = {f"Filter.1.Value.{number}": f"{'x' * (MAX_LENGTH - 1)}*" for number in range(1, MAX_VALUES + 1)}
    long = await connected(server)
    long.send(form_of(server, {"Filter.1.Name": "name", **patterns}))
    assert await small_request_succeeds(server)
    assert not long.received
    server.cloud.clock.advance(0)
    await wait_until(lambda: long.has_response)
    assert long.status == 200
