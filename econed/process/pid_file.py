"""The daemon's pid file. The daemon holds a lock on it until it exits, which identifies its process.

The pid in the file identifies nothing: the process may have exited, and its pid may have been reused. The kernel names
the process that holds a lock (fcntl(2), F_GETLK), and releases the lock when the process exits for any reason. Only
processes that may write the file can acquire a write lock.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import stat
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from twisted.application.service import Service

_FLOCK: Final = struct.Struct("hhqqi")
"""Linux's struct flock: l_type, l_whence, l_start, l_len, l_pid."""

_WHOLE: Final = (os.SEEK_SET, 0, 0)
_FLAGS: Final = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class PidFileError(Exception):
    """The pid file cannot be used, or the holder of its lock cannot be identified; the message says why."""


@dataclass(frozen=True)
class DaemonProcess:
    """The daemon's process, with a descriptor that never refers to another process (pidfd_open(2))."""

    pid: int
    descriptor: int

    def send(self, signum: signal.Signals) -> None:
        """Send a signal; does nothing if the process has exited. Raises `PermissionError` as kill(2)."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.descriptor, signum)

    def wait(self, seconds: float) -> bool:
        """Wait for its exit, for at most `seconds`; return whether it has exited."""
        poll = select.poll()
        poll.register(self.descriptor, select.POLLIN)
        return bool(poll.poll(max(seconds, 0.0) * 1000))


@dataclass(frozen=True)
class PidFile:
    """The file to which twistd writes the daemon's pid, and which it removes when the daemon stops.

    Methods that read the file raise `PidFileError` if it cannot be read, or if its lock is held by a process that is
    not visible here (in another container, on another machine).
    """

    path: Path

    def holder(self) -> int | None:
        """Return the daemon's pid; None if it does not run, regardless of the file's content."""
        with self._opened(os.O_RDONLY) as descriptor:
            return None if descriptor is None else self._holder(descriptor)

    @contextmanager
    def daemon(self) -> Iterator[DaemonProcess | None]:
        """Return the daemon's process, to signal it or to wait for its exit; None if it does not run."""
        with self._opened(os.O_RDONLY) as descriptor:
            pid = None if descriptor is None else self._holder(descriptor)
            if descriptor is None or pid is None:
                yield None
                return
            process = _opened_process(pid)
            if process is None:
                yield None
                return
            try:
                # Before the descriptor was opened the holder may have exited, and its pid may have been reused.
                yield DaemonProcess(pid, process) if self._holder(descriptor) == pid else None
            finally:
                os.close(process)

    @property
    def exists(self) -> bool:
        """Whether the file exists, with any content."""
        return os.path.lexists(self.path)

    def remove(self) -> None:
        """Remove the file, unless a process holds its lock."""
        with self._opened(os.O_RDWR) as descriptor:
            if descriptor is None:
                return
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                return
            if self._is_same_file(descriptor):
                self.path.unlink(missing_ok=True)

    def hold(self) -> None:
        """Lock the file, to which twistd has just written the pid of this process, until the process exits.

        It must not be opened again in this process: closing any of its descriptors releases the lock. If a reader
        holds a lock, as any reader may, the file is replaced by another, which is locked before it is renamed.
        """
        descriptor = self._open(os.O_RDWR)
        if descriptor is None:
            raise PidFileError(f"{self.path} has been removed")
        try:
            is_held = self._lock(descriptor)
        except PidFileError:
            os.close(descriptor)
            raise
        if not is_held:
            self._replace(stat.S_IMODE(os.fstat(descriptor).st_mode))
            os.close(descriptor)

    def _lock(self, descriptor: int) -> bool:
        """Lock the file; return False if readers hold locks."""
        is_held = True
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            holder = self._holder(descriptor)
            if holder is not None:
                raise PidFileError(f"{self.path} is held by process {holder}") from None
            is_held = False
        if not self._is_same_file(descriptor) or os.read(descriptor, 32).strip() != b"%d" % os.getpid():
            raise PidFileError(f"{self.path} belongs to another process")
        return is_held

    def _replace(self, mode: int) -> None:
        descriptor, name = tempfile.mkstemp(dir=self.path.parent, prefix=f"{self.path.name}.")
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.write(descriptor, b"%d" % os.getpid())
            os.fchmod(descriptor, mode)
            os.rename(name, self.path)
        except OSError as error:
            os.close(descriptor)
            with suppress(FileNotFoundError):
                os.unlink(name)
            raise PidFileError(f"replacing {self.path}, which a reader has locked, failed: {error.strerror}") from None

    @contextmanager
    def _opened(self, flags: int) -> Iterator[int | None]:
        descriptor = self._open(flags)
        try:
            yield descriptor
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _open(self, flags: int) -> int | None:
        """Open the file, which must be a regular file: a link could refer to a file that others lock."""
        try:
            descriptor = os.open(self.path, flags | _FLAGS)
        except FileNotFoundError:
            return None
        except OSError as error:
            reason = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror
            raise PidFileError(f"{self.path} cannot be opened: {reason}") from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise PidFileError(f"{self.path} is not a regular file")
        return descriptor

    def _is_same_file(self, descriptor: int) -> bool:
        """Whether the path still refers to the opened file."""
        try:
            return os.path.samestat(os.lstat(self.path), os.fstat(descriptor))
        except FileNotFoundError:
            return False

    def _holder(self, descriptor: int) -> int | None:
        """Return the pid of the process with a write lock. Read locks are ignored: any reader may have one."""
        request = _FLOCK.pack(fcntl.F_RDLCK, *_WHOLE, 0)
        kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_GETLK, request))
        if kind == fcntl.F_UNLCK:
            return None
        if pid <= 0:
            raise PidFileError(f"{self.path} is held by a process that is not visible here")
        return int(pid)


def _opened_process(pid: int) -> int | None:
    """Return a descriptor of a process; None if it has exited."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    except OSError as error:
        raise PidFileError(f"process {pid} cannot be signalled safely: pidfd_open: {error.strerror}") from None


class PidFileLock(Service):
    """Locks the daemon's pid file when the daemon starts: twistd writes it after it has detached."""

    def __init__(self, file: PidFile) -> None:
        self._file = file

    def privilegedStartService(self) -> None:
        """Lock the file: twistd has written it, and has not dropped its privileges yet (--uid)."""
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        self._file.hold()
