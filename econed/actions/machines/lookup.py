"""Which of the caller's virtual machines are EC2 instances, and finding them by instance id."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from econed.actions.by_id import find_by_ids
from econed.actions.machines.facts import DISCARDED
from econed.actions.machines.state import is_busy
from econed.actions.waiting import wait_until
from econed.ids import INSTANCE
from econed.opennebula.read_session import SET_SIZE
from econed.opennebula.states import VmState

if TYPE_CHECKING:
    from econed.actions.call import Call
    from econed.actions.sets import Sets
    from econed.opennebula.documents import VirtualMachine


def is_instance(call: Call, machine: VirtualMachine) -> bool:
    """Whether a machine is an instance to EC2: not discarded, and not ended too long ago.

    Ended machines stay visible for terminated_instances_expiration_time, on Amazon for about an hour: the SDKs' waiters
    fail on a NotFound error.
    """
    if machine.is_marked(DISCARDED):
        return False
    return machine.state is not VmState.DONE or machine.etime > ended_visible_since(call)


async def find_machines(call: Call, instance_ids: Sequence[str]) -> tuple[VirtualMachine, ...]:
    """Return the machines with these instance ids, in this order, each once.

    Raises `EC2Error` InvalidInstanceID.Malformed, or InvalidInstanceID.NotFound for a machine that does not exist, is
    not an instance (`is_instance`), or is not visible to the caller.
    """
    return await find_by_ids(INSTANCE, instance_ids, partial(read_instances, call))


async def find_settled_machines(
    call: Call, instance_ids: Sequence[str], *, timeout: float
) -> tuple[VirtualMachine, ...]:
    """Return the machines once none is in a transitional state, or as they are after `timeout` seconds.

    Raises the errors of `find_machines`.
    """

    def are_settled(machines: tuple[VirtualMachine, ...]) -> bool:
        return not any(is_busy(machine.state, machine.lcm_state) for machine in machines)

    return await wait_until(call, are_settled, partial(find_machines, call, instance_ids), timeout=timeout)


async def machine_sets(call: Call, machine_ids: Sequence[int]) -> Sets[VirtualMachine]:
    """Yield readers of the machines with these OpenNebula ids that are instances to EC2, for sets of a few hundred."""
    for start in range(0, len(machine_ids), SET_SIZE):
        yield partial(read_instances, call, machine_ids[start : start + SET_SIZE])


async def read_instances(call: Call, machine_ids: Sequence[int]) -> list[VirtualMachine]:
    """Return the machines with these OpenNebula ids that are instances to EC2."""
    return await call.budget.filtered(await call.session.vms(machine_ids), partial(is_instance, call))


def ended_visible_since(call: Call) -> int:
    """Return the time (epoch seconds) after which a machine must have ended to be visible."""
    return call.now - call.settings.terminated_instances_expiration_time
