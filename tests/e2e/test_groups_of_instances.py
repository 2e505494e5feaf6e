"""Security groups of instances, with boto3."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.e2e.waiting import described, wait
from tests.support.clients import boto, refusal
from tests.support.econed_process import Econed
from tests.support.furnished_cloud import MAX_WAIT, FurnishedCloud
from tests.support.processes import until


@pytest.fixture
def client(cloud: FurnishedCloud, filtering_econed: Econed) -> Any:
    """Alice's client of an econed for which the networks' driver filters."""
    return boto(cloud.alice, filtering_econed.url)


def rules_of(cloud: FurnishedCloud, instance: str) -> set[str]:
    """Return the security groups of which the machine of an instance has rules, in OpenNebula."""
    ids = cloud.vm(int(instance[2:])).iterfind("TEMPLATE/SECURITY_GROUP_RULE/SECURITY_GROUP_ID")
    return {f"sg-{int(element.text or ''):08d}" for element in ids}


def ports_of(cloud: FurnishedCloud, instance: str) -> set[str]:
    """Return the ports in the rules that the machine of an instance has in OpenNebula."""
    ranges = cloud.vm(int(instance[2:])).iterfind("TEMPLATE/SECURITY_GROUP_RULE/RANGE")
    return {str(element.text) for element in ranges}


def test_an_instance_is_protected_by_the_groups_that_it_is_run_with(
    cloud: FurnishedCloud, client: Any, subnet_without_groups: str, launch: Callable[..., list[dict[str, Any]]]
) -> None:
    """A change of a rule reaches the running machine; a group in use is not deleted."""
    web = client.create_security_group(GroupName=f"web: {cloud.prefix}", Description="HTTP")["GroupId"]
    permission = {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": [{"CidrIp": "192.0.2.0/24"}]}
    client.authorize_security_group_ingress(GroupId=web, IpPermissions=[permission])
    (launched,) = launch(client=client, SubnetId=subnet_without_groups, SecurityGroupIds=[web])
    instance = launched["InstanceId"]
    wait(client, "instance_running", [instance])
    assert [group["GroupId"] for group in described(client, instance)[0]["SecurityGroups"]] == [web]
    until(lambda: rules_of(cloud, instance) == {web}, f"the rules of {instance}", MAX_WAIT)
    added = {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "IpRanges": [{"CidrIp": "192.0.2.0/24"}]}
    client.authorize_security_group_ingress(GroupId=web, IpPermissions=[added])
    until(lambda: ports_of(cloud, instance) == {"80", "443"}, f"the new rule at {instance}", MAX_WAIT)
    with pytest.raises(ClientError) as raised:
        client.delete_security_group(GroupId=web)
    assert refusal(raised.value) == ("DependencyViolation", 400)
    client.terminate_instances(InstanceIds=[instance])
    wait(client, "instance_terminated", [instance])
    client.delete_security_group(GroupId=web)


def test_a_group_that_would_not_protect_is_refused(
    cloud: FurnishedCloud, client: Any, launch: Callable[..., list[dict[str, Any]]]
) -> None:
    """Every network of OpenNebula has the group `default` at first, which allows everything."""
    web = client.create_security_group(GroupName=f"unused {cloud.prefix}", Description="none")["GroupId"]
    with pytest.raises(ClientError) as raised:
        launch(client=client, SubnetId=f"subnet-{cloud.network:08d}", SecurityGroupIds=[web])
    assert refusal(raised.value) == ("InvalidParameterCombination", 400)
    assert "sg-00000000" in str(raised.value)
    client.delete_security_group(GroupId=web)


def test_the_groups_of_an_interface_are_changed_where_opennebula_can(
    cloud: FurnishedCloud, client: Any, subnet_without_groups: str, launch: Callable[..., list[dict[str, Any]]]
) -> None:
    first, second = (
        client.create_security_group(GroupName=f"{name} {cloud.prefix}", Description="test")["GroupId"]
        for name in ("first", "second")
    )
    (launched,) = launch(client=client, SubnetId=subnet_without_groups, SecurityGroupIds=[first])
    instance = launched["InstanceId"]
    wait(client, "instance_running", [instance])
    named = {"NetworkInterfaceId": described(client, instance)[0]["NetworkInterfaces"][0]["NetworkInterfaceId"]}
    if cloud.is_modern:
        client.modify_network_interface_attribute(**named, Groups=[second])
    else:
        with pytest.raises(ClientError) as raised:
            client.modify_network_interface_attribute(**named, Groups=[second])
        assert refusal(raised.value) == ("UnsupportedOperation", 400)
    expected = second if cloud.is_modern else first
    (interface,) = client.describe_network_interfaces(NetworkInterfaceIds=[named["NetworkInterfaceId"]])[
        "NetworkInterfaces"
    ]
    assert [group["GroupId"] for group in interface["Groups"]] == [expected]
    client.terminate_instances(InstanceIds=[instance])
    wait(client, "instance_terminated", [instance])
    for group in (first, second):
        client.delete_security_group(GroupId=group)
