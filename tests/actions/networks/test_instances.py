"""Instances and their interfaces name their VPC, and filters find what they name."""

from __future__ import annotations

import re
from typing import Any

import pytest
from botocore.loaders import Loader

from econed.actions.instances.filters import INSTANCE_FILTERS
from econed.ids import SUBNET, VPC
from tests.actions.networks.networks import PRIVATE_SUBNET, reservation, vpc
from tests.support.cloud import Cloud

DEFAULT_VPC = "vpc-9999999999"
TEMPLATE = 0


def described(cloud: Cloud, user: str = "alice", **parameters: Any) -> list[dict[str, Any]]:
    """Return the instances that a user lists."""
    reservations = cloud.run(user, "DescribeInstances", **parameters)["Reservations"]
    return [instance for launch in reservations for instance in launch["Instances"]]


def instance_in(cloud: Cloud, network_id: int) -> str:
    """Run a machine of alice on a network, and return its instance id."""
    nic = f'NIC=[NETWORK_ID="{network_id}"]'
    machine = cloud.as_user("alice", "one.template.instantiate", TEMPLATE, "", False, nic, False)
    cloud.wait(5)
    return f"i-{machine:08d}"


def test_a_new_instance_names_its_vpc_in_every_response(cloud: Cloud) -> None:
    launched = cloud.run("alice", "RunInstances", ImageId="ami-00000000", MinCount=1, MaxCount=1)["Instances"]
    cloud.wait(5)
    for (instance,) in (launched, described(cloud), described(cloud, InstanceIds=[launched[0]["InstanceId"]])):
        assert (instance["VpcId"], instance["SubnetId"]) == (DEFAULT_VPC, PRIVATE_SUBNET)
        (interface,) = instance["NetworkInterfaces"]
        assert (interface["VpcId"], interface["SubnetId"]) == (DEFAULT_VPC, PRIVATE_SUBNET)


def test_an_instance_in_a_subnet_of_a_vpc_names_that_vpc(cloud: Cloud) -> None:
    vpc_id = vpc(cloud)
    subnet_id = reservation(cloud, "alice", vpc_id, "subnet", "10.9.1.0")
    instance_id = instance_in(cloud, subnet_id)
    (instance,) = described(cloud)
    assert (instance["VpcId"], instance["SubnetId"]) == (VPC.format(vpc_id), SUBNET.format(subnet_id))
    (interface,) = cloud.run("alice", "DescribeNetworkInterfaces")["NetworkInterfaces"]
    assert interface["VpcId"] == VPC.format(vpc_id)
    filters = [{"Name": "vpc-id", "Values": [VPC.format(vpc_id)]}]
    assert [listed["InstanceId"] for listed in described(cloud, Filters=filters)] == [instance_id]
    (by_id,) = described(cloud, InstanceIds=[instance_id])
    assert (by_id["VpcId"], by_id["NetworkInterfaces"][0]["VpcId"]) == (VPC.format(vpc_id),) * 2


def test_by_id_the_networks_are_read_only_for_an_instance_on_a_reservation(cloud: Cloud) -> None:
    """All others are in the default VPC."""
    subnet_id = reservation(cloud, "alice", vpc(cloud), "subnet", "10.9.1.0")
    counts = []
    for instance_id in (instance_in(cloud, 0), instance_in(cloud, subnet_id)):
        before = len(cloud.oned.calls)
        described(cloud, InstanceIds=[instance_id])
        made = list(cloud.oned.calls)[before:]
        counts.append(sum(call.method == "one.vnpool.info" and call.user == "alice" for call in made))
    assert counts == [0, 1]


def test_on_a_network_that_one_may_not_use_an_instance_is_in_the_default_vpc(cloud: Cloud) -> None:
    """Bob may USE the machine, but not its network: its VPC is not shown."""
    subnet_id = reservation(cloud, "alice", vpc(cloud, shared=True), "subnet", "10.9.1.0")
    instance_id = instance_in(cloud, subnet_id)
    cloud.as_user("alice", "one.vm.chmod", int(instance_id[2:]), -1, -1, -1, -1, -1, -1, 1, -1, -1)
    assert [instance["VpcId"] for instance in described(cloud, "bob")] == [DEFAULT_VPC]


