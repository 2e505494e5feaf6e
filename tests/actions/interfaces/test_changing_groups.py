"""ModifyNetworkInterfaceAttribute: the security groups of an interface."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from econed.config.settings import Settings
from econed.errors import EC2Error
from tests.actions.instances.test_launch_groups import PROTECTED, group
from tests.actions.instances.test_launch_networks import launched
from tests.actions.networks.networks import network
from tests.support.cloud import Cloud


def cloud_of(version: str) -> Cloud:
    """Return a cloud in which the driver dummy is one that filters, with the network `PROTECTED`."""
    cloud = Cloud(version=version, settings=Settings(filtering_drivers=("dummy",)))
    number = network(cloud, "protected", "", ip="10.1.0.0", size=100)
    cloud.oneadmin("one.vn.update", number, 'SECURITY_GROUPS=""', 1)
    return cloud


@pytest.fixture(params=["6.4", "7.4"])
def cloud(request: pytest.FixtureRequest) -> Cloud:
    """A cloud whose oned can change groups; 6.4 cannot change other attributes of a NIC."""
    return cloud_of(request.param)


def interface(cloud: Cloud, **parameters: Any) -> str:
    """Return the id of the interface of a new instance that runs."""
    (instance,) = launched(cloud, **parameters)
    cloud.wait(20)
    return str(instance["NetworkInterfaces"][0]["NetworkInterfaceId"])


def groups_of(cloud: Cloud, interface_id: str) -> list[str]:
    """Return the ids of the groups of an interface."""
    (shown,) = cloud.run("alice", "DescribeNetworkInterfaces", NetworkInterfaceIds=[interface_id])["NetworkInterfaces"]
    return [each["GroupId"] for each in shown["Groups"]]


def change(cloud: Cloud, interface_id: str, *groups: str) -> None:
    """Give an interface of alice's these groups."""
    cloud.run("alice", "ModifyNetworkInterfaceAttribute", NetworkInterfaceId=interface_id, Groups=groups)


def refused(cloud: Cloud, interface_id: str, *groups: str, user: str = "alice", dry_run: bool = False) -> EC2Error:
    """Return the error of the change."""
    parameters: dict[str, Any] = {"NetworkInterfaceId": interface_id, "Groups": groups}
    return cloud.refusal(user, "ModifyNetworkInterfaceAttribute", dry_run=dry_run, **parameters)


def test_the_groups_of_an_interface_are_replaced(cloud: Cloud) -> None:
    """A repeated request changes nothing."""
    web, database, backup = (group(cloud, name) for name in ("web", "db", "backup"))
    interface_id = interface(cloud, SubnetId=PROTECTED, SecurityGroupIds=[web, database])
    for groups in ([database, backup], [web], [web, database, backup]):
        change(cloud, interface_id, *groups)
        assert groups_of(cloud, interface_id) == groups
    before = len(cloud.changes)
    change(cloud, interface_id, backup, web, database)
    assert len(cloud.changes) == before


def test_a_group_is_added_before_another_is_removed(cloud: Cloud) -> None:
    """Between the two, the interface is never without a group: it would not be filtered."""
    web, database = group(cloud, "web"), group(cloud, "db")
    interface_id = interface(cloud, SubnetId=PROTECTED, SecurityGroupIds=[web])
    before = len(cloud.changes)
    change(cloud, interface_id, database)
    assert [call.method for call in cloud.changes[before:]] == ["one.vm.attachsg", "one.vm.detachsg"]


def test_groups_protect_in_a_network_with_groups_of_its_own_if_its_driver_filters(cloud: Cloud) -> None:
    """OpenNebula joins those of the network when a NIC is made, not later."""
    interface_id = interface(cloud, SubnetId="subnet-00000000")
    assert groups_of(cloud, interface_id) == ["sg-00000000"]
    web = group(cloud, "web")
    cloud.settings = replace(cloud.settings, filtering_drivers=("fw",))
    assert refused(cloud, interface_id, web).code == "InvalidParameterCombination"
    cloud.settings = replace(cloud.settings, filtering_drivers=("dummy",))
    change(cloud, interface_id, web)
    assert groups_of(cloud, interface_id) == [web]
    change(cloud, interface_id, "sg-00000000")
    assert groups_of(cloud, interface_id) == ["sg-00000000"]


def test_groups_that_do_not_exist_are_refused_before_any_change(cloud: Cloud) -> None:
    web = group(cloud, "web")
    interface_id = interface(cloud, SubnetId=PROTECTED, SecurityGroupIds=[web])
    before = len(cloud.changes)
    assert refused(cloud, interface_id, web, "sg-00009999").code == "InvalidGroup.NotFound"
    assert refused(cloud, interface_id, group(cloud, "of bob", "bob")).code == "InvalidGroup.NotFound"
    assert refused(cloud, interface_id, web, "web").code == "InvalidGroupId.Malformed"
    many = [f"sg-{number:08d}" for number in range(100, 106)]
    assert refused(cloud, interface_id, *many).code == "SecurityGroupsPerInterfaceLimitExceeded"
    assert [call.method for call in cloud.changes[before:]] == ["one.secgroup.allocate"]


