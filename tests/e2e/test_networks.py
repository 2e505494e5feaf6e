"""Networks as boto3 sees them: VPCs, subnets and what follows from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from tests.support.clients import refusal
from tests.support.econed_process import Person
from tests.support.furnished_cloud import FurnishedCloud

DEFAULT_VPC = "vpc-9999999999"


def values(**filters: str) -> list[dict[str, Any]]:
    """Return filters with a value each; `_` in a name is `-`."""
    return [{"Name": name.replace("_", "-"), "Values": [value]} for name, value in filters.items()]


def test_a_client_finds_the_default_vpc_and_the_subnet_of_its_instances(
    cloud: FurnishedCloud, ec2: Any, launch: Callable[..., list[dict[str, Any]]]
) -> None:
    """As Ansible and others do before they run an instance."""
    (vpc,) = ec2.describe_vpcs(Filters=[{"Name": "isDefault", "Values": ["true"]}])["Vpcs"]
    assert vpc["VpcId"] == DEFAULT_VPC
    (subnet,) = ec2.describe_subnets(SubnetIds=[f"subnet-{cloud.network:08d}"])["Subnets"]
    assert (subnet["VpcId"], subnet["CidrBlock"]) == (DEFAULT_VPC, "10.77.0.0/16")
    assert subnet["AvailabilityZone"] == cloud.zone
    assert subnet["CidrBlock"] in {block["CidrBlock"] for block in vpc["CidrBlockAssociationSet"]}
    waiter = ec2.get_waiter("subnet_available")
    waiter.wait(SubnetIds=[subnet["SubnetId"]])
    (instance,) = launch()
    assert (instance["VpcId"], instance["SubnetId"]) == (DEFAULT_VPC, subnet["SubnetId"])
    filters = values(vpc_id=DEFAULT_VPC, subnet_id=subnet["SubnetId"])
    pages = ec2.get_paginator("describe_instances").paginate(Filters=filters)
    found = [
        found["InstanceId"] for page in pages for launched in page["Reservations"] for found in launched["Instances"]
    ]
    assert instance["InstanceId"] in found
    (after,) = ec2.describe_subnets(SubnetIds=[subnet["SubnetId"]])["Subnets"]
    assert after["AvailableIpAddressCount"] < subnet["AvailableIpAddressCount"]


def test_the_network_of_elastic_ips_is_in_no_list(cloud: FurnishedCloud, ec2: Any) -> None:
    listed = {subnet["SubnetId"] for subnet in ec2.describe_subnets()["Subnets"]}
    assert f"subnet-{cloud.elastic_ips:08d}" not in listed
    assert f"subnet-{cloud.network:08d}" in listed


def test_what_follows_from_the_network_is_shown(ec2: Any) -> None:
    """The network has a gateway."""
    (table,) = ec2.describe_route_tables(Filters=values(vpc_id=DEFAULT_VPC, **{"association.main": "true"}))[
        "RouteTables"
    ]
    routes = {route.get("DestinationCidrBlock"): route["GatewayId"] for route in table["Routes"]}
    assert routes["0.0.0.0/0"] == "igw-9999999999"
    assert "local" in routes.values()
    (gateway,) = ec2.describe_internet_gateways(InternetGatewayIds=["igw-9999999999"])["InternetGateways"]
    assert [attachment["VpcId"] for attachment in gateway["Attachments"]] == [DEFAULT_VPC]
    assert ec2.describe_dhcp_options(DhcpOptionsIds=["dopt-9999999999"])["DhcpOptions"]
    (acl,) = ec2.describe_network_acls(Filters=values(vpc_id=DEFAULT_VPC))["NetworkAcls"]
    assert acl["IsDefault"]
    assert ec2.describe_nat_gateways(Filter=values(vpc_id=DEFAULT_VPC))["NatGateways"] == []


def test_a_user_tags_a_subnet_of_their_own(cloud: FurnishedCloud, alice: Person, ec2: Any) -> None:
    subnet_id = f"subnet-{cloud.reservation(f'{alice.name}-tagged', alice):08d}"
    ec2.create_tags(Resources=[subnet_id], Tags=[{"Key": "Name", "Value": "mine"}])
    (subnet,) = ec2.describe_subnets(Filters=values(**{"tag:Name": "mine"}))["Subnets"]
    assert (subnet["SubnetId"], subnet["OwnerId"]) == (subnet_id, f"{alice.id:012d}")
    assert subnet["AvailableIpAddressCount"] == 4


def test_creating_a_gateway_is_refused_with_what_an_administrator_can_do(ec2: Any) -> None:
    try:
        ec2.create_internet_gateway()
    except ClientError as error:
        assert refusal(error) == ("UnsupportedOperation", 400)
        assert "GATEWAY" in error.response["Error"]["Message"]
    else:
        raise AssertionError("an internet gateway was created")
