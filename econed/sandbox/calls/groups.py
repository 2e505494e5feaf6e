"""The calls on groups and on ACL rules."""

from __future__ import annotations

from econed.sandbox.accounts import new_group
from econed.sandbox.calls.declaration import serves
from econed.sandbox.cloud import Cloud
from econed.sandbox.objects.base import Kind, Right, check_name
from econed.sandbox.objects.users import Group, User
from econed.sandbox.refusals import internal
from econed.sandbox.rights import GROUP, INDIVIDUAL
from econed.sandbox.template import cdata

_FIRST_GROUP_ID = 100


class GroupCalls:
    """`one.group.*` except `quota`, `one.grouppool.info`."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    @serves("one.group.allocate", str)
    def allocate(self, caller: User, name: str) -> int:
        """Allocate a group."""
        self._cloud.rights.check(caller, Right.CREATE, Kind.GROUP, None)
        check_name(name)
        namesake = next((group for group in self._cloud.groups if group.name == name), None)
        if namesake:
            raise internal(f"NAME is already taken by GROUP {namesake.id}.")
        return new_group(self._cloud, name).id

    @serves("one.group.info", int, optional=(bool,))
    def info(self, caller: User, group_id: int, _decrypt: bool = False) -> str:
        """Return the document of a group; -1 is the caller's primary group."""
        group = self._visible(caller, caller.gid if group_id == -1 else group_id)
        return group.full_xml(self._cloud.default_group_quotas, is_v7=self._cloud.version.is_v7)

    def _visible(self, caller: User, group_id: int) -> Group:
        if group_id in caller.gids:
            return self._cloud.groups.get(group_id)
        return self._cloud.get_authorized(caller, Right.USE, self._cloud.groups, group_id, locks=False)

    @serves("one.grouppool.info")
    def pool(self, caller: User) -> str:
        """Return the document of the groups that the caller may see: their own, or all."""
        is_v7, rights = self._cloud.version.is_v7, self._cloud.rights
        groups = [
            group
            for group in self._cloud.groups.newest_first()
            if group.id in caller.gids or rights.allows(caller, Right.USE, Kind.GROUP, group)
        ]
        elements = "".join(
            f"{group.xml()}<QUOTAS><ID>{group.id}</ID>{group.quotas.xml(is_v7=is_v7)}</QUOTAS>"
            + (f"<VLAN_RULES>{cdata('ID', group.id)}</VLAN_RULES>" if is_v7 else "")
            for group in groups
        )
        defaults = self._cloud.default_group_quotas.xml(is_v7=is_v7)
        return f"<GROUP_POOL>{elements}<DEFAULT_GROUP_QUOTAS>{defaults}</DEFAULT_GROUP_QUOTAS></GROUP_POOL>"

    @serves("one.group.update", int, str, optional=(int,))
    def update(self, caller: User, group_id: int, text: str, append: int = 0) -> int:
        """Replace a group's attributes (0), or merge into them (1)."""
        group = self._cloud.get_authorized(caller, Right.MANAGE, self._cloud.groups, group_id)
        group.template = self._cloud.updated_template(caller, group.template, text, append)
        return group_id

    @serves("one.group.delete", int)
    def delete(self, caller: User, group_id: int) -> int:
        """Delete a group that has no users."""
        group = self._cloud.get_authorized(caller, Right.MANAGE, self._cloud.groups, group_id)
        if group.user_ids or group.id < _FIRST_GROUP_ID:
            raise internal("Cannot delete group: it has users.")
        self._cloud.groups.remove(group)
        for rule in self._cloud.rights.rules():
            if rule.user == GROUP | group_id:
                self._cloud.rights.remove(rule.id)
        return group_id


class AclCalls:
    """`one.acl.*`, with rules in hexadecimal."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    @serves("one.acl.info")
    def info(self, caller: User) -> str:
        """Return the document of the rules; 7.x sorts them by user."""
        self._cloud.rights.check(caller, Right.MANAGE, Kind.ACL, None)
        rules = self._cloud.rights.rules()
        if self._cloud.version.is_v7:
            rules.sort(key=lambda rule: rule.user)
        return f"<ACL_POOL>{''.join(rule.xml() for rule in rules)}</ACL_POOL>"

    @serves("one.acl.addrule", str, str, str, optional=(str,))
    def addrule(self, caller: User, user: str, resource: str, rights: str, zone: str = "") -> int:
        """Add a rule, by default for this zone."""
        self._cloud.rights.check(caller, Right.MANAGE, Kind.ACL, None)
        try:
            components = [int(text, 16) for text in (user, resource, rights)]
            zone_component = int(zone, 16) if zone else INDIVIDUAL | 0
        except ValueError:
            raise internal("Rule is malformed") from None
        return self._cloud.rights.add(components[0], components[1], components[2], zone_component)

    @serves("one.acl.delrule", int)
    def delrule(self, caller: User, rule_id: int) -> int:
        """Delete a rule."""
        self._cloud.rights.check(caller, Right.MANAGE, Kind.ACL, None)
        self._cloud.rights.remove(rule_id)
        return rule_id
