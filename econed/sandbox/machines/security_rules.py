"""Which security groups a machine is in, and the rules it has by them."""

from __future__ import annotations

from econed.sandbox.cloud import Cloud
from econed.sandbox.objects.virtual_machines import VirtualMachine


def join_groups(cloud: Cloud, machine: VirtualMachine) -> None:
    """Record the machine in the security groups of its NICs, and in no other, and set its rules."""
    group_ids = set(machine.security_groups())
    for group in cloud.security_groups:
        if group.id in group_ids:
            group.updated.add(machine.id)
        else:
            group.updated.discard(machine.id)
            group.updating.discard(machine.id)
    refresh_rules(cloud, machine)


def leave_groups(cloud: Cloud, machine: VirtualMachine) -> None:
    """Remove the machine from all security groups."""
    for group in cloud.security_groups:
        group.updated.discard(machine.id)
        group.updating.discard(machine.id)


def refresh_rules(cloud: Cloud, machine: VirtualMachine) -> None:
    """Set the machine's rules to those of its security groups."""
    groups = (cloud.security_groups.find(group_id) for group_id in machine.security_groups())
    machine.rules = [rule for group in groups if group is not None for rule in group.rules(cloud.networks)]
    machine.changed()
