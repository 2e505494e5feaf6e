"""From the members of the model to XML: `{"Reservations": [...]}` to `<DescribeInstancesResponse>`.

Every shape is compiled once to closures that append escaped strings: several times faster than building a tree, and a
long answer can be made in slices, so that the reactor serves others in between.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, Final, TypeVar, cast
from urllib.parse import quote

from botocore.model import ListShape, MapShape, Shape, StructureShape

from econed.wire.model import Operation, output_name
from econed.wire.text import escape, writer_of

RETURN_BESIDES_RESULT: Final = frozenset(
    {"AssignPrivateIpAddresses", "AssociateAddress", "CreatePlacementGroup", "CreateSecurityGroup"}
)
"""Operations that say `<return>true</return>` beside what they return, though today's model has no such member.

The older models (botocore, 2014-09-01) or Amazon's documented answers have it, and libcloud takes the text for success.
"""

SLICE: Final = 1000
"""After about so many tags and elements a slice ends: 20 to 60 KB, about a millisecond of work."""

_DECLARATION: Final = '<?xml version="1.0" encoding="UTF-8"?>\n'
_NAMESPACE: Final = "http://ec2.amazonaws.com/doc/"

_T = TypeVar("_T")
_Writer = Callable[[Any, list[str]], None]
"""Writes an element at once: of what the model itself keeps small."""
_Stepper = Callable[[Any, list[str]], Iterator[None]]
"""Writes an element that may hold lists of any length; it yields where a slice may end."""


class UnfitResult(TypeError):
    """A result does not fit the model: a member that is not there, or a value of another type. An error of ours."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self._path: list[str] = []

    def inside(self, part: str) -> None:
        """Note that what is wrong lies inside of `part`, said from the inside out."""
        self._path.append(part)

    @property
    def path(self) -> str:
        """Where it is wrong, as `DescribeInstances.Reservations[0].OwnerId`."""
        return "".join(reversed(self._path)).lstrip(".")

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class Encoder:
    """Makes answers in EC2's XML.

    One for a `Model`: what it has compiled it knows by the names of that model's shapes.
    """

    def __init__(self) -> None:
        self._compiler = _Compiler()

    def encode(self, operation: Operation, result: Mapping[str, Any], *, version: str, request_id: str) -> bytes:
        """Return the whole answer; raises `UnfitResult`. For long ones see `slices` and `body`."""
        return b"".join(self.slices(operation, result, version=version, request_id=request_id))

    def slices(
        self, operation: Operation, result: Mapping[str, Any], *, version: str, request_id: str
    ) -> Iterator[bytes]:
        """Yield the answer piece by piece, each a bounded amount of work (`SLICE`); see `body`."""
        body = self.body(operation, version=version, request_id=request_id)
        yield from body.slices(result)
        yield body.end()

    def body(self, operation: Operation, *, version: str, request_id: str) -> Body:
        """Return an answer to be written part by part.

        `version` is the API version that the request named: clients look for their own in the namespace.
        """
        return Body(self._compiler, operation, _opening(operation.name, version, request_id))


class Body:
    """One answer in EC2's XML, written in parts: each has members of the result, and none is kept.

    A list of the result itself may be continued by the next parts, until a part has another member. Within a part the
    members come in the model's order. None is left out, an empty list is an empty element. An operation without an
    output in the model answers `<return>true</return>`.
    """

    def __init__(self, compiler: _Compiler, operation: Operation, opening: str) -> None:
        self._compiler = compiler
        self._operation = operation
        self._out = [_DECLARATION, opening]
        self._written: set[str] = set()
        """The members that were written, or have begun to be."""
        self._open: tuple[str, _List] | None = None
        """The list that the next part may go on with, by the name of its member."""

    def slices(self, part: Mapping[str, Any]) -> Iterator[bytes]:
        """Write a part, and yield what there is each time that a bounded amount of work is done (`SLICE`).

        What is left is yielded with the next part, by `rest`, or with the end. `UnfitResult` may be raised by any step.
        """
        try:
            for _ in self._steps(part):
                yield self.rest()
        except UnfitResult as unfit:
            unfit.inside(self._operation.name)
            raise

    def rest(self) -> bytes:
        """Return what has been written and not been yielded."""
        written = "".join(self._out).encode()
        self._out.clear()
        return written

    def end(self) -> bytes:
        """Return what has not been yielded, and the end of the answer."""
        self._close()
        if _says_return(self._operation, self._written):
            self._out.append("<return>true</return>")
        self._out.append(f"</{self._operation.name}Response>")
        return self.rest()

    def _steps(self, part: Mapping[str, Any]) -> Iterator[None]:
        shape = self._operation.output_shape
        if shape is not None:
            structure = self._compiler.structure(shape)
            items = structure.items(part)
            if self._open is not None:
                items = sorted(items, key=self._continues, reverse=True)
            for key, value in items:
                if value is not None:
                    yield from self._member(structure, key, value)
        elif part:
            raise UnfitResult(f"the operation returns nothing, not {', '.join(part)}")

    def _continues(self, item: tuple[str, Any]) -> bool:
        return self._open is not None and item[0] == self._open[0]

    def _member(self, structure: _Structure, key: str, value: Any) -> Iterator[None]:
        try:
            if self._open is not None and self._open[0] == key:
                yield from self._open[1].items(value, self._out)
                return
            self._close()
            if key in self._written:
                raise UnfitResult("the member is complete already")
            stepper = structure.steppers.get(key)
            if isinstance(stepper, _List):
                self._out.append(stepper.opening)
                self._open = key, stepper
                self._written.add(key)
                yield from stepper.items(value, self._out)
            elif stepper is not None:
                self._written.add(key)
                yield from stepper(value, self._out)
            else:
                _found(structure.writers, key)(value, self._out)
                self._written.add(key)
        except UnfitResult as unfit:
            unfit.inside(f".{key}")
            raise

    def _close(self) -> None:
        if self._open is not None:
            self._out.append(self._open[1].closing)
            self._open = None


