"""Address ranges of networks: their types, the addresses of an index, leases (oned: `AddressRange`)."""

from __future__ import annotations

import ipaddress
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from econed.sandbox.objects.base import Kind
from econed.sandbox.refusals import internal
from econed.sandbox.template import Vector, cdata

HELD = -1
"""The holder id of an address that is on hold."""

_MAC_PREFIX = 0x0200
_HOST_BITS = 0xFFFFFFFF
"""The bits of a MAC address that count addresses; the prefix stays."""

_LINK_PREFIX = 0xFE80_0000_0000_0000
_HALF = 64
_MAX_LOW_HALF = (1 << _HALF) - 1
_MAC = re.compile(r"(?:[0-9a-f]{1,2}:){5}[0-9a-f]{1,2}", re.IGNORECASE)

TYPES = ("ETHER", "IP4", "IP6", "IP6_STATIC", "IP4_6", "IP4_6_STATIC")
_WITH_IP = ("IP4", "IP4_6", "IP4_6_STATIC")
_WITH_PREFIXES = ("IP6", "IP4_6")
_WITH_IP6 = ("IP6_STATIC", "IP4_6_STATIC")
_PREFIXES = (("IP6_GLOBAL", "GLOBAL_PREFIX"), ("IP6_ULA", "ULA_PREFIX"))
_DERIVED = (
    *("AR_ID", "IP", "IP6", "MAC", "SIZE", "TYPE", "NEXT_INDEX", "SHARED", "PARENT_NETWORK_AR_ID", "IP_END", "MAC_END"),
    *("IP6_END", "IP6_LINK", "IP6_ULA", "IP6_ULA_END", "IP6_GLOBAL", "IP6_GLOBAL_END"),
)


class LeaseHolder(Enum):
    """The kinds of objects that hold leases; the value is the name of their element."""

    VM = "VM"
    NETWORK = "VNET"


@dataclass(frozen=True)
class Lease:
    """The lease of an address by a machine (`HELD` if the address is on hold) or by a reservation."""

    holder: LeaseHolder
    holder_id: int

    def stored(self) -> int:
        """Return the lease as oned stores it: the bit of the holder's kind, and its id in 32 bits."""
        kind = Kind.VM if self.holder is LeaseHolder.VM else Kind.NET
        return kind.bit | (self.holder_id & 0xFFFFFFFF)


def _mac_text(mac: int) -> str:
    return mac.to_bytes(6, "big").hex(":")


def _parse_mac(text: str) -> int | None:
    if not _MAC.fullmatch(text):
        return None
    return int("".join(f"{int(part, 16):02x}" for part in text.split(":")), 16)


def _parse_ip(text: str) -> int | None:
    try:
        return int(ipaddress.IPv4Address(text))
    except ValueError:
        return None


def _parse_ip6(text: str) -> int | None:
    try:
        return int(ipaddress.IPv6Address(text))
    except ValueError:
        return None


def _interface_address(prefix: int, mac: int) -> str:
    """Return the IPv6 address of the upper half `prefix` and the EUI-64 of a MAC address."""
    interface = ((mac >> 24 ^ _MAC_PREFIX << 8) << 40) | (0xFFFE << 24) | (mac & 0xFFFFFF)
    return str(ipaddress.IPv6Address(prefix << _HALF | interface))


