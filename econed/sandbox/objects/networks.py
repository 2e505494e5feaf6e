"""Virtual networks: address ranges, leases, holds, reservations."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from econed.opennebula.states import NetworkState
from econed.sandbox.objects.base import Kind, PoolObject, ids_text, ids_xml, parse_ids
from econed.sandbox.refusals import internal
from econed.sandbox.template import Template, Vector, cdata

HELD = -1
"""The holder id of an address that is on hold."""

_MAC_PREFIX = 0x0200
_DERIVED = ("AR_ID", "IP", "MAC", "SIZE", "TYPE", "NEXT_INDEX", "SHARED", "PARENT_NETWORK_AR_ID", "IP_END", "MAC_END")
_DEFAULT_SIZE = 1


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


def _default_mac(ip: int) -> int:
    """Return the MAC address that oned derives from an IPv4 address: 02:00 and its four bytes."""
    return (_MAC_PREFIX << 32) | ip


def _mac_text(mac: int) -> str:
    return mac.to_bytes(6, "big").hex(":")


def _parse_ip(text: str) -> int | None:
    try:
        return int(ipaddress.IPv4Address(text))
    except ValueError:
        return None


@dataclass
class AddressRange:
    """An address range of type IP4.

    `attributes` are those that users may set; `leases` are by index from the first address. 7.x leases the next free
    address after the last lease (`next_index`), 5.12 the lowest free address.
    """

    id: int
    ip: int
    mac: int
    size: int
    attributes: Vector = field(default_factory=dict)
    leases: dict[int, Lease] = field(default_factory=dict)
    next_index: int = 0
    parent_id: int | None = None
    _lowest_free: int = 0

    @property
    def first_ip(self) -> str:
        """The first IP address."""
        return str(ipaddress.IPv4Address(self.ip))

    @property
    def first_mac(self) -> str:
        """The first MAC address."""
        return _mac_text(self.mac)

    def index(self, address: str) -> int | None:
        """Return the index of an IP address, or None if it is not in this range."""
        ip = _parse_ip(address)
        if ip is None or not 0 <= ip - self.ip < self.size:
            return None
        return ip - self.ip

    def lease_next(self, lease: Lease, *, is_v7: bool) -> int | None:
        """Lease a free address and return its index, or None if there is none."""
        start = self.next_index if is_v7 else self._lowest_free
        index = self._find_free(start, 1)
        if index is None:
            index = self._find_free(0, 1)
        if index is None:
            return None
        self.leases[index] = lease
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
            self.leases[index] = lease
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
            self.leases[index] = lease
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

    def addresses(self, index: int) -> Vector:
        """Return the IP and MAC of an index."""
        return {"IP": str(ipaddress.IPv4Address(self.ip + index)), "MAC": _mac_text(self.mac + index)}

    def _allocated_xml(self) -> str:
        leases = (f" {index} {lease.stored()}" for index, lease in sorted(self.leases.items()))
        return cdata("ALLOCATED", "".join(leases)) if self.leases else ""

    def _lease_xml(self, index: int, lease: Lease) -> str:
        addresses, holder = self.addresses(index), lease.holder.value
        return (
            f"<LEASE>{cdata('IP', addresses['IP'])}{cdata('MAC', addresses['MAC'])}"
            f"<{holder}>{lease.holder_id}</{holder}></LEASE>"
        )

    def xml(self, *, is_v7: bool, is_visible: Callable[[Lease], bool] | None = None) -> str:
        """Return the AR element, with the leases for which `is_visible` is true; without it, as the pool shows it."""
        values = {"AR_ID": str(self.id), "SIZE": str(self.size), "TYPE": "IP4", **self.attributes, **self.addresses(0)}
        if is_v7:
            values.update(NEXT_INDEX=str(self.next_index), SHARED="NO")
        if self.parent_id is not None:
            values["PARENT_NETWORK_AR_ID"] = str(self.parent_id)
        body = "".join(cdata(name, values[name]) for name in sorted(values))
        if is_visible is None:
            return f"<AR>{self._allocated_xml()}{body}</AR>"
        end = self.addresses(self.size - 1)
        leases = "".join(self._lease_xml(*item) for item in sorted(self.leases.items()) if is_visible(item[1]))
        return (
            f"<AR>{body}{cdata('MAC_END', end['MAC'])}{cdata('IP_END', end['IP'])}"
            f"<USED_LEASES>{len(self.leases)}</USED_LEASES><LEASES>{leases}</LEASES></AR>"
        )


def _make_range(range_id: int, requested: Vector) -> AddressRange:
    """Return the range that an AR vector requests; refuses (8192) an invalid type, address or SIZE."""
    size = requested.get("SIZE", str(_DEFAULT_SIZE))
    if requested.get("TYPE", "IP4").upper() != "IP4":
        raise internal("Unknown or missing address range TYPE.")
    ip = _parse_ip(requested.get("IP", ""))
    if ip is None:
        raise internal("Wrong or empty IP attribute")
    mac = requested.get("MAC", "")
    try:
        first_mac = int(mac.replace(":", ""), 16) if mac else _default_mac(ip)
    except ValueError:
        raise internal(f"Wrong format for MAC attribute: {mac}") from None
    if not size.isdigit() or int(size) < 1:
        raise internal("Wrong SIZE for address range")
    return AddressRange(range_id, ip, first_mac, int(size), free_attributes(requested))


def free_attributes(requested: Vector) -> Vector:
    """Return the attributes of an AR vector that users may set."""
    return {name: value for name, value in requested.items() if name not in _DERIVED}


@dataclass(eq=False)
class Network(PoolObject):
    """A virtual network. In 7.x it is LOCK_CREATE at first, without ranges, then READY, or ERROR.

    `parent_id` is the network of a reservation, `template_id` the template from which it was made. `vm_ids` are the
    machines connected to the network.
    """

    ranges: list[AddressRange] = field(default_factory=list)
    state: NetworkState = NetworkState.READY
    parent_id: int | None = None
    template_id: int | None = None
    vm_ids: set[int] = field(default_factory=set)
    _next_range_id: int = 0

    kind = Kind.NET

    @property
    def ignores_wide_rules(self) -> bool:
        """Whether it is a reservation, which nobody may USE but by its permissions or a rule that names it."""
        return self.parent_id is not None

    def add_range(self, requested: Vector) -> None:
        """Add the range that an AR vector requests; refuses (8192) an invalid one."""
        self.ranges.append(_make_range(self._next_range_id, requested))
        self._next_range_id += 1

    def range(self, range_id: int) -> AddressRange | None:
        """Return the range with this id, or None."""
        return next((address_range for address_range in self.ranges if address_range.id == range_id), None)

    def used_leases(self) -> int:
        """Return the number of leased addresses."""
        return sum(len(address_range.leases) for address_range in self.ranges)

    def become_ready(self, *, is_v7: bool) -> None:
        """Create the ranges of the template and set the state READY; refuses (8192) an invalid range."""
        if is_v7:
            self.add_vlan_attributes()
        for requested in self.template.pop("AR"):
            if isinstance(requested, dict):
                self.add_range(requested)
        self.state = NetworkState.READY

    def add_default_group(self) -> None:
        """Add security group 0, as oned does to every new network and reservation."""
        group_ids = {0, *parse_ids(self.template.get("SECURITY_GROUPS"))}
        self.template.replace("SECURITY_GROUPS", ids_text(group_ids))

    def security_group_ids(self) -> set[int]:
        """Return the ids of the security groups of the network and of its ranges."""
        texts = [self.template.get("SECURITY_GROUPS")]
        texts += [address_range.attributes.get("SECURITY_GROUPS", "") for address_range in self.ranges]
        return {group_id for text in texts for group_id in parse_ids(text)}

    def add_vlan_attributes(self) -> None:
        """Add the VLAN attributes that the template lacks, empty, as oned does when it has looked for VLANs."""
        for name in ("VLAN_ID", "OUTER_VLAN_ID"):
            if name not in self.template:
                self.template.replace(name, "")

    def lease(self, vm_id: int, address: str, *, is_v7: bool) -> tuple[AddressRange, int] | None:
        """Lease `address` to a machine, or any free address if it is empty.

        Returns the range and the index, or None if the address is not free.
        """
        lease = Lease(LeaseHolder.VM, vm_id)
        for address_range in self.ranges:
            if address:
                index = address_range.index(address)
                if index is not None and index not in address_range.leases:
                    address_range.leases[index] = lease
                    return address_range, index
            else:
                index = address_range.lease_next(lease, is_v7=is_v7)
                if index is not None:
                    return address_range, index
        return None

    def has_free(self, address: str) -> bool:
        """Whether `address` is free, or any address if it is empty."""
        if address:
            position = self.locate(address)
            return position is not None and position[1] not in position[0].leases
        return any(len(address_range.leases) < address_range.size for address_range in self.ranges)

    def locate(self, address: str) -> tuple[AddressRange, int] | None:
        """Return the range and the index of an IP address, or None."""
        for address_range in self.ranges:
            index = address_range.index(address)
            if index is not None:
                return address_range, index
        return None

    def _own_xml(self, *, is_v7: bool, vm_ids: set[int]) -> str:
        vlan, state, groups = self.template.get("VLAN_ID"), "", ""
        if is_v7:
            previous = 0 if self.state is NetworkState.LOCK_CREATE else int(self.state)
            state = cdata("STATE", int(self.state)) + cdata("PREV_STATE", previous)
            updated = ids_xml("UPDATED_VMS", vm_ids) if vm_ids else "<UPDATED_VMS/>"
            groups = f"{updated}<OUTDATED_VMS/><UPDATING_VMS/><ERROR_VMS/>"
        parent = str(self.parent_id) if self.parent_id is not None else ""
        template_id = str(self.template_id) if self.template_id is not None else ""
        return (
            f"{self.head()}{self.lock_xml()}{ids_xml('CLUSTERS', self.cluster_ids)}"
            f"{cdata('BRIDGE', self.template.get('BRIDGE'))}"
            f"{cdata('BRIDGE_TYPE', self.template.get('BRIDGE_TYPE', 'linux'))}{state}"
            f"<PARENT_NETWORK_ID>{parent}</PARENT_NETWORK_ID>"
            f"{f'<TEMPLATE_ID>{template_id}</TEMPLATE_ID>' if is_v7 else ''}"
            f"{cdata('VN_MAD', self.template.get('VN_MAD'))}{cdata('PHYDEV', self.template.get('PHYDEV'))}"
            f"{cdata('VLAN_ID', vlan)}<OUTER_VLAN_ID/><VLAN_ID_AUTOMATIC>0</VLAN_ID_AUTOMATIC>"
            f"<OUTER_VLAN_ID_AUTOMATIC>0</OUTER_VLAN_ID_AUTOMATIC><USED_LEASES>{self.used_leases()}</USED_LEASES>"
            f"<VROUTERS></VROUTERS>{groups}{self.template.xml()}"
        )

    def xml(self, *, is_v7: bool, vm_ids: set[int], is_visible: Callable[[Lease], bool] | None = None) -> str:
        """Return the VNET element, with the leases for which `is_visible` is true; without it, as the pool shows it.

        `vm_ids` are the machines on the network that the caller may see.
        """
        ranges = "".join(address_range.xml(is_v7=is_v7, is_visible=is_visible) for address_range in self.ranges)
        return f"<VNET>{self._own_xml(is_v7=is_v7, vm_ids=vm_ids)}<AR_POOL>{ranges}</AR_POOL></VNET>"


def network_template(template: Template) -> Template:
    """Return a network's template with the attributes that oned adds to it."""
    template.pop("NAME")
    for name, value in (("BRIDGE_TYPE", "linux"), ("PHYDEV", "")):
        if not template.get(name):
            template.replace(name, value)
    return template


def is_automatic(nic: Vector) -> bool:
    """Whether the scheduler chooses the network of a NIC."""
    return nic.get("NETWORK_MODE", "").upper() == "AUTO"
