"""Uploads of images over real connections: which are accepted, how much disk they use, and what is removed."""

from __future__ import annotations

import base64
import errno
import hashlib
import hmac
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import pytest
import pytest_twisted
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from lxml import etree
from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.logger import Logger

from econed.actions.images.uploads import FORGOTTEN_AGE, ORPHAN_AGE
from econed.actions.watch import SPAN, WATCHED_UNTIL
from econed.catalogue import all_chores
from econed.config.settings import Settings
from econed.errors import EC2Error
from econed.fetching.own_host import can_oned_read_tmpdir, is_own_url
from econed.http.channel import LINGER_TIME
from econed.http.file_buffer import PIECE
from econed.http.upload import Upload
from econed.http.upload_directory import MAX_FILES, UploadDirectory, UploadLimits
from econed.opennebula.documents import Image
from econed.reconciler import Reconciler
from econed.sandbox.oned import LoggedCall
from econed.wire.model import Model
from tests.support import serving
from tests.support.cloud import NOW
from tests.support.metrics import samples
from tests.support.reactor_turns import wait_until
from tests.support.serving import Client, connected, send_request

_T = TypeVar("_T")
reactor: Any = _reactor
SECRET = "alicepw"
ROOT = Path(__file__).parent.parent.parent
MAX_UPLOAD = 1 << 23
BOUNDARY = b"----------------------------f00"
MODEL = Model.load()


class Server(serving.Server):
    """A daemon that stores uploads in a directory."""

    def __init__(self, directory: Path, *, can_oned_read: bool = True, free: int = 1 << 30, **settings: Any) -> None:
        all_settings = {"tmpdir": str(directory), "max_upload": MAX_UPLOAD, **settings}
        super().__init__(Settings(**all_settings), can_oned_read=can_oned_read, free=lambda path: self.free)
        self.directory = directory
        self.free = free
        """Free bytes on the disk."""

    @property
    def files(self) -> list[Path]:
        return sorted(self.directory.iterdir())

    @property
    def images(self) -> list[Image]:
        """The images of users, newest first."""
        pool = etree.fromstring(self.cloud.oneadmin("one.imagepool.info", -2, -1, -1))
        return [image for element in pool if (image := Image(element)).uname == "alice"]

    def changes(self) -> list[LoggedCall]:
        return [call for call in self.cloud.changes if call.method != "one.user.update"]

    def reconcile(self) -> None:
        self.cloud.result(
            Reconciler(self.cloud.backend, self.cloud.clock, all_chores(self.uploads), Logger("test")).round()
        )


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.port.stopListening()


def fields_v2(host: str = "127.0.0.1", secret: str = SECRET, **more: str) -> dict[str, str]:
    """Return fields signed as by econe-upload: POST, the host without its port, the path `/`, without the file."""
    fields = {
        "Action": "UploadImage",
        "SignatureVersion": "2",
        "SignatureMethod": "HmacSHA256",
        "AWSAccessKeyId": "alice",
        "Version": "2008-12-01",
        "Timestamp": datetime.fromtimestamp(NOW, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        **more,
    }
    query = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in sorted(fields.items()))
    text = f"POST\n{host}\n/\n{query}"
    digest = fields["SignatureMethod"].removeprefix("Hmac").lower()
    signature = base64.b64encode(hmac.digest(secret.encode(), text.encode(), digest)).decode()
    return {**fields, "Signature": signature}


def form(fields: dict[str, str], file: bytes, after: bytes = b"") -> bytes:
    """Return a form as curl sends it."""
    parts = [f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode() for name, value in fields.items()]
    parts.append(
        b'Content-Disposition: form-data; name="file"; filename="disk.img"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n" + file
    )
    return (
        b"".join(b"--" + BOUNDARY + b"\r\n" + part + b"\r\n" for part in parts) + after + b"--" + BOUNDARY + b"--\r\n"
    )


