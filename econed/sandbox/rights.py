"""Who may do what: permission bits, ACL rules, locks (oned: `AuthRequest`, `AclManager`)."""

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
    """An ACL rule in oned's numbers: whom, on what, which rights, in which zone."""

    id: int
    user: int
    resource: int
    rights: int
    zone: int

    def is_for(self, uid: int, gids: Iterable[int]) -> bool:
        """Whether the rule speaks of this user."""
        number = self.user & _ID
        return bool(
            self.user & ALL or (self.user & INDIVIDUAL and number == uid) or (self.user & GROUP and number in gids)
        )

    def covers(self, kind: Kind, thing: PoolObject | None) -> bool:
        """Whether the rule speaks of `thing`, or of all of a kind where `thing` is yet to be made."""
        if not self.resource & kind.bit:
            return False
        if self.resource & ALL:
            return True
        number = self.resource & _ID
        if thing is None:
            return False
        return bool(
            (self.resource & INDIVIDUAL and number == thing.id)
            or (self.resource & GROUP and number == thing.gid)
            or (self.resource & CLUSTER and number in thing.clusters)
        )

    @property
    def is_wide(self) -> bool:
        """Whether the rule is for all objects of its kinds, or for those of a cluster."""
        return bool(self.resource & (ALL | CLUSTER))

    @property
    def same(self) -> tuple[int, int, int]:
        """What makes two rules the same rule."""
        return self.user, self.resource, self.zone

    def text(self) -> str:
        """Return the rule as oned spells it, `@100 VM+IMAGE/* CREATE #0`."""
        kinds = "+".join(kind.label for kind in Kind if self.resource & kind.bit)
        rights = "+".join(right.name for right in Right if self.rights & right)
        return f"{_who(self.user)} {kinds}/{_who(self.resource)} {rights} {_who(self.zone)}"

    def xml(self) -> str:
        """Return the element as oned shows it."""
        return (
            f"<ACL><ID>{self.id}</ID><USER>{self.user:x}</USER><RESOURCE>{self.resource:x}</RESOURCE>"
            f"<RIGHTS>{self.rights:x}</RIGHTS><ZONE>{self.zone:x}</ZONE><STRING>{self.text()}</STRING></ACL>"
        )


def _who(component: int) -> str:
    if component & ALL:
        return "*"
    sign = "#" if component & INDIVIDUAL else "@" if component & GROUP else "%"
    return f"{sign}{component & _ID}"


class Rights:
    """The ACL rules of the cloud, and the decisions made by them."""

    def __init__(self) -> None:
        self._rules: dict[int, Rule] = {}
        self._next = 0

    def add(self, user: int, resource: int, rights: int, zone: int) -> int:
        """Add a rule and return its number; refuses one that is already there (8192)."""
        rule = Rule(self._next, user, resource, rights, zone)
        if any(rule.same == other.same and rights == other.rights for other in self._rules.values()):
            raise internal(f"Rule {rule.text()} already exists")
        self._rules[rule.id] = rule
        self._next += 1
        return rule.id

    def remove(self, number: int) -> None:
        """Remove a rule; refuses where there is none."""
        if self._rules.pop(number, None) is None:
            raise internal(f"Rule {number} does not exist")

    def reset(self) -> None:
        """Forget all rules, and number anew."""
        self._rules.clear()
        self._next = 0

    def rules(self) -> list[Rule]:
        """Return all rules, by number."""
        return list(self._rules.values())

    def may(self, user: User, right: Right, kind: Kind, thing: PoolObject | None, *, locks: bool = True) -> bool:
        """Whether `user` has `right` on `thing`, or on the kind as such where `thing` is None.

        Locks keep away everybody, also oneadmin; `locks=False` for what a lock never keeps away (reading, unlocking).
        """
        if locks and thing is not None and thing.lock and thing.lock.level <= right:
            return False
        if user.is_oneadmin:
            return True
        if thing is not None and (
            (thing.uid == user.id and thing.permissions.allows(right, 0))
            or (thing.gid in user.gids and thing.permissions.allows(right, 1))
            or thing.permissions.allows(right, 2)
        ):
            return True
        return self._by_rule(user, right, kind, thing)

    def _by_rule(self, user: User, right: Right, kind: Kind, thing: PoolObject | None) -> bool:
        return any(
            rule.rights & right and rule.is_for(user.id, user.gids) and rule.covers(kind, thing)
            for rule in self._rules.values()
        )

    def rules_for(self, user: User, right: Right, kind: Kind) -> list[Rule]:
        """Return the rules that give `user` `right` on some or all objects of `kind`."""
        return [
            rule
            for rule in self._rules.values()
            if rule.rights & right and rule.is_for(user.id, user.gids) and rule.resource & kind.bit
        ]

    def demand(self, user: User, right: Right, kind: Kind, thing: PoolObject | None, *, locks: bool = True) -> None:
        """Refuse with code 512 what `may` denies."""
        if not self.may(user, right, kind, thing, locks=locks):
            which = "" if thing is None else f" [{thing.id}]"
            raise unauthorized(f"User [{user.id}] : Not authorized to perform {right.name} {kind.label}{which}.")
