"""The shapes of Amazon's model: the types of the values in requests and responses.

They are those of `botocore.model`, with what econed uses of them: that module imports botocore's HTTP client, which
would take a tenth of a worker's start and 4 MB.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final, TypeAlias, cast

Definitions: TypeAlias = Mapping[str, Mapping[str, Any]]
"""The `shapes` of a service description, by name."""


class Shape:
    """A scalar, and what all shapes have. Immutable.

    `traits` are those of the shape's definition, and of the place where it is used, such as a member of a structure.
    """

    def __init__(self, name: str, traits: Mapping[str, Any], definitions: Definitions) -> None:
        self.name = name
        self.type_name: str = traits["type"]
        self._traits = traits
        self._definitions = definitions

    @property
    def location_name(self) -> str | None:
        """Its name in a document; None: that of the member."""
        return self._traits.get("locationName")

    @property
    def query_name(self) -> str | None:
        """Its name in a request, if it is not derived from `location_name`."""
        return self._traits.get("queryName")

    @property
    def is_flattened(self) -> bool:
        """Whether the items of a list are not in an element of their own."""
        return bool(self._traits.get("flattened"))

    @property
    def timestamp_format(self) -> str | None:
        """The format of a time; None: the protocol's."""
        return self._traits.get("timestampFormat")

    @property
    def enum(self) -> Sequence[str]:
        """The valid values of a string; empty if any is valid."""
        return cast("Sequence[str]", self._traits.get("enum", ()))

    @property
    def minimum(self) -> int | None:
        """The smallest valid number, or the smallest length of a text, list or map."""
        return self._traits.get("min")

    @property
    def maximum(self) -> int | None:
        """The largest valid number, or length."""
        return self._traits.get("max")

    @property
    def pattern(self) -> str | None:
        """The regular expression that all of a valid string matches."""
        return self._traits.get("pattern")

    @property
    def is_sensitive(self) -> bool:
        """Whether values must not be quoted in texts."""
        return bool(self._traits.get("sensitive"))

    def _used(self, reference: Mapping[str, Any]) -> Shape:
        return shape_of(reference, self._definitions)


class StructureShape(Shape):
    """A structure."""

    @cached_property
    def members(self) -> Mapping[str, Shape]:
        """The shapes of its members, in the model's order."""
        references = self._traits.get("members", {})
        return MappingProxyType({key: self._used(reference) for key, reference in references.items()})

    @property
    def required_members(self) -> Sequence[str]:
        """The members that the model requires."""
        return cast("Sequence[str]", self._traits.get("required", ()))


class ListShape(Shape):
    """A list."""

    @cached_property
    def member(self) -> Shape:
        """The shape of its items."""
        return self._used(self._traits["member"])


class MapShape(Shape):
    """A map."""

    @cached_property
    def key(self) -> Shape:
        """The shape of its keys."""
        return self._used(self._traits["key"])

    @cached_property
    def value(self) -> Shape:
        """The shape of its values."""
        return self._used(self._traits["value"])


def shape_of(reference: Mapping[str, Any], definitions: Definitions) -> Shape:
    """Return the shape that a reference names, with the traits of the reference."""
    name = reference["shape"]
    traits = {**definitions[name], **reference}
    return _CLASSES.get(traits["type"], Shape)(name, traits, definitions)


def references_in(definition: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the references to other shapes in the definition of a shape."""
    return [*definition.get("members", {}).values(), *(definition[key] for key in _PARTS if key in definition)]


_CLASSES: Final[Mapping[str, type[Shape]]] = MappingProxyType(
    {"structure": StructureShape, "list": ListShape, "map": MapShape}
)
_PARTS: Final = ("member", "key", "value")
