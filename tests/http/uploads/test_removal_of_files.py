"""When the files of uploads are removed."""

from __future__ import annotations

import os

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred

from econed.actions.images.chores import FORGOTTEN_AGE, ORPHAN_AGE
from econed.actions.watch import SPAN, WATCHED_UNTIL
from econed.http.upload_directory import UploadDirectory, UploadLimits
from tests.http.uploads.uploading import (
    CONTENT,
    MAX_UPLOAD,
    Server,
    at_once,
    beginning,
    fields_v2,
    form,
    head,
    post,
    start_upload,
)
from tests.support.cloud import NOW
from tests.support.reactor_turns import wait_until
from tests.support.serving import connected, send_request


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


def test_a_user_with_an_upload_of_several_days_is_watched_all_the_time(server: Server) -> None:
    """Otherwise the file would not be removed when oned has copied it; any process may receive it."""
    alice = server.cloud.user("alice").id
    other_process = UploadDirectory(str(server.directory), UploadLimits(MAX_UPLOAD), at_once, lambda: True)
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
