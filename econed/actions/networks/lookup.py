"""Subnets and VPCs: which of the caller's virtual networks are which, and finding them by their ids.

A network that the caller may USE is a subnet, except the network of elastic IPs, which has no instances, and networks
with the mark `VPC_MARK`. Such a network is a VPC, and the networks reserved from it are its subnets. All other subnets
are in the default VPC, which is no object of OpenNebula.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from econed.errors import EC2Error
from econed.ids import DEFAULT_VPC_NUMBER, SUBNET, VPC
from econed.opennebula.security_groups import DEFAULT_SECURITY_GROUP
from econed.opennebula.states import NetworkState

if TYPE_CHECKING:
    from econed.actions.call import Call
    from econed.opennebula.documents import VirtualMachine, VirtualNetwork

VPC_MARK: Final = "EC2_VPC"
"""The attribute, with the value YES, of a network that is a VPC, and of the network templates of such networks."""

CREATING: Final = "EC2_CREATING"
"""The attribute, with the value YES, of a VPC that econed has not finished creating."""

DELETING: Final = "EC2_DELETING"
"""The attribute, with the value YES, of a subnet of a VPC that is being deleted."""

DNS_HOSTNAMES: Final = "EC2_DNS_HOSTNAMES"
"""The attribute, with the value YES, of a VPC whose owner has set enableDnsHostnames."""

AVAILABLE: Final = "available"
_STATES = MappingProxyType(
    {
        NetworkState.READY: AVAILABLE,
        NetworkState.UPDATE_FAILURE: AVAILABLE,  # of a machine; the network itself is in use
        NetworkState.ERROR: "failed",
    }
)
DELETED: Final = frozenset({NetworkState.LOCK_DELETE, NetworkState.DONE})
"""The states of a network that oned is deleting, which takes some time in 7.x."""


@dataclass(frozen=True)
class Vpc:
    """A VPC: the network with this number as its id, or the default VPC, for which `network` is None."""

    number: int
    network: VirtualNetwork | None

    @property
    def id(self) -> str:
        """The EC2 id."""
        return VPC.format(self.number)

    @property
    def is_default(self) -> bool:
        """Whether it is the default VPC."""
        return self.network is None

    @property
    def has_dns_hostnames(self) -> bool:
        """Its attribute enableDnsHostnames, which is kept, and changes nothing: names are not OpenNebula's."""
        return self.network is not None and self.network.template_text(DNS_HOSTNAMES) == "YES"

    @property
    def cidr(self) -> IPv4Network | None:
        """The CIDR block of its network. None for the default VPC: its blocks are those of its subnets."""
        return None if self.network is None else self.network.ipv4_block

    @property
    def is_available(self) -> bool:
        """Whether subnets can be made in it."""
        return self.network is None or _state_in_vpc(self.network) == AVAILABLE


DEFAULT_VPC: Final = Vpc(DEFAULT_VPC_NUMBER, None)

NO_VPC_IDS: Final[Mapping[int, str]] = MappingProxyType({})
"""The ids of VPCs by network (`Networks.vpc_ids`) where all networks are in the default VPC."""


@dataclass(frozen=True)
class Subnet:
    """A subnet: a network that the caller may USE, and its VPC."""

    network: VirtualNetwork
    vpc: Vpc

    @property
    def id(self) -> str:
        """The EC2 id."""
        return SUBNET.format(self.network.id)

    @property
    def cidr(self) -> IPv4Network | None:
        """The CIDR block: in a VPC of its own exactly its addresses, since the mask is that of the whole VPC.

        None for a network without IPv4 addresses.
        """
        return self.network.ipv4_block if self.vpc.is_default else self.network.allotted_block

    @property
    def ipv6_cidrs(self) -> tuple[IPv6Network, ...]:
        """The IPv6 CIDR blocks."""
        return self.network.ipv6_blocks

    @property
    def free_addresses(self) -> int:
        """How many of its IPv4 addresses are neither in use nor held.

        oned counts the addresses in use of all ranges together, so this is the maximum where some have no IPv4.
        """
        return max(0, min(self.network.free, self.network.ipv4_size))

    @property
    def state(self) -> str:
        """`available` for instances, `pending`, or `failed`."""
        return _state_of(self.network) if self.vpc.is_default else _state_in_vpc(self.network)

    def zone(self, zones: Mapping[int, str]) -> str:
        """Return the name of its availability zone: the first of its clusters that is one of `zones`, names by id.

        It is empty for a network in none of these clusters.
        """
        return next((zones[cluster_id] for cluster_id in self.network.cluster_ids if cluster_id in zones), "")


