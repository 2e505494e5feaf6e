"""The directory in which images are kept until oned has copied them, and how much of its disk is promised to whom.

The directory itself is the account, for all processes on the machine, so that any of them may die: a file that is being
received is announced by its size (it is sparse until the bytes come) and locked by the process that receives it. To
receive another, a process announces it first and then looks at all: of two that do not fit together, at least one sees
the other and withdraws. A partial file that no process has locked was left by one that died: it promises nothing.
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
"""Files that one user may have in the directory: on their way in, and waiting for oned."""

_PARTIAL = ".partial"
_FILE = re.compile(rf"econe-upload-([0-9]{{1,10}})-[0-9a-f]{{32}}({re.escape(_PARTIAL)})?", re.ASCII)
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_SCANS = 5
_BLOCK = 512
"""Bytes of a block in `st_blocks` (stat(2))."""


@dataclass(frozen=True)
class UploadLimits:
    """What uploads may take, in bytes: one of them (`largest`), and all of one user together (`share`).

    Without a `share` it is half of the disk: what is free, and what uploads hold of it now. `step` is what is promised
    at a time to a file of which it is not known how long it is.
    """

    largest: int
    share: int | None = None
    step: int = 1 << 26


@dataclass(frozen=True)
class _StoredFile:
    """A file in the directory. `size` is what it is or, while it `is_live`, will be; `present` what the disk holds."""

    path: str
    owner: int
    size: int
    present: int
    written: float
    is_partial: bool
    is_live: bool

    @property
    def is_abandoned(self) -> bool:
        """Whether the process that received it has died. One without a size may not have been locked yet."""
        return self.is_partial and not self.is_live and self.size > 0

    @property
    def is_unlocked_without_size(self) -> bool:
        """Whether it is about to be announced, or its process died on the point of doing so."""
        return self.is_partial and self.size == 0

    @property
    def outstanding(self) -> int:
        """Bytes of the disk that are promised to it and not taken yet."""
        return max(0, self.size - self.present) if self.is_live else 0

    @property
    def charged(self) -> int:
        """Bytes that count for its owner's share."""
        return 0 if self.is_abandoned else self.size


class _IncomingFile:
    """A file that this process receives: announced, locked, and filled from its beginning."""

    def __init__(self, directory: str, owner: int) -> None:
        self._final = os.path.join(directory, f"econe-upload-{owner}-{secrets.token_hex(16)}")
        self.path = self._final + _PARTIAL
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(self.path, flags, 0o600)
        self.promised = 0
        self.written = 0
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.abandon()
            raise

    def announce(self, size: int) -> None:
        """Let its size say how many bytes it is to have; it has one as soon as it is locked."""
        os.ftruncate(self._descriptor, max(size, 1))
        self.promised = size

    def write(self, data: bytes) -> None:
        """Append bytes."""
        view = memoryview(data)
        while view:
            count = os.write(self._descriptor, view)
            self.written += count
            view = view[count:]

    def finish(self) -> str:
        """Cut it to what has come, name it as complete, and return its path."""
        os.ftruncate(self._descriptor, self.written)
        os.rename(self.path, self._final)
        os.close(self._descriptor)
        return self._final

    def abandon(self) -> None:
        """Remove it."""
        with suppress(FileNotFoundError):
            os.unlink(self.path)
        os.close(self._descriptor)


