"""The security groups of machines, and the rules that machines have from them."""

from __future__ import annotations

from econed.opennebula.states import LcmState, VmState
from econed.sandbox.cloud import Cloud
from econed.sandbox.objects.security_groups import SecurityGroup
from econed.sandbox.objects.virtual_machines import VirtualMachine


def join_groups(cloud: Cloud, machine: VirtualMachine) -> None:
    """Record a machine in the security groups of its NICs and in no others, and set its rules."""
    group_ids = set(machine.security_group_ids())
    for group in cloud.security_groups:
        if group.id not in group_ids:
            group.remove_machine(machine.id)
        elif machine.id not in group.vm_ids:
            group.updated_vm_ids.add(machine.id)
    _set_rules(cloud, machine)


def leave_groups(cloud: Cloud, machine: VirtualMachine) -> None:
    """Remove a machine from all security groups."""
    for group in cloud.security_groups:
        group.remove_machine(machine.id)


def attach_group(cloud: Cloud, machine: VirtualMachine, group: SecurityGroup) -> None:
    """Give a machine the rules of a group that one of its NICs has got; on a host they are updated for a moment."""
    group.remove_machine(machine.id)
    if machine.state is VmState.ACTIVE and machine.lcm_state is LcmState.RUNNING:
        group.updating_vm_ids.add(machine.id)
        cloud.call_later(cloud.delays.hotplug, lambda: _finish_update(cloud, group))
    else:
        group.updated_vm_ids.add(machine.id)
    _set_rules(cloud, machine)


def detach_group(cloud: Cloud, machine: VirtualMachine, group_id: int) -> None:
    """Take the rules of a group from a machine, unless another of its NICs has it."""
    group = cloud.security_groups.find(group_id)
    if group is not None and group_id not in machine.security_group_ids():
        group.remove_machine(machine.id)
    _set_rules(cloud, machine)


def commit_rules(cloud: Cloud, group: SecurityGroup) -> None:
    """Give the machines of a group its current rules, after a moment."""
    group.waiting_vm_ids |= group.updated_vm_ids
    group.updated_vm_ids = set()
    if cloud.version.is_v7:
        _begin_update(cloud, group)
    else:
        cloud.call_later(cloud.delays.queue, lambda: _begin_update(cloud, group))


def _begin_update(cloud: Cloud, group: SecurityGroup) -> None:
    group.updating_vm_ids |= group.waiting_vm_ids
    group.waiting_vm_ids = set()
    cloud.call_later(cloud.delays.hotplug, lambda: _finish_update(cloud, group))


def _finish_update(cloud: Cloud, group: SecurityGroup) -> None:
    for machine in map(cloud.vms.find, group.updating_vm_ids):
        if machine is not None:
            _set_rules(cloud, machine)
    group.updated_vm_ids |= group.updating_vm_ids
    group.updating_vm_ids = set()


def _set_rules(cloud: Cloud, machine: VirtualMachine) -> None:
    groups = (cloud.security_groups.find(group_id) for group_id in machine.security_group_ids())
    machine.rules = [rule for group in groups if group is not None for rule in group.rules(cloud.networks)]
    machine.invalidate()
