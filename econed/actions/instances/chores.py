"""Ending machines that could not be ended, or had no reason to end, while a request was there (chores)."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from econed.actions.chores import ChoreRun, change_unless_done
from econed.actions.instances.view import was_shut_down_inside
from econed.actions.machines.facts import SHUTDOWN_BEHAVIOR, TERMINATE, TERMINATING
from econed.actions.watch import terminating_since, unwatch_termination
from econed.errors import OpenNebulaCode, OpenNebulaRefusal
from econed.opennebula.pools import OwnerFilter, StateFilter
from econed.opennebula.states import VmState

if TYPE_CHECKING:
    from econed.opennebula.documents import VirtualMachine


async def end_shut_down(run: ChoreRun) -> None:
    """End the machines that are to end on shutdown and were shut down from inside.

    (EC2, InstanceInitiatedShutdownBehavior terminate.)
    """
    async with aclosing(run.machines(StateFilter.NOT_DONE if run.is_thorough else VmState.POWEROFF)) as machines:
        async for machine in machines:
            if machine.user_template.text(SHUTDOWN_BEHAVIOR) != TERMINATE:
                continue
            run.keep_watching()
            if was_shut_down_inside(machine):
                run.log.info("ending machine {id}, which was shut down from inside and is to end then", id=machine.id)
                await _end(run, machine)


async def end_terminating(run: ChoreRun) -> None:
    """End what was told to end while it was being deployed, also another's machine that this user may manage."""
    if terminating_since(run.user) is None:
        return
    found = False
    async with aclosing(run.machines(StateFilter.NOT_DONE, OwnerFilter.VISIBLE)) as machines:
        async for machine in machines:
            if TERMINATING in machine.user_template:
                found |= await _ended(run, machine)
    if found:
        run.keep_watching()
    else:
        await unwatch_termination(run.session, run.user, run.now)


async def _ended(run: ChoreRun, machine: VirtualMachine) -> bool:
    """End a machine that is marked to end, and return whether it is this user's to end.

    Whoever shares a machine may have marked it: that oned refuses to end it must not keep from what comes after it.
    """
    try:
        await _end(run, machine)
    except OpenNebulaRefusal as refusal:
        if refusal.code != OpenNebulaCode.AUTHORIZATION:
            raise
        return machine.uid == run.user.id
    run.log.info("ending machine {id}, which was to end while it was being deployed", id=machine.id)
    return True


async def _end(run: ChoreRun, machine: VirtualMachine) -> None:
    await change_unless_done(run.session.vm_action("terminate-hard", machine.id))
