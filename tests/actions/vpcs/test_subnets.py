"""CreateSubnet, DeleteSubnet and ModifySubnetAttribute."""

from __future__ import annotations

from typing import Any

import pytest

from econed.actions.vpcs import subnets as subnet_actions
from tests.actions.vpcs.vpcs import create_subnet, create_vpc, number, tags
from tests.support.cloud import Cloud

RESERVED = ["10.9.1.0", "10.9.1.1", "10.9.1.2", "10.9.1.3", "10.9.1.255"]
RESERVATION = 'NAME="own"\nSIZE="16"'


def held(cloud: Cloud, subnet_id: str) -> list[str]:
    """Return the addresses of a subnet that are held."""
    network = cloud.result(cloud.call_as("alice").session.network(number(subnet_id)))
    return [str(lease.ip) for lease in network.leases if lease.is_held]


def test_a_subnet_has_a_block_of_its_vpc_without_the_addresses_that_amazon_reserves(cloud: Cloud) -> None:
    """Its tags are its own, not those of the VPC, which oned copies."""
    vpc_id = create_vpc(cloud, TagSpecifications=tags("vpc", Name="vpc", env="x"))
    specified = tags("subnet", Name="subnet")
    created = cloud.run("alice", "CreateSubnet", VpcId=vpc_id, CidrBlock="10.9.1.7/24", TagSpecifications=specified)
    subnet = created["Subnet"]
    assert (subnet["CidrBlock"], subnet["VpcId"], subnet["State"]) == ("10.9.1.0/24", vpc_id, "available")
    assert subnet["AvailableIpAddressCount"] == 251
    assert subnet["Tags"] == [{"Key": "Name", "Value": "subnet"}]
    assert cloud.run("alice", "DescribeSubnets", SubnetIds=[subnet["SubnetId"]])["Subnets"] == [subnet]
    assert held(cloud, subnet["SubnetId"]) == RESERVED
    tables = cloud.run("alice", "DescribeRouteTables", Filters=[{"Name": "vpc-id", "Values": [vpc_id]}])["RouteTables"]
    assert [route["DestinationCidrBlock"] for route in tables[0]["Routes"]] == ["10.9.0.0/16"]


def test_blocks_that_overlap_are_refused_and_others_are_not(cloud: Cloud) -> None:
    vpc_id = create_vpc(cloud)
    create_subnet(cloud, vpc_id, "10.9.1.0/24")
    for cidr in ("10.9.1.0/24", "10.9.1.128/25", "10.9.0.0/16", "10.9.0.0/23"):
        error = cloud.refusal("alice", "CreateSubnet", VpcId=vpc_id, CidrBlock=cidr)
        assert error.code == "InvalidSubnet.Conflict", cidr
    create_subnet(cloud, vpc_id, "10.9.0.0/24")
    create_subnet(cloud, vpc_id, "10.9.255.240/28")


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"CidrBlock": "10.8.0.0/24"}, "InvalidSubnet.Range"),
        ({"CidrBlock": "10.9.0.0/29"}, "InvalidSubnet.Range"),
        ({"CidrBlock": "10.9.0.0"}, "InvalidParameterValue"),
        ({}, "MissingParameter"),
        ({"CidrBlock": "10.9.0.0/24", "AvailabilityZone": "elsewhere"}, "InvalidParameterValue"),
        ({"CidrBlock": "10.9.0.0/24", "AvailabilityZoneId": "cluster-7"}, "InvalidParameterValue"),
    ],
)
def test_a_subnet_that_cannot_be_is_refused_before_anything_is_made(
    cloud: Cloud, parameters: dict[str, Any], code: str
) -> None:
    vpc_id = create_vpc(cloud)
    changes = len(cloud.changes)
    assert cloud.refusal("alice", "CreateSubnet", VpcId=vpc_id, **parameters).code == code
    assert len(cloud.changes) == changes


def test_subnets_are_made_in_ones_own_vpcs_only(cloud: Cloud) -> None:
    vpc_id = create_vpc(cloud)
    given: dict[str, Any] = {"CidrBlock": "10.9.0.0/24"}
    assert cloud.refusal("bob", "CreateSubnet", VpcId=vpc_id, **given).code == "InvalidVpcID.NotFound"
    assert cloud.refusal("alice", "CreateSubnet", VpcId="vpc-9999999999", **given).code == "UnsupportedOperation"
    cloud.as_user("alice", "one.vn.chmod", number(vpc_id), -1, -1, -1, -1, -1, -1, 1, -1, -1)
    assert cloud.refusal("bob", "CreateSubnet", VpcId=vpc_id, **given).code == "UnauthorizedOperation"
    cloud.run(
        "alice", "CreateSubnet", VpcId=vpc_id, AvailabilityZone="default", AvailabilityZoneId="cluster-0", **given
    )


