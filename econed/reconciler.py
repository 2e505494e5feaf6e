"""Finishes what requests began and could not wait for, in whatever process it runs, also when theirs has died.

What is to be done stands on OpenNebula's objects; whose are worth reading stands on the users (`econed.actions.watch`).
Everything is done in the session of the user it belongs to, by the chores of `econed.actions.chores`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from econed.actions.chores import Chore, Look
from econed.actions.watch import unwatch, watch, watched_until
from econed.errors import OpenNebulaError
from econed.interfaces import IOpenNebula
from econed.opennebula.documents import Note, UserDocument
from econed.opennebula.session import Session

INTERVAL = 60.0
"""Seconds from one round to the next, on average."""


def _logger() -> Logger:
    return Logger(namespace="econed.reconciler")


@dataclass(frozen=True)
class Reconciler:
    """One round after the other through the users for whom something may be left to do.

    `for_all` is what a round does once, whoever is watched: it is told all users.
    """

    one: IOpenNebula
    clock: IReactorTime
    chores: Sequence[Chore]
    note: Note | None = None
    log: Logger = field(default_factory=_logger)
    for_all: Sequence[Callable[[Sequence[UserDocument]], Awaitable[None]]] = ()

    async def round(self) -> None:
        """Look once through all watched users. What fails for one user is logged, and does not keep the others."""
        users = await Session(self.one, None, self.note).users()
        for look_after in self.for_all:
            try:
                await look_after(users)
            except OpenNebulaError as error:
                self.log.warn("what is left to do for all users waits: {error}", error=str(error))
        for user in users:
            until = watched_until(user)
            if until is None:
                continue
            try:
                await self._look_after(user, until)
            except OpenNebulaError as error:
                self.log.warn("what is left to do for user {name} waits: {error}", name=user.name, error=str(error))

    async def _look_after(self, user: UserDocument, until: int) -> None:
        now = int(self.clock.seconds())
        look = Look(Session(self.one, user.name, self.note), user, now, thorough=until <= now, log=self.log)
        for chore in self.chores:
            await chore(look)
        if look.kept and look.thorough:
            await watch(look.session, user, now)
        elif look.thorough:
            await unwatch(look.session, user)


class _Recurring(Service):
    """Runs something on the clock, one run after the other, for as long as the daemon does.

    The first run comes `first` seconds after the start; each returns the seconds until the next, None for no more.
    """

    def __init__(
        self, run: Callable[[], Awaitable[float | None]], first: float, clock: IReactorTime, log: Logger
    ) -> None:
        self._run = run
        self._first = first
        self._clock = clock
        self._log = log
        self._next: IDelayedCall | None = None
        self._running: Deferred[None] | None = None

    def startService(self) -> None:
        """Have the first run come."""
        super().startService()
        self._run_after(self._first)

    def stopService(self) -> Deferred[None] | None:
        """Have no more runs; one that is under way is broken off, the next process goes on with it."""
        super().stopService()
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if self._running is not None:
            self._running.cancel()
        return self._running

    def _run_after(self, seconds: float) -> None:
        self._next = self._clock.callLater(seconds, self._start)

    def _start(self) -> None:
        self._next = None
        self._running = Deferred.fromCoroutine(self._run_on())

    async def _run_on(self) -> None:
        again: float | None = None
        try:
            again = await self._run()
        except CancelledError:
            self._log.debug("broken off, as the daemon stops")
        finally:
            self._running = None
        if again is not None and self.running:
            self._run_after(again)


class ReconcilerService(_Recurring):
    """Runs rounds at intervals that keep several processes out of step.

    `jitter` returns a number from 0 to 1.
    """

    def __init__(
        self, reconciler: Reconciler, clock: IReactorTime, jitter: Callable[[], float], log: Logger | None = None
    ) -> None:
        super().__init__(self._round, INTERVAL * jitter(), clock, log or _logger())
        self._reconciler = reconciler
        self._jitter = jitter

    async def _round(self) -> float:
        try:
            await self._reconciler.round()
        except CancelledError:
            raise
        except OpenNebulaError as error:
            self._log.warn("no round this time: {error}", error=str(error))
        except Exception:  # noqa: BLE001 - one bad round must not be the last
            self._log.failure("a round failed")
        return INTERVAL * (0.5 + self._jitter())


class ReportService(_Recurring):
    """Has something looked at once when the daemon starts, and again until oned has answered."""

    def __init__(self, report: Callable[[], Awaitable[None]], clock: IReactorTime, log: Logger | None = None) -> None:
        super().__init__(self._look, 0.0, clock, log or _logger())
        self._report = report

    async def _look(self) -> float | None:
        try:
            await self._report()
        except CancelledError:
            raise
        except OpenNebulaError as error:
            self._log.warn("the look at the start waits: {error}", error=str(error))
            return INTERVAL
        except Exception:  # noqa: BLE001 - what is only said at start must not do harm
            self._log.failure("a look at the start failed")
        return None