def head(server: Server, *headers: str, length: int | None = None) -> bytes:
    lines = ["POST / HTTP/1.1", f"Host: {server.address}", *headers]
    lines.append(f"Content-Type: multipart/form-data; boundary={BOUNDARY.decode()}")
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def post(server: Server, body: bytes, *headers: str) -> bytes:
    return head(server, *headers, length=len(body)) + body


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


FIELDS_V4 = {"Action": "UploadImage", "Version": "2016-11-15"}
CONTENT = os.urandom(1 << 16) * 20 + b"\r\n--end"


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
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in _cut(body, 10_000)) + b"0\r\n\r\n"
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


def _cut(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def _at_once(work: Callable[[], _T]) -> Deferred[_T]:
    return succeed(work())


def beginning(fields: dict[str, str]) -> bytes:
    """Return a form up to the first byte of its file."""
    return form(fields, b"THE-FILE").partition(b"THE-FILE")[0]


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
async def test_a_client_that_expects_100_continue_gets_it(server: Server) -> None:
    client = await connected(server)
    body = form(fields_v2(), CONTENT)
    client.send(head(server, "Expect: 100-continue", length=len(body)))
    await wait_until(lambda: client.received == b"HTTP/1.1 100 Continue\r\n\r\n")
    client.send(body)
    await client.closed
    assert b"HTTP/1.1 200 OK" in client.received


@pytest_twisted.ensureDeferred
async def test_an_upload_in_chunks_that_grows_too_large_is_aborted(server: Server) -> None:
    client = await connected(server)
    client.send(head(server, "Transfer-Encoding: chunked"))
    body = beginning(fields_v2()) + b"x" * (MAX_UPLOAD + 1)
    client.send(b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in _cut(body, 1 << 16)))
    await wait_until(lambda: b"RequestEntityTooLarge" in client.received)
    client.transport.abortConnection()  # type: ignore[union-attr]
    await client.closed
    assert server.files == []
    assert server.changes() == []


BOB = {"AWSAccessKeyId": "bob", "secret": "bobpw"}


async def start_upload(server: Server, length: int, **who: str) -> Client:
    """Send an upload up to the first byte of its file, and return the connection when it was accepted."""
    before = len(server.files)
    client = await connected(server)
    client.send(head(server, length=length) + beginning(fields_v2(**who)))
    await wait_until(lambda: len(server.files) > before)
    return client


async def refused(server: Server, length: int, **who: str) -> tuple[int, str]:
    """Send an upload up to the first byte of its file, which must be refused, and return status and code."""
    client = await send_request(server, head(server, length=length) + beginning(fields_v2(**who)))
    return client.status, client.code


NO_ROOM = (507, "InsufficientVolumeCapacity")
LIMIT_EXCEEDED = (400, "ResourceLimitExceeded")


@pytest_twisted.ensureDeferred
async def test_an_upload_needs_room_beyond_the_reservations_of_others(server: Server) -> None:
    server.free = 8 << 20
    first = await start_upload(server, 4 << 20)
    server.free = 6 << 20
    assert await refused(server, 3 << 20, **BOB) == NO_ROOM
    first.close()
    await wait_until(lambda: not server.files)
    third = await send_request(server, post(server, form(fields_v2(**BOB), b"x" * (2 << 20))))
    assert third.status == 200


@pytest_twisted.ensureDeferred
async def test_received_bytes_are_no_longer_reserved(server: Server) -> None:
    """They are on the disk, which has less free space instead."""
    server.free = 8 << 20
    first = await start_upload(server, 4 << 20)
    first.send(b"x" * (2 << 20))
    await wait_until(lambda: server.files[0].stat().st_blocks * 512 >= (2 << 20) - PIECE)
    server.free = 6 << 20
    second = await start_upload(server, 3 << 20, **BOB)
    assert len(server.files) == 2
    second.close()
    first.close()
    await wait_until(lambda: not server.files)


