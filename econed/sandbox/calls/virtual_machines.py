"""The calls on virtual machines, except those on devices, capacity, configuration and pools."""

from __future__ import annotations

from econed.opennebula.states import VmState
from econed.sandbox.calls.declaration import serves
from econed.sandbox.cloud import Cloud
from econed.sandbox.machines.allocation import MachineAllocator
from econed.sandbox.machines.deployment import Deployment
from econed.sandbox.machines.lifecycle import Lifecycle
from econed.sandbox.machines.restrictions import check_restricted_attributes, restricted_vm_attributes
from econed.sandbox.objects.base import Kind, Right
from econed.sandbox.objects.users import User
from econed.sandbox.objects.virtual_machines import VirtualMachine
from econed.sandbox.refusals import internal, wrong_state

_ADMIN_ACTIONS = ("resched", "unresched")


class VmCalls:
    """`one.vm.*`, except the calls on devices, capacity and configuration."""

    def __init__(self, cloud: Cloud, deployment: Deployment, lifecycle: Lifecycle, allocator: MachineAllocator) -> None:
        self._cloud = cloud
        self._deployment = deployment
        self._lifecycle = lifecycle
        self._allocator = allocator

    def _authorized(self, caller: User, vm_id: int, right: Right = Right.MANAGE) -> VirtualMachine:
        return self._cloud.get_authorized(caller, right, self._cloud.vms, vm_id)

    @serves("one.vm.allocate", str, optional=(bool,))
    def allocate(self, caller: User, text: str, on_hold: bool = False) -> int:
        """Allocate a machine from template text, not from a VM template."""
        template = self._cloud.parse(text)
        check_restricted_attributes(self._cloud.version, caller, template)
        self._cloud.rights.check(caller, Right.CREATE, Kind.VM, None)
        template.pop("TEMPLATE_NAME")
        return self._allocator.allocate(caller, template, template.get("NAME"), on_hold=on_hold).id

    @serves("one.vm.info", int, optional=(bool,))
    def info(self, caller: User, vm_id: int, _decrypt: bool = False) -> str:
        """Return the document of a machine."""
        return self._cloud.get_authorized(caller, Right.USE, self._cloud.vms, vm_id, locks=False).info_xml()

    @serves("one.vm.action", str, int)
    def action(self, caller: User, action: str, vm_id: int) -> int:
        """Perform an action (`Lifecycle.perform`)."""
        machine = self._authorized(caller, vm_id, Right.ADMIN if action in _ADMIN_ACTIONS else Right.MANAGE)
        self._lifecycle.perform(machine, action, caller)
        return vm_id

    @serves("one.vm.update", int, str, optional=(int,))
    def update(self, caller: User, vm_id: int, text: str, append: int = 0) -> int:
        """Replace a machine's user attributes (0), or merge into them (1)."""
        machine = self._authorized(caller, vm_id)
        restricted = restricted_vm_attributes(self._cloud.version)
        machine.user_template = self._cloud.updated_template(caller, machine.user_template, text, append, restricted)
        machine.invalidate()
        self._deployment.reconsider()
        return vm_id

    @serves("one.vm.snapshotcreate", int, str)
    def snapshot(self, caller: User, vm_id: int, _name: str) -> int:
        """Refuse a snapshot of a whole machine, which the sandbox does not make."""
        self._authorized(caller, vm_id)
        raise internal("The sandbox makes no snapshots of machines")

    @serves("one.vm.recover", int, int)
    def recover(self, caller: User, vm_id: int, operation: int) -> int:
        """Recover a machine (`Lifecycle.recover`); requires ADMIN rights."""
        self._lifecycle.recover(self._authorized(caller, vm_id, Right.ADMIN), operation)
        return vm_id

    @serves("one.vm.deploy", int, int, optional=(bool, int, str))
    def deploy(self, caller: User, vm_id: int, host_id: int, *_surplus: object) -> int:
        """Deploy a PENDING or HOLD machine on a host."""
        machine = self._authorized(caller, vm_id, Right.ADMIN)
        self._cloud.get_authorized(caller, Right.MANAGE, self._cloud.hosts, host_id)
        if machine.state not in (VmState.PENDING, VmState.HOLD):
            raise wrong_state("Deploy action is not available for state " + machine.state_name)
        machine.epoch += 1
        self._deployment.deploy(machine, host_id)
        return vm_id
