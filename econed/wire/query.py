"""A query string or a form body as pairs, exactly as they were sent: what is signed is what is read.

Twisted's and older parsers also split on `;`, which lets a signed value smuggle in a second Action; and most decode
leniently, so that two readers of one request may see two different things. Here `&` alone separates, and what is not
well-formed is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote_to_bytes

from econed.errors import EC2Error

Pairs = tuple[tuple[str, str], ...]

_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


def count_pairs(raw: bytes) -> int:
    """Return how many pairs `parse_pairs` would find at most, before any is decoded."""
    return raw.count(b"&") + 1 if raw else 0


def parse_pairs(raw: bytes) -> Pairs:
    """Return the names and values of a query string or an `application/x-www-form-urlencoded` body, in their order.

    `&` separates, `+` is a space, a name without `=` has the empty value, nothing between two `&` is nothing. Raises
    `EC2Error` MalformedQueryString for a bad percent escape or what is not UTF-8.
    """
    return tuple(_pair(piece) for piece in raw.split(b"&") if piece)


def value_of(pairs: Iterable[tuple[str, str]], name: str) -> str | None:
    """Return the value of `name`, None where it is not given; raises `EC2Error` where it is given more than once.

    For the protocol's own parameters (`Action`, `Version`, …): of two Actions none is the right one.
    """
    values = [value for given, value in pairs if given == name]
    if len(values) > 1:
        raise given_twice(name)
    return values[0] if values else None


def each_once(pairs: Pairs) -> Pairs:
    """Return `pairs`, or raise `EC2Error` InvalidParameterValue if a name comes twice.

    A signature that sorts its parameters does not cover the order of equal names: whoever can touch the request could
    turn it round, and have the other value read.
    """
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise given_twice(name)
        seen.add(name)
    return pairs


def given_twice(name: str) -> EC2Error:
    """Return the error for a parameter that a request has more than once."""
    return EC2Error("InvalidParameterValue", f"The parameter {shown(name)} is given more than once.")


def shown(text: str) -> str:
    """Return what a client sent, cut short where it is long, to be named in an error."""
    return text if len(text) <= 128 else text[:128] + "…"


def _pair(piece: bytes) -> tuple[str, str]:
    name, _, value = piece.partition(b"=")
    return _text(name), _text(value)


def _text(quoted: bytes) -> str:
    if _BAD_ESCAPE.search(quoted):
        raise EC2Error(
            "MalformedQueryString", "The query string has a % that is not followed by two hexadecimal digits."
        )
    try:
        return unquote_to_bytes(quoted.replace(b"+", b" ")).decode("utf-8")
    except UnicodeDecodeError:
        raise EC2Error("MalformedQueryString", "The query string is not UTF-8.") from None
