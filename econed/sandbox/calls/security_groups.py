"""The calls on security groups."""

from __future__ import annotations

import re
from functools import partial

from econed.sandbox.calls.declaration import serves
from econed.sandbox.cloud import Cloud
from econed.sandbox.machines.security_rules import refresh_rules
from econed.sandbox.objects.base import Kind, Right, demand_name
from econed.sandbox.objects.pools import page
from econed.sandbox.objects.security_groups import DEFAULT_GROUP, SecurityGroup
from econed.sandbox.objects.users import User
from econed.sandbox.refusals import internal, wrong_state
from econed.sandbox.template import Template, Vector

_FIRST_REAL = 100
_PROTOCOLS = ("TCP", "UDP", "ICMP", "ICMPV6", "IPSEC", "ALL")
_RANGE = re.compile(r"[0-9]+(:[0-9]+)?(,[0-9]+(:[0-9]+)?)*")
_MAX_PORT = 65536


class SecurityGroupCalls:
    """`one.secgroup.*`, `one.secgrouppool.info`. Names are unique per owner."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    @serves("one.secgroup.allocate", str)
    def allocate(self, caller: User, text: str) -> int:
        """Make a group."""
        cloud = self._cloud
        template = self._cloud.read(text)
        cloud.rights.demand(caller, Right.CREATE, Kind.SECGROUP, None)
        name = self._free_name(caller.id, template.get("NAME"))
        _check_rules(template, modern=cloud.version.modern)
        template.pop("NAME")
        cloud.security_groups.skip_to(_FIRST_REAL)
        made = SecurityGroup(
            cloud.security_groups.take_id(), caller.id, caller.gid, caller.name, caller.gname, name, template=template
        )
        cloud.security_groups.put(made)
        return made.id

    def _free_name(self, uid: int, name: str) -> str:
        taken = next((group for group in self._cloud.security_groups if (group.uid, group.name) == (uid, name)), None)
        if taken:
            raise internal(f"NAME is already taken by SecurityGroup {taken.id}.")
        return demand_name(name)

    @serves("one.secgroup.info", int, optional=(bool,))
    def info(self, caller: User, number: int, _decrypt: bool = False) -> str:
        """Show a group."""
        group = self._cloud.demand(caller, Right.USE, self._cloud.security_groups, number, locks=False)
        return group.xml(modern=self._cloud.version.modern)

    @serves("one.secgrouppool.info", int, int, int)
    def pool(self, caller: User, flag: int, start: int, end: int) -> str:
        """Show groups."""
        groups = self._cloud.security_groups.newest_first()
        modern, shown = self._cloud.version.modern, self._cloud.visible(caller, groups, Kind.SECGROUP, flag)
        each = "".join(group.xml(modern=modern) for group in page(shown, start, end))
        return f"<SECURITY_GROUP_POOL>{each}</SECURITY_GROUP_POOL>"

    @serves("one.secgroup.update", int, str, optional=(int,))
    def update(self, caller: User, number: int, text: str, append: int = 0) -> int:
        """Replace a group's attributes (0), or merge into them (1); machines get the rules by `commit`."""
        group = self._cloud.demand(caller, Right.MANAGE, self._cloud.security_groups, number)
        template = self._cloud.updated(caller, group.template, text, append)
        _check_rules(template, modern=self._cloud.version.modern)
        group.template = template
        self._commit(group)
        return number

    @serves("one.secgroup.commit", int, bool)
    def commit(self, caller: User, number: int, _recover: bool) -> int:
        """Bring the rules to the machines."""
        self._commit(self._cloud.demand(caller, Right.MANAGE, self._cloud.security_groups, number))
        return number

    def _commit(self, group: SecurityGroup) -> None:
        group.updating |= group.updated
        group.updated = set()
        self._cloud.later(self._cloud.delays.hotplug, partial(self._committed, group))

    def _committed(self, group: SecurityGroup) -> None:
        for number in sorted(group.updating):
            machine = self._cloud.vms.find(number)
            if machine is not None:
                refresh_rules(self._cloud, machine)
        group.updated |= group.updating
        group.updating = set()

    @serves("one.secgroup.rename", int, str)
    def rename(self, caller: User, number: int, name: str) -> int:
        """Rename a group."""
        group = self._cloud.demand(caller, Right.MANAGE, self._cloud.security_groups, number)
        group.name = self._free_name(group.uid, name)
        return number

    @serves("one.secgroup.clone", int, str)
    def clone(self, caller: User, number: int, name: str) -> int:
        """Copy a group, for the caller."""
        group = self._cloud.demand(caller, Right.USE, self._cloud.security_groups, number)
        copied = group.template.copy()
        copied.replace("NAME", name)
        return self.allocate(caller, "".join(["<TEMPLATE>", copied.body(), "</TEMPLATE>"]))

    @serves("one.secgroup.delete", int)
    def delete(self, caller: User, number: int) -> int:
        """Remove a group that no machine uses."""
        group = self._cloud.demand(caller, Right.MANAGE, self._cloud.security_groups, number)
        if group.id == DEFAULT_GROUP:
            raise wrong_state("The default security group (ID 0) cannot be deleted.")
        if group.vms:
            raise wrong_state("Cannot delete security group. The security group has VMs using it")
        self._cloud.security_groups.drop(group)
        return number


def _check_rules(template: Template, *, modern: bool) -> None:
    for rule in template.vectors("RULE"):
        protocol, direction = rule.get("PROTOCOL", "").upper(), rule.get("RULE_TYPE", "").upper()
        if protocol not in _PROTOCOLS:
            raise internal(f"Wrong PROTOCOL in rule. Valid options: {', '.join(_PROTOCOLS)}.")
        if direction not in ("INBOUND", "OUTBOUND"):
            raise internal("Wrong RULE_TYPE in rule. Valid options: INBOUND, OUTBOUND.")
        _check_details(rule, protocol, modern=modern)


def _check_details(rule: Vector, protocol: str, *, modern: bool) -> None:
    if "RANGE" in rule:
        if protocol not in ("TCP", "UDP"):
            raise internal("RANGE is supported only for TCP and UDP protocols")
        if not _RANGE.fullmatch(rule["RANGE"]):
            raise internal("Wrong RANGE in rule.")
        if modern and any(int(port) > _MAX_PORT for port in re.findall("[0-9]+", rule["RANGE"])):
            raise internal(f"RANGE out of bounds 0-{_MAX_PORT}.")
    if "ICMP_TYPE" in rule and (protocol != "ICMP" or not rule["ICMP_TYPE"].isdigit()):
        raise internal("ICMP_TYPE is supported only for ICMP protocol, and must be integer")
    if "IP" in rule and not rule.get("SIZE", "").isdigit():
        raise internal("Wrong or missing SIZE in rule")
