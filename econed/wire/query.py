"""Parses a query string or a form body into pairs, exactly as sent: the bytes that are signed are the bytes parsed.

Twisted's parser and older ones also split on `;`, so that a signed value can smuggle in a second Action. Most decode
leniently, so that two parsers may read one request differently. Here only `&` separates pairs, and malformed input is
refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote_to_bytes

from econed.errors import EC2Error

Pairs = tuple[tuple[str, str], ...]

_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


def count_pairs(raw: bytes) -> int:
    """Return an upper bound on the number of pairs in `parse_pairs(raw)`, without decoding any."""
    return raw.count(b"&") + 1 if raw else 0


def parse_pairs(raw: bytes) -> Pairs:
    """Return the names and values of a query string or an `application/x-www-form-urlencoded` body, in order.

    `&` separates pairs, `+` is a space, a name without `=` has the empty value, and empty pairs are ignored. Raises
    `EC2Error` MalformedQueryString for an invalid percent escape and for text that is not UTF-8.
    """
    return tuple(_pair(piece) for piece in raw.split(b"&") if piece)


def require_unique(pairs: Iterable[tuple[str, str]]) -> Pairs:
    """Return `pairs`; raises `EC2Error` InvalidParameterValue for a duplicate name.

    A signature that sorts the parameters does not cover the order of duplicates: anyone able to modify the request
    could swap them, so that the other value is read. Clients that sign do not send duplicates.
    """
    pairs = tuple(pairs)
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise EC2Error("InvalidParameterValue", f"The parameter {shortened(name)} is given more than once.")
        seen.add(name)
    return pairs


def single_value(pairs: Iterable[tuple[str, str]], name: str) -> str | None:
    """Return the value of `name`, or None if it is missing; raises `EC2Error` if it is given more than once.

    For the parameters of the protocol (`Action`, `Version`, …), which are read before the others are decoded.
    """
    return dict(require_unique(pair for pair in pairs if pair[0] == name)).get(name)


def shortened(text: str) -> str:
    """Return text from a client for use in an error message, truncated if it is long."""
    return text if len(text) <= 128 else text[:128] + "…"


def _pair(piece: bytes) -> tuple[str, str]:
    name, _, value = piece.partition(b"=")
    return _unquote(name), _unquote(value)


def _unquote(quoted: bytes) -> str:
    if _BAD_ESCAPE.search(quoted):
        raise EC2Error(
            "MalformedQueryString", "The query string has a % that is not followed by two hexadecimal digits."
        )
    try:
        return unquote_to_bytes(quoted.replace(b"+", b" ")).decode("utf-8")
    except UnicodeDecodeError:
        raise EC2Error("MalformedQueryString", "The query string is not UTF-8.") from None
