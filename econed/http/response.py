"""HTTP out: a short answer whole, a long one as fast as the client takes it and no faster than that."""

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

ALLOWED = (b"GET", b"POST")
"""The methods that are carried out."""

PRODUCED_FROM = 1 << 16
"""Bytes from which an answer is sent no faster than the client reads it; at once, Twisted would cut a slow one off."""

_CONTENT_TYPE = b"text/xml;charset=UTF-8"
_SERVER = b"AmazonEC2"  # what Amazon says; a version would tell strangers which holes to try


@dataclass(frozen=True)
class Answer:
    """What goes back: an HTTP status, the body in pieces, and EC2's code of what went wrong (empty if nothing did).

    `pieces` are taken out as they are sent. Where they are not the whole body, `rest` makes the others.
    """

    status: int
    pieces: deque[bytes]
    code: str = ""
    rest: AsyncGenerator[deque[bytes], None] | None = None

    @property
    def length(self) -> int:
        """The bytes of the pieces that there are."""
        return sum(map(len, self.pieces))


class Response:
    """One answer on its way to a client. `taken` is told of each piece that the client has, by its length."""

    def __init__(self, request: RawRequest, request_id: str, taken: Callable[[int], None]) -> None:
        self._request: Any = request  # Twisted's half has no types
        self._request_id = request_id
        self._taken = taken
        self.length = 0
        """The bytes of the body that were sent."""

    async def send(self, answer: Answer) -> None:
        """Send an answer to its end; raises what the making of its rest raises, which `break_off` is for.

        One whose length is not known goes in chunks, or to a client of HTTP/1.0 until the connection is closed
        (RFC 9112, 6.1 and 6.3).
        """
        self._head(answer)
        if answer.rest is None and answer.length < PRODUCED_FROM:
            self._write(b"".join(answer.pieces))
            self._taken(self.length)
        else:
            await self._produce(answer)
        self._request.finish()

    def break_off(self) -> None:
        """End an answer that cannot be finished, so that the client sees that it is not whole."""
        if self._request.channel is not None:
            self._request.channel.abort()

    def _head(self, answer: Answer) -> None:
        request = self._request
        request.setResponseCode(answer.status)
        request.setHeader(b"server", _SERVER)
        request.setHeader(b"content-type", _CONTENT_TYPE)
        if answer.rest is None:
            request.setHeader(b"content-length", b"%d" % answer.length)
        request.setHeader(b"x-amzn-requestid", self._request_id.encode())
        request.setHeader(b"cache-control", b"no-cache, no-store")
        if answer.status == HTTPStatus.METHOD_NOT_ALLOWED:
            request.setHeader(b"allow", b", ".join(ALLOWED))  # RFC 9110, 15.5.6

    async def _produce(self, answer: Answer) -> None:
        client = _Client(is_waited_for=self._request.channel.is_waiting_for_client)
        self._request.registerProducer(client, True)
        try:
            await self._drain(answer.pieces, client)
            if answer.rest is not None:
                async for pieces in answer.rest:
                    await self._drain(pieces, client)
        finally:
            if self._request.channel is not None:  # it has none when the client has gone
                self._request.unregisterProducer()

    async def _drain(self, pieces: deque[bytes], client: _Client) -> None:
        while pieces:
            await client.has_taken()
            piece = pieces.popleft()
            self._write(piece)
            await client.has_taken()
            self._taken(len(piece))

    def _write(self, piece: bytes) -> None:
        self.length += len(piece)
        self._request.write(piece)


@implementer(IPushProducer)
class _Client:
    """Whether the client has taken what was sent, as the transport says it."""

    def __init__(self, *, is_waited_for: bool) -> None:
        self._is_waited_for = is_waited_for
        self._waiting: Deferred[None] | None = None

    async def has_taken(self) -> None:
        """Wait until the client has taken so much that more may be sent."""
        while self._is_waited_for:
            self._waiting = Deferred()
            await self._waiting

    def pauseProducing(self) -> None:
        self._is_waited_for = True

    def resumeProducing(self) -> None:
        self._is_waited_for = False
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    def stopProducing(self) -> None:
        self._is_waited_for = True
