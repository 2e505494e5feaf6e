"""Requests at the limits of their size, and of the memory for all of them."""

from __future__ import annotations

import socket

import pytest
import pytest_twisted

from econed.http.channel import LINGER_TIME, MAX_HEADERS
from econed.http.limits import FREE_BODY
from tests.http.connections.connecting import (
    PARTIAL_REQUEST,
    Serve,
    chunked_form,
    held_bytes,
    post_form,
    refused_client,
    send_available,
)
from tests.support.reactor_turns import one_turn, wait_until
from tests.support.serving import Server, connected, get, send_request


@pytest_twisted.ensureDeferred
async def test_the_request_line_and_headers_may_be_as_long_as_the_limit(serve: Serve) -> None:
    """Together, without their line ends."""
    server = serve(max_headers=20_000)
    lines = [b"GET /?A=%s HTTP/1.1" % (b"x" * 10_000), b"Host: x", b"X-More: "]
    lines[-1] += b"y" * (20_000 - sum(map(len, lines)))
    assert (await send_request(server, b"\r\n".join(lines) + b"\r\n\r\n")).code == "MissingAuthenticationToken"
    lines[-1] += b"y"
    client = await refused_client(server, b"\r\n".join(lines) + b"\r\n\r\n")
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
    client = await refused_client(server, data)
    assert (client.status, client.code) == (status, "RequestHeaderSectionTooLarge")
    assert server.refused == ["max_headers"]


@pytest_twisted.ensureDeferred
async def test_a_form_may_be_as_long_as_the_limit(serve: Serve) -> None:
    server = serve(max_body=50_000)
    assert (await send_request(server, post_form(b"A=" + b"x" * 49_998))).code == "MissingAuthenticationToken"
    chunk = b"C350\r\nA=" + b"x" * 49_998 + b"\r\n"
    assert (await send_request(server, chunked_form(chunk, b"0\r\n\r\n"))).code == "MissingAuthenticationToken"
    for data in (post_form(b"A=" + b"x" * 49_999), chunked_form(chunk, b"1\r\nx\r\n")):
        client = await refused_client(server, data)
        assert (client.status, client.code) == (413, "RequestEntityTooLarge")
    assert server.refused == ["max_body"] * 2


@pytest_twisted.ensureDeferred
async def test_a_form_with_too_large_a_content_length_is_refused_before_its_body(serve: Serve) -> None:
    """A client that sends `Expect: 100-continue` gets no 100 Continue."""
    head = post_form(b"", length=1 << 40).replace(b"Host: x", b"Host: x\r\nExpect: 100-continue")
    client = await refused_client(serve(), head)
    assert (client.status, client.code) == (413, "RequestEntityTooLarge")
    assert b"100 Continue" not in client.received


@pytest_twisted.ensureDeferred
async def test_a_client_that_keeps_sending_too_large_a_form_gets_its_response_and_is_disconnected(serve: Serve) -> None:
    """It has `LINGER_TIME` to read the response."""
    server = serve(max_body=40_000)
    with socket.create_connection(("127.0.0.1", server.number)) as connection:
        connection.setblocking(False)
        connection.send(chunked_form(b"FFFFFFFF\r\n"))
        sent = 0
        while sent < 10_000_000:
            sent += send_available(connection, b"x" * 100_000)
            await one_turn()
        assert server.site.connections == 1
        assert held_bytes(server) == 0
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
    both = post_form(query.encode()).replace(b"POST / ", b"POST /?%s " % query.encode())
    assert (await send_request(server, both)).code == "InvalidQueryParameter"


@pytest_twisted.ensureDeferred
async def test_the_memory_for_all_large_bodies_together_is_limited(serve: Serve) -> None:
    """Whether authenticated or not. Small bodies are always accepted; requests that end make room."""
    server = serve(max_body=2**20, max_bodies=2**20, body_timeout=60)
    large, chunk = b"x" * (2**20 - 1), b"%x\r\n" % (2**20)
    first = await connected(server)
    first.send(chunked_form() + chunk + large)
    await wait_until(lambda: _body_length(server) == len(large))
    second = await connected(server)
    second.send(chunked_form() + chunk + b"x" * 2**18)
    await wait_until(lambda: second.has_response)
    assert (second.status, second.code) == (503, "RequestLimitExceeded")
    assert server.refused == ["max_bodies"]
    small = await send_request(server, chunked_form() + b"%x\r\n%s\r\n0\r\n\r\n" % (FREE_BODY, b"x" * FREE_BODY))
    assert small.code == "MissingAuthenticationToken"
    first.close()
    await wait_until(lambda: server.site.connections <= 1)
    for _ in range(3):
        third = await send_request(server, chunked_form() + b"%x\r\n%s\r\n0\r\n\r\n" % (len(large), large))
        assert third.code == "MissingAuthenticationToken"


@pytest_twisted.ensureDeferred
async def test_no_body_is_kept_in_a_file(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve()
    monkeypatch.setattr("tempfile.TemporaryFile", None)
    client = await send_request(server, chunked_form() + b"3\r\na=b\r\n0\r\n\r\n")
    assert client.code == "MissingAuthenticationToken"


def _body_length(server: Server) -> int:
    """Return how many bytes of the body were received on the first connection."""
    requests = next(iter(server.site._channels)).requests
    return requests[0].content.tell() if requests else 0
