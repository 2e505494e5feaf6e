"""VM groups: roles with policies of placement, and the machines in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from econed.sandbox.objects.base import Kind, PoolObject, ids_text
from econed.sandbox.refusals import internal
from econed.sandbox.template import Template, Vector, attribute_xml

AFFINED, ANTI_AFFINED = "AFFINED", "ANTI_AFFINED"


@dataclass(eq=False)
class Role:
    """A role of a VM group; `attributes` as the user wrote them."""

    id: int
    attributes: Vector
    vm_ids: set[int] = field(default_factory=set)

    @property
    def name(self) -> str:
        """The name, by which machines refer to the role."""
        return self.attributes["NAME"]

    @property
    def policy(self) -> str:
        """The policy for the machines of the role; oned takes any text, and one that it does not know as none."""
        return self.attributes.get("POLICY", "").upper()

    def host_ids(self, name: str) -> set[str]:
        """Return the ids of hosts in HOST_AFFINED or HOST_ANTI_AFFINED."""
        return {part.strip() for part in self.attributes.get(name, "").split(",")} - {""}

    def xml(self) -> str:
        """Return the ROLE element."""
        machines = {"VMS": ids_text(self.vm_ids)} if self.vm_ids else {}
        return attribute_xml("ROLE", {**self.attributes, "ID": str(self.id), **machines})


@dataclass(eq=False)
class VmGroup(PoolObject):
    """A VM group. `template` has the policies between roles, AFFINED and ANTI_AFFINED, and free attributes."""

    roles: list[Role] = field(default_factory=list)
    _next_role_id: int = 0

    kind = Kind.VMGROUP

    @property
    def vm_ids(self) -> set[int]:
        """The ids of all machines in the group."""
        return {vm_id for role in self.roles for vm_id in role.vm_ids}

    def role(self, name: str) -> Role | None:
        """Return the role of this name, or None."""
        return next((role for role in self.roles if role.name == name), None)

    def add_role(self, requested: Vector) -> None:
        """Add a role; refuses (8192) one without a NAME, or with that of another."""
        if not requested.get("NAME"):
            raise internal("Missing NAME in VM group role")
        if self.role(requested["NAME"]) is not None:
            raise internal("Role already exists")
        self.roles.append(Role(self._next_role_id, own_attributes(requested)))
        self._next_role_id += 1

    def remove_machine(self, vm_id: int, role_name: str) -> None:
        """Remove a machine from a role."""
        role = self.role(role_name)
        if role is not None:
            role.vm_ids.discard(vm_id)

    def companions(self, role: Role, policy: str) -> Iterator[int]:
        """Yield the ids of the machines with which (`AFFINED`), or without which, one of `role` must be on a host."""
        if role.policy == policy:
            yield from role.vm_ids
        for names in rules(self.template, policy):
            if role.name in names:
                for other in self.roles:
                    if other.name in names and other is not role:
                        yield from other.vm_ids

    def xml(self) -> str:
        """Return the VM_GROUP element."""
        roles = "".join(role.xml() for role in self.roles)
        return f"<VM_GROUP>{self.head()}{self.lock_xml()}<ROLES>{roles}</ROLES>{self.template.xml()}</VM_GROUP>"


def own_attributes(requested: Vector) -> Vector:
    """Return the attributes of a ROLE that users may set."""
    return {name: value for name, value in requested.items() if name not in ("ID", "VMS")}


def rules(template: Template, policy: str) -> list[frozenset[str]]:
    """Return the names of the roles in each AFFINED or ANTI_AFFINED attribute."""
    texts = [value for name, value in template if name == policy and isinstance(value, str)]
    return [frozenset(part.strip() for part in text.split(",") if part.strip()) for text in texts]


def check_rules(template: Template, roles: Iterable[Role]) -> None:
    """Refuse (8192) policies between roles that do not exist, that are repeated, or that contradict each other."""
    policies = {role.name: role.policy for role in roles}
    named: dict[str, frozenset[str]] = {}
    for policy in (AFFINED, ANTI_AFFINED):
        policy_rules = rules(template, policy)
        named[policy] = frozenset().union(*policy_rules)
        if not named[policy] <= policies.keys():
            text = ",".join(sorted(named[policy]))
            raise internal(f"Some roles used in {policy} attribute ({text}) are not defined")
        if len(set(policy_rules)) < len(policy_rules):
            raise internal(f"Duplicated {policy} rule detected.")
    apart = sorted(name for name in named[AFFINED] if policies[name] == ANTI_AFFINED)
    if apart:
        raise internal(f"Role {apart[0]} is in an AFFINED rule but the role policy is ANTI_AFFINED")
    clashing = sorted(named[AFFINED] & named[ANTI_AFFINED])
    if clashing:
        raise internal(f"Roles defined in AFFINED and ANTI_AFFINED rules: {' '.join(clashing)}")
