"""Typed views of oned's XML documents: the base classes.

A view holds an element and reads it lazily: the children of an element are walked once, when one of them is first
used, and what is used is then looked up. The path of every read is reported to a callback.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from econed.errors import InvalidReply
from econed.opennebula.attributes import Attributes, Value, Vector
from econed.opennebula.states import LockLevel
from econed.opennebula.template import is_name
from econed.opennebula.values import whole_number

if TYPE_CHECKING:
    from lxml.etree import _Element

OnRead: TypeAlias = Callable[[str], None]
"""Called with the path of each element that a view reads: `VM/TEMPLATE/DISK/TARGET`, `VM/USER_TEMPLATE/*` for all."""

_V = TypeVar("_V", bound="View")

_Children: TypeAlias = "tuple[Mapping[str, str], Mapping[str, Sequence[_Element]]]"
"""The children of an element by their tags: the texts of those without children of their own, and the others.

The texts are no objects that garbage collection has to look at, unlike elements.
"""


class View:
    """A part of an oned document. `on_read` is passed on to the views of its own parts."""

    def __init__(self, element: _Element, on_read: OnRead | None = None, path: str | None = None) -> None:
        self._element = element
        self._on_read = on_read
        self._path = path or str(element.tag)
        self._walked: dict[str, _Children] = {}
        """By the path of each element whose children were read."""

    def is_of_same_element(self, other: View) -> bool:
        """Whether another view is of the same element, not only of an equal one."""
        return self._element is other._element

    def _text(self, path: str, default: str = "") -> str:
        """Return the text at `path`, the first if there are several; `default` if there is none."""
        if self._on_read is not None:
            self._report(path)
        parent, _, tag = path.rpartition("/")
        return (self._walked.get(parent) or self._walk(parent))[0].get(tag, default)

    def _all(self, path: str) -> Sequence[_Element]:
        """Return the elements at `path` below this element."""
        self._report(path)
        parent, _, tag = path.rpartition("/")
        texts, parts = self._walked.get(parent) or self._walk(parent)
        if tag in texts:
            return [child for element in self._parts(parent) for child in element.iterchildren(tag)]
        return parts.get(tag, ())

    def _report(self, path: str) -> None:
        """Report a read. Every read of a document is reported."""
        if self._on_read is not None:
            self._on_read(f"{self._path}/{path}")

    def _walk(self, path: str) -> _Children:
        """Return the children of the elements at `path`: one walk, however many of them are read."""
        texts: dict[str, str] = {}
        parts: dict[str, list[_Element]] = {}
        for element in self._parts(path):
            for child in element:
                tag = child.tag
                if len(child):
                    parts.setdefault(tag, []).append(child)
                elif tag not in texts:
                    texts[tag] = child.text or ""
        self._walked[path] = texts, parts
        return texts, parts

    def _parts(self, path: str) -> Sequence[_Element]:
        """Return the elements with children at `path`."""
        if not path:
            return (self._element,)
        parent, _, tag = path.rpartition("/")
        return (self._walked.get(parent) or self._walk(parent))[1].get(tag, ())

    def _views(self, kind: type[_V], path: str, max_count: int | None = None) -> tuple[_V, ...]:
        """Return views of the elements at `path`, or of the first `max_count`, in oned's order."""
        return tuple(self._view(kind, path, element) for element in islice(self._all(path), max_count))

    def _view(self, kind: type[_V], path: str, element: _Element) -> _V:
        return kind(element, self._on_read, f"{self._path}/{path}")

    def _named(self, path: str, name: str) -> str:
        """Return the text of the child `name` at `path`. Names come from other modules, so they are checked."""
        _check_name(name)
        return self._text(f"{path}/{name}" if path else name)

    def _few(self, path: str, *names: str) -> dict[str, str]:
        """Return the texts, if not empty, of the few children at `path` with these names; others are not read."""
        for name in names:
            _check_name(name)
            self._report(f"{path}/{name}")
        children = [child for element in self._parts(path) for child in element.iterchildren(*names)]
        return {child.tag: child.text for child in reversed(children) if child.text}  # the first of a name remains

    def _has(self, path: str, name: str) -> bool:
        """Whether there is a child `name` at `path`; others are not read."""
        _check_name(name)
        self._report(f"{path}/{name}")
        return any(True for element in self._parts(path) for _ in element.iterchildren(name))

    def _number(self, path: str, default: int | None = None) -> int:
        """Return the number at `path`; `default` where the element is missing or empty."""
        text = self._text(path)
        try:
            return int(text)
        except ValueError:
            if default is not None and not text.strip():
                return default
            raise InvalidReply(self._path, f"{path} is not a number: {text[:40]!r}") from None

    def _user_number(self, path: str) -> int | None:
        """Return the number at `path`, where a user may write any text; None for anything but a whole number."""
        return whole_number(self._text(path))

    def _flag(self, path: str) -> bool:
        """Return whether the text at `path` is true, in any of the spellings that oned uses."""
        return self._text(path).upper() in ("1", "YES", "TRUE")

    def _numbers(self, path: str) -> tuple[int, ...]:
        """Return the ids in the list at `path` (`…/ID`)."""
        try:
            return tuple(int(element.text or "") for element in self._all(path))
        except ValueError:
            raise InvalidReply(self._path, f"{path} contains something that is not an id") from None

    def _attributes(self, path: str, prefix: str = "", max_count: int | None = None) -> Attributes:
        """Return the attributes of the template at `path`.

        With a `prefix` only those whose names begin with it, at most `max_count` of them; skipping others is cheap.
        """
        self._report(f"{path}/*" if path else "*")
        children = (child for element in self._parts(path) for child in element.iterchildren("*"))
        matching = (child for child in children if child.tag.startswith(prefix)) if prefix else children
        return Attributes([(child.tag, _value(child)) for child in islice(matching, max_count)])

    def _attributes_with(self, path: str, *names: str) -> Attributes:
        """Return the first attribute at `path` with each of these names; others are not read."""
        for name in names:
            _check_name(name)
        self._report(f"{path}/*")
        first: dict[str, _Element] = {}
        for element in self._parts(path) if names else ():
            for child in element.iterchildren(*names):
                first.setdefault(child.tag, child)
        return Attributes([(name, _value(child)) for name, child in first.items()])

    def _members(self, path: str) -> Vector:
        """Return the members of the vector attribute at `path`."""
        return MappingProxyType({name: value for name, value in self._attributes(path) if isinstance(value, str)})


