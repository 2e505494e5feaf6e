"""The VM groups of machines: joining and leaving them, and the hosts that they allow."""

from __future__ import annotations

from econed.sandbox.cloud import Cloud
from econed.sandbox.machines.devices import owner_id
from econed.sandbox.objects.base import Right
from econed.sandbox.objects.infrastructure import Host
from econed.sandbox.objects.users import User
from econed.sandbox.objects.virtual_machines import VirtualMachine
from econed.sandbox.objects.vm_groups import AFFINED, ANTI_AFFINED, Role, VmGroup
from econed.sandbox.refusals import wrong_state
from econed.sandbox.template import Template, Vector


def authorize_vm_group(cloud: Cloud, caller: User, template: Template) -> None:
    """Refuse (512) a VM group in a machine's template that the caller may not use."""
    for vector in template.vectors("VMGROUP")[:1]:
        group = _find(cloud, caller, vector)
        if group is not None:
            cloud.rights.check(caller, Right.USE, group.kind, group)


def join_vm_group(cloud: Cloud, caller: User, machine: VirtualMachine) -> None:
    """Put a new machine into the first VM group of its template, the only one that counts; refuses with 2048."""
    vectors = machine.template.pop("VMGROUP")
    if not vectors or not isinstance(vectors[0], dict):
        return
    vector = vectors[0]
    if not vector.get("ROLE"):
        raise wrong_state("Missing role name in VM Group definition")
    group = _find(cloud, caller, vector)
    if group is None:
        raise wrong_state("Cannot find VM Group to associate the VM")
    add_to_role(machine, group, {**vector, "VMGROUP_ID": str(group.id)})


def add_to_role(machine: VirtualMachine, group: VmGroup, vector: Vector) -> None:
    """Put a machine into the role of a group that a VMGROUP vector names; refuses (2048) if there is no such role."""
    role = group.role(vector["ROLE"])
    if role is None:
        raise wrong_state("Role does not exist in VM Group")
    role.vm_ids.add(machine.id)
    machine.template.add("VMGROUP", vector)
    machine.invalidate()


def leave_vm_group(cloud: Cloud, machine: VirtualMachine) -> None:
    """Remove a machine from the first of its VM groups; oned forgets to do so with others. Its template stays."""
    for vector in machine.template.vectors("VMGROUP")[:1]:
        group = cloud.vm_groups.find(int(vector["VMGROUP_ID"]))
        if group is not None:
            group.remove_machine(machine.id, vector["ROLE"])


def _find(cloud: Cloud, caller: User, vector: Vector) -> VmGroup | None:
    group_id, name = vector.get("VMGROUP_ID", ""), vector.get("VMGROUP_NAME", "")
    if group_id:
        return cloud.vm_groups.find(int(group_id)) if group_id.isdigit() else None
    return cloud.vm_groups.find_by_name(owner_id(cloud, caller, vector, "VMGROUP"), name) if name else None


def is_allowed_by_vm_group(cloud: Cloud, machine: VirtualMachine, host: Host) -> bool:
    """Whether the VM group of a machine, if it has one, allows it on a host."""
    vectors = machine.template.vectors("VMGROUP")
    group = cloud.vm_groups.find(int(vectors[0]["VMGROUP_ID"])) if vectors else None
    role = group.role(vectors[0]["ROLE"]) if group is not None else None
    return group is None or role is None or is_allowed(cloud, machine, host, group, role)


def is_allowed(cloud: Cloud, machine: VirtualMachine, host: Host, group: VmGroup, role: Role) -> bool:
    """Whether a machine may run on a host in a role of a VM group; companions that have no host do not count."""
    only, never = role.host_ids("HOST_AFFINED"), role.host_ids("HOST_ANTI_AFFINED")
    if (only and str(host.id) not in only) or str(host.id) in never:
        return False
    together = {*group.companions(role, AFFINED)} - {machine.id}
    apart = {*group.companions(role, ANTI_AFFINED)} - {machine.id}
    is_placed = any(together & other.vm_ids for other in cloud.hosts)
    return not apart & host.vm_ids and (not is_placed or bool(together & host.vm_ids))
