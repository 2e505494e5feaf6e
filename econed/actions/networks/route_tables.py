"""The route tables of VPCs (EC2 API Reference, DescribeRouteTables), which follow from their networks.

A network with a GATEWAY has a router. The subnets with routers are in the main table of their VPC. A subnet of the
default VPC without one reaches no other network, so it has a table of its own, with the network's number.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network
from types import MappingProxyType
from typing import TYPE_CHECKING, NotRequired, TypedDict

from econed.actions.action import action
from econed.actions.filters import Filters, field, no_values, tag_filters
from econed.actions.inputs import Filter
from econed.actions.networks.listing import ListRequest
from econed.actions.networks.lookup import Networks, Subnet, Vpc, read_networks
from econed.actions.networks.view import collapsed_blocks, distinct_ipv6_blocks, ipv4_blocks, ipv6_blocks, owner_of
from econed.ids import INTERNET_GATEWAY, ROUTE_TABLE, ROUTE_TABLE_ASSOCIATION

if TYPE_CHECKING:
    from types_boto3_ec2.literals import RouteOriginType
    from types_boto3_ec2.type_defs import RouteTableAssociationTypeDef, RouteTableTypeDef, RouteTypeDef

    from econed.actions.call import Call
    from econed.opennebula.documents import VirtualNetwork

_MAX_PAGE = 100
"""Route tables on a page (EC2, DescribeRouteTables)."""

_EVERYWHERE, _EVERYWHERE_IPV6 = "0.0.0.0/0", "::/0"

_FILTERS = Filters(
    MappingProxyType(
        {
            "association.gateway-id": no_values,
            "association.main": field("Associations", "Main"),
            "association.route-table-association-id": field("Associations", "RouteTableAssociationId"),
            "association.route-table-id": field("Associations", "RouteTableId"),
            "association.subnet-id": field("Associations", "SubnetId"),
            "owner-id": field("OwnerId"),
            "route-table-id": field("RouteTableId"),
            "route.destination-cidr-block": field("Routes", "DestinationCidrBlock"),
            "route.destination-ipv6-cidr-block": field("Routes", "DestinationIpv6CidrBlock"),
            "route.destination-prefix-list-id": no_values,
            "route.egress-only-internet-gateway-id": no_values,
            "route.gateway-id": field("Routes", "GatewayId"),
            "route.instance-id": no_values,
            "route.nat-gateway-id": no_values,
            "route.origin": field("Routes", "Origin"),
            "route.state": field("Routes", "State"),
            "route.transit-gateway-id": no_values,
            "route.vpc-peering-connection-id": no_values,
            "vpc-id": field("VpcId"),
            **tag_filters(),
        }
    )
)


class DescribeRouteTablesResult(TypedDict):
    """EC2 DescribeRouteTablesResult."""

    RouteTables: list[RouteTableTypeDef]
    NextToken: NotRequired[str]


@action()
async def describe_route_tables(
    call: Call,
    *,
    route_table_ids: Sequence[str] = (),
    filters: Sequence[Filter] = (),
    max_results: int | None = None,
    next_token: str | None = None,
) -> DescribeRouteTablesResult:
    """List the main table of each VPC, and those of subnets without a gateway (EC2 DescribeRouteTables)."""
    selection = _FILTERS.selection(filters, call.budget)
    request = ListRequest.of(ROUTE_TABLE, route_table_ids, selection, max_results, next_token, maximum=_MAX_PAGE)
    networks, caller_id = await read_networks(call), call.caller.id
    items: dict[int, Vpc | Subnet] = {**networks.vpcs}
    items |= {subnet.network.id: subnet for subnet in networks.subnets if is_isolated(subnet)}

    def view(item: Vpc | Subnet) -> RouteTableTypeDef:
        return _main_table(item, networks, caller_id) if isinstance(item, Vpc) else _own_table(item, caller_id)

    listed, token = await request.page(items, view)
    return {"RouteTables": listed, **token}


def has_router(network: VirtualNetwork) -> bool:
    """Whether a network has a router."""
    return network.gateway is not None or network.ipv6_gateway is not None


def is_isolated(subnet: Subnet) -> bool:
    """Whether a subnet of the default VPC has no router. Those of other VPCs are on one network."""
    return subnet.vpc.is_default and not has_router(subnet.network)


def routed_networks(vpc: Vpc, networks: Networks) -> list[VirtualNetwork]:
    """Return the networks of a VPC that have a router."""
    return [network for network in networks.networks_of(vpc) if has_router(network)]


def _main_table(vpc: Vpc, networks: Networks, caller_id: int) -> RouteTableTypeDef:
    if vpc.is_default:
        subnets = [subnet for subnet in networks.subnets_of(vpc) if not is_isolated(subnet)]
        routes = _local_routes(collapsed_blocks(subnets), distinct_ipv6_blocks(subnets))
    else:
        routes = _local_routes(ipv4_blocks(vpc, networks), ipv6_blocks(vpc, networks))
    routed, gateway = routed_networks(vpc, networks), INTERNET_GATEWAY.format(vpc.number)
    if any(network.gateway is not None for network in routed):
        routes.append(_route({"DestinationCidrBlock": _EVERYWHERE}, gateway, "CreateRoute"))
    if any(network.ipv6_gateway is not None for network in routed):
        routes.append(_route({"DestinationIpv6CidrBlock": _EVERYWHERE_IPV6}, gateway, "CreateRoute"))
    return _table(vpc, vpc.number, routes, {"Main": True}, caller_id)


def _own_table(subnet: Subnet, caller_id: int) -> RouteTableTypeDef:
    routes = _local_routes(() if subnet.cidr is None else (subnet.cidr,), subnet.ipv6_cidrs)
    return _table(subnet.vpc, subnet.network.id, routes, {"Main": False, "SubnetId": subnet.id}, caller_id)


def _table(
    vpc: Vpc, number: int, routes: list[RouteTypeDef], association: RouteTableAssociationTypeDef, caller_id: int
) -> RouteTableTypeDef:
    table_id = ROUTE_TABLE.format(number)
    return {
        "RouteTableId": table_id,
        "VpcId": vpc.id,
        "OwnerId": owner_of(vpc, caller_id),
        "Routes": routes,
        "Associations": [
            {
                **association,
                "RouteTableAssociationId": ROUTE_TABLE_ASSOCIATION.format(number),
                "RouteTableId": table_id,
                "AssociationState": {"State": "associated"},
            }
        ],
        "PropagatingVgws": [],
        "Tags": [],
    }


def _local_routes(blocks: Iterable[IPv4Network], ipv6: Iterable[IPv6Network]) -> list[RouteTypeDef]:
    destinations: list[RouteTypeDef] = [{"DestinationCidrBlock": str(block)} for block in blocks]
    destinations += [{"DestinationIpv6CidrBlock": str(block)} for block in ipv6]
    return [_route(destination, "local", "CreateRouteTable") for destination in destinations]


def _route(destination: RouteTypeDef, gateway: str, origin: RouteOriginType) -> RouteTypeDef:
    return {**destination, "GatewayId": gateway, "Origin": origin, "State": "active"}
