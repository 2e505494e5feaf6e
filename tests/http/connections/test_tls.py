"""The limits of connections that use TLS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest_twisted
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.ssl import CertificateOptions
from twisted.protocols.tls import TLSMemoryBIOFactory

from econed.http.channel import LINGER_TIME
from tests.http.connections.connecting import LongResponse, Serve, stage
from tests.support.certificates import server_options, write_server_pair
from tests.support.reactor_turns import one_turn, wait_until, wait_until_unchanged
from tests.support.serving import Client, connected, get, reactor


class _TLS:
    """Wraps a site in TLS, with a certificate for this machine."""

    def __init__(self, directory: Path) -> None:
        cert, key = write_server_pair(directory)
        self.server = server_options(cert.read_bytes() + key.read_bytes())

    def __call__(self, site: Any) -> Any:
        return TLSMemoryBIOFactory(self.server, False, site)


@pytest_twisted.ensureDeferred
async def test_a_connection_without_a_complete_handshake_is_closed_at_the_idle_timeout(
    serve: Serve, tmp_path: Path
) -> None:
    """The idle timeout starts with the connection; bytes of a handshake do not extend it."""
    server = serve(wrapped=_TLS(tmp_path), idle_timeout=75)
    silent, slow = await connected(server), await connected(server)
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
    for byte in hello[:7]:
        slow.send(bytes([byte]))
        await server.received_all()
        server.cloud.clock.advance(10)
    assert server.site.connections == 2
    server.cloud.clock.advance(5)
    await wait_until(lambda: silent.is_closed and slow.is_closed)
    assert server.site.connections == 0


@pytest_twisted.ensureDeferred
async def test_connections_are_counted_before_the_tls_handshake(serve: Serve, tmp_path: Path) -> None:
    server = serve(wrapped=_TLS(tmp_path), max_connections_per_address=2)
    clients = [await connected(server) for _ in range(2)]
    refused = await connected(server)
    await wait_until(lambda: refused.is_closed)
    assert not any(client.is_closed for client in clients)
    assert server.refused == ["max_connections_per_address"]


@pytest_twisted.ensureDeferred
async def test_a_refused_request_gets_a_response_over_tls_and_the_connection_is_closed(
    serve: Serve, tmp_path: Path
) -> None:
    server = serve(wrapped=_TLS(tmp_path), header_timeout=20)
    endpoint = wrapClientTLS(CertificateOptions(), TCP4ClientEndpoint(reactor, "127.0.0.1", server.number))
    client: Any = await connectProtocol(endpoint, Client())
    client.send(b"GET /")
    await wait_until(lambda: stage(server) == "HEAD")
    server.cloud.clock.advance(20)
    await wait_until(lambda: client.has_response)
    assert (client.status, client.code) == (408, "RequestTimeout")
    server.cloud.clock.advance(LINGER_TIME)
    await wait_until(lambda: client.is_closed)


@pytest_twisted.ensureDeferred
async def test_a_long_response_that_is_not_read_is_aborted_over_tls_too(serve: Serve, tmp_path: Path) -> None:
    resource = LongResponse()
    server = serve(resource, _TLS(tmp_path), idle_timeout=75)
    endpoint = wrapClientTLS(CertificateOptions(), TCP4ClientEndpoint(reactor, "127.0.0.1", server.number))
    client: Any = await connectProtocol(endpoint, Client())
    client.send(get(server))
    await wait_until(lambda: client.received)
    client.transport.transport.pauseProducing()
    await wait_until_unchanged(lambda: len(resource.pieces))
    assert resource.pieces
    server.cloud.clock.advance(74)
    await one_turn()
    assert server.site.connections == 1
    server.cloud.clock.advance(1)
    await wait_until(lambda: server.site.connections == 0)
    client.transport.abortConnection()
