"""Long responses that fail or that clients do not read: never taken for complete, and aborted."""

from __future__ import annotations

import socket
from contextlib import suppress

import pytest
import pytest_twisted
from botocore.exceptions import BotoCoreError, ClientError

from econed.actions.reading_ahead import MAX_AHEAD_PER_SESSION
from econed.config.settings import Settings
from econed.http.channel import MIN_RESPONSE_RATE
from tests.http.responses.reading import (
    counting_oned,
    held_bytes,
    listing,
    one_server_turn,
    reader,
    until,
    until_quiet,
    use_small_send_buffers,
    with_boto,
)
from tests.support.serving import Server, connected

pytestmark = pytest.mark.slow

ENOUGH = 2 * int(MIN_RESPONSE_RATE * Settings.idle_timeout)
"""Bytes of a response after which the deadline has expired at half the minimum rate."""


@pytest_twisted.ensureDeferred
async def test_a_failure_before_the_status_is_sent_becomes_an_error_response(server: Server) -> None:
    counting_oned(server).fails_from = 1
    client = await connected(server)
    client.send(listing(server))
    await until(server, lambda: client.has_response)
    assert (client.status, client.code) == (503, "ServiceUnavailable")


@pytest_twisted.ensureDeferred
async def test_a_failure_in_the_middle_aborts_the_connection_and_is_logged_and_counted(server: Server) -> None:
    """The body is incomplete; the access log has the status that was sent, and the error code."""
    counting_oned(server).fails_from = 4
    client = await connected(server)
    client.send(listing(server))
    await until(server, lambda: client.is_closed)
    assert client.received.startswith(b"HTTP/1.1 200 ")
    assert not client.received.endswith(b"0\r\n\r\n")
    assert b"</DescribeInstancesResponse>" not in client.received
    (line,) = [event for event in server.events if "access" in event]
    assert (line["status"], line["code"]) == (200, "ServiceUnavailable")
    assert 0 < line["bytes"] < len(client.received) + (1 << 22)
    assert held_bytes(server) == 0
    assert ["DescribeInstances", "ServiceUnavailable"] in _outcomes(server)


def _outcomes(server: Server) -> list[list[str]]:
    return [labels for labels, _ in server.metrics.snapshot()["econed_requests"]]


@pytest_twisted.ensureDeferred
async def test_boto3_raises_an_error_for_half_a_list(server_at_wall_time: Server) -> None:
    counting_oned(server_at_wall_time).fails_from = 4
    failure = await with_boto(server_at_wall_time, lambda ec2: ec2.describe_instances())
    assert failure.check(BotoCoreError, ClientError), failure


@pytest_twisted.ensureDeferred
async def test_no_more_is_read_from_oned_after_the_client_disconnects(server: Server) -> None:
    """The iterator is closed, its memory is released, and the access log says that the client has gone."""
    use_small_send_buffers(server)
    with reader(server, listing(server)):
        await until_quiet(server)
        assert counting_oned(server).sets == 1 + MAX_AHEAD_PER_SESSION
    await until(server, lambda: server.site.connections == 0)
    await until_quiet(server)
    assert counting_oned(server).sets == 1 + MAX_AHEAD_PER_SESSION
    (line,) = [event for event in server.events if "access" in event]
    assert (line["status"], line["code"]) == (200, "ClientGone")
    assert held_bytes(server) == 0


@pytest_twisted.ensureDeferred
async def test_a_client_that_reads_nothing_is_disconnected(server: Server) -> None:
    """After the idle timeout."""
    use_small_send_buffers(server)
    with reader(server, listing(server)):
        await until(server, lambda: counting_oned(server).sets == 1)
        await until_quiet(server)
        server.cloud.clock.advance(Settings.idle_timeout - 1)
        await until_quiet(server)
        assert server.site.connections == 1
        server.cloud.clock.advance(1)
        await until(server, lambda: server.site.connections == 0)


@pytest_twisted.ensureDeferred
async def test_a_client_that_reads_below_the_minimum_rate_is_disconnected(server: Server) -> None:
    """Each byte extends the deadline by the time it takes at the minimum rate; a faster client gets everything."""
    use_small_send_buffers(server)
    for factor, is_fast_enough in ((0.5, False), (2.0, True)):
        with reader(server, listing(server)) as connection:
            await until(server, lambda: server.site.connections == 1)
            received = 0
            while server.site.connections and received < ENOUGH:
                before = received
                while received < before + (1 << 17) and server.site.connections:
                    received += receive_available(connection)
                    await one_server_turn(server)
                server.cloud.clock.advance((received - before) / (MIN_RESPONSE_RATE * factor))
                await one_server_turn(server)
            assert bool(server.site.connections) is is_fast_enough
        await until(server, lambda: server.site.connections == 0)


def receive_available(connection: socket.socket) -> int:
    with suppress(BlockingIOError, ConnectionResetError):
        return len(connection.recv(1 << 16))
    return 0
