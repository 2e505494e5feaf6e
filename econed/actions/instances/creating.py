"""Creating the machines of a launch on HOLD, and discarding them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from econed.actions.call import gather
from econed.actions.chores import change_unless_done
from econed.actions.instances.block_devices import create_volumes, delete_volumes
from econed.actions.instances.plan import LaunchPlan, machine_name, machine_text
from econed.actions.machines.facts import DISCARDED
from econed.actions.pacing import ITEM_COST
from econed.errors import EC2Error, NotStorable, OpenNebulaError
from econed.opennebula.session import Session
from econed.opennebula.template import attribute

if TYPE_CHECKING:
    from econed.actions.call import Call


@dataclass(frozen=True)
class CreatedMachines:
    """The ids of the machines that were created, in ascending order, and the error of one that was not."""

    ids: tuple[int, ...]
    error: OpenNebulaError | EC2Error | None = None


async def create_machines(
    call: Call, plan: LaunchPlan, indexes: Sequence[int], reservation: str | None
) -> CreatedMachines:
    """Create machines of a plan, and no more after the first error: the others would fail for the same reason.

    The template text of each, which may be long, is only built when it is sent.
    """
    name = machine_name(plan)
    machine_ids: list[int] = []
    errors: list[OpenNebulaError | EC2Error] = []

    async def create(index: int) -> None:
        if errors:
            return
        volumes: tuple[int, ...] = ()
        try:
            volumes = await create_volumes(call, plan.devices, plan.zone_cluster_id)
            await call.budget.spend(ITEM_COST)
            text = machine_text(plan, index, reservation, plan.devices.disks(volumes, call.now))
            machine_ids.append(await plan.instance_type.create_machine(call.session, name, text))
        except (OpenNebulaError, EC2Error, NotStorable) as error:
            errors.append(_not_storable() if isinstance(error, NotStorable) else error)
            await delete_volumes(call, volumes)

    await gather(create(index) for index in indexes)
    return CreatedMachines(tuple(sorted(machine_ids)), errors[0] if errors else None)


async def discard(session: Session, machine_ids: Iterable[int]) -> None:
    """Discard machines that are not to become instances: mark them, so that no client sees them, and terminate them."""

    async def mark_and_terminate(machine_id: int) -> None:
        await session.vm_update(machine_id, attribute(DISCARDED, "YES"))
        await change_unless_done(session.vm_action("terminate-hard", machine_id))

    await gather(mark_and_terminate(machine_id) for machine_id in machine_ids)


def _not_storable() -> EC2Error:
    """Return the error for a machine whose type or key pair contains text that oned does not store unchanged."""
    return EC2Error(
        "InvalidParameterValue",
        "The instance type or the key pair contains text that OpenNebula cannot store unchanged.",
    )
