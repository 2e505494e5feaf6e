"""Requests whose bytes are kept as received: the bytes that were signed are the bytes that are parsed."""

from __future__ import annotations

from abc import ABC, abstractmethod

from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.server import Request

from econed.errors import EC2Error
from econed.http.limits import FREE_BODY, BodyBudget, too_many_bodies
from econed.http.upload import Upload
from econed.http.upload_directory import UploadDirectory
from econed.wire.multipart import MEDIA_TYPE

_UNKNOWN_METHOD = b"-"
"""The method of a request whose request line could not be read."""


class RequestChannel(HTTPChannel, ABC):
    """What a request needs of its connection beyond Twisted's channel."""

    @abstractmethod
    def refuse(self, limit: str, error: EC2Error) -> None:
        """Respond with `error` to a request that is not read to its end; `limit` is the key of the limit exceeded."""

    @abstractmethod
    def file_received(self, length: int) -> None:
        """Extend the deadline for `length` bytes of the file."""

    @abstractmethod
    def pause_reading(self) -> None:
        """See `econed.http.file_buffer.BodySource`."""

    @abstractmethod
    def resume_reading(self) -> None:
        """See `econed.http.file_buffer.BodySource`."""


class RawRequest(Request):
    """A request whose query and body Twisted does not parse.

    Twisted would parse them into `args` by its own rules (it splits on `;` too). A signature covers the same bytes
    that are parsed, so only one parser may read them (`econed.wire.query`).

    A form with a file (`upload`) is processed as soon as its parameters are complete, since they decide whether the
    file is received. A request that is refused before it is complete is processed immediately, too; `refusal` is the
    error for the response.
    """

    channel: RequestChannel

    refusal: EC2Error | None = None
    is_received = False
    """Whether the whole body was received."""

    upload: Upload | None = None
    _has_request_line = False
    _is_processed = False
    _body_length = 0

    def __init__(self, uploads: UploadDirectory, max_body: int, bodies: BodyBudget, channel: RequestChannel) -> None:
        super().__init__(channel)
        self._uploads = uploads
        self._max_body = max_body
        self._bodies = bodies
        self._reserved = 0

    def __repr__(self) -> str:  # Twisted's shows the query, which has the signature
        return f"<{type(self).__name__} {id(self):#x}>"

    @property
    def media_type(self) -> bytes:
        """The media type of the body, in lower case and without parameters."""
        return (self.getHeader(b"content-type") or b"").partition(b";")[0].strip().lower()

    def begin(self, command: bytes, target: bytes, version: bytes) -> None:
        """Set the request line."""
        self._has_request_line = True
        self.args = {}
        self.method, self.uri, self.clientproto = command, target, version
        self.path = b"/"  # one resource serves every path

    def gotLength(self, length: int | None) -> None:
        """Prepare for the body. A file is written to disk as it arrives, and its connection serves no other request."""
        if self.media_type == MEDIA_TYPE:
            super().gotLength(0)
            content_type = (self.getHeader(b"content-type") or b"").decode("latin-1")
            payload_hash = self.getHeader(b"x-amz-content-sha256")
            self.upload = Upload(self._uploads, content_type, length, payload_hash, self.channel)
            self.channel.persistent = False
            self.setHeader(b"connection", b"close")
        else:
            is_too_large = (length or 0) > self._max_body
            super().gotLength(0 if is_too_large else length)
            if is_too_large:
                self.refusal = _too_large(self._max_body)
        if self._can_be_processed:  # then Twisted must not send 100 Continue
            self.requestHeaders.removeHeader(b"expect")

    def headers_received(self) -> None:
        """Process a request that is refused because of its headers alone."""
        if self.refusal is not None:
            self.channel.refuse("max_body", self.refusal)
        elif self._can_be_processed:
            self._process_once()

    def handleContentChunk(self, data: bytes) -> None:
        """Keep a piece of the body; refuse the request if the body is too large."""
        if self.upload is not None:
            self.channel.file_received(len(data))
            self.upload.data_received(data)
            if self.upload.is_ready:
                self._process_once()
            return
        self._body_length += len(data)
        if self.refusal is not None:
            return
        if self._body_length > self._max_body:
            self.channel.refuse("max_body", _too_large(self._max_body))
        elif not self._reserve():
            self.channel.refuse("max_bodies", too_many_bodies())
        else:
            super().handleContentChunk(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Process a complete request, without parsing its query or body as Twisted would."""
        assert self.content is not None  # noqa: S101 - the channel has opened it
        self.content.seek(0)
        self.is_received = True
        if self.upload is not None:
            self.upload.body_ended()
        self._process_once()

    def refuse(self, error: EC2Error) -> None:
        """Respond with `error`, or if an upload is already being processed, fail it with `error`."""
        if not self._is_processed:
            self.refusal = error
            if not self._has_request_line:
                self.begin(_UNKNOWN_METHOD, b"/", b"HTTP/1.1")
            self._process_once()
        elif self.upload is not None:
            self.upload.fail(error)

    def connectionLost(self, reason: Failure) -> None:
        """Fail an upload whose connection is lost."""
        super().connectionLost(reason)
        if self.upload is not None:
            self.upload.connection_lost()

    def _reserve(self) -> bool:
        """Reserve room for the body received so far, until the request is finished; False if there is none."""
        more = self._body_length - FREE_BODY - self._reserved
        if more > 0:
            if not self._bodies.reserve(more):
                return False
            if not self._reserved:
                self.notifyFinish().addBoth(lambda _: self._bodies.release(self._reserved))
            self._reserved += more
        return True

    @property
    def _can_be_processed(self) -> bool:
        return self.refusal is not None or (self.upload is not None and self.upload.is_ready)

    def _process_once(self) -> None:
        if not self._is_processed:
            self._is_processed = True
            self.process()


def _too_large(max_body: int) -> EC2Error:
    return EC2Error("RequestEntityTooLarge", f"A form must not be larger than {max_body} bytes.", 413)
