"""Route tables, internet gateways, DHCP options and network ACLs follow from the networks of a VPC."""

from __future__ import annotations

from typing import Any

import pytest

from econed.ids import SUBNET, VPC
from tests.actions.networks.networks import PRIVATE_SUBNET, network, reservation, vpc
from tests.support.cloud import Cloud

DEFAULT_VPC = "vpc-9999999999"

LISTS = (
    ("DescribeRouteTables", "RouteTables", "RouteTableIds", "RouteTableId", "rtb", "InvalidRouteTableI"),
    (
        *("DescribeInternetGateways", "InternetGateways", "InternetGatewayIds", "InternetGatewayId", "igw"),
        "InvalidInternetGatewayI",
    ),
    ("DescribeDhcpOptions", "DhcpOptions", "DhcpOptionsIds", "DhcpOptionsId", "dopt", "InvalidDhcpOption"),
    ("DescribeNetworkAcls", "NetworkAcls", "NetworkAclIds", "NetworkAclId", "acl", "InvalidNetworkAclI"),
)
"""By action: the list in the result, the parameter with ids, the member with the id, its prefix, the error codes."""


def listed(cloud: Cloud, action: str, **parameters: Any) -> list[dict[str, Any]]:
    """Return the only list of a result, for alice."""
    (items,) = cloud.run("alice", action, **parameters).values()
    assert isinstance(items, list)
    return items


def routes(table: dict[str, Any]) -> list[tuple[str, str]]:
    """Return destination and gateway of the routes of a table."""
    return [
        (route.get("DestinationCidrBlock") or route["DestinationIpv6CidrBlock"], route["GatewayId"])
        for route in table["Routes"]
    ]