@dataclass
class AddressRange:
    """An address range of one of `TYPES`; `ip` and `ip6` are None if its type has none.

    `attributes` are those that users may set, with the prefixes of IPv6 addresses; `leases` are by index from the first
    address. 7.x leases the next free address after the last lease (`next_index`), 5.12 the lowest free address.
    """

    id: int
    type: str
    mac: int
    size: int
    ip: int | None = None
    ip6: int | None = None
    attributes: Vector = field(default_factory=dict)
    leases: dict[int, Lease] = field(default_factory=dict)
    next_index: int = 0
    parent_id: int | None = None
    _lowest_free: int = 0
    _has_stored_leases: bool = False
    """Whether oned has stored leases, or that there are none."""

    def index(self, address: str) -> int | None:
        """Return the index of an IP, static IPv6 or MAC address, or None if it is not in this range."""
        for first, asked in (
            (self.ip, _parse_ip(address)),
            (self.ip6, _parse_ip6(address)),
            (self.mac, _parse_mac(address)),
        ):
            if first is not None and asked is not None and 0 <= asked - first < self.size:
                return asked - first
        return None

    def lease(self, index: int, lease: Lease) -> None:
        """Lease an address that is free."""
        self.leases[index] = lease
        self._has_stored_leases = True

    def lease_next(self, lease: Lease, *, is_v7: bool) -> int | None:
        """Lease a free address and return its index, or None if there is none."""
        start = self.next_index if is_v7 else self._lowest_free
        index = self._find_free(start, 1)
        if index is None:
            index = self._find_free(0, 1)
        if index is None:
            return None
        self.lease(index, lease)
        self._lowest_free = max(self._lowest_free, index + 1) if not is_v7 else 0
        self.next_index = (index + 1) % self.size if is_v7 else 0
        return index

    def lease_consecutive(self, count: int, lease: Lease, *, is_v7: bool) -> int | None:
        """Lease `count` consecutive addresses and return the first index, or None if there are none."""
        start = self.next_index if is_v7 else 0
        first = self._find_free(start, count)
        if first is None:
            first = self._find_free(0, count)
        if first is None:
            return None
        for index in range(first, first + count):
            self.lease(index, lease)
        if is_v7:
            self.next_index = (first + count) % self.size
        return first

    def lease_from(self, address: str, count: int, lease: Lease) -> int | None:
        """Lease `count` addresses from `address` on, which oned allows beyond the end of the range.

        Returns the first index, or None if the address is not in the range or one of them is leased.
        """
        first = self.index(address)
        if first is None or any(index in self.leases for index in range(first, first + count)):
            return None
        for index in range(first, min(first + count, self.size)):
            self.lease(index, lease)
        return first

    def _find_free(self, start: int, count: int) -> int | None:
        """Return the first index from `start` on with `count` free addresses, or None."""
        free = 0
        for index in range(start, self.size):
            free = 0 if index in self.leases else free + 1
            if free == count:
                return index - count + 1
        return None

    def release(self, index: int) -> None:
        """Release an address."""
        self.leases.pop(index, None)
        self._lowest_free = min(self._lowest_free, index)

    def replace_attributes(self, requested: Vector, *, is_v7: bool) -> None:
        """Replace the attributes that users may set.

        Prefixes that are not sent are empty then; a PREFIX_LENGTH stays where the addresses are static.
        """
        attributes = _with_prefixes(self.type, free_attributes(requested))
        if self.type in _WITH_PREFIXES:
            attributes = {"GLOBAL_PREFIX": "", "ULA_PREFIX": "", **attributes}
        if self.type in _WITH_IP6:
            attributes = {"PREFIX_LENGTH": self.attributes["PREFIX_LENGTH"], **attributes}
        elif is_v7:
            attributes.pop("PREFIX_LENGTH", None)
        self.attributes = attributes
        self._has_stored_leases = True

    def _mac(self, index: int) -> int:
        return self.mac & ~_HOST_BITS | (self.mac + index) & _HOST_BITS

    def addresses(self, index: int) -> Vector:
        """Return the addresses of an index by the names that they have in NICs."""
        mac = self._mac(index)
        addresses = {"MAC": _mac_text(mac)}
        if self.ip is not None:
            addresses["IP"] = str(ipaddress.IPv4Address(self.ip + index))
        if self.ip6 is not None:
            addresses["IP6"] = str(ipaddress.IPv6Address(self.ip6 + index))
        if self.type in _WITH_PREFIXES:
            addresses["IP6_LINK"] = _interface_address(_LINK_PREFIX, mac)
            for name, source in _PREFIXES:
                prefix = _parse_ip6(self.attributes.get(source, ""))
                if prefix:
                    addresses[name] = _interface_address(prefix >> _HALF, mac)
        return addresses

    def rule(self) -> Vector:
        """Return what a rule of a security group for the network shows of this range."""
        addresses = {name: value for name, value in self.addresses(0).items() if name != "IP6_LINK"}
        return {"AR_ID": str(self.id), "TYPE": self.type, "SIZE": str(self.size), **addresses}

    def _allocated_xml(self) -> str:
        leases = (f" {index} {lease.stored()}" for index, lease in sorted(self.leases.items()))
        return cdata("ALLOCATED", "".join(leases)) if self._has_stored_leases else ""

    def _lease_xml(self, index: int, lease: Lease) -> str:
        addresses, holder = self.addresses(index), lease.holder.value
        body = "".join(cdata(name, addresses[name]) for name in sorted(addresses))
        return f"<LEASE>{body}<{holder}>{lease.holder_id}</{holder}></LEASE>"

    def _ends_xml(self) -> str:
        """Return the elements of the last addresses, and of the first ones that are made of a prefix."""
        first, last = self.addresses(0), self.addresses(self.size - 1)
        ends = {f"{name}_END": last[name] for name in last if name != "IP6_LINK"}
        ends.update((name, first[name]) for name, _ in _PREFIXES if name in first)
        return "".join(cdata(name, value) for name, value in ends.items())

    def xml(self, *, is_v7: bool, is_visible: Callable[[Lease], bool] | None = None) -> str:
        """Return the AR element, with the leases for which `is_visible` is true; without it, as the pool shows it."""
        first = {name: value for name, value in self.addresses(0).items() if name in ("IP", "IP6", "MAC")}
        values = {"AR_ID": str(self.id), "SIZE": str(self.size), "TYPE": self.type, **self.attributes, **first}
        if is_v7:
            values.update(NEXT_INDEX=str(self.next_index), SHARED="NO")
        if self.parent_id is not None:
            values["PARENT_NETWORK_AR_ID"] = str(self.parent_id)
        body = "".join(cdata(name, values[name]) for name in sorted(values))
        if is_visible is None:
            return f"<AR>{self._allocated_xml()}{body}</AR>"
        leases = "".join(self._lease_xml(*item) for item in sorted(self.leases.items()) if is_visible(item[1]))
        return (
            f"<AR>{body}{self._ends_xml()}<USED_LEASES>{len(self.leases)}</USED_LEASES><LEASES>{leases}</LEASES></AR>"
        )


