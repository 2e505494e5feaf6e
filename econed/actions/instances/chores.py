"""Ending machines that could not be ended, or had no reason to end, while a request was there (chores)."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from econed.actions.chores import Look, unless_moved_on
from econed.actions.instances.view import was_shut_down_inside
from econed.actions.machines.facts import SHUTDOWN_BEHAVIOR, TERMINATE, TERMINATING
from econed.actions.watch import terminating_since, unwatch_termination
from econed.errors import OpenNebulaCode, OpenNebulaRefusal
from econed.opennebula.pools import OwnerFilter, StateFilter
from econed.opennebula.states import VmState

if TYPE_CHECKING:
    from econed.opennebula.documents import VirtualMachine


async def end_shut_down(look: Look) -> None:
    """End the machines that are to end on shutdown and were shut down from inside.

    (EC2, InstanceInitiatedShutdownBehavior terminate.)
    """
    async with aclosing(look.machines(StateFilter.NOT_DONE if look.thorough else VmState.POWEROFF)) as machines:
        async for machine in machines:
            if machine.user_template.text(SHUTDOWN_BEHAVIOR) != TERMINATE:
                continue
            look.keep()
            if was_shut_down_inside(machine):
                look.log.info("ending machine {id}, which was shut down from inside and is to end then", id=machine.id)
                await _end(look, machine)


async def end_terminating(look: Look) -> None:
    """End what was told to end while it was being deployed, also another's machine that this user may manage."""
    if terminating_since(look.user) is None:
        return
    found = False
    async with aclosing(look.machines(StateFilter.NOT_DONE, OwnerFilter.VISIBLE)) as machines:
        async for machine in machines:
            if TERMINATING in machine.user_template:
                found |= await _ended(look, machine)
    if found:
        look.keep()
    else:
        await unwatch_termination(look.session, look.user, look.now)


async def _ended(look: Look, machine: VirtualMachine) -> bool:
    """End a machine that is marked to end, and return whether it is this user's to end.

    Whoever shares a machine may have marked it: that oned refuses to end it must not keep from what comes after it.
    """
    try:
        await _end(look, machine)
    except OpenNebulaRefusal as refusal:
        if refusal.code != OpenNebulaCode.AUTHORIZATION:
            raise
        return machine.uid == look.user.id
    look.log.info("ending machine {id}, which was to end while it was being deployed", id=machine.id)
    return True


async def _end(look: Look, machine: VirtualMachine) -> None:
    await unless_moved_on(look.session.vm_action("terminate-hard", machine.id))
