"""The directory of uploads, where images are kept until oned has copied them, and its limits on disk space.

The files themselves record the reserved space, for all processes on the machine, so that a process may die at any time.
A file that is being received is sparse, has the size that is reserved for it, and is locked by the receiving process.
To receive a file, a process first creates it and then checks all files: of two processes whose files do not fit
together, at least one sees the other's file and gives up. A partial file that is not locked was left by a process
that died, and reserves nothing.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial

from zope.interface import implementer

from econed.errors import EC2Error
from econed.interfaces import InThread, IUploadedFiles

MAX_FILES = 32
"""Files that one user may have in the directory: being received, or waiting for oned."""

_PARTIAL = ".partial"
_FILE = re.compile(rf"econe-upload-([0-9]{{1,10}})-[0-9a-f]{{32}}({re.escape(_PARTIAL)})?", re.ASCII)
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_MAX_SCANS = 5
_BLOCK = 512
"""Bytes of a block counted by `st_blocks` (stat(2))."""


@dataclass(frozen=True)
class UploadLimits:
    """Limits on uploads in bytes: for one file, and for all files of one user.

    If `max_per_user` is None, it is half of the disk space that is free or taken by uploads. For a file of unknown
    length, `reservation_step` bytes are reserved at a time.
    """

    max_file: int
    max_per_user: int | None = None
    reservation_step: int = 1 << 26


@dataclass(frozen=True)
class _StoredFile:
    """A file in the directory.

    `size` is its size, or if it `is_live`, the size reserved for it. `allocated` are the bytes that it takes on the
    disk, `modified` is the time of its last change (epoch seconds). `is_live`: a process is receiving it.
    """

    path: str
    owner: int
    size: int
    allocated: int
    modified: float
    is_partial: bool
    is_live: bool

    @property
    def is_abandoned(self) -> bool:
        """Whether the process that received it has died. An empty file may not have been locked yet."""
        return self.is_partial and not self.is_live and self.size > 0

    @property
    def is_partial_and_empty(self) -> bool:
        """Whether a process has just created it, or died right after creating it."""
        return self.is_partial and self.size == 0

    @property
    def reserved(self) -> int:
        """Bytes of the disk that are reserved for it beyond those that it takes."""
        return max(0, self.size - self.allocated) if self.is_live else 0

    @property
    def charged(self) -> int:
        """Bytes that count against its owner's limit."""
        return 0 if self.is_abandoned else self.size


