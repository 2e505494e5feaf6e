"""HTTP requests to one fixed address, with TLS verified against the host of the URL; nothing is looked up."""

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

MAX_HEADERS_SIZE = 1 << 16
"""Maximum bytes of the status line and the headers of a response."""


class UnusableResponse(Exception):
    """A response with a content encoding, so that its body is not the image itself."""


@implementer(IAgent)
class PinnedAgent:
    """Sends one request to `address`; not to be used again.

    `trust_root` is as for `optionsForClientTLS`, `timeout` is the connection timeout in seconds.
    """

    def __init__(self, reactor: Any, address: Address, trust_root: Any, timeout: float) -> None:
        self._endpoints = _PinnedEndpoints(reactor, address, trust_root, timeout)
        self._agent = Agent.usingEndpointFactory(reactor, self._endpoints)

    def request(
        self, method: bytes, uri: bytes, headers: Headers | None = None, bodyProducer: IBodyProducer | None = None
    ) -> Deferred[IResponse]:
        """Send a request for the body without content encoding: a compressed body could expand to any size."""
        own_headers = Headers() if headers is None else headers.copy()
        own_headers.setRawHeaders(b"accept-encoding", [b"identity"])
        response: Deferred[IResponse] = self._agent.request(method, uri, own_headers, bodyProducer)
        return response.addCallback(self._check)

    def abort(self) -> None:
        """Close the connection immediately, if there is one."""
        self._endpoints.abort()

    def _check(self, response: IResponse) -> IResponse:
        self._endpoints.is_reading_headers = False
        encodings = response.headers.getRawHeaders(b"content-encoding", [])
        if any(encoding.strip().lower() not in (b"", b"identity") for encoding in encodings):
            raise UnusableResponse("the response has a content encoding")
        return response


@implementer(IAgentEndpointFactory)
class _PinnedEndpoints:
    """The only endpoint of an agent, and the connection that was made to it."""

    def __init__(self, reactor: Any, address: Address, trust_root: Any, timeout: float) -> None:
        self._reactor = reactor
        self._address = address
        self._trust_root = trust_root
        self._timeout = timeout
        self._connection: _CountingConnection | None = None
        self.is_reading_headers = True
        """Whether the headers of the response are not complete."""

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """Return an endpoint at the fixed address, whatever the host of the URI."""
        endpoint_class = TCP4ClientEndpoint if self._address.version == 4 else TCP6ClientEndpoint
        endpoint: IStreamClientEndpoint = endpoint_class(
            self._reactor, str(self._address), uri.port, timeout=self._timeout
        )
        if uri.scheme == b"https":
            options = optionsForClientTLS(uri.host.decode("ascii"), trustRoot=self._trust_root)
            endpoint = wrapClientTLS(options, endpoint)
        return _CountingEndpoint(endpoint, self)

    def connected(self, connection: _CountingConnection) -> None:
        """Set the connection that `abort` closes."""
        self._connection = connection

    def abort(self) -> None:
        """Abort the connection, if there is one."""
        if self._connection is not None:
            self._connection.abort()


@implementer(IStreamClientEndpoint)
class _CountingEndpoint:
    """An endpoint whose connections limit the size of the headers."""

    def __init__(self, endpoint: IStreamClientEndpoint, endpoints: _PinnedEndpoints) -> None:
        self._endpoint = endpoint
        self._endpoints = endpoints

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect; the Deferred fires with the protocol of `protocolFactory`, not its wrapper."""
        connecting: Deferred[Any] = self._endpoint.connect(_CountingFactory(protocolFactory, self._endpoints))
        return connecting.addCallback(lambda connection: connection.wrappedProtocol)


class _CountingConnection(ProtocolWrapper):
    """A connection that is aborted if the headers of the response are too large."""

    factory: _CountingFactory
    transport: Any
    _received = 0
    _is_lost = False

    def makeConnection(self, transport: Any) -> None:
        """Register the connection with its endpoints."""
        self.factory.endpoints.connected(self)
        super().makeConnection(transport)

    def dataReceived(self, data: bytes) -> None:
        """Count the received bytes while the headers are not complete."""
        super().dataReceived(data)
        self._received += len(data)
        if self._received > MAX_HEADERS_SIZE and self.factory.endpoints.is_reading_headers:
            self.abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Record that the connection is closed."""
        self._is_lost = True
        super().connectionLost(reason)

    def abort(self) -> None:
        """Abort the connection, unless it is closed."""
        if not self._is_lost:
            self.transport.abortConnection()


class _CountingFactory(WrappingFactory[_CountingConnection]):
    """Wraps the protocols of another factory in `_CountingConnection`."""

    protocol = _CountingConnection
    noisy = False

    def __init__(self, wrapped: IProtocolFactory, endpoints: _PinnedEndpoints) -> None:
        super().__init__(wrapped)
        self.endpoints = endpoints
