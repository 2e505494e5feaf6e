"""The calls that list machines: short, in full, by number, and what accounting says of them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from econed.opennebula.pools import StateFilter
from econed.opennebula.states import VmState
from econed.sandbox.calls.declaration import serves
from econed.sandbox.cloud import Cloud
from econed.sandbox.objects.base import Kind, Right
from econed.sandbox.objects.pools import page
from econed.sandbox.objects.users import User
from econed.sandbox.objects.virtual_machines import VirtualMachine
from econed.sandbox.refusals import bad_call, internal

_NUMBER = re.compile(r"\s*[0-9]+")
"""What oned takes for a number in a list: the digits that a part begins with."""


class VmPoolCalls:
    """`one.vmpool.*`."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    def _listed(
        self, caller: User, flag: int, start: int, end: int, state: int, search: str
    ) -> Sequence[VirtualMachine]:
        if search:
            kind = "JSON query" if self._cloud.version.modern else "Full text"
            raise internal(f"{kind} search is not supported by the SQL backend")
        if state < StateFilter.ANY:
            raise bad_call("Incorrect filter_flag, state")
        if state > max(VmState):
            raise bad_call(f"Incorrect state filter {state}")
        if state == StateFilter.ANY:
            machines = self._cloud.vms.newest_first()
        elif state == StateFilter.NOT_DONE:
            machines = [machine for machine in self._cloud.vms.newest_first() if machine.state is not VmState.DONE]
        else:
            machines = [machine for machine in self._cloud.vms.newest_first() if machine.state == state]
        return page(self._cloud.visible(caller, machines, Kind.VM, flag), start, end)

    @serves("one.vmpool.info", int, int, int, int, optional=(str,))
    def info(self, caller: User, flag: int, start: int, end: int, state: int, search: str = "") -> str:
        """List machines in the short form."""
        machines = self._listed(caller, flag, start, end, state, search)
        return f"<VM_POOL>{''.join([machine.short_xml() for machine in machines])}</VM_POOL>"

    @serves("one.vmpool.infoextended", int, int, int, int, optional=(str,))
    def infoextended(self, caller: User, flag: int, start: int, end: int, state: int, search: str = "") -> str:
        """List machines in full."""
        machines = self._listed(caller, flag, start, end, state, search)
        return f"<VM_POOL>{''.join([machine.xml() for machine in machines])}</VM_POOL>"

    @serves("one.vmpool.infoset", str, bool)
    def infoset(self, caller: User, numbers: str, extended: bool) -> str:
        """Show the machines with these numbers, also DONE ones; those that are not to be seen are left out."""
        wanted = {int(match[0]) for match in map(_NUMBER.match, numbers.split(",")) if match}
        found = (self._cloud.vms.find(number) for number in sorted(wanted, reverse=True))
        rights = self._cloud.rights
        seen = [vm for vm in found if vm is not None and rights.may(caller, Right.USE, Kind.VM, vm, locks=False)]
        return f"<VM_POOL>{''.join([vm.xml() if extended else vm.short_xml() for vm in seen])}</VM_POOL>"

    @serves("one.vmpool.accounting", int, int, int)
    def accounting(self, caller: User, flag: int, start: int, end: int) -> str:
        """Show the history records of machines that ran in a window of time (epoch seconds, -1 open)."""
        modern, parts = self._cloud.version.modern, []
        for machine in self._cloud.visible(caller, self._cloud.vms, Kind.VM, flag):
            for record in machine.history:
                begun = end == -1 or record.started <= end
                lasting = start == -1 or not record.ended or record.ended >= start
                if begun and lasting:
                    inside = machine.frozen.get(record.sequence, "")
                    parts.append(record.xml(machine.id, modern=modern, inside=inside))
        return f"<HISTORY_RECORDS>{''.join(parts)}</HISTORY_RECORDS>"
