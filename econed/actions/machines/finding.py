"""Which of the caller's virtual machines EC2 shows, and finding them by instance id."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from econed.actions.by_id import named
from econed.actions.machines.facts import DISCARDED
from econed.actions.machines.state import is_busy
from econed.actions.waiting import wait_until
from econed.ids import INSTANCE
from econed.opennebula.pools import OwnerFilter, StateFilter
from econed.opennebula.read_session import SET_SIZE
from econed.opennebula.states import VmState

if TYPE_CHECKING:
    from econed.actions.call import Call
    from econed.actions.listing import Sets
    from econed.opennebula.documents import VirtualMachine

_NEWEST_ENDED = 200


def is_shown(call: Call, machine: VirtualMachine) -> bool:
    """Whether a machine is an instance to EC2: not one that was taken back, and if it has ended, not long ago.

    What has ended stays visible for terminated_instances_expiration_time, as Amazon's does for about an hour: the
    waiters of the SDKs take no NotFound for an answer.
    """
    if DISCARDED in machine.user_template:
        return False
    return machine.state is not VmState.DONE or machine.etime > _forgotten_before(call)


async def machines(call: Call, instance_ids: Sequence[str]) -> tuple[VirtualMachine, ...]:
    """Return the machines with these instance ids, in this order and each once.

    Raises `EC2Error` InvalidInstanceID.Malformed, or InvalidInstanceID.NotFound for what does not exist, is not shown,
    or may not be seen by the caller.
    """
    return await named(INSTANCE, instance_ids, partial(_shown, call))


async def settled(call: Call, instance_ids: Sequence[str], *, timeout: float) -> tuple[VirtualMachine, ...]:
    """Return the machines once none is in a transitional state, or as they are after `timeout` seconds.

    Raises as `machines`.
    """

    def are_settled(found: tuple[VirtualMachine, ...]) -> bool:
        return not any(is_busy(machine.state, machine.lcm_state) for machine in found)

    return await wait_until(call, are_settled, partial(machines, call, instance_ids), timeout=timeout)


async def listed_ids(call: Call, *, ended: bool = True, owner: int = OwnerFilter.VISIBLE) -> tuple[int, ...]:
    """Return the ids of all machines that may be instances to the caller, lowest first.

    These are all that live and, with `ended`, those that ended lately. The cost does not grow with all machines that
    ever ended: accounting knows what was on a host lately, whenever it was made, and one that ended before it ever ran
    is in no account, but among the newest of the ended. Requests of a user that wait for this share one reading.
    """
    return await call.shared.get(call.caller.name, ("machines", ended, owner), lambda: _listed_ids(call, ended, owner))


async def _listed_ids(call: Call, ended: bool, owner: int) -> tuple[int, ...]:
    living = await call.session.vm_ids(owner, StateFilter.NOT_DONE)
    if not (ended and call.settings.describe_with_terminated_instances):
        return tuple(sorted(living))
    lately = await call.session.vm_ids_since(_forgotten_before(call), owner)
    newest = await call.session.newest_vms(_NEWEST_ENDED, owner, VmState.DONE)
    shown = await call.budget.those(newest, partial(is_shown, call))
    return tuple(sorted({*living, *lately, *(machine.id for machine in shown)}))


async def machine_sets(call: Call, ids: Sequence[int]) -> Sets[VirtualMachine]:
    """Yield what reads the machines with these OpenNebula ids that are instances to EC2, in sets of a few hundred."""
    for start in range(0, len(ids), SET_SIZE):
        yield partial(_shown, call, ids[start : start + SET_SIZE])


async def _shown(call: Call, ids: Sequence[int]) -> list[VirtualMachine]:
    return await call.budget.those(await call.session.vms(ids), partial(is_shown, call))


def _forgotten_before(call: Call) -> int:
    return call.now - call.settings.terminated_instances_expiration_time
