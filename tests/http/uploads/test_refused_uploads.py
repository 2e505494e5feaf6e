"""Uploads that are refused or fail: when, and that they leave nothing."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from urllib.parse import quote

import pytest
import pytest_twisted

from econed.config.settings import Settings
from econed.http.channel import LINGER_TIME
from tests.http.uploads.uploading import (
    BOUNDARY,
    CONTENT,
    MAX_UPLOAD,
    Server,
    beginning,
    fields_v2,
    form,
    head,
    pieces_of,
    post,
)
from tests.support.reactor_turns import wait_until
from tests.support.serving import connected, send_request


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        (fields_v2(secret="wrong"), 401, "AuthFailure"),
        (fields_v2(AWSAccessKeyId="nobody"), 401, "AuthFailure"),
        ({**fields_v2(), "Extra": "unsigned"}, 401, "AuthFailure"),
        (fields_v2(Timestamp="2020-01-01T00:00:00Z"), 400, "RequestExpired"),
        ({"Action": "UploadImage", "Version": "2008-12-01"}, 403, "MissingAuthenticationToken"),
        (fields_v2(Action="RegisterImage"), 415, "UnsupportedMediaType"),
        (fields_v2(DryRun="true"), 412, "DryRunOperation"),
        (fields_v2(Name="x"), 400, "UnknownParameter"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_an_upload_is_refused_before_the_first_byte_of_the_file(
    server: Server, fields: dict[str, str], status: int, code: str
) -> None:
    client = await send_request(server, head(server, length=MAX_UPLOAD) + beginning(fields))
    assert (client.status, client.code) == (status, code)
    assert b"connection: close" in client.received.lower()
    assert server.files == []
    assert server.changes() == []


@pytest_twisted.ensureDeferred
async def test_a_query_string_beside_fields_signed_with_version_2_is_refused(server: Server) -> None:
    request = post(server, form(fields_v2(), CONTENT)).replace(b"POST / ", b"POST /?DryRun=true ", 1)
    client = await send_request(server, request)
    assert (client.status, client.code) == (400, "IncompleteSignature")
    assert server.files == []


@pytest_twisted.ensureDeferred
async def test_a_client_that_keeps_sending_a_refused_upload_gets_its_response_and_is_disconnected(
    server: Server,
) -> None:
    client = await connected(server)
    client.send(head(server, length=MAX_UPLOAD) + beginning(fields_v2(secret="wrong")))
    client.send(b"x" * (MAX_UPLOAD // 2))
    await wait_until(lambda: b"AuthFailure" in client.received)
    server.cloud.clock.advance(LINGER_TIME)
    await client.closed
    assert client.status == 401
    assert server.files == []


@pytest_twisted.ensureDeferred
async def test_a_client_that_has_sent_all_of_a_refused_upload_gets_its_response(server: Server) -> None:
    client = await send_request(server, post(server, form(fields_v2(secret="wrong"), b"small")))
    assert client.status == 401
    assert server.files == []


@pytest_twisted.ensureDeferred
async def test_an_upload_with_too_large_a_content_length_is_refused_without_100_continue(server: Server) -> None:
    client = await send_request(server, head(server, "Expect: 100-continue", length=MAX_UPLOAD + 1))
    assert (client.status, client.code) == (413, "RequestEntityTooLarge")
    assert server.files == []


@pytest_twisted.ensureDeferred
async def test_an_upload_in_chunks_that_grows_too_large_is_aborted(server: Server) -> None:
    client = await connected(server)
    client.send(head(server, "Transfer-Encoding: chunked"))
    body = beginning(fields_v2()) + b"x" * (MAX_UPLOAD + 1)
    client.send(b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces_of(body, 1 << 16)))
    await wait_until(lambda: b"RequestEntityTooLarge" in client.received)
    client.transport.abortConnection()  # type: ignore[union-attr]
    await client.closed
    assert server.files == []
    assert server.changes() == []


@pytest_twisted.ensureDeferred
async def test_uploads_are_refused_if_oned_is_on_another_machine(tmp_path: Path) -> None:
    server = Server(tmp_path, can_oned_read=False)
    client = await send_request(server, head(server, length=MAX_UPLOAD) + beginning(fields_v2()))
    assert (client.status, client.code) == (400, "UnsupportedOperation")
    assert server.files == []
    await server.port.stopListening()


@pytest_twisted.ensureDeferred
async def test_an_upload_without_a_file_is_refused(server: Server) -> None:
    query = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in fields_v2().items())
    lines = ["POST / HTTP/1.1", f"Host: {server.address}", "Content-Type: application/x-www-form-urlencoded"]
    lines.append(f"Content-Length: {len(query)}")
    client = await send_request(server, "\r\n".join(lines).encode() + b"\r\n\r\n" + query.encode())
    assert (client.status, client.code) == (400, "MissingParameter")


# Failures


@pytest_twisted.ensureDeferred
async def test_an_upload_onto_a_disk_that_became_full_leaves_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    client = await connected(server)
    client.send(post(server, form(fields_v2(), CONTENT)))
    await wait_until(lambda: client.received.endswith(b"Response>"))
    assert (client.status, client.code) == (507, "InsufficientVolumeCapacity")
    assert server.files == []


@pytest_twisted.ensureDeferred
async def test_the_upload_of_a_client_that_disconnects_leaves_nothing(server: Server) -> None:
    client = await connected(server)
    body = form(fields_v2(), CONTENT)
    client.send(post(server, body)[: -len(CONTENT) // 2])
    await wait_until(lambda: server.files and server.files[0].stat().st_size)
    client.transport.abortConnection()  # type: ignore[union-attr]
    await wait_until(lambda: not server.files)
    assert server.changes() == []


@pytest_twisted.ensureDeferred
async def test_a_stalled_upload_times_out_and_leaves_nothing(server: Server) -> None:
    client = await connected(server)
    client.send(post(server, form(fields_v2(), CONTENT))[: -len(CONTENT) // 2])
    await wait_until(lambda: server.files and server.files[0].stat().st_size)
    server.cloud.clock.advance(Settings.idle_timeout - 1)
    assert server.files
    server.cloud.clock.advance(1)
    await wait_until(lambda: client.received.endswith(b"Response>"))
    assert (client.status, client.code) == (408, "RequestTimeout")
    await wait_until(lambda: not server.files)
    assert server.changes() == []


@pytest_twisted.ensureDeferred
async def test_an_incomplete_form_or_parameters_after_the_file_leave_nothing(server: Server) -> None:
    complete = form(fields_v2(), CONTENT)
    parameter = b"--" + BOUNDARY + b'\r\nContent-Disposition: form-data; name="Action"\r\n\r\nTerminateInstances\r\n'
    for body in (
        complete[:-50],
        form(fields_v2(), CONTENT, after=parameter),
        complete.replace(b'form-data; name="file"', b"x"),
    ):
        client = await send_request(server, post(server, body))
        assert (client.status, client.code) == (400, "InvalidRequest")
        assert server.files == []
        assert server.changes() == []


@pytest_twisted.ensureDeferred
async def test_an_uploaded_image_that_oned_refuses_leaves_nothing(server: Server) -> None:
    alice = server.cloud.user("alice").id
    server.cloud.oneadmin("one.user.quota", alice, 'DATASTORE=[ID="1",IMAGES="0",SIZE="1"]')
    client = await send_request(server, post(server, form(fields_v2(), CONTENT)))
    assert (client.status, client.code) == (400, "ResourceLimitExceeded")
    assert server.files == []