@pytest_twisted.ensureDeferred
async def test_the_processes_of_a_machine_share_their_reservations(tmp_path: Path) -> None:
    """Each process counts the reservations of the others, for the disk and for the limit of a user."""
    server, sibling = (Server(tmp_path, free=8 << 20, upload_share=8 << 20) for _ in range(2))
    first = await start_upload(server, 4 << 20)
    assert await refused(sibling, 5 << 20) == LIMIT_EXCEEDED
    second = await start_upload(sibling, 3 << 20, **BOB)
    assert await refused(server, 2 << 20, **BOB) == NO_ROOM
    for client in (first, second):
        client.close()
    await wait_until(lambda: not server.files)
    assert (await send_request(sibling, post(sibling, form(fields_v2(), CONTENT)))).status == 200
    await server.port.stopListening()
    await sibling.port.stopListening()


RECEIVES = """
import sys
from twisted.internet.defer import CancelledError, Deferred, succeed
from econed.http.upload_directory import MAX_FILES, UploadDirectory, UploadLimits

uploads = UploadDirectory(sys.argv[1], UploadLimits(1 << 30), lambda work: succeed(work()), lambda: True)
Deferred.fromCoroutine(uploads.receive(int(sys.argv[2]), int(sys.argv[3]), lambda: Deferred()))
print("receiving", flush=True)
sys.stdin.read()
"""


def _start_receiving(command: list[str]) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdout is not None
    assert process.stdout.readline() == b"receiving\n"
    return process


def _kill(process: subprocess.Popen[bytes]) -> None:
    with process:
        process.kill()


@pytest_twisted.ensureDeferred
async def test_the_reservations_of_a_process_end_when_it_is_killed(server: Server) -> None:
    """Its partial file no longer counts, and is removed in the next round of any process."""
    server.free = 8 << 20
    alice = server.cloud.user("alice").id
    command = [sys.executable, "-c", RECEIVES, str(server.directory), str(alice), str(4 << 20)]
    process = _start_receiving(command)
    (partial,) = server.files
    assert await refused(server, 2 << 20) == LIMIT_EXCEEDED
    _kill(process)
    client = await start_upload(server, 4 << 20)
    assert len(server.files) == 2
    server.reconcile()
    assert len(server.files) == 1
    assert partial not in server.files, "a file that is still being received stays"
    client.close()
    await wait_until(lambda: not server.files)


def test_a_user_with_an_upload_of_several_days_is_watched_all_the_time(server: Server) -> None:
    """Otherwise the file would not be removed when oned has copied it; any process may receive it."""
    alice = server.cloud.user("alice").id
    other_process = UploadDirectory(str(server.directory), UploadLimits(MAX_UPLOAD), _at_once, lambda: True)
    receiving = Deferred.fromCoroutine(other_process.receive(alice, 4096, Deferred))
    server.cloud.oneadmin("one.user.update", alice, f'{WATCHED_UNTIL}="{NOW + SPAN}"', 1)
    for _ in range(3):
        server.cloud.clock.advance(SPAN + 60)
        server.reconcile()
        assert server.cloud.oneadmin("one.user.info", alice, False).count(WATCHED_UNTIL) == 2
    receiving.addErrback(lambda failure: failure.trap(CancelledError))
    receiving.cancel()
    server.cloud.clock.advance(SPAN + 60)
    server.reconcile()
    assert WATCHED_UNTIL not in server.cloud.oneadmin("one.user.info", alice, False)
    assert server.files == []


@pytest_twisted.ensureDeferred
async def test_an_empty_partial_file_is_removed_after_a_day(server: Server) -> None:
    """Not at once, since a process may have just created it."""
    await send_request(server, post(server, form(fields_v2(), CONTENT)))
    file = server.directory / f"econe-upload-2-{'0' * 32}.partial"
    file.touch()
    os.utime(file, (NOW, NOW))
    server.reconcile()
    assert file in server.files
    server.cloud.clock.advance(ORPHAN_AGE + 60)
    server.reconcile()
    assert file not in server.files


