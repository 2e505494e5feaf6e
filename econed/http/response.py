"""Sends responses: short responses immediately, long responses no faster than the client reads them."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

if TYPE_CHECKING:
    from econed.http.request import RawRequest

ALLOWED_METHODS = (b"GET", b"POST")

STREAMING_THRESHOLD = 1 << 16
"""Minimum bytes of a body that is sent through a producer: in one write, it could exceed a slow client's deadline."""

_CONTENT_TYPE = b"text/xml;charset=UTF-8"
_SERVER = b"AmazonEC2"  # as Amazon's own; a version would tell attackers which faults to try


@dataclass(frozen=True)
class EncodedResponse:
    """A response to be sent: HTTP status, pieces of the body, and EC2's error code (empty if there is none).

    Pieces are removed from `pieces` as they are sent. If they are not the whole body, `more_pieces` yields the others.
    """

    status: int
    pieces: deque[bytes]
    code: str = ""
    more_pieces: AsyncGenerator[deque[bytes], None] | None = None

    @property
    def length(self) -> int:
        """Bytes of `pieces`."""
        return sum(map(len, self.pieces))


class ResponseWriter:
    """Sends the response to one request. `on_sent` is called with the length of each piece that the client has read."""

    def __init__(self, request: RawRequest, request_id: str, on_sent: Callable[[int], None]) -> None:
        self._request: Any = request  # Twisted's Request is untyped
        self._request_id = request_id
        self._on_sent = on_sent
        self.length = 0
        """Bytes of the body that were sent."""

    async def send(self, response: EncodedResponse) -> None:
        """Send a response to its end; raises what its `more_pieces` raises, after which `abort` is to be called.

        If the length is not known, the body is sent in chunks, or with HTTP/1.0 until the connection is closed
        (RFC 9112, 6.1 and 6.3).
        """
        self._send_headers(response)
        if response.more_pieces is None and response.length < STREAMING_THRESHOLD:
            self._write(b"".join(response.pieces))
            self._on_sent(self.length)
        else:
            await self._produce(response)
        self._request.finish()

    def abort(self) -> None:
        """Abort the connection in the middle of a response, so that the client sees that it is incomplete."""
        if self._request.channel is not None:
            self._request.channel.abort()

    def _send_headers(self, response: EncodedResponse) -> None:
        request = self._request
        request.setResponseCode(response.status)
        request.setHeader(b"server", _SERVER)
        request.setHeader(b"content-type", _CONTENT_TYPE)
        if response.more_pieces is None:
            request.setHeader(b"content-length", b"%d" % response.length)
        request.setHeader(b"x-amzn-requestid", self._request_id.encode())
        request.setHeader(b"cache-control", b"no-cache, no-store")
        if response.status == HTTPStatus.METHOD_NOT_ALLOWED:
            request.setHeader(b"allow", b", ".join(ALLOWED_METHODS))  # RFC 9110, 15.5.6

    async def _produce(self, response: EncodedResponse) -> None:
        producer = _ResponseProducer(is_paused=self._request.channel.is_waiting_for_client)
        self._request.registerProducer(producer, True)
        try:
            await self._send_pieces(response.pieces, producer)
            if response.more_pieces is not None:
                async for pieces in response.more_pieces:
                    await self._send_pieces(pieces, producer)
        finally:
            if self._request.channel is not None:  # None once the client has disconnected
                self._request.unregisterProducer()

    async def _send_pieces(self, pieces: deque[bytes], producer: _ResponseProducer) -> None:
        while pieces:
            await producer.resumed()
            piece = pieces.popleft()
            self._write(piece)
            await producer.resumed()
            self._on_sent(len(piece))

    def _write(self, piece: bytes) -> None:
        self.length += len(piece)
        self._request.write(piece)


@implementer(IPushProducer)
class _ResponseProducer:
    """Records whether the transport accepts more of a response."""

    def __init__(self, *, is_paused: bool) -> None:
        self._is_paused = is_paused
        self._waiting: Deferred[None] | None = None

    async def resumed(self) -> None:
        """Wait until more may be written."""
        while self._is_paused:
            self._waiting = Deferred()
            await self._waiting

    def pauseProducing(self) -> None:
        self._is_paused = True

    def resumeProducing(self) -> None:
        self._is_paused = False
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    def stopProducing(self) -> None:
        self._is_paused = True
