"""Connections at their limits, over real sockets: what is too large, too slow, too many, or not HTTP."""

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

BEGUN = b"GET /?Action=DescribeRegions HTTP/1.1\r\nHost: x\r\n"
ROOT = Path(__file__).parent.parent.parent
FORM = b"Content-Type: application/x-www-form-urlencoded\r\n"

Serve = Callable[..., Server]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Make servers with these settings; they end with the test, and say that nothing unforeseen happened."""
    running: list[Server] = []

    def started(
        resource: IResource | None = None, wrapped: Any = None, max_connections: int | None = None, **settings: Any
    ) -> Server:
        given = Settings(tmpdir=str(tmp_path), **settings)
        running.append(Server(given, resource=resource, wrapped=wrapped, max_connections=max_connections))
        return running[-1]

    yield started
    for each in running:
        each.close()
        each.site.abort()
        assert [event for event in each.events if "log_failure" in event] == []


def _post(body: bytes, *, length: int | None = None) -> bytes:
    said = len(body) if length is None else length
    return b"POST / HTTP/1.1\r\nHost: x\r\n" + FORM + b"Content-Length: %d\r\n\r\n" % said + body


def _chunked(*chunks: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: x\r\n" + FORM + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(chunks)


async def _refused(server: Server, data: bytes) -> Client:
    """Send this and return the connection when it was answered; it must be the last answer on it, in EC2's XML."""
    client = await connected(server)
    client.send(data)
    await wait_until(lambda: client.has_response)
    assert b"connection: close" in client.head, client.head
    assert b"content-type: text/xml" in client.head
    assert b"x-amzn-requestid: " in client.head
    await wait_until(lambda: client.is_closed)
    return client


# What is too large


