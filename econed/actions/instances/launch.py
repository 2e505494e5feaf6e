"""Creating the machines of a RunInstances call exactly once, even if it arrives several times or at several processes.

The calls of oned for a launch of one instance, which each take some milliseconds:

1. At the same time, all that is read: the image, the instance types, the user with their key pairs, the names of the
   clusters, and the machines created since this process last read (`econed.actions.instances.token_machines`).
2. The machine is created on HOLD, with the call's client token, a digest of the call and its number of instances.
3. The machines created since are read: another process may be carrying out the same call. The instances of the call are
   the machines with the token that have the lowest ids, as many as the call requested. oned assigns ids in ascending
   order, so as soon as there are that many, no later machine can be among them: all processes get the same result.
   Each process marks and terminates the machines that it created in excess.
4. The machine is released; tags and public IPs of its network interfaces are given before.
5. It is read again for the response.

Of several machines the first is created and step 3 is carried out before the others are created. The reservation's id
is derived from its id, and the request that has created the first machine carries out the launch. All others with the
same token only watch, as long as it makes progress: they complete it when it stands still, because its process died.
A request with the token of a launch in the same process joins that launch.

No machine is released before all exist: if too few can be created, the others are discarded, and a machine that has
been released may be running. When the call is repeated, its machines are found and unfinished steps are completed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from econed.actions.client_tokens import ClientToken
from econed.actions.instances.capacity import launch_error
from econed.actions.instances.creating import CreatedMachines, create_machines, discard
from econed.actions.instances.releasing import complete, equip_interfaces, release_all
from econed.actions.instances.token_machines import TokenMachines, find_again
from econed.actions.instances.view import reservation_id_of
from econed.actions.machines.facts import LAUNCH_COUNT
from econed.errors import EC2Error, OpenNebulaError, OpenNebulaRefusal
from econed.ids import reservation_id
from econed.opennebula.states import VmState
from econed.opennebula.template import attribute

if TYPE_CHECKING:
    from econed.actions.call import Call
    from econed.actions.instances.plan import LaunchPlan
    from econed.opennebula.documents import VirtualMachine

STANDSTILL = 10
"""Seconds without progress after which a launch that another request began is completed by this one.

