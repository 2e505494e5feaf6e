"""Conversion of texts in oned's documents to values.

Users may write any text in some places where oned itself writes numbers and addresses: in a network interface without
a network, in USER_TEMPLATE, in a user or an image. So these functions never raise: they return a valid
value, None or an empty text.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address
from socket import AF_INET, inet_pton
from typing import Final

MAX_ID: Final = 2**31 - 1
"""The largest number that oned accepts in a call, and so the largest id."""

MAX_TIME: Final = 253_402_300_799
"""The last second, since the epoch, of the year 9999: the latest date that a response can contain."""

_NUMBER = re.compile(r"[0-9]{1,12}", re.ASCII)
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.ASCII | re.IGNORECASE)


def whole_number(text: str, largest: int = MAX_ID) -> int | None:
    """Return a text as a number from 0 to `largest`; None if it is not such a number."""
    if _NUMBER.fullmatch(text) is None:
        return None
    number = int(text)
    return number if number <= largest else None


def epoch_seconds(text: str) -> int | None:
    """Return a text as a time in seconds since the epoch; None if it is not one."""
    return whole_number(text, MAX_TIME)


def ipv4(text: str) -> IPv4Address | None:
    """Return a text as an IPv4 address in dotted decimal notation without leading zeros; None if it is not one."""
    try:
        return IPv4Address(inet_pton(AF_INET, text))  # accepts what IPv4Address does, in a fifth of the time
    except (OSError, ValueError):
        return None


def ipv6(text: str) -> IPv6Address | None:
    """Return a text as an IPv6 address; None if it is not one, or has a scope id, which may be any text."""
    if not text:
        return None
    try:
        address = IPv6Address(text)
    except ValueError:
        return None
    return address if address.scope_id is None else None


def mac(text: str) -> str:
    """Return a text as a MAC address in lower case; empty if it is not one."""
    return text.lower() if _MAC.fullmatch(text) is not None else ""


def ids_in(text: str) -> tuple[int, ...]:
    """Return the ids in a comma-separated list; anything else in it is ignored."""
    ids = (whole_number(part.strip()) for part in text.split(","))
    return tuple(item_id for item_id in ids if item_id is not None)
