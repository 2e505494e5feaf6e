"""Changing attributes of an instance (EC2 API Reference, ModifyInstanceAttribute)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from econed.actions.action import action
from econed.actions.instances.group_changes import group_change
from econed.actions.instances.launch_groups import GroupNames
from econed.actions.machines.interfaces import Interface, interfaces_of
from econed.actions.machines.lookup import find_machines
from econed.actions.machines.rights import check_may_manage
from econed.errors import EC2Error
from econed.ids import INSTANCE
from econed.opennebula.documents import Right

if TYPE_CHECKING:
    from econed.actions.call import Call
    from econed.opennebula.documents import VirtualMachine


@action()
async def modify_instance_attribute(call: Call, *, instance_id: str, groups: Sequence[str] = ()) -> None:
    """Replace the security groups of an instance with a single network interface (EC2 ModifyInstanceAttribute).

    Raises `EC2Error` InvalidParameterCombination if there is nothing to change, and what
    ModifyNetworkInterfaceAttribute raises.
    """
    if not groups:
        raise EC2Error("InvalidParameterCombination", "No attributes specified.")
    change = await group_change(call, partial(_only_interface_of, call, instance_id), GroupNames.of(groups))

    async def make_change(target: VirtualMachine) -> None:
        await check_may_manage(call.session, target)  # also if there is nothing to change
        await change.make(call)

    await call.change_all(Right.MANAGE, [change.interface.machine], make_change)


async def _only_interface_of(call: Call, instance_id: str) -> Interface:
    """Return the only interface of a machine; raises `EC2Error` InvalidInstanceID, as EC2, if it has none or more."""
    (machine,) = await find_machines(call, [instance_id])
    interfaces = list(interfaces_of(machine))
    if len(interfaces) == 1:
        return interfaces[0]
    has = "There are multiple interfaces" if interfaces else "There is no interface"
    raise EC2Error(
        "InvalidInstanceID",
        f"{has} attached to instance '{INSTANCE.format(machine.id)}'. Please specify an interface ID for the operation "
        "instead.",
    )
