"""The security groups of machines, and the rules that machines have from them."""

from __future__ import annotations

from econed.sandbox.cloud import Cloud
from econed.sandbox.objects.virtual_machines import VirtualMachine


def join_groups(cloud: Cloud, machine: VirtualMachine) -> None:
    """Record a machine in the security groups of its NICs and in no others, and set its rules."""
    group_ids = set(machine.security_group_ids())
    for group in cloud.security_groups:
        if group.id in group_ids:
            group.updated_vm_ids.add(machine.id)
        else:
            group.updated_vm_ids.discard(machine.id)
            group.updating_vm_ids.discard(machine.id)
    refresh_rules(cloud, machine)


def leave_groups(cloud: Cloud, machine: VirtualMachine) -> None:
    """Remove a machine from all security groups."""
    for group in cloud.security_groups:
        group.updated_vm_ids.discard(machine.id)
        group.updating_vm_ids.discard(machine.id)


def refresh_rules(cloud: Cloud, machine: VirtualMachine) -> None:
    """Set the rules of a machine to those of its security groups."""
    groups = (cloud.security_groups.find(group_id) for group_id in machine.security_group_ids())
    machine.rules = [rule for group in groups if group is not None for rule in group.rules(cloud.networks)]
    machine.invalidate()
