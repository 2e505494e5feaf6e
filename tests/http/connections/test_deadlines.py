"""Requests and uploads that arrive too slowly, and idle connections."""

from __future__ import annotations

import re
import socket
from urllib.parse import parse_qsl

import pytest
import pytest_twisted
from twisted.internet.task import Clock

from econed.http.channel import LINGER_TIME, Deadline
from tests.http.connections.connecting import PARTIAL_REQUEST, Serve, chunked_form, post_form, stage, used_connection
from tests.support.reactor_turns import wait_until
from tests.support.serving import Server, connected, get, signed


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
    await wait_until(lambda: stage(server) == "HEAD")
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
    client.send(chunked_form() if chunked else post_form(b"", length=1000))
    for _ in range(6):
        await server.received_all()
        assert stage(server) == "BODY"
        assert not client.received
        client.send(b"1\r\nx\r\n" if chunked else b"x")
        server.cloud.clock.advance(10)
    await wait_until(lambda: client.is_closed)
    assert (client.status, client.code) == (408, "RequestTimeout")
    assert server.refused == ["body_timeout"]


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
async def test_a_connection_that_the_client_never_closes_is_closed_after_a_refusal(serve: Serve) -> None:
    server = serve()
    with socket.create_connection(("127.0.0.1", server.number)) as connection:
        connection.sendall(b"nonsense\r\n\r\n")
        await wait_until(lambda: stage(server) == "LINGERING")
        server.cloud.clock.advance(LINGER_TIME)
        await wait_until(lambda: server.site.connections == 0)
        assert connection.recv(1000).startswith(b"HTTP/1.1 400")


# Uploads


def upload_form(server: Server) -> bytes:
    """Return the beginning of a form with a file, signed by alice: all parameters, without the file."""
    pairs = parse_qsl(signed(server, method="POST", Action="UploadImage", Version="2008-12-01"))
    part = "--x\r\nContent-Disposition: form-data; name="
    parts = "".join(f'{part}"{name}"\r\n\r\n{value}\r\n' for name, value in pairs)
    head = f"POST / HTTP/1.1\r\nHost: {server.address}\r\nContent-Length: 1000000\r\n"
    return f"{head}Content-Type: multipart/form-data; boundary=x\r\n\r\n{parts}".encode()


FILE_PART = b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'


@pytest_twisted.ensureDeferred
async def test_the_body_timeout_applies_to_the_parameters_of_an_upload(serve: Serve) -> None:
    server = serve(body_timeout=60)
    client = await connected(server)
    client.send(upload_form(server))
    await server.received_all()
    assert stage(server) == "BODY"
    server.cloud.clock.advance(59)
    client.send(b"--x\r\nContent-Dis")
    await server.received_all()
    assert not client.received
    server.cloud.clock.advance(1)
    await wait_until(lambda: client.is_closed)
    assert (client.status, client.code) == (408, "RequestTimeout")


@pytest_twisted.ensureDeferred
async def test_an_upload_below_the_minimum_rate_is_refused(serve: Serve) -> None:
    """Each byte extends the deadline by the time it takes at the minimum rate, so 1 KiB/s is too slow."""
    server = serve(idle_timeout=75)
    client = await connected(server)
    client.send(upload_form(server) + FILE_PART)
    await wait_until(lambda: stage(server) == "FILE")
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
    request = upload_form(server) + FILE_PART
    headers, _, form = request.partition(b"\r\n\r\n")
    chunked = re.sub(rb"Content-Length: [0-9]+", b"Transfer-Encoding: chunked", headers)
    client.send(chunked + b"\r\n\r\n" + b"%x\r\n%s\r\n" % (len(form), form))
    await wait_until(lambda: stage(server) == "FILE")
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
    client.send(upload_form(server) + FILE_PART)
    await wait_until(lambda: stage(server) == "FILE")
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


def test_a_deadline_that_moves_to_later_times_makes_one_delayed_call() -> None:
    """And expires at the last time set."""
    clock, expirations = Clock(), list[float]()
    deadline = Deadline(clock, lambda: expirations.append(clock.seconds()))
    for _ in range(1000):
        deadline.set(10)
        clock.advance(0.01)
        deadline.set(None)
        deadline.set(60)
        assert len(clock.getDelayedCalls()) == 1
    deadline.set(10)
    clock.pump([0.25] * 39)
    assert expirations == []
    clock.advance(0.25)
    assert expirations == [pytest.approx(20)]
    assert clock.getDelayedCalls() == []


def test_a_deadline_that_moves_to_an_earlier_time_expires_then() -> None:
    clock, expirations = Clock(), list[float]()
    deadline = Deadline(clock, lambda: expirations.append(clock.seconds()))
    deadline.set(60)
    deadline.set(10)
    clock.advance(10)
    assert expirations == [10]
    clock.advance(100)
    assert expirations == [10]


def test_a_closed_deadline_leaves_no_delayed_call() -> None:
    clock = Clock()
    deadline = Deadline(clock, lambda: None)
    deadline.set(10)
    deadline.set(None)
    deadline.close()
    assert clock.getDelayedCalls() == []
