"""Twisted's XML-RPC proxy with limits on size, time and trust; it returns replies as bytes.

Twisted's own proxy reads any number of bytes, decodes them in the reactor's thread, and accepts only the system's
certificate authorities. This proxy counts bytes as they arrive, and leaves decoding to the caller.
"""

# mypy: allow-untyped-calls

from __future__ import annotations

import warnings
from typing import Any, cast
from urllib.parse import urlsplit

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHandshakeListener, ISSLTransport, IStreamClientEndpoint
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from econed.errors import InvalidReply, OpenNebulaError, OpenNebulaUnavailable, ReplyTooLarge
from econed.interfaces import IOnedProxy
from econed.opennebula.methods import max_response

with warnings.catch_warnings():
    # Twisted 24.7 deprecates HTTPClient, on which its own XML-RPC client is still based.
    warnings.filterwarnings("ignore", message=r"twisted\.web\.http\.HTTPClient", category=DeprecationWarning)
    from twisted.web.xmlrpc import Proxy, QueryFactory, QueryProtocol

_MAX_HEAD = 64 * 1024
"""Maximum bytes of the status line and the headers of a response."""

_UNAVAILABLE = frozenset({b"502", b"503", b"504"})
"""The HTTP status codes of a web server in front of oned when oned is down."""


@implementer(IHandshakeListener)
class _ReplyProtocol(QueryProtocol):
    """One call on one connection; passes the outcome to its factory."""

    factory: _CallFactory

    def connectionMade(self) -> None:
        """Send the call."""
        self._received = 0
        self._in_head = True
        self.factory.transport = self.transport
        # Over TLS nothing is sent before the server's certificate is verified.
        self.factory.is_sent = not ISSLTransport.providedBy(self.transport)
        super().connectionMade()

    def handshakeCompleted(self) -> None:
        """Record that the call may have arrived from now on."""
        self.factory.is_sent = True

    def dataReceived(self, data: bytes) -> None:
        """Count the bytes before they are parsed."""
        self._received += len(data)
        if self._received > self.factory.max_reply + _MAX_HEAD:
            self.factory.too_large()
            return
        super().dataReceived(data)
        if self._in_head and self._received > _MAX_HEAD:
            self.factory.invalid("not HTTP: a head without an end")

    def lineReceived(self, line: bytes) -> None:
        """Parse a line of the head; an invalid line fails the call."""
        try:
            super().lineReceived(line)
        except (ValueError, IndexError):
            self.factory.invalid(f"not HTTP: {line[:60]!r}")

    def lineLengthExceeded(self, line: bytes) -> None:
        """Fail the call: the head has no line ends."""
        self.factory.invalid("not HTTP: a line without an end")

    def handleStatus(self, version: bytes, status: bytes, message: bytes) -> None:
        """Fail the call unless the status is 200."""
        if not version.startswith(b"HTTP/"):
            self.factory.invalid(f"not HTTP: {version[:60]!r}")
        elif status in _UNAVAILABLE:
            self.factory.unavailable(f"HTTP status {status.decode('ascii')}")
        elif status != b"200":
            self.factory.invalid(f"HTTP status {status[:20]!r}")

    def handleEndHeaders(self) -> None:
        """Fail the call if the announced length is beyond the limit."""
        self._in_head = False
        if self.length is not None and self.length > self.factory.max_reply:
            self.factory.too_large()

    def handleResponse(self, contents: bytes) -> None:
        """Accept a complete response; without a length, it ends with the connection."""
        if self.length:
            self.factory.unavailable(f"the connection was closed {self.length} bytes before the end of the reply")
        else:
            self.factory.parseResponse(contents)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Complete or fail the call when the connection is closed, if that has not been done."""
        if reason.check(ConnectionDone):
            self.handleResponseEnd()
        self.factory.clientConnectionLost(None, reason)


class _CallFactory(QueryFactory):
    """One call to oned. Its `deferred` fires once, with the bytes of the reply or an `OpenNebulaError`."""

    protocol = _ReplyProtocol
    noisy = False

    def __init__(self, max_reply: int, method: str, path: bytes, host: bytes, *arguments: Any) -> None:
        super().__init__(path, host, method, *arguments)
        self.max_reply = max_reply
        self.method = method
        self.transport: Any = None
        self.is_sent = False

    def parseResponse(self, contents: bytes) -> None:
        """Return the reply undecoded."""
        self._settle(contents)

    def clientConnectionLost(self, _: object, reason: Failure) -> None:
        """Fail the call, unless it has completed."""
        error = reason.value
        if not isinstance(error, OpenNebulaError):
            error = OpenNebulaUnavailable(self.method, _describe(reason), never_sent=not self.is_sent)
        self._settle(error)

    clientConnectionFailed = clientConnectionLost

    def unavailable(self, reason: str) -> None:
        """Fail the call: oned is unavailable."""
        self._settle(OpenNebulaUnavailable(self.method, reason))

    def invalid(self, reason: str) -> None:
        """Fail the call: the response is not a valid oned reply."""
        self._settle(InvalidReply(self.method, reason))

    def too_large(self) -> None:
        """Fail the call: the response is longer than the limit."""
        self._settle(ReplyTooLarge(self.method, f"a response of more than {self.max_reply} bytes"))

    def hang_up(self) -> None:
        """Close the connection, and discard its buffers."""
        if self.transport is not None:
            self.transport.abortConnection()

    def _settle(self, result: bytes | OpenNebulaError) -> None:
        deferred, self.deferred = self.deferred, None
        if deferred is None:
            return
        self.hang_up()
        if isinstance(result, bytes):
            deferred.callback(result)
        else:
            deferred.errback(result)


@implementer(IOnedProxy)
class OnedProxy(Proxy):
    """oned at one URL."""

    def __init__(self, reactor: Any, url: str, endpoint: IStreamClientEndpoint, max_reply: int) -> None:
        """Call `url` through `endpoint`; `max_reply` is the maximum length of a reply in bytes."""
        super().__init__(url.encode("ascii"), reactor=reactor)
        self.url = url
        self.host = urlsplit(url).netloc.rpartition("@")[2].encode("ascii")
        self._endpoint = endpoint
        self._max_reply = max_reply

    def callRemote(self, method: str, session: str, *args: object) -> Deferred[bytes]:
        """Call `method` and return the body of the response; cancelling closes the connection.

        Fails with `OpenNebulaUnavailable` or `InvalidReply`.
        """

        def cancel(_: object) -> None:
            factory.deferred = None
            connecting.cancel()
            factory.hang_up()

        factory = _CallFactory(
            max_response(method, self._max_reply),
            method,
            self.path,
            self.host,
            self.user,
            self.password,
            False,
            (session, *args),
            cancel,
        )
        reply = factory.deferred
        connecting = self._endpoint.connect(factory)
        connecting.addErrback(lambda failure: factory.clientConnectionFailed(None, failure))
        return cast("Deferred[bytes]", reply)


def _describe(reason: Failure) -> str:
    if isinstance(reason.value, SSL.Error):
        return "TLS: " + "; ".join(str(entry[-1]) for entry in reason.value.args[0] if entry)
    return reason.getErrorMessage() or type(reason.value).__name__
