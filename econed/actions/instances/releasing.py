"""Releasing the machines of a launch from HOLD, when all of them are there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from econed.actions.addresses.auto_assigned import assign_addresses
from econed.actions.call import gather
from econed.actions.chores import change_unless_done
from econed.actions.instances.view import reservation_id_of
from econed.actions.machines.facts import LAUNCH_INDEX, RESERVATION, TO_RELEASE
from econed.actions.machines.interface_facts import interface_tags_text
from econed.actions.volumes.chores import assign_volumes
from econed.actions.waiting import wait_until
from econed.errors import EC2Error
from econed.opennebula.session import Session
from econed.opennebula.states import VmState
from econed.opennebula.template import attribute, template
from econed.opennebula.values import whole_number

if TYPE_CHECKING:
    from econed.actions.call import Call
    from econed.actions.instances.plan import LaunchPlan
    from econed.opennebula.documents import VirtualMachine

_VOLUMES_TIMEOUT = 15
"""Seconds to wait for the volumes that are created with their machines."""

_UNRELEASED = frozenset({VmState.HOLD, VmState.CLONING})


async def complete(call: Call, machines: Sequence[VirtualMachine]) -> tuple[VirtualMachine, ...]:
    """Complete a launch whose machines are all there, no matter which requests created them, and return them.

    Each gets an index of its own and the launch's reservation, and those on HOLD are released. Raises `EC2Error`
    IdempotentInstanceTerminated if all are terminated.
    """
    if all(machine.state is VmState.DONE for machine in machines):
        raise EC2Error(
            "IdempotentInstanceTerminated",
            "The client token was used in a request whose instances have been terminated.",
        )
    reservation = reservation_id_of(machines[0])
    renumbered = list(_renumbered(machines, reservation))
    await gather(
        call.session.vm_update(
            machine.id, template(attribute(LAUNCH_INDEX, str(index)), attribute(RESERVATION, reservation))
        )
        for machine, index in renumbered
    )
    if renumbered:
        machines = await call.session.vms([machine.id for machine in machines])
    return await release_all(call, machines)


def _renumbered(machines: Sequence[VirtualMachine], reservation: str) -> Iterator[tuple[VirtualMachine, int]]:
    """Yield the machines that need another index or reservation, with their new indexes.

    oned may create machines in another order than it was called, so their indexes need not be in the order of ids. All
    processes that see the same machines choose the same indexes.
    """
    wrong: list[VirtualMachine] = []
    free = dict.fromkeys(range(len(machines)))
    for machine in machines:
        index = whole_number(machine.user_template.text(LAUNCH_INDEX))
        if index in free and reservation_id_of(machine) == reservation:
            del free[index]
        else:
            wrong.append(machine)
    return zip(wrong, free, strict=True)


async def equip_interfaces(call: Call, plan: LaunchPlan, machines: Iterable[VirtualMachine]) -> None:
    """Give the interfaces of machines the tags and the public IPs of a launch, before the machines are released.

    A machine that has been released got them then; clients may have changed them since. Raises the errors of
    `assign_addresses`.
    """
    unreleased = [
        machine for machine in machines if machine.state in _UNRELEASED and TO_RELEASE not in machine.user_template
    ]
    if plan.interface_tags:
        await gather(
            call.session.vm_update(machine.id, interface_tags_text(machine, plan.interface_tags))
            for machine in unreleased
        )
    if plan.has_public_ip and unreleased:
        await assign_addresses(call, unreleased)


async def release_all(call: Call, machines: Sequence[VirtualMachine]) -> tuple[VirtualMachine, ...]:
    """Release machines that are on HOLD, and return all as they are then; `machines` are as they are now.

    Those whose volumes take too long are left to the chore.
    """

    def have_volumes(current: Sequence[VirtualMachine]) -> bool:
        return not any(machine.state is VmState.CLONING for machine in current)

    read = partial(call.session.vms, [machine.id for machine in machines])
    machines = await wait_until(call, have_volumes, read, timeout=_VOLUMES_TIMEOUT, known=machines)
    on_hold = [machine for machine in machines if machine.state is VmState.HOLD]
    await gather(
        call.session.vm_update(machine.id, attribute(TO_RELEASE, "YES"))
        for machine in machines
        if machine.state is VmState.CLONING
    )
    await gather(release(call.session, machine) for machine in on_hold)
    return await read() if on_hold else tuple(machines)


async def release(session: Session, machine: VirtualMachine) -> None:
    """Release a machine that is on HOLD; the volumes created for it become its own."""
    await assign_volumes(session, machine)
    await change_unless_done(session.vm_action("release", machine.id))
