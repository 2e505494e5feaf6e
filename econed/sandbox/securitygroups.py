"""Security groups: rules, and which machines have which version of them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from econed.sandbox.calls import serves
from econed.sandbox.objects import Kind, Permissions, PoolObject, Right, demand_name, ids
from econed.sandbox.pools import page
from econed.sandbox.refusals import internal, wrong_state
from econed.sandbox.template import Template, Vector

if TYPE_CHECKING:
    from econed.sandbox.state import Cloud
    from econed.sandbox.users import User

DEFAULT_GROUP = 0
_FIRST_REAL = 100
_PROTOCOLS = ("TCP", "UDP", "ICMP", "ICMPV6", "IPSEC", "ALL")
_RANGE = re.compile(r"[0-9]+(:[0-9]+)?(,[0-9]+(:[0-9]+)?)*")
_MAX_PORT = 65536


@dataclass(eq=False)
class SecurityGroup(PoolObject):
    """A security group; `updated` and `updating` are the machines that have its rules, or are about to."""

    updated: set[int] = field(default_factory=set)
    updating: set[int] = field(default_factory=set)

    kind = Kind.SECGROUP

    @property
    def vms(self) -> set[int]:
        """The numbers of the machines that use the group."""
        return self.updated | self.updating

    def xml(self, *, modern: bool) -> str:
        """Return the element as oned shows it; 5.12 names a machine nowhere while its driver is at work on it."""
        return (
            f"<SECURITY_GROUP>{self.head()}{ids('UPDATED_VMS', self.updated)}<OUTDATED_VMS></OUTDATED_VMS>"
            f"{ids('UPDATING_VMS', self.updating if modern else set())}<ERROR_VMS></ERROR_VMS>"
            f"{self.template.xml()}</SECURITY_GROUP>"
        )

    def rules(self, cloud: Cloud) -> list[Vector]:
        """Return the rules as a machine carries them: each names its group; those for a network, its addresses."""
        named = {"SECURITY_GROUP_ID": str(self.id), "SECURITY_GROUP_NAME": self.name}
        found: list[Vector] = []
        for rule in self.template.vectors("RULE"):
            network = cloud.networks.find(int(rule["NETWORK_ID"])) if rule.get("NETWORK_ID", "").isdigit() else None
            if network is None:
                found.append({**rule, **named})
            else:
                found += [
                    {**rule, **named, "IP": span.first_ip, "MAC": span.first_mac, "SIZE": str(span.size)}
                    for span in network.ranges
                ]
        return found


def default_group() -> SecurityGroup:
    """Return the group that every network has: everything is let in and out."""
    rules: list[tuple[str, Vector]] = [
        ("RULE", {"PROTOCOL": "ALL", "RULE_TYPE": "OUTBOUND"}),
        ("RULE", {"PROTOCOL": "ALL", "RULE_TYPE": "INBOUND"}),
    ]
    described = (
        "The default security group is added to every network. Use it to add default filter rules for your networks. "
        "You may remove this security group from any network by updating its properties."
    )
    return SecurityGroup(
        DEFAULT_GROUP,
        0,
        0,
        "oneadmin",
        "oneadmin",
        "default",
        permissions=Permissions.octal("744"),
        template=Template([("DESCRIPTION", described), *rules]),
    )


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
                machine.refresh_rules(self._cloud)
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