def encode_error(code: str, message: str, request_id: str) -> bytes:
    """Return the body of an error (EC2 API Reference, "Error codes"; it has no namespace and spells RequestID so)."""
    return (
        f"{_DECLARATION}<Response><Errors><Error><Code>{escape(code)}</Code><Message>{escape(message)}</Message></Error>"
        f"</Errors><RequestID>{escape(request_id)}</RequestID></Response>"
    ).encode()


def _opening(name: str, version: str, request_id: str) -> str:
    namespace = f"{_NAMESPACE}{quote(version, safe='', errors='replace')}/"
    return f'<{name}Response xmlns="{namespace}"><requestId>{escape(request_id)}</requestId>'


def _says_return(operation: Operation, written: Collection[str]) -> bool:
    """Whether the answer still wants its `<return>true</return>`: EC2 returns it whenever it returns no error."""
    if operation.output_shape is None or operation.name in RETURN_BESIDES_RESULT:
        return True
    members = operation.output_shape.members.items()
    named = [key for key, member in members if output_name(member, key) == "return" and member.type_name == "boolean"]
    return any(key not in written for key in named)


class _Structure:
    """The members of a structure with what writes them. Filled after it is made, since shapes may hold themselves.

    Elements come in the model's order, as Amazon's do: some clients take the first element of a name that they find.
    """

    def __init__(self, order: Iterable[str]) -> None:
        self.order = tuple(order)
        self.writers: dict[str, _Writer] = {}
        self.steppers: dict[str, _Stepper] = {}

    def write(self, value: Any, out: list[str]) -> None:
        """Append all members, where none of them is a stepper's."""
        writers, items = self.writers, self.items(value)
        try:
            for key, item in items:
                if item is not None:
                    _found(writers, key)(item, out)
        except UnfitResult as unfit:
            unfit.inside(f".{key}")
            raise

    def steps(self, value: Any, out: list[str]) -> Iterator[None]:
        """Append all members, pausing within long ones."""
        writers, steppers, items = self.writers, self.steppers, self.items(value)
        try:
            for key, item in items:
                if item is None:
                    continue
                if key in writers:
                    writers[key](item, out)
                else:
                    yield from _found(steppers, key)(item, out)
        except UnfitResult as unfit:
            unfit.inside(f".{key}")
            raise

    def items(self, value: Any) -> Iterable[tuple[str, Any]]:
        """Return the members that are given in the model's order, those that it has not at the end."""
        given = _mapping(value)
        known = [(key, given[key]) for key in self.order if key in given]
        return known if len(known) == len(given) else [*known, *(item for item in given.items() if item not in known)]


class _List:
    """What writes a list in an element of its own (`_Stepper`); its items can also be written in several steps."""

    def __init__(self, items: _Stepper, name: str) -> None:
        self.opening, self.closing = f"<{name}>", f"</{name}>"
        self.items = items

    def __call__(self, value: Any, out: list[str]) -> Iterator[None]:
        out.append(self.opening)
        yield from self.items(value, out)
        out.append(self.closing)


