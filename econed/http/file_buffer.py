"""Bounded memory between a connection that receives a file and a disk that may be slower."""

from __future__ import annotations

from io import BytesIO
from typing import Protocol

from twisted.internet.defer import Deferred

from econed.errors import EC2Error

PIECE = 1 << 19
"""Bytes of a file that are written at a time. As many again may be received meanwhile, plus those of a network read."""


class BodySource(Protocol):
    """The connection that a body is read from."""

    def pause_reading(self) -> None:
        """Stop reading from the connection for now."""

    def resume_reading(self) -> None:
        """Read from the connection again."""


class FileBuffer:
    """The part of a file that was received and is not written yet: filled by a connection, emptied by the writer.

    One piece is received while the one before is written; `source` is paused when both are complete, and until the
    writer asks for the first. The memory of both is used again: the system clears new memory for each piece, which took
    a third of the processor time of an upload.
    """

    def __init__(self, source: BodySource) -> None:
        self._source = source
        self._received, self._written = BytesIO(), BytesIO()
        self._piece = memoryview(b"")
        self._waiting: Deferred[None] | None = None
        self._error: EC2Error | None = None
        self._has_ended = False
        self._has_writer = False
        self._is_paused = False

    @property
    def size(self) -> int:
        """Bytes that were received and not passed on yet."""
        return self._received.tell()

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
        self._received.write(data)

    def throttle(self) -> None:
        """Pause the source if a piece is complete, or nobody writes yet; pass on a piece that is complete."""
        if not self._has_writer or self.size >= PIECE:
            self._is_paused = True
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
        self._received = BytesIO()
        self._wake()

    async def next_piece(self) -> memoryview:
        """Return the next piece, empty at the end of the file; raises the `EC2Error` with which receiving it failed.

        The piece is valid until the next call. The source is read meanwhile.
        """
        self._piece.release()
        self._has_writer = True
        while self._error is None and not self._has_ended and self.size < PIECE:
            self._resume()
            self._waiting = Deferred()
            await self._waiting
        if self._error is not None:
            raise self._error
        self._received, self._written = self._written, self._received
        self._received.seek(0)
        self._piece = self._written.getbuffer()[: self._written.tell()]
        self._resume()
        return self._piece

    def _resume(self) -> None:
        if self._is_paused and not self._has_ended:
            self._is_paused = False
            self._source.resume_reading()

    def _wake(self) -> None:
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            waiting.callback(None)
