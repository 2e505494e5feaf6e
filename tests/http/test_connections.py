"""Connections at their limits, over real sockets: requests that are too large or too slow, and invalid HTTP."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET

from econed.config.settings import Settings
from econed.http.channel import LINGER_TIME, MAX_HEADERS, Deadline
from econed.http.limits import FREE_BODY
from econed.http.response import EncodedResponse, ResponseWriter
from tests.support.certificates import server_options, write_server_pair
from tests.support.reactor_turns import one_turn, wait_until, wait_until_unchanged
from tests.support.serving import Client, Server, connected, get, reactor, send_request, signed
from tests.support.twisted_privates import unparsed_bytes, unsent_bytes

PARTIAL_REQUEST = b"GET /?Action=DescribeRegions HTTP/1.1\r\nHost: x\r\n"
ROOT = Path(__file__).parent.parent.parent
FORM = b"Content-Type: application/x-www-form-urlencoded\r\n"

Serve = Callable[..., Server]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start servers with these settings; they stop after the test and must not have logged an unforeseen failure."""
    servers: list[Server] = []

    def start(
        resource: IResource | None = None, wrapped: Any = None, max_connections: int | None = None, **settings: Any
    ) -> Server:
        all_settings = Settings(tmpdir=str(tmp_path), **settings)
        servers.append(Server(all_settings, resource=resource, wrapped=wrapped, max_connections=max_connections))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
        server.site.abort()
        assert [event for event in server.events if "log_failure" in event] == []


def _post(body: bytes, *, length: int | None = None) -> bytes:
    content_length = len(body) if length is None else length
    return b"POST / HTTP/1.1\r\nHost: x\r\n" + FORM + b"Content-Length: %d\r\n\r\n" % content_length + body


def _chunked(*chunks: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: x\r\n" + FORM + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(chunks)


async def _refused(server: Server, data: bytes) -> Client:
    """Send this and return the connection; the response must be in EC2's XML, and the last on the connection."""
    client = await connected(server)
    client.send(data)
    await wait_until(lambda: client.has_response)
    assert b"connection: close" in client.head, client.head
    assert b"content-type: text/xml" in client.head
    assert b"x-amzn-requestid: " in client.head
    await wait_until(lambda: client.is_closed)
    return client


# Too large


@pytest_twisted.ensureDeferred
async def test_the_request_line_and_headers_may_be_as_long_as_the_limit(serve: Serve) -> None:
    """Together, without their line ends."""
    server = serve(max_headers=20_000)
    lines = [b"GET /?A=%s HTTP/1.1" % (b"x" * 10_000), b"Host: x", b"X-More: "]
    lines[-1] += b"y" * (20_000 - sum(map(len, lines)))
    assert (await send_request(server, b"\r\n".join(lines) + b"\r\n\r\n")).code == "MissingAuthenticationToken"
    lines[-1] += b"y"
    client = await _refused(server, b"\r\n".join(lines) + b"\r\n\r\n")
    assert (client.status, client.code) == (431, "RequestHeaderSectionTooLarge")
    assert server.refused == ["max_headers"]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET /" + b"x" * 20_000, 414),
        (b"x" * 200_000, 414),
        (PARTIAL_REQUEST + b"A: " + b"x" * 20_000 + b"\r\n\r\n", 431),
        (PARTIAL_REQUEST + b"A: " + b"x" * 20_000, 431),
        (PARTIAL_REQUEST + b"A: b\r\n x\r\n" * 2_000 + b"\r\n", 431),
        (PARTIAL_REQUEST + b"A: b\r\n" * (MAX_HEADERS + 1) + b"\r\n", 431),
        (PARTIAL_REQUEST + b"A: b\r\n" * 100_000, 431),
    ],
    ids=[
        "request line",
        "incomplete request line",
        "not a request line",
        "header",
        "incomplete header",
        "folded header",
        "too many headers",
        "far too many headers",
    ],
)
@pytest_twisted.ensureDeferred
async def test_headers_beyond_the_limit_are_refused(serve: Serve, data: bytes, status: int) -> None:
    server = serve(max_headers=16_000)
    client = await _refused(server, data)
    assert (client.status, client.code) == (status, "RequestHeaderSectionTooLarge")
    assert server.refused == ["max_headers"]


