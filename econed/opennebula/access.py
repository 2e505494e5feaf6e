"""oned's access control lists (OpenNebula, "Managing ACL Rules") and the groups that their rules apply to."""

from __future__ import annotations

from collections.abc import Collection
from enum import IntEnum, IntFlag

from econed.errors import InvalidReply
from econed.opennebula.views import OwnedView, View

_INDIVIDUAL, _GROUP, _ALL, _CLUSTER = 0x100000000, 0x200000000, 0x400000000, 0x800000000
_ID = 0xFFFFFFFF


ONEADMIN = 0
"""The id of oneadmin."""

ADMINISTRATORS = 0
"""The id of oneadmin's group, whose members have all rights."""


class Resource(IntFlag):
    """The bits for kinds of objects in the RESOURCE of a rule (oned, `PoolObjectSQL::ObjectType`)."""

    VM = 0x1000000000
    HOST = 0x2000000000
    NET = 0x4000000000
    IMAGE = 0x8000000000
    TEMPLATE = 0x20000000000
    DATASTORE = 0x100000000000
    SECGROUP = 0x1000000000000
    VMGROUP = 0x20000000000000


class Operation(IntEnum):
    """The bits for operations in the RIGHTS of a rule (oned, `AuthRequest::Operation`)."""

    USE = 1
    MANAGE = 2
    ADMIN = 4
    CREATE = 8


class Group(View):
    """A group of users."""

    @property
    def id(self) -> int:
        """The OpenNebula id."""
        return self._number("ID")

    @property
    def name(self) -> str:
        """The name."""
        return self._text("NAME")

    @property
    def user_ids(self) -> tuple[int, ...]:
        """The ids of its members, for whom it is the primary or a secondary group."""
        return self._numbers("USERS/ID")

    @property
    def admin_ids(self) -> tuple[int, ...]:
        """The ids of its administrators, who have rights on the objects of its members."""
        return self._numbers("ADMINS/ID")


class Rule(View):
    """A rule: the users it applies to, the objects it covers, and the operations it grants."""

    @property
    def id(self) -> int:
        """The id, by which `oneacl delete` names it."""
        return self._number("ID")

    @property
    def text(self) -> str:
        """The rule as `oneacl list` shows it: `@100 NET/* USE #0`."""
        return self._text("STRING")

    def is_for_zone(self, zone_id: int) -> bool:
        """Whether it applies in a zone of a federation."""
        zone = self._hex("ZONE")
        return bool(zone & _ALL) or zone & _ID == zone_id

    def is_for_others(self, user_ids: Collection[int]) -> bool:
        """Whether it applies to anybody but these users, and the members of oneadmin's group, who have all rights."""
        users = self._hex("USER")
        if users & _ALL:
            return True
        number = users & _ID
        return number != ADMINISTRATORS if users & _GROUP else number not in user_ids

    def grants(self, group_id: int, resource: Resource, operation: Operation) -> bool:
        """Whether it grants every user of a group an operation on at least some objects of a kind.

        CREATE is granted only by a rule that covers all objects of the kind, since a new object has no id yet.
        """
        resources = self._hex("RESOURCE")
        covers = bool(resources & resource) and (operation is not Operation.CREATE or bool(resources & _ALL))
        return covers and self._allows(group_id, operation)

    def grants_on(self, group_id: int, resource: Resource, operation: Operation, target: OwnedView) -> bool:
        """Whether it grants every user of a group an operation on an object, by its id, group or cluster."""
        cluster_ids = getattr(target, "cluster_ids", ())  # only networks and datastores are in clusters
        return self.covers(resource, target.id, target.gid, cluster_ids) and self._allows(group_id, operation)

    def covers(self, resource: Resource, object_id: int | None, group_id: int, cluster_ids: Collection[int]) -> bool:
        """Whether it is about an object: by its id (None: it has none yet), its group, or one of its clusters."""
        resources = self._hex("RESOURCE")
        number = resources & _ID
        is_covered = (
            resources & _ALL
            or (resources & _INDIVIDUAL and number == object_id)
            or (resources & _GROUP and number == group_id)
            or (resources & _CLUSTER and number in cluster_ids)
        )
        return bool(resources & resource and is_covered)

    @property
    def operations(self) -> frozenset[Operation]:
        """The operations that it grants."""
        rights = self._hex("RIGHTS")
        return frozenset(operation for operation in Operation if rights & operation)

    def _allows(self, group_id: int, operation: Operation) -> bool:
        users = self._hex("USER")
        applies = bool(users & _ALL or (users & _GROUP and users & _ID == group_id))
        return applies and bool(self._hex("RIGHTS") & operation)

    def _hex(self, path: str) -> int:
        try:
            return int(self._text(path), 16)
        except ValueError:
            raise InvalidReply(self._path, f"{path} is not a hexadecimal number") from None


def is_granted(rules: Collection[Rule], group_id: int, resource: Resource, operation: Operation) -> bool:
    """Whether any of the rules grants every user of a group an operation on a kind of objects."""
    return any(rule.grants(group_id, resource, operation) for rule in rules)