oned takes tenths of a second for a machine. If the other request is only slow, both create machines, and each discards
its own that are in excess.
"""

MAX_WATCH = 600
"""Seconds after which a launch that another request began is completed by this one even if it makes progress."""

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.2, 2.0
"""Seconds between two reads of a launch that another request carries out; each pause is twice as long as the last."""

_MAX_ROUNDS = 8


async def launch(call: Call, plan: LaunchPlan, known: TokenMachines | None) -> tuple[VirtualMachine, ...]:
    """Create the machines of a call, between `plan.min_count` and `plan.max_count`, and return them.

    `known` are the machines of its token. Raises `EC2Error` IdempotentParameterMismatch if the token was used for
    another call, IdempotentInstanceTerminated if all instances of the call are terminated, and the exception of
    `launch_error` if oned creates too few machines. After that the token can be used again, because discarded machines
    do not count.
    """
    if plan.token is None or known is None:
        return await _launch_without_token(call, plan)
    work = partial(_launch_once, call, plan, plan.token, known)
    if call.dry_run:
        return await work()
    return await call.memory.launches.run((call.session_key, plan.token), work)


async def _launch_without_token(call: Call, plan: LaunchPlan) -> tuple[VirtualMachine, ...]:
    created = await create_machines(call, plan, range(1), None)
    ids, error = created.ids, created.error
    if error is None:
        others = await create_machines(call, plan, range(1, plan.max_count), reservation_id(ids[0]))
        ids, error = (*ids, *others.ids), others.error
    if len(ids) < plan.min_count:
        reason = await launch_error(call, plan, error)
        await discard(call.session, ids)
        raise reason
    machines = await call.session.vms(ids)
    await _equip(call, plan, machines, ids)
    return await release_all(call, machines)


async def _equip(call: Call, plan: LaunchPlan, machines: Sequence[VirtualMachine], own_ids: Iterable[int]) -> None:
    """Give the interfaces of machines what the launch asks for, or discard `own_ids` and raise what refuses it."""
    try:
        await equip_interfaces(call, plan, machines)
    except (EC2Error, OpenNebulaRefusal):
        await discard(call.session, own_ids)
        raise


async def _launch_once(
    call: Call, plan: LaunchPlan, token: ClientToken, known: TokenMachines
) -> tuple[VirtualMachine, ...]:
    own_ids: set[int] = set()
    error: OpenNebulaError | EC2Error | None = None
    may_watch = not call.dry_run
    for _ in range(_MAX_ROUNDS):
        try:
            if known.first is not None:
                token.check_creator(known.first.user_template)
        except EC2Error:
            await discard(call.session, own_ids)
            raise
        instance_count = known.instance_count(plan.max_count)
        created_ids: tuple[int, ...] = ()
        if may_watch and known.first is not None and known.first.id not in own_ids:
            may_watch = False
            known = await _watch(call, plan, token, known)
            continue
        if len(known.machines) >= instance_count:
            machines = known.machines[:instance_count]
            await discard(call.session, own_ids - {machine.id for machine in machines})
            await _equip(call, plan, machines, own_ids)
            return await complete(call, machines)
        if error is None:
            created = await _create_missing(call, plan, known, instance_count)
            created_ids, error = created.ids, created.error
            own_ids |= {*created_ids}
        else:
            await _accept_fewer(call, plan, known, own_ids, error)
        known = await find_again(call, token, known, created_ids)
    await discard(call.session, own_ids)
    raise EC2Error("IncorrectState", "Another request with the same client token is being carried out.")


async def _create_missing(call: Call, plan: LaunchPlan, known: TokenMachines, instance_count: int) -> CreatedMachines:
    """Create the first machine of a call, or the others."""
    if known.first is None:
        return await create_machines(call, plan, range(1), None)
    indexes = range(len(known.machines), instance_count)
    return await create_machines(call, plan, indexes, reservation_id_of(known.first))


async def _watch(call: Call, plan: LaunchPlan, token: ClientToken, known: TokenMachines) -> TokenMachines:
    """Wait while another request carries out the launch, and return its machines as they are then.

    It has ended, or has stood still for `STANDSTILL` seconds.
    """
    pause = _SHORTEST_PAUSE
    end = call.clock.seconds() + MAX_WATCH
    progress, progress_time = _progress(known), call.clock.seconds()
    while _is_unfinished(known, plan) and call.clock.seconds() < min(end, progress_time + STANDSTILL):
        await call.pause(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
        known = await find_again(call, token, known)
        if _progress(known) != progress:
            progress, progress_time = _progress(known), call.clock.seconds()
    return known


def _is_unfinished(known: TokenMachines, plan: LaunchPlan) -> bool:
    """Whether machines are missing or on HOLD; if all were discarded, the launch has ended."""
    instance_count = known.instance_count(plan.max_count)
    is_incomplete = 0 < len(known.machines) < instance_count
    return is_incomplete or any(machine.state is VmState.HOLD for machine in known.machines[:instance_count])


def _progress(known: TokenMachines) -> tuple[int, int]:
    return len(known.machines), sum(machine.state is VmState.HOLD for machine in known.machines)


async def _accept_fewer(
    call: Call, plan: LaunchPlan, known: TokenMachines, own_ids: Iterable[int], error: OpenNebulaError | EC2Error
) -> None:
    """Reduce the call's number of instances to the existing ones; if these are too few, discard `own_ids` and raise."""
    if not isinstance(error, (OpenNebulaRefusal, EC2Error)):
        raise error  # oned may have created the machine: the client's next attempt finds it
    if len(known.machines) < plan.min_count:
        reason = await launch_error(call, plan, error)
        await discard(call.session, own_ids)
        raise reason
    await call.session.vm_update(known.machines[0].id, attribute(LAUNCH_COUNT, str(len(known.machines))))
