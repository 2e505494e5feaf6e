"""Where the lines of the log go: a file that every process appends to, or a stream. Neither can end the daemon."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from threading import Lock
from typing import Protocol, TypeAlias

Complain: TypeAlias = Callable[[str], bytes]
"""Makes a line of the log, its newline included, of what is wrong with the log itself."""

STDOUT = 1
STDERR = 2


class LogTarget(Protocol):
    """Takes lines. All methods may raise `OSError`."""

    def write(self, lines: bytes) -> None:
        """Write lines, the last newline included, so that no other process's come between."""

    def reopen(self) -> None:
        """Go on in a new file, if this one has been renamed."""

    def close(self) -> None:
        """Let go of what was opened."""


class Stream:
    """A descriptor that is open already, and not ours to close."""

    def __init__(self, descriptor: int = STDOUT) -> None:
        self._descriptor = descriptor

    def write(self, lines: bytes) -> None:
        """Write lines (`LogTarget`)."""
        while lines:
            lines = lines[os.write(self._descriptor, lines) :]

    def reopen(self) -> None:
        """Do nothing: whoever opened it is in charge."""

    def close(self) -> None:
        """Do nothing, for the same reason."""


class AppendedFile:
    """A file to which several processes append, each line by one write, so that lines stay whole (O_APPEND).

    Where it cannot be opened, that is tried again with every line.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._is_torn = False
        self._turn = Lock()  # threads log too, and none may write to a descriptor that is somebody else's by now

    def write(self, lines: bytes) -> None:
        """Write lines (`LogTarget`). Where a full disk has cut one off, the next begins on a line of its own."""
        with self._turn:
            if self._descriptor is None:
                self._descriptor = self._opened()
            given = b"\n" + lines if self._is_torn else lines
            written = os.write(self._descriptor, given)
            if written:
                self._is_torn = written < len(given)
            if written < len(given):
                raise OSError(f"only {written} of {len(given)} bytes could be written")

    def reopen(self) -> None:
        """Open the file anew (`LogTarget`); if that fails, the one that is open stays."""
        with self._turn:
            opened = self._opened()
            self._close()
            self._descriptor, self._is_torn = opened, False

    def close(self) -> None:
        """Let go of the file; it is opened again if another line comes."""
        with self._turn:
            self._close()

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _opened(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY, 0o640)


class Unfailing:
    """A target that never raises: what cannot be written goes to standard error, after one complaint."""

    def __init__(self, target: LogTarget, complain: Complain, last_resort: LogTarget | None = None) -> None:
        """Write to `target`; `last_resort` is what to use in its place, in place of standard error."""
        self._target = target
        self._complain = complain
        self._last_resort = last_resort or Stream(STDERR)
        self._lost: int | None = None

    def write(self, lines: bytes) -> None:
        """Write lines, if only somewhere."""
        try:
            self._target.write(lines)
        except OSError as error:
            if self._lost is None:
                self._lost = 0
                self._say_elsewhere(self._complain(f"the log cannot be written: {error}"))
            self._lost += 1
            self._say_elsewhere(lines)
            return
        if self._lost is not None:
            lost, self._lost = self._lost, None
            self.write(self._complain(f"the log can be written again; {lost} events are not in it"))

    def reopen(self) -> None:
        """Go on in a new file; if there can be none, where it went before, with a complaint there and elsewhere."""
        try:
            self._target.reopen()
        except OSError as error:
            complaint = self._complain(f"the log cannot be opened: {error}")
            self._say_elsewhere(complaint)
            self.write(complaint)

    def close(self) -> None:
        """Let go of the file."""
        with suppress(OSError):
            self._target.close()

    def _say_elsewhere(self, lines: bytes) -> None:
        with suppress(OSError):  # there is nowhere left to say so
            self._last_resort.write(lines)


def is_journal(descriptor: int, environ: Mapping[str, str]) -> bool:
    """Whether a descriptor leads to systemd's journal (systemd.exec(5), JOURNAL_STREAM)."""
    device, _, inode = environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        is_open_as = os.fstat(descriptor)
    except OSError:
        return False
    return (device, inode) == (str(is_open_as.st_dev), str(is_open_as.st_ino))
