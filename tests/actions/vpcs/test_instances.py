"""Instances in subnets of VPCs: their security groups, and what is not available."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.actions.vpcs.vpcs import create_subnet, create_vpc, number
from tests.support.cloud import Cloud

LAUNCH: dict[str, Any] = {"ImageId": "ami-00000000", "MinCount": 1, "MaxCount": 1}


@pytest.fixture
def cloud(cloud: Cloud) -> Cloud:
    """The cloud, whose driver filters traffic."""
    cloud.settings = replace(cloud.settings, filtering_drivers=("vxlan",))
    return cloud


def run(cloud: Cloud, subnet_id: str, **parameters: Any) -> dict[str, Any]:
    """Run an instance in a subnet, and return it."""
    (instance,) = cloud.run("alice", "RunInstances", SubnetId=subnet_id, **LAUNCH, **parameters)["Instances"]
    found: dict[str, Any] = instance
    return found


def group(cloud: Cloud, vpc_id: str, name: str = "web") -> str:
    """Create a security group, and return its id."""
    created = cloud.run("alice", "CreateSecurityGroup", GroupName=name, Description=name, VpcId=vpc_id)
    return str(created["GroupId"])


def default_group(cloud: Cloud, vpc_id: str) -> str:
    """Return the id of the default group of a VPC."""
    filters = [{"Name": "vpc-id", "Values": [vpc_id]}, {"Name": "group-name", "Values": ["default"]}]
    (found,) = cloud.run("alice", "DescribeSecurityGroups", Filters=filters)["SecurityGroups"]
    return str(found["GroupId"])


def test_an_instance_without_groups_has_the_default_group_of_its_vpc(cloud: Cloud) -> None:
    vpc_id = create_vpc(cloud)
    subnet_id = create_subnet(cloud, vpc_id)
    instance = run(cloud, subnet_id)
    expected = {"GroupId": default_group(cloud, vpc_id), "GroupName": "default"}
    assert instance["SecurityGroups"] == [expected]
    assert (instance["VpcId"], instance["SubnetId"]) == (vpc_id, subnet_id)
    assert instance["PrivateIpAddress"] == "10.9.1.4"


def test_an_instance_has_the_groups_that_are_named_and_no_others(cloud: Cloud) -> None:
    vpc_id = create_vpc(cloud)
    web = group(cloud, vpc_id)
    instance = run(cloud, create_subnet(cloud, vpc_id), SecurityGroupIds=[web])
    assert instance["SecurityGroups"] == [{"GroupId": web, "GroupName": "web"}]


def test_each_interface_has_the_default_group_of_its_vpc(cloud: Cloud) -> None:
    vpc_ids = [create_vpc(cloud), create_vpc(cloud, "10.8.0.0/16")]
    subnet_ids = [create_subnet(cloud, vpc_ids[0]), create_subnet(cloud, vpc_ids[1], "10.8.1.0/24")]
    specifications = [{"DeviceIndex": index, "SubnetId": subnet_id} for index, subnet_id in enumerate(subnet_ids)]
    launched = cloud.run("alice", "RunInstances", **LAUNCH, NetworkInterfaces=specifications)["Instances"]
    groups = [interface["Groups"][0]["GroupId"] for interface in launched[0]["NetworkInterfaces"]]
    assert groups == [default_group(cloud, vpc_id) for vpc_id in vpc_ids]


def test_groups_and_subnet_must_be_of_one_vpc(cloud: Cloud) -> None:
    subnet_id = create_subnet(cloud, create_vpc(cloud))
    for other in (group(cloud, create_vpc(cloud)), group(cloud, "vpc-9999999999")):
        error = cloud.refusal("alice", "RunInstances", SubnetId=subnet_id, SecurityGroupIds=[other], **LAUNCH)
        assert (error.code, "different networks" in error.message) == ("InvalidParameter", True)


def test_no_instance_runs_in_a_vpc_whose_default_group_is_gone_unless_groups_are_named(cloud: Cloud) -> None:
    """Not even if somebody else shares a group that looks like it."""
    vpc_id = create_vpc(cloud)
    subnet_id, web = create_subnet(cloud, vpc_id), group(cloud, vpc_id)
    session = cloud.call_as("alice").session
    (original,) = (found for found in cloud.result(session.security_groups()) if found.name.startswith("default ("))
    text = f'NAME="{original.name}"\nEC2_VPC_ID="{number(vpc_id)}"\nRULE=[PROTOCOL="ALL",RULE_TYPE="inbound"]'
    cloud.as_user("alice", "one.secgroup.delete", original.id)
    copy = cloud.as_user("bob", "one.secgroup.allocate", text)
    cloud.as_user("bob", "one.secgroup.chmod", copy, -1, -1, -1, -1, -1, -1, 1, -1, -1)
    assert cloud.refusal("alice", "RunInstances", SubnetId=subnet_id, **LAUNCH).code == "InvalidGroup.NotFound"
    run(cloud, subnet_id, SecurityGroupIds=[web])


def test_addresses_that_are_reserved_are_given_to_no_instance(cloud: Cloud) -> None:
    subnet_id = create_subnet(cloud, create_vpc(cloud), "10.9.1.0/28")
    for ip in ("10.9.1.0", "10.9.1.3", "10.9.1.15"):
        error = cloud.refusal("alice", "RunInstances", SubnetId=subnet_id, PrivateIpAddress=ip, **LAUNCH)
        assert error.code == "InvalidIPAddress.InUse"
    launched = cloud.run("alice", "RunInstances", **{**LAUNCH, "MinCount": 11, "MaxCount": 11}, SubnetId=subnet_id)
    ips = sorted(int(instance["PrivateIpAddress"].rpartition(".")[2]) for instance in launched["Instances"])
    assert ips == list(range(4, 15))
    assert cloud.refusal("alice", "RunInstances", SubnetId=subnet_id, **LAUNCH).code == (
        "InsufficientFreeAddressesInSubnet"
    )


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"PrivateIpAddress": "10.9.1.9"},
        {"NetworkInterfaces": [{"DeviceIndex": 0, "Description": "first"}]},
    ],
)
def test_an_interface_of_the_type_has_the_default_group_of_its_vpc(cloud: Cloud, parameters: dict[str, Any]) -> None:
    """OpenNebula does not filter the traffic of a NIC without groups. What else the NIC has stays."""
    vpc_id = create_vpc(cloud)
    subnet_id = create_subnet(cloud, vpc_id)
    nic = f'NIC=[NETWORK_ID="{number(subnet_id)}",IP="10.9.1.9",MODEL="e1000",SECURITY_GROUPS=","]'
    add_type(cloud, nic)
    (instance,) = cloud.run("alice", "RunInstances", **LAUNCH, InstanceType="mine", **parameters)["Instances"]
    assert instance["SecurityGroups"] == [{"GroupId": default_group(cloud, vpc_id), "GroupName": "default"}]
    assert (instance["SubnetId"], instance["PrivateIpAddress"]) == (subnet_id, "10.9.1.9")
    document = cloud.as_user("alice", "one.vm.info", int(instance["InstanceId"][2:]))
    assert "<MODEL><![CDATA[e1000]]></MODEL>" in document


def test_an_interface_of_the_type_keeps_the_groups_that_it_has(cloud: Cloud) -> None:
    vpc_id = create_vpc(cloud)
    web = group(cloud, vpc_id)
    groups = f'SECURITY_GROUPS="{number(web)}"'
    add_type(cloud, f'NIC=[NETWORK_ID="{number(create_subnet(cloud, vpc_id))}",{groups}]')
    (instance,) = cloud.run("alice", "RunInstances", **LAUNCH, InstanceType="mine")["Instances"]
    assert instance["SecurityGroups"] == [{"GroupId": web, "GroupName": "web"}]


def add_type(cloud: Cloud, nic: str) -> None:
    """Create a template of alice that is the instance type `mine`."""
    cloud.as_user(
        "alice", "one.template.allocate", f'NAME="mine"\nEC2_INSTANCE_TYPE="mine"\nCPU="1"\nMEMORY="64"\n{nic}'
    )
