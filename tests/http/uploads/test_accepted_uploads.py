"""Uploads that are accepted: the forms of clients, and the signatures of both versions."""

from __future__ import annotations

import hashlib
import stat
from datetime import UTC, datetime

import pytest
import pytest_twisted
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from econed.config.settings import Settings
from tests.http.uploads.uploading import BOUNDARY, CONTENT, SECRET, Server, fields_v2, form, head, pieces_of, post
from tests.support.cloud import NOW
from tests.support.metrics import samples
from tests.support.reactor_turns import wait_until
from tests.support.serving import connected, send_request

FIELDS_V4 = {"Action": "UploadImage", "Version": "2016-11-15"}


def signed_v4(server: Server, payload_hash: str | None) -> list[str]:
    """Return the headers of a Version 4 signature for a body with this hash."""
    content_type = f"multipart/form-data; boundary={BOUNDARY.decode()}"
    request = AWSRequest("POST", f"http://{server.address}/", {"Content-Type": content_type}, b"")
    if payload_hash is not None:
        request.headers["X-Amz-Content-SHA256"] = payload_hash
    request.context["timestamp"] = datetime.fromtimestamp(NOW, UTC).strftime("%Y%m%dT%H%M%SZ")
    signer = SigV4Auth(Credentials("alice", SECRET), "ec2", "cloud")
    request.headers["X-Amz-Date"] = request.context["timestamp"]
    setattr(signer, "payload", lambda _: payload_hash or hashlib.sha256(b"").hexdigest())  # noqa: B010
    canonical = signer.canonical_request(request)
    signature = signer.signature(signer.string_to_sign(request, canonical), request)
    names = signer.signed_headers(signer.headers_to_sign(request))
    authorization = f"AWS4-HMAC-SHA256 Credential={signer.scope(request)}, SignedHeaders={names}, Signature={signature}"
    sent = {name: value for name, value in request.headers.items() if name.lower().startswith("x-amz")}
    return [*(f"{name}: {value}" for name, value in sent.items()), f"Authorization: {authorization}"]


@pytest.mark.parametrize("more", [{}, {"SignatureMethod": "HmacSHA1"}])
@pytest_twisted.ensureDeferred
async def test_an_upload_in_the_format_of_the_ruby_tools_is_accepted(server: Server, more: dict[str, str]) -> None:
    client = await send_request(server, post(server, form(fields_v2(**more), CONTENT)))
    assert client.status == 200
    (image,) = server.images
    assert f"<imageId>ami-{image.id:08d}</imageId>".encode() in client.received
    (file,) = server.files
    assert file.read_bytes() == CONTENT
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert (image.path, image.type.name, image.datastore_id) == (str(file), "OS", 1)
    assert image.name.startswith("ec2-")


@pytest_twisted.ensureDeferred
async def test_an_uploaded_image_becomes_an_ami_by_register_image(server: Server) -> None:
    await send_request(server, post(server, form(fields_v2(), CONTENT)))
    (image,) = server.images
    ami = f"ami-{image.id:08d}"
    assert server.cloud.refusal("alice", "DescribeImages", ImageIds=[ami]).code == "InvalidAMIID.NotFound"
    assert server.cloud.run("alice", "RegisterImage", ImageLocation=ami, Name="uploaded") == {"ImageId": ami}
    assert server.cloud.run("alice", "DescribeImages", ImageIds=[ami])["Images"][0]["State"] == "pending"


@pytest_twisted.ensureDeferred
async def test_an_upload_in_chunks_is_accepted(server: Server) -> None:
    body = form(fields_v2(), CONTENT)
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces_of(body, 10_000)) + b"0\r\n\r\n"
    client = await send_request(server, head(server, "Transfer-Encoding: chunked") + chunks)
    assert client.status == 200
    assert [file.read_bytes() for file in server.files] == [CONTENT]


@pytest_twisted.ensureDeferred
async def test_complete_and_failed_uploads_are_counted(server: Server) -> None:
    """An upload that was refused before its file is counted only as a request."""
    await send_request(server, post(server, form(fields_v2(), CONTENT)))
    client = await connected(server)
    client.send(post(server, form(fields_v2(), CONTENT))[: -len(CONTENT) // 2])
    await wait_until(lambda: len(server.files) == 2)
    client.close()
    await wait_until(lambda: len(server.files) == 1)
    await send_request(server, post(server, form(fields_v2(secret="wrong"), CONTENT)))
    values = samples(server.metrics.snapshot())
    assert (values["econed_uploads_total", "received"], values["econed_uploads_total", "failed"]) == (1, 1)
    assert len(CONTENT) <= values["econed_upload_bytes_total",] < 2 * len(CONTENT)
    assert values["econed_requests_total", "UploadImage", "ok"] == 1


@pytest.mark.parametrize("is_signed", [True, False])
@pytest_twisted.ensureDeferred
async def test_version_4_signs_the_hash_of_the_body_or_unsigned_payload(server: Server, is_signed: bool) -> None:
    body = form(FIELDS_V4, CONTENT)
    payload_hash = hashlib.sha256(body).hexdigest() if is_signed else "UNSIGNED-PAYLOAD"
    client = await send_request(server, post(server, body, *signed_v4(server, payload_hash)))
    assert client.status == 200, client.received
    assert [file.read_bytes() for file in server.files] == [CONTENT]


@pytest_twisted.ensureDeferred
async def test_an_upload_that_differs_from_the_signed_hash_leaves_nothing(server: Server) -> None:
    body = form(FIELDS_V4, CONTENT)
    headers = signed_v4(server, hashlib.sha256(body).hexdigest())
    client = await send_request(server, post(server, body.replace(CONTENT[:8], b"changed!", 1), *headers))
    assert (client.status, client.code) == (403, "SignatureDoesNotMatch")
    assert server.files == []
    assert server.changes() == []


@pytest.mark.parametrize("payload_hash", [None, "x", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"])
@pytest_twisted.ensureDeferred
async def test_version_4_requires_a_valid_content_hash_header(server: Server, payload_hash: str | None) -> None:
    client = await send_request(server, post(server, form(FIELDS_V4, CONTENT), *signed_v4(server, payload_hash)))
    assert (client.status, client.code) == (400, "IncompleteSignature")
    assert server.files == []


@pytest_twisted.ensureDeferred
async def test_a_client_that_expects_100_continue_gets_it(server: Server) -> None:
    client = await connected(server)
    body = form(fields_v2(), CONTENT)
    client.send(head(server, "Expect: 100-continue", length=len(body)))
    await wait_until(lambda: client.received == b"HTTP/1.1 100 Continue\r\n\r\n")
    client.send(body)
    await client.closed
    assert b"HTTP/1.1 200 OK" in client.received


@pytest_twisted.ensureDeferred
async def test_the_time_for_writing_to_the_disk_is_not_idle_time(server: Server) -> None:
    server.held = []
    client = await connected(server)
    client.send(post(server, form(fields_v2(), CONTENT)))
    await wait_until(lambda: server.held)
    server.cloud.clock.advance(Settings.idle_timeout + 1)
    waiting, server.held = server.held, None
    for work in waiting:
        work()
    await client.closed
    assert client.status == 200
