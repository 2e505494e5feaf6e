"""Creating the machines of a RunInstances call exactly once, even if it arrives several times or at several processes.

Every machine is created on HOLD with the call's client token, a digest of the call and its number of instances. Then
the caller's own machines are read, newest first, in all states, back to the lifetime of tokens. The instances of the
call are those with the token that have the lowest ids, as many as the call requested. oned assigns ids in ascending
order, so as soon as there are that many, no later machine can be among them: all processes get the same result. Each
process marks and terminates the machines that it created in excess; then the instances are released. When the call is
repeated, they are found and unfinished steps are completed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

from econed.actions.call import gather
from econed.actions.chores import change_unless_done
from econed.actions.client_tokens import ClientToken, creator_digest
from econed.actions.instances.block_devices import create_volumes, delete_volumes
from econed.actions.instances.capacity import launch_error
from econed.actions.instances.plan import LaunchPlan, machine_name, machine_text
from econed.actions.instances.view import reservation_id_of
from econed.actions.machines.facts import DISCARDED, LAUNCH_COUNT, LAUNCH_INDEX, RESERVATION, TO_RELEASE
from econed.actions.pacing import ITEM_COST
from econed.actions.volumes.chores import assign_volumes
from econed.actions.waiting import wait_until
from econed.errors import EC2Error, NotStorable, OpenNebulaError, OpenNebulaRefusal
from econed.ids import reservation_id
from econed.opennebula.pools import OwnerFilter, StateFilter
from econed.opennebula.session import Session
from econed.opennebula.states import VmState
from econed.opennebula.template import attribute, template
from econed.opennebula.values import whole_number
from econed.slots import MAX_CALLS_PER_REQUEST, Slots

if TYPE_CHECKING:
    from econed.actions.call import Call
    from econed.opennebula.documents import VirtualMachine

TOKEN_LIFETIME = 24 * 3600
"""Seconds for which a client token is valid; it is stored on the machines only, so tokens do not accumulate."""

_VOLUMES_TIMEOUT = 15
"""Seconds to wait for the volumes that are created with their machines."""

_PAGE_SIZE = 100
_MAX_ROUNDS = 4


@dataclass(frozen=True)
class _CreatedMachines:
    """The ids of the machines that were created, in ascending order, and the error of those that were not."""

    ids: tuple[int, ...]
    error: OpenNebulaError | EC2Error | None


@dataclass(frozen=True)
class _TokenMachines:
    """The machines of the call to which a client token belongs, lowest id first.

    A token belongs to the call that created the machine with the lowest id among those with the token. Machines of
    another call with the token are not included, and the process that created them discards them. `newest_id` is the
    highest id among all machines read, with or without the token.
    """

    machines: tuple[VirtualMachine, ...]
    newest_id: int

    @classmethod
    def of(cls, by_id: Mapping[int, VirtualMachine], newest_id: int) -> _TokenMachines:
        """Select from all machines with a token those of the call to which the token belongs."""
        machines = [by_id[machine_id] for machine_id in sorted(by_id)]
        digests = [creator_digest(machine.user_template) for machine in machines]
        of_call = (machine for machine, digest in zip(machines, digests, strict=True) if digest == digests[0])
        return cls(tuple(of_call), newest_id)

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(machine.id for machine in self.machines)

    @property
    def first(self) -> VirtualMachine | None:
        return self.machines[0] if self.machines else None

    def instance_count(self, plan: LaunchPlan) -> int:
        """The number of instances of the call: as stored on its first machine, where its owner can change it."""
        stored_count = self.machines[0].user_template.text(LAUNCH_COUNT) if self.machines else ""
        return whole_number(stored_count, largest=plan.max_count) or plan.max_count


async def launch(call: Call, plan: LaunchPlan) -> tuple[VirtualMachine, ...]:
    """Create the machines of a call, between `plan.min_count` and `plan.max_count`, and return them.

    Raises `EC2Error` IdempotentParameterMismatch if the token was used for another call, IdempotentInstanceTerminated
    if all instances of the call are terminated, and the exception of `launch_error` if oned creates too few machines.
    After that the token can be used again, because discarded machines do not count.
    """
    if plan.token is not None:
        return await _launch_once(call, plan, plan.token)
    created = await _create(call, plan, plan.max_count, _TokenMachines((), -1))
    if len(created.ids) < plan.min_count:
        error = await launch_error(call, plan, created.error)
        await discard(call.session, created.ids)
        raise error
    return await _release_all(call, await call.session.vms(created.ids))


async def _launch_once(call: Call, plan: LaunchPlan, token: ClientToken) -> tuple[VirtualMachine, ...]:
    oldest = call.now - TOKEN_LIFETIME
    known = await _read_token_machines(call, token, is_too_old=lambda machine: machine.stime < oldest)
    own_ids: set[int] = set()
    error: OpenNebulaError | EC2Error | None = None
    for _ in range(_MAX_ROUNDS):
        try:
            if known.first is not None:
                token.check_creator(known.first.user_template)
        except EC2Error:
            await discard(call.session, own_ids)
            raise
        instance_count = known.instance_count(plan)
        if len(known.machines) >= instance_count:
            await discard(call.session, own_ids - {*known.ids[:instance_count]})
            return await _complete(call, known.machines[:instance_count])
        if error is None:
            created = await _create(call, plan, instance_count - len(known.machines), known)
            own_ids, error = own_ids | {*created.ids}, created.error
        else:
            await _accept_fewer(call, plan, known, own_ids, error)
        known = await _reread_token_machines(call, token, known)
    await discard(call.session, own_ids)
    raise EC2Error("IncorrectState", "Another request with the same client token is being carried out.")


async def _accept_fewer(
    call: Call, plan: LaunchPlan, known: _TokenMachines, own_ids: Iterable[int], error: OpenNebulaError | EC2Error
) -> None:
    """Reduce the call's number of instances to the existing ones; if these are too few, discard `own_ids` and raise."""
    if not isinstance(error, (OpenNebulaRefusal, EC2Error)):
        raise error  # oned may have created the machine: the client's next attempt finds it
    if len(known.machines) < plan.min_count:
        reason = await launch_error(call, plan, error)
        await discard(call.session, own_ids)
        raise reason
    await call.session.vm_update(known.ids[0], attribute(LAUNCH_COUNT, str(len(known.machines))))


