"""Authorization: permission bits, ACL rules, locks (oned: `AuthRequest`, `AclManager`)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from econed.sandbox.objects.base import Kind, PoolObject, Right
from econed.sandbox.objects.users import User
from econed.sandbox.refusals import internal, unauthorized

INDIVIDUAL, GROUP, ALL, CLUSTER = 0x100000000, 0x200000000, 0x400000000, 0x800000000
_ID = 0xFFFFFFFF
_ONEADMIN = 0


@dataclass(frozen=True)
class Rule:
    """An ACL rule in oned's encoding: users, resources, rights, zone.

    A component is a flag (`INDIVIDUAL`, `GROUP`, `ALL`, `CLUSTER`) and an id in its low 32 bits.
    """

    id: int
    user: int
    resource: int
    rights: int
    zone: int

    def applies_to_user(self, uid: int, gids: Iterable[int]) -> bool:
        """Whether the rule applies to the user with this id and these groups."""
        user_id = self.user & _ID
        return bool(
            self.user & ALL or (self.user & INDIVIDUAL and user_id == uid) or (self.user & GROUP and user_id in gids)
        )

    def covers(self, kind: Kind, pool_object: PoolObject | None) -> bool:
        """Whether the rule covers an object, or all objects of `kind` if `pool_object` is None."""
        if not self.resource & kind.bit:
            return False
        if self.is_wide and pool_object is not None and pool_object.ignores_wide_rules:
            return False
        if self.resource & ALL:
            return True
        resource_id = self.resource & _ID
        if pool_object is None:
            return False
        return bool(
            (self.resource & INDIVIDUAL and resource_id == pool_object.id)
            or (self.resource & GROUP and resource_id == pool_object.gid)
            or (self.resource & CLUSTER and resource_id in pool_object.cluster_ids)
        )

    @property
    def is_wide(self) -> bool:
        """Whether the rule covers all objects of its kinds, or all in a cluster."""
        return bool(self.resource & (ALL | CLUSTER))

    @property
    def key(self) -> tuple[int, int, int]:
        """The components that are equal in duplicate rules; their rights must be equal too."""
        return self.user, self.resource, self.zone

    def text(self) -> str:
        """Return the rule in oned's notation, as in `@100 VM+IMAGE/* CREATE #0`."""
        kinds = "+".join(kind.label for kind in Kind if self.resource & kind.bit)
        rights = "+".join(right.name for right in Right if self.rights & right)
        users, resources, zones = map(_component_text, (self.user, self.resource, self.zone))
        return f"{users} {kinds}/{resources} {rights} {zones}"

    def xml(self) -> str:
        """Return the rule's element in oned's ACL pool."""
        return (
            f"<ACL><ID>{self.id}</ID><USER>{self.user:x}</USER><RESOURCE>{self.resource:x}</RESOURCE>"
            f"<RIGHTS>{self.rights:x}</RIGHTS><ZONE>{self.zone:x}</ZONE><STRING>{self.text()}</STRING></ACL>"
        )


def _component_text(component: int) -> str:
    if component & ALL:
        return "*"
    sign = "#" if component & INDIVIDUAL else "@" if component & GROUP else "%"
    return f"{sign}{component & _ID}"


class Rights:
    """The ACL rules of the cloud, and the authorization of users by them."""

    def __init__(self) -> None:
        self._rules: dict[int, Rule] = {}
        self._next_id = 0

    def add(self, user: int, resource: int, rights: int, zone: int) -> int:
        """Add a rule and return its id; refuses a duplicate (8192)."""
        rule = Rule(self._next_id, user, resource, rights, zone)
        if any(rule.key == other.key and rights == other.rights for other in self._rules.values()):
            raise internal(f"Rule {rule.text()} already exists")
        self._rules[rule.id] = rule
        self._next_id += 1
        return rule.id

    def remove(self, rule_id: int) -> None:
        """Remove a rule; refuses if it does not exist (8192)."""
        if self._rules.pop(rule_id, None) is None:
            raise internal(f"Rule {rule_id} does not exist")

    def reset(self) -> None:
        """Remove all rules and let ids begin at 0 again."""
        self._rules.clear()
        self._next_id = 0

    def rules(self) -> list[Rule]:
        """Return all rules, sorted by id."""
        return list(self._rules.values())

    def allows(
        self, user: User, right: Right, kind: Kind, pool_object: PoolObject | None, *, locks: bool = True
    ) -> bool:
        """Whether `user` has `right` on `pool_object`, or on objects of `kind` in general if it is None.

        A lock denies rights to all users, oneadmin included. With `locks=False` locks are ignored, as for reading and
        unlocking.
        """
        if locks and pool_object is not None and pool_object.lock and pool_object.lock.level <= right:
            return False
        if user.is_oneadmin:
            return True
        if pool_object is not None and (
            (pool_object.uid == user.id and pool_object.permissions.allows(right, 0))
            or (pool_object.gid in user.gids and pool_object.permissions.allows(right, 1))
            or pool_object.permissions.allows(right, 2)
        ):
            return True
        return any(rule.covers(kind, pool_object) for rule in self.rules_for(user, right, kind))

    def rules_for(self, user: User, right: Right, kind: Kind) -> list[Rule]:
        """Return the rules that grant `user` a right on some or all objects of `kind`."""
        return [
            rule
            for rule in self._rules.values()
            if rule.rights & right and rule.applies_to_user(user.id, user.gids) and rule.resource & kind.bit
        ]

    def check(
        self, user: User, right: Right, kind: Kind, pool_object: PoolObject | None, *, locks: bool = True
    ) -> None:
        """Refuse with code 512 what `allows` denies."""
        if not self.allows(user, right, kind, pool_object, locks=locks):
            object_id = "" if pool_object is None else f" [{pool_object.id}]"
            raise unauthorized(f"User [{user.id}] : Not authorized to perform {right.name} {kind.label}{object_id}.")