@implementer(IUploadedFiles)
class UploadDirectory:
    """The directory of uploads, shared by all processes of this machine that run as this account.

    `is_here` says whether oned can read the files that are kept here (`has_tmpdir`); it may take its time and is asked
    in a thread, as everything that touches the disk. `ended` is told of every file that was let in whether it came
    (received, failed) and how many bytes of it. `free` tells how many bytes are free where a path is.
    """

    def __init__(
        self,
        directory: str,
        limits: UploadLimits,
        in_thread: InThread,
        is_here: Callable[[], bool],
        ended: Callable[[str, int], None] | None = None,
        free: Callable[[str], int] = lambda path: shutil.disk_usage(path).free,
    ) -> None:
        self._directory = directory
        self._limits = limits
        self._in_thread = in_thread
        self._is_here = is_here
        self._ended = ended
        self._free = free

    # What is there

    async def of(self, owner: int | None) -> Sequence[tuple[str, float]]:
        """See `IUploadedFiles.of`."""
        files = await self._in_thread(self._scan)
        return [(file.path, file.written) for file in files if not file.is_partial and owner in (None, file.owner)]

    async def is_receiving(self, owner: int) -> bool:
        """See `IUploadedFiles.is_receiving`."""
        return any(file.is_live and file.owner == owner for file in await self._in_thread(self._scan))

    async def remove(self, path: str) -> None:
        """See `IUploadedFiles.remove`."""
        await self._in_thread(partial(_unlink, path))

    async def remove_abandoned(self, before: float) -> Sequence[str]:
        """See `IUploadedFiles.remove_abandoned`."""

        def removed() -> list[str]:
            paths = [
                file.path
                for file in self._scan()
                if file.is_abandoned or (file.is_unlocked_without_size and file.written < before)
            ]
            for path in paths:
                _unlink(path)
            return paths

        return await self._in_thread(removed)

    # What may come

    def check_size(self, size: int) -> None:
        """Raise `EC2Error` for more bytes than are taken at all."""
        if size > self._limits.largest:
            raise EC2Error(
                "RequestEntityTooLarge", f"An image of more than {self._limits.largest} bytes is not taken.", 413
            )

    async def is_readable_by_oned(self) -> bool:
        """Whether oned can read what is received here."""
        return await self._in_thread(self._is_here)

    async def check_room(self, owner: int, size: int | None) -> None:
        """Raise `EC2Error` if a file of this size, None if it is not known, cannot be received for a user now.

        InsufficientVolumeCapacity where the disk has not so much free beside what is promised already,
        ResourceLimitExceeded where the user has no more of it.
        """
        await self._in_thread(partial(self._check_room, owner, self._first_promise(size)))

    async def receive(self, owner: int, size: int | None, next_piece: Callable[[], Awaitable[bytes]]) -> str:
        """Receive a file of at most `size` bytes (None: not known) for a user and return its path.

        `next_piece` returns what comes next, nothing at the end. Raises as `check_room`, and what `next_piece` raises;
        then nothing of the file is left.
        """
        with _full_as_no_room():
            incoming = await self._in_thread(partial(self._announced, owner, self._first_promise(size)))
            try:
                while piece := await next_piece():
                    await self._in_thread(partial(self._append, owner, incoming, piece))
                path = await self._in_thread(incoming.finish)
            except Exception:
                await self._in_thread(incoming.abandon)
                self._tell("failed", incoming.written)
                raise
        self._tell("received", incoming.written)
        return path

    def _tell(self, outcome: str, length: int) -> None:
        if self._ended is not None:
            self._ended(outcome, length)

    # In a thread

    def _first_promise(self, size: int | None) -> int:
        limits = self._limits
        return size if size is not None else min(limits.step, limits.largest, limits.share or limits.largest)

    def _announced(self, owner: int, size: int) -> _IncomingFile:
        """Announce a file, unless it can be seen before that there is no room: what is announced counts for others."""
        self._check_room(owner, size)
        incoming = _IncomingFile(self._directory, owner)
        try:
            incoming.announce(size)
            self._check_room(owner, size, incoming)
        except Exception:
            incoming.abandon()
            raise
        return incoming

    def _append(self, owner: int, incoming: _IncomingFile, piece: bytes) -> None:
        needed = incoming.written + len(piece)
        if needed > incoming.promised:
            size = max(needed, min(incoming.promised + self._limits.step, self._limits.largest))
            self._check_room(owner, size, incoming)
            incoming.announce(size)
            self._check_room(owner, size, incoming)
        incoming.write(piece)

    def _check_room(self, owner: int, size: int, incoming: _IncomingFile | None = None) -> None:
        """Raise `EC2Error` if there is no room for a file, which is the announced one if it `incoming` already."""
        path, present = (None, 0) if incoming is None else (incoming.path, incoming.written)
        others = [file for file in self._scan() if file.path != path]
        own = [file for file in others if file.owner == owner and not file.is_abandoned]
        free = self._free(self._directory)
        share = self._limits.share
        if share is None:
            share = (free + present + sum(min(file.size, file.present) for file in others)) // 2
        if len(own) >= MAX_FILES:
            raise EC2Error("ResourceLimitExceeded", f"You have {len(own)} uploads here that are not finished yet.")
        if size + sum(file.charged for file in own) > share:
            raise EC2Error(
                "ResourceLimitExceeded",
                f"Your uploads that are not finished yet may take {share} bytes of this server together.",
            )
        if size - present + sum(file.outstanding for file in others) > free:
            raise no_room()

    def _scan(self) -> list[_StoredFile]:
        """Return the uploads in the directory, sorted by path; what belongs to other accounts cannot be removed."""
        for _ in range(_SCANS):
            with suppress(FileNotFoundError):  # one that is complete now has another name
                return sorted(self._scanned(), key=lambda file: file.path)
        return sorted(self._scanned(skip_missing=True), key=lambda file: file.path)

    def _scanned(self, *, skip_missing: bool = False) -> list[_StoredFile]:
        found = []
        with os.scandir(self._directory) as entries:
            for entry in entries:
                named = _FILE.fullmatch(entry.name)
                if named and entry.is_file(follow_symlinks=False):
                    try:
                        status = entry.stat(follow_symlinks=False)
                        if status.st_uid == os.geteuid():
                            found.append(_stored(entry.path, int(named[1]), status, named[2] is not None))
                    except FileNotFoundError:
                        if not skip_missing:
                            raise
        return found


def no_room() -> EC2Error:
    """Return the answer to an upload that the disk cannot hold."""
    return EC2Error("InsufficientVolumeCapacity", "There is not enough room for the image on this server.", 507)


@contextmanager
def _full_as_no_room() -> Iterator[None]:
    """Answer for a disk, or a quota of it, that is full after all."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise no_room() from error
        raise


def _stored(path: str, owner: int, status: os.stat_result, is_partial: bool) -> _StoredFile:
    # One without a size is not yet locked, and must not be locked here.
    is_live = is_partial and status.st_size > 0 and _is_locked(path)
    return _StoredFile(path, owner, status.st_size, status.st_blocks * _BLOCK, status.st_mtime, is_partial, is_live)


def _is_locked(path: str) -> bool:
    """Whether a process holds the lock of a file, which ends with the process."""
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
