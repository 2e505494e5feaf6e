"""DescribeVpcs and DescribeVpcAttribute: the default VPC, and networks that are VPCs."""

from __future__ import annotations

from typing import Any

import pytest

from econed.ids import VPC, account_id
from tests.actions.networks.networks import network, reservation, vpc
from tests.support.cloud import Cloud

DEFAULT_VPC = "vpc-9999999999"


def vpcs(cloud: Cloud, user: str = "alice", **parameters: Any) -> list[dict[str, Any]]:
    """Return the VPCs that a user lists."""
    listed: list[dict[str, Any]] = cloud.run(user, "DescribeVpcs", **parameters)["Vpcs"]
    return listed


def blocks(view: dict[str, Any]) -> list[str]:
    """Return the IPv4 blocks of a VPC."""
    return [association["CidrBlock"] for association in view["CidrBlockAssociationSet"]]


def test_everybody_has_a_default_vpc_with_the_blocks_of_its_subnets(cloud: Cloud) -> None:
    network(cloud, "other", "", ip="192.168.0.8", size=8)
    for user in ("alice", "bob"):
        (view,) = vpcs(cloud, user)
        assert (view["VpcId"], view["IsDefault"], view["State"]) == (DEFAULT_VPC, True, "available")
        assert view["OwnerId"] == account_id(cloud.user(user).id)
        assert view["CidrBlock"] == "10.0.0.0/16"
        assert blocks(view) == ["10.0.0.0/16", "192.168.0.8/29"]


def test_the_first_block_is_that_of_the_first_subnet(cloud: Cloud) -> None:
    """Networks may have the same addresses, and be parts of others."""
    network(cloud, "low", "", ip="9.0.0.0", size=256)
    network(cloud, "same", "", ip="10.0.5.0", size=256)
    (view,) = vpcs(cloud)
    assert (view["CidrBlock"], blocks(view)) == ("10.0.0.0/16", ["10.0.0.0/16", "9.0.0.0/24"])


def test_without_subnets_the_default_vpc_has_no_block(cloud: Cloud) -> None:
    cloud.oneadmin("one.vn.chmod", 0, -1, -1, -1, 0, -1, -1, 0, -1, -1)
    (view,) = vpcs(cloud)
    assert "CidrBlock" not in view
    assert blocks(view) == []


def test_a_network_with_the_mark_is_a_vpc(cloud: Cloud) -> None:
    vpc_id = VPC.format(vpc(cloud))
    (view,) = vpcs(cloud, VpcIds=[vpc_id])
    assert (view["VpcId"], view["IsDefault"], view["CidrBlock"], view["OwnerId"]) == (
        *(vpc_id, False, "10.9.0.0/16"),
        account_id(0),
    )
    assert blocks(view) == ["10.9.0.0/16"]
    assert [other["CidrBlock"] for other in vpcs(cloud, VpcIds=[DEFAULT_VPC])] == ["10.0.0.0/16"]


def test_a_vpc_that_one_may_not_use_is_not_found(cloud: Cloud) -> None:
    vpc_id = VPC.format(vpc(cloud, shared=False))
    assert [view["VpcId"] for view in vpcs(cloud)] == [DEFAULT_VPC]
    for action, parameters in (
        ("DescribeVpcs", {"VpcIds": [vpc_id]}),
        ("DescribeVpcAttribute", {"VpcId": vpc_id, "Attribute": "enableDnsSupport"}),
    ):
        assert cloud.refusal("alice", action, **parameters).code == "InvalidVpcID.NotFound"


@pytest.mark.parametrize(
    ("name", "value", "is_selected"),
    [
        ("isDefault", "true", True),
        ("is-default", "true", True),
        ("isDefault", "false", False),
        ("cidr", "10.0.0.0/16", True),
        ("cidr-block-association.cidr-block", "10.*", True),
        ("cidr-block-association.state", "associated", True),
        ("dhcp-options-id", "dopt-9999999999", True),
        ("ipv6-cidr-block-association.ipv6-pool", "*", False),
        ("owner-id", "000000000002", True),
        ("state", "available", True),
        ("tag:Name", "*", False),
        ("vpc-id", "vpc-99*", True),
    ],
)
def test_filters_select_the_default_vpc(name: str, value: str, is_selected: bool) -> None:
    listed = vpcs(Cloud(), Filters=[{"Name": name, "Values": [value]}])
    assert [view["VpcId"] for view in listed] == ([DEFAULT_VPC] if is_selected else [])


def test_ids_of_associations_are_the_same_in_every_process(cloud: Cloud) -> None:
    first = vpcs(cloud)
    cloud.memory = cloud.new_memory()
    assert vpcs(cloud) == first


@pytest.mark.parametrize(
    ("attribute", "member", "value"),
    [
        ("enableDnsSupport", "EnableDnsSupport", True),
        ("enableDnsHostnames", "EnableDnsHostnames", False),
        ("enableNetworkAddressUsageMetrics", "EnableNetworkAddressUsageMetrics", False),
    ],
)
def test_attributes_of_a_vpc_are_shown(attribute: str, member: str, value: bool) -> None:
    shown = Cloud().run("alice", "DescribeVpcAttribute", VpcId=DEFAULT_VPC, Attribute=attribute)
    assert shown == {"VpcId": DEFAULT_VPC, member: {"Value": value}}


@pytest.mark.parametrize(
    ("action", "parameters", "code"),
    [
        ("DescribeVpcs", {"VpcIds": ["vpc-00000000"]}, "InvalidVpcID.NotFound"),
        ("DescribeVpcs", {"VpcIds": ["subnet-00000000"]}, "InvalidVpcID.Malformed"),
        ("DescribeVpcs", {"Filters": [{"Name": "subnet-id", "Values": ["x"]}]}, "InvalidParameterValue"),
        ("DescribeVpcAttribute", {"VpcId": DEFAULT_VPC, "Attribute": "color"}, "InvalidParameterValue"),
        ("DescribeVpcAttribute", {"VpcId": DEFAULT_VPC}, "MissingParameter"),
        ("DescribeVpcAttribute", {"VpcId": "vpc-0a1b2c3d", "Attribute": "enableDnsSupport"}, "InvalidVpcID.NotFound"),
    ],
)
def test_requests_that_cannot_be_answered_are_refused(action: str, parameters: dict[str, Any], code: str) -> None:
    assert Cloud().refusal("alice", action, **parameters).code == code


def test_a_reservation_does_not_add_a_block_to_the_default_vpc_of_its_vpc(cloud: Cloud) -> None:
    reservation(cloud, "alice", vpc(cloud), "subnet", "10.9.1.0")
    (view,) = vpcs(cloud, Filters=[{"Name": "is-default", "Values": ["true"]}])
    assert blocks(view) == ["10.0.0.0/16"]
