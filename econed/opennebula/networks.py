"""Views of virtual networks (oned's VNET documents)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from lxml import etree

from econed.opennebula.attributes import Attributes, Vector
from econed.opennebula.states import NetworkState
from econed.opennebula.values import ids_in, ipv4, ipv6, mac, whole_number
from econed.opennebula.views import OwnedView, View

HELD = -1
"""The VM of a lease that is held: not in use, and not available (`one.vn.hold`)."""

DEFAULT_CLUSTER = 0
"""The id of the cluster of networks for which none is named."""

FIRST_RANGE = 0
"""The AR_ID of the first range of a network, from which subnets are reserved."""

_LAST_IPV4 = 2**32 - 1
_IPV4_BITS = 32
_IPV6_BITS = 128
_AUTOCONFIGURED = 64
"""Bits of the prefixes from which IPv6 addresses are derived with a MAC address."""


class Lease(View):
    """An address in use or held (AR/LEASES/LEASE)."""

    @property
    def ip(self) -> IPv4Address | None:
        """The IPv4 address, if there is one."""
        return ipv4(self._text("IP"))

    @property
    def mac(self) -> str:
        """The MAC address."""
        return mac(self._text("MAC"))

    @property
    def vm_id(self) -> int:
        """The id of the machine that uses it; `HELD` if it is held. Undefined where a network or router uses it."""
        return self._number("VM", HELD)

    @property
    def is_held(self) -> bool:
        """Whether it is held rather than used by a machine, a virtual router or a reservation."""
        return self._text("VM") == str(HELD)


class AddressRange(View):
    """A range of addresses (AR_POOL/AR)."""

    @property
    def ar_id(self) -> int:
        """The id of the range within its network."""
        return self._number("AR_ID")

    @property
    def type(self) -> str:
        """IP4, IP6, IP4_6, ETHER, …."""
        return self._text("TYPE")

    @property
    def ip(self) -> IPv4Address | None:
        """The first IPv4 address, if there is one."""
        return ipv4(self._text("IP"))

    @property
    def size(self) -> int:
        """The number of its addresses."""
        return self._number("SIZE")

    @property
    def used_leases(self) -> int:
        """The number of its addresses that are in use or held."""
        return self._number("USED_LEASES", 0)

    @property
    def last_ip(self) -> IPv4Address | None:
        """The last IPv4 address, if there is one; oned takes a size that exceeds the addresses."""
        return None if self.ip is None else IPv4Address(min(int(self.ip) + max(self.size, 1) - 1, _LAST_IPV4))

    @cached_property
    def ipv6_blocks(self) -> tuple[IPv6Network, ...]:
        """The IPv6 networks of its addresses: those of its prefixes, or of its static addresses."""
        prefixes = [(self._text(name), _AUTOCONFIGURED) for name in ("GLOBAL_PREFIX", "ULA_PREFIX")]
        static = self._text("IP6"), whole_number(self._text("PREFIX_LENGTH"), _IPV6_BITS)
        blocks = (_ipv6_block(address, length) for address, length in (*prefixes, static))
        return tuple(block for block in blocks if block is not None)

    def covers(self, ip: IPv4Address) -> bool:
        """Whether an address is in the range."""
        return self.ip is not None and 0 <= int(ip) - int(self.ip) < self.size

    @cached_property
    def leases(self) -> tuple[Lease, ...]:
        """The addresses in use or held; empty in the document of the pool."""
        return self._views(Lease, "LEASES/LEASE")

    @cached_property
    def attributes(self) -> Vector:
        """All its attributes, those set by `one.vn.update_ar` included."""
        return self._members("")


class VirtualNetwork(OwnedView):
    """A virtual network."""

    @property
    def state(self) -> NetworkState:
        """Its state; READY before 6.4, which has no states of networks."""
        return NetworkState(self._number("STATE", NetworkState.READY))

    @property
    def cluster_ids(self) -> tuple[int, ...]:
        """The ids of the clusters whose hosts can access it."""
        return self._numbers("CLUSTERS/ID")

    @property
    def driver(self) -> str:
        """The driver that connects machines to it (VN_MAD)."""
        return self._text("VN_MAD")

    @property
    def security_group_ids(self) -> tuple[int, ...]:
        """The ids of its own security groups, which oned joins to those of each NIC in it."""
        return ids_in(self.template_text("SECURITY_GROUPS"))

    @property
    def parent_network_id(self) -> int | None:
        """The id of the network it was reserved from; None if it is not a reservation."""
        network_id = self._number("PARENT_NETWORK_ID", -1)
        return None if network_id < 0 else network_id

    @property
    def used_leases(self) -> int:
        """The number of its addresses that are in use or held."""
        return self._number("USED_LEASES", 0)

    @property
    def size(self) -> int:
        """The number of addresses in all its ranges."""
        return sum(address_range.size for address_range in self.address_ranges)

    @property
    def free(self) -> int:
        """The number of its addresses that are neither in use nor held."""
        return self.size - self.used_leases

    @cached_property
    def address_ranges(self) -> tuple[AddressRange, ...]:
        """Its address ranges, in oned's order."""
        return self._views(AddressRange, "AR_POOL/AR")

    @property
    def ipv4_size(self) -> int:
        """The number of IPv4 addresses in all its ranges."""
        return sum(address_range.size for address_range in self.address_ranges if address_range.ip is not None)

    @cached_property
    def ipv4_block(self) -> IPv4Network | None:
        """The IPv4 network that its guests are in; None if it has no IPv4 addresses.

        NETWORK_ADDRESS and NETWORK_MASK, which the owner may write, count if they contain all ranges; without an
        address, the mask is that of the first range, as for guests. Otherwise it is the smallest network with all
        ranges.
        """
        allotted = self.allotted_block
        if allotted is None:
            return None
        first = next(str(ar.ip) for ar in self.address_ranges if ar.ip is not None)
        declared = _ipv4_block(self.template_text("NETWORK_ADDRESS") or first, self.template_text("NETWORK_MASK"))
        return declared if declared is not None and declared.supernet_of(allotted) else allotted

    @cached_property
    def allotted_block(self) -> IPv4Network | None:
        """The smallest IPv4 network with all its ranges; None if it has no IPv4 addresses.

        For a reservation, whose NETWORK_ADDRESS and NETWORK_MASK are those of the network it was reserved from.
        """
        bounds = [ip for ar in self.address_ranges for ip in (ar.ip, ar.last_ip) if ip is not None]
        return smallest_block(min(bounds), max(bounds)) if bounds else None

    @property
    def gateway(self) -> IPv4Address | None:
        """The address of its IPv4 router, GATEWAY; None if it has none, or another text, which its owner may write."""
        return ipv4(self.template_text("GATEWAY"))

    @property
    def ipv6_gateway(self) -> IPv6Address | None:
        """The address of its IPv6 router: IP6_GATEWAY, or GATEWAY6 as older versions have it; None as for `gateway`."""
        return ipv6(self.template_text("IP6_GATEWAY")) or ipv6(self.template_text("GATEWAY6"))

    @property
    def dns_servers(self) -> tuple[IPv4Address | IPv6Address, ...]:
        """The addresses in DNS, which are separated by spaces; other texts are left out."""
        servers = (ipv4(text) or ipv6(text) for text in self.template_text("DNS").replace(",", " ").split())
        return tuple(server for server in servers if server is not None)

    @cached_property
    def ipv6_blocks(self) -> tuple[IPv6Network, ...]:
        """The IPv6 networks of its addresses, each once, in the order of the ranges."""
        return tuple(dict.fromkeys(block for ar in self.address_ranges for block in ar.ipv6_blocks))

    def covers(self, ip: IPv4Address) -> bool:
        """Whether an address is in one of its ranges."""
        return any(address_range.covers(ip) for address_range in self.address_ranges)

    @property
    def leases(self) -> tuple[Lease, ...]:
        """The leases of all its ranges that the user may see; empty in the document of the pool."""
        return tuple(lease for address_range in self.address_ranges for lease in address_range.leases)

    def is_leased(self, ip: IPv4Address) -> bool:
        """Whether an address is in use or held; in a document of serveradmin, who sees all leases."""
        return any(lease.ip == ip for lease in self.leases)

    def leases_of(self, vm_id: int) -> tuple[Lease, ...]:
        """Return the leases of a machine. Only oned writes them; users see those of machines that they may see."""
        return self._leases("VM", vm_id)

    def leases_to(self, network_id: int) -> tuple[Lease, ...]:
        """Return the leases of a reservation, another network whose addresses come from this network."""
        return self._leases("VNET", network_id)

    def _leases(self, holder: str, holder_id: int) -> tuple[Lease, ...]:
        path, id_text = "AR_POOL/AR/LEASES/LEASE", str(holder_id)
        elements = (element for element in self._all(path) if element.findtext(holder) == id_text)
        return tuple(self._view(Lease, path, element) for element in elements)

    @cached_property
    def template(self) -> Attributes:
        """Its attributes: those of networks (GATEWAY, NETWORK_ADDRESS, DNS, …) and free ones."""
        return self._attributes("TEMPLATE")

    def template_text(self, name: str) -> str:
        """Return an attribute of its TEMPLATE; empty if there is none."""
        return self._named("TEMPLATE", name)


