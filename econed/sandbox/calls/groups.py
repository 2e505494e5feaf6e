"""The calls on groups and on ACL rules."""

from __future__ import annotations

from econed.sandbox.accounts import new_group
from econed.sandbox.calls.declaration import serves
from econed.sandbox.cloud import Cloud
from econed.sandbox.objects.base import Kind, Right, demand_name
from econed.sandbox.objects.users import Group, User
from econed.sandbox.quotas import Quotas
from econed.sandbox.refusals import internal
from econed.sandbox.rights import GROUP, INDIVIDUAL
from econed.sandbox.template import cdata

_FIRST_REAL_GROUP = 100


class GroupCalls:
    """`one.group.*`, `one.grouppool.info`."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    @serves("one.group.allocate", str)
    def allocate(self, caller: User, name: str) -> int:
        """Make a group."""
        self._cloud.rights.demand(caller, Right.CREATE, Kind.GROUP, None)
        demand_name(name)
        taken = next((group for group in self._cloud.groups if group.name == name), None)
        if taken:
            raise internal(f"NAME is already taken by GROUP {taken.id}.")
        return new_group(self._cloud, name).id

    @serves("one.group.info", int, optional=(bool,))
    def info(self, caller: User, number: int, _decrypt: bool = False) -> str:
        """Show a group; -1 is the caller's own."""
        return self._seen(caller, caller.gid if number == -1 else number).full_xml(modern=self._cloud.version.modern)

    def _seen(self, caller: User, number: int) -> Group:
        if number in caller.gids:
            return self._cloud.groups.get(number)
        return self._cloud.demand(caller, Right.USE, self._cloud.groups, number, locks=False)

    @serves("one.grouppool.info")
    def pool(self, caller: User) -> str:
        """Show the groups that the caller may see: his own, or all."""
        modern, rights = self._cloud.version.modern, self._cloud.rights
        shown = [
            group
            for group in self._cloud.groups.newest_first()
            if group.id in caller.gids or rights.may(caller, Right.USE, Kind.GROUP, group)
        ]
        each = "".join(
            f"{group.xml()}<QUOTAS><ID>{group.id}</ID>{group.quotas.xml(modern=modern)}</QUOTAS>"
            + (f"<VLAN_RULES>{cdata('ID', group.id)}</VLAN_RULES>" if modern else "")
            for group in shown
        )
        defaults = f"<DEFAULT_GROUP_QUOTAS>{Quotas().xml(modern=modern)}</DEFAULT_GROUP_QUOTAS>"
        return f"<GROUP_POOL>{each}{defaults}</GROUP_POOL>"

    @serves("one.group.update", int, str, optional=(int,))
    def update(self, caller: User, number: int, text: str, append: int = 0) -> int:
        """Replace a group's attributes (0), or merge into them (1)."""
        group = self._cloud.demand(caller, Right.MANAGE, self._cloud.groups, number)
        group.template = self._cloud.updated(caller, group.template, text, append)
        return number

    @serves("one.group.quota", int, str)
    def quota(self, caller: User, number: int, text: str) -> int:
        """Set limits of a group."""
        self._cloud.demand(caller, Right.ADMIN, self._cloud.groups, number).quotas.set_limits(self._cloud.read(text))
        return number

    @serves("one.group.delete", int)
    def delete(self, caller: User, number: int) -> int:
        """Remove a group that has no users."""
        group = self._cloud.demand(caller, Right.MANAGE, self._cloud.groups, number)
        if group.members or group.id < _FIRST_REAL_GROUP:
            raise internal("Cannot delete group: it has users.")
        self._cloud.groups.drop(group)
        for rule in self._cloud.rights.rules():
            if rule.user == GROUP | number:
                self._cloud.rights.remove(rule.id)
        return number


class AclCalls:
    """`one.acl.*`: rules in hexadecimal, as oned's own tools send them."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    @serves("one.acl.info")
    def info(self, caller: User) -> str:
        """Show the rules; 7.x sorts them by whom they are for."""
        rules = self._cloud.rights.rules()
        if self._cloud.version.modern:
            rules.sort(key=lambda rule: rule.user)
        return f"<ACL_POOL>{''.join(rule.xml() for rule in rules)}</ACL_POOL>"

    @serves("one.acl.addrule", str, str, str, optional=(str,))
    def addrule(self, caller: User, user: str, resource: str, rights: str, zone: str = "") -> int:
        """Add a rule; without a zone it is for this one."""
        self._cloud.rights.demand(caller, Right.MANAGE, Kind.ACL, None)
        try:
            numbers = [int(text, 16) for text in (user, resource, rights)]
            place = int(zone, 16) if zone else INDIVIDUAL | 0
        except ValueError:
            raise internal("Rule is malformed") from None
        return self._cloud.rights.add(numbers[0], numbers[1], numbers[2], place)

    @serves("one.acl.delrule", int)
    def delrule(self, caller: User, number: int) -> int:
        """Remove a rule."""
        self._cloud.rights.demand(caller, Right.MANAGE, Kind.ACL, None)
        self._cloud.rights.remove(number)
        return number
