"""Compiles the structures of the model to closures that append escaped strings: several times faster than a tree.

A writer writes an element of bounded size in one step. A stepper writes an element of any size in slices, between which
the reactor can serve other requests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeVar, cast

from econed.wire.model import output_name
from econed.wire.shapes import ListShape, MapShape, Shape, StructureShape
from econed.wire.text import text_formatter

SLICE_LENGTH: Final = 1000
"""Approximate number of tags and elements in a slice: 20 to 60 KB, about a millisecond of work."""

_T = TypeVar("_T")

Writer = Callable[[Any, list[str]], None]
"""Writes a whole element whose size the model bounds."""

Stepper = Callable[[Any, list[str]], Iterator[None]]
"""Writes an element that may contain lists of any length; yields where a slice may end."""


class InvalidResult(TypeError):
    """The result of an action does not match the model: an unknown member or a value of the wrong type.

    This is a bug in econed, not an error of the client.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self._path: list[str] = []
        """The parts of `path`, innermost first."""

    def prepend(self, part: str) -> None:
        """Add the enclosing part to the front of `path`."""
        self._path.append(part)

    @property
    def path(self) -> str:
        """The invalid member, as `DescribeInstances.Reservations[0].OwnerId`."""
        return "".join(reversed(self._path)).lstrip(".")

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class Structure:
    """The writers and steppers of a structure's members. Filled after creation, since shapes may be recursive.

    Elements are in the model's order, as Amazon's are: some clients use the first element that has a certain name.
    """

    def __init__(self, order: Iterable[str]) -> None:
        self.order = tuple(order)
        self.writers: dict[str, Writer] = {}
        self.steppers: dict[str, Stepper] = {}

    def write(self, value: Any, out: list[str]) -> None:
        """Append all members of a structure without steppers."""
        writers, items = self.writers, self.items(value)
        try:
            for key, item in items:
                if item is not None:
                    member_of(writers, key)(item, out)
        except InvalidResult as error:
            error.prepend(f".{key}")
            raise

    def steps(self, value: Any, out: list[str]) -> Iterator[None]:
        """Append all members, yielding within long ones."""
        writers, steppers, items = self.writers, self.steppers, self.items(value)
        try:
            for key, item in items:
                if item is None:
                    continue
                if key in writers:
                    writers[key](item, out)
                else:
                    yield from member_of(steppers, key)(item, out)
        except InvalidResult as error:
            error.prepend(f".{key}")
            raise

    def items(self, value: Any) -> Iterable[tuple[str, Any]]:
        """Return the members of `value` in the model's order, followed by those that the model does not have."""
        members = _mapping(value)
        known = [(key, members[key]) for key in self.order if key in members]
        return known if len(known) == len(members) else [*known, *(m for m in members.items() if m not in known)]


class ListStepper:
    """A `Stepper` that writes a list in an element of its own; its items can also be written by several calls."""

    def __init__(self, items: Stepper, name: str) -> None:
        self.opening, self.closing = f"<{name}>", f"</{name}>"
        self.items = items

    def __call__(self, value: Any, out: list[str]) -> Iterator[None]:
        """Append the element."""
        out.append(self.opening)
        yield from self.items(value, out)
        out.append(self.closing)


