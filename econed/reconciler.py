"""The reconciler completes work that outlives requests, even if the process that served the request has died.

The work is recorded in attributes of OpenNebula's objects, and users with such work in their own attributes
(`econed.actions.watch`). All work is done in the session of its user, by the chores of `econed.actions.chores`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from econed.actions.chores import Chore, ChoreRun
from econed.actions.watch import unwatch, watch, watched_until
from econed.errors import OpenNebulaError
from econed.interfaces import IOpenNebula
from econed.opennebula.documents import OnRead, UserDocument
from econed.opennebula.long_documents import LongDocuments
from econed.opennebula.session import Session
from econed.recurring import Recurring

INTERVAL = 60.0
"""Average seconds between two rounds."""


@dataclass(frozen=True)
class Reconciler:
    """Runs the chores for all users with unfinished work.

    Each of `for_all` is called once in a round, with the names of all users by id.
    """

    oned: IOpenNebula
    clock: IReactorTime
    chores: Sequence[Chore]
    log: Logger
    on_read: OnRead | None = None
    for_all: Sequence[Callable[[Mapping[int, str]], Awaitable[None]]] = ()
    long_documents: LongDocuments = field(default_factory=LongDocuments)

    async def round(self) -> None:
        """Run the chores for all watched users once. An error for one user is logged and does not affect the others.

        After all users the first unexpected error, if any, is raised.
        """
        names: dict[int, str] = {}
        watched: list[int] = []
        unexpected: list[Exception] = []

        async def visit(user: UserDocument) -> None:
            names[user.id] = user.name
            try:
                if await self._reconcile_if_watched(user):
                    watched.append(user.id)
            except CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - the attributes of one user must not affect the others
                self.log.failure("reconciling user {id} failed", id=user.id)
                unexpected.append(error)

        await Session(self.oned, None, self.on_read).visit_users(visit, self._skip)
        for run_for_all in self.for_all:
            try:
                await run_for_all(names)
            except OpenNebulaError as error:
                self.log.warn("postponing work for all users: {error}", error=str(error))
        self.log.debug("reconciled {watched} of {users} users", watched=len(watched), users=len(names))
        if unexpected:
            raise unexpected[0]

    def _skip(self, user_id: int) -> None:
        self.log.warn("postponing work for user {id}: their document is too long or malformed", id=user_id)

    async def _reconcile_if_watched(self, user: UserDocument) -> bool:
        """Run the chores for a user if they are watched, and return whether they are."""
        until = watched_until(user)
        if until is None:
            return False
        try:
            await self._reconcile(user, until)
        except OpenNebulaError as error:
            self.log.warn("postponing work for user {name}: {error}", name=user.name, error=str(error))
        return True

    async def _reconcile(self, user: UserDocument, until: int) -> None:
        now = int(self.clock.seconds())
        session = Session(self.oned, user.name, self.on_read, self.long_documents)
        run = ChoreRun(session, user, now, is_thorough=until <= now, log=self.log)
        for chore in self.chores:
            await chore(run)
        if run.keeps_watching and run.is_thorough:
            await watch(run.session, user, now)
        elif run.is_thorough:
            await unwatch(run.session, user)


class ReconcilerService(Recurring):
    """Runs rounds at intervals with jitter, so that several processes do not run them at the same time.

    `jitter` returns a number from 0 to 1. `on_round` is called with the outcome of every round: done, waits (for oned),
    or failed.
    """

    def __init__(
        self,
        reconciler: Reconciler,
        clock: IReactorTime,
        jitter: Callable[[], float],
        log: Logger,
        on_round: Callable[[str], None] = lambda outcome: None,
    ) -> None:
        first = INTERVAL * jitter()
        super().__init__(self._round, first, clock, log, what="reconciling", after_failure=INTERVAL)
        self._reconciler = reconciler
        self._jitter = jitter
        self._on_round = on_round

    async def _round(self) -> float:
        outcome = "done"
        try:
            await self._reconciler.round()
        except CancelledError:
            raise
        except OpenNebulaError as error:
            outcome = "waits"
            self._log.warn("postponing the round: {error}", error=str(error))
        except Exception:
            self._on_round("failed")
            raise
        self._on_round(outcome)
        return INTERVAL * (0.5 + self._jitter())


class ReportService(Recurring):
    """Runs a report once when the daemon starts, and again until oned has replied."""

    def __init__(self, report: Callable[[], Awaitable[None]], clock: IReactorTime, log: Logger) -> None:
        super().__init__(self._run_report, 0.0, clock, log, what="the report at the start", after_failure=None)
        self._report = report

    async def _run_report(self) -> float | None:
        try:
            await self._report()
        except OpenNebulaError as error:
            self._log.warn("postponing the report at the start: {error}", error=str(error))
            return INTERVAL
        return None
