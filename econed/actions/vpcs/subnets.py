"""Subnets of the VPCs of users (EC2 API Reference, CreateSubnet, DeleteSubnet, ModifySubnetAttribute)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypedDict

from econed.actions.action import action
from econed.actions.inputs import AttributeBooleanValue, TagSpecification
from econed.actions.networks.lookup import Subnet, Vpc, find_subnets, networks_of
from econed.actions.networks.view import Place, subnet_view
from econed.actions.regions.regions import own_region
from econed.actions.regions.zones import networks_and_zones
from econed.actions.tagging import specified_tags
from econed.actions.tasks import TaskGroup
from econed.actions.vpcs.attributes import check_attribute, check_may_manage
from econed.actions.vpcs.blocks import subnet_block
from econed.actions.vpcs.networks import hold_reserved, make_available, remove_subnet, subnet_name
from econed.actions.vpcs.vpcs import made_private, wait_until_gone
from econed.actions.watch import watch_caller
from econed.errors import EC2Error, OpenNebulaCode, OpenNebulaRefusal
from econed.ids import SUBNET, VPC
from econed.opennebula.documents import Right
from econed.opennebula.networks import FIRST_RANGE

if TYPE_CHECKING:
    from ipaddress import IPv4Network

    from types_boto3_ec2.type_defs import SubnetTypeDef

    from econed.actions.call import Call
    from econed.opennebula.documents import VirtualNetwork
    from econed.opennebula.networks import AddressRange

MAX_SUBNETS: Final = 200
"""Subnets of one VPC (EC2, "Amazon VPC quotas")."""

_NOT_FREE = (OpenNebulaCode.ACTION, OpenNebulaCode.INTERNAL)
"""oned's refusals of a reservation: some addresses are not free; another subnet has the name, so it has the block."""


class CreateSubnetResult(TypedDict):
    """EC2 CreateSubnetResult."""

    Subnet: SubnetTypeDef


@action()
async def create_subnet(
    call: Call,
    *,
    vpc_id: str,
    cidr_block: str = "",
    availability_zone: str = "",
    availability_zone_id: str = "",
    tag_specifications: Sequence[TagSpecification] = (),
) -> CreateSubnetResult:
    """Create a subnet of a VPC, with a block of its addresses (OpenNebula vn reserve).

    Raises `EC2Error` InvalidSubnet.Range, InvalidSubnet.Conflict where another subnet has some of the addresses,
    SubnetLimitExceeded, or UnsupportedOperation for the default VPC.
    """
    tags = specified_tags(tag_specifications, "subnet")["subnet"]
    if not cidr_block:
        raise EC2Error("MissingParameter", "The request must contain the parameter cidrBlock")
    async with TaskGroup() as reads:
        reading, region = reads.start(networks_and_zones(call)), reads.start(own_region(call))
        user = reads.start(call.session.current_user())
    documents, zones = reading.result
    networks = networks_of(call, documents)
    vpc = networks.vpc_named(vpc_id)
    if vpc.network is None:
        raise EC2Error(
            "UnsupportedOperation",
            "The subnets of the default VPC are networks of OpenNebula: an administrator creates one with 'onevnet "
            "create FILE', and shares it with 'onevnet chmod NETWORK 640'.",
        )
    block = _block(vpc, vpc.network, cidr_block)
    _check_zone(Subnet(vpc.network, vpc), zones, availability_zone, availability_zone_id)
    check_may_manage(call, vpc.network)
    if len(networks.subnets_of(vpc)) >= MAX_SUBNETS:
        raise EC2Error("SubnetLimitExceeded", "The maximum number of subnets has been reached.")
    await watch_caller(call, user.result)
    network = await _reserved(call, vpc, block)
    await hold_reserved(call.session, network)
    await make_available(call.session, network, tags)
    subnet = Subnet(await call.session.network_without_leases(network.id), vpc)
    place = Place(call.caller.id, region.result.name, zones)
    return {"Subnet": subnet_view(subnet, place, is_default=False)}


@action()
async def delete_subnet(call: Call, *, subnet_id: str) -> None:
    """Delete a subnet of a VPC of a user (OpenNebula vn delete); DependencyViolation while an instance is in it."""
    network_id = SUBNET.parse(subnet_id)
    async with TaskGroup() as reads:
        finding = reads.start(find_subnets(call, [subnet_id]))
        reading, user = reads.start(_with_leases(call, network_id)), reads.start(call.session.current_user())
    ((subnet,), network) = finding.result, reading.result
    if subnet.vpc.is_default:
        check_may_manage(call, subnet.network)
        raise EC2Error(
            "UnsupportedOperation",
            "The subnets of the default VPC are networks of OpenNebula: their owners delete them with 'onevnet delete "
            "NETWORK'.",
        )
    is_allowed = network.allows(call.caller.id, call.caller.groups, Right.MANAGE)
    if is_allowed and network.used_leases > sum(lease.is_held for lease in network.leases):
        raise _has_dependencies(subnet)
    await watch_caller(call, user.result)

    async def delete(network: VirtualNetwork) -> None:
        if not await remove_subnet(call.session, network):
            raise _has_dependencies(subnet)

    await call.change_all(Right.MANAGE, [network], delete)
    await wait_until_gone(call, network.id)