@pytest_twisted.ensureDeferred
async def test_a_first_line_and_headers_may_have_as_much_as_the_limit_says(serve: Serve) -> None:
    """Together, without the ends of their lines."""
    server = serve(max_headers=20_000)
    lines = [b"GET /?A=%s HTTP/1.1" % (b"x" * 10_000), b"Host: x", b"X-More: "]
    lines[-1] += b"y" * (20_000 - sum(map(len, lines)))
    assert (await send_request(server, b"\r\n".join(lines) + b"\r\n\r\n")).code == "MissingAuthenticationToken"
    lines[-1] += b"y"
    client = await _refused(server, b"\r\n".join(lines) + b"\r\n\r\n")
    assert (client.status, client.code) == (431, "RequestHeaderSectionTooLarge")
    assert server.refused == ["max_headers"]


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET /" + b"x" * 20_000, 414),
        (b"x" * 200_000, 414),
        (BEGUN + b"A: " + b"x" * 20_000 + b"\r\n\r\n", 431),
        (BEGUN + b"A: " + b"x" * 20_000, 431),
        (BEGUN + b"A: b\r\n x\r\n" * 2_000 + b"\r\n", 431),
        (BEGUN + b"A: b\r\n" * (MAX_HEADERS + 1) + b"\r\n", 431),
        (BEGUN + b"A: b\r\n" * 100_000, 431),
    ],
    ids=[
        "line",
        "line without an end",
        "no line",
        "header",
        "header without an end",
        "folded",
        "headers",
        "headers and headers",
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_head_beyond_the_limit_is_refused(serve: Serve, head: bytes, status: int) -> None:
    server = serve(max_headers=16_000)
    client = await _refused(server, head)
    assert (client.status, client.code) == (status, "RequestHeaderSectionTooLarge")
    assert server.refused == ["max_headers"]


@pytest_twisted.ensureDeferred
async def test_a_form_may_have_as_much_as_the_limit_says(serve: Serve) -> None:
    server = serve(max_body=50_000)
    assert (await send_request(server, _post(b"A=" + b"x" * 49_998))).code == "MissingAuthenticationToken"
    whole = b"C350\r\nA=" + b"x" * 49_998 + b"\r\n"
    assert (await send_request(server, _chunked(whole, b"0\r\n\r\n"))).code == "MissingAuthenticationToken"
    for data in (_post(b"A=" + b"x" * 49_999), _chunked(whole, b"1\r\nx\r\n")):
        client = await _refused(server, data)
        assert (client.status, client.code) == (413, "RequestEntityTooLarge")
    assert server.refused == ["max_body"] * 2


@pytest_twisted.ensureDeferred
async def test_a_form_that_says_that_it_is_too_large_is_refused_before_it_comes(serve: Serve) -> None:
    """Nobody who asks first is told to send it."""
    head = _post(b"", length=1 << 40).replace(b"Host: x", b"Host: x\r\nExpect: 100-continue")
    client = await _refused(serve(), head)
    assert (client.status, client.code) == (413, "RequestEntityTooLarge")
    assert b"100 Continue" not in client.received


@pytest_twisted.ensureDeferred
async def test_a_client_that_goes_on_sending_what_is_too_large_gets_its_answer_and_is_cut_off(serve: Serve) -> None:
    """It has time to read it."""
    server = serve(max_body=40_000)
    with socket.create_connection(("127.0.0.1", server.number)) as connection:
        connection.setblocking(False)
        connection.send(_chunked(b"FFFFFFFF\r\n"))
        sent = 0
        while sent < 10_000_000:
            sent += _sent(connection, b"x" * 100_000)
            await one_turn()
        assert server.site.connections == 1
        assert _held(server) == 0
        server.cloud.clock.advance(LINGER_TIME)
        await wait_until(lambda: server.site.connections == 0)
        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")


@pytest_twisted.ensureDeferred
async def test_a_request_has_no_more_parameters_than_the_limit(serve: Serve) -> None:
    """In its query and its form together; they are counted before one of them is decoded."""
    server = serve(max_parameters=10)
    query = "&".join(f"A.{number}=%" for number in range(6))
    assert (await send_request(server, get(server, query))).code == "MalformedQueryString"
    assert (await send_request(server, get(server, query + "&" + query))).code == "InvalidQueryParameter"
    both = _post(query.encode()).replace(b"POST / ", b"POST /?%s " % query.encode())
    assert (await send_request(server, both)).code == "InvalidQueryParameter"


# What is too slow


@pytest_twisted.ensureDeferred
async def test_headers_that_trickle_in_are_refused_in_time(serve: Serve) -> None:
    """Slow loris: a byte now and then puts nothing off."""
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


@pytest.mark.parametrize("begun", [b"G", b"\r\n", BEGUN, BEGUN + b"Content-Le"])
@pytest_twisted.ensureDeferred
async def test_a_head_has_its_time_from_its_first_byte(serve: Serve, begun: bytes) -> None:
    """Not from the connection, and not from the request before it."""
    server = serve(header_timeout=20, idle_timeout=75)
    client = await asked_on(server)
    server.cloud.clock.advance(60)
    client.send(begun)
    await wait_until(lambda: _stage(server) == "HEAD")
    server.cloud.clock.advance(19)
    assert client.received == b""
    server.cloud.clock.advance(1)
    await wait_until(lambda: client.is_closed)
    assert (client.status, client.code) == (408, "RequestTimeout")


@pytest_twisted.ensureDeferred
async def test_a_head_that_begins_in_one_go_with_the_request_before_has_the_same_time(serve: Serve) -> None:
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
async def test_a_form_that_trickles_in_is_refused_in_time(serve: Serve, chunked: bool) -> None:
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
    """Return the beginning of a form with a file that alice has signed: its parameters."""
    pairs = parse_qsl(signed(server, method="POST", Action="UploadImage", Version="2008-12-01"))
    part = "--x\r\nContent-Disposition: form-data; name="
    parts = "".join(f'{part}"{name}"\r\n\r\n{value}\r\n' for name, value in pairs)
    head = f"POST / HTTP/1.1\r\nHost: {server.address}\r\nContent-Length: 1000000\r\n"
    return f"{head}Content-Type: multipart/form-data; boundary=x\r\n\r\n{parts}".encode()


_FILE = b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'


@pytest_twisted.ensureDeferred
async def test_the_parameters_of_an_upload_have_the_time_of_a_form(serve: Serve) -> None:
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
async def test_a_connection_that_says_nothing_is_closed_in_time(serve: Serve) -> None:
    """Before its first request, and after one; without a word, since nobody asked."""
    server = serve(idle_timeout=75)
    silent, client = await connected(server), await asked_on(server)
    server.cloud.clock.advance(74)
    assert server.site.connections == 2
    server.cloud.clock.advance(1)
    await wait_until(lambda: silent.is_closed and client.is_closed)
    assert silent.received == client.received == b""
    assert server.refused == []


@pytest_twisted.ensureDeferred
async def test_a_connection_is_busy_from_the_head_of_a_request_to_its_answer(serve: Serve) -> None:
    """That is what an end of the process should not cut."""
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
async def test_a_connection_that_never_closes_is_cut_off_when_it_was_refused(serve: Serve) -> None:
    server = serve()
    with socket.create_connection(("127.0.0.1", server.number)) as connection:
        connection.sendall(b"nonsense\r\n\r\n")
        await wait_until(lambda: _stage(server) == "LINGERING")
        server.cloud.clock.advance(LINGER_TIME)
        await wait_until(lambda: server.site.connections == 0)
        assert connection.recv(1000).startswith(b"HTTP/1.1 400")


async def asked_on(server: Server) -> Client:
    """Return a connection on which a request has been answered, that is kept."""
    client = await connected(server)
    client.send(get(server))
    await wait_until(lambda: client.has_response)
    assert b"connection: close" not in client.head
    client.received = b""
    return client


def _stage(server: Server) -> str:
    """Return what the one connection is waiting for."""
    return "".join(channel._stage.name for channel in server.site._channels)


# Answers that nobody takes


def _reader(server: Server) -> socket.socket:
    """Return a connection that takes little at a time."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", server.number))
    connection.setblocking(False)
    return connection


def _held(server: Server) -> int:
    """Return how many bytes the server keeps of and for its one connection."""
    (channel,) = server.site._channels
    return unsent_bytes(channel.transport) + unparsed_bytes(channel)


@pytest_twisted.ensureDeferred
async def test_a_client_that_pipelines_and_does_not_read_makes_nothing_grow_and_is_cut_off(serve: Serve) -> None:
    """Its requests are as short as they can be; the answers are fifty times as long."""
    server = serve(idle_timeout=75, failed_signatures=None)
    request, sent, most, idle = b"GET / HTTP/1.1\r\nHost:\r\n\r\n" * 1000, 0, 0, 0
    with _reader(server) as connection:
        await wait_until(lambda: server.site.connections)
        while idle < 200:
            now = _sent(connection, request)
            sent, idle = sent + now, 0 if now else idle + 1
            await one_turn()
            most = max(most, _held(server))
        assert sent > 100_000
        assert most < 1 << 19
        server.cloud.clock.advance(74)
        await one_turn()
        assert server.site.connections == 1
        server.cloud.clock.advance(1)
        await wait_until(lambda: server.site.connections == 0)


@pytest_twisted.ensureDeferred
async def test_a_client_that_pipelines_and_reads_gets_every_answer(serve: Serve) -> None:
    """In as many turns as it takes: reading goes on where it stopped."""
    server = serve(failed_signatures=None)
    client = await connected(server)
    client.send(get(server) * 3000)
    await wait_until(lambda: client.received.count(b"</Response>") == 3000)
    assert client.received.count(b"HTTP/1.1 403 ") == 3000


class _Long(Resource):
    """Answers with 32 MiB, as long answers are sent."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.pieces = deque([bytes(1 << 16)] * (1 << 9))
        """Those that are not sent yet."""

    def render(self, request: Any) -> int:
        answer = EncodedResponse(200, self.pieces)
        sending = Deferred.fromCoroutine(ResponseWriter(request, "r", lambda _: None).send(answer))
        request.notifyFinish().addErrback(lambda _: sending.cancel())
        sending.addErrback(lambda failure: failure.trap(CancelledError))
        return NOT_DONE_YET


@pytest_twisted.ensureDeferred
async def test_a_long_answer_that_nobody_takes_is_given_up(serve: Serve) -> None:
    """As long as some of it is taken, it is sent, and no more of it is kept than a piece or two."""
    server = serve(_Long(), idle_timeout=75)
    with _reader(server) as connection:
        await wait_until(lambda: server.site.connections)
        connection.send(get(server))
        await wait_until(lambda: _held(server) >= 1 << 16)
        for _ in range(3):
            server.cloud.clock.advance(70)
            taken = 0
            while taken < 1 << 23:
                taken += _taken(connection)
                await one_turn()
            assert _held(server) <= 1 << 18
        assert server.site.connections == 1
        server.cloud.clock.advance(75)
        await wait_until(lambda: server.site.connections == 0)


def _taken(connection: socket.socket) -> int:
    try:
        return len(connection.recv(1 << 20))
    except BlockingIOError:
        return 0


def _sent(connection: socket.socket, data: bytes) -> int:
    try:
        return connection.send(data)
    except BlockingIOError:
        return 0


# What is not HTTP, or could be read in two ways


def _with(*headers: bytes, line: bytes = b"POST / HTTP/1.1", host: bytes = b"Host: x\r\n") -> bytes:
    return line + b"\r\n" + host + b"".join(each + b"\r\n" for each in headers) + b"\r\n"


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
async def test_what_two_readers_could_read_differently_is_refused(serve: Serve, data: bytes) -> None:
    """And nothing behind it is read: there is one answer, and the connection is closed (RFC 9112, 11.2)."""
    server = serve()
    client = await _refused(server, data + b"GET / HTTP/1.1\r\nHost: smuggled\r\n\r\n")
    assert (client.status, client.code) == (400, "InvalidRequest")
    assert client.received.count(b"<RequestID>") == 1
    assert server.refused == ["http"]


@pytest_twisted.ensureDeferred
async def test_a_request_as_to_a_proxy_is_for_the_host_in_its_first_line(serve: Serve) -> None:
    """RFC 9112, 3.2.2: its Host header has no say, so a signature for the host in the line holds."""
    server = serve()
    query = signed(server)
    request = f"GET http://{server.address}/?{query} HTTP/1.1\r\nHost: example.org\r\n\r\n"
    client = await connected(server)
    client.send(request.encode())
    await wait_until(lambda: b"</DescribeRegionsResponse>" in client.received)
    bare = await send_request(server, f"GET http://{server.address}?Action=x HTTP/1.1\r\nHost: y\r\n\r\n".encode())
    assert bare.code == "MissingAuthenticationToken"


@pytest_twisted.ensureDeferred
async def test_a_form_in_thousands_of_chunks_is_read(serve: Serve) -> None:
    """Each of a byte, with an extension, as few senders do and any may."""
    query = b"Action=" + b"x" * 20_000
    chunks = b"".join(b"1;a=b\r\n%c\r\n" % byte for byte in query)
    client = await send_request(serve(), _chunked(chunks, b"0\r\nTrailer: x\r\n\r\n"))
    assert client.code == "MissingAuthenticationToken"


@pytest_twisted.ensureDeferred
async def test_http_1_0_needs_no_host_and_is_closed(serve: Serve) -> None:
    client = await _refused(serve(), b"GET /?A=b HTTP/1.0\r\n\r\n")
    assert (client.status, client.code) == (403, "MissingAuthenticationToken")


# Connections of an address


@pytest_twisted.ensureDeferred
async def test_an_address_has_so_many_connections_and_no_more(serve: Serve) -> None:
    """Further ones are closed at once; others have theirs, and one that ends makes room."""
    server = serve(max_connections_per_address=3)
    kept = [await asked_on(server) for _ in range(3)]
    for _ in range(2):
        further = await connected(server)
        await wait_until(lambda: further.is_closed)  # noqa: B023 - it is run at once
        assert further.received == b""
    other = await connected(server, "127.0.0.2")
    other.send(get(server))
    await wait_until(lambda: other.has_response)
    assert server.refused == ["max_connections_per_address"] * 2
    said = [event["log_format"] for event in server.events if event["log_level"].name == "warn"]
    assert len(said) == 1, "a flood of connections is no flood of lines"
    kept[0].close()
    await wait_until(lambda: server.site.connections == 3)
    await asked_on(server)


@pytest_twisted.ensureDeferred
async def test_all_addresses_together_leave_files_for_what_a_process_has_to_open_itself(serve: Serve) -> None:
    """Else many addresses could keep it from oned; one that ends makes room."""
    server = serve(max_connections=3)
    kept = [await asked_on(server) for _ in range(3)]
    for source in ("127.0.0.2", "127.0.0.3"):
        further = await connected(server, source)
        await wait_until(lambda: further.is_closed)  # noqa: B023 - it is run at once
    assert server.refused == ["descriptors"] * 2
    assert [event["count"] for event in server.events if event["log_level"].name == "warn"] == [3]
    kept[0].close()
    await wait_until(lambda: server.site.connections == 2)
    await asked_on(server)


def test_the_connections_that_a_process_can_have_follow_from_the_files_that_it_may_open() -> None:
    command = "import resource; from econed.process.listening import max_connections; print(max_connections())"
    counts = []
    for files in (1024, 300):
        shell = f"ulimit -n {files}; exec {sys.executable} -c '{command}'"
        counts.append(subprocess.run(["/bin/sh", "-c", shell], capture_output=True, check=True, cwd=ROOT).stdout)
    assert [int(each) for each in counts] == [768, 150]


# Bodies of all connections


@pytest_twisted.ensureDeferred
async def test_all_large_bodies_together_have_so_much_memory_and_no_more(serve: Serve) -> None:
    """Whoever sends them; small ones are always taken, and what is done or given up makes room."""
    server = serve(max_body=2**20, max_bodies=2**20, body_timeout=60)
    large, chunk = b"x" * (2**20 - 1), b"%x\r\n" % (2**20)
    first = await connected(server)
    first.send(_chunked() + chunk + large)
    await wait_until(lambda: _kept(server) == len(large))
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
async def test_no_body_costs_a_file(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve()
    monkeypatch.setattr("tempfile.TemporaryFile", None)
    client = await send_request(server, _chunked() + b"3\r\na=b\r\n0\r\n\r\n")
    assert client.code == "MissingAuthenticationToken"


def _kept(server: Server) -> int:
    """Return how many bytes of the first connection's body are there."""
    requests = next(iter(server.site._channels)).requests
    return requests[0].content.tell() if requests else 0


@pytest_twisted.ensureDeferred
async def test_a_trusted_proxy_has_any_number_of_connections(serve: Serve) -> None:
    server = serve(max_connections_per_address=1, trusted_proxies=(ip_network("127.0.0.1"),))
    for _ in range(5):
        await asked_on(server)
    assert server.site.connections == 5


@pytest_twisted.ensureDeferred
async def test_nothing_is_remembered_of_addresses_without_connections(serve: Serve) -> None:
    server = serve()
    for number in range(2, 10):
        (await connected(server, f"127.0.0.{number}")).close()
    await wait_until(lambda: not server.site.connections)
    assert not server.site._counts
    assert not server.site._channels


# Over TLS


class _TLS:
    """A certificate for this machine, and the means to listen and to connect with it."""

    def __init__(self, directory: Path) -> None:
        cert, key = write_server_pair(directory)
        self.server = server_options(cert.read_bytes() + key.read_bytes())

    def __call__(self, site: Any) -> Any:
        return TLSMemoryBIOFactory(self.server, False, site)


@pytest_twisted.ensureDeferred
async def test_a_handshake_that_does_not_come_or_trickles_in_is_not_waited_for(serve: Serve, tmp_path: Path) -> None:
    """The idle timeout runs from the connection; the bytes of a handshake do not put it off."""
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
async def test_connections_are_counted_before_the_handshake(serve: Serve, tmp_path: Path) -> None:
    server = serve(wrapped=_TLS(tmp_path), max_connections_per_address=2)
    kept = [await connected(server) for _ in range(2)]
    further = await connected(server)
    await wait_until(lambda: further.is_closed)
    assert not any(each.is_closed for each in kept)
    assert server.refused == ["max_connections_per_address"]


@pytest_twisted.ensureDeferred
async def test_refusals_are_answered_over_tls_too_and_the_connection_ends(serve: Serve, tmp_path: Path) -> None:
    server = serve(wrapped=_TLS(tmp_path), header_timeout=20)
    endpoint = wrapClientTLS(CertificateOptions(), TCP4ClientEndpoint(reactor, "127.0.0.1", server.number))
    late: Any = await connectProtocol(endpoint, Client())
    late.send(b"GET /")
    await wait_until(lambda: _stage(server) == "HEAD")
    server.cloud.clock.advance(20)
    await wait_until(lambda: late.has_response)
    assert (late.status, late.code) == (408, "RequestTimeout")
    server.cloud.clock.advance(LINGER_TIME)
    await wait_until(lambda: late.is_closed)


@pytest_twisted.ensureDeferred
async def test_a_long_answer_that_nobody_takes_is_given_up_over_tls_too(serve: Serve, tmp_path: Path) -> None:
    answer = _Long()
    server = serve(answer, _TLS(tmp_path), idle_timeout=75)
    endpoint = wrapClientTLS(CertificateOptions(), TCP4ClientEndpoint(reactor, "127.0.0.1", server.number))
    client: Any = await connectProtocol(endpoint, Client())
    client.send(get(server))
    await wait_until(lambda: client.received)
    client.transport.transport.pauseProducing()
    await wait_until_unchanged(lambda: len(answer.pieces))
    assert answer.pieces
    server.cloud.clock.advance(74)
    await one_turn()
    assert server.site.connections == 1
    server.cloud.clock.advance(1)
    await wait_until(lambda: server.site.connections == 0)
    client.transport.abortConnection()


# Where the process is to end


@pytest_twisted.ensureDeferred
async def test_a_drained_site_gives_each_connection_one_more_answer(serve: Serve) -> None:
    server = serve()
    kept, idle = await asked_on(server), await asked_on(server)
    empty = Deferred.fromCoroutine(server.site.all_closed())
    server.site.drain()
    assert server.site.is_draining
    kept.send(get(server))
    await wait_until(lambda: kept.is_closed)
    assert kept.has_response
    assert b"connection: close" in kept.head
    assert server.site.connections == 1
    assert not empty.called
    server.cloud.clock.advance(Settings.idle_timeout)
    await wait_until(lambda: idle.is_closed)
    assert idle.received == b""
    await empty
    await Deferred.fromCoroutine(server.site.all_closed())


@pytest_twisted.ensureDeferred
async def test_a_request_under_way_when_the_site_is_drained_is_answered(serve: Serve) -> None:
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
async def test_an_aborted_site_has_no_connection(serve: Serve) -> None:
    server = serve()
    clients = [await asked_on(server), await connected(server)]
    empty = Deferred.fromCoroutine(server.site.all_closed())
    server.site.abort()
    await empty
    await wait_until(lambda: all(each.is_closed for each in clients))
    assert server.site.connections == 0


# Who may ask how often


@pytest_twisted.ensureDeferred
async def test_an_access_key_that_asks_too_often_is_told_so_and_nobody_else(serve: Serve) -> None:
    """What it is answered is what SDKs wait after; requests that alice did not sign are not hers."""
    server = serve(rate_limit=1.0, rate_burst=2)
    for _ in range(5):
        assert (await send_request(server, get(server, signed(server, secret="guessed")))).code == "AuthFailure"
    for _ in range(2):
        client = await connected(server)
        client.send(get(server, signed(server)))
        await wait_until(lambda: b"</DescribeRegionsResponse>" in client.received)  # noqa: B023 - it is run at once
    limited = await send_request(server, get(server, signed(server)))
    assert (limited.status, limited.code) == (503, "RequestLimitExceeded")
    assert (
        await send_request(server, get(server, signed(server, "bob", "bobpw", Action="Nothing")))
    ).code == "InvalidAction"
    server.cloud.clock.advance(1)
    assert (await send_request(server, get(server, signed(server, Action="Nothing")))).code == "InvalidAction"


@pytest.mark.parametrize("how", ["AuthFailure", "MissingAuthenticationToken", "nobody", "RequestExpired"])
@pytest_twisted.ensureDeferred
async def test_an_address_that_does_not_show_who_it_is_is_refused_unread(serve: Serve, how: str) -> None:
    """Even with a signature that is right; the same one holds from elsewhere, and from here when time has passed."""
    server = serve(failed_signatures=3)
    good = get(server, signed(server, Action="Nothing"))
    wrong = {
        "AuthFailure": get(server, signed(server, secret="guessed")),
        "MissingAuthenticationToken": get(server),
        "nobody": get(server, signed(server, "nobody")),
        "RequestExpired": good.replace(b"Timestamp=20", b"Timestamp=19"),
    }[how]
    for _ in range(3):
        assert (await send_request(server, wrong)).status in (400, 401, 403)
    limited = await send_request(server, good)
    assert (limited.status, limited.code) == (503, "RequestLimitExceeded")
    client = await connected(server, "127.0.0.2")
    client.send(good)
    await wait_until(lambda: client.has_response)
    assert client.code == "InvalidAction"
    server.cloud.clock.advance(20)
    assert (await send_request(server, good)).code == "InvalidAction"


@pytest_twisted.ensureDeferred
async def test_behind_a_trusted_proxy_it_is_the_client_s_address_that_counts(serve: Serve) -> None:
    """One client's wrong signatures lock out neither the others nor the proxy's own probes."""
    server = serve(failed_signatures=2, trusted_proxies=(ip_network("127.0.0.1"),))
    for _ in range(2):
        await send_request(server, get(server, "", "X-Forwarded-For: 192.0.2.1"))
    codes = [(await send_request(server, get(server, "", *via))).code for via in (["X-Forwarded-For: 192.0.2.1"], [])]
    codes.append((await send_request(server, get(server, "", "X-Forwarded-For: 192.0.2.2"))).code)
    assert codes == ["RequestLimitExceeded", "MissingAuthenticationToken", "MissingAuthenticationToken"]


# Uploads


@pytest_twisted.ensureDeferred
async def test_a_file_that_trickles_in_is_cut_off(serve: Serve) -> None:
    """Each byte buys it as much time as it takes at the least rate, so 1 KiB a second do not keep it alive."""
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
async def test_what_stands_around_a_file_in_chunks_buys_it_no_time(serve: Serve) -> None:
    """A chunk may have one byte of the file and a thousand that say nothing."""
    server = serve(idle_timeout=75, min_upload_rate=100)
    client = await connected(server)
    whole = _upload(server) + _FILE
    head, _, form = whole.partition(b"\r\n\r\n")
    chunked = re.sub(rb"Content-Length: [0-9]+", b"Transfer-Encoding: chunked", head)
    client.send(chunked + b"\r\n\r\n" + b"%x\r\n%s\r\n" % (len(form), form))
    await wait_until(lambda: _stage(server) == "FILE")
    for _ in range(8):
        client.send(b"1;%s\r\nx\r\n" % (b"y" * 1000))
        await server.received_all()
        server.cloud.clock.advance(10)
    await wait_until(lambda: client.has_response)
    assert (client.status, client.code) == (408, "RequestTimeout")


@pytest_twisted.ensureDeferred
async def test_a_file_that_is_slow_but_comes_is_waited_for(serve: Serve) -> None:
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


# The deadline itself


def test_a_paused_deadline_can_be_extended() -> None:
    """What arrives in one go is paid for, also where the sender is paused in the middle of it."""
    clock, came = Clock(), list[float]()
    deadline = Deadline(clock, lambda: came.append(clock.seconds()))
    deadline.set(10)
    clock.advance(4)
    deadline.pause()
    deadline.extend(2, limit=9)
    deadline.resume()
    clock.advance(7.5)
    assert came == []
    clock.advance(1)
    assert len(came) == 1


def test_time_that_is_held_does_not_pass() -> None:
    clock, came = Clock(), list[float]()
    deadline = Deadline(clock, lambda: came.append(clock.seconds()))
    deadline.set(10)
    clock.advance(4)
    deadline.pause()
    deadline.pause()
    clock.advance(100)
    deadline.resume()
    deadline.resume()
    clock.advance(5.5)
    assert came == []
    clock.advance(0.5)
    assert came == [110]


def test_a_deadline_is_extended_up_to_its_limit() -> None:
    clock, came = Clock(), list[float]()
    deadline = Deadline(clock, lambda: came.append(clock.seconds()))
    deadline.set(10)
    clock.advance(8)
    deadline.extend(3, limit=10)
    clock.advance(4)
    assert came == []
    deadline.extend(1000, limit=10)
    clock.advance(9)
    assert came == []
    clock.advance(1)
    assert came == [22]
