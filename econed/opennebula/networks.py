"""Views of virtual networks (oned's VNET documents)."""

from __future__ import annotations

from functools import cached_property
from ipaddress import IPv4Address

from lxml import etree

from econed.opennebula.attributes import Attributes, Vector
from econed.opennebula.states import NetworkState
from econed.opennebula.values import ipv4, mac
from econed.opennebula.views import OwnedView, View

HELD = -1
"""The VM of a lease that nobody uses but nobody else can have (`one.vn.hold`)."""


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
        """The machine that has it; `HELD` if it is held. Meaningless where a network or router has it."""
        return self._number("VM", HELD)

    @property
    def is_held(self) -> bool:
        """Whether it is held, and not used by a machine, a virtual router or a reservation."""
        return self._text("VM") == str(HELD)


class AddressRange(View):
    """A range of addresses (AR_POOL/AR)."""

    @property
    def ar_id(self) -> int:
        """The number of the range within its network."""
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
        """How many addresses it has."""
        return self._number("SIZE")

    @property
    def used_leases(self) -> int:
        """How many of them are taken or held."""
        return self._number("USED_LEASES", 0)

    def covers(self, ip: IPv4Address) -> bool:
        """Whether an address is one of the range's."""
        return self.ip is not None and 0 <= int(ip) - int(self.ip) < self.size

    @cached_property
    def leases(self) -> tuple[Lease, ...]:
        """The addresses that are taken or held; not in the document of the pool."""
        return tuple(Lease(each, self._on_read, self._below("LEASES/LEASE")) for each in self._all("LEASES/LEASE"))

    @cached_property
    def attributes(self) -> Vector:
        """All its attributes, those of `one.vn.update_ar` among them."""
        return self._members("")


class VirtualNetwork(OwnedView):
    """A virtual network."""

    @property
    def state(self) -> NetworkState:
        """Its state; before 6.4 there is none and it is ready."""
        return NetworkState(self._number("STATE", NetworkState.READY))

    @property
    def cluster_ids(self) -> tuple[int, ...]:
        """The clusters whose hosts reach it."""
        return self._numbers("CLUSTERS/ID")

    @property
    def parent_network_id(self) -> int | None:
        """The network it was reserved from; None if it is no reservation."""
        number = self._number("PARENT_NETWORK_ID", -1)
        return None if number < 0 else number

    @property
    def used_leases(self) -> int:
        """How many of its addresses are taken or held."""
        return self._number("USED_LEASES", 0)

    @property
    def size(self) -> int:
        """How many addresses its ranges have in all."""
        return sum(each.size for each in self.address_ranges)

    @property
    def free(self) -> int:
        """How many of them are neither taken nor held."""
        return self.size - self.used_leases

    @cached_property
    def address_ranges(self) -> tuple[AddressRange, ...]:
        """Its address ranges, in oned's order."""
        path = "AR_POOL/AR"
        return tuple(AddressRange(each, self._on_read, self._below(path)) for each in self._all(path))

    def leases_of(self, vm_id: int) -> tuple[Lease, ...]:
        """Return the leases that name a machine. oned alone writes them; a user sees those of machines they may see."""
        return self._leases("VM", vm_id)

    def leases_to(self, network_id: int) -> tuple[Lease, ...]:
        """Return the leases that name a reservation, another network that has its addresses from this one."""
        return self._leases("VNET", network_id)

    def _leases(self, holder: str, number: int) -> tuple[Lease, ...]:
        path, named = "AR_POOL/AR/LEASES/LEASE", str(number)
        found = (each for each in self._all(path) if each.findtext(holder) == named)
        return tuple(Lease(each, self._on_read, self._below(path)) for each in found)

    @cached_property
    def template(self) -> Attributes:
        """Its free attributes and the network's own (GATEWAY, NETWORK_ADDRESS, DNS, …)."""
        return self._attributes("TEMPLATE")

    def template_text(self, name: str) -> str:
        """Return one attribute of its TEMPLATE; empty if there is none."""
        return self._named("TEMPLATE", name)


def without_address_ranges(document: str) -> str:
    """Return a network's document as oned gives it with nothing in its AR_POOL, which makes most of a large one."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True, strip_cdata=False)
    root = etree.fromstring(document, parser)
    for ranges in root.findall("AR_POOL"):
        ranges[:] = []
    return etree.tostring(root, encoding="unicode")