async def _read_token_machines(
    call: Call, token: ClientToken, *, is_too_old: Callable[[VirtualMachine], bool]
) -> _TokenMachines:
    """Read the caller's own machines in all states, newest first, until one is too old, and return those of the token.

    Machines are never removed from this list, and new ones are added at its beginning: pages by offset can contain a
    machine twice, but miss none.
    """
    by_id: dict[int, VirtualMachine] = {}
    newest_id = -1
    for offset in count(0, _PAGE_SIZE):
        page = await call.session.vm_page(_PAGE_SIZE, offset, owner=OwnerFilter.MINE, state=StateFilter.ANY)
        newest_id = max([newest_id, *(machine.id for machine in page)])
        by_id |= {machine.id: machine for machine in page if _has_token(machine, token) and not is_too_old(machine)}
        if len(page) < _PAGE_SIZE or any(is_too_old(machine) for machine in page):
            break
    return _TokenMachines.of(by_id, newest_id)


async def _reread_token_machines(call: Call, token: ClientToken, known: _TokenMachines) -> _TokenMachines:
    """Read the known machines of a token again, and those created since."""
    new = await _read_token_machines(call, token, is_too_old=lambda machine: machine.id <= known.newest_id)
    reread = [machine for machine in await call.session.vms(known.ids) if _has_token(machine, token)]
    by_id = {machine.id: machine for machine in (*reread, *new.machines)}
    return _TokenMachines.of(by_id, new.newest_id)


async def _create(call: Call, plan: LaunchPlan, machine_count: int, known: _TokenMachines) -> _CreatedMachines:
    """Create `machine_count` machines on HOLD in addition to those known.

    The first machine of a call is created before the others, because their reservation id is derived from its id.
    """
    start = len(known.machines)
    if known.first is not None:
        return await _instantiate(call, plan, range(start, start + machine_count), reservation_id_of(known.first))
    first = await _instantiate(call, plan, range(1), None)
    if first.error is not None:
        return first
    others = await _instantiate(call, plan, range(1, machine_count), reservation_id(first.ids[0]))
    return _CreatedMachines((*first.ids, *others.ids), others.error)


