"""Responses of web servers that images are fetched from: complete or not, and the limits on size, time and number."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_twisted

from econed.fetching.fetcher import MAX_FETCHES, RESPONSE_TIMEOUT
from econed.fetching.pinned_agent import MAX_HEADERS_SIZE
from tests.fetching.fetching_server import CONTENT, MAX_UPLOAD, NOT_FETCHED, Server, url_of
from tests.support.reactor_turns import wait_until
from tests.support.web_server import FakeInternet, WebServer, page


@pytest.mark.parametrize(
    "response",
    [
        page(b"", status="404 Not Found"),
        page(CONTENT, status="206 Partial Content"),
        page(b"", status="302 Found"),
        page(CONTENT, "Content-Encoding: gzip"),
        b"HTTP/1.0 200 OK\r\n\r\n" + CONTENT,
        page(CONTENT, length=len(CONTENT) + 1),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nhello",
        page(b"hello", length=-5),
        page(b"hello").replace(b": 5", b": " + b"9" * 5000),
        b"220 mail.example ESMTP\r\n\r\n",
        b"",
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_response_that_is_not_a_complete_image_leaves_nothing(
    server: Server, web: WebServer, response: bytes
) -> None:
    """An error, a range, a compressed body, a truncated body or one that may be."""
    web.pages["/broken"] = response
    client = await server.begin(url_of(web, "/broken"), web)
    web.connections[0].close()
    await wait_until(lambda: client.has_response)
    assert client.code == NOT_FETCHED
    assert server.files == []
    assert server.images == []


@pytest_twisted.ensureDeferred
async def test_an_image_in_chunks_is_accepted(server: Server, web: WebServer) -> None:
    chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(CONTENT), CONTENT)
    web.pages["/chunks"] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks
    assert (await server.register(url_of(web, "/chunks"))).status == 200
    assert [file.read_bytes() for file in server.files] == [CONTENT]


@pytest.mark.parametrize("has_length", [True, False])
@pytest_twisted.ensureDeferred
async def test_the_fetch_of_too_large_an_image_is_aborted(server: Server, web: WebServer, has_length: bool) -> None:
    web.pages["/large"] = page(b"x", length=MAX_UPLOAD + 1)
    if not has_length:
        headers = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        web.pages["/large"] = headers + b"%x\r\n" % (MAX_UPLOAD + 1) + b"x" * (MAX_UPLOAD + 1)
    assert await server.refusal(url_of(web, "/large")) == "RequestEntityTooLarge"
    await wait_until(lambda: web.connections[0].is_lost)


@pytest_twisted.ensureDeferred
async def test_a_response_with_endless_headers_is_aborted(server: Server, web: WebServer) -> None:
    web.pages["/endless"] = b"HTTP/1.1 200 OK\r\n" + b"X-More: and more\r\n" * (MAX_HEADERS_SIZE // 10)
    assert await server.refusal(url_of(web, "/endless")) == NOT_FETCHED
    await wait_until(lambda: web.connections[0].is_lost)


@pytest_twisted.ensureDeferred
async def test_a_web_server_that_does_not_respond_times_out(server: Server, web: WebServer) -> None:
    client = await server.begin(url_of(web, "/silent"), web)
    server.cloud.clock.advance(RESPONSE_TIMEOUT - 1)
    assert not client.received
    server.cloud.clock.advance(1)
    await wait_until(lambda: client.has_response and web.connections[0].is_lost)
    assert client.code == NOT_FETCHED
    assert server.files == []


@pytest_twisted.ensureDeferred
async def test_an_image_that_arrives_below_the_minimum_rate_is_aborted(server: Server, web: WebServer) -> None:
    """The minimum rate is that of uploads."""
    web.pages["/slow"] = page(b"x", length=MAX_UPLOAD)
    client = await server.begin(url_of(web, "/slow"), web)
    await wait_until(lambda: server.files)
    for _ in range(8):
        received = server.outgoing.received
        web.connections[0].send(b"x" * 10)
        await wait_until(lambda: server.outgoing.received == received + 10)  # noqa: B023 - called at once
        server.cloud.clock.advance(10)
    await wait_until(lambda: client.has_response and web.connections[0].is_lost)
    assert (client.status, client.code) == (408, "RequestTimeout")
    assert server.files == []


@pytest_twisted.ensureDeferred
async def test_a_fetch_counts_against_the_upload_limit_of_its_user(
    tmp_path: Path, web: WebServer, fake_internet: FakeInternet
) -> None:
    server = Server(tmp_path, fake_internet, upload_share=3 << 20)
    web.pages["/slow"] = page(b"x", length=2 << 20)
    client = await server.begin(url_of(web, "/slow"), web)
    await wait_until(lambda: server.files)
    web.pages["/other"] = page(b"x" * (1 << 20) + b"x")
    assert (await server.register(url_of(web, "/other"))).code == "ResourceLimitExceeded"
    assert (await server.register(url_of(web, "/other"), "bob")).status == 200
    web.connections[0].send(b"x" * ((2 << 20) - 1))
    await wait_until(lambda: client.has_response)
    assert client.status == 200
    await server.port.stopListening()


@pytest_twisted.ensureDeferred
async def test_the_fetches_of_a_user_are_limited(server: Server, web: WebServer) -> None:
    for number in range(MAX_FETCHES):
        await server.begin(url_of(web, f"/{number}"), web)
    client = await server.register(url_of(web))
    assert (client.status, client.code) == (503, "RequestLimitExceeded")
    assert (await server.register(url_of(web), "bob")).status == 200
    web.connections[0].close()
    await wait_until(lambda: web.connections[0].is_lost)
    assert (await server.register(url_of(web))).status == 200
