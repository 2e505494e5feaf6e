"""The network interfaces that a RunInstances call asks for: NICs in the subnets it names, as template text.

Without any, a machine has the NICs of its template. The NIC at a position keeps what the template says of the NIC at
that position (its model, its limits), except the network and the addresses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address
from types import MappingProxyType
from typing import TYPE_CHECKING, TypedDict

from econed.actions.inputs import check_text
from econed.actions.instances.launch_groups import NO_GROUPS, DefaultGroups, GroupNames, Protection
from econed.actions.machines.interface_facts import MAX_DESCRIPTION, nic_description
from econed.actions.machines.interfaces import ENI, new_eni
from econed.actions.networks.lookup import AVAILABLE, find_subnets, subnets
from econed.errors import EC2Error
from econed.ids import SUBNET
from econed.opennebula.networks import NetworksOfNics
from econed.opennebula.template import template, vector
from econed.opennebula.values import ids_in, ipv4

if TYPE_CHECKING:
    from econed.actions.call import Call
    from econed.actions.instances.types import InstanceType
    from econed.actions.networks.lookup import Subnet
    from econed.opennebula.attributes import Attributes
    from econed.opennebula.documents import SecurityGroup, Vector

MAX_INTERFACES = 15
"""Network interfaces of an instance: as many as the largest of Amazon's instance types has on one card."""

_REPLACED = frozenset(
    {
        *("NETWORK", "NETWORK_ID", "NETWORK_UID", "NETWORK_UNAME", "NETWORK_MODE", "SCHED_REQUIREMENTS", "SCHED_RANK"),
        *("IP", "IP6", "IP6_GLOBAL", "IP6_ULA", ENI),
    }
)
"""The members of a template's NIC that a requested interface replaces."""


class PrivateIpAddressSpecification(TypedDict, total=False):
    """An address of an interface (EC2 PrivateIpAddressSpecification); only a primary one can be given."""

    PrivateIpAddress: str
    Primary: bool


class InterfaceSpecification(TypedDict, total=False):
    """An interface that is made with an instance (EC2 InstanceNetworkInterfaceSpecification)."""

    Groups: Sequence[str]
    DeviceIndex: int
    SubnetId: str
    PrivateIpAddress: str
    PrivateIpAddresses: Sequence[PrivateIpAddressSpecification]
    Description: str
    AssociatePublicIpAddress: bool


@dataclass(frozen=True)
class RequestedInterface:
    """An interface as a request describes it; without `subnet_id` it is in the network of the template's NIC.

    Without `groups` it has the groups of the template's NIC. If it `is_every`, it describes all NICs of the template.
    """

    subnet_id: str = ""
    ip: IPv4Address | None = None
    description: str = ""
    groups: GroupNames = NO_GROUPS
    is_every: bool = False

    @property
    def changes_nic(self) -> bool:
        """Whether it has another network, another address or other groups than the template's NIC."""
        return bool(self.subnet_id or self.ip is not None or self.groups)


@dataclass(frozen=True)
class PlacedInterface:
    """A requested interface, the NIC of the template at its position, and its subnet (`RequestedSubnets.of`)."""

    requested: RequestedInterface
    nic: Vector
    subnet: Subnet | None


@dataclass(frozen=True)
class LaunchInterface:
    """An interface of the machines of a launch: the members of its NIC, and its subnet if the request names one."""

    members: Vector
    subnet: Subnet | None = None
    ip: IPv4Address | None = None


def requested_interfaces(
    subnet_id: str,
    private_ip: str,
    groups: GroupNames,
    specifications: Sequence[InterfaceSpecification],
    max_count: int,
) -> tuple[RequestedInterface, ...]:
    """Return the interfaces that a request describes, in the order of their device indexes; none if it does not.

    Raises `EC2Error` for combinations that EC2 does not allow, and for texts that are no addresses.
    """
    if specifications and (subnet_id or private_ip or groups):
        raise EC2Error(
            "InvalidParameterCombination",
            "Network interfaces and an instance-level subnet ID, private IP address or security groups may not be "
            "specified on the same request",
        )
    if len(specifications) > MAX_INTERFACES:
        raise _too_many_interfaces()
    indexes = [specification.get("DeviceIndex", 0) for specification in specifications]
    if sorted(indexes) != list(range(len(indexes))):
        raise EC2Error("InvalidParameterCombination", f"The device indexes must be 0 to {len(indexes) - 1}, each once.")
    if len(specifications) > 1 and has_public_ip(specifications):
        raise EC2Error(
            "InvalidParameterCombination",
            "The associatePublicIPAddress parameter cannot be specified when launching with multiple network "
            "interfaces.",
        )
    if specifications:
        ordered = sorted(specifications, key=lambda specification: specification.get("DeviceIndex", 0))
        requested = tuple(map(_requested, ordered))
    elif subnet_id or private_ip:
        requested = (RequestedInterface(subnet_id, _address(private_ip), groups=groups),)
    else:
        requested = (RequestedInterface(groups=groups, is_every=True),) if groups else ()
    if max_count > 1 and any(interface.ip is not None for interface in requested):
        raise EC2Error(
            "InvalidParameterCombination", "PrivateIpAddress cannot be given for more than one instance (MaxCount)."
        )
    return requested