@pytest_twisted.ensureDeferred
async def test_a_form_may_be_as_long_as_the_limit(serve: Serve) -> None:
    server = serve(max_body=50_000)
    assert (await send_request(server, _post(b"A=" + b"x" * 49_998))).code == "MissingAuthenticationToken"
    chunk = b"C350\r\nA=" + b"x" * 49_998 + b"\r\n"
    assert (await send_request(server, _chunked(chunk, b"0\r\n\r\n"))).code == "MissingAuthenticationToken"
    for data in (_post(b"A=" + b"x" * 49_999), _chunked(chunk, b"1\r\nx\r\n")):
        client = await _refused(server, data)
        assert (client.status, client.code) == (413, "RequestEntityTooLarge")
    assert server.refused == ["max_body"] * 2


@pytest_twisted.ensureDeferred
async def test_a_form_with_too_large_a_content_length_is_refused_before_its_body(serve: Serve) -> None:
    """A client that sends `Expect: 100-continue` gets no 100 Continue."""
    head = _post(b"", length=1 << 40).replace(b"Host: x", b"Host: x\r\nExpect: 100-continue")
    client = await _refused(serve(), head)
    assert (client.status, client.code) == (413, "RequestEntityTooLarge")
    assert b"100 Continue" not in client.received


@pytest_twisted.ensureDeferred
async def test_a_client_that_keeps_sending_too_large_a_form_gets_its_response_and_is_disconnected(serve: Serve) -> None:
    """It has `LINGER_TIME` to read the response."""
    server = serve(max_body=40_000)
    with socket.create_connection(("127.0.0.1", server.number)) as connection:
        connection.setblocking(False)
        connection.send(_chunked(b"FFFFFFFF\r\n"))
        sent = 0
        while sent < 10_000_000:
            sent += _send(connection, b"x" * 100_000)
            await one_turn()
        assert server.site.connections == 1
        assert _held(server) == 0
        server.cloud.clock.advance(LINGER_TIME)
        await wait_until(lambda: server.site.connections == 0)
        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")


@pytest_twisted.ensureDeferred
async def test_a_request_with_more_parameters_than_the_limit_is_refused(serve: Serve) -> None:
    """Those of the query and the form together are counted, before any is decoded."""
    server = serve(max_parameters=10)
    query = "&".join(f"A.{number}=%" for number in range(6))
    assert (await send_request(server, get(server, query))).code == "MalformedQueryString"
    assert (await send_request(server, get(server, query + "&" + query))).code == "InvalidQueryParameter"
    both = _post(query.encode()).replace(b"POST / ", b"POST /?%s " % query.encode())
    assert (await send_request(server, both)).code == "InvalidQueryParameter"


# Too slow


@pytest_twisted.ensureDeferred
async def test_headers_that_arrive_slowly_are_refused_at_the_deadline(serve: Serve) -> None:
    """Slow loris: single bytes do not extend the deadline."""
    server = serve(header_timeout=20)
    client = await connected(server)
    client.send(b"G")
    for second in range(19):
        await server.received_all()
        server.cloud.clock.advance(1)
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\nX-A: b\r\n"[second + 1 : second + 2])
    await server.received_all()
    assert not client.received
    server.cloud.clock.advance(1)
    await wait_until(lambda: client.is_closed)
    assert (client.status, client.code) == (408, "RequestTimeout")
    assert b"connection: close" in client.head
    assert server.refused == ["header_timeout"]


@pytest.mark.parametrize("data", [b"G", b"\r\n", PARTIAL_REQUEST, PARTIAL_REQUEST + b"Content-Le"])
@pytest_twisted.ensureDeferred
async def test_the_header_timeout_starts_with_the_first_byte(serve: Serve, data: bytes) -> None:
    """Not with the connection or the end of the previous request."""
    server = serve(header_timeout=20, idle_timeout=75)
    client = await used_connection(server)
    server.cloud.clock.advance(60)
    client.send(data)
    await wait_until(lambda: _stage(server) == "HEAD")
    server.cloud.clock.advance(19)
    assert client.received == b""
    server.cloud.clock.advance(1)
    await wait_until(lambda: client.is_closed)
    assert (client.status, client.code) == (408, "RequestTimeout")


@pytest_twisted.ensureDeferred
async def test_the_header_timeout_applies_to_a_request_received_with_the_one_before(serve: Serve) -> None:
    server = serve(header_timeout=20, idle_timeout=75)
    client = await connected(server)
    client.send(get(server) + b"GET / HT")
    await wait_until(lambda: client.has_response)
    client.received = b""
    server.cloud.clock.advance(20)
    await wait_until(lambda: client.is_closed)
    assert (client.status, client.code) == (408, "RequestTimeout")


