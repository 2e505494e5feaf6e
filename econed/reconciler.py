"""Finishes what requests began and could not wait for, in whatever process it runs, also when theirs has died.

What is to be done stands on OpenNebula's objects; whose are worth reading stands on the users (`econed.actions.watch`).
Everything is done in the session of the user it belongs to, by the chores of `econed.actions.chores`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from econed.actions.chores import Chore, Look
from econed.actions.watch import unwatch, watch, watched_until
from econed.errors import OpenNebulaError
from econed.interfaces import IOpenNebula
from econed.opennebula.documents import OnRead, UserDocument
from econed.opennebula.long_documents import LongDocuments
from econed.opennebula.session import Session
from econed.recurring import Recurring

INTERVAL = 60.0
"""Seconds from one round to the next, on average."""


def _logger() -> Logger:
    return Logger(namespace="econed.reconciler")


@dataclass(frozen=True)
class Reconciler:
    """One round after the other through the users for whom something may be left to do.

    `for_all` is what a round does once, whoever is watched: it is told the names of all users, by their ids.
    """

    one: IOpenNebula
    clock: IReactorTime
    chores: Sequence[Chore]
    on_read: OnRead | None = None
    log: Logger = field(default_factory=_logger)
    for_all: Sequence[Callable[[Mapping[int, str]], Awaitable[None]]] = ()
    long_documents: LongDocuments = field(default_factory=LongDocuments)

    async def round(self) -> None:
        """Look once through all watched users. What fails for one user is logged, and does not keep the others.

        If anything failed that nobody foresaw, the first failure is raised when all have been looked after.
        """
        names: dict[int, str] = {}
        watched: list[int] = []
        unforeseen: list[Exception] = []

        async def visit(user: UserDocument) -> None:
            names[user.id] = user.name
            try:
                if await self._looked_after(user):
                    watched.append(user.id)
            except CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - what one user has written must not keep the others
                self.log.failure("looking after user {id} failed", id=user.id)
                unforeseen.append(error)

        await Session(self.one, None, self.on_read).visit_users(visit, self._left_out)
        for look_after in self.for_all:
            try:
                await look_after(names)
            except OpenNebulaError as error:
                self.log.warn("what is left to do for all users waits: {error}", error=str(error))
        self.log.debug(
            "a round is done: looked after {watched} of {users} users", watched=len(watched), users=len(names)
        )
        if unforeseen:
            raise unforeseen[0]

    def _left_out(self, user_id: int) -> None:
        self.log.warn("what is left to do for user {id} waits: their document is too long to be read", id=user_id)

    async def _looked_after(self, user: UserDocument) -> bool:
        """Look after a user if they are watched, and return whether they are."""
        until = watched_until(user)
        if until is None:
            return False
        try:
            await self._look_after(user, until)
        except OpenNebulaError as error:
            self.log.warn("what is left to do for user {name} waits: {error}", name=user.name, error=str(error))
        return True

    async def _look_after(self, user: UserDocument, until: int) -> None:
        now = int(self.clock.seconds())
        session = Session(self.one, user.name, self.on_read, self.long_documents)
        look = Look(session, user, now, thorough=until <= now, log=self.log)
        for chore in self.chores:
            await chore(look)
        if look.kept and look.thorough:
            await watch(look.session, user, now)
        elif look.thorough:
            await unwatch(look.session, user)


class ReconcilerService(Recurring):
    """Runs rounds at intervals that keep several processes out of step.

    `jitter` returns a number from 0 to 1. `ended` is told of every round: done, waits (for oned), or failed.
    """

    def __init__(
        self,
        reconciler: Reconciler,
        clock: IReactorTime,
        jitter: Callable[[], float],
        log: Logger | None = None,
        ended: Callable[[str], None] | None = None,
    ) -> None:
        first = INTERVAL * jitter()
        super().__init__(self._round, first, clock, log or _logger(), what="a round", after_failure=INTERVAL)
        self._reconciler = reconciler
        self._jitter = jitter
        self._ended = ended

    async def _round(self) -> float:
        outcome = "done"
        try:
            await self._reconciler.round()
        except CancelledError:
            raise
        except OpenNebulaError as error:
            outcome = "waits"
            self._log.warn("no round this time: {error}", error=str(error))
        except Exception:
            self._tell("failed")
            raise
        self._tell(outcome)
        return INTERVAL * (0.5 + self._jitter())

    def _tell(self, outcome: str) -> None:
        if self._ended is not None:
            self._ended(outcome)


class ReportService(Recurring):
    """Has something looked at once when the daemon starts, and again until oned has answered."""

    def __init__(self, report: Callable[[], Awaitable[None]], clock: IReactorTime, log: Logger | None = None) -> None:
        super().__init__(self._look, 0.0, clock, log or _logger(), what="a look at the start", after_failure=None)
        self._report = report

    async def _look(self) -> float | None:
        try:
            await self._report()
        except OpenNebulaError as error:
            self._log.warn("the look at the start waits: {error}", error=str(error))
            return INTERVAL
        return None