def test_a_stopped_instance_gets_other_groups_too(cloud: Cloud) -> None:
    web, database = group(cloud, "web"), group(cloud, "db")
    (instance,) = launched(cloud, SubnetId=PROTECTED, SecurityGroupIds=[web])
    interface_id = instance["NetworkInterfaces"][0]["NetworkInterfaceId"]
    cloud.wait(20)
    cloud.run("alice", "StopInstances", InstanceIds=[instance["InstanceId"]])
    cloud.wait(20)
    change(cloud, interface_id, database)
    assert groups_of(cloud, interface_id) == [database]


def test_only_who_may_manage_the_instance_changes_its_groups(cloud: Cloud) -> None:
    web, of_bob = group(cloud, "web"), group(cloud, "of bob", "bob")
    (instance,) = launched(cloud, SubnetId=PROTECTED, SecurityGroupIds=[web])
    interface_id = instance["NetworkInterfaces"][0]["NetworkInterfaceId"]
    cloud.wait(20)
    assert refused(cloud, interface_id, of_bob, user="bob").code == "InvalidNetworkInterfaceID.NotFound"
    cloud.as_user("alice", "one.vm.chmod", int(instance["InstanceId"][2:]), -1, -1, -1, 1, *(-1,) * 5)
    assert refused(cloud, interface_id, of_bob, user="bob").code == "UnauthorizedOperation"
    assert refused(cloud, interface_id, of_bob, user="bob", dry_run=True).code == "UnauthorizedOperation"
    assert refused(cloud, interface_id, web, dry_run=True).code == "DryRunOperation"
    assert groups_of(cloud, interface_id) == [web]


def test_the_groups_of_an_instance_are_those_of_its_only_interface(cloud: Cloud) -> None:
    """ModifyInstanceAttribute replaces them."""
    web, database = group(cloud, "web"), group(cloud, "db")
    (instance,) = launched(cloud, SubnetId=PROTECTED, SecurityGroupIds=[web])
    cloud.wait(20)
    cloud.run("alice", "ModifyInstanceAttribute", InstanceId=instance["InstanceId"], Groups=[database])
    assert groups_of(cloud, instance["NetworkInterfaces"][0]["NetworkInterfaceId"]) == [database]


def test_what_is_no_change_of_the_groups_of_a_single_interface_is_refused(cloud: Cloud) -> None:
    web = group(cloud, "web")
    interfaces = [{"DeviceIndex": index, "SubnetId": PROTECTED} for index in (0, 1)]
    (several,) = launched(cloud, NetworkInterfaces=interfaces)
    (instance,) = launched(cloud, SubnetId=PROTECTED)
    cloud.oneadmin("one.template.update", 0, 'NAME="none"\nCPU="1"\nMEMORY="64"\nEC2_INSTANCE_TYPE="m1.small"', 0)
    (without,) = launched(cloud)
    cloud.wait(20)
    before = len(cloud.changes)
    refusals: tuple[tuple[dict[str, Any], str, dict[str, Any]], ...] = (
        (several, "InvalidInstanceID", {"Groups": [web]}),
        (without, "InvalidInstanceID", {"Groups": [web]}),
        (instance, "InvalidParameterCombination", {}),
        (instance, "InvalidGroup.NotFound", {"Groups": [web, "sg-00009999"]}),
        (instance, "UnsupportedOperation", {"Groups": [web], "UserData": {"Value": b"x"}}),
        (instance, "UnsupportedOperation", {"Attribute": "instanceType", "Value": "m1.large"}),
    )
    for target, code, parameters in refusals:
        refusal = cloud.refusal("alice", "ModifyInstanceAttribute", InstanceId=target["InstanceId"], **parameters)
        assert refusal.code == code
    assert len(cloud.changes) == before


def test_an_oned_that_cannot_change_groups_is_asked_once_and_nothing_changes() -> None:
    """5.12: the interface keeps the groups with which the instance was run."""
    cloud = cloud_of("5.12")
    web, database = group(cloud, "web"), group(cloud, "db")
    interface_id = interface(cloud, SubnetId=PROTECTED, SecurityGroupIds=[web])
    before = len(cloud.changes)
    refusal = refused(cloud, interface_id, database)
    assert [(call.method, call.ok) for call in cloud.changes[before:]] == [("one.vm.attachsg", False)]
    assert (refusal.code, "This version of OpenNebula" in refusal.message) == ("UnsupportedOperation", True)
    assert groups_of(cloud, interface_id) == [web]