@pytest.mark.parametrize("chunked", [True, False])
@pytest_twisted.ensureDeferred
async def test_a_form_that_arrives_slowly_is_refused_at_the_deadline(serve: Serve, chunked: bool) -> None:
    server = serve(body_timeout=60)
    client = await connected(server)
    client.send(_chunked() if chunked else _post(b"", length=1000))
    for _ in range(6):
        await server.received_all()
        assert _stage(server) == "BODY"
        assert not client.received
        client.send(b"1\r\nx\r\n" if chunked else b"x")
        server.cloud.clock.advance(10)
    await wait_until(lambda: client.is_closed)
    assert (client.status, client.code) == (408, "RequestTimeout")
    assert server.refused == ["body_timeout"]


def _upload(server: Server) -> bytes:
    """Return the beginning of a form with a file, signed by alice: all parameters, without the file."""
    pairs = parse_qsl(signed(server, method="POST", Action="UploadImage", Version="2008-12-01"))
    part = "--x\r\nContent-Disposition: form-data; name="
    parts = "".join(f'{part}"{name}"\r\n\r\n{value}\r\n' for name, value in pairs)
    head = f"POST / HTTP/1.1\r\nHost: {server.address}\r\nContent-Length: 1000000\r\n"
    return f"{head}Content-Type: multipart/form-data; boundary=x\r\n\r\n{parts}".encode()


_FILE = b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'


@pytest_twisted.ensureDeferred
async def test_the_body_timeout_applies_to_the_parameters_of_an_upload(serve: Serve) -> None:
    server = serve(body_timeout=60)
    client = await connected(server)
    client.send(_upload(server))
    await server.received_all()
    assert _stage(server) == "BODY"
    server.cloud.clock.advance(59)
    client.send(b"--x\r\nContent-Dis")
    await server.received_all()
    assert not client.received
    server.cloud.clock.advance(1)
    await wait_until(lambda: client.is_closed)
    assert (client.status, client.code) == (408, "RequestTimeout")


@pytest_twisted.ensureDeferred
async def test_an_idle_connection_is_closed(serve: Serve) -> None:
    """Before its first request and after a response; no response is sent, since there is no request."""
    server = serve(idle_timeout=75)
    silent, client = await connected(server), await used_connection(server)
    server.cloud.clock.advance(74)
    assert server.site.connections == 2
    server.cloud.clock.advance(1)
    await wait_until(lambda: silent.is_closed and client.is_closed)
    assert silent.received == client.received == b""
    assert server.refused == []


@pytest_twisted.ensureDeferred
async def test_a_connection_is_busy_from_the_headers_of_a_request_to_its_response(serve: Serve) -> None:
    """A process that exits should not interrupt that."""
    server = serve()
    client = await connected(server)
    assert server.site.busy == 0
    client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nAct")
    await wait_until(lambda: server.site.busy)
    client.send(b"i")
    await wait_until(lambda: client.received)
    await wait_until(lambda: not server.site.busy)
    assert server.site.connections == 1


@pytest_twisted.ensureDeferred
async def test_a_connection_that_the_client_never_closes_is_closed_after_a_refusal(serve: Serve) -> None:
    server = serve()
    with socket.create_connection(("127.0.0.1", server.number)) as connection:
        connection.sendall(b"nonsense\r\n\r\n")
        await wait_until(lambda: _stage(server) == "LINGERING")
        server.cloud.clock.advance(LINGER_TIME)
        await wait_until(lambda: server.site.connections == 0)
        assert connection.recv(1000).startswith(b"HTTP/1.1 400")


async def used_connection(server: Server) -> Client:
    """Return a persistent connection on which a request has had its response."""
    client = await connected(server)
    client.send(get(server))
    await wait_until(lambda: client.has_response)
    assert b"connection: close" not in client.head
    client.received = b""
    return client


def _stage(server: Server) -> str:
    """Return the stage of the only connection."""
    return "".join(channel._stage.name for channel in server.site._channels)


# Responses that are not read