async def _instantiate(
    call: Call, plan: LaunchPlan, indexes: Iterable[int], reservation: str | None
) -> _CreatedMachines:
    """Create machines of a plan; the template text of each, which may be long, is only built when it is sent."""
    name = machine_name(plan)
    machine_ids: list[int] = []
    errors: list[OpenNebulaError | EC2Error] = []
    slots = Slots(MAX_CALLS_PER_REQUEST)

    async def create(index: int) -> None:
        volumes: tuple[int, ...] = ()
        try:
            async with slots:
                volumes = await create_volumes(call, plan.devices, plan.zone_cluster_id)
                await call.budget.spend(ITEM_COST)
                text = machine_text(plan, index, reservation, plan.devices.disks(volumes, call.now))
                machine_ids.append(await plan.instance_type.create_machine(call.session, name, text))
        except (OpenNebulaError, EC2Error, NotStorable) as error:
            errors.append(_not_storable() if isinstance(error, NotStorable) else error)
            await delete_volumes(call, volumes)

    await gather(create(index) for index in indexes)
    return _CreatedMachines(tuple(sorted(machine_ids)), errors[0] if errors else None)


async def _complete(call: Call, machines: Sequence[VirtualMachine]) -> tuple[VirtualMachine, ...]:
    """Number the machines of a call consecutively, no matter which process created them, and release those on HOLD."""
    if all(machine.state is VmState.DONE for machine in machines):
        raise EC2Error(
            "IdempotentInstanceTerminated",
            "The client token was used in a request whose instances have been terminated.",
        )
    reservation = reservation_id_of(machines[0])

    async def set_index(index: int, machine: VirtualMachine) -> None:
        facts = machine.user_template
        if facts.text(LAUNCH_INDEX) == str(index) and reservation_id_of(machine) == reservation:
            return
        text = template(attribute(LAUNCH_INDEX, str(index)), attribute(RESERVATION, reservation))
        await call.session.vm_update(machine.id, text)

    await gather(set_index(index, machine) for index, machine in enumerate(machines))
    return await _release_all(call, machines)


async def _release_all(call: Call, machines: Sequence[VirtualMachine]) -> tuple[VirtualMachine, ...]:
    """Release machines that are on HOLD; those whose volumes take too long are left to the chore."""

    def have_volumes(current: Sequence[VirtualMachine]) -> bool:
        return not any(machine.state is VmState.CLONING for machine in current)

    read = partial(call.session.vms, [machine.id for machine in machines])
    machines = await wait_until(call, have_volumes, read, timeout=_VOLUMES_TIMEOUT, known=machines)
    for machine in machines:
        if machine.state is VmState.CLONING:
            await call.session.vm_update(machine.id, attribute(TO_RELEASE, "YES"))
    await gather(release(call.session, machine) for machine in machines if machine.state is VmState.HOLD)
    return await call.session.vms([machine.id for machine in machines])


async def release(session: Session, machine: VirtualMachine) -> None:
    """Release a machine that is on HOLD; the volumes created for it become its own."""
    await assign_volumes(session, machine)
    await change_unless_done(session.vm_action("release", machine.id))


async def discard(session: Session, machine_ids: Iterable[int]) -> None:
    """Discard machines that are not to become instances: mark them, so that no client sees them, and terminate them."""

    async def mark_and_terminate(machine_id: int) -> None:
        await session.vm_update(machine_id, attribute(DISCARDED, "YES"))
        await change_unless_done(session.vm_action("terminate-hard", machine_id))

    await gather(mark_and_terminate(machine_id) for machine_id in machine_ids)


def _has_token(machine: VirtualMachine, token: ClientToken) -> bool:
    return token.is_on(machine.user_template) and DISCARDED not in machine.user_template


def _not_storable() -> EC2Error:
    """Return the error for a machine whose type or key pair contains text that oned does not store unchanged."""
    return EC2Error(
        "InvalidParameterValue",
        "The instance type or the key pair contains text that OpenNebula cannot store unchanged.",
    )
