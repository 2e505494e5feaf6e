"""The calls on security groups."""

from __future__ import annotations

from econed.errors import OpenNebulaCode
from econed.sandbox.calls.declaration import serves
from econed.sandbox.calls.security_group_rules import with_stored_rules
from econed.sandbox.cloud import Cloud
from econed.sandbox.machines.security_rules import commit_rules
from econed.sandbox.objects.base import Kind, Right, check_name
from econed.sandbox.objects.pools import page
from econed.sandbox.objects.security_groups import DEFAULT_GROUP, SecurityGroup
from econed.sandbox.objects.users import User
from econed.sandbox.refusals import Refused, internal, not_allocated, wrong_state
from econed.sandbox.template import Template

_FIRST_GROUP_ID = 100


class SecurityGroupCalls:
    """`one.secgroup.*`, `one.secgrouppool.info`. Names are unique per owner."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    @serves("one.secgroup.allocate", str)
    def allocate(self, caller: User, text: str) -> int:
        """Allocate a security group."""
        template = self._cloud.parse(text)
        return self._create(caller, template.get("NAME"), template)

    def _create(self, caller: User, name: str, template: Template) -> int:
        cloud = self._cloud
        cloud.rights.check(caller, Right.CREATE, Kind.SECGROUP, None)
        self._check_name(caller.id, name)
        template = with_stored_rules(template, is_v7=cloud.version.is_v7)
        template.pop("NAME")
        cloud.security_groups.skip_to(_FIRST_GROUP_ID)
        group = SecurityGroup(
            cloud.security_groups.allocate_id(),
            caller.id,
            caller.gid,
            caller.name,
            caller.gname,
            name,
            template=template,
        )
        cloud.security_groups.add(group)
        return group.id

    def _check_name(self, uid: int, name: str) -> None:
        namesake = self._cloud.security_groups.find_by_name(uid, name)
        if namesake:
            raise internal(f"NAME is already taken by SecurityGroup {namesake.id}.")
        check_name(name)

    @serves("one.secgroup.info", int, optional=(bool,))
    def info(self, caller: User, group_id: int, _decrypt: bool = False) -> str:
        """Return the document of a security group."""
        return self._cloud.get_authorized(caller, Right.USE, self._cloud.security_groups, group_id, locks=False).xml()

    @serves("one.secgrouppool.info", int, int, int)
    def pool(self, caller: User, owner: int, start: int, end: int) -> str:
        """Return the document of the security groups that the caller may use."""
        groups = self._cloud.visible(caller, self._cloud.security_groups.newest_first(), Kind.SECGROUP, owner)
        elements = "".join(group.xml() for group in page(groups, start, end))
        return f"<SECURITY_GROUP_POOL>{elements}</SECURITY_GROUP_POOL>"

    @serves("one.secgroup.update", int, str, optional=(int,))
    def update(self, caller: User, group_id: int, text: str, append: int = 0) -> int:
        """Replace a security group's attributes (0), or merge into them (1); machines get the new rules."""
        group = self._cloud.get_authorized(caller, Right.MANAGE, self._cloud.security_groups, group_id)
        template = self._cloud.updated_template(caller, group.template, text, append)
        try:
            group.template = with_stored_rules(template, is_v7=self._cloud.version.is_v7)
        except Refused as refusal:
            raise internal(f"Cannot update template. {refusal.text}") from refusal
        commit_rules(self._cloud, group)
        return group_id

    @serves("one.secgroup.commit", int, bool)
    def commit(self, caller: User, group_id: int, _recover: bool) -> int:
        """Commit the rules of a security group to its machines."""
        group = self._cloud.get_authorized(caller, Right.MANAGE, self._cloud.security_groups, group_id)
        commit_rules(self._cloud, group)
        return group_id

    @serves("one.secgroup.clone", int, str)
    def clone(self, caller: User, group_id: int, name: str) -> int:
        """Copy a security group to a security group of the caller."""
        group = self._cloud.get_to_clone(caller, self._cloud.security_groups, group_id)
        try:
            return self._create(caller, name, group.template.copy())
        except Refused as refusal:
            if self._cloud.version.is_v7 or refusal.code is not OpenNebulaCode.INTERNAL:
                raise
            raise not_allocated(f"Error allocating a new security group. {refusal.text}") from refusal

    @serves("one.secgroup.delete", int)
    def delete(self, caller: User, group_id: int) -> int:
        """Delete a security group that no machine uses."""
        group = self._cloud.get_authorized(caller, Right.MANAGE, self._cloud.security_groups, group_id)
        if group.id == DEFAULT_GROUP:
            raise wrong_state("The default security group (ID 0) cannot be deleted.")
        if group.vm_ids:
            raise wrong_state("Cannot delete security group. The security group has VMs using it")
        self._cloud.security_groups.remove(group)
        return group_id
