"""HTTP as this daemon takes it: requests that keep their bytes as they came, and no more of them than allowed."""

from __future__ import annotations

from functools import partial
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource
from twisted.web.server import Request, Site

from econed.upload import Upload, Uploads
from econed.wire.multipart import MEDIA_TYPE

MAX_BODY = 1 << 20
"""Bytes of a form body. The largest parameter is the user data, 16 KiB before base64 and percent-encoding."""

IDLE_TIMEOUT = 60.0
"""Seconds after which a connection on which nothing happens is closed."""

LINGER = 5.0
"""Seconds for which the rest of a body is read and dropped after it was answered before its end.

Closed at once, the connection would be reset, and many clients would never see the answer.
"""


class RawRequest(Request):
    """A request whose body and query are left alone.

    Twisted would parse them into `args` by rules of its own (it splits on `;` too); here a signature covers the very
    bytes that are parsed, so only one parser may see them (`econed.wire.query`). A form with a file (`upload`) is
    processed as soon as its parameters are there: the file is let in, or refused, by what they say.
    """

    channel: EC2Channel

    is_too_large = False
    is_received = False
    """Whether the whole body has come."""

    upload: Upload | None = None
    _taken = 0
    _is_processed = False

    def __init__(self, uploads: Uploads, channel: EC2Channel) -> None:
        super().__init__(channel)
        self._uploads = uploads

    @property
    def media_type(self) -> bytes:
        """What the body is said to be, in lower case and without parameters."""
        return (self.getHeader(b"content-type") or b"").partition(b";")[0].strip().lower()

    def gotLength(self, length: int | None) -> None:
        """Make ready for a body: a file goes to disk on its own way, and its connection serves nothing after it."""
        if self.media_type != MEDIA_TYPE:
            super().gotLength(length)
            return
        super().gotLength(0)
        content_type = (self.getHeader(b"content-type") or b"").decode("latin-1")
        payload_hash = self.getHeader(b"x-amz-content-sha256")
        self.upload = Upload(self._uploads, content_type, length, payload_hash, self.channel)
        self.channel.persistent = False
        self.setHeader(b"connection", b"close")
        if self.upload.is_known:  # it is refused already: nobody is told to go on (100 Continue)
            self.requestHeaders.removeHeader(b"expect")

    def headers_received(self) -> None:
        """Go on with a request of which the headers alone say that it is refused."""
        if self.upload is not None and self.upload.is_known:
            self._process_once()

    def begin(self, command: bytes, path: bytes, version: bytes) -> None:
        """Take note of the request line."""
        self.args = {}
        self.method, self.uri, self.clientproto = command, path, version
        self.path = path.partition(b"?")[0]

    def handleContentChunk(self, data: bytes) -> None:
        """Keep a piece of the body; what goes beyond `MAX_BODY` is dropped and the request marked."""
        if self.upload is not None:
            self.upload.data_received(data)
            if self.upload.is_known:
                self._process_once()
            return
        self._taken += len(data)
        if self._taken > MAX_BODY:
            self.is_too_large = True
        else:
            super().handleContentChunk(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Go on with a request that has arrived whole, without parsing its query or body."""
        assert self.content is not None  # noqa: S101 - the channel has opened it
        self.content.seek(0)
        self.is_received = True
        self.begin(command, path, version)
        if self.upload is not None:
            self.upload.body_ended()
        self._process_once()

    def connectionLost(self, reason: Failure) -> None:
        """Give up what was still to come."""
        super().connectionLost(reason)
        if self.upload is not None:
            self.upload.connection_lost()

    def _process_once(self) -> None:
        if not self._is_processed:
            self._is_processed = True
            self.process()


class EC2Channel(HTTPChannel):
    """A connection: one whose request may be answered before its body has come, and that can be kept waiting."""

    transport: Any
    _is_lingering = False

    def hold(self) -> None:
        """See `econed.upload.Flow`: it is not the client who is idle."""
        self.transport.pauseProducing()
        self.setTimeout(None)

    def go_on(self) -> None:
        """See `econed.upload.Flow`."""
        if self.requests and not self.requests[-1].is_received:
            self.setTimeout(IDLE_TIMEOUT)
            self.transport.resumeProducing()

    def allHeadersReceived(self) -> None:
        """Tell the request its first line, which Twisted keeps until the body has come."""
        request = self.requests[-1]
        request.begin(self._command, self._path, self._version)
        super().allHeadersReceived()
        request.headers_received()

    def dataReceived(self, data: bytes) -> None:
        """Take what comes, unless it has been answered already."""
        if not self._is_lingering:
            super().dataReceived(data)

    def allContentReceived(self) -> None:
        """Take the end of a body, unless it has been answered already."""
        if not self._is_lingering:
            super().allContentReceived()
        else:
            self.loseConnection()

    def requestDone(self, request: RawRequest) -> None:
        """Go on after an answer; before the end of a body there is nothing to go on with."""
        if request.is_received:
            super().requestDone(request)
            return
        self.requests.remove(request)
        self._is_lingering = True
        self.setTimeout(LINGER)
        self.transport.resumeProducing()


class EC2Site(Site):
    """The listening side: `RawRequest` over HTTP/1.1, on an injected clock."""

    protocol = EC2Channel  # type: ignore[assignment]  # the other one would add HTTP/2

    def __init__(self, resource: IResource, reactor: IReactorTime, uploads: Uploads) -> None:
        super().__init__(resource, requestFactory=partial(_request, uploads), reactor=reactor, timeout=IDLE_TIMEOUT)

    def log(self, request: object) -> None:
        """Say nothing: the resource has the one line that each request gets."""


def _request(uploads: Uploads, channel: EC2Channel, queued: object = None) -> IRequest:
    request: Any = RawRequest(uploads, channel)
    return request  # type: ignore[no-any-return]