def make_range(range_id: int, requested: Vector) -> AddressRange:
    """Return the range that an AR vector requests; refuses (8192) an invalid type, address or SIZE.

    Without a MAC it is 02:00 and the IPv4 address, or a random number.
    """
    kind = requested.get("TYPE", "").upper()
    if kind not in TYPES:
        raise internal("Unknown or missing address range TYPE.")
    ip = _parse_ip(requested.get("IP", "")) if kind in _WITH_IP else None
    if ip is None and kind in _WITH_IP:
        raise internal("Wrong or empty IP attribute")
    attributes = _with_prefixes(kind, free_attributes(requested))
    ip6 = _parse_ip6(requested.get("IP6", "")) if kind in _WITH_IP6 else None
    if ip6 is None and kind in _WITH_IP6:
        raise internal("Wrong or empty IP6 attribute")
    if ip6 is not None and not attributes.get("PREFIX_LENGTH", "").isdigit():
        raise internal("Wrong or empty PREFIX_LENGTH")
    mac_text = requested.get("MAC", "")
    default_mac = _MAC_PREFIX << 32 | (ip if ip is not None else secrets.randbits(32))
    mac = _parse_mac(mac_text) if mac_text else default_mac
    if mac is None:
        raise internal(f"Wrong format for MAC attribute: {mac_text}")
    size = requested.get("SIZE", "")
    if ip6 is not None and not size:
        size = str(_rest_of_prefix(ip6, int(attributes["PREFIX_LENGTH"])))
    if not size.isdigit() or int(size) < 1:
        raise internal("Wrong SIZE for address range")
    return AddressRange(range_id, kind, mac, int(size), ip, ip6, attributes)


def _rest_of_prefix(ip6: int, length: int) -> int:
    """Return how many addresses there are from `ip6` to the end of its prefix, as oned counts them."""
    size = _MAX_LOW_HALF if length <= _HALF else 1 << (128 - length)
    mask = size if length <= _HALF else size - 1
    return size - (ip6 & _MAX_LOW_HALF & mask)


def _with_prefixes(kind: str, attributes: Vector) -> Vector:
    """Return the attributes without prefixes if the type has none; refuses (8192) prefixes that are no addresses."""
    if kind not in _WITH_PREFIXES:
        return {name: value for name, value in attributes.items() if name not in ("GLOBAL_PREFIX", "ULA_PREFIX")}
    for name, label in (("GLOBAL_PREFIX", "global"), ("ULA_PREFIX", "unique local")):
        if attributes.get(name) and _parse_ip6(attributes[name]) is None:
            raise internal(f"Wrong format for IP6 {label} address prefix")
    return attributes


def free_attributes(requested: Vector) -> Vector:
    """Return the attributes of an AR vector that users may set."""
    return {name: value for name, value in requested.items() if name not in _DERIVED}
