"""The call that changes the configuration of machines."""

from __future__ import annotations

from econed.opennebula.states import LcmState, VmState
from econed.sandbox.calls.declaration import serves
from econed.sandbox.cloud import Cloud
from econed.sandbox.machines.configuration import derive_configuration
from econed.sandbox.machines.context import fill_context
from econed.sandbox.machines.hot_plug import plug
from econed.sandbox.machines.restrictions import check_restricted_attributes
from econed.sandbox.objects.base import Right
from econed.sandbox.objects.users import User
from econed.sandbox.objects.virtual_machines import VirtualMachine
from econed.sandbox.refusals import Refused, internal
from econed.sandbox.template import Template, Vector

_VECTORS = ("OS", "FEATURES", "INPUT", "GRAPHICS", "VIDEO", "RAW", "CPU_MODEL")
_UNCHANGEABLE_STATES = (VmState.INIT, VmState.DONE, VmState.SUSPENDED, VmState.STOPPED)


class ConfigurationCalls:
    """`one.vm.updateconf`."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    @serves("one.vm.updateconf", int, str, optional=(int,))
    def updateconf(self, caller: User, vm_id: int, text: str, append: int = 0) -> int:
        """Replace all vectors of the configuration (0), or merge into them (1), which 5.12 does not know.

        A CONTEXT stays if none is sent.
        """
        machine = self._cloud.get_authorized(caller, Right.MANAGE, self._cloud.vms, vm_id)
        is_running = machine.state is VmState.ACTIVE and machine.lcm_state is LcmState.RUNNING
        if machine.state in _UNCHANGEABLE_STATES or (machine.state is VmState.ACTIVE and not is_running):
            raise internal(f"configuration cannot be updated in state {machine.state_name}")
        template = self._cloud.parse(text)
        check_restricted_attributes(self._cloud.version, caller, template)
        merges = machine.is_v7 and append == 1
        for requested in template.vectors("CONTEXT")[:1]:
            self._change_context(machine, requested, merges=merges)
        _change_vectors(machine.template, template, merges=merges)
        derive_configuration(machine)
        if is_running:
            plug(self._cloud, machine, LcmState.HOTPLUG, LcmState.HOTPLUG)
        return vm_id

    def _change_context(self, machine: VirtualMachine, requested: Vector, *, merges: bool) -> None:
        if machine.context is None:
            raise internal("Virtual machine does not have context, cannot add a new one.")
        current = machine.requested_context
        machine.requested_context = {**current, **requested} if merges else dict(requested)
        try:
            fill_context(self._cloud, machine)
        except Refused:
            machine.requested_context = current
            raise


def _change_vectors(current: Template, update: Template, *, merges: bool) -> None:
    for name in _VECTORS:
        requested = update.vectors(name)
        if requested:
            kept = current.vectors(name)[:1] if merges else []
            current.replace(name, {**(kept[0] if kept else {}), **requested[0]})
        elif not merges:
            current.pop(name)
