"""Compiles the structures of the model to closures that append escaped strings: several times faster than a tree.

A writer writes an element in one step. A stepper writes an element of any size in slices, between which the reactor can
serve other requests. Each item of a list is written in one step, unless it turns out to be longer than a slice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, TypeVar, cast

from econed.reusable import KeptXml, Reusable
from econed.wire.model import own_name
from econed.wire.shapes import ListShape, MapShape, Shape, StructureShape
from econed.wire.text import escape, text_formatter

SLICE_LENGTH: Final = 1000
"""Approximate number of tags and elements in a slice: 20 to 60 KB, about a millisecond of work."""

_MAX_LENGTH: Final = SLICE_LENGTH * 3 // 2
"""Number of tags and elements at which an item is no longer written in one step."""

_MAX_KNOWN: Final = 64
"""Values of an enumeration that are encoded in advance."""

_MAX_REMEMBERED: Final = 64
"""Read-only structures whose encoding is remembered, for each member of the model."""

_MAX_PLANS: Final = 64
"""Combinations of members of a structure for which the writers are remembered, in the model's order."""

_PLACEHOLDERS: Final = ("",) * 63
"""Follow XML that was kept, so that it counts for the length of a slice: some 50 bytes as one tag or element."""

_UNKNOWN: Final = "the model has no such member"

_T = TypeVar("_T")

Writer = Callable[[Any, list[str]], None]
"""Writes a whole element; raises `_TooLong` where a list in it is longer than a slice."""

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


class _TooLong(Exception):
    """An element is longer than a slice, or may be."""


class Structure:
    """The writers and steppers of a structure's members. Filled after creation, since shapes may be recursive.

    Elements are in the model's order, as Amazon's are: some clients use the first element that has a certain name.
    """

    def __init__(self, order: Iterable[str]) -> None:
        self.order = tuple(order)
        self.writers: dict[str, Writer] = {}
        """For all members."""
        self.steppers: dict[str, Stepper] = {}
        """For those whose size the model does not bound."""
        self._plans: dict[tuple[str, ...], Sequence[tuple[str, Writer]]] = {}

    def write(self, value: Any, out: list[str]) -> None:
        """Append all members in one step."""
        members = _mapping(value)
        names = tuple(members)
        plan = self._plans.get(names) or self._plan(names)
        try:
            for key, write in plan:
                item = members[key]
                if item is not None:
                    write(item, out)
        except InvalidResult as error:
            error.prepend(f".{key}")
            raise

    def steps(self, value: Any, out: list[str]) -> Iterator[None]:
        """Append all members, yielding within long ones."""
        writers, steppers = self.writers, self.steppers
        try:
            for key, item in self.items(value):
                if item is None:
                    continue
                if key in steppers:
                    yield from steppers[key](item, out)
                else:
                    member_of(writers, key)(item, out)
        except InvalidResult as error:
            error.prepend(f".{key}")
            raise

    def _plan(self, names: tuple[str, ...]) -> Sequence[tuple[str, Writer]]:
        """Return the writers of the members with these names; most structures of a list have the same members."""
        plan = [(key, self.writers[key]) for key in self.order if key in names]
        for key in names:
            if key not in self.writers:
                error = InvalidResult(_UNKNOWN)
                error.prepend(f".{key}")
                raise error
        if len(self._plans) >= _MAX_PLANS:
            self._plans.clear()
        self._plans[names] = plan
        return plan

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
            name = own_name(member, key)
            compiled.writers[key] = self._writer(member, name)
            if not self._is_bounded(member):
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
        match shape:
            case StructureShape():
                write = _structure_writer(self.structure(shape), name)
                return _remembering(write) if self._is_bounded(shape) else write
            case ListShape():
                write_items = _items_writer(self._item_writer(shape, name))
                return write_items if shape.is_flattened else _wrapped_writer(write_items, name)
            case MapShape():
                write_entries = _entries_writer(self._entry(shape, name)[0])
                return write_entries if shape.is_flattened else _wrapped_writer(write_entries, name)
        return _scalar_writer(shape, name)

    def _stepper(self, shape: Shape, name: str) -> Stepper:
        match shape:
            case StructureShape():
                return _wrapped(self.structure(shape).steps, name)
            case MapShape():
                entries = _entries_stepper(*self._entry(shape, name))
                return entries if shape.is_flattened else _wrapped(entries, name)
        member, item_name = cast(ListShape, shape).member, _item_name(cast(ListShape, shape), name)
        step = None if self._is_bounded(member) else self._stepper(member, item_name)
        items = _items_stepper(self._item_writer(cast(ListShape, shape), name), step)
        return items if shape.is_flattened else ListStepper(items, name)

    def _item_writer(self, shape: ListShape, name: str) -> Writer:
        write = self._writer(shape.member, _item_name(shape, name))
        return _reusing(write) if isinstance(shape.member, StructureShape) else write

    def _entry(self, shape: MapShape, name: str) -> tuple[Writer, Stepper]:
        """Return the writer and the stepper of an entry of a map; `name` is that of the map."""
        entry_name = name if shape.is_flattened else "entry"
        entry = Structure(("key", "value"))
        for key, member in (("key", shape.key), ("value", shape.value)):
            part_name = own_name(member, key)
            entry.writers[key] = self._writer(member, part_name)
            if not self._is_bounded(member):
                entry.steppers[key] = self._stepper(member, part_name)
        return _structure_writer(entry, entry_name), _wrapped(entry.steps, entry_name)