@pytest_twisted.ensureDeferred
async def test_the_disk_space_of_a_user_is_limited(tmp_path: Path) -> None:
    """Files being received count, and files that oned has not copied yet; each user has a limit of their own."""
    server = Server(tmp_path, upload_share=3 << 20)
    await send_request(server, post(server, form(fields_v2(), CONTENT)))
    client = await start_upload(server, (3 << 20) - len(CONTENT))
    assert await refused(server, 4096) == LIMIT_EXCEEDED
    await send_request(server, post(server, form(fields_v2(**BOB), CONTENT)))
    assert len(server.files) == 3
    client.close()
    await wait_until(lambda: len(server.files) == 2)
    server.cloud.wait(10)
    server.reconcile()
    assert server.files == []
    assert (await send_request(server, post(server, form(fields_v2(), CONTENT)))).status == 200
    await server.port.stopListening()


@pytest_twisted.ensureDeferred
async def test_the_default_limit_of_a_user_is_half_of_the_space_for_uploads(server: Server) -> None:
    server.free = 4 << 20
    assert await refused(server, (2 << 20) + 1) == LIMIT_EXCEEDED
    client = await start_upload(server, 2 << 20)
    client.close()
    await wait_until(lambda: not server.files)


@pytest_twisted.ensureDeferred
async def test_the_number_of_files_of_a_user_is_limited(server: Server) -> None:
    alice = server.cloud.user("alice").id
    for number in range(MAX_FILES):
        (server.directory / f"econe-upload-{alice}-{number:032x}").write_bytes(b"x")
    assert await refused(server, 4096) == LIMIT_EXCEEDED
    client = await send_request(server, post(server, form(fields_v2(**BOB), CONTENT)))
    assert client.status == 200


@pytest_twisted.ensureDeferred
async def test_a_dry_run_checks_the_room_and_reserves_nothing(server: Server) -> None:
    server.free = 1 << 20
    client = await send_request(server, head(server, length=1 << 20) + beginning(fields_v2(DryRun="true")))
    assert (client.status, client.code) == LIMIT_EXCEEDED
    assert server.files == []


class SmallDisk:
    """A directory on a disk of `size` bytes, and ten pieces for a file in it."""

    def __init__(self, directory: Path, size: int) -> None:
        self._directory = directory
        self._size = size
        self.reservations: list[int] = []
        """The bytes reserved for the file each time that a piece was read."""
        limits = UploadLimits(8 << 20, max_per_user=8 << 20, reservation_step=1 << 20)
        self.uploads = UploadDirectory(str(directory), limits, _at_once, lambda: True, free_space=self._free)

    @property
    def files(self) -> list[os.stat_result]:
        return [path.stat() for path in self._directory.iterdir()]

    async def piece(self) -> bytes:
        self.reservations.append(self.files[0].st_size)
        return b"x" * PIECE if len(self.reservations) <= 10 else b""

    def _free(self, path: str) -> int:
        return self._size - sum(file.st_blocks * 512 for file in self.files)


@pytest_twisted.ensureDeferred
async def test_space_for_a_file_of_unknown_length_is_reserved_in_steps(tmp_path: Path) -> None:
    disk = SmallDisk(tmp_path, 4 << 20)
    await disk.uploads.receive(2, None, disk.piece)
    assert [file.st_size for file in disk.files] == [10 * PIECE]
    assert disk.reservations == [1 << 20] * 5 + [2 << 20] * 4 + [3 << 20] * 2


@pytest_twisted.ensureDeferred
async def test_an_upload_fails_at_the_step_for_which_there_is_no_room(tmp_path: Path) -> None:
    disk = SmallDisk(tmp_path, 2 << 20)
    with pytest.raises(EC2Error) as raised:
        await disk.uploads.receive(2, None, disk.piece)
    assert raised.value.code == "InsufficientVolumeCapacity"
    assert len(disk.reservations) == 9
    assert disk.files == []


