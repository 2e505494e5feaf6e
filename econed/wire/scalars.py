"""Parses single values of a request strictly, by the type that the model gives them."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final

from econed.errors import EC2Error
from econed.wire.query import shortened
from econed.wire.shapes import Shape

OPEN_ENUMERATIONS: Final = frozenset({"InstanceType", "PermissionGroup"})
"""Enumerations of which any string is accepted here, because the action checks the value.

Instance types are defined by OpenNebula templates, not by Amazon. For an unknown group to share with, EC2 has its own
error.
"""

_INTEGER = re.compile(r"-?[0-9]{1,19}", re.ASCII)
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)
_SPECIAL_FLOATS = MappingProxyType({"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf})
_BOOLEANS = MappingProxyType({"true": True, "1": True, "false": False, "0": False})
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?", re.ASCII)
_LINE_ENDS = str.maketrans("", "", "\r\n")
_TEXTS = frozenset({"string", "character"})
_BITS = MappingProxyType({"integer": 32, "long": 64})
_MAX_LISTED_VALUES = 20
"""Error messages list the valid values of an enumeration up to this many."""


def parse_scalar(shape: Shape, text: str, name: str) -> Any:
    """Return the value of `text` as boto3 would give it: str, int, float, bool, bytes or datetime (UTC).

    `name` is the parameter's name on the wire. Raises `EC2Error` InvalidParameterValue.
    """
    return _PARSERS[shape.type_name](shape, text, name)


def parse_unconstrained(shape: Shape, text: str, name: str) -> Any:
    """Return the value as `parse_scalar` does, without the constraints of the model: its range and enumeration."""
    if shape.type_name in _BITS:
        return _whole_number(text, name, _range_of(shape.type_name))
    return text if shape.type_name in _TEXTS else parse_scalar(shape, text, name)


def invalid_value(name: str, text: str, expectation: str) -> EC2Error:
    """Return EC2's error for an invalid value; `expectation` is a sentence that says which values are valid."""
    message = f"Value ({shortened(text)}) for parameter {shortened(name)} is invalid. {expectation}"
    return EC2Error("InvalidParameterValue", message)


def _string(shape: Shape, text: str, name: str) -> str:
    valid = shape.enum
    if valid and text not in valid and shape.name not in OPEN_ENUMERATIONS:
        is_short = len(valid) <= _MAX_LISTED_VALUES
        raise invalid_value(
            name, text, f"Valid values: {', '.join(valid)}." if is_short else "It is not one of the valid values."
        )
    return text


def _boolean(_: Shape, text: str, name: str) -> bool:
    try:
        return _BOOLEANS[text.lower()]
    except KeyError:
        raise invalid_value(name, text, "It must be true or false.") from None


def _integer(shape: Shape, text: str, name: str) -> int:
    minimum, maximum = _range_of(shape.type_name)
    minimum = minimum if shape.minimum is None else shape.minimum
    maximum = maximum if shape.maximum is None else shape.maximum
    return _whole_number(text, name, (minimum, maximum))


def _range_of(type_name: str) -> tuple[int, int]:
    bound = 2 ** (_BITS[type_name] - 1)
    return -bound, bound - 1


def _whole_number(text: str, name: str, valid: tuple[int, int]) -> int:
    if not _INTEGER.fullmatch(text):
        raise invalid_value(name, text, "It must be an integer.")
    value, (minimum, maximum) = int(text), valid
    if not minimum <= value <= maximum:
        raise invalid_value(name, text, f"Expecting a value between {minimum} and {maximum}.")
    return value


def _float(_: Shape, text: str, name: str) -> float:
    if text in _SPECIAL_FLOATS:
        return _SPECIAL_FLOATS[text]
    if not _DECIMAL.fullmatch(text) or math.isinf(value := float(text)):
        raise invalid_value(name, text, "It must be a number.")
    return value


def _blob(_: Shape, text: str, name: str) -> bytes:
    """Decode base64 with or without line breaks: Perl's encode_base64 inserts them every 76 characters.

    Spaces are refused: a space comes from a plus sign that was not escaped, and removing it would change the bytes.
    """
    unbroken = text.translate(_LINE_ENDS)
    if not _BASE64.fullmatch(unbroken):
        raise invalid_value(name, text, "It must be base64-encoded.")
    return base64.b64decode(unbroken)


def _timestamp(shape: Shape, text: str, name: str) -> datetime:
    """Parse ISO 8601, in UTC if there is no offset, or seconds since 1970 if the model says so."""
    try:
        if shape.timestamp_format == "unixTimestamp":
            return datetime.fromtimestamp(_float(shape, text, name), UTC)
        timestamp = datetime.fromisoformat(text)
        return timestamp.replace(tzinfo=UTC) if timestamp.tzinfo is None else timestamp.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        raise invalid_value(name, text, "It must be a time in ISO 8601 format.") from None


_PARSERS: Mapping[str, Callable[[Shape, str, str], Any]] = MappingProxyType(
    {
        "string": _string,
        "character": _string,
        "boolean": _boolean,
        "integer": _integer,
        "long": _integer,
        "float": _float,
        "double": _float,
        "blob": _blob,
        "timestamp": _timestamp,
    }
)
