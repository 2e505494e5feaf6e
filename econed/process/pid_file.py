"""The daemon's pid file, and the proof that a process is the daemon: it holds a lock on that file until it ends.

A number in a file proves nothing: the process may have ended, and its number gone to another. The kernel names the
process that holds a lock (fcntl(2), F_GETLK), and the lock ends with the process, however that ends. Only who may write
to the file can hold a lock for writing.
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
    """The pid file cannot be used, or it cannot be told who holds it; the text says why."""


@dataclass(frozen=True)
class DaemonProcess:
    """The daemon's process, by a descriptor that can never come to mean another process (pidfd_open(2))."""

    pid: int
    descriptor: int

    def send(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens if it has ended. Raises `PermissionError` if it is somebody else's."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.descriptor, number)

    def wait(self, seconds: float) -> bool:
        """Wait until it ends, for so many seconds at most; return whether it has."""
        poll = select.poll()
        poll.register(self.descriptor, select.POLLIN)
        return bool(poll.poll(max(seconds, 0.0) * 1000))


@dataclass(frozen=True)
class PidFile:
    """The file that twistd writes the daemon's process id to, and removes when it ends in order.

    All that look at the file raise `PidFileError` if it may not be read, or is held where this process sees no
    processes (in another container, on another machine).
    """

    path: Path

    def holder(self) -> int | None:
        """Return the id of the daemon's process; None if it does not run, whatever the file says."""
        with self._opened(os.O_RDONLY) as descriptor:
            return None if descriptor is None else self._holder(descriptor)

    @contextmanager
    def daemon(self) -> Iterator[DaemonProcess | None]:
        """Find the daemon's process, to signal it or to wait for its end; None if it does not run."""
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
                # Before the descriptor was opened the holder may have ended, and its number gone to another process.
                yield DaemonProcess(pid, process) if self._holder(descriptor) == pid else None
            finally:
                os.close(process)

    @property
    def is_there(self) -> bool:
        """Whether there is a file, right or wrong."""
        return os.path.lexists(self.path)

    def remove(self) -> None:
        """Remove the file of a process that has ended; one that a process holds stays."""
        with self._opened(os.O_RDWR) as descriptor:
            if descriptor is None:
                return
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                return
            if self._is(descriptor):
                self.path.unlink(missing_ok=True)

    def hold(self) -> None:
        """Hold the file for as long as this process lives, which twistd has just written its id to.

        It must not be opened a second time in this process: closing any descriptor of it would end the lock. Where a
        mere reader has locked it, as any can, another file is put in its place, locked before it has the name.
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
        """Lock the file; False if readers alone keep it from being locked."""
        is_held = True
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            holder = self._holder(descriptor)
            if holder is not None:
                raise PidFileError(f"{self.path} is held by process {holder}") from None
            is_held = False
        if not self._is(descriptor) or os.read(descriptor, 32).strip() != b"%d" % os.getpid():
            raise PidFileError(f"{self.path} is another process's")
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
            raise PidFileError(
                f"{self.path} cannot be put in place of one that readers hold: {error.strerror}"
            ) from None

    @contextmanager
    def _opened(self, flags: int) -> Iterator[int | None]:
        descriptor = self._open(flags)
        try:
            yield descriptor
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _open(self, flags: int) -> int | None:
        """Return a descriptor of the file, which must be a plain one: a link could lead to what others hold."""
        try:
            descriptor = os.open(self.path, flags | _FLAGS)
        except FileNotFoundError:
            return None
        except OSError as error:
            why = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror
            raise PidFileError(f"{self.path} cannot be opened: {why}") from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise PidFileError(f"{self.path} is no plain file")
        return descriptor

    def _is(self, descriptor: int) -> bool:
        """Whether the file is still the one that was opened."""
        try:
            return os.path.samestat(os.lstat(self.path), os.fstat(descriptor))
        except FileNotFoundError:
            return False

    def _holder(self, descriptor: int) -> int | None:
        """Return who holds the file for writing; who holds it for reading is of no account, as any reader may."""
        asked = _FLOCK.pack(fcntl.F_RDLCK, *_WHOLE, 0)
        kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
        if kind == fcntl.F_UNLCK:
            return None
        if pid <= 0:
            raise PidFileError(f"{self.path} is held by a process that cannot be seen from here")
        return int(pid)


def _opened_process(pid: int) -> int | None:
    """Return a descriptor of a process; None if it has ended."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    except OSError as error:
        raise PidFileError(f"process {pid} cannot be signalled safely: pidfd_open: {error.strerror}") from None


class HeldPidFile(Service):
    """Holds the daemon's pid file from its start on, which twistd writes after it has become a daemon."""

    def __init__(self, file: PidFile) -> None:
        self._file = file

    def privilegedStartService(self) -> None:
        """Hold it while that is allowed: twistd has written it, and has not yet given up its rights (--uid)."""
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        self._file.hold()
