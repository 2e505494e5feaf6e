"""RunInstances: subnets, addresses and network interfaces."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from econed.actions.instances.launch_groups import GroupNames
from econed.actions.instances.network_interfaces import requested_interfaces
from econed.errors import EC2Error
from tests.actions.networks.networks import network, with_elastic_ips, without_rule
from tests.support.cloud import Cloud


@pytest.fixture(params=["5.12", "7.4"])
def cloud(request: pytest.FixtureRequest) -> Cloud:
    """A cloud with two more networks: `subnet-00000002`, and `subnet-00000003` with two addresses only."""
    cloud = Cloud(version=request.param)
    network(cloud, "second", "", ip="10.1.0.0", size=254)
    network(cloud, "small", "", ip="10.2.0.0", size=2)
    return cloud


def launched(cloud: Cloud, count: int = 1, **parameters: Any) -> list[dict[str, Any]]:
    """Run instances and return them as DescribeInstances shows them."""
    run = cloud.run("alice", "RunInstances", **launch(**parameters), MinCount=count, MaxCount=count)
    ids = [instance["InstanceId"] for instance in run["Instances"]]
    (reservation,) = cloud.run("alice", "DescribeInstances", InstanceIds=ids)["Reservations"]
    return list(reservation["Instances"])


def launch(**parameters: Any) -> dict[str, Any]:
    """Return the parameters of a launch."""
    return {"ImageId": "ami-00000000", "InstanceType": "m1.small", **parameters}


def refused(cloud: Cloud, count: int = 1, **parameters: Any) -> EC2Error:
    """Return the error of RunInstances, after which no machine is left."""
    before = cloud.run("alice", "DescribeInstances")["Reservations"]
    refusal = cloud.refusal("alice", "RunInstances", **launch(**parameters), MinCount=count, MaxCount=count)
    assert cloud.run("alice", "DescribeInstances")["Reservations"] == before
    return refusal


def networks_of(instance: dict[str, Any]) -> list[tuple[str, str]]:
    """Return subnet and address of each interface of an instance."""
    return [(each["SubnetId"], each["PrivateIpAddress"]) for each in instance["NetworkInterfaces"]]


def test_without_a_subnet_an_instance_has_the_networks_of_its_type(cloud: Cloud) -> None:
    (instance,) = launched(cloud, SubnetId="")
    assert networks_of(instance) == [("subnet-00000000", instance["PrivateIpAddress"])]
    assert instance["SubnetId"] == "subnet-00000000"


def test_an_instance_is_in_the_subnet_that_the_request_names(cloud: Cloud) -> None:
    (instance,) = launched(cloud, SubnetId="subnet-00000002")
    assert networks_of(instance) == [("subnet-00000002", instance["PrivateIpAddress"])]
    assert instance["PrivateIpAddress"].startswith("10.1.0.")
    assert instance["SubnetId"] == "subnet-00000002"


@pytest.mark.parametrize("address", [{"PrivateIpAddress": "10.1.0.77"}, {"PrivateIpAddress": "10.0.0.77"}])
def test_an_instance_gets_the_address_that_the_request_names(cloud: Cloud, address: dict[str, Any]) -> None:
    """Without a subnet it is one of the network of the instance type."""
    subnet = "subnet-00000002" if address["PrivateIpAddress"].startswith("10.1") else ""
    (instance,) = launched(cloud, SubnetId=subnet, **address)
    assert networks_of(instance) == [(subnet or "subnet-00000000", address["PrivateIpAddress"])]
    assert refused(cloud, SubnetId=subnet, **address).code == "InvalidIPAddress.InUse"


def test_an_address_that_is_free_is_not_in_use_whatever_else_oned_refuses(cloud: Cloud) -> None:
    """Oned has the same code for all causes."""
    cloud.oneadmin("one.template.update", 0, 'DISK=[IMAGE_ID="99"]', 1)
    address: dict[str, Any] = {"SubnetId": "subnet-00000002", "PrivateIpAddress": "10.1.0.77"}
    assert refused(cloud, **address).code == refused(cloud).code == "InvalidRequest"


def test_interfaces_are_made_in_the_order_of_their_device_indexes(cloud: Cloud) -> None:
    """With their descriptions, and ids that stay."""
    interfaces = [
        {"DeviceIndex": 1, "SubnetId": "subnet-00000000", "PrivateIpAddress": "10.0.0.99", "DeleteOnTermination": True},
        {"DeviceIndex": 0, "SubnetId": "subnet-00000002", "Description": 'the "first", [ü]'},
        {"DeviceIndex": 2, "PrivateIpAddresses": [{"PrivateIpAddress": "10.0.0.98", "Primary": True}]}
        | {"SubnetId": "subnet-00000000", "AssociatePublicIpAddress": False},
    ]
    (instance,) = launched(cloud, NetworkInterfaces=interfaces)
    shown = instance["NetworkInterfaces"]
    assert [each["SubnetId"] for each in shown] == ["subnet-00000002", "subnet-00000000", "subnet-00000000"]
    assert [each["PrivateIpAddress"] for each in shown[1:]] == ["10.0.0.99", "10.0.0.98"]
    assert [each["Attachment"]["DeviceIndex"] for each in shown] == [0, 1, 2]
    assert shown[0]["Description"] == 'the "first", [ü]'
    ids = [each["NetworkInterfaceId"] for each in shown]
    assert len(set(ids)) == len(ids)
    cloud.wait(20)
    described = cloud.run("alice", "DescribeNetworkInterfaces", NetworkInterfaceIds=ids)["NetworkInterfaces"]
    assert [each["NetworkInterfaceId"] for each in described] == ids


def test_each_instance_of_a_launch_has_interfaces_of_its_own(cloud: Cloud) -> None:
    instances = launched(cloud, 3, SubnetId="subnet-00000002")
    (reservation,) = cloud.run("alice", "DescribeInstances")["Reservations"]
    ids = {each["NetworkInterfaceId"] for instance in instances for each in instance["NetworkInterfaces"]}
    assert len(ids) == len({instance["PrivateIpAddress"] for instance in instances}) == 3
    assert len(reservation["Instances"]) == 3


def test_an_interface_keeps_what_the_type_says_of_the_one_at_its_position(cloud: Cloud) -> None:
    """Its model and limits, which users may not drop, but not its network."""
    text = 'NIC=[NETWORK_ID="0",MODEL="e1000",INBOUND_AVG_BW="1000"]'
    cloud.oneadmin("one.template.update", 0, text, 1)
    (instance,) = launched(cloud, SubnetId="subnet-00000002")
    (machine,) = cloud.result(cloud.call_as("alice").session.vms([int(instance["InstanceId"][2:])]))
    (nic,) = machine.nics
    members = {name: nic.attributes.get(name) for name in ("NETWORK_ID", "MODEL", "INBOUND_AVG_BW")}
    assert members == {"NETWORK_ID": "2", "MODEL": "e1000", "INBOUND_AVG_BW": "1000"}


def test_an_interface_without_a_subnet_is_in_the_network_of_the_type(cloud: Cloud) -> None:
    """The one at the same position; if there is none, the request must name a subnet."""
    (instance,) = launched(cloud, NetworkInterfaces=[{"DeviceIndex": 0, "Description": "mine"}])
    assert networks_of(instance) == [("subnet-00000000", instance["PrivateIpAddress"])]
    assert instance["NetworkInterfaces"][0]["Description"] == "mine"
    second = [{"DeviceIndex": 0}, {"DeviceIndex": 1}]
    assert refused(cloud, NetworkInterfaces=second).code == "InvalidParameterCombination"


def test_a_subnet_must_have_enough_free_addresses_for_the_least_number_of_instances(cloud: Cloud) -> None:
    assert refused(cloud, 3, SubnetId="subnet-00000003").code == "InsufficientFreeAddressesInSubnet"
    assert len(launched(cloud, 2, SubnetId="subnet-00000003")) == 2
    assert refused(cloud, SubnetId="subnet-00000003").code == "InsufficientFreeAddressesInSubnet"
    run = cloud.run("alice", "RunInstances", **launch(SubnetId="subnet-00000002"), MinCount=1, MaxCount=2)
    assert len(run["Instances"]) == 2


def test_fewer_instances_are_run_if_the_subnet_has_no_addresses_for_all(cloud: Cloud) -> None:
    run = cloud.run("alice", "RunInstances", **launch(SubnetId="subnet-00000003"), MinCount=1, MaxCount=5)
    assert len(run["Instances"]) == 2


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"SubnetId": "subnet-00000009"}, "InvalidSubnetID.NotFound"),
        ({"SubnetId": "subnet-0123456789abcdef0"}, "InvalidSubnetID.NotFound"),
        ({"SubnetId": "subnet-x"}, "InvalidSubnetID.Malformed"),
        ({"SubnetId": "subnet-00000002", "PrivateIpAddress": "10.0.0.50"}, "InvalidParameterValue"),
        ({"PrivateIpAddress": "10.1.0.50"}, "InvalidParameterValue"),
        ({"PrivateIpAddress": "10.0.0.300"}, "InvalidParameterValue"),
        ({"PrivateIpAddress": "10.0.0.5 } ; {"}, "InvalidParameterValue"),
        ({"SubnetId": "subnet-00000002", "NetworkInterfaces": [{"DeviceIndex": 0}]}, "InvalidParameterCombination"),
        ({"NetworkInterfaces": [{"DeviceIndex": 1}]}, "InvalidParameterCombination"),
        ({"NetworkInterfaces": [{"DeviceIndex": 0}, {"DeviceIndex": 0}]}, "InvalidParameterCombination"),
        ({"NetworkInterfaces": [{"DeviceIndex": 0, "DeleteOnTermination": False}]}, "UnsupportedOperation"),
        ({"NetworkInterfaces": [{"DeviceIndex": 0, "AssociatePublicIpAddress": True}]}, "UnsupportedOperation"),
        ({"NetworkInterfaces": [{"DeviceIndex": 0, "NetworkInterfaceId": "eni-1"}]}, "UnsupportedOperation"),
        ({"NetworkInterfaces": [{"DeviceIndex": index} for index in range(16)]}, "AttachmentLimitExceeded"),
        (
            {"NetworkInterfaces": [{"DeviceIndex": 0, "PrivateIpAddresses": [{"PrivateIpAddress": "10.0.0.9"}] * 2}]},
            "UnsupportedOperation",
        ),
    ],
)
def test_what_cannot_be_is_refused(cloud: Cloud, parameters: dict[str, Any], code: str) -> None:
    assert refused(cloud, **parameters).code == code


def test_one_address_is_not_for_several_instances(cloud: Cloud) -> None:
    assert refused(cloud, 2, PrivateIpAddress="10.0.0.50").code == "InvalidParameterCombination"


def test_a_network_that_the_caller_may_not_use_does_not_exist(cloud: Cloud) -> None:
    """Nor does that of elastic IPs, which everybody may use."""
    hidden = network(without_rule(cloud), "hidden", "", ip="10.3.0.0", shared=False)
    elastic = with_elastic_ips(cloud).settings.elasticips_vnet_id
    for number in (hidden, elastic):
        assert refused(cloud, SubnetId=f"subnet-{number:08d}").code == "InvalidSubnetID.NotFound"
    assert refused(cloud, PrivateIpAddress="10.3.0.16").code == "InvalidParameterValue"


def test_the_subnet_must_be_in_the_requested_zone(cloud: Cloud) -> None:
    cluster = cloud.oneadmin("one.cluster.allocate", "elsewhere")
    cloud.oneadmin("one.cluster.addvnet", cluster, 2)
    cloud.oneadmin("one.cluster.delvnet", 0, 2)
    zone: dict[str, Any] = {"Placement": {"AvailabilityZone": "default"}}
    assert refused(cloud, SubnetId="subnet-00000002", **zone).code == "InvalidParameterValue"
    both = [{"DeviceIndex": 0, "SubnetId": "subnet-00000000"}, {"DeviceIndex": 1, "SubnetId": "subnet-00000002"}]
    assert refused(cloud, NetworkInterfaces=both).code == "InvalidParameterCombination"


@given(st.permutations(range(6)))
def test_the_order_of_interfaces_is_that_of_their_indexes(order: list[int]) -> None:
    specifications = [{"DeviceIndex": index, "Description": str(index)} for index in order]
    requested = requested_interfaces("", "", GroupNames(), specifications, 1)  # type: ignore[arg-type]
    assert [interface.description for interface in requested] == [str(index) for index in range(6)]
