"""Texts of oned's documents as values: what users can write there is a value of its type, or none at all.

A user may write any text where oned puts numbers and addresses: into a network interface on no network, into
USER_TEMPLATE, into a user or an image. So nothing here raises, and nothing here returns text.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address
from typing import Final

MAX_ID: Final = 2**31 - 1
"""The largest number that oned takes in a call, and so the largest id that anything has."""

MAX_TIME: Final = 253_402_300_799
"""The last second, since the epoch, of the year 9999: there is no later date in an answer."""

_NUMBER = re.compile(r"[0-9]{1,12}", re.ASCII)
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.ASCII | re.IGNORECASE)


def whole_number(text: str, largest: int = MAX_ID) -> int | None:
    """Return the number from 0 to `largest` that a text is; None if it is none."""
    if _NUMBER.fullmatch(text) is None:
        return None
    number = int(text)
    return number if number <= largest else None


def epoch_seconds(text: str) -> int | None:
    """Return the date, in seconds since the epoch, that a text is; None if it is none."""
    return whole_number(text, MAX_TIME)


def ipv4(text: str) -> IPv4Address | None:
    """Return the IPv4 address that a text is, as four decimal numbers; None if it is none."""
    try:
        return IPv4Address(text)
    except ValueError:
        return None


def ipv6(text: str) -> IPv6Address | None:
    """Return the IPv6 address that a text is; None if it is none, or has a scope, which may be any text."""
    try:
        address = IPv6Address(text)
    except ValueError:
        return None
    return address if address.scope_id is None else None


def mac(text: str) -> str:
    """Return the MAC address that a text is, in lower case; empty if it is none."""
    return text.lower() if _MAC.fullmatch(text) is not None else ""
