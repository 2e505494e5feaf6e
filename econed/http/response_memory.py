"""Limits on the memory for long responses: parts that are produced at a time, and bytes that clients have not read.

A long result is produced in parts. While a part is produced, documents of oned for it are in memory; afterwards its
encoded bytes are, until the client has read them. Each part waits for a turn; turns are shared fairly between users.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime

from econed.errors import EC2Error
from econed.http.heap import HeapTrimmer

MAX_PARTS = 4
"""Parts produced at a time; the documents for one part take some 10 MiB."""

MAX_PARTS_PER_USER = 2
"""Parts produced at a time for one user."""

MAX_BYTES = 48 << 20
"""Unread bytes of all users from which no further part is produced for a user who holds `RESERVE_THRESHOLD` or more.

Of one user at most `MAX_BYTES_PER_USER` count: a single part is as large as the user's machines are and may be read
slowly, and other users must not wait for that.
"""

RESERVED_BYTES = 48 << 20
"""Unread bytes beyond `MAX_BYTES` for users who hold few, so that clients that read nothing do not block them."""

RESERVE_THRESHOLD = 1 << 20
"""Users with fewer unread bytes than this may use `RESERVED_BYTES`.

It is enough for the beginnings of several short responses, which also come in parts.
"""

MAX_BYTES_PER_USER = 16 << 20
"""Unread bytes of one user from which no further part is produced for this user."""

TURN_TIMEOUT = 60.0
"""Seconds that a part waits for its turn; a client that reads nothing is disconnected at about the same time."""


class ResponseMemory:
    """The limits on the long responses of one process, on an injected clock."""

    def __init__(self, clock: IReactorTime, trim_heap: Callable[[], None]) -> None:
        """`trim_heap` returns freed memory to the system."""
        self._clock = clock
        self._trimmer = HeapTrimmer(clock, trim_heap)
        self._producing: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()
        self._waiting: OrderedDict[str, OrderedDict[Deferred[None], None]] = OrderedDict()
        """The turns that are waited for, by user; the user who had the last turn comes last."""

    @property
    def held(self) -> int:
        """Encoded bytes that clients have not read yet."""
        return self._bytes.total()

    @property
    def producing(self) -> int:
        """How many parts are being produced."""
        return self._producing.total()

    @asynccontextmanager
    async def turn(self, user: str) -> AsyncGenerator[None, None]:
        """Produce one part within this context; raises `EC2Error` RequestLimitExceeded if there is no turn in time."""
        if not self._has_room(user) or user in self._waiting:
            await self._wait(user)
        else:
            self._producing[user] += 1
        try:
            yield
        finally:
            _subtract(self._producing, user, 1)
            self._trimmer.schedule()
            self._grant_turns()

    def check_room(self, user: str) -> None:
        """Raise `EC2Error` RequestLimitExceeded if no long response of this user may be held at the moment."""
        if not self._may_hold_more(user):
            raise _too_many()

    def hold(self, user: str, count: int) -> None:
        """Count bytes that were encoded for a client."""
        self._bytes[user] += count

    def release(self, user: str, count: int) -> None:
        """Stop counting bytes that were read, or will never be."""
        if count:
            _subtract(self._bytes, user, count)
            self._trimmer.schedule()
            self._grant_turns()

    async def _wait(self, user: str) -> None:
        waiting = self._waiting.setdefault(user, OrderedDict())
        turn: Deferred[None] = Deferred(lambda turn: self._remove(user, turn))
        waiting[turn] = None
        try:
            await turn.addTimeout(TURN_TIMEOUT, self._clock)
        except DeferredTimeout:
            raise _too_many() from None

    def _grant_turns(self) -> None:
        """Grant turns, one user after the other, as long as there is room."""
        for user in list(self._waiting):
            if self.producing >= MAX_PARTS:
                return
            while user in self._waiting and self._has_room(user):
                turn = next(iter(self._waiting[user]))
                self._remove(user, turn)
                if user in self._waiting:
                    self._waiting.move_to_end(user)
                self._producing[user] += 1
                turn.callback(None)

    def _remove(self, user: str, turn: Deferred[None]) -> None:
        waiting = self._waiting[user]
        del waiting[turn]
        if not waiting:
            del self._waiting[user]

    def _has_room(self, user: str) -> bool:
        return self.producing < MAX_PARTS and self._producing[user] < MAX_PARTS_PER_USER and self._may_hold_more(user)

    def _may_hold_more(self, user: str) -> bool:
        limit = MAX_BYTES if self._bytes[user] >= RESERVE_THRESHOLD else MAX_BYTES + RESERVED_BYTES
        return self._counted < limit and self._bytes[user] < MAX_BYTES_PER_USER

    @property
    def _counted(self) -> int:
        return sum(min(count, MAX_BYTES_PER_USER) for count in self._bytes.values())


def _too_many() -> EC2Error:
    return EC2Error("RequestLimitExceeded", "Too many long responses are being sent.", 503)


def _subtract(counts: Counter[str], key: str, count: int) -> None:
    counts[key] -= count
    if counts[key] <= 0:
        del counts[key]
