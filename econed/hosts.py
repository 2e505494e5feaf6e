"""Host names and addresses: their normal form, and which addresses are on the internet."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address

_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?", re.ASCII)

_GLOBAL_UNICAST = IPv6Network("2000::/3")
"""The part of IPv6 that is assigned on the internet (RFC 4291, 2.4)."""

# Python's `is_global` differs between its versions.
_SPECIAL_IPV4 = tuple(
    map(
        IPv4Network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
            *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15"),
            *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        ),
    )
)
_SPECIAL_IPV6 = tuple(map(IPv6Network, ("2001::/23", "2001:db8::/32", "3fff::/20")))
"""Networks not on the internet (IANA, IPv4 and IPv6 Special-Purpose Address Registries), including Teredo."""

_NAT64 = IPv6Network("64:ff9b::/96")
"""Prefix by which IPv6-only networks reach IPv4 addresses, which are in the last 32 bits (RFC 6052)."""


def is_host(text: str) -> bool:
    """Whether `text` is an IP address or a valid host name (RFC 1123, and underscores, which many sites use)."""
    if address_of(text) is not None:
        return True
    labels = text.removesuffix(".").split(".")
    is_numeric = labels[-1].isdigit()  # such as 10.0.0.300: a mistyped address, not a name
    return len(text) <= 253 and not is_numeric and all(_LABEL.fullmatch(label) for label in labels)


def normal_host(text: str) -> str | None:
    """Return a host in the form in which hosts are compared, None if the text is not a host.

    That is lower case, without a final dot; an IPv6 address is in its shortest form, without brackets.
    """
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    address = address_of(bare)
    if address is not None:
        return None if getattr(address, "scope_id", None) else str(address)
    name = text.lower().removesuffix(".")
    if name.endswith(".") or not is_host(name) or address_of(name) is not None:
        return None
    return None if name.rpartition(".")[2].startswith("0x") else name  # getaddrinfo reads 0x7f.1 as an address


def address_of(host: str) -> Address | None:
    """Return a host as an address, None if it is a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def matches_any(host: str, patterns: Sequence[str]) -> bool:
    """Whether a host matches a pattern: a host, or `*.` and a domain; all in the form of `normal_host`."""
    is_name = address_of(host) is None
    return any(
        host == pattern or (is_name and pattern.startswith("*.") and host.endswith(pattern[1:])) for pattern in patterns
    )


def is_global(address: Address) -> bool:
    """Whether an address is on the internet; if it embeds an IPv4 address, whether that address is."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _SPECIAL_IPV4)
    if address.ipv4_mapped is not None:
        return is_global(address.ipv4_mapped)
    if address in _NAT64:
        return is_global(IPv4Address(int(address) & 0xFFFFFFFF))
    if address.sixtofour is not None:
        return is_global(address.sixtofour)
    return address in _GLOBAL_UNICAST and not any(address in network for network in _SPECIAL_IPV6)


def unmapped(address: Address) -> Address:
    """Return the IPv4 address for an IPv4-mapped IPv6 address, every other address unchanged."""
    return getattr(address, "ipv4_mapped", None) or address
