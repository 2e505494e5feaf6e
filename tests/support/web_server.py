"""A web server on 127.0.0.1 whose responses a test sets, and the name resolution that returns its address."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.python.failure import Failure

from econed.fetching.fetcher import Internet
from econed.hosts import Address
from tests.support.certificates import Issued, key_pem, server_options

reactor: Any = _reactor
INTERNET = "127.0.0.1"
"""The only address that counts as public in the tests."""


class Connection(Protocol):
    """A connection to the web server."""

    factory: WebServer
    is_lost = False

    def connectionMade(self) -> None:
        """Begin to read a request."""
        self._received = b""

    def dataReceived(self, data: bytes) -> None:
        """Respond to a request when its head is complete."""
        self._received += data
        head, end, _ = self._received.partition(b"\r\n\r\n")
        if end:
            self._received = b""
            self.factory.request_received(self, head.decode("latin-1"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Record it."""
        self.is_lost = True

    def send(self, data: bytes) -> None:
        """Send bytes."""
        assert self.transport is not None
        self.transport.write(data)

    def close(self) -> None:
        """Close the connection."""
        assert self.transport is not None
        self.transport.loseConnection()


class WebServer(ServerFactory):
    """The server. `pages` are its whole responses by path; a request for another path gets no response."""

    protocol = Connection  # type: ignore[assignment]  # its factory is this one
    noisy = False

    def __init__(self, certificate: Issued | None = None, address: str = INTERNET) -> None:
        self.pages: dict[str, bytes] = {}
        self.requests: list[str] = []
        """The heads of the requests, in order."""
        self.connections: list[Connection] = []
        """The connections of the requests, in the same order."""
        if certificate is None:
            self.port = reactor.listenTCP(0, self, interface=address)
        else:
            options = server_options(certificate.pem + key_pem(certificate.key))
            self.port = reactor.listenSSL(0, self, options, interface=address)
        self.number: int = self.port.getHost().port

    def request_received(self, connection: Connection, head: str) -> None:
        """Respond to a request."""
        self.requests.append(head)
        self.connections.append(connection)
        page = self.pages.get(head.split(" ", 2)[1])
        if page is not None:
            connection.send(page)


class FakeInternet:
    """Host names with their addresses, and a rule which addresses are public.

    `lookups` are the names that were looked up, in order.
    """

    def __init__(
        self,
        names: Mapping[str, Sequence[str]],
        is_allowed: Callable[[Address], bool] = lambda address: str(address) == INTERNET,
        trust_root: Any = None,
    ) -> None:
        self.names = dict(names)
        self.lookups: list[str] = []
        self.internet = Internet(self._lookup, is_allowed, trust_root)

    def _lookup(self, host: str, port: int) -> Sequence[str]:
        self.lookups.append(host)
        return self.names.get(host, ())


def page(body: bytes, *headers: str, status: str = "200 OK", length: int | None = None) -> bytes:
    """Return a whole response."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def redirect(location: str, status: str = "302 Found") -> bytes:
    """Return a redirect."""
    return page(b"", f"Location: {location}", status=status)
