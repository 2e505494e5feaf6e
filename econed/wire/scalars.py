"""Single values of a request: text to what the model says they are, strictly."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final

from botocore.model import Shape

from econed.errors import EC2Error
from econed.wire.query import shown

OPEN_ENUMERATIONS: Final = frozenset({"InstanceType", "PermissionGroup"})
"""Enumerations of which any string is let through, because the action answers for those that are not there.

Instance types are the OpenNebula templates that say so, not what Amazon has to offer. For an unknown group to share
with EC2 has an error of its own.
"""

_INTEGER = re.compile(r"-?[0-9]{1,19}", re.ASCII)
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)
_WORDS_FOR_FLOATS = MappingProxyType({"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf})
_WORDS_FOR_BOOLEANS = MappingProxyType({"true": True, "1": True, "false": False, "0": False})
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?", re.ASCII)
_LINE_ENDS = str.maketrans("", "", "\r\n")
_BITS = MappingProxyType({"integer": 32, "long": 64})
_FEW = 20


def scalar(shape: Shape, text: str, name: str) -> Any:
    """Return the value that `text` stands for, as boto3 would give it: str, int, float, bool, bytes or datetime (UTC).

    `name` is the parameter's name on the wire. Raises `EC2Error` InvalidParameterValue.
    """
    return _READERS[shape.type_name](shape, text, name)


def invalid(name: str, text: str, wanted: str) -> EC2Error:
    """Return EC2's error for a value that a parameter cannot have; `wanted` is a sentence that says what it can."""
    message = f"Value ({shown(text)}) for parameter {shown(name)} is invalid. {wanted}"
    return EC2Error("InvalidParameterValue", message)


def _string(shape: Shape, text: str, name: str) -> str:
    allowed = shape.metadata.get("enum")
    if allowed and text not in allowed and shape.name not in OPEN_ENUMERATIONS:
        few = len(allowed) <= _FEW
        raise invalid(
            name, text, f"Valid values: {', '.join(allowed)}." if few else "It is not one of the valid values."
        )
    return text


def _boolean(_: Shape, text: str, name: str) -> bool:
    try:
        return _WORDS_FOR_BOOLEANS[text.lower()]
    except KeyError:
        raise invalid(name, text, "It must be true or false.") from None


def _integer(shape: Shape, text: str, name: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise invalid(name, text, "It must be an integer.")
    number = int(text)
    most = 2 ** (_BITS[shape.type_name] - 1)
    least, greatest = shape.metadata.get("min", -most), shape.metadata.get("max", most - 1)
    if not least <= number <= greatest:
        raise invalid(name, text, f"Expecting a value between {least} and {greatest}.")
    return number


def _float(_: Shape, text: str, name: str) -> float:
    if text in _WORDS_FOR_FLOATS:
        return _WORDS_FOR_FLOATS[text]
    if not _DECIMAL.fullmatch(text) or math.isinf(number := float(text)):
        raise invalid(name, text, "It must be a number.")
    return number


def _blob(_: Shape, text: str, name: str) -> bytes:
    """Base64, in lines or not: Perl's encode_base64 breaks it every 76 characters.

    A space within it was a plus that the client did not escape: dropped, it would give other bytes.
    """
    in_one_line = text.translate(_LINE_ENDS)
    if not _BASE64.fullmatch(in_one_line):
        raise invalid(name, text, "It must be base64-encoded.")
    return base64.b64decode(in_one_line)


def _timestamp(shape: Shape, text: str, name: str) -> datetime:
    """ISO 8601, without an offset UTC; seconds since 1970 where the model says so."""
    try:
        if shape.serialization.get("timestampFormat") == "unixTimestamp":
            return datetime.fromtimestamp(_float(shape, text, name), UTC)
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        raise invalid(name, text, "It must be a time in ISO 8601 format.") from None


_READERS: Mapping[str, Callable[[Shape, str, str], Any]] = MappingProxyType(
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
