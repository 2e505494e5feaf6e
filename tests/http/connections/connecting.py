"""Requests on single connections to a server in the process of the tests."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from econed.http.response import EncodedResponse, ResponseWriter
from tests.support.reactor_turns import wait_until
from tests.support.serving import Client, Server, connected, get
from tests.support.twisted_privates import unparsed_bytes, unsent_bytes

PARTIAL_REQUEST = b"GET /?Action=DescribeRegions HTTP/1.1\r\nHost: x\r\n"
FORM = b"Content-Type: application/x-www-form-urlencoded\r\n"

Serve = Callable[..., Server]


def post_form(body: bytes, *, length: int | None = None) -> bytes:
    content_length = len(body) if length is None else length
    return b"POST / HTTP/1.1\r\nHost: x\r\n" + FORM + b"Content-Length: %d\r\n\r\n" % content_length + body


def chunked_form(*chunks: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: x\r\n" + FORM + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(chunks)


async def refused_client(server: Server, data: bytes) -> Client:
    """Send this and return the connection; the response must be in EC2's XML, and the last on the connection."""
    client = await connected(server)
    client.send(data)
    await wait_until(lambda: client.has_response)
    assert b"connection: close" in client.head, client.head
    assert b"content-type: text/xml" in client.head
    assert b"x-amzn-requestid: " in client.head
    await wait_until(lambda: client.is_closed)
    return client


async def used_connection(server: Server) -> Client:
    """Return a persistent connection on which a request has had its response."""
    client = await connected(server)
    client.send(get(server))
    await wait_until(lambda: client.has_response)
    assert b"connection: close" not in client.head
    client.received = b""
    return client


def stage(server: Server) -> str:
    """Return the stage of the only connection."""
    return "".join(channel._stage.name for channel in server.site._channels)


def slow_reader(server: Server) -> socket.socket:
    """Return a connection with a small receive buffer."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", server.number))
    connection.setblocking(False)
    return connection


def held_bytes(server: Server) -> int:
    """Return the bytes that the server holds of requests and responses of its only connection."""
    (channel,) = server.site._channels
    return unsent_bytes(channel.transport) + unparsed_bytes(channel)


def send_available(connection: socket.socket, data: bytes) -> int:
    try:
        return connection.send(data)
    except BlockingIOError:
        return 0


class LongResponse(Resource):
    """Responds with 32 MiB through a producer."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.pieces = deque([bytes(1 << 16)] * (1 << 9))
        """Pieces that are not sent yet."""

    def render(self, request: Any) -> int:
        response = EncodedResponse(200, self.pieces)
        sending = Deferred.fromCoroutine(ResponseWriter(request, "r", lambda _: None).send(response))
        request.notifyFinish().addErrback(lambda _: sending.cancel())
        sending.addErrback(lambda failure: failure.trap(CancelledError))
        return NOT_DONE_YET