def test_without_interfaces_an_instance_names_no_vpc(cloud: Cloud) -> None:
    instance_id = instance_in(cloud, 0)
    cloud.as_user("alice", "one.vm.detachnic", int(instance_id[2:]), 0)
    cloud.wait(5)
    (instance,) = described(cloud)
    assert instance["NetworkInterfaces"] == []
    assert not {"VpcId", "SubnetId"} & instance.keys()


@pytest.mark.parametrize(
    ("name", "value", "is_selected"),
    [
        ("vpc-id", DEFAULT_VPC, True),
        ("vpc-id", "vpc-00000000", False),
        ("network-interface.vpc-id", DEFAULT_VPC, True),
        ("network-interface.vpc-id", "vpc-0*", False),
        ("subnet-id", PRIVATE_SUBNET, True),
        ("subnet-id", "subnet-00000001", False),
        ("network-interface.subnet-id", PRIVATE_SUBNET, True),
        ("group-id", "sg-00000000", True),
        ("group-id", "sg-00000001", False),
        ("instance.group-id", "sg-00000000", True),
        ("group-name", "default", True),
        ("network-interface.group-id", "sg-00000000", True),
        ("network-interface.attachment.instance-id", "i-00000000", True),
        ("network-interface.attachment.instance-id", "i-00000001", False),
        ("network-interface.attachment.instance-owner-id", "000000000002", True),
        ("network-interface.availability-zone", "default", True),
        ("network-interface.requester-managed", "false", True),
        ("network-interface.requester-managed", "true", False),
        ("network-interface.outpost-arn", "*", False),
    ],
)
def test_filters_on_networks_find_what_they_name(name: str, value: str, is_selected: bool) -> None:
    cloud = Cloud(vms=1)
    listed = described(cloud, Filters=[{"Name": name, "Values": [value]}])
    assert [instance["InstanceId"] for instance in listed] == (["i-00000000"] if is_selected else [])


def test_all_filters_of_amazon_on_interfaces_of_instances_are_known() -> None:
    service = Loader().load_service_model("ec2", "service-2")
    text = service["shapes"]["DescribeInstancesRequest"]["members"]["Filters"]["documentation"]
    amazons = set(re.findall(r"<code>(network-interface\.[a-z0-9.-]+)</code>", text))
    assert len(amazons) > 30
    assert amazons - INSTANCE_FILTERS.known.keys() == set()


def test_an_instance_without_interfaces_has_none_of_them() -> None:
    cloud = Cloud()
    machine = cloud.as_user("alice", "one.vm.allocate", 'CPU="1"\nMEMORY="64"', False)
    for name in ("attachment.instance-id", "availability-zone", "requester-managed"):
        filters = [{"Name": f"network-interface.{name}", "Values": ["*"]}]
        assert described(cloud, InstanceIds=[f"i-{machine:08d}"], Filters=filters) == []


def test_a_list_reads_the_networks_once_and_only_if_an_instance_is_on_a_reservation() -> None:
    """However long the list is."""
    cloud = Cloud(vms=600)

    def reads_of_a_list(count: int) -> int:
        before = len(cloud.oned.calls)
        assert len(described(cloud)) == count
        return [call.method for call in list(cloud.oned.calls)[before:]].count("one.vnpool.info")

    assert reads_of_a_list(600) == 0
    subnet_id = reservation(cloud, "alice", vpc(cloud), "subnet", "10.9.1.0")
    for _ in range(3):
        instance_in(cloud, subnet_id)
    assert [reads_of_a_list(603), reads_of_a_list(603)] == [1, 1]


def test_a_list_of_states_reads_no_networks() -> None:
    cloud = Cloud(vms=3)
    before = len(cloud.oned.calls)
    cloud.run("alice", "DescribeInstanceStatus")
    assert "one.vnpool.info" not in {call.method for call in list(cloud.oned.calls)[before:]}