def by_id(tables: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return route tables by their ids."""
    return {table["RouteTableId"]: table for table in tables}


@pytest.mark.parametrize(("action", "member", "ids", "id_member", "prefix", "code"), LISTS)
def test_each_vpc_has_one_part_of_each_kind_with_its_number(
    cloud: Cloud, action: str, member: str, ids: str, id_member: str, prefix: str, code: str
) -> None:
    vpc_id = vpc(cloud)
    expected = [f"{prefix}-{vpc_id:08d}", f"{prefix}-9999999999"]
    assert [item[id_member] for item in listed(cloud, action)] == expected
    assert [item[id_member] for item in listed(cloud, action, **{ids: expected[1:]})] == expected[1:]
    for text, suffix in ((f"{prefix}-00000099", "NotFound"), ("vpc-00000099", "Malformed")):
        refused = cloud.refusal("alice", action, dry_run=False, **{ids: [text]}).code
        assert refused.startswith(code)
        assert refused.endswith(f".{suffix}")
    refused = cloud.refusal("alice", action, Filters=[{"Name": "color", "Values": ["x"]}]).code
    assert refused == "InvalidParameterValue"


@pytest.mark.parametrize(("action", "member", "ids", "id_member", "prefix", "code"), LISTS)
def test_the_parts_of_a_vpc_that_one_may_not_use_are_not_found(
    cloud: Cloud, action: str, member: str, ids: str, id_member: str, prefix: str, code: str
) -> None:
    hidden = f"{prefix}-{vpc(cloud, shared=False):08d}"
    assert [item[id_member] for item in listed(cloud, action)] == [f"{prefix}-9999999999"]
    assert cloud.refusal("alice", action, dry_run=False, **{ids: [hidden]}).code.endswith(".NotFound")


def test_the_main_table_has_the_local_route_and_the_gateway_of_the_network(cloud: Cloud) -> None:
    (table,) = listed(cloud, "DescribeRouteTables")
    assert routes(table) == [("10.0.0.0/16", "local"), ("0.0.0.0/0", "igw-9999999999")]
    assert table["VpcId"] == DEFAULT_VPC
    assert table["Associations"] == [
        {
            "Main": True,
            "RouteTableAssociationId": "rtbassoc-9999999999",
            "RouteTableId": "rtb-9999999999",
            "AssociationState": {"State": "associated"},
        }
    ]


def test_no_local_route_leads_to_a_network_without_a_router(cloud: Cloud) -> None:
    """It has a table of its own, by whose subnet clients find it; networks with routers share the main table."""
    routed = network(cloud, "routed", 'GATEWAY="10.3.0.1"', ip="10.3.0.0", size=256)
    isolated = network(cloud, "isolated", 'GATEWAY="none"', ip="10.5.0.0", size=256)
    tables = by_id(listed(cloud, "DescribeRouteTables"))
    assert tables.keys() == {"rtb-9999999999", f"rtb-{isolated:08d}"}
    main = routes(tables["rtb-9999999999"])
    assert main == [("10.0.0.0/16", "local"), ("10.3.0.0/24", "local"), ("0.0.0.0/0", "igw-9999999999")]
    assert routes(tables[f"rtb-{isolated:08d}"]) == [("10.5.0.0/24", "local")]
    for subnet_id, found in ((isolated, [f"rtb-{isolated:08d}"]), (routed, [])):
        given = [{"Name": "association.subnet-id", "Values": [SUBNET.format(subnet_id)]}]
        assert [table["RouteTableId"] for table in listed(cloud, "DescribeRouteTables", Filters=given)] == found


def test_the_subnets_of_a_vpc_reach_each_other_without_a_gateway(cloud: Cloud) -> None:
    """They are on one network."""
    vpc_id = network(cloud, "vpc", 'EC2_VPC="YES"', ip="10.9.0.0", size=65536)
    reservation(cloud, "alice", vpc_id, "subnet", "10.9.1.0")
    given = [{"Name": "vpc-id", "Values": [VPC.format(vpc_id)]}]
    (table,) = listed(cloud, "DescribeRouteTables", Filters=given)
    assert routes(table) == [("10.9.0.0/16", "local")]
    gateways = listed(cloud, "DescribeInternetGateways")
    assert [gateway["InternetGatewayId"] for gateway in gateways] == ["igw-9999999999"]


def test_an_internet_gateway_is_attached_to_its_vpc(cloud: Cloud) -> None:
    given = [{"Name": "attachment.vpc-id", "Values": [DEFAULT_VPC]}]
    (gateway,) = listed(cloud, "DescribeInternetGateways", Filters=given)
    assert gateway["Attachments"] == [{"State": "available", "VpcId": DEFAULT_VPC}]


def test_dhcp_options_have_the_name_servers_of_all_networks_of_a_vpc(cloud: Cloud) -> None:
    """Texts that are no addresses are left out: owners may write any."""
    network(cloud, "other", 'DNS="192.0.2.1  2001:db8::1,10.0.0.2 <any/>text"')
    (options,) = listed(cloud, "DescribeDhcpOptions")
    assert options["DhcpConfigurations"] == [
        {
            "Key": "domain-name-servers",
            "Values": [{"Value": "10.0.0.2"}, {"Value": "192.0.2.1"}, {"Value": "2001:db8::1"}],
        }
    ]
    given = [{"Name": "value", "Values": ["192.0.2.*"]}]
    assert len(listed(cloud, "DescribeDhcpOptions", Filters=given)) == 1


def test_network_acls_allow_everything_to_all_subnets_of_their_vpc(cloud: Cloud) -> None:
    vpc_id = vpc(cloud)
    subnet_id = reservation(cloud, "alice", vpc_id, "subnet", "10.9.1.0")
    own, default = listed(cloud, "DescribeNetworkAcls")
    assert (own["VpcId"], default["VpcId"]) == (VPC.format(vpc_id), DEFAULT_VPC)
    assert [a["SubnetId"] for a in own["Associations"]] == [SUBNET.format(subnet_id)]
    assert [a["SubnetId"] for a in default["Associations"]] == [PRIVATE_SUBNET]
    for egress in (True, False):
        rules = [
            (entry["RuleNumber"], entry["RuleAction"], entry.get("CidrBlock") or entry["Ipv6CidrBlock"])
            for entry in default["Entries"]
            if entry["Egress"] is egress
        ]
        assert rules == [
            *((100, "allow", "0.0.0.0/0"), (101, "allow", "::/0")),
            *((32767, "deny", "0.0.0.0/0"), (32768, "deny", "::/0")),
        ]