@pytest_twisted.ensureDeferred
async def test_a_file_without_room_reserves_nothing(tmp_path: Path) -> None:
    """Otherwise repeated uploads that are too large could keep other users out."""
    reservations: list[int] = []

    def free(path: str) -> int:
        reservations.append(sum(file.stat().st_size for file in tmp_path.iterdir()))
        return 1 << 20

    uploads = UploadDirectory(
        str(tmp_path), UploadLimits(8 << 20, max_per_user=4 << 20), _at_once, lambda: True, free_space=free
    )
    for size in (2 << 20, 5 << 20):
        with pytest.raises(EC2Error):
            await uploads.receive(2, size, Deferred)
    assert reservations == [0, 0]


@pytest_twisted.ensureDeferred
async def test_the_file_of_an_upload_is_removed_in_a_thread(server: Server) -> None:
    """Removing a large file takes seconds, in which other requests must not wait."""
    client = await start_upload(server, 4 << 20)
    server.held = []
    client.close()
    await wait_until(lambda: server.held)
    assert server.files
    waiting, server.held = server.held, None
    for work in waiting:
        work()
    await wait_until(lambda: not server.files)


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
async def test_uploads_are_refused_if_oned_is_on_another_machine(tmp_path: Path) -> None:
    server = Server(tmp_path, can_oned_read=False)
    client = await send_request(server, head(server, length=MAX_UPLOAD) + beginning(fields_v2()))
    assert (client.status, client.code) == (400, "UnsupportedOperation")
    assert server.files == []
    await server.port.stopListening()


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


@pytest_twisted.ensureDeferred
async def test_an_upload_without_a_file_is_refused(server: Server) -> None:
    query = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in fields_v2().items())
    lines = ["POST / HTTP/1.1", f"Host: {server.address}", "Content-Type: application/x-www-form-urlencoded"]
    lines.append(f"Content-Length: {len(query)}")
    client = await send_request(server, "\r\n".join(lines).encode() + b"\r\n\r\n" + query.encode())
    assert (client.status, client.code) == (400, "MissingParameter")


# Removal of files


@pytest_twisted.ensureDeferred
async def test_the_uploaded_file_is_removed_when_oned_has_copied_it(server: Server) -> None:
    await send_request(server, post(server, form(fields_v2(), CONTENT)))
    server.reconcile()
    assert server.files
    server.cloud.wait(10)
    server.reconcile()
    assert server.files == []
    (image,) = server.images
    assert image.state.name == "READY"


@pytest_twisted.ensureDeferred
async def test_the_file_of_an_image_that_failed_is_removed(server: Server) -> None:
    server.cloud.oned.fail_next_image()
    await send_request(server, post(server, form(fields_v2(), CONTENT)))
    server.cloud.wait(10)
    server.reconcile()
    assert server.files == []


@pytest_twisted.ensureDeferred
async def test_a_file_without_an_image_is_removed_after_a_day(server: Server) -> None:
    client = await connected(server)
    client.send(head(server, length=MAX_UPLOAD) + beginning(fields_v2()))
    await wait_until(lambda: server.files)
    file = server.files[0].with_suffix("")
    client.transport.abortConnection()  # type: ignore[union-attr]
    await wait_until(lambda: not server.files)
    others = [file.with_name(file.name.replace("upload-2-", "upload-3-")), file.with_name("econe-upload-2-x")]
    for path in (file, *others):
        path.write_bytes(b"half")
        os.utime(path, (NOW, NOW))
    server.cloud.wait(3600)
    server.reconcile()
    assert len(server.files) == 3
    server.cloud.clock.advance(24 * 3600)
    server.reconcile()
    assert server.files == sorted(others)


@pytest_twisted.ensureDeferred
async def test_the_file_of_a_deleted_user_is_removed_after_a_week(server: Server) -> None:
    file = server.directory / f"econe-upload-77-{'0' * 32}"
    file.write_bytes(b"half")
    os.utime(file, (NOW, NOW))
    server.cloud.clock.advance(FORGOTTEN_AGE - 60)
    server.cloud.oneadmin("one.user.update", server.cloud.user("alice").id, 'EC2_WATCHED_UNTIL="1900000000"', 1)
    server.reconcile()
    assert server.files == [file]
    server.cloud.clock.advance(61)
    server.reconcile()
    assert server.files == []


