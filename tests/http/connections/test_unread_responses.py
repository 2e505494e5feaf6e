"""Responses that clients do not read: bounded memory, and disconnection."""

from __future__ import annotations

import socket

import pytest_twisted

from tests.http.connections.connecting import LongResponse, Serve, held_bytes, send_available, slow_reader
from tests.support.reactor_turns import one_turn, wait_until
from tests.support.serving import connected, get


@pytest_twisted.ensureDeferred
async def test_a_client_that_pipelines_and_does_not_read_uses_bounded_memory_and_is_disconnected(serve: Serve) -> None:
    """Its requests are as short as possible; the responses are fifty times as long."""
    server = serve(idle_timeout=75, failed_signatures=None)
    requests, sent, max_held, idle = b"GET / HTTP/1.1\r\nHost:\r\n\r\n" * 1000, 0, 0, 0
    with slow_reader(server) as connection:
        await wait_until(lambda: server.site.connections)
        while idle < 200:
            count = send_available(connection, requests)
            sent, idle = sent + count, 0 if count else idle + 1
            await one_turn()
            max_held = max(max_held, held_bytes(server))
        assert sent > 100_000
        assert max_held < 1 << 19
        server.cloud.clock.advance(74)
        await one_turn()
        assert server.site.connections == 1
        server.cloud.clock.advance(1)
        await wait_until(lambda: server.site.connections == 0)


@pytest_twisted.ensureDeferred
async def test_a_client_that_pipelines_and_reads_gets_every_response(serve: Serve) -> None:
    """Parsing resumes where it was paused."""
    server = serve(failed_signatures=None)
    client = await connected(server)
    client.send(get(server) * 3000)
    await wait_until(lambda: client.received.count(b"</Response>") == 3000)
    assert client.received.count(b"HTTP/1.1 403 ") == 3000


@pytest_twisted.ensureDeferred
async def test_a_long_response_that_is_not_read_is_aborted(serve: Serve) -> None:
    """While the client reads it is sent, and only a few pieces are in memory."""
    server = serve(LongResponse(), idle_timeout=75)
    with slow_reader(server) as connection:
        await wait_until(lambda: server.site.connections)
        connection.send(get(server))
        await wait_until(lambda: held_bytes(server) >= 1 << 16)
        for _ in range(3):
            server.cloud.clock.advance(70)
            received = 0
            while received < 1 << 23:
                received += receive_available(connection)
                await one_turn()
            assert held_bytes(server) <= 1 << 18
        assert server.site.connections == 1
        server.cloud.clock.advance(75)
        await wait_until(lambda: server.site.connections == 0)


def receive_available(connection: socket.socket) -> int:
    try:
        return len(connection.recv(1 << 20))
    except BlockingIOError:
        return 0