def test_a_subnet_is_deleted_with_its_reserved_addresses(cloud: Cloud) -> None:
    """Its block is free at once."""
    vpc_id = create_vpc(cloud)
    subnet_id = create_subnet(cloud, vpc_id)
    cloud.run("alice", "DeleteSubnet", SubnetId=subnet_id)
    assert cloud.refusal("alice", "DeleteSubnet", SubnetId=subnet_id).code == "InvalidSubnetID.NotFound"
    cloud.run("alice", "DeleteSubnet", SubnetId=create_subnet(cloud, vpc_id))
    cloud.run("alice", "DeleteVpc", VpcId=vpc_id)


def test_a_subnet_with_an_instance_is_not_deleted_and_stays_as_it_is(cloud: Cloud) -> None:
    subnet_id = create_subnet(cloud, create_vpc(cloud))
    machine_id = int(
        cloud.as_user("alice", "one.vm.allocate", f'CPU="1"\nMEMORY="64"\nNIC=[NETWORK_ID="{number(subnet_id)}"]')
    )
    changes = len(cloud.changes)
    assert cloud.refusal("alice", "DeleteSubnet", SubnetId=subnet_id).code == "DependencyViolation"
    assert len(cloud.changes) == changes
    assert held(cloud, subnet_id) == RESERVED
    cloud.oneadmin("one.vm.action", "terminate-hard", machine_id)
    cloud.wait(5)
    cloud.run("alice", "DeleteSubnet", SubnetId=subnet_id)


def test_subnets_of_others_and_of_the_default_vpc_are_not_deleted(cloud: Cloud) -> None:
    subnet_id = create_subnet(cloud, create_vpc(cloud))
    assert cloud.refusal("bob", "DeleteSubnet", SubnetId=subnet_id).code == "InvalidSubnetID.NotFound"
    assert cloud.refusal("alice", "DeleteSubnet", SubnetId="subnet-00000000").code == "UnauthorizedOperation"
    own = f"subnet-{cloud.as_user('alice', 'one.vn.reserve', 0, RESERVATION):08d}"
    assert cloud.refusal("alice", "DeleteSubnet", SubnetId=own).code == "UnsupportedOperation"
    assert cloud.refusal("alice", "DeleteSubnet", dry_run=True, SubnetId=subnet_id).code == "DryRunOperation"
    assert held(cloud, subnet_id) == RESERVED


def test_a_quota_of_addresses_limits_subnets(cloud: Cloud) -> None:
    vpc_id = create_vpc(cloud)
    quota = f'NETWORK=[ID="{number(vpc_id)}",LEASES="256"]'
    cloud.oneadmin("one.user.quota", cloud.user("alice").id, quota)
    create_subnet(cloud, vpc_id)
    error = cloud.refusal("alice", "CreateSubnet", VpcId=vpc_id, CidrBlock="10.9.2.0/24")
    assert error.code == "ResourceLimitExceeded"


def test_a_vpc_has_a_limited_number_of_subnets(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subnet_actions, "MAX_SUBNETS", 1)
    vpc_id = create_vpc(cloud)
    create_subnet(cloud, vpc_id)
    assert cloud.refusal("alice", "CreateSubnet", VpcId=vpc_id, CidrBlock="10.9.2.0/24").code == "SubnetLimitExceeded"


@pytest.mark.parametrize("attribute", ["MapPublicIpOnLaunch", "AssignIpv6AddressOnCreation", "EnableDns64"])
def test_attributes_of_a_subnet_can_be_set_to_what_they_are(cloud: Cloud, attribute: str) -> None:
    subnet_id = create_subnet(cloud, create_vpc(cloud))
    accepted: dict[str, Any] = {attribute: {"Value": False}}
    refused: dict[str, Any] = {attribute: {"Value": True}}
    cloud.run("alice", "ModifySubnetAttribute", SubnetId=subnet_id, **accepted)
    error = cloud.refusal("alice", "ModifySubnetAttribute", SubnetId=subnet_id, **refused)
    assert error.code == "UnsupportedOperation"


def test_a_subnet_has_only_addresses_that_the_network_of_its_vpc_has(cloud: Cloud) -> None:
    """A network that is made in OpenNebula may have fewer than its mask says, and further ranges."""
    text = 'AR=[TYPE="IP4",IP="10.9.0.0",SIZE="40"]\nNETWORK_ADDRESS="10.9.0.0"\nNETWORK_MASK="255.255.0.0"'
    ranges = f'{text}\nAR=[TYPE="IP4",IP="10.9.0.40",SIZE="100"]'
    network_id = int(cloud.as_user("alice", "one.vntemplate.instantiate", 0, "", ranges))
    cloud.wait(2)
    cloud.as_user("alice", "one.vn.update", network_id, 'SECURITY_GROUPS=""', 1)
    vpc_id = f"vpc-{network_id:08d}"
    for cidr in ("10.9.0.32/28", "10.9.0.64/28", "10.9.1.0/24"):
        error = cloud.refusal("alice", "CreateSubnet", VpcId=vpc_id, CidrBlock=cidr)
        assert error.code == "InvalidSubnet.Range", cidr
    create_subnet(cloud, vpc_id, "10.9.0.16/28")
