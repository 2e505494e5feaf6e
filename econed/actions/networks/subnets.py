"""Listing subnets (EC2 API Reference, DescribeSubnets)."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, NotRequired, TypedDict

from econed.actions.action import action
from econed.actions.filters import Filters, field, no_values, tag_filters
from econed.actions.inputs import Filter
from econed.actions.networks.listing import ListRequest
from econed.actions.networks.lookup import networks_of
from econed.actions.networks.view import Place, default_subnets, subnet_view
from econed.actions.regions.regions import own_region
from econed.actions.regions.zones import networks_and_zones
from econed.actions.tasks import TaskGroup
from econed.ids import SUBNET

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import SubnetTypeDef

    from econed.actions.call import Call

_IPV6 = "Ipv6CidrBlockAssociationSet"
_NAMES = "PrivateDnsNameOptionsOnLaunch"

_FILTERS = Filters(
    MappingProxyType(
        {
            "assign-ipv6-address-on-creation": field("AssignIpv6AddressOnCreation"),
            "availability-zone": field("AvailabilityZone"),
            "availability-zone-id": field("AvailabilityZoneId"),
            "availabilityZone": field("AvailabilityZone"),
            "availabilityZoneId": field("AvailabilityZoneId"),
            "available-ip-address-count": field("AvailableIpAddressCount"),
            "cidr": field("CidrBlock"),
            "cidr-block": field("CidrBlock"),
            "cidrBlock": field("CidrBlock"),
            "customer-owned-ipv4-pool": no_values,
            "default-for-az": field("DefaultForAz"),
            "defaultForAz": field("DefaultForAz"),
            "enable-dns64": field("EnableDns64"),
            "enable-lni-at-device-index": no_values,
            "ipv6-cidr-block-association.association-id": field(_IPV6, "AssociationId"),
            "ipv6-cidr-block-association.ipv6-cidr-block": field(_IPV6, "Ipv6CidrBlock"),
            "ipv6-cidr-block-association.state": field(_IPV6, "Ipv6CidrBlockState", "State"),
            "ipv6-native": field("Ipv6Native"),
            "map-customer-owned-ip-on-launch": field("MapCustomerOwnedIpOnLaunch"),
            "map-public-ip-on-launch": field("MapPublicIpOnLaunch"),
            "outpost-arn": no_values,
            "owner-id": field("OwnerId"),
            "private-dns-name-options-on-launch.enable-resource-name-dns-a-record": field(
                _NAMES, "EnableResourceNameDnsARecord"
            ),
            "private-dns-name-options-on-launch.enable-resource-name-dns-aaaa-record": field(
                _NAMES, "EnableResourceNameDnsAAAARecord"
            ),
            "private-dns-name-options-on-launch.hostname-type": field(_NAMES, "HostnameType"),
            "state": field("State"),
            "subnet-arn": field("SubnetArn"),
            "subnet-id": field("SubnetId"),
            "vpc-id": field("VpcId"),
            **tag_filters(),
        }
    )
)


class DescribeSubnetsResult(TypedDict):
    """EC2 DescribeSubnetsResult."""

    Subnets: list[SubnetTypeDef]
    NextToken: NotRequired[str]


@action()
async def describe_subnets(
    call: Call,
    *,
    subnet_ids: Sequence[str] = (),
    filters: Sequence[Filter] = (),
    max_results: int | None = None,
    next_token: str | None = None,
) -> DescribeSubnetsResult:
    """List the networks that the caller may use, except that of elastic IPs (EC2 DescribeSubnets)."""
    request = ListRequest.of(SUBNET, subnet_ids, _FILTERS.selection(filters, call.budget), max_results, next_token)
    async with TaskGroup() as tasks:
        reading_networks, reading_region = tasks.start(networks_and_zones(call)), tasks.start(own_region(call))
    documents, zones = reading_networks.result
    networks = networks_of(call, documents)
    place = Place(call.caller.id, reading_region.result.name, zones)
    defaults = default_subnets(networks.subnets, place)
    listed, token = await request.page(
        {subnet.network.id: subnet for subnet in networks.subnets},
        lambda subnet: subnet_view(subnet, place, is_default=subnet.network.id in defaults),
    )
    return {"Subnets": listed, **token}
