"""Chores: completing launches and terminations that requests could not complete, and terminations needed since."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from econed.actions.chores import ChoreRun, change_unless_done
from econed.actions.instances.creating import discard
from econed.actions.instances.releasing import release
from econed.actions.instances.view import reservation_id_of, was_shut_down_by_guest
from econed.actions.machines.facts import (
    DISCARDED,
    LAUNCH_INDEX,
    SHUTDOWN_BEHAVIOR,
    TERMINATE,
    TERMINATING,
    TO_RELEASE,
)
from econed.actions.watch import terminating_since, unwatch_termination
from econed.errors import OpenNebulaCode, OpenNebulaRefusal
from econed.opennebula.pools import OwnerFilter, StateFilter
from econed.opennebula.states import VmState

if TYPE_CHECKING:
    from econed.opennebula.documents import VirtualMachine


HOLD_AGE = 600
"""Seconds after the creation of a launch's newest machine after which no request uses those on HOLD any more."""


async def terminate_shut_down(run: ChoreRun) -> None:
    """Terminate the machines that their guests shut down and that are to be terminated then.

    That is EC2's InstanceInitiatedShutdownBehavior `terminate`.
    """
    async with aclosing(run.machines(StateFilter.NOT_DONE if run.is_thorough else VmState.POWEROFF)) as machines:
        async for machine in machines:
            if machine.user_template.text(SHUTDOWN_BEHAVIOR) != TERMINATE:
                continue
            run.keep_watching()
            if was_shut_down_by_guest(machine):
                run.log.info("terminating machine {id}: shut down by its guest", id=machine.id)
                await _terminate(run, machine)


async def terminate_marked(run: ChoreRun) -> None:
    """Terminate the machines marked for termination during their deployment.

    These may belong to other users, if this user has the right to manage them.
    """
    if terminating_since(run.user) is None:
        return
    has_pending = False
    async with aclosing(run.machines(StateFilter.NOT_DONE, OwnerFilter.VISIBLE)) as machines:
        async for machine in machines:
            if TERMINATING in machine.user_template:
                has_pending |= await _terminate_marked(run, machine)
    if has_pending:
        run.keep_watching()
    else:
        await unwatch_termination(run.session, run.user, run.now)


async def _terminate_marked(run: ChoreRun, machine: VirtualMachine) -> bool:
    """Terminate a marked machine, and return whether this user is responsible for its termination.

    Any user with access to a machine may have marked it: a refusal of oned must not prevent the termination of the
    machines after it.
    """
    try:
        await _terminate(run, machine)
    except OpenNebulaRefusal as refusal:
        if refusal.code != OpenNebulaCode.AUTHORIZATION:
            raise
        return machine.uid == run.user.id
    run.log.info("terminating machine {id}: requested during its deployment", id=machine.id)
    return True


async def _terminate(run: ChoreRun, machine: VirtualMachine) -> None:
    await change_unless_done(run.session.vm_action("terminate-hard", machine.id))


async def terminate_left_over(run: ChoreRun) -> None:
    """Terminate the machines that an unfinished request left on HOLD, and release those whose volumes took long.

    A launch of many machines may take longer than `HOLD_AGE`. So a machine is left over only if all machines on HOLD of
    its reservation are older.
    """
    newest: dict[str, int] = {}
    candidates: list[tuple[int, str]] = []
    async with aclosing(run.machines(VmState.HOLD)) as machines:
        async for machine in machines:
            facts = machine.user_template
            if LAUNCH_INDEX not in facts:
                continue
            if DISCARDED in facts:
                await discard(run.session, [machine.id])
            elif TO_RELEASE in facts:
                await release(run.session, machine)
            else:
                reservation = reservation_id_of(machine)
                newest[reservation] = max(newest.get(reservation, 0), machine.stime)
                candidates.append((machine.id, reservation))
    for machine_id, reservation in candidates:
        if newest[reservation] < run.now - HOLD_AGE:
            run.log.info("terminating machine {id}: left on HOLD by an unfinished request", id=machine_id)
            await discard(run.session, [machine_id])
        else:
            run.keep_watching()
