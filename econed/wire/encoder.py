"""Encodes members of the model as XML: `{"Reservations": [...]}` to `<DescribeInstancesResponse>`.

Every shape is compiled once to closures that append escaped strings. This is several times faster than building a tree,
and a long response can be encoded in slices, between which the reactor serves other requests.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, Final, TypeVar, cast
from urllib.parse import quote

from botocore.model import ListShape, MapShape, Shape, StructureShape

from econed.wire.model import EC2Operation, output_name
from econed.wire.text import escape, text_formatter

ALSO_RETURN_TRUE: Final = frozenset(
    {"AssignPrivateIpAddresses", "AssociateAddress", "CreatePlacementGroup", "CreateSecurityGroup"}
)
"""Operations whose responses contain `<return>true</return>`, although today's model has no such member.

The older models (botocore, 2014-09-01) or Amazon's documented responses have it, and libcloud takes the text for
success.
"""

SLICE_LENGTH: Final = 1000
"""Approximate number of tags and elements in a slice: 20 to 60 KB, about a millisecond of work."""

_DECLARATION: Final = '<?xml version="1.0" encoding="UTF-8"?>\n'
_NAMESPACE: Final = "http://ec2.amazonaws.com/doc/"

_T = TypeVar("_T")
_Writer = Callable[[Any, list[str]], None]
"""Writes a whole element whose size the model bounds."""
_Stepper = Callable[[Any, list[str]], Iterator[None]]
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


class Encoder:
    """Encodes responses as EC2's XML.

    An encoder must be used with one `Model` only: it caches compiled shapes by their names in that model.
    """

    def __init__(self) -> None:
        self._compiler = _Compiler()

    def encode(self, operation: EC2Operation, result: Mapping[str, Any], *, version: str, request_id: str) -> bytes:
        """Return a whole response; raises `InvalidResult`. For long responses see `slices` and `body`."""
        return b"".join(self.slices(operation, result, version=version, request_id=request_id))

    def slices(
        self, operation: EC2Operation, result: Mapping[str, Any], *, version: str, request_id: str
    ) -> Iterator[bytes]:
        """Yield a response in slices, each a bounded amount of work (`SLICE_LENGTH`); see `body`."""
        body = self.body(operation, version=version, request_id=request_id)
        yield from body.slices(result)
        yield body.end()

    def body(self, operation: EC2Operation, *, version: str, request_id: str) -> ResponseBody:
        """Return an empty response body, to which the parts of a result are written.

        `version` is the API version in the request: clients expect their own in the namespace.
        """
        return ResponseBody(self._compiler, operation, _opening(operation.name, version, request_id))


class ResponseBody:
    """A response in EC2's XML, encoded from the parts of a result; each part has members of the result.

    The following parts may continue a top-level list, until a part has another member. The members of a part are
    written in the model's order. Members that are None are omitted; an empty list becomes an empty element. Operations
    without an output in the model return `<return>true</return>`.
    """

    def __init__(self, compiler: _Compiler, operation: EC2Operation, opening: str) -> None:
        self._compiler = compiler
        self._operation = operation
        self._out = [_DECLARATION, opening]
        self._written: set[str] = set()
        """The members that were written, wholly or in part."""
        self._open: tuple[str, _List] | None = None
        """The list that the next part may continue, with the name of its member."""

    def slices(self, part: Mapping[str, Any]) -> Iterator[bytes]:
        """Encode a part, and yield the output after each bounded amount of work (`SLICE_LENGTH`).

        The remaining output is in the first slice of the next part, in `take`, or in `end`. Any step may raise
        `InvalidResult`.
        """
        try:
            for _ in self._write(part):
                yield self.take()
        except InvalidResult as error:
            error.prepend(self._operation.name)
            raise

    def take(self) -> bytes:
        """Return the output that has not been returned yet."""
        output = "".join(self._out).encode()
        self._out.clear()
        return output

    def end(self) -> bytes:
        """Return the remaining output with the end of the response."""
        self._close_list()
        if _has_return(self._operation, self._written):
            self._out.append("<return>true</return>")
        self._out.append(f"</{self._operation.name}Response>")
        return self.take()

    def _write(self, part: Mapping[str, Any]) -> Iterator[None]:
        shape = self._operation.output_shape
        if shape is not None:
            structure = self._compiler.structure(shape)
            items = structure.items(part)
            if self._open is not None:
                items = sorted(items, key=self._continues, reverse=True)
            for key, value in items:
                if value is not None:
                    yield from self._write_member(structure, key, value)
        elif part:
            raise InvalidResult(f"the operation returns nothing, not {', '.join(part)}")

    def _continues(self, item: tuple[str, Any]) -> bool:
        return self._open is not None and item[0] == self._open[0]

    def _write_member(self, structure: _Structure, key: str, value: Any) -> Iterator[None]:
        try:
            if self._open is not None and self._open[0] == key:
                yield from self._open[1].items(value, self._out)
                return
            self._close_list()
            if key in self._written:
                raise InvalidResult("the member is already complete")
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
                _member(structure.writers, key)(value, self._out)
                self._written.add(key)
        except InvalidResult as error:
            error.prepend(f".{key}")
            raise

    def _close_list(self) -> None:
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


def _has_return(operation: EC2Operation, written: Collection[str]) -> bool:
    """Whether to add `<return>true</return>`, which EC2 returns with every success, unless it was written already."""
    if operation.output_shape is None or operation.name in ALSO_RETURN_TRUE:
        return True
    members = operation.output_shape.members.items()
    keys = [key for key, member in members if output_name(member, key) == "return" and member.type_name == "boolean"]
    return any(key not in written for key in keys)


class _Structure:
    """The writers and steppers of a structure's members. Filled after creation, since shapes may be recursive.

    Elements are in the model's order, as Amazon's are: some clients use the first element that has a certain name.
    """

    def __init__(self, order: Iterable[str]) -> None:
        self.order = tuple(order)
        self.writers: dict[str, _Writer] = {}
        self.steppers: dict[str, _Stepper] = {}

    def write(self, value: Any, out: list[str]) -> None:
        """Append all members of a structure without steppers."""
        writers, items = self.writers, self.items(value)
        try:
            for key, item in items:
                if item is not None:
                    _member(writers, key)(item, out)
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
                    yield from _member(steppers, key)(item, out)
        except InvalidResult as error:
            error.prepend(f".{key}")
            raise

    def items(self, value: Any) -> Iterable[tuple[str, Any]]:
        """Return the given members in the model's order, unknown ones last."""
        members = _mapping(value)
        known = [(key, members[key]) for key in self.order if key in members]
        return known if len(known) == len(members) else [*known, *(m for m in members.items() if m not in known)]


class _List:
    """A `_Stepper` that writes a list in an element of its own; its items can also be written by several calls."""

    def __init__(self, items: _Stepper, name: str) -> None:
        self.opening, self.closing = f"<{name}>", f"</{name}>"
        self.items = items

    def __call__(self, value: Any, out: list[str]) -> Iterator[None]:
        out.append(self.opening)
        yield from self.items(value, out)
        out.append(self.closing)


class _Compiler:
    """Compiles shapes to closures, each structure once."""

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
        """Whether the model bounds the size of a value: a scalar, or a structure of these that is not recursive."""
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
        return _scalar_writer(text_formatter(shape), name)

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


def _scalar_writer(format_text: Callable[[Any], str], name: str) -> _Writer:
    opening, closing = f"<{name}>", f"</{name}>"

    def write(value: Any, out: list[str]) -> None:
        try:
            out.append(opening + format_text(value) + closing)
        except TypeError as error:
            raise InvalidResult(str(error)) from None

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


def _list_of_steppers(step: _Stepper) -> _Stepper:
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


def _member(writers: Mapping[str, _T], key: str) -> _T:
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
