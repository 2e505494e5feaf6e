"""The calls that change NICs of machines in place, which 5.12 lacks: security groups, attributes."""

from __future__ import annotations

from econed.opennebula.states import LcmState, VmState
from econed.sandbox.calls.declaration import serves
from econed.sandbox.cloud import Cloud
from econed.sandbox.machines.devices import authorize, resolve
from econed.sandbox.machines.restrictions import check_restricted_attributes
from econed.sandbox.machines.security_rules import attach_group, detach_group
from econed.sandbox.objects.base import Right, ids_text, parse_ids
from econed.sandbox.objects.users import User
from econed.sandbox.objects.virtual_machines import VirtualMachine
from econed.sandbox.refusals import internal, wrong_state
from econed.sandbox.template import Vector

_CHANGEABLE = [f"{way}BOUND_{measure}" for way in ("IN", "OUT") for measure in ("AVG_BW", "PEAK_BW", "PEAK_KB")]
"""What `one.vm.updatenic` changes in a NIC (oned: `VirtualMachine::nic_update`); all of it is restricted."""

_BUSY = frozenset(
    {LcmState.MIGRATE, LcmState.HOTPLUG_NIC, LcmState.HOTPLUG_NIC_POWEROFF, LcmState.UNKNOWN}
    | {state for state in LcmState if state.name.startswith("BOOT")}
)
"""States in which a driver may be creating the rules of a machine."""


class NicChangeCalls:
    """`one.vm.attachsg`, `one.vm.detachsg`, `one.vm.updatenic`.

    Groups may be changed in every state in which oned updates no rules, even of a machine in DONE (seen in 7.4), and
    the machine does not leave RUNNING.
    """

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    @serves("one.vm.attachsg", int, int, int)
    def attach_group(self, caller: User, vm_id: int, nic_id: int, group_id: int) -> int:
        """Add a security group to a NIC; the caller needs USE on its network and on all groups that it has then."""
        machine = self._cloud.vms.get(vm_id)
        nic = machine.nic(nic_id)
        if nic is None:
            raise internal(f"VM {vm_id} doesn't have NIC id {nic_id}")
        self._cloud.rights.check(caller, Right.MANAGE, machine.kind, machine)
        group_ids = parse_ids(nic.get("SECURITY_GROUPS", ""))
        changed = {**nic, "SECURITY_GROUPS": ids_text(group_ids | {group_id})}
        authorize(self._cloud, caller, resolve(self._cloud, caller, [], [changed]))
        group = self._cloud.security_groups.find(group_id)
        if group is None:
            raise wrong_state(f"Could not attach SG {group_id} to VM, SG does not exist")
        _check_not_busy(machine)
        if group_id in group_ids:
            raise wrong_state(f"VM {vm_id} SG {group_id} already in NIC {nic_id}")
        nic.update(changed)
        attach_group(self._cloud, machine, group)
        return vm_id

    @serves("one.vm.detachsg", int, int, int)
    def detach_group(self, caller: User, vm_id: int, nic_id: int, group_id: int) -> int:
        """Remove a security group from a NIC, also the last one."""
        machine = self._cloud.get_authorized(caller, Right.MANAGE, self._cloud.vms, vm_id)
        _check_not_busy(machine)
        nic = machine.nic(nic_id)
        if nic is None:
            raise wrong_state(f"VM {vm_id} doesn't have NIC id {nic_id}")
        group_ids = parse_ids(nic.get("SECURITY_GROUPS", ""))
        if group_id not in group_ids:
            raise wrong_state(f"VM {vm_id} NIC {nic_id} doesn't contain SG {group_id}")
        nic["SECURITY_GROUPS"] = ids_text(group_ids - {group_id})
        detach_group(self._cloud, machine, group_id)
        return vm_id

    @serves("one.vm.updatenic", int, int, str, optional=(int,))
    def update(self, caller: User, vm_id: int, nic_id: int, text: str, _append: int = 0) -> int:
        """Check attributes for a NIC; oned changes none but bandwidths, which the sandbox refuses to change."""
        machine = self._cloud.vms.get(vm_id)
        if machine.nic(nic_id) is None:
            raise wrong_state(f"VM {vm_id}: NIC {nic_id} does not exists")
        template = self._cloud.parse(text)
        self._cloud.rights.check(caller, Right.MANAGE, machine.kind, machine)
        nics: list[Vector] = template.vectors("NIC")
        authorize(self._cloud, caller, resolve(self._cloud, caller, [], nics))
        check_restricted_attributes(self._cloud.version, caller, template)
        refusal = f"Error updating NIC ({nic_id}) for VM {vm_id}:"
        if machine.state is VmState.ACTIVE and machine.lcm_state is not LcmState.RUNNING:
            raise wrong_state(f"{refusal} Wrong state {machine.state_name}")
        if not nics:
            raise wrong_state(f"{refusal} Wrong NIC definition, attribute is missing")
        if any(name in nics[0] for name in _CHANGEABLE):
            raise internal("The sandbox does not change bandwidths")
        return vm_id


def _check_not_busy(machine: VirtualMachine) -> None:
    if machine.state is VmState.ACTIVE and machine.lcm_state in _BUSY:
        raise wrong_state(f"VM {machine.id} is in wrong state {machine.state_name}")
