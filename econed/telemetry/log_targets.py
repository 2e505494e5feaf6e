"""The targets of the log: a file to which all processes append, or a stream. Errors never stop the daemon."""

from __future__ import annotations

import errno
import os
import pwd
from collections.abc import Callable, Mapping
from contextlib import suppress
from threading import Lock
from typing import Protocol, TypeAlias

FormatError: TypeAlias = Callable[[str], bytes]
"""Returns the line, with its newline, for an error of the log itself."""

STDOUT = 1
STDERR = 2


class LogTarget(Protocol):
    """Something that lines are written to. All methods may raise `OSError`."""

    def write(self, lines: bytes) -> None:
        """Write lines, with the last newline, so that lines of other processes are not mixed in."""

    def reopen(self) -> None:
        """Open a new file, if this one has been renamed."""

    def close(self) -> None:
        """Close what this target has opened."""


class Stream:
    """A descriptor that other code has opened, and will close."""

    def __init__(self, descriptor: int = STDOUT) -> None:
        self._descriptor = descriptor

    def write(self, lines: bytes) -> None:
        """Write lines (`LogTarget`)."""
        while lines:
            lines = lines[os.write(self._descriptor, lines) :]

    def reopen(self) -> None:
        """Do nothing: the descriptor belongs to other code."""

    def close(self) -> None:
        """Do nothing (`reopen`)."""


class AppendedFile:
    """A file to which several processes append, with a single write per event, so that lines stay whole (O_APPEND).

    If it cannot be opened, every write tries again.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._ends_mid_line = False
        self._lock = Lock()  # threads log too, and the descriptor may be reused once it is closed

    def write(self, lines: bytes) -> None:
        """Write lines (`LogTarget`). After a line truncated by a full disk, the next write begins with a newline."""
        with self._lock:
            if self._descriptor is None:
                self._descriptor = self._open()
            data = b"\n" + lines if self._ends_mid_line else lines
            written = os.write(self._descriptor, data)
            if written:
                self._ends_mid_line = written < len(data)
            if written < len(data):
                raise OSError(f"only {written} of {len(data)} bytes could be written")

    def reopen(self) -> None:
        """Open the file again (`LogTarget`); on failure the current one stays open."""
        with self._lock:
            descriptor = self._open()
            self._close()
            self._descriptor, self._ends_mid_line = descriptor, False

    def close(self) -> None:
        """Close the file; the next write opens it again."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY, 0o640)


def why_unopenable(path: str) -> str | None:
    """Return why `AppendedFile` cannot open a file, or None if it can; the file is not created."""
    try:
        # A pipe that nobody reads from is refused; without O_NONBLOCK it would be waited for.
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY))
    except FileNotFoundError:
        directory = os.path.dirname(path)
        if not os.path.isdir(directory):
            return f"{directory} does not exist"
        if os.access(directory, os.W_OK | os.X_OK):
            return None
        if os.statvfs(directory).f_flag & os.ST_RDONLY:  # under systemd often only for the service
            return f"{directory}: {os.strerror(errno.EROFS)}"
        return f"{directory} is not writable for {_account_name(os.geteuid())}"
    except PermissionError as error:
        return f"{error.strerror} for {_account_name(os.geteuid())}{_owned_by(path)}"
    except OSError as error:
        return error.strerror
    return None


def _owned_by(path: str) -> str:
    with suppress(OSError):
        return f", it belongs to {_account_name(os.stat(path).st_uid)}"
    return ""


def _account_name(uid: int) -> str:
    with suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return f"uid {uid}"


class FallbackTarget:
    """A target that never raises: lines that cannot be written go to standard error, after one error message."""

    def __init__(self, target: LogTarget, format_error: FormatError, fallback: LogTarget | None = None) -> None:
        """Write to `target`, and to `fallback` if that fails; the default is standard error."""
        self._target = target
        self._format_error = format_error
        self._fallback = fallback or Stream(STDERR)
        self._missing: int | None = None
        """Number of events that could not be written to the target; None while it works."""

    def write(self, lines: bytes) -> None:
        """Write lines to the target or the fallback."""
        try:
            self._target.write(lines)
        except OSError as error:
            if self._missing is None:
                self._missing = 0
                self._write_to_fallback(self._format_error(f"the log cannot be written: {error}"))
            self._missing += 1
            self._write_to_fallback(lines)
            return
        if self._missing is not None:
            missing, self._missing = self._missing, None
            self.write(self._format_error(f"the log can be written again; {missing} events are not in it"))

    def reopen(self) -> None:
        """Reopen the target; on failure report that to both the target and the fallback."""
        try:
            self._target.reopen()
        except OSError as error:
            error_line = self._format_error(f"the log cannot be opened: {error}")
            self._write_to_fallback(error_line)
            self.write(error_line)

    def close(self) -> None:
        """Close the target."""
        with suppress(OSError):
            self._target.close()

    def _write_to_fallback(self, lines: bytes) -> None:
        with suppress(OSError):  # nowhere left to report it
            self._fallback.write(lines)


def is_journal(descriptor: int, environ: Mapping[str, str]) -> bool:
    """Whether a descriptor is systemd's journal (systemd.exec(5), JOURNAL_STREAM)."""
    device, _, inode = environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return (device, inode) == (str(status.st_dev), str(status.st_ino))
