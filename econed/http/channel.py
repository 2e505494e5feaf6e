"""One connection: Twisted's HTTP/1.1 channel, stricter where parsers could differ, and always with a deadline.

A request that is refused before it is complete gets its response like every other request (`RawRequest.refuse`), in
EC2's XML. Afterwards incoming bytes are discarded for a while: if a connection is closed while the client is still
sending, TCP resets it, and the client may lose the response.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Any, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime, ISSLTransport, ITCPTransport
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers

from econed.config.settings import Settings
from econed.errors import EC2Error
from econed.http.request import RawRequest, RequestChannel

LINGER_TIME = 5.0
"""Seconds for which bytes of a client that already has its response are discarded."""

MIN_RESPONSE_RATE = 8192
"""Minimum rate in bytes/s at which a client reads a response; each byte read extends its deadline by 1/rate s."""

MAX_HEADERS = 500
"""Maximum number of headers of a request; no known client sends more than about 20."""

_MAX_LENGTH_DIGITS = 18
"""Digits of a Content-Length: 10**18 bytes are more than any disk has, and `int` refuses 5,000 digits."""

_SCHEMES = (b"http://", b"https://")


class Stage(Enum):
    """What a connection is waiting for, which determines its deadline."""

    IDLE = auto()
    """Waiting for the first byte of a request."""
    HEAD = auto()
    """Waiting for the end of its headers."""
    BODY = auto()
    """Waiting for the end of the body, or if it has a file, for the beginning of the file."""
    FILE = auto()
    """Waiting for more of the file."""
    RESPONSE = auto()
    """Waiting for econed to send the response."""
    LINGERING = auto()
    """Waiting for the client, which has its response, to close the connection."""
    CLOSING = auto()
    """Waiting for the client to read the rest of the last response."""


_TIMEOUTS = {Stage.HEAD: "header_timeout", Stage.BODY: "body_timeout", Stage.FILE: "idle_timeout"}
"""The keys in econe.conf of the timeouts after which a client gets an error."""


class Deadline:
    """Calls `expired` once, at a time on an injected clock that can be set, extended, paused and resumed.

    Deadlines are moved several times for each request and hardly ever reached. So one delayed call is left pending
    while the deadline moves to a later time, and makes another when it is too early.
    """

    def __init__(self, clock: IReactorTime, expired: Callable[[], None]) -> None:
        self._clock = clock
        self._expired = expired
        self._at: float | None = None
        self._call: IDelayedCall | None = None
        self._remaining_if_paused: float | None = None

    def set(self, seconds: float | None) -> None:
        """Set the deadline to `seconds` from now; None removes it."""
        self._remaining_if_paused = None
        if seconds is None:
            self._at = None
            return
        self._at = self._clock.seconds() + seconds
        if self._call is not None and self._call.getTime() > self._at:
            self._call.cancel()
            self._call = None
        if self._call is None:
            self._call = self._clock.callLater(seconds, self._check)

    def set_paused(self, seconds: float) -> None:
        """Set the deadline to `seconds` from the time when it is resumed."""
        self._at = None
        self._remaining_if_paused = seconds

    def close(self) -> None:
        """Remove the deadline, and the delayed call."""
        self.set(None)
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def extend(self, seconds: float, *, limit: float) -> None:
        """Extend the deadline by `seconds`, to at most `limit` seconds from now, or from when it is resumed."""
        if self._at is not None:
            self.set(min(self._remaining(self._at) + seconds, limit))
        elif self._remaining_if_paused is not None:
            self._remaining_if_paused = min(self._remaining_if_paused + seconds, limit)

    def pause(self) -> None:
        """Pause the deadline until `resume`."""
        if self._at is not None:
            self.set_paused(self._remaining(self._at))

    def resume(self) -> None:
        """Resume the deadline after `pause`."""
        if self._remaining_if_paused is not None:
            self.set(self._remaining_if_paused)

    def _remaining(self, at: float) -> float:
        return max(0.0, at - self._clock.seconds())

    def _check(self) -> None:
        self._call = None
        if self._at is None:
            return
        remaining = self._remaining(self._at)
        if remaining > 0:
            self._call = self._clock.callLater(remaining, self._check)
        else:
            self._at = None
            self._expired()


class ChannelOwner(Protocol):
    """What a connection needs of its site."""

    settings: Settings
    reactor: IReactorTime
    is_draining: bool
    """Whether each connection is closed after its next response."""
    refused: Callable[[str], object]
    """Called with the key of the limit that a request exceeded."""

    def connected(self, channel: EC2Channel, address: str | None) -> bool:
        """Register a connection; return whether it is within the limits."""

    def disconnected(self, channel: EC2Channel) -> None:
        """Unregister a connection."""


class EC2Channel(RequestChannel):
    """A connection whose requests may get a response before their body is complete, and whose reading can be paused."""

    transport: Any
    site: ChannelOwner
    maxHeaders = MAX_HEADERS
    timeOut = None  # Twisted's own timer is restarted by every byte
    _stage = Stage.IDLE
    _sent = 0
    """Bytes of responses written to the transport since its buffer was last empty."""

    # Connection

    def connectionMade(self) -> None:
        """Start the connection, if it is within the limits. With TLS, the handshake has not started yet."""
        limits = self.site.settings
        self.MAX_LENGTH = self.totalHeadersSize = limits.max_headers
        self._deadline = Deadline(self.site.reactor, self._expired)
        self._client_read_deadline = Deadline(self.site.reactor, self.abort)
        self._reset_client_read_deadline()
        super().connectionMade()
        self._enter_stage(Stage.IDLE, limits.idle_timeout)
        if not self.site.connected(self, getattr(self.getPeer(), "host", None)):
            self.abort()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """Stop the deadlines and fail the requests in flight."""
        self._deadline.close()
        self._client_read_deadline.close()
        super().connectionLost(reason)
        self.site.disconnected(self)

    def loseConnection(self) -> None:
        """Close the connection when the client has read the last response, for which there is a deadline too."""
        self._client_read_deadline.set(None)
        self._enter_stage(Stage.CLOSING, self.site.settings.idle_timeout)
        super().loseConnection()

    def abort(self) -> None:
        """Abort the connection, even if bytes are still to be sent."""
        self._enter_stage(Stage.CLOSING, None)
        self.transport.abortConnection()

    # Receiving

    def dataReceived(self, data: bytes) -> None:
        """Process received bytes, or discard them after the last response."""
        if self._stage in (Stage.LINGERING, Stage.CLOSING):
            return
        LineReceiver.dataReceived(self, data)  # not HTTPChannel's, which would restart its own timer
        if self.paused:  # HTTPChannel resumes reading even if it was paused while a response was written
            self.transport.pauseProducing()
        if self._stage is Stage.IDLE and self._buffer:
            self._begin_head()

    def lineReceived(self, line: bytes) -> None:
        """Process the request line or a header line."""
        if self._stage is Stage.IDLE:
            self._begin_head()
        if self._receivedHeaderSize + len(line) > self.totalHeadersSize:
            self._refuse_head()
            return
        is_first_line = not self.requests
        super().lineReceived(line)
        if is_first_line and self.requests and self._stage is Stage.HEAD:
            self.requests[-1].begin(self._command, self._path, self._version)

    def lineLengthExceeded(self, line: bytes) -> None:
        """Refuse a line that is longer than all headers together may be."""
        if self._stage is Stage.IDLE:
            self._begin_head()
        self._refuse_head()

    def headerReceived(self, line: bytes) -> bool:
        """Process a header, unless it might make another parser end the body elsewhere (RFC 9112, 6.1 to 6.3)."""
        name, _, value = line.partition(b":")
        name, value = name.lower(), value.strip(b" \t")
        if (name == b"transfer-encoding" and (value.lower() != b"chunked" or self._version != b"HTTP/1.1")) or (
            name == b"content-length" and len(value) > _MAX_LENGTH_DIGITS
        ):
            self._respondToBadRequestAndDisconnect()
            return False
        return bool(super().headerReceived(line))

    def allHeadersReceived(self) -> None:
        """Check the request line and headers, then wait for the body."""
        request: RawRequest = self.requests[-1]
        self._enter_stage(Stage.BODY, self.site.settings.body_timeout)
        problem = _normalize_target(request)
        if problem is not None:
            self.refuse("http", EC2Error("InvalidRequest", problem))
        else:
            super().allHeadersReceived()
            request.headers_received()

    def rawDataReceived(self, data: bytes) -> None:
        """Process a piece of a body."""
        if self._stage not in (Stage.LINGERING, Stage.CLOSING):
            super().rawDataReceived(data)

    def allContentReceived(self) -> None:
        """Process the end of a body, unless its response was sent already."""
        if self._stage is Stage.LINGERING:
            self.loseConnection()
        elif self._stage is not Stage.CLOSING:
            self._enter_stage(Stage.RESPONSE, None)
            super().allContentReceived()

    # Refusals

    def refuse(self, limit: str, error: EC2Error) -> None:
        """Respond with `error` to a request that is not complete, and process nothing more on this connection.

        `limit` is the key of the limit that was exceeded (`econed.http.site.EC2Site`).
        """
        self.clearLineBuffer()
        self.persistent = False
        self._enter_stage(Stage.LINGERING, None)
        if not self.requests:
            self.requests.append(self.requestFactory(self))
        self.site.refused(limit)
        self.requests[-1].refuse(error)

    def _respondToBadRequestAndDisconnect(self) -> None:
        """Refuse what Twisted finds to be invalid HTTP; Twisted would send a bare `400 Bad Request`."""
        if self._stage in (Stage.LINGERING, Stage.CLOSING):
            return
        if self._receivedHeaderCount > self.maxHeaders:
            self._refuse_head()
        else:
            self.refuse("http", EC2Error("InvalidRequest", "The request is not well-formed HTTP/1.1."))

    def _refuse_head(self) -> None:
        message = "The request line and the headers are larger than this server accepts."
        self.refuse("max_headers", EC2Error("RequestHeaderSectionTooLarge", message, 431 if self.requests else 414))

    def _expired(self) -> None:
        if self._waitingForTransport and self._stage in (Stage.IDLE, Stage.HEAD):
            self._deadline.set(self.site.settings.idle_timeout)  # `_client_read_deadline` applies
        elif self._stage in _TIMEOUTS:
            error = EC2Error("RequestTimeout", "The request was not received in time.", 408)
            self.refuse(_TIMEOUTS[self._stage], error)
        elif self._stage is Stage.CLOSING:
            self.abort()
        else:
            self.loseConnection()

    # Uploads

    def file_received(self, length: int) -> None:
        """Extend the deadline of a file by one second for each `min_upload_rate` bytes.

        Only bytes of the file count. Those of the chunked encoding may be a thousand times as many.
        """
        if self._stage is Stage.FILE:
            limits = self.site.settings
            self._deadline.extend(length / limits.min_upload_rate, limit=limits.idle_timeout)

    def pause_reading(self) -> None:
        """See `econed.http.file_buffer.BodySource`; the deadline is paused too, since the client is not idle."""
        self.transport.pauseProducing()
        self._deadline.pause()

    def resume_reading(self) -> None:
        """See `econed.http.file_buffer.BodySource`."""
        if self._stage is Stage.BODY:
            self._enter_stage(Stage.FILE, self.site.settings.idle_timeout)
        if self._stage is Stage.FILE:
            self._deadline.resume()
            self.transport.resumeProducing()

    # Sending

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Headers) -> None:
        """Begin a response, with `Connection: close` if it is the last of this connection."""
        if self.site.is_draining or not self.requests[0].is_received:
            self.persistent = False
        if not self.persistent:
            headers.setRawHeaders(b"connection", [b"close"])
        if not self._waitingForTransport:
            self._reset_client_read_deadline()
        super().writeHeaders(version, code, reason, headers)

    def write(self, data: bytes) -> None:
        """Send bytes and count them."""
        self._sent += len(data)
        super().write(data)

    def writeSequence(self, iovec: Sequence[bytes]) -> None:
        """Send bytes and count them."""
        self._sent += sum(map(len, iovec))
        super().writeSequence(iovec)

    @property
    def is_waiting_for_client(self) -> bool:
        """Whether the transport's buffer is full: the client has to read some of it before more may be written."""
        return bool(self._waitingForTransport)

    def requestDone(self, request: RawRequest) -> None:
        """Continue after a response with the next request; if this request was not complete, close the connection."""
        has_more_data = self._buffer or self._dataBuffer
        if not request.is_received or (has_more_data and not self.persistent):
            self.requests.remove(request)
            self._linger()
            return
        if self.persistent:
            self._enter_stage(Stage.IDLE, self.site.settings.idle_timeout)
        super().requestDone(request)

    def pauseProducing(self) -> None:
        """Pause writing and reading until the client has read what was sent; the deadline for that runs meanwhile."""
        if not self._waitingForTransport and self._stage is not Stage.CLOSING:
            self._client_read_deadline.resume()
        self.paused = True
        super().pauseProducing()

    def resumeProducing(self) -> None:
        """Resume, and process requests that were received together with the previous request (pipelining)."""
        self._client_read_deadline.pause()
        self._client_read_deadline.extend(self._sent / MIN_RESPONSE_RATE, limit=self.site.settings.idle_timeout)
        self._sent = 0
        self.paused = False
        super().resumeProducing()
        if self._buffer and not self.paused:  # bytes that were written meanwhile may have paused it again
            self.dataReceived(b"")

    def _linger(self) -> None:
        self._enter_stage(Stage.LINGERING, LINGER_TIME)
        self.transport.resumeProducing()
        if ITCPTransport.providedBy(self.transport) and not ISSLTransport.providedBy(self.transport):
            self.transport.loseWriteConnection()

    # Deadlines

    def _reset_client_read_deadline(self) -> None:
        """Reset the deadline for reading a response; it runs while the transport's buffer is full."""
        self._sent = 0
        self._client_read_deadline.set_paused(self.site.settings.idle_timeout)

    def _begin_head(self) -> None:
        self._enter_stage(Stage.HEAD, self.site.settings.header_timeout)

    def _enter_stage(self, stage: Stage, timeout: float | None) -> None:
        self._stage = stage
        self._deadline.set(timeout)


def _normalize_target(request: RawRequest) -> str | None:
    """Make the target of a request a path, and return what is wrong with it or the Host header (RFC 9112, 3.2)."""
    hosts = request.requestHeaders.getRawHeaders(b"host", [])
    if len(hosts) > 1 or (not hosts and request.clientproto == b"HTTP/1.1"):
        return "The request must have one Host header."
    if request.uri.lower().startswith(_SCHEMES):  # absolute form: its host overrides the header
        host, slash, path = request.uri.partition(b"://")[2].partition(b"/")
        host, mark, query = host.partition(b"?")
        request.uri = slash + path if slash else b"/" + mark + query
        request.requestHeaders.setRawHeaders(b"host", [host])
    if not request.uri.startswith(b"/"):
        return "The path of the request must begin with a slash."
    return None
