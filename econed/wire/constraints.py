"""Checks values against the constraints of the model: lengths, ranges, patterns and enumerations.

The services of the query protocol name all violations in one ValidationError. EC2 has other errors for them
(`econed.wire.scalars`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from econed.errors import EC2Error
from econed.wire.query import shortened
from econed.wire.shapes import ListShape, Shape, StructureShape

_REMEMBERED = 64
"""Compiled patterns: those of the shapes that actions use."""


def check_constraints(shape: StructureShape, members: Mapping[str, Any], required: Sequence[str]) -> None:
    """Raise `EC2Error` ValidationError, in Amazon's words, if decoded parameters violate the constraints of the model.

    `required` names the members that must be given. In structures within others, it is the model that says so.
    """
    violations = list(_in_members(shape, members, "", required))
    if violations:
        count = f"{len(violations)} validation error{'s' if len(violations) > 1 else ''} detected"
        raise EC2Error("ValidationError", f"{count}: {'; '.join(violations)}")


@lru_cache(_REMEMBERED)
def readable_pattern(text: str) -> re.Pattern[str] | None:
    r"""Return a pattern of the model; None if Python has not the syntax of it, as for the class \p{L}.

    Then the value is not checked by it. No action has a parameter with such a pattern.
    """
    try:
        return re.compile(text, re.ASCII)
    except re.error:
        return None


def _in_members(shape: StructureShape, members: Mapping[str, Any], path: str, required: Sequence[str]) -> Iterator[str]:
    for key, member in shape.members.items():
        member_path = f"{path}{key[:1].lower()}{key[1:]}"
        if key in members:
            yield from _in_value(member, members[key], member_path)
        elif key in required:
            yield f"Value null at '{member_path}' failed to satisfy constraint: Member must not be null"


def _in_value(shape: Shape, value: Any, path: str) -> Iterator[str]:
    for constraint in _violated(shape, value):
        quoted = "" if shape.is_sensitive else f" '{shortened(str(value))}'"
        yield f"Value{quoted} at '{path}' failed to satisfy constraint: {constraint}"
    match shape:
        case StructureShape():
            yield from _in_members(shape, value, f"{path}.", shape.required_members)
        case ListShape():
            for number, item in enumerate(value, 1):
                yield from _in_value(shape.member, item, f"{path}.{number}.member")


def _violated(shape: Shape, value: Any) -> Iterator[str]:
    if isinstance(value, int | float):
        size, what = value, "value"
    elif isinstance(value, str | bytes | list | dict):
        size, what = len(value), "length"
    else:
        return
    if shape.minimum is not None and size < shape.minimum:
        yield f"Member must have {what} greater than or equal to {shape.minimum}"
    if shape.maximum is not None and size > shape.maximum:
        yield f"Member must have {what} less than or equal to {shape.maximum}"
    elif isinstance(value, str) and shape.pattern is not None:
        pattern = readable_pattern(shape.pattern)
        if pattern is not None and not pattern.fullmatch(value):
            yield f"Member must satisfy regular expression pattern: {shape.pattern}"
    if shape.enum and value not in shape.enum:
        yield f"Member must satisfy enum value set: [{', '.join(shape.enum)}]"