@action()
async def modify_subnet_attribute(
    call: Call,
    *,
    subnet_id: str,
    map_public_ip_on_launch: AttributeBooleanValue | None = None,
    map_customer_owned_ip_on_launch: AttributeBooleanValue | None = None,
    assign_ipv6_address_on_creation: AttributeBooleanValue | None = None,
    enable_dns64: AttributeBooleanValue | None = None,
    enable_resource_name_dns_a_record_on_launch: AttributeBooleanValue | None = None,
    enable_resource_name_dns_a_a_a_a_record_on_launch: AttributeBooleanValue | None = None,
) -> None:
    """Accept the values that attributes have; raises `EC2Error` UnsupportedOperation for others.

    An instance gets a public address only by RunInstances or AssociateAddress, and IPv6 addresses where its network has
    them.
    """
    (subnet,) = await find_subnets(call, [subnet_id])
    given = {
        "MapPublicIpOnLaunch": (map_public_ip_on_launch, False),
        "MapCustomerOwnedIpOnLaunch": (map_customer_owned_ip_on_launch, False),
        "AssignIpv6AddressOnCreation": (assign_ipv6_address_on_creation, bool(subnet.ipv6_cidrs)),
        "EnableDns64": (enable_dns64, False),
        "EnableResourceNameDnsARecordOnLaunch": (enable_resource_name_dns_a_record_on_launch, False),
        "EnableResourceNameDnsAAAARecordOnLaunch": (enable_resource_name_dns_a_a_a_a_record_on_launch, False),
    }
    check_attribute(call, subnet.network, given)


def _block(vpc: Vpc, network: VirtualNetwork, text: str) -> IPv4Network:
    """Return the block for a new subnet; raises `EC2Error` IncorrectState if the VPC is not available yet."""
    if vpc.cidr is None or not vpc.is_available:
        raise EC2Error("IncorrectState", f"The vpc '{vpc.id}' is not available.")
    block = subnet_block(text, vpc.cidr)
    if not any(_has_all(address_range, block) for address_range in network.address_ranges):
        raise EC2Error("InvalidSubnet.Range", f"The CIDR '{text}' is invalid.")
    return block


def _has_all(address_range: AddressRange, block: IPv4Network) -> bool:
    """Whether the range from which subnets are reserved has a block: oned also takes one that ends after the range.

    The owner of a VPC may make its network in OpenNebula, with any ranges.
    """
    return address_range.ar_id == FIRST_RANGE and all(map(address_range.covers, (block[0], block[-1])))


def _check_zone(vpc_as_subnet: Subnet, zones: Mapping[int, str], name: str, zone_id: str) -> None:
    """Check that a zone is the one that subnets of the VPC are in: the first of the clusters of its network."""
    own_name = vpc_as_subnet.zone(zones)
    own_id = next((f"cluster-{id_}" for id_ in vpc_as_subnet.network.cluster_ids if id_ in zones), "")
    for parameter, value, own in (("availabilityZone", name, own_name), ("availabilityZoneId", zone_id, own_id)):
        if value and value != own:
            raise EC2Error(
                "InvalidParameterValue",
                f"Value ({value}) for parameter {parameter} is invalid. Subnets of this VPC can only be created in the "
                f"following availability zones: {own}.",
            )


async def _reserved(call: Call, vpc: Vpc, block: IPv4Network) -> VirtualNetwork:
    """Reserve the addresses of a block of a VPC for the caller alone, and return the network with them."""
    first, size = block.network_address, block.num_addresses
    try:
        network_id = await call.session.network_reserve(vpc.number, subnet_name(vpc.number, block), first, size)
    except OpenNebulaRefusal as refusal:
        if refusal.code in _NOT_FREE:
            raise EC2Error("InvalidSubnet.Conflict", f"The CIDR '{block}' conflicts with another subnet") from refusal
        if refusal.code == OpenNebulaCode.NO_EXISTS:
            raise VPC.not_found(vpc.id) from refusal
        raise
    return await made_private(call, network_id)


async def _with_leases(call: Call, network_id: int) -> VirtualNetwork:
    try:
        return await call.session.network(network_id)
    except OpenNebulaRefusal as refusal:
        if refusal.code == OpenNebulaCode.NO_EXISTS:
            raise SUBNET.not_found(SUBNET.format(network_id)) from refusal
        raise


def _has_dependencies(subnet: Subnet) -> EC2Error:
    return EC2Error("DependencyViolation", f"The subnet '{subnet.id}' has dependencies and cannot be deleted.")
