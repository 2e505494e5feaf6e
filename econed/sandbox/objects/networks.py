"""Virtual networks: address ranges, leases, holds, reservations."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from econed.sandbox.objects.base import Kind, PoolObject, ids
from econed.sandbox.template import Template, Vector, cdata

MAC_PREFIX = 0x0200
LOCK_CREATE, READY = 2, 1
HELD = -1
_DERIVED = ("AR_ID", "IP", "MAC", "SIZE", "TYPE", "NEXT_INDEX", "SHARED", "PARENT_NETWORK_AR_ID", "IP_END", "MAC_END")
_DEFAULT_SIZE = 1


class Holder(Enum):
    """What a lease may belong to."""

    VM = "VM"
    NETWORK = "VNET"


@dataclass(frozen=True)
class Lease:
    """An address that is taken: by a machine (-1 when it is only held) or by a reserved network."""

    holder: Holder
    number: int

    def stored(self) -> int:
        """Return the lease as oned stores it: the bit of the holder's kind and its number in 32 bits."""
        kind = Kind.VM if self.holder is Holder.VM else Kind.NET
        return kind.bit | (self.number & 0xFFFFFFFF)


def mac_of(address: int) -> int:
    """Return the MAC that oned makes of an IPv4 address: 02:00 and its four bytes."""
    return (MAC_PREFIX << 32) | address


def show_mac(mac: int) -> str:
    """Return a MAC as oned writes it."""
    return mac.to_bytes(6, "big").hex(":")


def read_ip(text: str) -> int | None:
    """Return an IPv4 address as a number, or None."""
    try:
        return int(ipaddress.IPv4Address(text))
    except ValueError:
        return None


@dataclass
class AddressRange:
    """An address range of type IP4; `attributes` are the free ones, `leases` by index from its first address.

    7.x goes on from where it gave the last address (`next_index`), 5.12 gives the lowest free one.
    """

    id: int
    ip: int
    mac: int
    size: int
    attributes: Vector = field(default_factory=dict)
    leases: dict[int, Lease] = field(default_factory=dict)
    next_index: int = 0
    parent: int | None = None
    _lowest: int = 0

    @property
    def first_ip(self) -> str:
        """The first address."""
        return str(ipaddress.IPv4Address(self.ip))

    @property
    def first_mac(self) -> str:
        """The first MAC."""
        return show_mac(self.mac)

    def index(self, address: str) -> int | None:
        """Return the index of an address, or None where it is not of this range."""
        number = read_ip(address)
        if number is None or not 0 <= number - self.ip < self.size:
            return None
        return number - self.ip

    def take_next(self, lease: Lease, *, modern: bool) -> int | None:
        """Lease a free address and return its index, or None where there is none."""
        start = self.next_index if modern else self._lowest
        index = self._free_from(start, 1)
        if index is None:
            index = self._free_from(0, 1)
        if index is None:
            return None
        self.leases[index] = lease
        self._lowest = max(self._lowest, index + 1) if not modern else 0
        self.next_index = (index + 1) % self.size if modern else 0
        return index

    def take_run(self, count: int, lease: Lease, *, modern: bool) -> int | None:
        """Lease `count` addresses in a row and return the first index, or None."""
        start = self.next_index if modern else 0
        index = self._free_from(start, count)
        if index is None:
            index = self._free_from(0, count)
        if index is None:
            return None
        for each in range(index, index + count):
            self.leases[each] = lease
        if modern:
            self.next_index = (index + count) % self.size
        return index

    def take_from(self, address: str, count: int, lease: Lease) -> int | None:
        """Lease `count` addresses from this one on, also beyond the end of the range; None where it cannot be."""
        index = self.index(address)
        if index is None or any(each in self.leases for each in range(index, index + count)):
            return None
        for each in range(index, min(index + count, self.size)):
            self.leases[each] = lease
        return index

    def _free_from(self, start: int, count: int) -> int | None:
        run = 0
        for index in range(start, self.size):
            run = 0 if index in self.leases else run + 1
            if run == count:
                return index - count + 1
        return None

    def free(self, index: int) -> None:
        """Give an address back."""
        self.leases.pop(index, None)
        self._lowest = min(self._lowest, index)

    def addresses(self, index: int) -> Vector:
        """Return IP and MAC of an index."""
        return {"IP": str(ipaddress.IPv4Address(self.ip + index)), "MAC": show_mac(self.mac + index)}

    def _allocated(self) -> str:
        each = (f" {index} {lease.stored()}" for index, lease in sorted(self.leases.items()))
        return cdata("ALLOCATED", "".join(each)) if self.leases else ""

    def xml(self, *, modern: bool, shown: Callable[[Lease], bool] | None = None) -> str:
        """Return the AR element; with leases where `shown` says which of them the caller may see."""
        values = {"AR_ID": str(self.id), "SIZE": str(self.size), "TYPE": "IP4", **self.attributes, **self.addresses(0)}
        if modern:
            values.update(NEXT_INDEX=str(self.next_index), SHARED="NO")
        if self.parent is not None:
            values["PARENT_NETWORK_AR_ID"] = str(self.parent)
        body = "".join(cdata(name, values[name]) for name in sorted(values))
        if shown is None:
            return f"<AR>{self._allocated()}{body}</AR>"
        last = self.addresses(self.size - 1)
        leases = "".join(
            f"<LEASE>{cdata('IP', place['IP'])}{cdata('MAC', place['MAC'])}"
            f"<{lease.holder.value}>{lease.number}</{lease.holder.value}></LEASE>"
            for index, lease in sorted(self.leases.items())
            if shown(lease)
            for place in (self.addresses(index),)
        )
        return (
            f"<AR>{body}{cdata('MAC_END', last['MAC'])}{cdata('IP_END', last['IP'])}"
            f"<USED_LEASES>{len(self.leases)}</USED_LEASES><LEASES>{leases}</LEASES></AR>"
        )