class Compiler:
    """Compiles shapes to closures, each structure once."""

    def __init__(self) -> None:
        self._structures: dict[str, Structure] = {}
        self._bounded: dict[str, bool] = {}

    def structure(self, shape: StructureShape) -> Structure:
        """Return the compiled structure."""
        if shape.name in self._structures:
            return self._structures[shape.name]
        compiled = self._structures[shape.name] = Structure(shape.members)
        for key, member in shape.members.items():
            name = output_name(member, key)
            if self._is_bounded(member):
                compiled.writers[key] = self._writer(member, name)
            else:
                compiled.steppers[key] = self._stepper(member, name)
        return compiled

    def _is_bounded(self, shape: Shape) -> bool:
        """Whether the model bounds the size of a value: a scalar, or a structure of these that is not recursive."""
        if shape.type_name != "structure":
            return shape.type_name not in ("list", "map")
        if shape.name not in self._bounded:
            self._bounded[shape.name] = False
            members = cast(StructureShape, shape).members.values()
            self._bounded[shape.name] = all(self._is_bounded(member) for member in members)
        return self._bounded[shape.name]

    def _writer(self, shape: Shape, name: str) -> Writer:
        if shape.type_name == "structure":
            return _structure_writer(self.structure(cast(StructureShape, shape)), name)
        return _scalar_writer(text_formatter(shape), name)

    def _stepper(self, shape: Shape, name: str) -> Stepper:
        if shape.type_name == "structure":
            return _structure_stepper(self.structure(cast(StructureShape, shape)), name)
        if shape.type_name == "map":
            return self._map_stepper(cast(MapShape, shape), name)
        member = cast(ListShape, shape).member
        if shape.is_flattened:
            return self._items_stepper(member, name)
        return ListStepper(self._items_stepper(member, output_name(member, "member")), name)

    def _items_stepper(self, member: Shape, name: str) -> Stepper:
        if self._is_bounded(member):
            return _list_of_writers(self._writer(member, name))
        return _list_of_steppers(self._stepper(member, name))

    def _map_stepper(self, shape: MapShape, name: str) -> Stepper:
        entry = Structure(("key", "value"))
        entry.writers["key"] = self._writer(shape.key, output_name(shape.key, "key"))
        value_name = output_name(shape.value, "value")
        if self._is_bounded(shape.value):
            entry.writers["value"] = self._writer(shape.value, value_name)
        else:
            entry.steppers["value"] = self._stepper(shape.value, value_name)
        entries = _list_of_steppers(_structure_stepper(entry, "entry"))

        def steps(value: Any, out: list[str]) -> Iterator[None]:
            yield from entries([{"key": key, "value": item} for key, item in _mapping(value).items()], out)

        return _wrapped(steps, name)


def _scalar_writer(format_text: Callable[[Any], str], name: str) -> Writer:
    opening, closing = f"<{name}>", f"</{name}>"

    def write(value: Any, out: list[str]) -> None:
        try:
            out.append(opening + format_text(value) + closing)
        except TypeError as error:
            raise InvalidResult(str(error)) from None

    return write


def _structure_writer(structure: Structure, name: str) -> Writer:
    opening, closing = f"<{name}>", f"</{name}>"

    def write(value: Any, out: list[str]) -> None:
        out.append(opening)
        structure.write(value, out)
        out.append(closing)

    return write


def _structure_stepper(structure: Structure, name: str) -> Stepper:
    return _wrapped(lambda value, out: structure.steps(value, out), name)


def _wrapped(inner: Stepper, name: str) -> Stepper:
    opening, closing = f"<{name}>", f"</{name}>"

    def steps(value: Any, out: list[str]) -> Iterator[None]:
        out.append(opening)
        yield from inner(value, out)
        out.append(closing)

    return steps


def _list_of_writers(write: Writer) -> Stepper:
    def steps(value: Any, out: list[str]) -> Iterator[None]:
        elements, index = _elements(value), 0
        try:
            for item in elements:
                write(item, out)
                index += 1
                if len(out) >= SLICE_LENGTH:
                    yield
        except InvalidResult as error:
            error.prepend(f"[{index}]")
            raise

    return steps


def _list_of_steppers(step: Stepper) -> Stepper:
    def steps(value: Any, out: list[str]) -> Iterator[None]:
        elements, index = _elements(value), 0
        try:
            for item in elements:
                yield from step(item, out)
                index += 1
                if len(out) >= SLICE_LENGTH:
                    yield
        except InvalidResult as error:
            error.prepend(f"[{index}]")
            raise

    return steps


def member_of(writers: Mapping[str, _T], key: str) -> _T:
    """Return the writer or stepper of a member; raises `InvalidResult` if the structure has no such member."""
    try:
        return writers[key]
    except KeyError:
        raise InvalidResult("the model has no such member") from None


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidResult(f"expected a mapping, not {type(value).__name__}")
    return value


def _elements(value: Any) -> Iterable[Any]:
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise InvalidResult(f"expected a list, not {type(value).__name__}")
    return value
