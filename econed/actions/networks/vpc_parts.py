"""The internet gateways, DHCP options and network ACLs of VPCs, one of each, with the number of the VPC.

They follow from the attributes of the networks: an internet gateway stands for their routers (GATEWAY), DHCP options
have their name servers (DNS), and the network ACL allows everything, since OpenNebula has security groups only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NotRequired, TypedDict

from econed.actions.action import action
from econed.actions.filters import Filters, field, no_values, tag_filters
from econed.actions.inputs import Filter
from econed.actions.networks.listing import ListRequest
from econed.actions.networks.lookup import Networks, Vpc, read_networks
from econed.actions.networks.route_tables import routed_networks
from econed.actions.networks.view import owner_of
from econed.ids import DHCP_OPTIONS, INTERNET_GATEWAY, NETWORK_ACL, NETWORK_ACL_ASSOCIATION

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import (
        DhcpOptionsTypeDef,
        InternetGatewayTypeDef,
        NetworkAclEntryTypeDef,
        NetworkAclTypeDef,
    )

    from econed.actions.call import Call

_ALL_PROTOCOLS = "-1"
_ALLOWING, _ALLOWING_IPV6 = 100, 101
_LAST, _LAST_IPV6 = 32767, 32768
"""Rule numbers of the default network ACL on Amazon."""

_FILTERS_OF_GATEWAYS = Filters(
    MappingProxyType(
        {
            "attachment.state": field("Attachments", "State"),
            "attachment.vpc-id": field("Attachments", "VpcId"),
            "internet-gateway-id": field("InternetGatewayId"),
            "owner-id": field("OwnerId"),
            **tag_filters(),
        }
    )
)
_FILTERS_OF_OPTIONS = Filters(
    MappingProxyType(
        {
            "dhcp-options-id": field("DhcpOptionsId"),
            "key": field("DhcpConfigurations", "Key"),
            "owner-id": field("OwnerId"),
            "value": field("DhcpConfigurations", "Values", "Value"),
            **tag_filters(),
        }
    )
)
_FILTERS_OF_ACLS = Filters(
    MappingProxyType(
        {
            "association.association-id": field("Associations", "NetworkAclAssociationId"),
            "association.network-acl-id": field("Associations", "NetworkAclId"),
            "association.subnet-id": field("Associations", "SubnetId"),
            "default": field("IsDefault"),
            "entry.cidr": field("Entries", "CidrBlock"),
            "entry.egress": field("Entries", "Egress"),
            "entry.icmp.code": no_values,
            "entry.icmp.type": no_values,
            "entry.ipv6-cidr": field("Entries", "Ipv6CidrBlock"),
            "entry.port-range.from": no_values,
            "entry.port-range.to": no_values,
            "entry.protocol": field("Entries", "Protocol"),
            "entry.rule-action": field("Entries", "RuleAction"),
            "entry.rule-number": field("Entries", "RuleNumber"),
            "network-acl-id": field("NetworkAclId"),
            "owner-id": field("OwnerId"),
            "vpc-id": field("VpcId"),
            **tag_filters(),
        }
    )
)


class DescribeInternetGatewaysResult(TypedDict):
    """EC2 DescribeInternetGatewaysResult."""

    InternetGateways: list[InternetGatewayTypeDef]
    NextToken: NotRequired[str]


class DescribeDhcpOptionsResult(TypedDict):
    """EC2 DescribeDhcpOptionsResult."""

    DhcpOptions: list[DhcpOptionsTypeDef]
    NextToken: NotRequired[str]


class DescribeNetworkAclsResult(TypedDict):
    """EC2 DescribeNetworkAclsResult."""

    NetworkAcls: list[NetworkAclTypeDef]
    NextToken: NotRequired[str]


@action()
async def describe_internet_gateways(
    call: Call,
    *,
    internet_gateway_ids: Sequence[str] = (),
    filters: Sequence[Filter] = (),
    max_results: int | None = None,
    next_token: str | None = None,
) -> DescribeInternetGatewaysResult:
    """List a gateway for each VPC that has networks with a router (EC2 DescribeInternetGateways)."""
    selection = _FILTERS_OF_GATEWAYS.selection(filters, call.budget)
    request = ListRequest.of(INTERNET_GATEWAY, internet_gateway_ids, selection, max_results, next_token)
    networks = await read_networks(call)
    routed = {number: vpc for number, vpc in networks.vpcs.items() if routed_networks(vpc, networks)}
    listed, token = await request.page(routed, lambda vpc: _gateway(vpc, call.caller.id))
    return {"InternetGateways": listed, **token}


@action()
async def describe_dhcp_options(
    call: Call,
    *,
    dhcp_options_ids: Sequence[str] = (),
    filters: Sequence[Filter] = (),
    max_results: int | None = None,
    next_token: str | None = None,
) -> DescribeDhcpOptionsResult:
    """List the name servers of the networks of each VPC (EC2 DescribeDhcpOptions)."""
    selection = _FILTERS_OF_OPTIONS.selection(filters, call.budget)
    request = ListRequest.of(DHCP_OPTIONS, dhcp_options_ids, selection, max_results, next_token)
    networks = await read_networks(call)
    listed, token = await request.page(networks.vpcs, lambda vpc: _dhcp_options(vpc, networks, call.caller.id))
    return {"DhcpOptions": listed, **token}


@action()
async def describe_network_acls(
    call: Call,
    *,
    network_acl_ids: Sequence[str] = (),
    filters: Sequence[Filter] = (),
    max_results: int | None = None,
    next_token: str | None = None,
) -> DescribeNetworkAclsResult:
    """List the network ACL of each VPC, which allows everything (EC2 DescribeNetworkAcls)."""
    selection = _FILTERS_OF_ACLS.selection(filters, call.budget)
    request = ListRequest.of(NETWORK_ACL, network_acl_ids, selection, max_results, next_token)
    networks = await read_networks(call)
    listed, token = await request.page(networks.vpcs, lambda vpc: _network_acl(vpc, networks, call.caller.id))
    return {"NetworkAcls": listed, **token}


def _gateway(vpc: Vpc, caller_id: int) -> InternetGatewayTypeDef:
    attachment: Any = {"State": "available", "VpcId": vpc.id}  # Amazon's state, which is not in the model
    return {
        "InternetGatewayId": INTERNET_GATEWAY.format(vpc.number),
        "OwnerId": owner_of(vpc, caller_id),
        "Attachments": [attachment],
        "Tags": [],
    }


def _dhcp_options(vpc: Vpc, networks: Networks, caller_id: int) -> DhcpOptionsTypeDef:
    servers = dict.fromkeys(server for network in networks.networks_of(vpc) for server in network.dns_servers)
    view: DhcpOptionsTypeDef = {
        "DhcpOptionsId": DHCP_OPTIONS.format(vpc.number),
        "OwnerId": owner_of(vpc, caller_id),
        "DhcpConfigurations": [],
        "Tags": [],
    }
    if servers:
        values: Any = [{"Value": str(server)} for server in servers]
        view["DhcpConfigurations"] = [{"Key": "domain-name-servers", "Values": values}]
    return view


def _network_acl(vpc: Vpc, networks: Networks, caller_id: int) -> NetworkAclTypeDef:
    acl_id = NETWORK_ACL.format(vpc.number)
    return {
        "NetworkAclId": acl_id,
        "VpcId": vpc.id,
        "OwnerId": owner_of(vpc, caller_id),
        "IsDefault": True,
        "Entries": list(_ENTRIES),
        "Associations": [
            {
                "NetworkAclAssociationId": NETWORK_ACL_ASSOCIATION.format(subnet.network.id),
                "NetworkAclId": acl_id,
                "SubnetId": subnet.id,
            }
            for subnet in networks.subnets_of(vpc)
        ],
        "Tags": [],
    }


def _entries() -> Iterator[NetworkAclEntryTypeDef]:
    """Yield the entries of Amazon's default network ACL with IPv6: all is allowed, before the last rules."""
    for is_egress in (True, False):
        both: NetworkAclEntryTypeDef = {"Egress": is_egress, "Protocol": _ALL_PROTOCOLS}
        yield {**both, "RuleAction": "allow", "RuleNumber": _ALLOWING, "CidrBlock": "0.0.0.0/0"}
        yield {**both, "RuleAction": "allow", "RuleNumber": _ALLOWING_IPV6, "Ipv6CidrBlock": "::/0"}
        yield {**both, "RuleAction": "deny", "RuleNumber": _LAST, "CidrBlock": "0.0.0.0/0"}
        yield {**both, "RuleAction": "deny", "RuleNumber": _LAST_IPV6, "Ipv6CidrBlock": "::/0"}


_ENTRIES: Final = tuple(_entries())