def range_of(number: int, asked: Vector) -> AddressRange | None:
    """Return the range that an AR vector asks for, or None where it makes none (wrong SIZE, type or address)."""
    size = asked.get("SIZE", str(_DEFAULT_SIZE))
    ip = read_ip(asked.get("IP", ""))
    if not size.isdigit() or int(size) < 1 or asked.get("TYPE", "IP4").upper() != "IP4" or ip is None:
        return None
    mac = asked.get("MAC", "")
    try:
        first = int(mac.replace(":", ""), 16) if mac else mac_of(ip)
    except ValueError:
        return None
    return AddressRange(number, ip, first, int(size), free_attributes(asked))


def free_attributes(asked: Vector) -> Vector:
    """Return the attributes of an AR vector that are the user's own."""
    return {name: value for name, value in asked.items() if name not in _DERIVED}


@dataclass(eq=False)
class Network(PoolObject):
    """A virtual network. In 7.x it is LOCK_CREATE for a moment, its ranges yet unmade; then READY."""

    ranges: list[AddressRange] = field(default_factory=list)
    state: int = READY
    parent: int | None = None
    vms: set[int] = field(default_factory=set)
    _next_range: int = 0

    kind = Kind.NET

    def add_range(self, asked: Vector) -> bool:
        """Add a range; False where the vector makes none."""
        made = range_of(self._next_range, asked)
        if made is None:
            return False
        self.ranges.append(made)
        self._next_range += 1
        return True

    def range(self, number: int) -> AddressRange | None:
        """Return the range with this number, or None."""
        return next((span for span in self.ranges if span.id == number), None)

    def used(self) -> int:
        """Return how many addresses are taken."""
        return sum(len(span.leases) for span in self.ranges)

    def become_ready(self, *, modern: bool) -> None:
        """Make the ranges that the template asked for, and be READY."""
        if modern:
            self.name_vlans()
        for asked in self.template.vectors("AR"):
            self.add_range(asked)
        self.template.pop("AR")
        self.state = READY

    def name_vlans(self) -> None:
        """Let the template name its VLANs, if with nothing: oned does so when it has looked for them."""
        for name in ("VLAN_ID", "OUTER_VLAN_ID"):
            if name not in self.template:
                self.template.replace(name, "")

    def lease(self, vm: int, address: str, *, modern: bool) -> tuple[AddressRange, int] | None:
        """Lease `address`, or any free one where it is empty; None where it cannot be had."""
        lease = Lease(Holder.VM, vm)
        for span in self.ranges:
            if address:
                index = span.index(address)
                if index is not None and index not in span.leases:
                    span.leases[index] = lease
                    return span, index
            else:
                index = span.take_next(lease, modern=modern)
                if index is not None:
                    return span, index
        return None

    def has_free(self, address: str) -> bool:
        """Whether `address`, or any where it is empty, could be leased."""
        if address:
            place = self.find(address)
            return place is not None and place[1] not in place[0].leases
        return any(len(span.leases) < span.size for span in self.ranges)

    def find(self, address: str) -> tuple[AddressRange, int] | None:
        """Return range and index of an address, or None."""
        for span in self.ranges:
            index = span.index(address)
            if index is not None:
                return span, index
        return None

    def _own_xml(self, *, modern: bool, vms: set[int]) -> str:
        vlan, state, parent = self.template.get("VLAN_ID"), "", ""
        if modern:
            previous = self.state if self.state == READY else 0
            state = cdata("STATE", self.state) + cdata("PREV_STATE", previous)
        parent = str(self.parent) if self.parent is not None else ""
        groups = "<UPDATED_VMS/><OUTDATED_VMS/><UPDATING_VMS/><ERROR_VMS/>" if modern else ""
        if modern and vms:
            groups = f"{ids('UPDATED_VMS', vms)}<OUTDATED_VMS/><UPDATING_VMS/><ERROR_VMS/>"
        return (
            f"{self.head()}{self.lock_xml()}{ids('CLUSTERS', self.clusters)}"
            f"{cdata('BRIDGE', self.template.get('BRIDGE'))}"
            f"{cdata('BRIDGE_TYPE', self.template.get('BRIDGE_TYPE', 'linux'))}{state}"
            f"<PARENT_NETWORK_ID>{parent}</PARENT_NETWORK_ID>{'<TEMPLATE_ID/>' if modern else ''}"
            f"{cdata('VN_MAD', self.template.get('VN_MAD'))}{cdata('PHYDEV', self.template.get('PHYDEV'))}"
            f"{cdata('VLAN_ID', vlan)}<OUTER_VLAN_ID/><VLAN_ID_AUTOMATIC>0</VLAN_ID_AUTOMATIC>"
            f"<OUTER_VLAN_ID_AUTOMATIC>0</OUTER_VLAN_ID_AUTOMATIC><USED_LEASES>{self.used()}</USED_LEASES>"
            f"<VROUTERS></VROUTERS>{groups}{self.template.xml()}"
        )

    def xml(self, *, modern: bool, vms: set[int], shown: Callable[[Lease], bool] | None = None) -> str:
        """Return the element: with leases where `shown` says which, without them as in the pool.

        `vms` are the machines on the network that the caller may see.
        """
        spans = "".join(span.xml(modern=modern, shown=shown) for span in self.ranges)
        return f"<VNET>{self._own_xml(modern=modern, vms=vms)}<AR_POOL>{spans}</AR_POOL></VNET>"


def network_template(template: Template) -> Template:
    """Return a network's template with what oned adds to it."""
    template.pop("NAME")
    for name, value in (("BRIDGE_TYPE", "linux"), ("PHYDEV", ""), ("SECURITY_GROUPS", "0")):
        if not template.get(name):
            template.replace(name, value)
    return template


def is_automatic(nic: Vector) -> bool:
    """Whether a NIC leaves it to the scheduler which network it is on."""
    return nic.get("NETWORK_MODE", "").upper() == "AUTO"