def _item_name(shape: ListShape, name: str) -> str:
    return name if shape.is_flattened else own_name(shape.member, "member")


def _scalar_writer(shape: Shape, name: str) -> Writer:
    opening, closing = f"<{name}>", f"</{name}>"
    format_text = text_formatter(shape)
    known = {text: f"{opening}{escape(text)}{closing}" for text in shape.enum[:_MAX_KNOWN]}

    def write(value: Any, out: list[str]) -> None:
        try:
            out.append(opening + format_text(value) + closing)
        except TypeError as error:
            raise InvalidResult(str(error)) from None

    def write_known(value: Any, out: list[str]) -> None:
        if isinstance(value, str) and value in known:
            out.append(known[value])
        else:
            write(value, out)

    return write_known if known else write


def _structure_writer(structure: Structure, name: str) -> Writer:
    return _wrapped_writer(structure.write, name)


def _remembering(write: Writer) -> Writer:
    """Return a writer that remembers what it wrote for structures that are read-only.

    The items of a list share them (`econed.actions.constants`). They are recognized by their identity.
    """
    remembered: dict[int, tuple[Any, str]] = {}

    def write_or_repeat(value: Any, out: list[str]) -> None:
        if type(value) is not MappingProxyType:
            write(value, out)
            return
        if id(value) not in remembered:
            written: list[str] = []
            write(value, written)
            if len(remembered) >= _MAX_REMEMBERED:
                remembered.clear()
            remembered[id(value)] = value, "".join(written)  # with the value, so that no other gets its id
        out.append(remembered[id(value)][1])

    return write_or_repeat


def _reusing(write: Writer) -> Writer:
    """Return a writer that keeps the XML that it writes for a `Reusable`, and repeats a `KeptXml`."""

    def write_or_reuse(value: Any, out: list[str]) -> None:
        if type(value) is KeptXml:
            out += (value.text, *_PLACEHOLDERS)
        elif type(value) is Reusable:
            written: list[str] = []
            write(value.structure, written)
            value.kept.keep("".join(written))
            out += written
        else:
            write(value, out)

    return write_or_reuse


def _items_writer(write: Writer) -> Writer:
    def write_items(value: Any, out: list[str]) -> None:
        elements, index = _elements(value), 0
        if not isinstance(elements, list | tuple):
            raise _TooLong  # it can be read only once
        try:
            for item in elements:
                write(item, out)
                index += 1
                if len(out) >= _MAX_LENGTH:
                    raise _TooLong
        except InvalidResult as error:
            error.prepend(f"[{index}]")
            raise

    return write_items


def _entries_writer(write_entry: Writer) -> Writer:
    write_entries = _items_writer(write_entry)
    return lambda value, out: write_entries(_entries(value), out)


def _wrapped_writer(inner: Writer, name: str) -> Writer:
    opening, closing = f"<{name}>", f"</{name}>"

    def write(value: Any, out: list[str]) -> None:
        out.append(opening)
        inner(value, out)
        out.append(closing)

    return write


def _wrapped(inner: Stepper, name: str) -> Stepper:
    opening, closing = f"<{name}>", f"</{name}>"

    def steps(value: Any, out: list[str]) -> Iterator[None]:
        out.append(opening)
        yield from inner(value, out)
        out.append(closing)

    return steps


def _items_stepper(write: Writer, step: Stepper | None) -> Stepper:
    """Return a stepper for the items of a list; `step` writes those that are too long for `write`."""

    def steps(value: Any, out: list[str]) -> Iterator[None]:
        elements, index = _elements(value), 0
        try:
            for item in elements:
                length = len(out)
                try:
                    write(item, out)
                except _TooLong:
                    del out[length:]
                    yield from cast(Stepper, step)(item.structure if type(item) is Reusable else item, out)
                index += 1
                if len(out) >= SLICE_LENGTH:
                    yield
        except InvalidResult as error:
            error.prepend(f"[{index}]")
            raise

    return steps


def _entries_stepper(write_entry: Writer, step_entry: Stepper) -> Stepper:
    steps = _items_stepper(write_entry, step_entry)
    return lambda value, out: steps(_entries(value), out)


def member_of(writers: Mapping[str, _T], key: str) -> _T:
    """Return the writer or stepper of a member; raises `InvalidResult` if the structure has no such member."""
    try:
        return writers[key]
    except KeyError:
        raise InvalidResult(_UNKNOWN) from None


def _mapping(value: Any) -> Mapping[str, Any]:
    if type(value) is not dict and not isinstance(value, Mapping):
        raise InvalidResult(f"expected a mapping, not {type(value).__name__}")
    return value


def _entries(value: Any) -> list[Mapping[str, Any]]:
    return [{"key": key, "value": item} for key, item in _mapping(value).items()]


def _elements(value: Any) -> Iterable[Any]:
    if type(value) is list:  # is tested much faster than the abstract classes, and is what nearly all values are
        return value
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise InvalidResult(f"expected a list, not {type(value).__name__}")
    return value
