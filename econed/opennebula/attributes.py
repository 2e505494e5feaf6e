"""The content of an oned template: attributes that are texts or vectors, several of which may share a name."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TypeAlias

Vector: TypeAlias = Mapping[str, str]
"""The members of a vector attribute, `NAME=[K="v",…]`."""

Value: TypeAlias = str | Vector

_LAST_CHARACTER = "\U0010ffff"
_NO_MEMBERS: Vector = MappingProxyType({})


class Attributes:
    """The attributes of one template, immutable and in oned's order."""

    __slots__ = ("_by_name", "_items", "_sorted")

    def __init__(self, items: Iterable[tuple[str, Value]] = ()) -> None:
        self._items: tuple[tuple[str, Value], ...] = tuple(
            [(name, value if isinstance(value, str) else MappingProxyType(dict(value))) for name, value in items]
        )
        self._by_name: dict[str, list[Value]] = {}
        for name, value in self._items:
            self._by_name.setdefault(name, []).append(value)
        self._sorted: tuple[str, ...] | None = None

    def __iter__(self) -> Iterator[tuple[str, Value]]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Attributes) and self._items == other._items

    __hash__ = None  # type: ignore[assignment]  # holds mappings

    def __repr__(self) -> str:
        return f"Attributes({[(name, value if isinstance(value, str) else dict(value)) for name, value in self]!r})"

    def names(self) -> tuple[str, ...]:
        """Return every name once, in oned's order."""
        return tuple(self._by_name)

    def names_starting_with(self, prefix: str) -> tuple[str, ...]:
        """Return every name that begins with `prefix`, in alphabetical order.

        The cost grows with the number of names returned, not of all names: callers try many prefixes on one object.
        """
        if self._sorted is None:
            self._sorted = tuple(sorted(self._by_name))
        start = bisect_left(self._sorted, prefix)
        return self._sorted[start : bisect_left(self._sorted, f"{prefix}{_LAST_CHARACTER}", start)]

    def all(self, name: str) -> tuple[Value, ...]:
        """Return every value under `name`."""
        return tuple(self._by_name.get(name, ()))

    def text(self, name: str, default: str = "") -> str:
        """Return the first text under `name`; `default` if there is none."""
        for value in self._by_name.get(name, ()):
            if isinstance(value, str):
                return value
        return default

    def vectors(self, name: str) -> tuple[Vector, ...]:
        """Return every vector under `name`. A vector without members is left out: oned stores it as a text."""
        return tuple(value for value in self.all(name) if not isinstance(value, str))

    def vector(self, name: str) -> Vector:
        """Return the first vector under `name`; an empty vector if there is none."""
        for value in self._by_name.get(name, ()):
            if not isinstance(value, str):
                return value
        return _NO_MEMBERS

    def only(self, *names: str) -> Attributes:
        """Return the attributes with these names, in oned's order."""
        return Attributes(item for item in self._items if item[0] in names)

    def without(self, *names: str) -> Attributes:
        """Return the attributes with all other names, in oned's order."""
        return Attributes(item for item in self._items if item[0] not in names)
