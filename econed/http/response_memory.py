"""What long answers may take of a process's memory: results being made at a time, and bytes that nobody has taken yet.

A long result is made set by set. While a set is made there are documents of oned's of it in memory, and after that its
bytes, until the client has taken them. Each set waits for a turn, which is fair between users.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime

from econed.errors import EC2Error
from econed.http.malloc import Memory

SETS = 4
"""How many sets are made at a time; the documents of one take some 10 MiB."""

SETS_PER_USER = 2
"""How many of them for one user."""

BYTES = 48 << 20
"""Encoded bytes that clients have not taken from which on no further set is made for users who hold many of them.

Of one user no more than `BYTES_PER_USER` count here: a single set is as large as this user's machines are, and may be
taken slowly, but nobody else waits for that.
"""

RESERVE = 48 << 20
"""Such bytes beyond `BYTES` for users who hold few: some who take nothing do not keep everybody else waiting."""

FEW_BYTES = 1 << 20
"""What is few for a user: the beginnings of short answers, made set by set too, and of some at the same time."""

BYTES_PER_USER = 16 << 20
"""Such bytes of one user from which on no further set is made for this user."""

PATIENCE = 60.0
"""Seconds that a set waits for its turn; clients that take nothing are cut off about then (`econed.http.channel`)."""


class AnswerMemory:
    """The bounds on the long answers of one process, on an injected clock."""

    def __init__(self, clock: IReactorTime, give_back: Callable[[], None]) -> None:
        """`give_back` returns to the system what was freed."""
        self._clock = clock
        self._memory = Memory(clock, give_back)
        self._making: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()
        self._waiting: OrderedDict[str, OrderedDict[Deferred[None], None]] = OrderedDict()
        """The turns that are waited for, by user; who has just had one comes last."""

    @property
    def held(self) -> int:
        """How many encoded bytes clients have not taken yet."""
        return self._bytes.total()

    @property
    def making(self) -> int:
        """How many sets are being made."""
        return self._making.total()

    @asynccontextmanager
    async def turn(self, user: str) -> AsyncGenerator[None, None]:
        """Make one set inside of this; raises `EC2Error` RequestLimitExceeded where there is no turn in time."""
        if not self._has_room(user) or user in self._waiting:
            await self._wait(user)
        else:
            self._making[user] += 1
        try:
            yield
        finally:
            _subtract(self._making, user, 1)
            self._memory.freed()
            self._admit()

    def check_room(self, user: str) -> None:
        """Raise `EC2Error` RequestLimitExceeded where no long answer of this user may be held at the moment."""
        if not self._may_hold_more(user):
            raise _too_many()

    def hold(self, user: str, count: int) -> None:
        """Count bytes that are made for a client."""
        self._bytes[user] += count

    def release(self, user: str, count: int) -> None:
        """Count bytes that were taken, or will never be."""
        if count:
            _subtract(self._bytes, user, count)
            self._memory.freed()
            self._admit()

    async def _wait(self, user: str) -> None:
        waiting = self._waiting.setdefault(user, OrderedDict())
        turn: Deferred[None] = Deferred(lambda turn: self._forget(user, turn))
        waiting[turn] = None
        try:
            await turn.addTimeout(PATIENCE, self._clock)
        except DeferredTimeout:
            raise _too_many() from None

    def _admit(self) -> None:
        """Give turns to those who wait, one user after the other, as long as there is room."""
        for user in list(self._waiting):
            if self.making >= SETS:
                return
            while user in self._waiting and self._has_room(user):
                turn = next(iter(self._waiting[user]))
                self._forget(user, turn)
                if user in self._waiting:
                    self._waiting.move_to_end(user)
                self._making[user] += 1
                turn.callback(None)

    def _forget(self, user: str, turn: Deferred[None]) -> None:
        waiting = self._waiting[user]
        del waiting[turn]
        if not waiting:
            del self._waiting[user]

    def _has_room(self, user: str) -> bool:
        return self.making < SETS and self._making[user] < SETS_PER_USER and self._may_hold_more(user)

    def _may_hold_more(self, user: str) -> bool:
        most = BYTES if self._bytes[user] >= FEW_BYTES else BYTES + RESERVE
        return self._counted < most and self._bytes[user] < BYTES_PER_USER

    @property
    def _counted(self) -> int:
        return sum(min(count, BYTES_PER_USER) for count in self._bytes.values())


def _too_many() -> EC2Error:
    return EC2Error("RequestLimitExceeded", "Too many long answers are under way.", 503)


def _subtract(counts: Counter[str], key: str, count: int) -> None:
    counts[key] -= count
    if counts[key] <= 0:
        del counts[key]
