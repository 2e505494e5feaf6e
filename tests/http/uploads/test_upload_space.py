"""The disk space and the memory for uploads: reservations, and the limits of users."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from econed.errors import EC2Error
from econed.http.file_buffer import PIECE
from econed.http.upload import Upload
from econed.http.upload_directory import MAX_FILES, UploadDirectory, UploadLimits
from tests.http.uploads.uploading import (
    BOB,
    BOUNDARY,
    CONTENT,
    Server,
    at_once,
    beginning,
    fields_v2,
    form,
    head,
    pieces_of,
    post,
    start_upload,
)
from tests.support.reactor_turns import wait_until
from tests.support.serving import send_request

NO_ROOM = (507, "InsufficientVolumeCapacity")
LIMIT_EXCEEDED = (400, "ResourceLimitExceeded")
ROOT = Path(__file__).parents[3]


async def refused(server: Server, length: int, **who: str) -> tuple[int, str]:
    """Send an upload up to the first byte of its file, which must be refused, and return status and code."""
    client = await send_request(server, head(server, length=length) + beginning(fields_v2(**who)))
    return client.status, client.code


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


QUARTER = 1 << 18
"""A quarter of the bytes that are reserved at a time."""


class SmallDisk:
    """A directory on a disk of `size` bytes, and ten pieces for a file in it."""

    def __init__(self, directory: Path, size: int) -> None:
        self._directory = directory
        self._size = size
        self.reservations: list[int] = []
        """The bytes reserved for the file each time that a piece was read."""
        limits = UploadLimits(8 << 20, max_per_user=8 << 20, reservation_step=4 * QUARTER)
        self.uploads = UploadDirectory(str(directory), limits, at_once, lambda: True, free_space=self._free)

    @property
    def files(self) -> list[os.stat_result]:
        return [path.stat() for path in self._directory.iterdir()]

    async def piece(self) -> bytes:
        self.reservations.append(self.files[0].st_size)
        return b"x" * QUARTER if len(self.reservations) <= 10 else b""

    def _free(self, path: str) -> int:
        return self._size - sum(file.st_blocks * 512 for file in self.files)


@pytest_twisted.ensureDeferred
async def test_space_for_a_file_of_unknown_length_is_reserved_in_steps(tmp_path: Path) -> None:
    disk = SmallDisk(tmp_path, 4 << 20)
    await disk.uploads.receive(2, None, disk.piece)
    assert [file.st_size for file in disk.files] == [10 * QUARTER]
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
        str(tmp_path), UploadLimits(8 << 20, max_per_user=4 << 20), at_once, lambda: True, free_space=free
    )
    for size in (2 << 20, 5 << 20):
        with pytest.raises(EC2Error):
            await uploads.receive(2, size, Deferred)
    assert reservations == [0, 0]


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
    pieces = iter(pieces_of(body, server_read))
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
