"""Security groups: rules, and which machines have which version of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from econed.sandbox.objects.base import Kind, Permissions, PoolObject, ids
from econed.sandbox.objects.networks import Network
from econed.sandbox.objects.pools import Pool
from econed.sandbox.template import Template, Vector

DEFAULT_GROUP = 0


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

    def rules(self, networks: Pool[Network]) -> list[Vector]:
        """Return the rules as a machine carries them: each names its group; those for a network, its addresses."""
        named = {"SECURITY_GROUP_ID": str(self.id), "SECURITY_GROUP_NAME": self.name}
        found: list[Vector] = []
        for rule in self.template.vectors("RULE"):
            network = networks.find(int(rule["NETWORK_ID"])) if rule.get("NETWORK_ID", "").isdigit() else None
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
