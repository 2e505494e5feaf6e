"""Views of virtual networks (oned's VNET documents)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from ipaddress import IPv4Address

from lxml import etree

from econed.opennebula.attributes import Attributes, Vector
from econed.opennebula.states import NetworkState
from econed.opennebula.values import ipv4, mac
from econed.opennebula.views import OwnedView, View

HELD = -1
"""The VM of a lease that is held: not in use, and not available (`one.vn.hold`)."""


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


def networks_of_nic(nic: Vector, networks: Iterable[VirtualNetwork], user: str) -> Iterator[VirtualNetwork]:
    """Yield the networks of a NIC in the template of a machine of `user` (OpenNebula, NIC in a VM template).

    It gives the id of a network, or its name and owner; without owner it is a network of the user.
    """
    for network in networks:
        if "NETWORK_ID" in nic:
            is_network_of_nic = nic["NETWORK_ID"] == str(network.id)
        elif "NETWORK_UID" in nic:
            is_network_of_nic = (nic.get("NETWORK"), nic["NETWORK_UID"]) == (network.name, str(network.uid))
        else:
            owner = nic.get("NETWORK_UNAME", user)
            is_network_of_nic = (nic.get("NETWORK"), owner) == (network.name, network.uname)
        if is_network_of_nic:
            yield network


def without_address_ranges(document: str) -> str:
    """Return a network's document with an empty AR_POOL, which is the largest part of a large network's document."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True, strip_cdata=False)
    root = etree.fromstring(document, parser)
    for address_ranges in root.findall("AR_POOL"):
        address_ranges[:] = []
    return etree.tostring(root, encoding="unicode")
