"""The call that changes the capacity of machines."""

from __future__ import annotations

import re
from typing import Final

from econed.opennebula.states import LcmState, VmState
from econed.sandbox.calls.declaration import serves
from econed.sandbox.cloud import Cloud
from econed.sandbox.machines.restrictions import check_restricted_attributes
from econed.sandbox.objects.base import Right
from econed.sandbox.objects.history import HistoryAction
from econed.sandbox.objects.infrastructure import Host
from econed.sandbox.objects.users import User
from econed.sandbox.objects.virtual_machines import VirtualMachine
from econed.sandbox.quotas import Charge
from econed.sandbox.refusals import internal, wrong_state
from econed.sandbox.template import Template

_INTEGER: Final = re.compile(r"\s*([+-]?[0-9]+)")
_FLOAT: Final = re.compile(r"\s*([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)")
_RESIZABLE_STATES = (
    *(VmState.POWEROFF, VmState.INIT, VmState.PENDING, VmState.HOLD, VmState.UNDEPLOYED),
    *(VmState.CLONING, VmState.CLONING_FAILURE),
)
_MAX_INT = 2**31 - 1


class CapacityCalls:
    """`one.vm.resize`. The dummy driver cannot resize a running machine."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    @serves("one.vm.resize", int, str, optional=(bool,))
    def resize(self, caller: User, vm_id: int, text: str, enforce: bool = False) -> int:
        """Change CPU, MEMORY and VCPU of a machine; refuses more than its owner's quotas (512) or its host allow.

        7.x lets oneadmin exceed the capacity of the host without `enforce`; otherwise it is ignored (measured).
        """
        template = self._cloud.parse(text)
        machine = self._cloud.get_authorized(caller, Right.MANAGE, self._cloud.vms, vm_id)
        check_restricted_attributes(self._cloud.version, caller, template)
        capacity = _requested_capacity(template)
        growth = self._growth(machine, capacity)
        self._cloud.charge(caller, machine.gid, [growth], uid=machine.uid)
        self._cloud.count_usage(machine.uid, machine.gid, [growth], -1)
        _check_state(machine)
        self._set_capacity(machine, capacity, checks_host=enforce or not (machine.is_v7 and caller.is_oneadmin))
        self._cloud.recount_usage(machine)
        self._record(machine, caller)
        return vm_id

    def _growth(self, machine: VirtualMachine, capacity: dict[str, float]) -> Charge:
        """Return the change of the owner's usage; as in oned, a limit that is exceeded already refuses it, too."""
        cpu, memory = float(machine.template.get("CPU", "0")), float(machine.template.get("MEMORY", "0"))
        amounts = {"CPU": capacity.get("CPU", cpu) - cpu, "MEMORY": capacity.get("MEMORY", memory) - memory}
        if machine.is_v7 and machine.state in (VmState.PENDING, VmState.HOLD, VmState.ACTIVE):
            amounts |= {f"RUNNING_{name}": amount for name, amount in amounts.items()}
        return Charge("VM", "", amounts)

    def _set_capacity(self, machine: VirtualMachine, capacity: dict[str, float], *, checks_host: bool) -> None:
        host = self._cloud.hosts.find(machine.history[-1].host_id) if machine.history else None
        if host is not None and machine.id not in host.vm_ids:
            host = None
        if host is not None:
            host.remove_machine(machine.id, machine.cpu, machine.memory)
        before = machine.template.copy()
        for name, value in capacity.items():
            machine.template.replace(name, f"{value:g}" if name == "CPU" else str(int(value)))
        if host is not None:
            missing = _missing_capacity(host, machine) if checks_host else ""
            if missing:
                machine.template = before
            host.add_machine(machine.id, machine.cpu, machine.memory)
            if missing:
                raise wrong_state(missing)
        machine.invalidate()

    def _record(self, machine: VirtualMachine, caller: User) -> None:
        if machine.is_v7 and machine.state is VmState.POWEROFF and machine.history:
            record, now = machine.history[-1], self._cloud.now()
            machine.update_record(action=HistoryAction.RESIZE, by=(caller.id, caller.gid), ended=now)
            machine.next_record(now, record.action)
            machine.update_record(running=(now, now))


def _requested_capacity(template: Template) -> dict[str, float]:
    """Return the values that a template requests, without those that are 0 or no numbers, which change nothing."""
    capacity: dict[str, float] = {}
    for name, pattern in (("CPU", _FLOAT), ("MEMORY", _INTEGER), ("VCPU", _INTEGER)):
        match = pattern.match(template.get(name))
        value = float(match[1]) if match else 0.0
        if value < 0:
            raise internal(f"{name} must be a positive {'float or ' if name == 'CPU' else ''}integer value.")
        if value:
            capacity[name] = value
    return capacity


def _check_state(machine: VirtualMachine) -> None:
    if machine.state is VmState.ACTIVE and machine.lcm_state is LcmState.RUNNING and machine.is_v7:
        raise wrong_state("Hotplug resize not supported by driver dummy")
    if machine.state not in _RESIZABLE_STATES:
        raise wrong_state(f"Cannot resize a VM in state {machine.state_name}")


def _missing_capacity(host: Host, machine: VirtualMachine) -> str:
    """Return why a machine does not fit on a host. oned counts CPU in 32 bits: more than they hold always fits."""
    if machine.memory > host.memory - host.used_memory:
        return f"Not enough memory: {machine.memory}/{host.memory}"
    if host.cpu - host.used_cpu < machine.cpu <= _MAX_INT:
        return f"Not enough CPU: {machine.cpu}/{host.cpu}"
    return ""
