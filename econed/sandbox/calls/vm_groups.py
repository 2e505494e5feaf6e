"""The calls on VM groups, and those that put machines into them."""

from __future__ import annotations

from econed.opennebula.states import VmState
from econed.sandbox.calls.declaration import serves
from econed.sandbox.cloud import Cloud
from econed.sandbox.machines.affinity import add_to_role, is_allowed, leave_vm_group
from econed.sandbox.machines.deployment import Deployment
from econed.sandbox.objects.base import Kind, Right, check_name
from econed.sandbox.objects.pools import page
from econed.sandbox.objects.users import User
from econed.sandbox.objects.virtual_machines import VirtualMachine
from econed.sandbox.objects.vm_groups import Role, VmGroup, check_rules, own_attributes
from econed.sandbox.refusals import Refused, internal, wrong_state
from econed.sandbox.template import Vector


class VmGroupCalls:
    """`one.vmgroup.*`, `one.vmgrouppool.info`, `one.vm.vmgroupadd`, `one.vm.vmgroupdel`. Names are unique per owner."""

    def __init__(self, cloud: Cloud, deployment: Deployment) -> None:
        self._cloud = cloud
        self._deployment = deployment

    @serves("one.vmgroup.allocate", str)
    def allocate(self, caller: User, text: str) -> int:
        """Allocate a VM group with its roles."""
        pool, template = self._cloud.vm_groups, self._cloud.parse(text)
        self._cloud.rights.check(caller, Right.CREATE, Kind.VMGROUP, None)
        name = template.get("NAME")
        namesake = pool.find_by_name(caller.id, name)
        if namesake is not None:
            raise internal(f"NAME is already taken by VMGroup {namesake.id}.")
        check_name(name)
        template.pop("NAME")
        group = VmGroup(-1, caller.id, caller.gid, caller.name, caller.gname, name, template=template)
        for requested in template.pop("ROLE"):
            if isinstance(requested, dict):
                group.add_role(requested)
        check_rules(template, group.roles)
        group.id = pool.allocate_id()
        pool.add(group)
        return group.id

    @serves("one.vmgroup.info", int, optional=(bool,))
    def info(self, caller: User, group_id: int, _decrypt: bool = False) -> str:
        """Return the document of a VM group."""
        return self._cloud.get_authorized(caller, Right.USE, self._cloud.vm_groups, group_id, locks=False).xml()

    @serves("one.vmgrouppool.info", int, int, int)
    def pool(self, caller: User, owner: int, start: int, end: int) -> str:
        """Return the document of the VM groups that the caller may use."""
        groups = self._cloud.visible(caller, self._cloud.vm_groups.newest_first(), Kind.VMGROUP, owner)
        return f"<VM_GROUP_POOL>{''.join(group.xml() for group in page(groups, start, end))}</VM_GROUP_POOL>"

    def _managed(self, caller: User, group_id: int) -> VmGroup:
        return self._cloud.get_authorized(caller, Right.MANAGE, self._cloud.vm_groups, group_id)

    @serves("one.vmgroup.update", int, str, optional=(int,))
    def update(self, caller: User, group_id: int, text: str, append: int = 0) -> int:
        """Replace attributes (0), or merge into them (1), of a group without machines; a ROLE is ignored."""
        group = self._managed(caller, group_id)
        template = self._cloud.updated_template(caller, group.template, text, append)
        template.pop("ROLE")
        try:
            if group.vm_ids:
                raise internal(f"VM Group has {len(group.vm_ids)} VMs")
            check_rules(template, group.roles)
        except Refused as refusal:
            raise internal(f"Cannot update template. {refusal.text}") from refusal
        group.template = template
        return group_id

    @serves("one.vmgroup.delete", int)
    def delete(self, caller: User, group_id: int) -> int:
        """Delete a VM group, even one that machines are in."""
        self._cloud.vm_groups.remove(self._managed(caller, group_id))
        return group_id

    def _requested_role(self, text: str) -> Vector:
        roles = self._cloud.parse(text).vectors("ROLE")
        if not roles:
            raise wrong_state("No ROLE attribute in template")
        return roles[0]

    def _free_role(self, group: VmGroup, role_id: int, change: str) -> Role:
        """Return a role; refuses (2048) one that does not exist, or that machines are in."""
        role = next((role for role in group.roles if role.id == role_id), None)
        if role is None or role.vm_ids:
            problem = "doesn't exist" if role is None else "has VMs"
            raise wrong_state(f"Unable to {change} role {role_id}, the role {problem}")
        return role

    @serves("one.vmgroup.roleadd", int, str)
    def add_role(self, caller: User, group_id: int, text: str) -> int:
        """Add a role (7.x)."""
        group, requested = self._managed(caller, group_id), self._requested_role(text)
        try:
            group.add_role(requested)
        except Refused as refusal:
            raise wrong_state(refusal.text) from refusal
        return group_id

    @serves("one.vmgroup.roleupdate", int, int, str)
    def update_role(self, caller: User, group_id: int, role_id: int, text: str) -> int:
        """Merge attributes into those of a role without machines (7.x)."""
        group, requested = self._managed(caller, group_id), own_attributes(self._requested_role(text))
        role = self._free_role(group, role_id, "update")
        if group.role(requested.get("NAME", "")) not in (None, role):
            raise wrong_state(f"VMGroup {group_id} Role {role_id} can not update name")
        changed = Role(role.id, {**role.attributes, **requested})
        self._check_rules(group, [changed if other is role else other for other in group.roles])
        role.attributes = changed.attributes
        return group_id

    @serves("one.vmgroup.roledelete", int, int)
    def delete_role(self, caller: User, group_id: int, role_id: int) -> int:
        """Delete a role without machines (7.x)."""
        group = self._managed(caller, group_id)
        role = self._free_role(group, role_id, "delete")
        self._check_rules(group, [other for other in group.roles if other is not role])
        group.roles.remove(role)
        return group_id

    @staticmethod
    def _check_rules(group: VmGroup, roles: list[Role]) -> None:
        try:
            check_rules(group.template, roles)
        except Refused as refusal:
            raise wrong_state(refusal.text) from refusal

    @serves("one.vm.vmgroupadd", int, int, str)
    def add_machine(self, caller: User, vm_id: int, group_id: int, role_name: str) -> int:
        """Put a machine into a role, if its host suits; it stays in other groups, too (7.x)."""
        machine = self._machine(caller, vm_id)
        group = self._cloud.get_authorized(caller, Right.USE, self._cloud.vm_groups, group_id)
        if not role_name:
            raise wrong_state("Missing role name in VM Group definition")
        role = group.role(role_name)
        if role is not None and machine.state is VmState.ACTIVE and machine.history:
            host = self._cloud.hosts.find(machine.history[-1].host_id)
            if host is not None and not is_allowed(self._cloud, machine, host, group, role):
                raise wrong_state("Cannot fulfill affinity constraints on the host of the machine")
        add_to_role(machine, group, {"VMGROUP_ID": str(group_id), "ROLE": role_name})
        return vm_id

    @serves("one.vm.vmgroupdel", int)
    def remove_machine(self, caller: User, vm_id: int) -> int:
        """Take a machine out of its VM group (7.x)."""
        machine = self._machine(caller, vm_id)
        leave_vm_group(self._cloud, machine)
        machine.template.pop("VMGROUP")
        machine.invalidate()
        self._deployment.reconsider()
        return vm_id

    def _machine(self, caller: User, vm_id: int) -> VirtualMachine:
        return self._cloud.get_authorized(caller, Right.MANAGE, self._cloud.vms, vm_id)
