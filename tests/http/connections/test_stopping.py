"""The connections of a site that stops."""

from __future__ import annotations

import pytest_twisted
from twisted.internet.defer import Deferred

from econed.config.settings import Settings
from tests.http.connections.connecting import Serve, stage, used_connection
from tests.support.reactor_turns import wait_until
from tests.support.serving import connected, get


@pytest_twisted.ensureDeferred
async def test_a_connection_is_busy_from_the_headers_of_a_request_to_its_response(serve: Serve) -> None:
    """A process that exits should not interrupt that."""
    server = serve()
    client = await connected(server)
    assert server.site.busy == 0
    client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nAct")
    await wait_until(lambda: server.site.busy)
    client.send(b"i")
    await wait_until(lambda: client.received)
    await wait_until(lambda: not server.site.busy)
    assert server.site.connections == 1


@pytest_twisted.ensureDeferred
async def test_a_drained_site_closes_each_connection_after_one_more_response(serve: Serve) -> None:
    server = serve()
    active, idle = await used_connection(server), await used_connection(server)
    all_closed = Deferred.fromCoroutine(server.site.all_closed())
    server.site.drain()
    assert server.site.is_draining
    active.send(get(server))
    await wait_until(lambda: active.is_closed)
    assert active.has_response
    assert b"connection: close" in active.head
    assert server.site.connections == 1
    assert not all_closed.called
    server.cloud.clock.advance(Settings.idle_timeout)
    await wait_until(lambda: idle.is_closed)
    assert idle.received == b""
    await all_closed
    await Deferred.fromCoroutine(server.site.all_closed())


@pytest_twisted.ensureDeferred
async def test_a_request_in_flight_when_the_site_is_drained_gets_its_response(serve: Serve) -> None:
    server = serve()
    client = await connected(server)
    client.send(get(server)[:-4])
    await wait_until(lambda: stage(server) == "HEAD")
    server.site.drain()
    client.send(b"\r\n\r\n")
    await wait_until(lambda: client.is_closed)
    assert client.has_response
    assert b"connection: close" in client.head


@pytest_twisted.ensureDeferred
async def test_an_aborted_site_has_no_connections(serve: Serve) -> None:
    server = serve()
    clients = [await used_connection(server), await connected(server)]
    all_closed = Deferred.fromCoroutine(server.site.all_closed())
    server.site.abort()
    await all_closed
    await wait_until(lambda: all(client.is_closed for client in clients))
    assert server.site.connections == 0
