"""Stand-ins for oned on loopback: they read requests, and send the replies, valid or not, that a test sets."""

from __future__ import annotations

import xmlrpc.client
from collections.abc import Callable
from typing import TypeAlias

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure


class StubConnection(Protocol):
    """A connection of a client: its request, and methods to reply."""

    def __init__(self, server: OnedStub) -> None:
        self.server = server
        self.received = b""
        self.head: list[bytes] = []
        self.method = ""
        self.arguments: tuple[object, ...] = ()
        self.lost: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        """Tell the server."""
        self.server.connected(self)

    def dataReceived(self, data: bytes) -> None:
        """Collect the request, and pass it to the server when it is complete."""
        self.received += data
        head, separator, body = self.received.partition(b"\r\n\r\n")
        if not separator or self.head:
            return
        lines = head.split(b"\r\n")
        length = next(int(line.split(b":")[1]) for line in lines if line.lower().startswith(b"content-length:"))
        if len(body) < length:
            return
        self.head = lines
        self.arguments, method = xmlrpc.client.loads(body)
        self.method = str(method)
        self.server.request_received(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Fire `lost`."""
        self.lost.callback(None)

    def respond(self, body: bytes, status: str = "200 OK", length: int | None = None) -> None:
        """Send an HTTP response and close the connection, as oned does."""
        announced = len(body) if length is None else length
        self.send(f"HTTP/1.1 {status}\r\nContent-Length: {announced}\r\n\r\n".encode() + body)
        self.close()

    def send(self, data: bytes) -> None:
        """Send some bytes."""
        assert self.transport is not None
        self.transport.write(data)

    def close(self) -> None:
        """Close the connection when all data is sent."""
        assert self.transport is not None
        self.transport.loseConnection()

    def reset(self) -> None:
        """Abort the connection."""
        if not self.lost.called:
            self.transport.abortConnection()  # type: ignore[union-attr]


Behaviour: TypeAlias = Callable[[StubConnection], None]


class OnedStub(Factory):
    """A server whose `behaviour` is called with the connection of each complete request."""

    noisy = False

    def __init__(self, behaviour: Behaviour, on_connect: Behaviour | None = None) -> None:
        self.behaviour = behaviour
        self.on_connect = on_connect
        self.peers: list[StubConnection] = []
        self.connections: list[StubConnection] = []
        self._awaited: list[tuple[int, Deferred[StubConnection]]] = []
        self.url = ""

    @property
    def calls(self) -> list[str]:
        """The methods of the complete requests, in order."""
        return [peer.method for peer in self.connections]

    def buildProtocol(self, addr: object) -> StubConnection:
        """Return the protocol of a new connection."""
        return StubConnection(self)

    def connected(self, peer: StubConnection) -> None:
        """Record a new connection."""
        self.peers.append(peer)
        if self.on_connect is not None:
            self.on_connect(peer)

    def request_received(self, peer: StubConnection) -> None:
        """Handle a complete request."""
        self.connections.append(peer)
        self.behaviour(peer)
        due = [entry for entry in self._awaited if entry[0] <= len(self.connections)]
        self._awaited = [entry for entry in self._awaited if entry not in due]
        for number, waiting in due:
            waiting.callback(self.connections[number - 1])

    def request(self, number: int) -> Deferred[StubConnection]:
        """Return the connection of the request of this number, from 1, once it has been received."""
        waiting: Deferred[StubConnection] = Deferred()
        if len(self.connections) >= number:
            waiting.callback(self.connections[number - 1])
        else:
            self._awaited.append((number, waiting))
        return waiting


def reply(*values: object) -> bytes:
    """Return a reply as oned writes it: `reply(True, value, 0)`, `reply(False, text, code)`."""
    return xmlrpc.client.dumps((list(values),), methodresponse=True).encode()


def replying(*values: object) -> Behaviour:
    """Return a behaviour that replies with these values."""
    return lambda peer: peer.respond(reply(*values))
