"""Changing the security groups of a network interface (OpenNebula attachsg and detachsg, which 5.12 has not)."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from econed.actions.instances.launch_groups import GroupNames, Protection, groups_by_names
from econed.actions.machines.interfaces import find_interfaces
from econed.actions.machines.lookup import find_settled_machines
from econed.actions.networks.lookup import subnets
from econed.actions.tasks import TaskGroup
from econed.errors import EC2Error, OpenNebulaCode, OpenNebulaRefusal, XmlRpcFault
from econed.ids import INSTANCE

if TYPE_CHECKING:
    from econed.actions.call import Call
    from econed.actions.machines.interfaces import Interface

_SETTLE_TIMEOUT = 15


@dataclass(frozen=True)
class GroupChange:
    """The groups, by OpenNebula id, that the NIC of an interface is to have instead of those that it has."""

    interface: Interface
    wanted: frozenset[int]

    async def make(self, call: Call) -> None:
        """Make the change. New groups are added first: a NIC without any is not filtered.

        What another request has changed meanwhile is no error. Raises `EC2Error` UnsupportedOperation if this oned
        cannot change groups, and the refusals of `nic_add_group` and `nic_remove_group`.
        """
        present = frozenset(self.interface.nic.security_group_ids)
        for group_id in sorted(self.wanted - present):
            await self._change(call, call.session.nic_add_group, group_id)
        for group_id in sorted(present - self.wanted):
            await self._change(call, call.session.nic_remove_group, group_id)

    async def _change(
        self, call: Call, change: Callable[[int, int, int], Coroutine[Any, Any, None]], group_id: int
    ) -> None:
        machine_id, nic_id = self.interface.machine.id, self.interface.nic.nic_id
        try:
            await change(machine_id, nic_id, group_id)
        except OpenNebulaRefusal as refusal:
            if refusal.code == XmlRpcFault.UNKNOWN_METHOD:
                raise _unsupported() from refusal
            if refusal.code != OpenNebulaCode.ACTION:
                raise
            # The machine was busy, or the change is made already.
            await find_settled_machines(call, [INSTANCE.format(machine_id)], timeout=_SETTLE_TIMEOUT)
            (current,) = await find_interfaces(call, [self.interface.id])
            if (group_id in current.nic.security_group_ids) != (group_id in self.wanted):
                await change(machine_id, nic_id, group_id)


async def group_change(
    call: Call, find: Callable[[], Coroutine[Any, Any, Interface]], names: GroupNames
) -> GroupChange:
    """Return the change that gives the interface that `find` returns these security groups and no others.

    Raises `EC2Error` MissingParameter without groups, the errors of `find_groups`, and those of `Protection.check`.
    """
    if not names:
        raise EC2Error("MissingParameter", "The request must contain at least one security group")
    async with TaskGroup() as reads:
        finding, groups = reads.start(find()), reads.start(groups_by_names(call, [names]))
        networks = reads.start(subnets(call))
    interface = finding.result
    subnet = next((each for each in networks.result if each.network.id == interface.nic.network_id), None)
    protection = Protection(call.settings, call.caller.name)
    protection.check(groups.result[names], subnet, are_only=True)
    protection.check_aliases(groups.result[names], bool(interface.nic.text("ALIAS_IDS")))
    return GroupChange(interface, frozenset(group.id for group in groups.result[names]))


def _unsupported() -> EC2Error:
    return EC2Error(
        "UnsupportedOperation",
        "This version of OpenNebula cannot change the security groups of a network interface: it keeps those that the "
        "instance was run with.",
    )
