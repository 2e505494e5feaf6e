"""Empty lists of parts of networks."""

from __future__ import annotations

from typing import Final

from econed.actions.empty_lists.row import EmptyList, absent

_PREFIX_LIST = absent("pl", "InvalidPrefixListID.NotFound", "InvalidPrefixListId.Malformed", "prefix list ID")

OF_NETWORKS: Final = (
    EmptyList(
        "DescribeCarrierGateways",
        "CarrierGateways",
        "carrier gateways",
        ("carrier-gateway-id", "owner-id", "state", "vpc-id"),
        ids="CarrierGatewayIds",
        kind=absent(
            *("cagw", "InvalidCarrierGatewayID.NotFound", "InvalidCarrierGatewayID.Malformed", "carrier gateway ID")
        ),
    ),
    EmptyList(
        "DescribeEgressOnlyInternetGateways",
        "EgressOnlyInternetGateways",
        "egress-only internet gateways",
        ids="EgressOnlyInternetGatewayIds",
        kind=absent(
            "eigw",
            "InvalidEgressOnlyInternetGatewayId.NotFound",
            "InvalidEgressOnlyInternetGatewayId.Malformed",
            "egress only internet gateway ID",
        ),
        max_results=(5, 255),
    ),
    EmptyList(
        "DescribeManagedPrefixLists",
        "PrefixLists",
        "managed prefix lists",
        ("owner-id", "prefix-list-id", "prefix-list-name"),
        ids="PrefixListIds",
        kind=_PREFIX_LIST,
        max_results=(1, 100),
    ),
    EmptyList(
        "DescribeNatGateways",
        "NatGateways",
        "NAT gateways",
        ("nat-gateway-id", "state", "subnet-id", "vpc-id"),
        ids="NatGatewayIds",
        kind=absent("nat", "NatGatewayNotFound", "NatGatewayMalformed", "NAT gateway"),
        filters_in="Filter",
    ),
    EmptyList(
        "DescribePrefixLists",
        "PrefixLists",
        "prefix lists of gateway endpoints",
        ("prefix-list-id", "prefix-list-name"),
        have_tags=False,
        ids="PrefixListIds",
        kind=_PREFIX_LIST,
    ),
    EmptyList(
        "DescribeVpcEndpoints",
        "VpcEndpoints",
        "VPC endpoints",
        (
            *("ip-address-type", "service-name", "service-region", "vpc-id"),
            *("vpc-endpoint-id", "vpc-endpoint-state", "vpc-endpoint-type"),
        ),
        ids="VpcEndpointIds",
        kind=absent("vpce", "InvalidVpcEndpointId.NotFound", "InvalidVpcEndpointId.Malformed", "Vpc Endpoint Id"),
    ),
    EmptyList(
        "DescribeVpcPeeringConnections",
        "VpcPeeringConnections",
        "VPC peering connections",
        (
            *("accepter-vpc-info.cidr-block", "accepter-vpc-info.owner-id", "accepter-vpc-info.vpc-id"),
            *("expiration-time", "status-code", "status-message", "vpc-peering-connection-id"),
            *("requester-vpc-info.cidr-block", "requester-vpc-info.owner-id", "requester-vpc-info.vpc-id"),
        ),
        ids="VpcPeeringConnectionIds",
        kind=absent(
            "pcx",
            "InvalidVpcPeeringConnectionID.NotFound",
            "InvalidVpcPeeringConnectionId.Malformed",
            "vpcPeeringConnection ID",
        ),
    ),
)