@pytest_twisted.ensureDeferred
async def test_files_of_other_system_users_are_left_alone(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """In /var/tmp they cannot be removed, and the attempt would make every round fail."""
    file = server.directory / f"econe-upload-77-{'0' * 32}"
    file.write_bytes(b"content")
    os.utime(file, (NOW, NOW))
    someone_else = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: someone_else)
    server.cloud.clock.advance(FORGOTTEN_AGE + 60)
    server.cloud.oneadmin("one.user.update", server.cloud.user("alice").id, 'EC2_WATCHED_UNTIL="1900000000"', 1)
    server.reconcile()
    assert server.files == [file]


# Memory


class Source:
    """A connection that can be paused (`BodySource`)."""

    def __init__(self) -> None:
        self.is_paused = False

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False


def test_at_most_a_piece_and_one_read_are_in_memory(tmp_path: Path) -> None:
    server_read = 1 << 16
    writing: list[tuple[Callable[[], Any], Deferred[Any]]] = []

    def in_thread(work: Callable[[], Any]) -> Any:
        waiting: Deferred[Any] = Deferred()
        writing.append((work, waiting))
        return waiting

    def work_once() -> None:
        work, waiting = writing.pop(0)
        waiting.callback(work())

    source = Source()
    uploads = UploadDirectory(str(tmp_path), UploadLimits(1 << 30), in_thread, lambda: True)
    upload = Upload(uploads, f"multipart/form-data; boundary={BOUNDARY.decode()}", None, None, source)
    body = form({"Action": "UploadImage"}, b"x" * (PIECE * 20))
    pieces = iter(_cut(body, server_read))
    upload.data_received(next(pieces))
    assert source.is_paused, "the upload is not accepted yet"
    results: list[Any] = []
    Deferred.fromCoroutine(upload.receive(2)).addBoth(results.append)
    max_buffered = 0
    while not results:
        if source.is_paused or not (piece := next(pieces, b"")):
            if not source.is_paused:
                upload.body_ended()
            if writing:
                work_once()
            continue
        upload.data_received(piece)
        max_buffered = max(max_buffered, upload.buffered)
    assert max_buffered <= PIECE + server_read
    assert Path(results[0]).stat().st_size == PIECE * 20


# The machine of oned


@pytest.mark.parametrize("url", ["http://localhost:2633/RPC2", "http://127.0.0.1/RPC2", "https://[::1]:2634/RPC2"])
def test_loopback_is_this_machine(url: str) -> None:
    if "[" in url and not os.path.exists("/proc/net/if_inet6"):
        pytest.skip("a machine without IPv6")
    assert is_own_url(url)


@pytest.mark.parametrize(
    "url", ["http://192.0.2.1:2633/RPC2", "http://no-such-host.invalid/RPC2", "nonsense", "http://"]
)
def test_other_hosts_are_not_this_machine(url: str) -> None:
    assert not is_own_url(url)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (Settings(), True),
        (Settings(one_xmlrpc=("http://192.0.2.1/RPC2",)), False),
        (Settings(one_xmlrpc=("http://127.0.0.1/RPC2", "http://192.0.2.1/RPC2")), False),
        (Settings(one_xmlrpc=("http://127.0.0.1:1/RPC2", "http://127.0.0.1:2/RPC2")), True),
        (Settings(one_xmlrpc=("http://192.0.2.1/RPC2", "http://192.0.2.2/RPC2"), tmpdir_is_shared=True), True),
    ],
)
def test_every_one_of_several_oneds_must_be_able_to_read_the_files(settings: Settings, expected: bool) -> None:
    """Any of them may be the leader that copies the image."""
    assert can_oned_read_tmpdir(settings) is expected
