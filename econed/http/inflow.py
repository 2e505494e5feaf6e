"""Bytes that arrive faster than a disk may take them: kept in bounded memory, the sender paused meanwhile."""

from __future__ import annotations

from collections import deque
from typing import Protocol

from twisted.internet.defer import Deferred

from econed.errors import EC2Error

PIECE = 1 << 18
"""Bytes of a file that are written at once. As many more may be in memory, and what one read of the network brings."""


class Flow(Protocol):
    """The sender of a body, which can be paused."""

    def hold(self) -> None:
        """Read no more from the sender for now."""

    def go_on(self) -> None:
        """Read on."""


class Inflow:
    """What has arrived of one file and is not written yet: filled by a connection, emptied by who writes it.

    A `flow` is paused whenever nobody asks for the next piece, or one is complete.
    """

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._pending: deque[bytes] = deque()
        self._wanted: Deferred[None] | None = None
        self._error: EC2Error | None = None
        self._has_ended = False
        self.buffered = 0
        """Bytes that are in memory."""

    @property
    def error(self) -> EC2Error | None:
        """Why no more will come, if it failed."""
        return self._error

    @property
    def has_ended(self) -> bool:
        """Whether all has arrived."""
        return self._has_ended

    def put(self, data: bytes) -> None:
        """Take bytes that have arrived; `throttle` is to follow."""
        self._pending.append(data)
        self.buffered += len(data)

    def throttle(self) -> None:
        """Pause the sender if nobody waits for more, and hand a piece over that is complete."""
        if self._wanted is None or self.buffered >= PIECE:
            self._flow.hold()
        if self.buffered >= PIECE:
            self._wake()

    def end(self) -> None:
        """Take note that all has arrived."""
        self._has_ended = True
        self._wake()

    def fail(self, error: EC2Error) -> None:
        """Take note that no more will come, and why; the first reason counts."""
        if self._error is None:
            self._error = error
        self._pending.clear()
        self.buffered = 0
        self._wake()

    async def next(self) -> bytes:
        """Return the next piece, nothing at the end; raises the `EC2Error` with which it failed."""
        while self._error is None and not self._has_ended and self.buffered < PIECE:
            self._wanted = Deferred()
            self._flow.go_on()
            await self._wanted
        if self._error is not None:
            raise self._error
        piece = b"".join(self._pending)
        self._pending.clear()
        self.buffered = 0
        return piece

    def _wake(self) -> None:
        if self._wanted is not None:
            wanted, self._wanted = self._wanted, None
            wanted.callback(None)