@dataclass(frozen=True)
class Networks:
    """The VPCs by number, the default VPC first, and the subnets, lowest id first."""

    vpcs: Mapping[int, Vpc]
    subnets: Sequence[Subnet]

    @classmethod
    def of(cls, networks: Iterable[VirtualNetwork], elastic_ips: int | None) -> Networks:
        """Return the VPCs and subnets among networks; `elastic_ips` is the id of the network of elastic IPs."""
        present = (network for network in networks if network.id != elastic_ips and network.state not in DELETED)
        usable = sorted(present, key=lambda network: network.id)
        marked = {network.id: Vpc(network.id, network) for network in usable if is_vpc(network)}
        vpcs = {DEFAULT_VPC.number: DEFAULT_VPC, **marked}
        others = (network for network in usable if network.id not in marked)
        return cls(vpcs, tuple(Subnet(network, vpc_of(network, vpcs)) for network in others))

    def subnets_of(self, vpc: Vpc) -> Sequence[Subnet]:
        """Return the subnets of a VPC, lowest id first."""
        return self._by_vpc.get(vpc.number, ())

    def named(self, texts: Sequence[str]) -> tuple[Subnet, ...]:
        """Return the subnets with these EC2 ids; raises the errors of `find_subnets`."""
        ids = {text: SUBNET.opennebula_id(text) for text in texts}
        by_id = {subnet.network.id: subnet for subnet in self.subnets}
        missing = [text for text, network_id in ids.items() if network_id not in by_id]
        if missing:
            raise SUBNET.not_found(*missing)
        return tuple(by_id[network_id] for network_id in dict.fromkeys(ids.values()) if network_id is not None)

    def vpc_named(self, text: str) -> Vpc:
        """Return the VPC with an EC2 id; raises the errors of `find_vpc`."""
        number = VPC.parse(text)
        if number not in self.vpcs:
            raise VPC.not_found(text)
        return self.vpcs[number]

    def networks_of(self, vpc: Vpc) -> Sequence[VirtualNetwork]:
        """Return the networks whose routers and name servers a VPC has: its only one, or those of the default VPC."""
        return [vpc.network] if vpc.network is not None else [subnet.network for subnet in self.subnets_of(vpc)]

    @cached_property
    def _by_vpc(self) -> Mapping[int, Sequence[Subnet]]:
        by_vpc: dict[int, list[Subnet]] = {}
        for subnet in self.subnets:
            by_vpc.setdefault(subnet.vpc.number, []).append(subnet)
        return by_vpc

    @cached_property
    def vpc_ids(self) -> Mapping[int, str]:
        """The ids of the VPCs of subnets, by the id of the network; all networks not in it are in the default VPC."""
        return {subnet.network.id: subnet.vpc.id for subnet in self.subnets if not subnet.vpc.is_default}


def is_vpc(network: VirtualNetwork) -> bool:
    """Whether a network is a VPC. A reservation, from which nothing can be reserved, never is."""
    return network.parent_network_id is None and network.template_text(VPC_MARK).upper() == "YES"


def vpc_of(network: VirtualNetwork, vpcs: Mapping[int, Vpc]) -> Vpc:
    """Return the VPC of a subnet's network; `vpcs` are by number, as in `Networks`.

    It is the default VPC for a reservation from a VPC that the caller may not USE.
    """
    parent_id = network.parent_network_id
    return DEFAULT_VPC if parent_id is None else vpcs.get(parent_id, DEFAULT_VPC)


