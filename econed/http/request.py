"""A request whose bytes are kept as they came: what was signed is what is read."""

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

_UNREAD = b"-"
"""Stands for the method of a request of which not even the first line could be read."""


class RequestChannel(HTTPChannel, ABC):
    """What a request needs of its connection, besides what Twisted's has."""

    @abstractmethod
    def refuse(self, limit: str, error: EC2Error) -> None:
        """Respond with `error` to a request that is not read to its end; `limit` is the key of the limit exceeded."""

    @abstractmethod
    def file_received(self, length: int) -> None:
        """Extend the deadline for `length` bytes of the file."""

    @abstractmethod
    def hold(self) -> None:
        """Read no more for now (`econed.http.inflow.Flow`)."""

    @abstractmethod
    def go_on(self) -> None:
        """Read on (`econed.http.inflow.Flow`)."""


class RawRequest(Request):
    """A request whose body and query are left alone.

    Twisted would parse them into `args` by rules of its own (it splits on `;` too); here a signature covers the very
    bytes that are parsed, so only one parser may see them (`econed.wire.query`). A form with a file (`upload`) is
    processed as soon as its parameters are there: the file is let in, or refused, by what they say. So is a request
    that cannot be taken, whatever is still to come of it: `refusal` is then what it is answered.
    """

    channel: RequestChannel

    refusal: EC2Error | None = None
    is_received = False
    """Whether the whole body has come."""

    upload: Upload | None = None
    _has_begun = False
    _is_processed = False
    _taken = 0

    def __init__(self, uploads: UploadDirectory, max_body: int, bodies: BodyBudget, channel: RequestChannel) -> None:
        super().__init__(channel)
        self._uploads = uploads
        self._max_body = max_body
        self._bodies = bodies
        self._charged = 0

    def __repr__(self) -> str:  # that of Twisted shows the query, in which signatures stand
        return f"<{type(self).__name__} {id(self):#x}>"

    @property
    def media_type(self) -> bytes:
        """What the body is said to be, in lower case and without parameters."""
        return (self.getHeader(b"content-type") or b"").partition(b";")[0].strip().lower()

    def begin(self, command: bytes, target: bytes, version: bytes) -> None:
        """Take note of the request line."""
        self._has_begun = True
        self.args = {}
        self.method, self.uri, self.clientproto = command, target, version
        self.path = b"/"  # one resource answers for every path

    def gotLength(self, length: int | None) -> None:
        """Make ready for a body: a file goes to disk on its own way, and its connection serves nothing after it."""
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
        if self._is_known:  # nobody is told to go on (100 Continue) with what is refused already
            self.requestHeaders.removeHeader(b"expect")

    def headers_received(self) -> None:
        """Go on with a request of which the headers alone say that it is refused."""
        if self.refusal is not None:
            self.channel.refuse("max_body", self.refusal)
        elif self._is_known:
            self._process_once()

    def handleContentChunk(self, data: bytes) -> None:
        """Keep a piece of the body; with more than may come, the request is refused."""
        if self.upload is not None:
            self.channel.file_received(len(data))
            self.upload.data_received(data)
            if self.upload.is_known:
                self._process_once()
            return
        self._taken += len(data)
        if self.refusal is not None:
            return
        if self._taken > self._max_body:
            self.channel.refuse("max_body", _too_large(self._max_body))
        elif not self._charge():
            self.channel.refuse("max_bodies", too_many_bodies())
        else:
            super().handleContentChunk(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Go on with a request that has arrived whole, without parsing its query or body."""
        assert self.content is not None  # noqa: S101 - the channel has opened it
        self.content.seek(0)
        self.is_received = True
        if self.upload is not None:
            self.upload.body_ended()
        self._process_once()

    def refuse(self, error: EC2Error) -> None:
        """Answer with `error`, whatever has come; where a file is on its way in, whoever takes it in is told."""
        if not self._is_processed:
            self.refusal = error
            if not self._has_begun:
                self.begin(_UNREAD, b"/", b"HTTP/1.1")
            self._process_once()
        elif self.upload is not None:
            self.upload.break_off(error)

    def connectionLost(self, reason: Failure) -> None:
        """Give up what was still to come."""
        super().connectionLost(reason)
        if self.upload is not None:
            self.upload.connection_lost()

    def _charge(self) -> bool:
        """Have the bytes that have come counted until the request is done; False where there is no room for them."""
        more = self._taken - FREE_BODY - self._charged
        if more > 0:
            if not self._bodies.take(more):
                return False
            if not self._charged:
                self.notifyFinish().addBoth(lambda _: self._bodies.give_back(self._charged))
            self._charged += more
        return True

    @property
    def _is_known(self) -> bool:
        return self.refusal is not None or (self.upload is not None and self.upload.is_known)

    def _process_once(self) -> None:
        if not self._is_processed:
            self._is_processed = True
            self.process()


def _too_large(most: int) -> EC2Error:
    return EC2Error("RequestEntityTooLarge", f"A form of more than {most} bytes is not taken.", 413)
