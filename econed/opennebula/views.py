"""Typed views over the XML documents of oned: what all of them share.

A view holds an element and reads it when it is asked, no sooner: a list of ten thousand machines costs only what is
looked at. Every read goes through one function of `View`, which can note what was read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from econed.errors import InvalidReply
from econed.opennebula.attributes import Attributes, Value, Vector
from econed.opennebula.states import LockLevel
from econed.opennebula.template import is_name
from econed.opennebula.values import whole_number

if TYPE_CHECKING:
    from lxml.etree import _Element

OnRead: TypeAlias = Callable[[str], None]
"""Is told the path of each element that a view reads: `VM/TEMPLATE/DISK/TARGET`, `VM/USER_TEMPLATE/*` for all in it."""


class View:
    """A part of a document of oned's. Parts that are taken from it note what they read to the same `note`."""

    def __init__(self, element: _Element, on_read: OnRead | None = None, path: str | None = None) -> None:
        self._element = element
        self._on_read = on_read
        self._path = path or str(element.tag)

    def _all(self, path: str) -> list[_Element]:
        """Return the elements at `path` below this one. Every read of a document comes through here."""
        if self._on_read is not None:
            self._on_read(f"{self._path}/{path}")
        found = [self._element]
        for tag in path.split("/"):  # three times as quick as findall, which lists of ten thousand machines feel
            found = [child for parent in found for child in parent.iterchildren(tag)]
        return found

    def _text(self, path: str, default: str = "") -> str:
        found = self._all(path)
        return (found[0].text or "") if found else default

    def _named(self, path: str, name: str) -> str:
        """Return the text of the child `name` at `path`; names come from other modules, so they are checked."""
        if not is_name(name):
            raise ValueError(f"not an attribute name: {name!r}")
        return self._text(f"{path}/{name}" if path else name)

    def _number(self, path: str, default: int | None = None) -> int:
        """Return the whole number at `path`, or `default` where there is none or it is empty."""
        text = self._text(path).strip()
        if not text and default is not None:
            return default
        try:
            return int(text)
        except ValueError:
            raise InvalidReply(self._path, f"{path} is no number: {text[:40]!r}") from None

    def _whole(self, path: str) -> int | None:
        """Return the whole number at `path`, where a user may have written anything; None where there is none."""
        return whole_number(self._text(path))

    def _flag(self, path: str) -> bool:
        """Return whether oned says yes at `path`, in any of its spellings."""
        return self._text(path).upper() in ("1", "YES", "TRUE")

    def _numbers(self, path: str) -> tuple[int, ...]:
        """Return the ids in the list at `path` (`…/ID`)."""
        try:
            return tuple(int(each.text or "") for each in self._all(path))
        except ValueError:
            raise InvalidReply(self._path, f"{path} holds something that is no id") from None

    def _attributes(self, path: str, prefix: str = "", most: int | None = None) -> Attributes:
        """Return all that stands at `path`, a template of free attributes.

        With a `prefix` only those whose names begin so, and no more than `most` of them; the others cost little.
        """
        elements = self._all(f"{path}/*" if path else "*")
        wanted = (each for each in elements if isinstance(each.tag, str) and each.tag.startswith(prefix))
        return Attributes((str(each.tag), _value(each)) for each in islice(wanted, most))

    def _members(self, path: str) -> Vector:
        """Return the texts that stand at `path`, a vector attribute."""
        return MappingProxyType({name: value for name, value in self._attributes(path) if isinstance(value, str)})

    def _below(self, path: str) -> str:
        return f"{self._path}/{path}"


def _value(element: _Element) -> Value:
    if len(element) == 0:
        return element.text or ""
    return {str(member.tag): member.text or "" for member in element if isinstance(member.tag, str)}


class Right(Enum):
    """What one may do with an object (OpenNebula, "Managing Permissions")."""

    USE = "U"
    MANAGE = "M"
    ADMIN = "A"


@dataclass(frozen=True)
class Permissions:
    """The nine permission bits of an object: the rights of its owner, its group and all others."""

    owner: frozenset[Right]
    group: frozenset[Right]
    other: frozenset[Right]


@dataclass(frozen=True)
class Lock:
    """A lock on an object: its level, who set it, and when (seconds since the epoch)."""

    level: LockLevel
    owner: int
    time: int


class OwnedView(View):
    """A view of an object that has an id, a name, an owner, a group and permissions."""

    @property
    def id(self) -> int:
        """The OpenNebula id."""
        return self._number("ID")

    @property
    def name(self) -> str:
        """The name; unique per owner for images, templates and networks, not for machines."""
        return self._text("NAME")

    @property
    def uid(self) -> int:
        """The id of the owner."""
        return self._number("UID")

    @property
    def gid(self) -> int:
        """The id of the group."""
        return self._number("GID")

    @property
    def uname(self) -> str:
        """The name of the owner."""
        return self._text("UNAME")

    @property
    def gname(self) -> str:
        """The name of the group."""
        return self._text("GNAME")

    @cached_property
    def permissions(self) -> Permissions:
        """The permission bits. The short form of the VM pool has none: nobody may, then."""
        return Permissions(self._rights("OWNER"), self._rights("GROUP"), self._rights("OTHER"))

    def _rights(self, whose: str) -> frozenset[Right]:
        return frozenset(right for right in Right if self._flag(f"PERMISSIONS/{whose}_{right.value}"))

    @property
    def lock(self) -> Lock | None:
        """The lock on the object, if there is one."""
        if not self._all("LOCK/LOCKED"):
            return None
        level = LockLevel(self._number("LOCK/LOCKED"))
        return Lock(level, self._number("LOCK/OWNER", -1), self._number("LOCK/TIME", 0))

    def allows(self, user_id: int, group_ids: Collection[int], right: Right) -> bool:
        """Whether a user in these groups has a right on the object by its permission bits.

        oneadmin (user 0) and the members of his group (group 0) may do everything. Access control lists may grant
        more: only oned knows.
        """
        if user_id == 0 or 0 in group_ids:
            return True
        bits = self.permissions
        return (
            right in bits.other
            or (right in bits.owner and self.uid == user_id)
            or (right in bits.group and self.gid in group_ids)
        )
