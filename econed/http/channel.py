"""One connection: HTTP/1.1 as Twisted reads it, stricter where two readers could differ, and never without a deadline.

Whatever ends a request before it is read is answered by the same pipeline as every request (`RawRequest.refuse`), in
EC2's XML; what is still to come is then dropped for a while, since a connection that is closed on a client who is still
sending is reset, and the answer lost with it.
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

LINGER = 5.0
"""Seconds for which what a client still sends is dropped when it has its answer already."""

ANSWER_RATE = 8192
"""Least rate in bytes/s at which a client takes an answer: each byte taken extends its time by 1/ANSWER_RATE s."""

MAX_HEADERS = 500
"""How many headers a request may have; the largest client known sends about 20."""

_LONGEST_LENGTH = 18
"""Digits of a Content-Length: 10**18 bytes are more than any disk holds, and Python reads no number of 5,000 digits."""

_SCHEMES = (b"http://", b"https://")


class Stage(Enum):
    """What a connection is waiting for; its deadline hangs on that."""

    IDLE = auto()
    """The first byte of a request."""
    HEAD = auto()
    """The end of its headers."""
    BODY = auto()
    """The end of its form; of an upload, the beginning of the file."""
    FILE = auto()
    """More of the file."""
    ANSWER = auto()
    """Us."""
    LINGERING = auto()
    """The client, who has its answer, to close."""
    CLOSING = auto()
    """The last bytes of an answer to be taken."""


_TIMED = {Stage.HEAD: "header_timeout", Stage.BODY: "body_timeout", Stage.FILE: "idle_timeout"}
"""The keys of the times that a client has, where it is its turn."""


class Deadline:
    """One call in the future on an injected clock, that can be put off, held and let go on."""

    def __init__(self, clock: IReactorTime, expired: Callable[[], None]) -> None:
        self._clock = clock
        self._expired = expired
        self._call: IDelayedCall | None = None
        self._left: float | None = None

    def set(self, seconds: float | None) -> None:
        """Let it come in so many seconds, or not at all (None)."""
        self._left = None
        if self._call is not None:
            self._call.cancel()
        self._call = None if seconds is None else self._clock.callLater(seconds, self._come)

    def put_off(self, seconds: float, *, most: float) -> None:
        """Let it come so much later, but no later than `most` seconds from now, or from when the time goes on."""
        if self._call is not None:
            self.set(min(self._remaining(self._call) + seconds, most))
        elif self._left is not None:
            self._left = min(self._left + seconds, most)

    def hold(self) -> None:
        """Stop the time."""
        if self._call is not None:
            left = self._remaining(self._call)
            self.set(None)
            self._left = left

    def go_on(self) -> None:
        """Let the time go on after `hold`."""
        if self._left is not None:
            self.set(self._left)

    def _remaining(self, call: IDelayedCall) -> float:
        return max(0.0, call.getTime() - self._clock.seconds())

    def _come(self) -> None:
        self._call = None
        self._expired()


class ChannelOwner(Protocol):
    """What a connection needs of its site."""

    settings: Settings
    reactor: IReactorTime
    is_draining: bool
    """Whether each response is the last of its connection."""
    refused: Callable[[str], object]
    """Called with the key of the limit that a request exceeded."""

    def connected(self, channel: EC2Channel, address: str | None) -> bool:
        """Register a connection; return whether its address may have it."""

    def disconnected(self, channel: EC2Channel) -> None:
        """Unregister a connection."""


class EC2Channel(RequestChannel):
    """A connection: one whose request may be answered before its body has come, and that can be kept waiting."""

    transport: Any
    site: ChannelOwner
    maxHeaders = MAX_HEADERS
    timeOut = None  # Twisted's own timer is put off by every byte
    _stage = Stage.IDLE
    _sent = 0
    """Bytes of answers that were handed to the transport since it last took all that it had."""

    # The connection

    def connectionMade(self) -> None:
        """Let the connection begin, if its address may have another. With TLS, the handshake is still to come."""
        limits = self.site.settings
        self.MAX_LENGTH = self.totalHeadersSize = limits.max_headers
        self._deadline = Deadline(self.site.reactor, self._expired)
        self._taking = Deadline(self.site.reactor, self.abort)
        self._begin_taking()
        super().connectionMade()
        self._wait(Stage.IDLE, limits.idle_timeout)
        if not self.site.connected(self, getattr(self.getPeer(), "host", None)):
            self.abort()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """Give up what was under way."""
        self._deadline.set(None)
        self._taking.set(None)
        super().connectionLost(reason)
        self.site.disconnected(self)

    def loseConnection(self) -> None:
        """Close when the last answer has been taken, for which there is a time too."""
        self._taking.set(None)
        self._wait(Stage.CLOSING, self.site.settings.idle_timeout)
        super().loseConnection()

    def abort(self) -> None:
        """Close at once, whatever is still to be sent."""
        self._wait(Stage.CLOSING, None)
        self.transport.abortConnection()

    # What comes in

    def dataReceived(self, data: bytes) -> None:
        """Take what comes, unless there is an answer already."""
        if self._stage in (Stage.LINGERING, Stage.CLOSING):
            return
        LineReceiver.dataReceived(self, data)  # not HTTPChannel's, which would begin its own timer anew
        if self.paused:  # HTTPChannel reads on if it was stopped in the middle of an answer
            self.transport.pauseProducing()
        if self._stage is Stage.IDLE and self._buffer:
            self._begin_head()

    def lineReceived(self, line: bytes) -> None:
        """Take a line of a request's head."""
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
        """Refuse a line that is longer than a whole head may be."""
        if self._stage is Stage.IDLE:
            self._begin_head()
        self._refuse_head()

    def headerReceived(self, line: bytes) -> bool:
        """Take a header, unless another reader could find another end of the body by it (RFC 9112, 6.1 to 6.3)."""
        name, _, value = line.partition(b":")
        name, value = name.lower(), value.strip(b" \t")
        if (name == b"transfer-encoding" and (value.lower() != b"chunked" or self._version != b"HTTP/1.1")) or (
            name == b"content-length" and len(value) > _LONGEST_LENGTH
        ):
            self._respondToBadRequestAndDisconnect()
            return False
        return bool(super().headerReceived(line))

    def allHeadersReceived(self) -> None:
        """Wait for the body."""
        request: RawRequest = self.requests[-1]
        self._wait(Stage.BODY, self.site.settings.body_timeout)
        wrong = _what_is_wrong(request)
        if wrong is not None:
            self.refuse("http", EC2Error("InvalidRequest", wrong))
        else:
            super().allHeadersReceived()
            request.headers_received()

    def rawDataReceived(self, data: bytes) -> None:
        """Take a piece of a body."""
        if self._stage not in (Stage.LINGERING, Stage.CLOSING):
            super().rawDataReceived(data)

    def allContentReceived(self) -> None:
        """Take the end of a body, unless it has been answered already."""
        if self._stage is Stage.LINGERING:
            self.loseConnection()
        elif self._stage is not Stage.CLOSING:
            self._wait(Stage.ANSWER, None)
            super().allContentReceived()

    # Refusals

    def refuse(self, limit: str, error: EC2Error) -> None:
        """Answer a request that has not come whole with `error`, and read no more of this connection.

        `limit` is the key of the limit that was exceeded (`econed.http.site.EC2Site`).
        """
        self.clearLineBuffer()
        self.persistent = False
        self._wait(Stage.LINGERING, None)
        if not self.requests:
            self.requests.append(self.requestFactory(self))
        self.site.refused(limit)
        self.requests[-1].refuse(error)

    def _respondToBadRequestAndDisconnect(self) -> None:
        """Refuse what Twisted finds to be no HTTP; it would answer `400 Bad Request` and nothing else."""
        if self._stage in (Stage.LINGERING, Stage.CLOSING):
            return
        if self._receivedHeaderCount > self.maxHeaders:
            self._refuse_head()
        else:
            self.refuse("http", EC2Error("InvalidRequest", "The request is not well-formed HTTP/1.1."))

    def _refuse_head(self) -> None:
        message = "The request's first line and headers are larger than this server takes."
        self.refuse("max_headers", EC2Error("RequestHeaderSectionTooLarge", message, 431 if self.requests else 414))

    def _expired(self) -> None:
        if self._waitingForTransport and self._stage in (Stage.IDLE, Stage.HEAD):
            self._deadline.set(self.site.settings.idle_timeout)  # it is `_taking` that counts
        elif self._stage in _TIMED:
            late = EC2Error("RequestTimeout", "The request did not arrive in time.", 408)
            self.refuse(_TIMED[self._stage], late)
        elif self._stage is Stage.CLOSING:
            self.abort()
        else:
            self.loseConnection()

    # Uploads

    def file_received(self, length: int) -> None:
        """Extend the deadline of a file by what its bytes pay for: `min_upload_rate` of them for each second.

        Only its own bytes count, not those of chunked encoding, which may be a thousand times as many.
        """
        if self._stage is Stage.FILE:
            limits = self.site.settings
            self._deadline.put_off(length / limits.min_upload_rate, most=limits.idle_timeout)

    def hold(self) -> None:
        """See `econed.http.inflow.Flow`: the client is not idle meanwhile."""
        self.transport.pauseProducing()
        self._deadline.hold()

    def go_on(self) -> None:
        """See `econed.http.inflow.Flow`."""
        if self._stage is Stage.BODY:
            self._wait(Stage.FILE, self.site.settings.idle_timeout)
        if self._stage is Stage.FILE:
            self._deadline.go_on()
            self.transport.resumeProducing()

    # What goes out

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Headers) -> None:
        """Begin an answer; where it is the last of this connection, it says so."""
        if self.site.is_draining or not self.requests[0].is_received:
            self.persistent = False
        if not self.persistent:
            headers.setRawHeaders(b"connection", [b"close"])
        if not self._waitingForTransport:
            self._begin_taking()
        super().writeHeaders(version, code, reason, headers)

    def write(self, data: bytes) -> None:
        """Send some bytes, and count them."""
        self._sent += len(data)
        super().write(data)

    def writeSequence(self, iovec: Sequence[bytes]) -> None:
        """Send some bytes, and count them."""
        self._sent += sum(map(len, iovec))
        super().writeSequence(iovec)

    @property
    def is_waiting_for_client(self) -> bool:
        """Whether there is as much to be taken by the client as is kept for it."""
        return bool(self._waitingForTransport)

    def requestDone(self, request: RawRequest) -> None:
        """Go on after an answer; before the end of a body there is nothing to go on with."""
        is_sending_on = self._buffer or self._dataBuffer
        if not request.is_received or (is_sending_on and not self.persistent):
            self.requests.remove(request)
            self._linger()
            return
        if self.persistent:
            self._wait(Stage.IDLE, self.site.settings.idle_timeout)
        super().requestDone(request)

    def pauseProducing(self) -> None:
        """Send and read no more until the client has taken what was sent; the time that it has for that goes on."""
        if not self._waitingForTransport and self._stage is not Stage.CLOSING:
            self._taking.go_on()
        self.paused = True
        super().pauseProducing()

    def resumeProducing(self) -> None:
        """Go on, also with what came in one go with the request before (pipelining)."""
        self._taking.hold()
        self._taking.put_off(self._sent / ANSWER_RATE, most=self.site.settings.idle_timeout)
        self._sent = 0
        self.paused = False
        super().resumeProducing()
        if self._buffer and not self.paused:  # it may have been stopped again by what was sent meanwhile
            self.dataReceived(b"")

    def _linger(self) -> None:
        self._wait(Stage.LINGERING, LINGER)
        self.transport.resumeProducing()
        if ITCPTransport.providedBy(self.transport) and not ISSLTransport.providedBy(self.transport):
            self.transport.loseWriteConnection()

    # Time

    def _begin_taking(self) -> None:
        """Give the client the time that it has to take an answer; it runs while there is something to be taken."""
        self._sent = 0
        self._taking.set(self.site.settings.idle_timeout)
        self._taking.hold()

    def _begin_head(self) -> None:
        self._wait(Stage.HEAD, self.site.settings.header_timeout)

    def _wait(self, stage: Stage, seconds: float | None) -> None:
        self._stage = stage
        self._deadline.set(seconds)


def _what_is_wrong(request: RawRequest) -> str | None:
    """Return why a request line and the Host header make no sense together, None if they do (RFC 9112, 3.2)."""
    hosts = request.requestHeaders.getRawHeaders(b"host", [])
    if len(hosts) > 1 or (not hosts and request.clientproto == b"HTTP/1.1"):
        return "The request must have one Host header."
    if request.uri.lower().startswith(_SCHEMES):  # as if to a proxy: its host is what counts
        host, slash, rest = request.uri.partition(b"://")[2].partition(b"/")
        host, mark, query = host.partition(b"?")
        request.uri = slash + rest if slash else b"/" + mark + query
        request.requestHeaders.setRawHeaders(b"host", [host])
    if not request.uri.startswith(b"/"):
        return "The path of the request must begin with a slash."
    return None