def _check_name(name: str) -> None:
    if not is_name(name):
        raise ValueError(f"not an attribute name: {name!r}")


def _value(element: _Element) -> Value:
    if len(element) == 0:
        return element.text or ""
    return {member.tag: member.text or "" for member in element.iterchildren("*")}


class Right(Enum):
    """A right on an object (OpenNebula, "Managing Permissions")."""

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

    @cached_property
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
        """The permission bits; none in the short form of the VM pool, which grants nothing."""
        return Permissions(self._rights("OWNER"), self._rights("GROUP"), self._rights("OTHER"))

    def _rights(self, holder: str) -> frozenset[Right]:
        return frozenset(right for right in Right if self._flag(f"PERMISSIONS/{holder}_{right.value}"))

    @property
    def lock(self) -> Lock | None:
        """The lock on the object, if there is one."""
        if not self._all("LOCK/LOCKED"):
            return None
        level = LockLevel(self._number("LOCK/LOCKED"))
        return Lock(level, self._number("LOCK/OWNER", -1), self._number("LOCK/TIME", 0))

    def allows(self, user_id: int, group_ids: Collection[int], right: Right) -> bool:
        """Whether the permission bits grant a right on the object to a user in these groups.

        oneadmin (user 0) and the members of its group (group 0) have all rights. Access control lists may grant more:
        only oned can tell.
        """
        if user_id == 0 or 0 in group_ids:
            return True
        bits = self.permissions
        return (
            right in bits.other
            or (right in bits.owner and self.uid == user_id)
            or (right in bits.group and self.gid in group_ids)
        )
