"""Limits of a user: requests in flight, and bytes of long responses that are not read."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from econed.config.settings import Settings
from econed.http.response import STREAMING_THRESHOLD
from econed.http.response_memory import MAX_BYTES_PER_USER
from tests.http.responses.reading import (
    PUBLIC_KEY,
    counting_oned,
    listing,
    memory_of,
    reader,
    response_to,
    served,
    until,
    until_quiet,
    use_small_send_buffers,
)
from tests.support.cloud import Cloud
from tests.support.serving import Server, get, signed

pytestmark = pytest.mark.slow


@pytest.fixture
def limited_server(cloud: Cloud, tmp_path: Path) -> Iterator[Server]:
    """A server that allows each user two requests in flight."""
    settings = Settings(tmpdir=str(tmp_path), describe_with_terminated_instances=False, max_requests_per_user=2)
    yield from served(cloud, settings)


@pytest_twisted.ensureDeferred
async def test_the_requests_in_flight_of_a_user_are_limited(limited_server: Server) -> None:
    """A request is in flight until its response has been read, or its client has disconnected."""
    use_small_send_buffers(limited_server)
    with reader(limited_server, listing(limited_server)):
        with reader(limited_server, listing(limited_server)):
            await until(limited_server, lambda: counting_oned(limited_server).sets == 2)
            await until_quiet(limited_server)
            refused = await response_to(limited_server, get(limited_server, signed(limited_server)))
            assert (refused.status, refused.code) == (503, "RequestLimitExceeded")
            assert (
                await response_to(limited_server, get(limited_server, signed(limited_server, "bob", "bobpw")))
            ).status == 200
        await until(limited_server, lambda: limited_server.site.connections == 1)
        assert (await response_to(limited_server, get(limited_server, signed(limited_server)))).status == 200
        assert (await response_to(limited_server, get(limited_server, signed(limited_server)))).status == 200
    assert limited_server.metrics.snapshot()["econed_refusals"] == [(["max_requests_per_user"], [1])]


@pytest_twisted.ensureDeferred
async def test_a_change_is_in_flight_until_it_is_complete_even_if_the_client_disconnects(
    limited_server: Server,
) -> None:
    """Otherwise a client that disconnects each time could start any number of changes."""
    counting_oned(limited_server).held = Deferred()
    material = base64.b64encode(PUBLIC_KEY).decode()
    query = signed(limited_server, Action="ImportKeyPair", KeyName="held", PublicKeyMaterial=material)
    for _ in range(2):
        with reader(limited_server, get(limited_server, query)):
            await until(limited_server, lambda: limited_server.site.busy == 1)
            await until_quiet(limited_server)
        await until(limited_server, lambda: limited_server.site.connections == 0)
    refused = await response_to(limited_server, get(limited_server, signed(limited_server)))
    assert (refused.status, refused.code) == (503, "RequestLimitExceeded")
    held, counting_oned(limited_server).held = counting_oned(limited_server).held, None
    assert held is not None
    held.callback(None)
    await until_quiet(limited_server)
    assert (await response_to(limited_server, get(limited_server, signed(limited_server)))).status == 200


@pytest_twisted.ensureDeferred
async def test_long_responses_that_do_not_come_in_parts_are_limited_too(server: Server) -> None:
    """A user with the maximum of unread bytes is refused another one; short responses are still sent."""
    for number in range(200):
        name = f"{number:03}{'k' * 200}"
        server.cloud.run("alice", "ImportKeyPair", KeyName=name, PublicKeyMaterial=PUBLIC_KEY)
    memory = memory_of(server)
    memory.hold("alice", MAX_BYTES_PER_USER)
    keys = get(server, signed(server, Action="DescribeKeyPairs"))
    refused = await response_to(server, keys)
    assert (refused.status, refused.code) == (503, "RequestLimitExceeded")
    assert (await response_to(server, get(server, signed(server)))).status == 200
    memory.release("alice", MAX_BYTES_PER_USER)
    accepted = await response_to(server, keys)
    assert accepted.status == 200
    assert len(accepted.received) > STREAMING_THRESHOLD
    assert memory.held == 0