def has_public_ip(specifications: Iterable[InterfaceSpecification]) -> bool:
    """Whether a request asks for a public IP."""
    return any(specification.get("AssociatePublicIpAddress", False) for specification in specifications)


def _requested(specification: InterfaceSpecification) -> RequestedInterface:
    addresses = [*specification.get("PrivateIpAddresses", ())]
    if len(addresses) > 1 or any(not address.get("Primary", True) for address in addresses):
        raise EC2Error("UnsupportedOperation", "Secondary private IP addresses are not supported by this cloud.")
    texts = [text for text in (specification.get("PrivateIpAddress", ""), *map(_text, addresses)) if text]
    if len(texts) > 1:
        raise EC2Error(
            "InvalidParameterCombination", "Only one primary private IP address can be given for a network interface."
        )
    description = specification.get("Description", "")
    check_text("NetworkInterface.Description", description, MAX_DESCRIPTION)
    groups = GroupNames.of(specification.get("Groups", ()))
    return RequestedInterface(specification.get("SubnetId", ""), _address("".join(texts)), description, groups)


def _text(address: PrivateIpAddressSpecification) -> str:
    return address.get("PrivateIpAddress", "")


def _address(text: str) -> IPv4Address | None:
    if not text:
        return None
    address = ipv4(text)
    if address is None:
        raise EC2Error(
            "InvalidParameterValue", f"Invalid value '{text[:64]}' for PrivateIpAddress. Not a valid address"
        )
    return address


_UNCHANGED = RequestedInterface(is_every=True)
"""All NICs of the type as they are, but with the default groups of VPCs."""


@dataclass(frozen=True)
class RequestedSubnets:
    """The subnets that a request names, by network id; and all, if an interface may be in a network of the type."""

    named: Mapping[int, Subnet]
    subnets: Sequence[Subnet] = ()

    def of(self, requested: RequestedInterface, nic: Vector, user: str) -> Subnet | None:
        """Return the subnet of an interface; None if it is not known which that is, or need not be.

        Without a subnet id, that is the network of the NIC in the template of a machine of `user`. It need not be known
        if the NIC stays as it is; but without groups in a VPC of a user, it gets the default group of the VPC.
        """
        if requested.subnet_id:
            return self.named[SUBNET.parse(requested.subnet_id)]
        network = self._networks.of(nic, user)
        subnet = None if network is None else self._by_network[network.id]
        if requested.changes_nic:
            return subnet
        return subnet if subnet is not None and not subnet.vpc.is_default and not _has_groups(nic) else None

    @cached_property
    def _networks(self) -> NetworksOfNics:
        return NetworksOfNics(subnet.network for subnet in self.subnets)

    @cached_property
    def _by_network(self) -> Mapping[int, Subnet]:
        return {subnet.network.id: subnet for subnet in self.subnets}


async def requested_subnets(call: Call, requested: Sequence[RequestedInterface]) -> RequestedSubnets:
    """Return the subnets for interfaces; raises the errors of `find_subnets`."""
    found = await find_subnets(call, [interface.subnet_id for interface in requested if interface.subnet_id])
    named = {subnet.network.id: subnet for subnet in found}
    needs_all = any(
        not interface.subnet_id and (interface.ip is not None or interface.groups) for interface in requested
    )
    return RequestedSubnets(named, await subnets(call) if needs_all else ())


async def with_subnets_of_type(
    call: Call, found: RequestedSubnets, requested: Sequence[RequestedInterface], instance_type: InstanceType
) -> RequestedSubnets:
    """Return the subnets found for interfaces, and all others if a NIC of the type may need the group of a VPC.

    The types of administrators have no subnets of users, unless a NIC names a network without its owner.
    """
    has_all = found.subnets or (requested and all(interface.subnet_id for interface in requested))
    is_users = instance_type.is_of_user
    if has_all or not any(_may_be_in_vpc(nic, is_users) for nic in instance_type.attributes.vectors("NIC")):
        return found
    return RequestedSubnets(found.named, await subnets(call))


def _has_groups(nic: Vector) -> bool:
    return bool(ids_in(nic.get("SECURITY_GROUPS", "")))


def _may_be_in_vpc(nic: Vector, is_of_user: bool) -> bool:
    if _has_groups(nic):
        return False
    has_owner = not {"NETWORK_ID", "NETWORK_UID", "NETWORK_UNAME"}.isdisjoint(nic)
    return is_of_user if has_owner else "NETWORK" in nic