class _Compiler:
    """Shapes to closures, each structure once."""

    def __init__(self) -> None:
        self._structures: dict[str, _Structure] = {}
        self._bounded: dict[str, bool] = {}

    def structure(self, shape: StructureShape) -> _Structure:
        """Return the compiled structure."""
        if shape.name in self._structures:
            return self._structures[shape.name]
        compiled = self._structures[shape.name] = _Structure(shape.members)
        for key, member in shape.members.items():
            name = output_name(member, key)
            if self._is_bounded(member):
                compiled.writers[key] = self._writer(member, name)
            else:
                compiled.steppers[key] = self._stepper(member, name)
        return compiled

    def _is_bounded(self, shape: Shape) -> bool:
        """Whether the model itself keeps a value small: a scalar, or a structure of such that does not hold itself."""
        if shape.type_name != "structure":
            return shape.type_name not in ("list", "map")
        if shape.name not in self._bounded:
            self._bounded[shape.name] = False
            members = cast(StructureShape, shape).members.values()
            self._bounded[shape.name] = all(self._is_bounded(member) for member in members)
        return self._bounded[shape.name]

    def _writer(self, shape: Shape, name: str) -> _Writer:
        if shape.type_name == "structure":
            return _structure_writer(self.structure(cast(StructureShape, shape)), name)
        return _scalar_writer(writer_of(shape), name)

    def _stepper(self, shape: Shape, name: str) -> _Stepper:
        if shape.type_name == "structure":
            return _structure_stepper(self.structure(cast(StructureShape, shape)), name)
        if shape.type_name == "map":
            return self._map_stepper(cast(MapShape, shape), name)
        member = cast(ListShape, shape).member
        if shape.serialization.get("flattened"):
            return self._items_stepper(member, name)
        return _List(self._items_stepper(member, member.serialization.get("name", "member")), name)

    def _items_stepper(self, member: Shape, name: str) -> _Stepper:
        if self._is_bounded(member):
            return _list_of_writers(self._writer(member, name))
        return _list_of_steppers(self._stepper(member, name))

    def _map_stepper(self, shape: MapShape, name: str) -> _Stepper:
        entry = _Structure(("key", "value"))
        entry.writers["key"] = self._writer(shape.key, shape.key.serialization.get("name", "key"))
        value_name = shape.value.serialization.get("name", "value")
        if self._is_bounded(shape.value):
            entry.writers["value"] = self._writer(shape.value, value_name)
        else:
            entry.steppers["value"] = self._stepper(shape.value, value_name)
        entries = _list_of_steppers(_structure_stepper(entry, "entry"))

        def steps(value: Any, out: list[str]) -> Iterator[None]:
            yield from entries([{"key": key, "value": item} for key, item in _mapping(value).items()], out)

        return _wrapped(steps, name)


def _scalar_writer(text_of: Callable[[Any], str], name: str) -> _Writer:
    opening, closing = f"<{name}>", f"</{name}>"

    def write(value: Any, out: list[str]) -> None:
        try:
            out.append(opening + text_of(value) + closing)
        except TypeError as error:
            raise UnfitResult(str(error)) from None

    return write


def _structure_writer(structure: _Structure, name: str) -> _Writer:
    opening, closing = f"<{name}>", f"</{name}>"

    def write(value: Any, out: list[str]) -> None:
        out.append(opening)
        structure.write(value, out)
        out.append(closing)

    return write


def _structure_stepper(structure: _Structure, name: str) -> _Stepper:
    return _wrapped(lambda value, out: structure.steps(value, out), name)


def _wrapped(inner: _Stepper, name: str) -> _Stepper:
    opening, closing = f"<{name}>", f"</{name}>"

    def steps(value: Any, out: list[str]) -> Iterator[None]:
        out.append(opening)
        yield from inner(value, out)
        out.append(closing)

    return steps


def _list_of_writers(write: _Writer) -> _Stepper:
    def steps(value: Any, out: list[str]) -> Iterator[None]:
        elements, written = _elements(value), 0
        try:
            for item in elements:
                write(item, out)
                written += 1
                if len(out) >= SLICE:
                    yield
        except UnfitResult as unfit:
            unfit.inside(f"[{written}]")
            raise

    return steps


def _list_of_steppers(step: _Stepper) -> _Stepper:
    def steps(value: Any, out: list[str]) -> Iterator[None]:
        elements, written = _elements(value), 0
        try:
            for item in elements:
                yield from step(item, out)
                written += 1
                if len(out) >= SLICE:
                    yield
        except UnfitResult as unfit:
            unfit.inside(f"[{written}]")
            raise

    return steps


def _found(writers: Mapping[str, _T], key: str) -> _T:
    try:
        return writers[key]
    except KeyError:
        raise UnfitResult("the model has no such member") from None


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UnfitResult(f"a mapping is wanted, not {type(value).__name__}")
    return value


def _elements(value: Any) -> Iterable[Any]:
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise UnfitResult(f"a list is wanted, not {type(value).__name__}")
    return value
