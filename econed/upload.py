"""Files on their way in: from a form that arrives to a file that oned can read, in bounded memory.

A file is let in when its sender is known, which is when the fields of the form, which come first, have been looked at.
Until then, and whenever the disk is slower than the network, the sender is kept waiting. A file that does not come
whole, or not as it was signed, leaves nothing behind; one whose process dies is removed a day later
(`econed.actions.uploads`).
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import os
import re
import secrets
import shutil
import socket
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Protocol
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred
from zope.interface import implementer

from econed.auth.failures import signature_does_not_match
from econed.errors import EC2Error
from econed.interfaces import InThread, IUpload, IUploadedFiles
from econed.settings import Settings
from econed.wire.multipart import UploadForm
from econed.wire.query import Pairs

PIECE = 1 << 18
"""Bytes of a file that are written at once. As many more may be in memory, and what one read of the network brings."""

_FILE = re.compile(r"econe-upload-([0-9]{1,10})-[0-9a-f]{32}", re.ASCII)
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_HASH = re.compile(rb"[0-9a-f]{64}")


class Flow(Protocol):
    """The sender of a body, who can be kept waiting."""

    def hold(self) -> None:
        """Read no more from him for now."""

    def go_on(self) -> None:
        """Read on."""


@implementer(IUploadedFiles)
class Uploads:
    """The directory in which uploads are kept until oned has copied them.

    `max_upload` is in bytes. `is_here` says whether oned can read the files that are kept here (`has_tmpdir`); it may
    take its time and is asked in a thread. `ended` is told of every file that was let in whether it came (received,
    failed) and how many bytes of it.
    """

    def __init__(
        self,
        directory: str,
        max_upload: int,
        in_thread: InThread,
        is_here: Callable[[], bool],
        ended: Callable[[str, int], None] | None = None,
    ) -> None:
        self.in_thread = in_thread
        self._ended = ended
        self._directory = directory
        self._max = max_upload
        self._is_here = is_here
        self._promised = 0

    def of(self, owner: int | None) -> Sequence[tuple[str, float]]:
        """See `IUploadedFiles.of`."""
        found = []
        with suppress(FileNotFoundError), os.scandir(self._directory) as entries:
            for entry in entries:
                named = _FILE.fullmatch(entry.name)
                if named and owner in (None, int(named[1])) and entry.is_file(follow_symlinks=False):
                    with suppress(FileNotFoundError):
                        status = entry.stat(follow_symlinks=False)
                        if status.st_uid == os.geteuid():  # others' cannot be removed from /var/tmp
                            found.append((entry.path, status.st_mtime))
        return sorted(found)

    def remove(self, path: str) -> None:
        """See `IUploadedFiles.remove`."""
        with suppress(FileNotFoundError):
            os.unlink(path)

    def demand_size(self, size: int) -> None:
        """Raise `EC2Error` for more bytes than are taken at all."""
        if size > self._max:
            raise EC2Error("RequestEntityTooLarge", f"An image of more than {self._max} bytes is not taken.", 413)

    async def demand_room(self, size: int) -> None:
        """Raise `EC2Error` if so many bytes cannot be kept, beside those that are to come, where oned reads them."""
        if not await self.in_thread(self._is_here):
            raise EC2Error(
                "UnsupportedOperation",
                "Images cannot be uploaded here: OpenNebula runs on another machine. Register the image from a URL.",
            )
        usage = await self.in_thread(lambda: shutil.disk_usage(self._directory))
        if size + self._promised > usage.free:
            raise no_room()

    async def reserve(self, size: int) -> None:
        """Count bytes that are to come, or raise as `demand_room`."""
        await self.demand_room(size)
        self._promised += size

    def settle(self, size: int) -> None:
        """Count bytes that came, or will not come any more."""
        self._promised -= size

    def ended(self, outcome: str, length: int) -> None:
        """Take note that a file came, or did not come whole."""
        if self._ended is not None:
            self._ended(outcome, length)

    def create(self, owner: int) -> tuple[str, int]:
        """Make a new file that its maker alone may read; return its path and descriptor."""
        path = os.path.join(self._directory, f"econe-upload-{owner}-{secrets.token_hex(16)}")
        return path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


@implementer(IUpload)
class Upload:
    """One form with a file, on its way in.

    `length` is the announced size of the whole body, None if it comes in chunks; `payload_hash` is the hash that the
    request names for it, if it does. It is fed from below (`data_received`, `body_ended`, `connection_lost`) and asked
    from above (`fields`, and as `IUpload`).
    """

    def __init__(
        self, uploads: Uploads, content_type: str, length: int | None, payload_hash: bytes | None, flow: Flow
    ) -> None:
        self._uploads = uploads
        self._length = length
        self._expected = payload_hash if payload_hash is not None and _HASH.fullmatch(payload_hash) else None
        self._hash = hashlib.sha256()
        self._flow = flow
        self._taken = 0
        self._pending: deque[bytes] = deque()
        self._buffered = 0
        self._wanted: Deferred[None] | None = None
        self._error: EC2Error | None = None
        self._has_ended = False
        self._path: str | None = None
        self._form: UploadForm | None = None
        try:
            uploads.demand_size(length or 0)
            self._form = UploadForm(content_type)
        except EC2Error as error:
            self._error = error

    # From below

    def data_received(self, data: bytes) -> None:
        """Take a piece of the body."""
        if self._form is None or self._error is not None:
            return
        self._taken += len(data)
        if self._expected is not None:
            self._hash.update(data)
        try:
            self._uploads.demand_size(self._taken)
            for piece in self._form.feed(data):
                self._pending.append(piece)
                self._buffered += len(piece)
        except EC2Error as error:
            self._fail(error)
            return
        if self._form.has_file and (self._wanted is None or self._buffered >= PIECE):
            self._flow.hold()
        if self._buffered >= PIECE:
            self._wake()

    def body_ended(self) -> None:
        """Take the end of the body."""
        self._has_ended = True
        if self._form is not None and self._error is None:
            try:
                self._form.close()
                self._demand_hash()
            except EC2Error as error:
                self._fail(error)
        self._wake()

    def break_off(self, error: EC2Error) -> None:
        """Take note that no more will come, and why."""
        if not self._has_ended:
            self._fail(error)

    def connection_lost(self) -> None:
        """Take note that the sender has gone."""
        self.break_off(EC2Error("RequestTimeout", "The connection broke off before the image had arrived.", 408))

    @property
    def is_known(self) -> bool:
        """Whether it can be told what this is: the fields are complete, or it will never be anything."""
        return self._error is not None or self._has_ended or (self._form is not None and self._form.has_file)

    @property
    def buffered(self) -> int:
        """Bytes of the file that are in memory."""
        return self._buffered

    # From above

    @property
    def fields(self) -> Pairs:
        """The parameters before the file; raises `EC2Error` if what came is no form with a file."""
        if self._error is not None:
            raise self._error
        if self._form is None or not self._form.has_file:
            raise EC2Error("InvalidRequest", "The form has no file.")
        return self._form.fields

    async def admit(self) -> None:
        """See `IUpload.admit`."""
        await self._uploads.demand_room(self._length or 0)

    async def receive(self, owner: int) -> str:
        """See `IUpload.receive`."""
        outstanding, written = self._length or 0, 0
        await self._uploads.reserve(outstanding)
        try:
            path, descriptor = await self._uploads.in_thread(lambda: self._uploads.create(owner))
            try:
                while piece := await self._next():
                    await self._uploads.in_thread(partial(_write, descriptor, piece))
                    written += len(piece)
                    settled = min(len(piece), outstanding)
                    self._uploads.settle(settled)
                    outstanding -= settled
            except BaseException as error:
                self._uploads.remove(path)
                self._uploads.ended("failed", written)
                if isinstance(error, OSError) and error.errno in _FULL:
                    raise no_room() from error
                raise
            finally:
                os.close(descriptor)
        finally:
            self._uploads.settle(outstanding)
        self._path = path
        self._uploads.ended("received", written)
        return path

    async def discard(self) -> None:
        """See `IUpload.discard`."""
        path = self._path
        if path is not None:
            await self._uploads.in_thread(lambda: self._uploads.remove(path))

    async def _next(self) -> bytes:
        """Return the next piece of the file, nothing at its end."""
        while self._error is None and not self._has_ended and self._buffered < PIECE:
            self._wanted = Deferred()
            self._flow.go_on()
            await self._wanted
        if self._error is not None:
            raise self._error
        piece = b"".join(self._pending)
        self._pending.clear()
        self._buffered = 0
        return piece

    def _demand_hash(self) -> None:
        if self._expected is not None and not hmac.compare_digest(self._hash.hexdigest().encode(), self._expected):
            raise signature_does_not_match(
                "The provided 'x-amz-content-sha256' header does not match what was computed."
            )

    def _fail(self, error: EC2Error) -> None:
        if self._error is None:
            self._error = error
        self._pending.clear()
        self._buffered = 0
        self._wake()

    def _wake(self) -> None:
        if self._wanted is not None:
            wanted, self._wanted = self._wanted, None
            wanted.callback(None)


def no_room() -> EC2Error:
    """Return the answer to an upload that the disk cannot hold."""
    return EC2Error("InsufficientVolumeCapacity", "There is not enough room for the image on this server.", 507)


def has_tmpdir(settings: Settings) -> bool:
    """Whether oned can read what is uploaded here: it is on this machine, or has tmpdir all the same.

    Of several oneds each may come to lead at any time, also while an image is being copied. May ask the name service.
    """
    return settings.tmpdir_is_shared or all(is_own_url(url) for url in settings.one_xmlrpc)


def is_own_url(url: str) -> bool:
    """Whether the host of a URL is this machine: an address of it can be listened on. May ask the name service."""
    try:
        found = socket.getaddrinfo(urlsplit(url).hostname, None, type=socket.SOCK_DGRAM)
    except (OSError, ValueError):
        return False
    return any(_is_own(family, address[0]) for family, _, _, _, address in found)


def _is_own(family: int, address: str | int) -> bool:
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.bind((address, 0))
        return True
    return False


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
