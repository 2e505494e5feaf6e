"""Invalid or ambiguous HTTP, and valid HTTP that few clients send."""

from __future__ import annotations

import pytest
import pytest_twisted

from tests.http.connections.connecting import Serve, chunked_form, refused_client
from tests.support.reactor_turns import wait_until
from tests.support.serving import connected, send_request, signed


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
        chunked_form(b"x\r\n"),
        chunked_form(b"-1\r\n"),
        chunked_form(b"0x1\r\nx\r\n"),
        chunked_form(b"1 \r\nx\r\n"),
        chunked_form(b"1\r\nxx\r\n"),
        chunked_form(b"1\nx\n0\n\n", b"1\r\n"),
        chunked_form(b"1;" + b"e" * 2000 + b"\r\nx\r\n"),
        chunked_form(b"1;" + b"e" * 2000),
        chunked_form(b"1;a=\0\r\nx\r\n"),
        chunked_form(b"0\r\n" + b"A: b\r\n" * 20_000),
    ],
    ids=repr,
)
@pytest_twisted.ensureDeferred
async def test_ambiguous_or_invalid_http_is_refused(serve: Serve, data: bytes) -> None:
    """Nothing after it is processed: there is one response, and the connection is closed (RFC 9112, 11.2)."""
    server = serve()
    client = await refused_client(server, data + b"GET / HTTP/1.1\r\nHost: smuggled\r\n\r\n")
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
    client = await send_request(serve(), chunked_form(chunks, b"0\r\nTrailer: x\r\n\r\n"))
    assert client.code == "MissingAuthenticationToken"


@pytest_twisted.ensureDeferred
async def test_an_http_1_0_request_needs_no_host_and_its_connection_is_closed(serve: Serve) -> None:
    client = await refused_client(serve(), b"GET /?A=b HTTP/1.0\r\n\r\n")
    assert (client.status, client.code) == (403, "MissingAuthenticationToken")