def placed_interfaces(
    requested: Sequence[RequestedInterface], subnets: RequestedSubnets, attributes: Attributes, user: str
) -> tuple[PlacedInterface, ...]:
    """Return the interfaces of the machines of a launch by `user`, whose type has these attributes.

    There are none if the machines keep all NICs of the type as they are. Raises `EC2Error` AttachmentLimitExceeded if
    all of too many are to be changed: each machine would have the text of them all.
    """
    nics = attributes.vectors("NIC")
    if not requested and any(subnets.of(_UNCHANGED, nic, user) is not None for nic in nics):
        requested = [_UNCHANGED]
    if requested and requested[0].is_every:
        if len(nics) > MAX_INTERFACES:
            raise _too_many_interfaces()
        requested = [requested[0]] * max(1, len(nics))
    pairs = zip(requested, (*nics, *({},) * len(requested)), strict=False)
    return tuple(PlacedInterface(interface, nic, subnets.of(interface, nic, user)) for interface, nic in pairs)


def launch_interfaces(
    call: Call,
    placed: Iterable[PlacedInterface],
    groups: Mapping[GroupNames, Sequence[SecurityGroup]],
    defaults: DefaultGroups,
    has_aliases: bool,
    zone_cluster_id: int | None,
    min_count: int,
) -> tuple[LaunchInterface, ...]:
    """Return the interfaces of the machines of a launch; none to keep the type's.

    `has_aliases` says whether the type has aliases of its NICs. Raises `EC2Error` if a subnet does not fit:
    InsufficientFreeAddressesInSubnet, InvalidParameterValue for an address outside of it, InvalidParameterCombination
    if no availability zone has all subnets.
    """
    protection = Protection(call.settings, call.caller.name)
    interfaces = []
    for interface in placed:
        own_groups = groups.get(interface.requested.groups, ())
        group_ids = [group.id for group in own_groups] or defaults.of(interface.subnet)
        interfaces.append(_interface(interface.requested, interface.subnet, interface.nic, group_ids))
        if own_groups:
            protection.check(own_groups, interface.subnet)
            protection.check_aliases(own_groups, has_aliases)
    named = [interface.subnet for interface in interfaces if interface.subnet is not None]
    _check_zone(named, zone_cluster_id)
    for network_id, needed in Counter(subnet.network.id for subnet in named).items():
        subnet = next(subnet for subnet in named if subnet.network.id == network_id)
        if subnet.state != AVAILABLE:
            raise EC2Error("IncorrectState", f"The subnet '{subnet.id}' is not available.")
        if subnet.network.free < needed * min_count:
            raise no_free_addresses(subnet.id)
    return tuple(interfaces)


def _interface(
    requested: RequestedInterface, subnet: Subnet | None, nic: Vector, group_ids: Iterable[int]
) -> LaunchInterface:
    if subnet is None and (not nic or requested.ip is not None):
        raise EC2Error(
            "InvalidParameterCombination",
            "The instance type has no network for this network interface: specify SubnetId.",
        )
    is_replaced = subnet is not None and requested.changes_nic
    inherited = {name: value for name, value in nic.items() if not is_replaced or name not in _REPLACED}
    network = {"NETWORK_ID": str(subnet.network.id)} if subnet is not None and is_replaced else {}
    address = {} if requested.ip is None else {"IP": str(requested.ip)}
    if subnet is not None and requested.ip is not None and not subnet.network.covers(requested.ip):
        raise EC2Error(
            "InvalidParameterValue", f"Address {requested.ip} does not fall within the subnet's address range"
        )
    members = {**inherited, **network, **address, **nic_description(requested.description)}
    if group_texts := [str(group_id) for group_id in sorted(group_ids)]:
        members["SECURITY_GROUPS"] = ",".join(group_texts)
    return LaunchInterface(MappingProxyType(members), subnet, requested.ip)


def _check_zone(subnets: Iterable[Subnet], zone_cluster_id: int | None) -> None:
    """Check that some cluster, the one of the requested zone if there is one, has all the networks."""
    clusters = [frozenset(subnet.network.cluster_ids) for subnet in subnets]
    if clusters and not frozenset.intersection(*clusters):
        raise EC2Error("InvalidParameterCombination", "The subnets have no availability zone in common.")
    if zone_cluster_id is not None and any(zone_cluster_id not in ids for ids in clusters):
        raise EC2Error("InvalidParameterValue", "The subnet is not in the requested availability zone.")


def nics_text(interfaces: Iterable[LaunchInterface]) -> str:
    """Return the template text of the NICs of one machine; raises `NotStorable`."""
    return template(*(vector("NIC", {**interface.members, ENI: new_eni()}) for interface in interfaces))


def _too_many_interfaces() -> EC2Error:
    return EC2Error(
        "AttachmentLimitExceeded", f"An instance can have no more than {MAX_INTERFACES} network interfaces."
    )


def no_free_addresses(subnet_id: str) -> EC2Error:
    """Return the error for a subnet that has too few free addresses."""
    return EC2Error(
        "InsufficientFreeAddressesInSubnet", f"There are not enough free addresses in subnet '{subnet_id}'."
    )