def _reader(server: Server) -> socket.socket:
    """Return a connection with a small receive buffer."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", server.number))
    connection.setblocking(False)
    return connection


def _held(server: Server) -> int:
    """Return the bytes that the server holds of requests and responses of its only connection."""
    (channel,) = server.site._channels
    return unsent_bytes(channel.transport) + unparsed_bytes(channel)


@pytest_twisted.ensureDeferred
async def test_a_client_that_pipelines_and_does_not_read_uses_bounded_memory_and_is_disconnected(serve: Serve) -> None:
    """Its requests are as short as possible; the responses are fifty times as long."""
    server = serve(idle_timeout=75, failed_signatures=None)
    requests, sent, max_held, idle = b"GET / HTTP/1.1\r\nHost:\r\n\r\n" * 1000, 0, 0, 0
    with _reader(server) as connection:
        await wait_until(lambda: server.site.connections)
        while idle < 200:
            count = _send(connection, requests)
            sent, idle = sent + count, 0 if count else idle + 1
            await one_turn()
            max_held = max(max_held, _held(server))
        assert sent > 100_000
        assert max_held < 1 << 19
        server.cloud.clock.advance(74)
        await one_turn()
        assert server.site.connections == 1
        server.cloud.clock.advance(1)
        await wait_until(lambda: server.site.connections == 0)


@pytest_twisted.ensureDeferred
async def test_a_client_that_pipelines_and_reads_gets_every_response(serve: Serve) -> None:
    """Parsing resumes where it was paused."""
    server = serve(failed_signatures=None)
    client = await connected(server)
    client.send(get(server) * 3000)
    await wait_until(lambda: client.received.count(b"</Response>") == 3000)
    assert client.received.count(b"HTTP/1.1 403 ") == 3000


class _LongResponse(Resource):
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


@pytest_twisted.ensureDeferred
async def test_a_long_response_that_is_not_read_is_aborted(serve: Serve) -> None:
    """While the client reads it is sent, and only a few pieces are in memory."""
    server = serve(_LongResponse(), idle_timeout=75)
    with _reader(server) as connection:
        await wait_until(lambda: server.site.connections)
        connection.send(get(server))
        await wait_until(lambda: _held(server) >= 1 << 16)
        for _ in range(3):
            server.cloud.clock.advance(70)
            received = 0
            while received < 1 << 23:
                received += _receive(connection)
                await one_turn()
            assert _held(server) <= 1 << 18
        assert server.site.connections == 1
        server.cloud.clock.advance(75)
        await wait_until(lambda: server.site.connections == 0)


def _receive(connection: socket.socket) -> int:
    try:
        return len(connection.recv(1 << 20))
    except BlockingIOError:
        return 0


def _send(connection: socket.socket, data: bytes) -> int:
    try:
        return connection.send(data)
    except BlockingIOError:
        return 0


# Invalid or ambiguous HTTP


def _with(*headers: bytes, line: bytes = b"POST / HTTP/1.1", host: bytes = b"Host: x\r\n") -> bytes:
    return line + b"\r\n" + host + b"".join(header + b"\r\n" for header in headers) + b"\r\n"


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/0.9\r\n\r\n",
        b"GET / HTTP/2.0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\nHost: x\n\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET example.org HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        _with(host=b""),
        _with(b"Host: y"),
        _with(b"no colon"),
        _with(b"A: b\nContent-Length: 3"),
        _with(b"A: b\0"),
        _with(b"A\0: b"),
        _with(b"A : b"),
        _with(b": b"),
        _with(b"Content-Length: 3", b"Transfer-Encoding: chunked"),
        _with(b"Transfer-Encoding: chunked", b"Content-Length: 3"),
        _with(b"Content-Length: 3", b"Content-Length: 3"),
        _with(b"Content-Length: 3", b"Content-Length: 4"),
        _with(b"Content-Length: 3, 3"),
        _with(b"Content-Length: +3"),
        _with(b"Content-Length: -3"),
        _with(b"Content-Length: 0x3"),
        _with(b"Content-Length: 3 3"),
        _with(b"Content-Length: "),
        _with(b"Content-Length: " + b"9" * 5000),
        _with(b"Content-Length : 3"),
        _with(b"Transfer-Encoding: identity"),
        _with(b"Transfer-Encoding: identity", b"Content-Length: 3"),
        _with(b"Transfer-Encoding: chunked, identity"),
        _with(b"Transfer-Encoding: identity, chunked"),
        _with(b"Transfer-Encoding: gzip, chunked"),
        _with(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"),
        _with(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
        _with(b"Transfer-Encoding: xchunked"),
        _with(b"Transfer-Encoding: chunked;x"),
        _with(b"Transfer-Encoding:\x0bchunked"),
        _with(b"Transfer-Encoding: chunked", line=b"POST / HTTP/1.0"),
        _chunked(b"x\r\n"),
        _chunked(b"-1\r\n"),
        _chunked(b"0x1\r\nx\r\n"),
        _chunked(b"1 \r\nx\r\n"),
        _chunked(b"1\r\nxx\r\n"),
        _chunked(b"1\nx\n0\n\n", b"1\r\n"),
        _chunked(b"1;" + b"e" * 2000 + b"\r\nx\r\n"),
        _chunked(b"1;" + b"e" * 2000),
        _chunked(b"1;a=\0\r\nx\r\n"),
        _chunked(b"0\r\n" + b"A: b\r\n" * 20_000),
    ],
    ids=repr,
)
@pytest_twisted.ensureDeferred
async def test_ambiguous_or_invalid_http_is_refused(serve: Serve, data: bytes) -> None:
    """Nothing after it is processed: there is one response, and the connection is closed (RFC 9112, 11.2)."""
    server = serve()
    client = await _refused(server, data + b"GET / HTTP/1.1\r\nHost: smuggled\r\n\r\n")
    assert (client.status, client.code) == (400, "InvalidRequest")
    assert client.received.count(b"<RequestID>") == 1
    assert server.refused == ["http"]


@pytest_twisted.ensureDeferred
async def test_the_host_of_a_request_in_absolute_form_is_that_of_the_request_line(serve: Serve) -> None:
    """Its Host header is ignored, so a signature for the host in the request line is valid (RFC 9112, 3.2.2)."""
    server = serve()
    query = signed(server)
    request = f"GET http://{server.address}/?{query} HTTP/1.1\r\nHost: example.org\r\n\r\n"
    client = await connected(server)
    client.send(request.encode())
    await wait_until(lambda: b"</DescribeRegionsResponse>" in client.received)
    without_path = await send_request(
        server, f"GET http://{server.address}?Action=x HTTP/1.1\r\nHost: y\r\n\r\n".encode()
    )
    assert without_path.code == "MissingAuthenticationToken"


@pytest_twisted.ensureDeferred
async def test_a_form_in_thousands_of_chunks_is_accepted(serve: Serve) -> None:
    """Each has one byte and an extension, which is valid although few clients send it."""
    query = b"Action=" + b"x" * 20_000
    chunks = b"".join(b"1;a=b\r\n%c\r\n" % byte for byte in query)
    client = await send_request(serve(), _chunked(chunks, b"0\r\nTrailer: x\r\n\r\n"))
    assert client.code == "MissingAuthenticationToken"


@pytest_twisted.ensureDeferred
async def test_an_http_1_0_request_needs_no_host_and_its_connection_is_closed(serve: Serve) -> None:
    client = await _refused(serve(), b"GET /?A=b HTTP/1.0\r\n\r\n")
    assert (client.status, client.code) == (403, "MissingAuthenticationToken")


# Number of connections


@pytest_twisted.ensureDeferred
async def test_the_connections_of_an_address_are_limited(serve: Serve) -> None:
    """Further connections are closed at once; other addresses are not affected; a closed connection makes room."""
    server = serve(max_connections_per_address=3)
    clients = [await used_connection(server) for _ in range(3)]
    for _ in range(2):
        refused = await connected(server)
        await wait_until(lambda: refused.is_closed)  # noqa: B023 - called at once
        assert refused.received == b""
    other = await connected(server, "127.0.0.2")
    other.send(get(server))
    await wait_until(lambda: other.has_response)
    assert server.refused == ["max_connections_per_address"] * 2
    warnings = [event["log_format"] for event in server.events if event["log_level"].name == "warn"]
    assert len(warnings) == 1, "a flood of connections must not flood the log"
    clients[0].close()
    await wait_until(lambda: server.site.connections == 3)
    await used_connection(server)


@pytest_twisted.ensureDeferred
async def test_connections_leave_descriptors_for_the_files_of_the_process_itself(serve: Serve) -> None:
    """Otherwise many addresses could keep it from connecting to oned. A closed connection makes room."""
    server = serve(max_connections=3)
    clients = [await used_connection(server) for _ in range(3)]
    for source in ("127.0.0.2", "127.0.0.3"):
        refused = await connected(server, source)
        await wait_until(lambda: refused.is_closed)  # noqa: B023 - called at once
    assert server.refused == ["descriptors"] * 2
    assert [event["count"] for event in server.events if event["log_level"].name == "warn"] == [3]
    clients[0].close()
    await wait_until(lambda: server.site.connections == 2)
    await used_connection(server)


def test_the_connection_limit_follows_from_the_descriptor_limit() -> None:
    command = "import resource; from econed.process.listening import max_connections; print(max_connections())"
    counts = []
    for descriptors in (1024, 300):
        shell = f"ulimit -n {descriptors}; exec {sys.executable} -c '{command}'"
        counts.append(subprocess.run(["/bin/sh", "-c", shell], capture_output=True, check=True, cwd=ROOT).stdout)
    assert [int(count) for count in counts] == [768, 150]


# Memory for bodies


@pytest_twisted.ensureDeferred
async def test_the_memory_for_all_large_bodies_together_is_limited(serve: Serve) -> None:
    """Whether authenticated or not. Small bodies are always accepted; requests that end make room."""
    server = serve(max_body=2**20, max_bodies=2**20, body_timeout=60)
    large, chunk = b"x" * (2**20 - 1), b"%x\r\n" % (2**20)
    first = await connected(server)
    first.send(_chunked() + chunk + large)
    await wait_until(lambda: _body_length(server) == len(large))
    second = await connected(server)
    second.send(_chunked() + chunk + b"x" * 2**18)
    await wait_until(lambda: second.has_response)
    assert (second.status, second.code) == (503, "RequestLimitExceeded")
    assert server.refused == ["max_bodies"]
    small = await send_request(server, _chunked() + b"%x\r\n%s\r\n0\r\n\r\n" % (FREE_BODY, b"x" * FREE_BODY))
    assert small.code == "MissingAuthenticationToken"
    first.close()
    await wait_until(lambda: server.site.connections <= 1)
    for _ in range(3):
        third = await send_request(server, _chunked() + b"%x\r\n%s\r\n0\r\n\r\n" % (len(large), large))
        assert third.code == "MissingAuthenticationToken"


@pytest_twisted.ensureDeferred
async def test_no_body_is_kept_in_a_file(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve()
    monkeypatch.setattr("tempfile.TemporaryFile", None)
    client = await send_request(server, _chunked() + b"3\r\na=b\r\n0\r\n\r\n")
    assert client.code == "MissingAuthenticationToken"


def _body_length(server: Server) -> int:
    """Return how many bytes of the body were received on the first connection."""
    requests = next(iter(server.site._channels)).requests
    return requests[0].content.tell() if requests else 0


@pytest_twisted.ensureDeferred
async def test_a_trusted_proxy_may_have_any_number_of_connections(serve: Serve) -> None:
    server = serve(max_connections_per_address=1, trusted_proxies=(ip_network("127.0.0.1"),))
    for _ in range(5):
        await used_connection(server)
    assert server.site.connections == 5


@pytest_twisted.ensureDeferred
async def test_addresses_without_connections_are_forgotten(serve: Serve) -> None:
    server = serve()
    for number in range(2, 10):
        (await connected(server, f"127.0.0.{number}")).close()
    await wait_until(lambda: not server.site.connections)
    assert not server.site._counts
    assert not server.site._channels


# TLS


class _TLS:
    """Wraps a site in TLS, with a certificate for this machine."""

    def __init__(self, directory: Path) -> None:
        cert, key = write_server_pair(directory)
        self.server = server_options(cert.read_bytes() + key.read_bytes())

    def __call__(self, site: Any) -> Any:
        return TLSMemoryBIOFactory(self.server, False, site)


@pytest_twisted.ensureDeferred
async def test_a_connection_without_a_complete_handshake_is_closed_at_the_idle_timeout(
    serve: Serve, tmp_path: Path
) -> None:
    """The idle timeout starts with the connection; bytes of a handshake do not extend it."""
    server = serve(wrapped=_TLS(tmp_path), idle_timeout=75)
    silent, slow = await connected(server), await connected(server)
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
    for byte in hello[:7]:
        slow.send(bytes([byte]))
        await server.received_all()
        server.cloud.clock.advance(10)
    assert server.site.connections == 2
    server.cloud.clock.advance(5)
    await wait_until(lambda: silent.is_closed and slow.is_closed)
    assert server.site.connections == 0


@pytest_twisted.ensureDeferred
async def test_connections_are_counted_before_the_tls_handshake(serve: Serve, tmp_path: Path) -> None:
    server = serve(wrapped=_TLS(tmp_path), max_connections_per_address=2)
    clients = [await connected(server) for _ in range(2)]
    refused = await connected(server)
    await wait_until(lambda: refused.is_closed)
    assert not any(client.is_closed for client in clients)
    assert server.refused == ["max_connections_per_address"]


@pytest_twisted.ensureDeferred
async def test_a_refused_request_gets_a_response_over_tls_and_the_connection_is_closed(
    serve: Serve, tmp_path: Path
) -> None:
    server = serve(wrapped=_TLS(tmp_path), header_timeout=20)
    endpoint = wrapClientTLS(CertificateOptions(), TCP4ClientEndpoint(reactor, "127.0.0.1", server.number))
    client: Any = await connectProtocol(endpoint, Client())
    client.send(b"GET /")
    await wait_until(lambda: _stage(server) == "HEAD")
    server.cloud.clock.advance(20)
    await wait_until(lambda: client.has_response)
    assert (client.status, client.code) == (408, "RequestTimeout")
    server.cloud.clock.advance(LINGER_TIME)
    await wait_until(lambda: client.is_closed)


@pytest_twisted.ensureDeferred
async def test_a_long_response_that_is_not_read_is_aborted_over_tls_too(serve: Serve, tmp_path: Path) -> None:
    resource = _LongResponse()
    server = serve(resource, _TLS(tmp_path), idle_timeout=75)
    endpoint = wrapClientTLS(CertificateOptions(), TCP4ClientEndpoint(reactor, "127.0.0.1", server.number))
    client: Any = await connectProtocol(endpoint, Client())
    client.send(get(server))
    await wait_until(lambda: client.received)
    client.transport.transport.pauseProducing()
    await wait_until_unchanged(lambda: len(resource.pieces))
    assert resource.pieces
    server.cloud.clock.advance(74)
    await one_turn()
    assert server.site.connections == 1
    server.cloud.clock.advance(1)
    await wait_until(lambda: server.site.connections == 0)
    client.transport.abortConnection()


# Stopping


@pytest_twisted.ensureDeferred
async def test_a_drained_site_closes_each_connection_after_one_more_response(serve: Serve) -> None:
    server = serve()
    active, idle = await used_connection(server), await used_connection(server)
    all_closed = Deferred.fromCoroutine(server.site.all_closed())
    server.site.drain()
    assert server.site.is_draining
    active.send(get(server))
    await wait_until(lambda: active.is_closed)
    assert active.has_response
    assert b"connection: close" in active.head
    assert server.site.connections == 1
    assert not all_closed.called
    server.cloud.clock.advance(Settings.idle_timeout)
    await wait_until(lambda: idle.is_closed)
    assert idle.received == b""
    await all_closed
    await Deferred.fromCoroutine(server.site.all_closed())


@pytest_twisted.ensureDeferred
async def test_a_request_in_flight_when_the_site_is_drained_gets_its_response(serve: Serve) -> None:
    server = serve()
    client = await connected(server)
    client.send(get(server)[:-4])
    await wait_until(lambda: _stage(server) == "HEAD")
    server.site.drain()
    client.send(b"\r\n\r\n")
    await wait_until(lambda: client.is_closed)
    assert client.has_response
    assert b"connection: close" in client.head


@pytest_twisted.ensureDeferred
async def test_an_aborted_site_has_no_connections(serve: Serve) -> None:
    server = serve()
    clients = [await used_connection(server), await connected(server)]
    all_closed = Deferred.fromCoroutine(server.site.all_closed())
    server.site.abort()
    await all_closed
    await wait_until(lambda: all(client.is_closed for client in clients))
    assert server.site.connections == 0


# Rate limits


@pytest_twisted.ensureDeferred
async def test_an_access_key_over_the_rate_limit_is_refused_and_no_other(serve: Serve) -> None:
    """The error is the one after which SDKs wait. Requests with a wrong signature do not count for the access key."""
    server = serve(rate_limit=1.0, rate_burst=2)
    for _ in range(5):
        assert (await send_request(server, get(server, signed(server, secret="guessed")))).code == "AuthFailure"
    for _ in range(2):
        client = await connected(server)
        client.send(get(server, signed(server)))
        await wait_until(lambda: b"</DescribeRegionsResponse>" in client.received)  # noqa: B023 - called at once
    limited = await send_request(server, get(server, signed(server)))
    assert (limited.status, limited.code) == (503, "RequestLimitExceeded")
    assert (
        await send_request(server, get(server, signed(server, "bob", "bobpw", Action="Nothing")))
    ).code == "InvalidAction"
    server.cloud.clock.advance(1)
    assert (await send_request(server, get(server, signed(server, Action="Nothing")))).code == "InvalidAction"


@pytest.mark.parametrize("failure", ["AuthFailure", "MissingAuthenticationToken", "UnknownUser", "RequestExpired"])
@pytest_twisted.ensureDeferred
async def test_an_address_with_too_many_authentication_failures_is_refused(serve: Serve, failure: str) -> None:
    """Also with a valid signature, which is accepted from another address, and from this one some time later."""
    server = serve(failed_signatures=3)
    valid = get(server, signed(server, Action="Nothing"))
    invalid = {
        "AuthFailure": get(server, signed(server, secret="guessed")),
        "MissingAuthenticationToken": get(server),
        "UnknownUser": get(server, signed(server, "nobody")),
        "RequestExpired": valid.replace(b"Timestamp=20", b"Timestamp=19"),
    }[failure]
    for _ in range(3):
        assert (await send_request(server, invalid)).status in (400, 401, 403)
    limited = await send_request(server, valid)
    assert (limited.status, limited.code) == (503, "RequestLimitExceeded")
    client = await connected(server, "127.0.0.2")
    client.send(valid)
    await wait_until(lambda: client.has_response)
    assert client.code == "InvalidAction"
    server.cloud.clock.advance(20)
    assert (await send_request(server, valid)).code == "InvalidAction"


@pytest_twisted.ensureDeferred
async def test_authentication_failures_behind_a_trusted_proxy_count_for_the_client_address(serve: Serve) -> None:
    """One client's wrong signatures block neither other clients nor the proxy's own health checks."""
    server = serve(failed_signatures=2, trusted_proxies=(ip_network("127.0.0.1"),))
    for _ in range(2):
        await send_request(server, get(server, "", "X-Forwarded-For: 192.0.2.1"))
    codes = [
        (await send_request(server, get(server, "", *headers))).code for headers in (["X-Forwarded-For: 192.0.2.1"], [])
    ]
    codes.append((await send_request(server, get(server, "", "X-Forwarded-For: 192.0.2.2"))).code)
    assert codes == ["RequestLimitExceeded", "MissingAuthenticationToken", "MissingAuthenticationToken"]


# Uploads


@pytest_twisted.ensureDeferred
async def test_an_upload_below_the_minimum_rate_is_refused(serve: Serve) -> None:
    """Each byte extends the deadline by the time it takes at the minimum rate, so 1 KiB/s is too slow."""
    server = serve(idle_timeout=75)
    client = await connected(server)
    client.send(_upload(server) + _FILE)
    await wait_until(lambda: _stage(server) == "FILE")
    for _ in range(8):
        client.send(b"x" * 10_240)
        await server.received_all()
        server.cloud.clock.advance(10)
    await wait_until(lambda: client.has_response)
    assert (client.status, client.code) == (408, "RequestTimeout")
    assert server.refused == ["idle_timeout"]


@pytest_twisted.ensureDeferred
async def test_the_chunked_encoding_of_an_upload_does_not_count_as_progress(serve: Serve) -> None:
    """A chunk may have one byte of the file and a thousand bytes of extensions."""
    server = serve(idle_timeout=75, min_upload_rate=100)
    client = await connected(server)
    request = _upload(server) + _FILE
    headers, _, form = request.partition(b"\r\n\r\n")
    chunked = re.sub(rb"Content-Length: [0-9]+", b"Transfer-Encoding: chunked", headers)
    client.send(chunked + b"\r\n\r\n" + b"%x\r\n%s\r\n" % (len(form), form))
    await wait_until(lambda: _stage(server) == "FILE")
    for _ in range(8):
        client.send(b"1;%s\r\nx\r\n" % (b"y" * 1000))
        await server.received_all()
        server.cloud.clock.advance(10)
    await wait_until(lambda: client.has_response)
    assert (client.status, client.code) == (408, "RequestTimeout")


@pytest_twisted.ensureDeferred
async def test_an_upload_at_the_minimum_rate_is_accepted(serve: Serve) -> None:
    server = serve(idle_timeout=75, min_upload_rate=1000)
    client = await connected(server)
    client.send(_upload(server) + _FILE)
    await wait_until(lambda: _stage(server) == "FILE")
    for _ in range(30):
        client.send(b"x" * 10_000)
        await server.received_all()
        server.cloud.clock.advance(10)
    assert client.received == b""
    assert server.site.connections == 1


# Deadline


def test_a_paused_deadline_can_be_extended() -> None:
    """Bytes count also if they make the server pause reading."""
    clock, expirations = Clock(), list[float]()
    deadline = Deadline(clock, lambda: expirations.append(clock.seconds()))
    deadline.set(10)
    clock.advance(4)
    deadline.pause()
    deadline.extend(2, limit=9)
    deadline.resume()
    clock.advance(7.5)
    assert expirations == []
    clock.advance(1)
    assert len(expirations) == 1


def test_a_paused_deadline_does_not_expire() -> None:
    clock, expirations = Clock(), list[float]()
    deadline = Deadline(clock, lambda: expirations.append(clock.seconds()))
    deadline.set(10)
    clock.advance(4)
    deadline.pause()
    deadline.pause()
    clock.advance(100)
    deadline.resume()
    deadline.resume()
    clock.advance(5.5)
    assert expirations == []
    clock.advance(0.5)
    assert expirations == [110]


def test_a_deadline_is_extended_up_to_its_limit() -> None:
    clock, expirations = Clock(), list[float]()
    deadline = Deadline(clock, lambda: expirations.append(clock.seconds()))
    deadline.set(10)
    clock.advance(8)
    deadline.extend(3, limit=10)
    clock.advance(4)
    assert expirations == []
    deadline.extend(1000, limit=10)
    clock.advance(9)
    assert expirations == []
    clock.advance(1)
    assert expirations == [22]
