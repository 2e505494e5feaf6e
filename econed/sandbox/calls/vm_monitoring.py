"""The calls that show what was measured of machines."""

from __future__ import annotations

from collections.abc import Iterable

from econed.sandbox.calls.declaration import serves
from econed.sandbox.cloud import Cloud
from econed.sandbox.machines.monitoring import measurement_times, measurement_xml
from econed.sandbox.objects.base import Kind, Right
from econed.sandbox.objects.users import User
from econed.sandbox.objects.virtual_machines import VirtualMachine

_LAST, _ALL = 0, -1


class MonitoringCalls:
    """`one.vm.monitoring`, `one.vmpool.monitoring`."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    @serves("one.vm.monitoring", int)
    def of_machine(self, caller: User, vm_id: int) -> str:
        """Return all measurements of a machine; 5.12 requires MANAGE, 7.x USE."""
        right = Right.USE if self._cloud.version.is_v7 else Right.MANAGE
        return self._document([self._cloud.get_authorized(caller, right, self._cloud.vms, vm_id)], _ALL)

    @serves("one.vmpool.monitoring", int, optional=(int,))
    def of_pool(self, caller: User, owner: int, seconds: int = _ALL) -> str:
        """Return the measurements of the machines that the caller may see, including those in DONE.

        They are the last of each (0), all (-1), or those of the last `seconds`.
        """
        return self._document(self._cloud.each_visible(caller, self._cloud.vms, Kind.VM, owner), seconds)

    def _document(self, machines: Iterable[VirtualMachine], seconds: int) -> str:
        now, elements = self._cloud.now(), []
        for machine in sorted(machines, key=lambda machine: machine.id):
            times = list(measurement_times(machine, now))
            selected = times[-1:] if seconds == _LAST else times
            elements += [measurement_xml(machine, time) for time in selected if seconds <= 0 or time > now - seconds]
        return f"<MONITORING_DATA>{''.join(elements)}</MONITORING_DATA>"
