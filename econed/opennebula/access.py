"""Who may do what by oned's access control lists (OpenNebula, "Managing ACL Rules"), and the groups they speak of."""

from __future__ import annotations

from collections.abc import Collection
from enum import IntEnum, IntFlag

from econed.errors import InvalidReply
from econed.opennebula.views import View

_GROUP, _ALL = 0x200000000, 0x400000000
_ID = 0xFFFFFFFF


class Resource(IntFlag):
    """Kinds of objects, as rules name them in their numbers (oned, `PoolObjectSQL::ObjectType`)."""

    VM = 0x1000000000
    HOST = 0x2000000000
    NET = 0x4000000000
    IMAGE = 0x8000000000
    TEMPLATE = 0x20000000000
    DATASTORE = 0x100000000000


class Operation(IntEnum):
    """What a rule lets one do (oned, `AuthRequest::Operation`)."""

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
        """The ids of the users who are in it, whether it is their primary group or another of theirs."""
        return self._numbers("USERS/ID")


class Rule(View):
    """A rule: whom it is for, what it is about, and what it lets them do."""

    def grants(self, group_id: int, resource: Resource, operation: Operation) -> bool:
        """Whether it lets every user of a group do this with at least some objects of this kind.

        To create, it has to be about all objects: there is no other yet.
        """
        whom, what = self._hex("USER"), self._hex("RESOURCE")
        is_meant = bool(whom & _ALL or (whom & _GROUP and whom & _ID == group_id))
        is_about = bool(what & _ALL) if operation is Operation.CREATE else True
        return is_meant and is_about and bool(what & resource) and bool(self._hex("RIGHTS") & operation)

    def _hex(self, path: str) -> int:
        try:
            return int(self._text(path), 16)
        except ValueError:
            raise InvalidReply(self._path, f"{path} is no hexadecimal number") from None


def is_granted(rules: Collection[Rule], group_id: int, resource: Resource, operation: Operation) -> bool:
    """Whether any rule lets every user of a group do this."""
    return any(rule.grants(group_id, resource, operation) for rule in rules)
