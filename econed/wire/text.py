"""Text and single values as they stand in an XML document: nothing that is put in can break it."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from types import MappingProxyType
from typing import Any, Final

from botocore.model import Shape

_UNSAFE = re.compile("[&<>\r\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_ESCAPES: Final = MappingProxyType({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"})
_REPLACEMENT = "\ufffd"


def escape(text: str) -> str:
    """Return `text` as the content of an element.

    A carriage return stays one (parsers turn a bare one into a newline). What XML 1.0 cannot hold in any form (most
    control characters, half surrogates, U+FFFE and U+FFFF) becomes U+FFFD.
    """
    return _UNSAFE.sub(_escaped, text)


def writer_of(shape: Shape) -> Callable[[Any], str]:
    """Return the function that makes XML text of a value of this scalar shape; it raises TypeError for another type."""
    if shape.type_name == "timestamp":
        return _TIMESTAMPS[shape.serialization.get("timestampFormat", "iso8601")]
    return _WRITERS[shape.type_name]


def _escaped(match: re.Match[str]) -> str:
    return _ESCAPES.get(match[0], _REPLACEMENT)


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"str wanted, not {type(value).__name__}")
    return _UNSAFE.sub(_escaped, value)


def _boolean(value: Any) -> str:
    if value is True:
        return "true"
    if value is False:
        return "false"
    raise TypeError(f"bool wanted, not {type(value).__name__}")


def _integer(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"int wanted, not {type(value).__name__}")
    return int.__repr__(value)


def _float(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"float wanted, not {type(value).__name__}")
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return repr(value)


def _blob(value: Any) -> str:
    if not isinstance(value, bytes):
        raise TypeError(f"bytes wanted, not {type(value).__name__}")
    return base64.b64encode(value).decode("ascii")


def _moment(value: Any) -> datetime:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise TypeError(f"datetime with a time zone wanted, not {value!r}")
    return value.astimezone(UTC)


def _iso8601(value: Any) -> str:
    return _moment(value).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def _unix_timestamp(value: Any) -> str:
    return str(int(_moment(value).timestamp()))


def _rfc822(value: Any) -> str:
    return format_datetime(_moment(value), usegmt=True)


_WRITERS: Mapping[str, Callable[[Any], str]] = MappingProxyType(
    {
        "string": _string,
        "character": _string,
        "boolean": _boolean,
        "integer": _integer,
        "long": _integer,
        "float": _float,
        "double": _float,
        "blob": _blob,
    }
)
_TIMESTAMPS: Mapping[str, Callable[[Any], str]] = MappingProxyType(
    {"iso8601": _iso8601, "unixTimestamp": _unix_timestamp, "rfc822": _rfc822}
)
