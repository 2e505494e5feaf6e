"""Finishes what requests began and could not wait for, in whatever process it runs, also when theirs has died.

What is to be done stands on the machines themselves; whose machines are worth reading stands on the users
(`econed.actions.watch`). Everything is done in the session of the user it belongs to, and doing it twice does no harm.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from econed.actions.instance_facts import DISCARDED, LAUNCH_INDEX, SHUTDOWN_BEHAVIOR, TERMINATE, TERMINATING
from econed.actions.instance_view import was_shut_down_inside
from econed.actions.launch import discard, unless_moved_on
from econed.actions.watch import terminating_since, unwatch, unwatch_termination, watch, watched_until
from econed.errors import OpenNebulaError
from econed.interfaces import IOpenNebula
from econed.opennebula.documents import Note, UserDocument, VirtualMachine
from econed.opennebula.session import MINE, NOT_DONE, VISIBLE, Session
from econed.opennebula.states import VmState

INTERVAL = 60.0
"""Seconds from one round to the next, on average."""

HOLD_AGE = 600
"""Seconds after which a machine that RunInstances left on HOLD belongs to no request any more, and is ended."""


@dataclass(frozen=True)
class Reconciler:
    """One round after the other through the users for whom something may be left to do."""

    one: IOpenNebula
    clock: IReactorTime
    note: Note | None = None

    log = Logger(namespace="econed.reconciler")

    async def round(self) -> None:
        """Look once through all watched users. What fails for one user is logged, and does not keep the others."""
        for user in await Session(self.one, None, self.note).users():
            until = watched_until(user)
            if until is None:
                continue
            try:
                await self._look_after(user, until)
            except OpenNebulaError as error:
                self.log.warn("what is left to do for user {name} waits: {error}", name=user.name, error=str(error))

    async def _look_after(self, user: UserDocument, until: int) -> None:
        session = Session(self.one, user.name, self.note)
        now = int(self.clock.seconds())
        for state in (VmState.HOLD, VmState.POWEROFF):
            async with aclosing(self._machines(session, MINE, state)) as machines:
                async for machine in machines:
                    await self._finish(session, machine, now)
        if terminating_since(user) is not None:
            await self._terminate(session, user, now)
        if until <= now:
            await self._go_on_or_end(session, user, now)

    async def _terminate(self, session: Session, user: UserDocument, now: int) -> None:
        """End what is to end as soon as oned takes it, which may be in any state, and another's whom he may manage."""
        found = False
        async with aclosing(self._machines(session, VISIBLE, NOT_DONE)) as machines:
            async for machine in machines:
                if TERMINATING in machine.user_template:
                    found = True
                    self.log.info("ending machine {id}, which was to end while it was being deployed", id=machine.id)
                    await unless_moved_on(session.vm_action("terminate-hard", machine.id))
        if not found:
            await unwatch_termination(session, user, now)

    async def _finish(self, session: Session, machine: VirtualMachine, now: int) -> None:
        if _is_left_over(machine, now):
            self.log.info("ending machine {id}, left on HOLD by a request that never came to its end", id=machine.id)
            await discard(session, [machine.id])
        elif _ends_on_shutdown(machine) and was_shut_down_inside(machine):
            self.log.info("ending machine {id}, which was shut down from inside and is to end then", id=machine.id)
            await unless_moved_on(session.vm_action("terminate-hard", machine.id))

    async def _go_on_or_end(self, session: Session, user: UserDocument, now: int) -> None:
        """Watch a user for another span if any machine of his may still need it, else no more."""
        async with aclosing(self._machines(session, VISIBLE, NOT_DONE)) as machines:
            async for machine in machines:
                if _is_waited_for(machine):
                    await watch(session, user, now)
                    return
        await unwatch(session, user)

    async def _machines(self, session: Session, owner: int, state: int) -> AsyncGenerator[VirtualMachine, None]:
        ids = await session.vm_ids(owner, state)
        async with aclosing(session.vm_sets(ids)) as sets:
            async for each in sets:
                for machine in each:
                    yield machine


def _is_on_hold_for_launch(machine: VirtualMachine) -> bool:
    return machine.state is VmState.HOLD and LAUNCH_INDEX in machine.user_template


def _is_left_over(machine: VirtualMachine, now: int) -> bool:
    if not _is_on_hold_for_launch(machine):
        return False
    return DISCARDED in machine.user_template or machine.stime < now - HOLD_AGE


def _is_waited_for(machine: VirtualMachine) -> bool:
    is_to_end = TERMINATING in machine.user_template
    return is_to_end or _ends_on_shutdown(machine) or _is_on_hold_for_launch(machine)


def _ends_on_shutdown(machine: VirtualMachine) -> bool:
    return machine.user_template.text(SHUTDOWN_BEHAVIOR) == TERMINATE


class ReconcilerService(Service):
    """Runs rounds for as long as the daemon does, at intervals that keep several processes out of step.

    `jitter` returns a number from 0 to 1.
    """

    log = Logger(namespace="econed.reconciler")

    def __init__(self, reconciler: Reconciler, clock: IReactorTime, jitter: Callable[[], float]) -> None:
        self._reconciler = reconciler
        self._clock = clock
        self._jitter = jitter
        self._next: IDelayedCall | None = None
        self._running: Deferred[None] | None = None

    def startService(self) -> None:
        """Have the first round come after part of an interval."""
        super().startService()
        self._schedule(self._jitter())

    def stopService(self) -> Deferred[None] | None:
        """Have no more rounds; one that is running is broken off, the next process goes on with it."""
        super().stopService()
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if self._running is not None:
            self._running.cancel()
        return self._running

    def _schedule(self, intervals: float) -> None:
        self._next = self._clock.callLater(INTERVAL * intervals, self._start)

    def _start(self) -> None:
        self._next = None
        self._running = Deferred.fromCoroutine(self._round())

    async def _round(self) -> None:
        try:
            await self._reconciler.round()
        except OpenNebulaError as error:
            self.log.warn("no round this time: {error}", error=str(error))
        except Exception:  # noqa: BLE001 - one bad round must not be the last
            self.log.failure("a round failed")
        finally:
            self._running = None
            if self.running:
                self._schedule(0.5 + self._jitter())