class NetworkTemplate(OwnedView):
    """A template of virtual networks (oned's VNTEMPLATE documents)."""

    @property
    def cluster_ids(self) -> tuple[int, ...]:
        """The ids of the clusters of its networks; oned puts them into its default cluster if it names none."""
        return ids_in(self.template.text("CLUSTER_IDS")) or (DEFAULT_CLUSTER,)

    @cached_property
    def template(self) -> Attributes:
        """Its attributes: those of the networks that are made of it."""
        return self._attributes("TEMPLATE")


def smallest_block(first: IPv4Address, last: IPv4Address) -> IPv4Network:
    """Return the smallest IPv4 network that contains two addresses."""
    bits = (int(first) ^ int(last)).bit_length()
    return IPv4Network((int(first) >> bits << bits, _IPV4_BITS - bits))


def _ipv4_block(address: str, mask: str) -> IPv4Network | None:
    """Return the network with an address in it and a mask in dotted decimal notation; None for any other texts."""
    parsed_address, parsed_mask = ipv4(address), ipv4(mask)
    if parsed_address is None or parsed_mask is None:
        return None
    host_bits = (~int(parsed_mask) & _LAST_IPV4).bit_length()
    if int(parsed_mask) != _LAST_IPV4 >> host_bits << host_bits:
        return None
    return IPv4Network((parsed_address, _IPV4_BITS - host_bits), strict=False)


