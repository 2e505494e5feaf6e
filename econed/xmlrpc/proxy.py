"""How one call reaches oned and its answer comes back as bytes: Twisted's XML-RPC proxy, made wary.

Twisted's own trusts the other side: it takes any number of bytes, decodes them while everything else waits, and knows
only the system's certificate authorities. Here an answer is counted as it arrives and handed on undecoded.
"""

# mypy: allow-untyped-calls

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificates
from OpenSSL import SSL
from twisted.internet import ssl
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHandshakeListener, ISSLTransport, IStreamClientEndpoint
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from econed.errors import InvalidReply, OpenNebulaError, OpenNebulaUnavailable, ReplyTooLarge
from econed.interfaces import IOnedProxy
from econed.opennebula.methods import max_response

with warnings.catch_warnings():
    # Twisted 24.7 deprecates the HTTP client on which its own XML-RPC client goes on standing.
    warnings.filterwarnings("ignore", message=r"twisted\.web\.http\.HTTPClient", category=DeprecationWarning)
    from twisted.web.xmlrpc import Proxy, QueryFactory, QueryProtocol

_HEAD_BYTES = 64 * 1024
"""What the status line and the headers of an answer may take."""

_DOWN = frozenset({b"502", b"503", b"504"})
"""What a web server in front of oned answers when oned is not there."""


def oned_endpoint(reactor: Any, url: str, ca_file: Path | None = None, timeout: float = 30.0) -> IStreamClientEndpoint:
    """Return where the oned of `url` is reached; https verifies the chain and the host name.

    `ca_file` is a PEM file of the authorities to trust in place of the system's. Raises ValueError for a URL or a file
    that cannot be used, OSError for a file that cannot be read. A connection is made within `timeout` seconds.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"not the http or https URL of an oned: {url}")
    secure = parts.scheme == "https"
    endpoint = HostnameEndpoint(reactor, parts.hostname, parts.port or (443 if secure else 80), timeout)
    if not secure:
        return endpoint
    return wrapClientTLS(ssl.optionsForClientTLS(parts.hostname, _trust_root(ca_file)), endpoint)


def _trust_root(ca_file: Path | None) -> Any:
    if ca_file is None:
        return None
    authorities = load_pem_x509_certificates(ca_file.read_bytes())
    return ssl.trustRootFromCertificates(
        [ssl.Certificate.loadPEM(each.public_bytes(Encoding.PEM)) for each in authorities]
    )


@implementer(IHandshakeListener)
class _AnswerProtocol(QueryProtocol):
    """One call on one connection; its factory gets what came of it."""

    factory: _CallFactory

    def connectionMade(self) -> None:
        """Send the call."""
        self._received = 0
        self._in_head = True
        self.factory.transport = self.transport
        # Over TLS nothing leaves before the other side has proved who it is.
        self.factory.is_sent = not ISSLTransport.providedBy(self.transport)
        super().connectionMade()

    def handshakeCompleted(self) -> None:
        """Note that from now on the call may have arrived."""
        self.factory.is_sent = True

    def dataReceived(self, data: bytes) -> None:
        """Count what arrives before anything is made of it."""
        self._received += len(data)
        if self._received > self.factory.max_reply + _HEAD_BYTES:
            self.factory.too_large()
            return
        super().dataReceived(data)
        if self._in_head and self._received > _HEAD_BYTES:
            self.factory.nonsense("not HTTP: a head without an end")

    def lineReceived(self, line: bytes) -> None:
        """Read a line of the head; garbage ends the call, not the reactor's turn with a traceback."""
        try:
            super().lineReceived(line)
        except (ValueError, IndexError):
            self.factory.nonsense(f"not HTTP: {line[:60]!r}")

    def lineLengthExceeded(self, line: bytes) -> None:
        """Give up on a head without line ends."""
        self.factory.nonsense("not HTTP: a line without an end")

    def handleStatus(self, version: bytes, status: bytes, message: bytes) -> None:
        """Go on with an answer of 200 only."""
        if not version.startswith(b"HTTP/"):
            self.factory.nonsense(f"not HTTP: {version[:60]!r}")
        elif status in _DOWN:
            self.factory.unavailable(f"HTTP status {status.decode('ascii')}")
        elif status != b"200":
            self.factory.nonsense(f"HTTP status {status[:20]!r}")

    def handleEndHeaders(self) -> None:
        """Refuse an answer that announces too much before it comes."""
        self._in_head = False
        if self.length is not None and self.length > self.factory.max_reply:
            self.factory.too_large()

    def handleResponse(self, contents: bytes) -> None:
        """Take an answer that has all arrived, or that the end of the connection has ended."""
        if self.length:
            self.factory.unavailable(f"the answer broke off, {self.length} bytes short")
        else:
            self.factory.parseResponse(contents)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Settle what the end of the connection means where nothing has yet."""
        if reason.check(ConnectionDone):
            self.handleResponseEnd()
        self.factory.clientConnectionLost(None, reason)


class _CallFactory(QueryFactory):
    """One call to oned. Its `deferred` fires with the answer's bytes, or with an `OpenNebulaError`, once."""

    protocol = _AnswerProtocol
    noisy = False

    def __init__(self, max_reply: int, method: str, path: bytes, host: bytes, *rest: Any) -> None:
        super().__init__(path, host, method, *rest)
        self.max_reply = max_reply
        self.method = method
        self.transport: Any = None
        self.is_sent = False

    def parseResponse(self, contents: bytes) -> None:
        """Hand the answer on as it is: decoding is for where it holds up nobody."""
        self._settle(contents)

    def clientConnectionLost(self, _: object, reason: Failure) -> None:
        """Fail, unless the answer is there."""
        error = reason.value
        if not isinstance(error, OpenNebulaError):
            error = OpenNebulaUnavailable(self.method, _why(reason), never_sent=not self.is_sent)
        self._settle(error)

    clientConnectionFailed = clientConnectionLost

    def unavailable(self, reason: str) -> None:
        """End the call: oned is not there."""
        self._settle(OpenNebulaUnavailable(self.method, reason))

    def nonsense(self, reason: str) -> None:
        """End the call: this is no answer of oned's."""
        self._settle(InvalidReply(self.method, reason))

    def too_large(self) -> None:
        """End the call: more bytes than may come."""
        self._settle(ReplyTooLarge(self.method, f"a response of more than {self.max_reply} bytes"))

    def hang_up(self) -> None:
        """Close the connection at once; what it still holds is for nobody."""
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
        """Reach `url` through `endpoint` (`oned_endpoint`); no answer may have more than `max_reply` bytes."""
        super().__init__(url.encode("ascii"), reactor=reactor)
        self.url = url
        self.host = urlsplit(url).netloc.rpartition("@")[2].encode("ascii")
        self._endpoint = endpoint
        self._max_reply = max_reply

    def callRemote(self, method: str, session: str, *args: object) -> Deferred[bytes]:
        """Call `method` and return the body of the answer; cancelling closes the connection.

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
        answer = factory.deferred
        connecting = self._endpoint.connect(factory)
        connecting.addErrback(lambda failure: factory.clientConnectionFailed(None, failure))
        return cast("Deferred[bytes]", answer)


def _why(reason: Failure) -> str:
    if isinstance(reason.value, SSL.Error):
        return "TLS: " + "; ".join(str(each[-1]) for each in reason.value.args[0] if each)
    return reason.getErrorMessage() or type(reason.value).__name__