async def read_networks(call: Call) -> Networks:
    """Return the VPCs and subnets that the caller may USE, in one call to oned, without leases."""
    return networks_of(call, await call.session.networks())


def networks_of(call: Call, documents: Iterable[VirtualNetwork]) -> Networks:
    """Return the VPCs and subnets among the networks that the caller may see."""
    return Networks.of(documents, call.settings.elasticips_vnet_id)


async def read_vpc_ids(call: Call) -> Mapping[int, str]:
    """Return the ids of the VPCs of the networks that are not in the default VPC, by the ids of the networks."""
    return (await read_networks(call)).vpc_ids


async def vpc_ids_of(call: Call, machines: Iterable[VirtualMachine]) -> Mapping[int, str]:
    """Return the ids of the VPCs of the networks of machines, as `read_vpc_ids`.

    The networks are read only if one may be in another VPC than the default VPC: these are reservations.
    """
    is_in_reservation = any(nic.parent_network_id is not None for machine in machines for nic in machine.nics)
    return await read_vpc_ids(call) if is_in_reservation else {}


async def subnets(call: Call) -> Sequence[Subnet]:
    """Return the subnets that the caller may USE, lowest id first."""
    return (await read_networks(call)).subnets


async def find_vpc(call: Call, text: str) -> Vpc:
    """Return the VPC with an EC2 id; an empty text names the default VPC.

    Raises `EC2Error` InvalidVpcID.Malformed, or InvalidVpcID.NotFound also for one that the caller may not USE.
    """
    if not text or VPC.opennebula_id(text) == DEFAULT_VPC_NUMBER:
        return DEFAULT_VPC
    VPC.parse(text)
    return (await read_networks(call)).vpc_named(text)


async def find_subnets(call: Call, texts: Sequence[str]) -> tuple[Subnet, ...]:
    """Return the subnets with these EC2 ids, in this order and each once.

    Raises `EC2Error` InvalidSubnetID.Malformed before anything is read, or InvalidSubnetID.NotFound, which names all
    that do not exist or that the caller may not USE.
    """
    for text in texts:
        SUBNET.opennebula_id(text)
    return (await read_networks(call)).named(texts) if texts else ()


async def find_networks(call: Call, subnet_ids: Sequence[str], vpc_ids: Sequence[str]) -> tuple[VirtualNetwork, ...]:
    """Return the networks of subnets and VPCs with these EC2 ids, in one call to oned, each once.

    Raises `EC2Error` as `find_subnets` and `find_vpc` do, and UnsupportedOperation for the default VPC.
    """
    if not subnet_ids and not vpc_ids:
        return ()
    numbers = {text: VPC.opennebula_id(text) for text in vpc_ids}
    if DEFAULT_VPC_NUMBER in numbers.values():
        raise EC2Error(
            "UnsupportedOperation", f"The VPC '{DEFAULT_VPC.id}' has no object in OpenNebula that could be changed."
        )
    networks = await read_networks(call)
    missing = [text for text, number in numbers.items() if number not in networks.vpcs]
    if missing:
        raise VPC.not_found(*missing)
    vpcs = (vpc.network for number, vpc in networks.vpcs.items() if number in numbers.values())
    found = (subnet.network for subnet in networks.named(subnet_ids))
    return tuple({network.id: network for network in (*found, *vpcs) if network is not None}.values())


def _state_of(network: VirtualNetwork) -> str:
    return _STATES.get(network.state, "pending")


def _state_in_vpc(network: VirtualNetwork) -> str:
    """Return the state of a VPC or of a subnet of one: `available` only without the group that allows all traffic.

    oned puts that group into every new network. econed takes it off as the last step of the creation.
    """
    is_open = DEFAULT_SECURITY_GROUP in network.security_group_ids
    is_changing = is_open or bool(network.template_text(CREATING) or network.template_text(DELETING))
    state = _state_of(network)
    return "pending" if is_changing and state == AVAILABLE else state
