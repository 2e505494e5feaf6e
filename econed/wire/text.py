"""Formats text and single values for an XML document, escaped so that no value can break the document."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

from econed.wire.shapes import Shape

_UNSAFE = re.compile("[&<>\r\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_ESCAPES: Final = MappingProxyType({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"})
_REPLACEMENT = "\ufffd"
_REMEMBERED: Final = 1024
"""Times whose texts are remembered: many items of a list have the same, and an instance has its own several times."""


def escape(text: str) -> str:
    """Return `text` escaped for use as the content of an element; raises TypeError for anything but a text.

    A carriage return is preserved by a character reference (otherwise parsers turn it into a newline). Characters that
    XML 1.0 cannot represent (most control characters, lone surrogates, U+FFFE and U+FFFF) become U+FFFD.
    """
    if not isinstance(text, str):
        raise TypeError(f"expected str, not {type(text).__name__}")
    if text.isprintable() and "&" not in text and "<" not in text and ">" not in text:
        return text  # nearly all texts, in a third of the time
    return _UNSAFE.sub(_escape_match, text)


def text_formatter(shape: Shape) -> Callable[[Any], str]:
    """Return the function that formats values of a scalar shape; it raises TypeError for values of another type."""
    if shape.type_name == "timestamp":
        return _TIMESTAMP_FORMATTERS[shape.timestamp_format or "iso8601"]
    return _FORMATTERS[shape.type_name]


def _escape_match(match: re.Match[str]) -> str:
    return _ESCAPES.get(match[0], _REPLACEMENT)


def _boolean(value: Any) -> str:
    if value is True:
        return "true"
    if value is False:
        return "false"
    raise TypeError(f"expected bool, not {type(value).__name__}")


def _integer(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"expected int, not {type(value).__name__}")
    return int.__repr__(value)


def _float(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"expected float, not {type(value).__name__}")
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return repr(value)


def _blob(value: Any) -> str:
    if not isinstance(value, bytes):
        raise TypeError(f"expected bytes, not {type(value).__name__}")
    return base64.b64encode(value).decode("ascii")


def _utc(value: Any) -> datetime:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise TypeError(f"expected datetime with a time zone, not {value!r}")
    return value if value.tzinfo is UTC else value.astimezone(UTC)


def _iso8601(value: Any) -> str:
    return _iso8601_text(_utc(value))


@lru_cache(_REMEMBERED)
def _iso8601_text(time: datetime) -> str:
    return f"{time.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


def _unix_timestamp(value: Any) -> str:
    return str(int(_utc(value).timestamp()))


def _rfc822(value: Any) -> str:
    return format_datetime(_utc(value), usegmt=True)


_FORMATTERS: Mapping[str, Callable[[Any], str]] = MappingProxyType(
    {
        "string": escape,
        "character": escape,
        "boolean": _boolean,
        "integer": _integer,
        "long": _integer,
        "float": _float,
        "double": _float,
        "blob": _blob,
    }
)
_TIMESTAMP_FORMATTERS: Mapping[str, Callable[[Any], str]] = MappingProxyType(
    {"iso8601": _iso8601, "unixTimestamp": _unix_timestamp, "rfc822": _rfc822}
)