class _IncomingFile:
    """A file that this process is receiving: locked, with its reserved size, and written from its beginning."""

    def __init__(self, directory: str, owner: int) -> None:
        self._final = os.path.join(directory, f"econe-upload-{owner}-{secrets.token_hex(16)}")
        self.path = self._final + _PARTIAL
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(self.path, flags, 0o600)
        self.reserved = 0
        self.written = 0
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.abandon()
            raise

    def reserve(self, size: int) -> None:
        """Set the size of the file, to reserve `size` bytes; at least 1, since an empty file may not be locked."""
        os.ftruncate(self._descriptor, max(size, 1))
        self.reserved = size

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes."""
        view = memoryview(data)
        while view:
            count = os.write(self._descriptor, view)
            self.written += count
            view = view[count:]

    def finish(self) -> str:
        """Truncate it to the bytes written, give it the name of a complete file, and return its path."""
        os.ftruncate(self._descriptor, self.written)
        os.rename(self.path, self._final)
        os.close(self._descriptor)
        return self._final

    def abandon(self) -> None:
        """Remove the file."""
        with suppress(FileNotFoundError):
            os.unlink(self.path)
        os.close(self._descriptor)


@implementer(IUploadedFiles)
class UploadDirectory:
    """The directory of uploads, shared by all processes on this machine that run as the same system user.

    `can_oned_read` returns whether oned can read the files in it (`econed.fetching.own_host`). It may block; it is
    called in a thread, as is everything that uses the disk. `on_end` is called at the end of each file, with
    "received" or "failed" and the bytes written. `free_space` returns the free bytes on the disk of a path.
    """

    def __init__(
        self,
        directory: str,
        limits: UploadLimits,
        in_thread: InThread,
        can_oned_read: Callable[[], bool],
        on_end: Callable[[str, int], None] | None = None,
        free_space: Callable[[str], int] = lambda path: shutil.disk_usage(path).free,
    ) -> None:
        self._directory = directory
        self._limits = limits
        self._in_thread = in_thread
        self._can_oned_read = can_oned_read
        self._on_end = on_end
        self._free_space = free_space

    # Existing files (IUploadedFiles)

    async def complete_files(self, owner: int | None) -> Sequence[tuple[str, float]]:
        """See `IUploadedFiles.complete_files`."""
        files = await self._in_thread(self._scan)
        return [(file.path, file.modified) for file in files if not file.is_partial and owner in (None, file.owner)]

    async def is_receiving(self, owner: int) -> bool:
        """See `IUploadedFiles.is_receiving`."""
        return any(file.is_live and file.owner == owner for file in await self._in_thread(self._scan))

    async def remove(self, path: str) -> None:
        """See `IUploadedFiles.remove`."""
        await self._in_thread(partial(_unlink, path))

    async def remove_abandoned(self, before: float) -> Sequence[str]:
        """See `IUploadedFiles.remove_abandoned`."""

        def remove() -> list[str]:
            paths = [
                file.path
                for file in self._scan()
                if file.is_abandoned or (file.is_partial_and_empty and file.modified < before)
            ]
            for path in paths:
                _unlink(path)
            return paths

        return await self._in_thread(remove)

    # Receiving files

    def check_size(self, size: int) -> None:
        """Raise `EC2Error` RequestEntityTooLarge for more bytes than any file may have."""
        if size > self._limits.max_file:
            raise EC2Error(
                "RequestEntityTooLarge", f"An image must not be larger than {self._limits.max_file} bytes.", 413
            )

    async def is_readable_by_oned(self) -> bool:
        """Whether oned can read files in this directory."""
        return await self._in_thread(self._can_oned_read)

    async def check_room(self, owner: int, size: int | None) -> None:
        """Raise `EC2Error` if a file of this size (None: unknown) cannot be received for a user now.

        InsufficientVolumeCapacity if the disk has too little space that is free and not reserved,
        ResourceLimitExceeded if the user's limit would be exceeded.
        """
        await self._in_thread(partial(self._check_room, owner, self._first_reservation(size)))

    async def receive(
        self, owner: int, size: int | None, next_piece: Callable[[], Awaitable[bytes | memoryview]]
    ) -> str:
        """Receive a file of at most `size` bytes (None: unknown) for a user and return its path.

        `next_piece` returns the next piece, which is valid until the next call, and an empty one at the end. Raises
        what `check_room` and `next_piece` raise; then the file is removed.
        """
        with _no_room_if_disk_full():
            incoming = await self._in_thread(partial(self._create, owner, self._first_reservation(size)))
            try:
                while piece := await next_piece():
                    await self._in_thread(partial(self._append, owner, incoming, piece))
                path = await self._in_thread(incoming.finish)
            except Exception:
                await self._in_thread(incoming.abandon)
                self._report("failed", incoming.written)
                raise
        self._report("received", incoming.written)
        return path

    def _report(self, outcome: str, length: int) -> None:
        if self._on_end is not None:
            self._on_end(outcome, length)

    # Run in a thread

    def _first_reservation(self, size: int | None) -> int:
        limits = self._limits
        return (
            size
            if size is not None
            else min(limits.reservation_step, limits.max_file, limits.max_per_user or limits.max_file)
        )

    def _create(self, owner: int, size: int) -> _IncomingFile:
        """Create a file with a reserved size; room is checked first, since a reservation counts for other processes."""
        self._check_room(owner, size)
        incoming = _IncomingFile(self._directory, owner)
        try:
            incoming.reserve(size)
            self._check_room(owner, size, incoming)
        except Exception:
            incoming.abandon()
            raise
        return incoming

    def _append(self, owner: int, incoming: _IncomingFile, piece: bytes | memoryview) -> None:
        end = incoming.written + len(piece)
        if end > incoming.reserved:
            size = max(end, min(incoming.reserved + self._limits.reservation_step, self._limits.max_file))
            self._check_room(owner, size, incoming)
            incoming.reserve(size)
            self._check_room(owner, size, incoming)
        incoming.write(piece)

    def _check_room(self, owner: int, size: int, incoming: _IncomingFile | None = None) -> None:
        """Raise `EC2Error` if there is no room for a new file, or for `incoming` if it was created already."""
        path, written = (None, 0) if incoming is None else (incoming.path, incoming.written)
        others = [file for file in self._scan() if file.path != path]
        own = [file for file in others if file.owner == owner and not file.is_abandoned]
        free = self._free_space(self._directory)
        max_per_user = self._limits.max_per_user
        if max_per_user is None:
            max_per_user = (free + written + sum(min(file.size, file.allocated) for file in others)) // 2
        if len(own) >= MAX_FILES:
            raise EC2Error("ResourceLimitExceeded", f"You have {len(own)} unfinished uploads on this server.")
        if size + sum(file.charged for file in own) > max_per_user:
            raise EC2Error(
                "ResourceLimitExceeded",
                f"Your unfinished uploads must not take more than {max_per_user} bytes on this server in total.",
            )
        if size - written + sum(file.reserved for file in others) > free:
            raise no_room()

    def _scan(self) -> list[_StoredFile]:
        """Return the uploads in the directory, sorted by path, without files of other system users."""
        for _ in range(_MAX_SCANS):
            with suppress(FileNotFoundError):  # a file was renamed: it is complete now
                return sorted(self._scanned(), key=lambda file: file.path)
        return sorted(self._scanned(skip_missing=True), key=lambda file: file.path)

    def _scanned(self, *, skip_missing: bool = False) -> list[_StoredFile]:
        files = []
        with os.scandir(self._directory) as entries:
            for entry in entries:
                name = _FILE.fullmatch(entry.name)
                if name and entry.is_file(follow_symlinks=False):
                    try:
                        status = entry.stat(follow_symlinks=False)
                        if status.st_uid == os.geteuid():
                            files.append(_stored(entry.path, int(name[1]), status, name[2] is not None))
                    except FileNotFoundError:
                        if not skip_missing:
                            raise
        return files


def no_room() -> EC2Error:
    """Return the error for a file for which the disk has no room."""
    return EC2Error("InsufficientVolumeCapacity", "There is not enough room for the image on this server.", 507)


@contextmanager
def _no_room_if_disk_full() -> Iterator[None]:
    """Raise `no_room` if the disk, or its quota, is full although there was room when it was checked."""
    try:
        yield
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise no_room() from error
        raise


def _stored(path: str, owner: int, status: os.stat_result, is_partial: bool) -> _StoredFile:
    # An empty file is not locked by its process yet, and must not be locked here.
    is_live = is_partial and status.st_size > 0 and _is_locked(path)
    return _StoredFile(path, owner, status.st_size, status.st_blocks * _BLOCK, status.st_mtime, is_partial, is_live)


def _is_locked(path: str) -> bool:
    """Whether a process holds the lock of a file; the lock is released when the process exits."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _unlink(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)
