"""Security groups: their rules, and the machines that have them."""

from __future__ import annotations

from dataclasses import dataclass, field

from econed.sandbox.objects.base import Kind, Permissions, PoolObject, ids_xml
from econed.sandbox.objects.networks import Network
from econed.sandbox.objects.pools import Pool
from econed.sandbox.template import Template, Vector

DEFAULT_GROUP = 0


@dataclass(eq=False)
class SecurityGroup(PoolObject):
    """A security group. Machines in `updated_vm_ids` have its current rules; those in `updating_vm_ids` get them.

    Those in `waiting_vm_ids` will get them: 5.12 shows them nowhere for a moment.
    """

    updated_vm_ids: set[int] = field(default_factory=set)
    updating_vm_ids: set[int] = field(default_factory=set)
    waiting_vm_ids: set[int] = field(default_factory=set)

    kind = Kind.SECGROUP

    @property
    def vm_ids(self) -> set[int]:
        """The ids of the machines that use the group."""
        return self.updated_vm_ids | self.updating_vm_ids | self.waiting_vm_ids

    def remove_machine(self, vm_id: int) -> None:
        """Remove a machine from those that use the group."""
        for vm_ids in (self.updated_vm_ids, self.updating_vm_ids, self.waiting_vm_ids):
            vm_ids.discard(vm_id)

    def xml(self) -> str:
        """Return the SECURITY_GROUP element."""
        return (
            f"<SECURITY_GROUP>{self.head()}{ids_xml('UPDATED_VMS', self.updated_vm_ids)}<OUTDATED_VMS></OUTDATED_VMS>"
            f"{ids_xml('UPDATING_VMS', self.updating_vm_ids)}<ERROR_VMS></ERROR_VMS>"
            f"{self.template.xml()}</SECURITY_GROUP>"
        )

    def rules(self, networks: Pool[Network]) -> list[Vector]:
        """Return the rules as machines have them: with the group's id and name, and the addresses of their network."""
        group = {"SECURITY_GROUP_ID": str(self.id), "SECURITY_GROUP_NAME": self.name}
        rules: list[Vector] = []
        for rule in self.template.vectors("RULE"):
            network = networks.find(int(rule["NETWORK_ID"])) if rule.get("NETWORK_ID", "").isdigit() else None
            if network is None:
                rules.append({**rule, **group})
            else:
                rules += [{**rule, **group, **ar.rule()} for ar in network.ranges]
        return rules


def default_group() -> SecurityGroup:
    """Return the group that every network has, which allows all traffic."""
    rules: list[tuple[str, Vector]] = [
        ("RULE", {"PROTOCOL": "ALL", "RULE_TYPE": "OUTBOUND"}),
        ("RULE", {"PROTOCOL": "ALL", "RULE_TYPE": "INBOUND"}),
    ]
    description = (
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
        permissions=Permissions.from_octal("744"),
        template=Template([("DESCRIPTION", description), *rules]),
    )
