"""Listing VPCs, and showing their attributes (EC2 API Reference, DescribeVpcs, DescribeVpcAttribute)."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, NotRequired, TypedDict

from econed.actions.action import action
from econed.actions.filters import Filters, field, no_values, tag_filters
from econed.actions.inputs import Filter
from econed.actions.networks.listing import ListRequest
from econed.actions.networks.lookup import find_vpc, read_networks
from econed.actions.networks.view import Place, vpc_view
from econed.actions.regions.regions import own_region
from econed.actions.tasks import TaskGroup
from econed.ids import VPC

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import AttributeBooleanValueTypeDef, VpcTypeDef

    from econed.actions.call import Call

_BLOCK, _IPV6_BLOCK = "CidrBlockAssociationSet", "Ipv6CidrBlockAssociationSet"

_FILTERS = Filters(
    MappingProxyType(
        {
            "cidr": field("CidrBlock"),
            "cidr-block": field("CidrBlock"),
            "cidr-block-association.association-id": field(_BLOCK, "AssociationId"),
            "cidr-block-association.cidr-block": field(_BLOCK, "CidrBlock"),
            "cidr-block-association.state": field(_BLOCK, "CidrBlockState", "State"),
            "dhcp-options-id": field("DhcpOptionsId"),
            "dhcpOptionsId": field("DhcpOptionsId"),
            "ipv6-cidr-block-association.association-id": field(_IPV6_BLOCK, "AssociationId"),
            "ipv6-cidr-block-association.ipv6-cidr-block": field(_IPV6_BLOCK, "Ipv6CidrBlock"),
            "ipv6-cidr-block-association.ipv6-pool": no_values,
            "ipv6-cidr-block-association.state": field(_IPV6_BLOCK, "Ipv6CidrBlockState", "State"),
            "is-default": field("IsDefault"),
            "isDefault": field("IsDefault"),
            "owner-id": field("OwnerId"),
            "state": field("State"),
            "vpc-id": field("VpcId"),
            **tag_filters(),
        }
    )
)


class DescribeVpcsResult(TypedDict):
    """EC2 DescribeVpcsResult."""

    Vpcs: list[VpcTypeDef]
    NextToken: NotRequired[str]


class DescribeVpcAttributeResult(TypedDict):
    """EC2 DescribeVpcAttributeResult."""

    VpcId: str
    EnableDnsSupport: NotRequired[AttributeBooleanValueTypeDef]
    EnableDnsHostnames: NotRequired[AttributeBooleanValueTypeDef]
    EnableNetworkAddressUsageMetrics: NotRequired[AttributeBooleanValueTypeDef]


@action()
async def describe_vpcs(
    call: Call,
    *,
    vpc_ids: Sequence[str] = (),
    filters: Sequence[Filter] = (),
    max_results: int | None = None,
    next_token: str | None = None,
) -> DescribeVpcsResult:
    """List the default VPC and the networks that are VPCs and that the caller may use (EC2 DescribeVpcs)."""
    request = ListRequest.of(VPC, vpc_ids, _FILTERS.selection(filters, call.budget), max_results, next_token)
    async with TaskGroup() as tasks:
        reading_networks, region = tasks.start(read_networks(call)), tasks.start(own_region(call))
    networks = reading_networks.result
    place = Place(call.caller.id, region.result.name, {})
    listed, token = await request.page(networks.vpcs, lambda vpc: vpc_view(vpc, networks, place))
    return {"Vpcs": listed, **token}


@action()
async def describe_vpc_attribute(call: Call, *, vpc_id: str, attribute: str) -> DescribeVpcAttributeResult:
    """Show an attribute of a VPC (EC2 DescribeVpcAttribute): instances resolve names; enableDnsHostnames is kept."""
    vpc = await find_vpc(call, vpc_id)
    if attribute == "enableDnsSupport":
        return {"VpcId": vpc.id, "EnableDnsSupport": {"Value": True}}
    if attribute == "enableDnsHostnames":
        return {"VpcId": vpc.id, "EnableDnsHostnames": {"Value": vpc.has_dns_hostnames}}
    return {"VpcId": vpc.id, "EnableNetworkAddressUsageMetrics": {"Value": False}}  # the only other one of the model
