"""RunInstances: security groups, which must protect the instance, or the request is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from econed.config.settings import Settings
from tests.actions.instances.test_launch_networks import launched, refused
from tests.actions.networks.networks import network
from tests.support.cloud import Cloud

PROTECTED = "subnet-00000002"
"""A network whose driver filters, and which has no security groups of its own."""


@pytest.fixture(params=["5.12", "7.4"])
def cloud(request: pytest.FixtureRequest) -> Cloud:
    """A cloud that treats the driver dummy as one that filters, with the network `PROTECTED`."""
    cloud = Cloud(version=request.param, settings=Settings(filtering_drivers=("dummy",)))
    number = network(cloud, "protected", "", ip="10.1.0.0", size=100)
    cloud.oneadmin("one.vn.update", number, 'SECURITY_GROUPS=""', 1)
    return cloud


def group(cloud: Cloud, name: str, user: str = "alice") -> str:
    """Create a security group and return its id."""
    return str(cloud.run(user, "CreateSecurityGroup", GroupName=name, Description="of a test")["GroupId"])


def groups_of(instance: dict[str, Any]) -> list[list[str]]:
    """Return the ids of the groups of each interface of an instance."""
    return [[each["GroupId"] for each in interface["Groups"]] for interface in instance["NetworkInterfaces"]]


@pytest.mark.parametrize("form", ["ids", "names", "both", "interface"])
def test_an_instance_has_the_groups_that_the_request_names(cloud: Cloud, form: str) -> None:
    """Its machine has their rules."""
    web, database = group(cloud, "web"), group(cloud, "db: main/1")
    forms: dict[str, dict[str, Any]] = {
        "ids": {"SubnetId": PROTECTED, "SecurityGroupIds": [web, database, web]},
        "names": {"SubnetId": PROTECTED, "SecurityGroups": ["web", "db: main/1"]},
        "both": {"SubnetId": PROTECTED, "SecurityGroupIds": [web], "SecurityGroups": ["db: main/1"]},
        "interface": {"NetworkInterfaces": [{"DeviceIndex": 0, "SubnetId": PROTECTED, "Groups": [web, database]}]},
    }
    (instance,) = launched(cloud, **forms[form])
    assert groups_of(instance) == [[web, database]]
    assert instance["SecurityGroups"] == [
        {"GroupId": web, "GroupName": "web"},
        {"GroupId": database, "GroupName": "db: main/1"},
    ]
    document = cloud.as_user("alice", "one.vm.info", int(instance["InstanceId"][2:]))
    for group_id in (web, database):
        assert f"<SECURITY_GROUP_ID><![CDATA[{int(group_id[3:])}]]></SECURITY_GROUP_ID>" in document


def test_each_interface_has_its_own_groups(cloud: Cloud) -> None:
    web, database = group(cloud, "web"), group(cloud, "db")
    interfaces = [
        {"DeviceIndex": 0, "SubnetId": PROTECTED, "Groups": [web]},
        {"DeviceIndex": 1, "SubnetId": PROTECTED, "Groups": [database, web]},
        {"DeviceIndex": 2, "SubnetId": PROTECTED},
    ]
    (instance,) = launched(cloud, NetworkInterfaces=interfaces)
    assert groups_of(instance) == [[web], [web, database], []]


def test_without_a_subnet_all_interfaces_of_the_type_have_the_groups(cloud: Cloud) -> None:
    text = 'NIC=[NETWORK_ID="2",MODEL="e1000"]\nNIC=[NETWORK="protected",NETWORK_UNAME="oneadmin"]'
    cloud.oneadmin("one.template.update", 0, text, 1)
    web = group(cloud, "web")
    (instance,) = launched(cloud, SecurityGroupIds=[web])
    assert groups_of(instance) == [[web], [web]]
    assert [each["SubnetId"] for each in instance["NetworkInterfaces"]] == [PROTECTED] * 2


def test_a_type_with_too_many_interfaces_gets_no_groups(cloud: Cloud) -> None:
    """Each machine would have the text of all: any user may make such a type."""
    cloud.oneadmin("one.template.update", 0, 'NIC=[NETWORK_ID="2"]\n' * 16, 1)
    assert refused(cloud, SecurityGroupIds=[group(cloud, "web")]).code == "AttachmentLimitExceeded"


def test_a_group_does_not_protect_in_a_network_with_groups_of_its_own(cloud: Cloud) -> None:
    """OpenNebula joins them: `default`, which every new network has, allows everything."""
    refusal = refused(cloud, SubnetId="subnet-00000000", SecurityGroupIds=[group(cloud, "web")])
    assert refusal.code == "InvalidParameterCombination"
    assert "adds its own security groups sg-00000000" in refusal.message


def test_a_group_does_not_protect_in_a_network_whose_driver_does_not_filter(cloud: Cloud) -> None:
    web = group(cloud, "web")
    cloud.settings = replace(cloud.settings, filtering_drivers=("fw", "vxlan"))
    refusal = refused(cloud, SubnetId=PROTECTED, SecurityGroupIds=[web])
    assert refusal.code == "InvalidParameterCombination"
    assert "its driver 'dummy' does not filter traffic" in refusal.message


def test_a_group_does_not_protect_in_a_network_that_is_not_chosen_yet(cloud: Cloud) -> None:
    cloud.oneadmin("one.template.update", 0, 'NIC=[NETWORK_MODE="auto"]', 1)
    refusal = refused(cloud, SecurityGroupIds=[group(cloud, "web")])
    assert (refusal.code, "specify SubnetId" in refusal.message) == ("InvalidParameterCombination", True)


@pytest.mark.parametrize("network", ["", PROTECTED])
def test_a_group_does_not_protect_the_addresses_of_aliases(cloud: Cloud, network: str) -> None:
    """Neither those of the instance type nor those that an administrator has attached since."""
    web, text = group(cloud, "web"), 'NIC=[NETWORK_ID="2",NAME="NIC0"]'
    cloud.oneadmin("one.template.update", 0, f'{text}\nNIC_ALIAS=[NETWORK_ID="2",PARENT="NIC0"]', 1)
    refusal = refused(cloud, SubnetId=network, SecurityGroupIds=[web])
    assert (refusal.code, "NIC_ALIAS" in refusal.message) == ("InvalidParameterCombination", True)
    cloud.settings = replace(cloud.settings, network_security_group="warn")
    (instance,) = launched(cloud, SubnetId=network, SecurityGroupIds=[web])
    cloud.wait(10)
    cloud.settings = replace(cloud.settings, network_security_group="refuse")
    changed = {"NetworkInterfaceId": instance["NetworkInterfaces"][0]["NetworkInterfaceId"], "Groups": [web]}
    refusal = cloud.refusal("alice", "ModifyNetworkInterfaceAttribute", **changed)
    assert (refusal.code, "NIC_ALIAS" in refusal.message) == ("InvalidParameterCombination", True)
    assert launched(cloud, SubnetId=network, SecurityGroupIds=["sg-00000000"])


def test_the_administrator_may_have_a_warning_instead(cloud: Cloud) -> None:
    """DescribeInstances shows the groups that the instance has in truth."""
    web = group(cloud, "web")
    cloud.settings = replace(cloud.settings, network_security_group="warn")
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)  # type: ignore[arg-type]
    try:
        (instance,) = launched(cloud, SubnetId="subnet-00000000", SecurityGroupIds=[web])
    finally:
        globalLogPublisher.removeObserver(events.append)  # type: ignore[arg-type]
    assert groups_of(instance) == [["sg-00000000", web]]
    (warning,) = [event for event in events if event.get("log_namespace") == "econed.networks"]
    assert "the security groups do not protect an instance in subnet-00000000" in formatEvent(warning)


@pytest.mark.parametrize("parameters", [{"SecurityGroups": ["default"]}, {"SecurityGroupIds": ["sg-00000000"]}])
@pytest.mark.parametrize("subnet", ["subnet-00000000", PROTECTED, ""])
def test_the_default_group_is_allowed_anywhere_since_it_allows_everything(
    cloud: Cloud, parameters: dict[str, Any], subnet: str
) -> None:
    """Clients of old send it with every launch."""
    (instance,) = launched(cloud, **parameters, SubnetId=subnet)
    assert groups_of(instance) == [["sg-00000000"]]


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"SecurityGroupIds": ["sg-00000099"]}, "InvalidGroup.NotFound"),
        ({"SecurityGroupIds": ["sg-0123456789abcdef0"]}, "InvalidGroup.NotFound"),
        ({"SecurityGroupIds": ["web"]}, "InvalidGroupId.Malformed"),
        ({"SecurityGroups": ["of bob"]}, "InvalidGroup.NotFound"),
        ({"SecurityGroupIds": [f"sg-0000010{n}" for n in range(6)]}, "SecurityGroupsPerInterfaceLimitExceeded"),
        (
            {"SecurityGroups": ["default"], "NetworkInterfaces": [{"DeviceIndex": 0}]},
            "InvalidParameterCombination",
        ),
    ],
)
def test_what_cannot_be_is_refused(cloud: Cloud, parameters: dict[str, Any], code: str) -> None:
    """A group that does not exist would be taken by OpenNebula."""
    assert refused(cloud, **parameters).code == code


def test_a_group_that_the_caller_may_not_use_does_not_exist(cloud: Cloud) -> None:
    assert refused(cloud, SecurityGroupIds=[group(cloud, "of bob", "bob")]).code == "InvalidGroup.NotFound"


def test_a_group_in_use_is_not_deleted(cloud: Cloud) -> None:
    web = group(cloud, "web")
    (instance,) = launched(cloud, SubnetId=PROTECTED, SecurityGroupIds=[web])
    assert cloud.refusal("alice", "DeleteSecurityGroup", GroupId=web).code == "DependencyViolation"
    cloud.run("alice", "TerminateInstances", InstanceIds=[instance["InstanceId"]])
    cloud.wait(20)
    cloud.run("alice", "DeleteSecurityGroup", GroupId=web)
