"""Networks as boto3 sees them: VPCs, subnets and what follows from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.clients import refusal
from tests.support.econed_process import Person
from tests.support.furnished_cloud import FurnishedCloud
from tests.support.raw_oned import Refused

DEFAULT_VPC = "vpc-9999999999"
UNAUTHORIZED, FROM_A_RESERVATION = 512, 2048


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


def test_a_vpc_belongs_to_its_user_alone_in_opennebula_too(cloud: FurnishedCloud, ec2: Any) -> None:
    """Another user of the group neither sees it nor reserves from it, nor runs a machine in it, whatever they call."""
    bob = cloud.bob
    vpc_id = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    ec2.get_waiter("vpc_available").wait(VpcIds=[vpc_id])
    subnet_id = ec2.create_subnet(VpcId=vpc_id, CidrBlock="10.9.1.0/24")["Subnet"]["SubnetId"]
    ec2.get_waiter("subnet_available").wait(SubnetIds=[subnet_id])
    for network in (int(resource_id.partition("-")[2]) for resource_id in (vpc_id, subnet_id)):
        listed = bob.oned.document("one.vnpool.info", -2, -1, -1).findall("VNET/ID")
        assert str(network) not in [element.text for element in listed]
        machine = f'CPU="0.1"\nMEMORY="64"\nNIC=[NETWORK_ID="{network}"]'
        for method, *arguments in (
            ("one.vn.info", network, False),
            ("one.vn.reserve", network, 'NAME="stolen"\nSIZE="4"'),
            ("one.vm.allocate", machine, True),
        ):
            with pytest.raises(Refused) as refused:
                bob.oned(method, *arguments)
            assert refused.value.code in (UNAUTHORIZED, FROM_A_RESERVATION), method
    ec2.delete_subnet(SubnetId=subnet_id)
    ec2.delete_vpc(VpcId=vpc_id)
    with pytest.raises(ClientError) as not_found:
        ec2.describe_vpcs(VpcIds=[vpc_id])
    assert refusal(not_found.value)[0] == "InvalidVpcID.NotFound"


def test_a_vpc_that_others_could_use_is_not_created(cloud: FurnishedCloud, ec2: Any) -> None:
    rule = cloud.admin.make("one.acl.addrule", f"{0x200000000 | cloud.group:x}", "4400000000", "1")
    try:
        with pytest.raises(ClientError, match=f"oneacl delete {rule}"):
            ec2.create_vpc(CidrBlock="10.9.0.0/16")
    finally:
        cloud.admin("one.acl.delrule", rule)
