"""The calls on the machine pool: short and full lists, lists by id, accounting."""

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

_ID = re.compile(r"\s*[0-9]+")
"""oned reads the digits with which an item of a list of ids begins."""


class VmPoolCalls:
    """`one.vmpool.*`."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    def _select(
        self, caller: User, owner: int, start: int, end: int, state: int, search: str
    ) -> Sequence[VirtualMachine]:
        if search:
            kind = "JSON query" if self._cloud.version.is_v7 else "Full text"
            raise internal(f"{kind} search is not supported by the SQL backend")
        if state < StateFilter.ANY:
            raise bad_call("Incorrect filter_flag, state")
        if state > max(VmState):
            raise bad_call(f"Incorrect state filter {state}")
        machines = self._cloud.vms.newest_first(start, end)
        if state == StateFilter.NOT_DONE:
            machines = (machine for machine in machines if machine.state is not VmState.DONE)
        elif state != StateFilter.ANY:
            machines = (machine for machine in machines if machine.state == state)
        return page(self._cloud.each_visible(caller, machines, Kind.VM, owner), start, end)

    @serves("one.vmpool.info", int, int, int, int, optional=(str,))
    def info(self, caller: User, owner: int, start: int, end: int, state: int, search: str = "") -> str:
        """Return the machines in the short form."""
        machines = self._select(caller, owner, start, end, state, search)
        return f"<VM_POOL>{''.join([machine.short_xml() for machine in machines])}</VM_POOL>"

    @serves("one.vmpool.infoextended", int, int, int, int, optional=(str,))
    def infoextended(self, caller: User, owner: int, start: int, end: int, state: int, search: str = "") -> str:
        """Return the machines in full."""
        machines = self._select(caller, owner, start, end, state, search)
        return f"<VM_POOL>{''.join([machine.xml() for machine in machines])}</VM_POOL>"

    @serves("one.vmpool.infoset", str, bool)
    def infoset(self, caller: User, ids: str, is_extended: bool) -> str:
        """Return the machines with these ids, including those in DONE, that the caller may see."""
        vm_ids = {int(match[0]) for match in map(_ID.match, ids.split(",")) if match}
        machines = (self._cloud.vms.find(vm_id) for vm_id in sorted(vm_ids, reverse=True))
        rights = self._cloud.rights
        elements = [
            machine.xml() if is_extended else machine.short_xml()
            for machine in machines
            if machine is not None and rights.allows(caller, Right.USE, Kind.VM, machine, locks=False)
        ]
        return f"<VM_POOL>{''.join(elements)}</VM_POOL>"

    @serves("one.vmpool.accounting", int, int, int)
    def accounting(self, caller: User, owner: int, start: int, end: int) -> str:
        """Return the history records of machines that overlap a period (epoch seconds, -1 for an open end)."""
        is_v7, elements = self._cloud.version.is_v7, []
        machines = (machine for machine in self._cloud.vms if not machine.ended or machine.ended >= start)
        for machine in self._cloud.each_visible(caller, machines, Kind.VM, owner):
            for record in machine.history:
                starts_before_end = end == -1 or record.started <= end
                ends_after_start = start == -1 or not record.ended or record.ended >= start
                if starts_before_end and ends_after_start:
                    vm_element = machine.accounting_xml.get(record.sequence, "")
                    elements.append(record.xml(machine.id, is_v7=is_v7, vm_element=vm_element))
        return f"<HISTORY_RECORDS>{''.join(elements)}</HISTORY_RECORDS>"
