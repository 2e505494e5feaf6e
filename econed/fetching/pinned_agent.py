"""HTTP requests to a server at one address, whatever its name: nothing is looked up, and nothing is taken on trust."""

# mypy: allow-untyped-calls

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import connectionDone
from twisted.internet.ssl import optionsForClientTLS
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IAgentEndpointFactory, IBodyProducer, IResponse
from zope.interface import implementer

from econed.hosts import Address

MAX_HEAD = 1 << 16
"""Bytes that the status line and the headers of an answer may have."""


class UnfitResponse(Exception):
    """An answer that is no plain image: compressed on its way, or all head."""


@implementer(IAgent)
class PinnedAgent:
    """Sends one request to `address`, with TLS verified against the host of the URL; used once.

    `trust_root` is as `optionsForClientTLS` takes it, `timeout` the seconds in which a connection has to be made.
    """

    def __init__(self, reactor: Any, address: Address, trust_root: Any, timeout: float) -> None:
        self._endpoints = _PinnedEndpoints(reactor, address, trust_root, timeout)
        self._agent = Agent.usingEndpointFactory(reactor, self._endpoints)

    def request(
        self, method: bytes, uri: bytes, headers: Headers | None = None, bodyProducer: IBodyProducer | None = None
    ) -> Deferred[IResponse]:
        """Send a request for the bytes as they are: an archive inside the answer could become any number of them."""
        sent = Headers() if headers is None else headers.copy()
        sent.setRawHeaders(b"accept-encoding", [b"identity"])
        answer: Deferred[IResponse] = self._agent.request(method, uri, sent, bodyProducer)
        return answer.addCallback(self._checked)

    def abort(self) -> None:
        """Close the connection at once, if there is one."""
        self._endpoints.abort()

    def _checked(self, response: IResponse) -> IResponse:
        self._endpoints.is_in_head = False
        encodings = response.headers.getRawHeaders(b"content-encoding", [])
        if any(each.strip().lower() not in (b"", b"identity") for each in encodings):
            raise UnfitResponse("it is compressed on its way")
        return response


@implementer(IAgentEndpointFactory)
class _PinnedEndpoints:
    """The one endpoint of an agent, and the connection that was made to it."""

    def __init__(self, reactor: Any, address: Address, trust_root: Any, timeout: float) -> None:
        self._reactor = reactor
        self._address = address
        self._trust_root = trust_root
        self._timeout = timeout
        self._connection: _Connection | None = None
        self.is_in_head = True
        """Whether the headers of the answer have not come to their end."""

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """Return the address in place of what the host of the URI would be looked up as."""
        kind = TCP4ClientEndpoint if self._address.version == 4 else TCP6ClientEndpoint
        endpoint: IStreamClientEndpoint = kind(self._reactor, str(self._address), uri.port, timeout=self._timeout)
        if uri.scheme == b"https":
            options = optionsForClientTLS(uri.host.decode("ascii"), trustRoot=self._trust_root)
            endpoint = wrapClientTLS(options, endpoint)
        return _Watched(endpoint, self)

    def connected(self, connection: _Connection) -> None:
        """Take note of the connection."""
        self._connection = connection

    def abort(self) -> None:
        """Close it."""
        if self._connection is not None:
            self._connection.abort()


@implementer(IStreamClientEndpoint)
class _Watched:
    """An endpoint whose connection counts what arrives before the end of the headers."""

    def __init__(self, endpoint: IStreamClientEndpoint, of: _PinnedEndpoints) -> None:
        self._endpoint = endpoint
        self._of = of

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect; the protocol that is returned is the factory's own."""
        connecting: Deferred[Any] = self._endpoint.connect(_Watching(protocolFactory, self._of))
        return connecting.addCallback(lambda connection: connection.wrappedProtocol)


class _Connection(ProtocolWrapper):
    """A connection that is closed where its head has no end."""

    factory: _Watching
    transport: Any
    _taken = 0
    _is_lost = False

    def makeConnection(self, transport: Any) -> None:
        """Be what `abort` closes."""
        self.factory.of.connected(self)
        super().makeConnection(transport)

    def dataReceived(self, data: bytes) -> None:
        """Count what arrives before the headers have ended."""
        super().dataReceived(data)
        self._taken += len(data)
        if self._taken > MAX_HEAD and self.factory.of.is_in_head:
            self.abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Be closed."""
        self._is_lost = True
        super().connectionLost(reason)

    def abort(self) -> None:
        """Close it at once."""
        if not self._is_lost:
            self.transport.abortConnection()


class _Watching(WrappingFactory[_Connection]):
    """Makes connections that are watched."""

    protocol = _Connection
    noisy = False

    def __init__(self, wrapped: IProtocolFactory, of: _PinnedEndpoints) -> None:
        super().__init__(wrapped)
        self.of = of
