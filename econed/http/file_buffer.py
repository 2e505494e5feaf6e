"""Bounded memory between a connection that receives a file and a disk that may be slower."""

from __future__ import annotations

from collections import deque
from typing import Protocol

from twisted.internet.defer import Deferred

from econed.errors import EC2Error

PIECE = 1 << 18
"""Bytes of a file that are written at a time. As many again may be in memory, plus those of a network read."""


class BodySource(Protocol):
    """The connection that a body is read from."""

    def pause_reading(self) -> None:
        """Stop reading from the connection for now."""

    def resume_reading(self) -> None:
        """Read from the connection again."""


class FileBuffer:
    """The part of a file that was received and is not written yet: filled by a connection, emptied by the writer.

    `source` is paused whenever the writer does not wait for the next piece, or a piece is complete.
    """

    def __init__(self, source: BodySource) -> None:
        self._source = source
        self._pending: deque[bytes] = deque()
        self._waiting: Deferred[None] | None = None
        self._error: EC2Error | None = None
        self._has_ended = False
        self.size = 0
        """Bytes in memory."""

    @property
    def error(self) -> EC2Error | None:
        """Why receiving the file failed, None if it did not."""
        return self._error

    @property
    def has_ended(self) -> bool:
        """Whether the whole file was received."""
        return self._has_ended

    def put(self, data: bytes) -> None:
        """Add bytes that were received; call `throttle` afterwards."""
        self._pending.append(data)
        self.size += len(data)

    def throttle(self) -> None:
        """Pause the source unless the writer waits for more, and pass on a piece that is complete."""
        if self._waiting is None or self.size >= PIECE:
            self._source.pause_reading()
        if self.size >= PIECE:
            self._wake()

    def end(self) -> None:
        """Record that the whole file was received."""
        self._has_ended = True
        self._wake()

    def fail(self, error: EC2Error) -> None:
        """Record that receiving the file failed; the first error counts."""
        if self._error is None:
            self._error = error
        self._pending.clear()
        self.size = 0
        self._wake()

    async def next_piece(self) -> bytes:
        """Return the next piece, b"" at the end of the file; raises the `EC2Error` with which receiving it failed."""
        while self._error is None and not self._has_ended and self.size < PIECE:
            self._waiting = Deferred()
            self._source.resume_reading()
            await self._waiting
        if self._error is not None:
            raise self._error
        piece = b"".join(self._pending)
        self._pending.clear()
        self.size = 0
        return piece

    def _wake(self) -> None:
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            waiting.callback(None)