def _ipv6_block(address: str, length: int | None) -> IPv6Network | None:
    parsed = ipv6(address)
    return None if parsed is None or length is None else IPv6Network((parsed, length), strict=False)


class NetworksOfNics:
    """Networks, found by how NICs in templates name them (OpenNebula, NIC in a VM template).

    The cost of finding one does not grow with their number: a template may have many NICs.
    """

    def __init__(self, networks: Iterable[VirtualNetwork]) -> None:
        self._by_key: dict[tuple[str, ...], VirtualNetwork] = {}
        for network in networks:
            keys = (
                ("NETWORK_ID", str(network.id)),
                ("NETWORK_UID", str(network.uid), network.name),
                ("NETWORK_UNAME", network.uname, network.name),
            )
            self._by_key |= dict.fromkeys(keys, network)

    def of(self, nic: Vector, user: str) -> VirtualNetwork | None:
        """Return the network of a NIC in the template of a machine of `user`; None if it is none of them.

        The NIC gives the id of a network, or its name and owner; without owner it is a network of the user.
        """
        if "NETWORK_ID" in nic:
            return self._by_key.get(("NETWORK_ID", nic["NETWORK_ID"]))
        if "NETWORK" not in nic:
            return None
        if "NETWORK_UID" in nic:
            return self._by_key.get(("NETWORK_UID", nic["NETWORK_UID"], nic["NETWORK"]))
        return self._by_key.get(("NETWORK_UNAME", nic.get("NETWORK_UNAME", user), nic["NETWORK"]))


def without_address_ranges(document: str) -> str:
    """Return a network's document with an empty AR_POOL, which is the largest part of a large network's document."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True, strip_cdata=False)
    root = etree.fromstring(document, parser)
    for address_ranges in root.findall("AR_POOL"):
        address_ranges[:] = []
    return etree.tostring(root, encoding="unicode")
