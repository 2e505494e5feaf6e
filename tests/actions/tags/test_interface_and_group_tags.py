"""Tags of network interfaces, which their machines keep, and of placement groups, which are attributes of VM groups."""

from __future__ import annotations

from typing import Any

import pytest

from econed.actions.instances.launch import STANDSTILL
from econed.errors import EC2Error
from econed.opennebula.session import Session
from tests.actions.instances.test_launch_joining import begin, ids
from tests.actions.instances.test_launch_networks import launch, launched
from tests.actions.interfaces.test_interfaces import detach, instance, interfaces
from tests.actions.placement_groups.test_placement_groups import create, groups
from tests.support.cloud import Cloud
from tests.support.delayed_oned import DyingOned

A, B = {"Key": "Name", "Value": 'web "1"'}, {"Key": "b", "Value": ""}


@pytest.fixture(params=["5.12", "7.4"])
def cloud(request: pytest.FixtureRequest) -> Cloud:
    return Cloud(version=request.param)


def listed(cloud: Cloud, **parameters: Any) -> list[tuple[str, str, str]]:
    """Return type, id and key of alice's tags."""
    tags = cloud.run("alice", "DescribeTags", **parameters)["Tags"]
    return [(tag["ResourceType"], tag["ResourceId"], tag["Key"]) for tag in tags]


def specification(resource_type: str, *tags: dict[str, str]) -> dict[str, Any]:
    """Return the parameter with tags for one type of resource."""
    return {"TagSpecifications": [{"ResourceType": resource_type, "Tags": list(tags)}]}


def test_each_interface_of_an_instance_has_tags_of_its_own(cloud: Cloud) -> None:
    """They are listed after those of the instance, also where a page ends between them."""
    instance_id, other_id = instance(cloud, nics=2), instance(cloud)
    first, second = (each["NetworkInterfaceId"] for each in interfaces(cloud)[:2])
    cloud.run("alice", "CreateTags", Resources=[second, instance_id, first], Tags=[A])
    cloud.run("alice", "CreateTags", Resources=[second, other_id], Tags=[B])
    cloud.run("alice", "CreateTags", Resources=[other_id, instance_id], Tags=[A, B])
    assert [each["TagSet"] for each in interfaces(cloud)] == [[A], [A, B], []]
    tags = ((first, "Name"), (second, "Name"), (second, "b"))
    of_interfaces = sorted(("network-interface", id_, key) for id_, key in tags)
    of_instances = [("instance", id_, key) for id_ in (instance_id, other_id) for key in ("Name", "b")]
    everything = [*of_instances[:2], *of_interfaces, *of_instances[2:]]
    assert listed(cloud) == everything
    token = cloud.run("alice", "DescribeTags", MaxResults=5)["NextToken"]
    assert listed(cloud, NextToken=token) == everything[5:]
    filters = [{"Name": "resource-type", "Values": ["network-interface"]}]
    assert listed(cloud, Filters=filters) == of_interfaces
    filters = [{"Name": "resource-id", "Values": [second]}]
    assert listed(cloud, Filters=filters) == [tag for tag in of_interfaces if tag[1] == second]
    tagged = interfaces(cloud, Filters=[{"Name": "tag:b", "Values": [""]}])
    assert [each["NetworkInterfaceId"] for each in tagged] == [second]
    cloud.run("alice", "DeleteTags", Resources=[second], Tags=[{"Key": "Name"}])
    assert [each["TagSet"] for each in interfaces(cloud)] == [[A], [B], []]


def test_tags_end_with_their_interface(cloud: Cloud) -> None:
    instance(cloud, nics=2)
    first, second = interfaces(cloud)
    named: dict[str, Any] = {"Resources": [first["NetworkInterfaceId"], second["NetworkInterfaceId"]]}
    cloud.run("alice", "CreateTags", **named, Tags=[A])
    cloud.run("alice", "DetachNetworkInterface", **detach(second))
    cloud.wait(10)
    assert listed(cloud) == [("network-interface", first["NetworkInterfaceId"], "Name")]
    assert cloud.refusal("alice", "CreateTags", **named, Tags=[B]).code == "InvalidNetworkInterfaceID.NotFound"
    assert len(listed(cloud)) == 1


def test_instances_are_run_with_tags_for_each_interface(cloud: Cloud) -> None:
    """Those of the instance type too, and a retry of the call does not restore tags that were removed since."""
    text = 'NAME="two"\nEC2_INSTANCE_TYPE="two.nics"\nCPU="1"\nMEMORY="64"\nNIC=[NETWORK_ID="0"]\nNIC=[NETWORK_ID="0"]'
    cloud.as_user("alice", "one.template.allocate", text)
    request = launch(
        InstanceType="two.nics", ClientToken="t", MinCount=2, MaxCount=2, **specification("network-interface", A)
    )
    cloud.run("alice", "RunInstances", **request)
    assert [each["TagSet"] for each in interfaces(cloud)] == [[A]] * 4
    first = interfaces(cloud)[0]["NetworkInterfaceId"]
    cloud.run("alice", "DeleteTags", Resources=[first])
    cloud.run("alice", "RunInstances", **request)
    assert [each["TagSet"] for each in interfaces(cloud)] == [[], [A], [A], [A]]
    (described, *_) = launched(cloud, SubnetId="subnet-00000000", **specification("network-interface", B))
    (interface,) = described["NetworkInterfaces"]
    (shown,) = interfaces(cloud, NetworkInterfaceIds=[interface["NetworkInterfaceId"]])
    assert shown["TagSet"] == [B]


def test_a_launch_that_another_request_completes_gives_the_tags_too() -> None:
    """Whichever call of oned was the last of the process that began it."""
    count = 0
    while True:
        cloud = Cloud()
        request = launch(ClientToken="t", MinCount=1, MaxCount=1, **specification("network-interface", A))
        dying = DyingOned(cloud.backend, count)
        first = begin(cloud.call_in_new_process("alice", dying), **request)
        second = begin(cloud.call_as("alice"), **request)
        cloud.wait(STANDSTILL + 5)
        assert len(ids(second[0])) == 1
        assert [each["TagSet"] for each in interfaces(cloud)] == [[A]]
        if first:
            break
        count += 1
    assert count > 10


@pytest.mark.parametrize("nic", ["", 'NIC=[NETWORK_MODE="auto"]'])
def test_an_interface_that_is_not_there_at_the_launch_cannot_be_tagged_by_it(cloud: Cloud, nic: str) -> None:
    text = f'NAME="other"\nEC2_INSTANCE_TYPE="other"\nCPU="1"\nMEMORY="64"\n{nic}'
    cloud.as_user("alice", "one.template.allocate", text)
    before = len(cloud.changes)
    request = launch(InstanceType="other", MinCount=1, MaxCount=1, **specification("network-interface", A))
    assert cloud.refusal("alice", "RunInstances", **request).code == "InvalidParameterCombination"
    assert len(cloud.changes) == before
    assert cloud.run("alice", "RunInstances", **request, SubnetId="subnet-00000000")["Instances"]


def test_only_who_may_manage_the_instance_tags_its_interfaces(cloud: Cloud) -> None:
    instance_id = instance(cloud)
    named: dict[str, Any] = {"Resources": [interfaces(cloud)[0]["NetworkInterfaceId"]], "Tags": [A]}
    assert cloud.refusal("bob", "CreateTags", **named).code == "InvalidNetworkInterfaceID.NotFound"
    cloud.as_user("alice", "one.vm.chmod", int(instance_id[2:]), -1, -1, -1, 1, -1, -1, -1, -1, -1)
    for dry_run in (False, True):
        assert cloud.refusal("bob", "CreateTags", dry_run=dry_run, **named).code == "UnauthorizedOperation"
    assert interfaces(cloud)[0]["TagSet"] == []


def test_placement_groups_are_created_with_tags_and_change_them(cloud: Cloud) -> None:
    created = create(cloud, "apart", **specification("placement-group", A))
    group_id = created["GroupId"]
    assert created["Tags"] == [A]
    create(cloud, "plain", user="bob")
    cloud.run("alice", "CreateTags", Resources=[group_id], Tags=[B])
    assert groups(cloud, Filters=[{"Name": "tag:b", "Values": [""]}]) == [{**created, "Tags": [A, B]}]
    described = listed(cloud, Filters=[{"Name": "resource-type", "Values": ["placement-group"]}])
    assert described == [("placement-group", group_id, "Name"), ("placement-group", group_id, "b")] == listed(cloud)
    assert listed(cloud, Filters=[{"Name": "resource-id", "Values": [group_id]}]) == described
    cloud.run("alice", "DeleteTags", Resources=[group_id])
    assert ["Tags" in group for group in groups(cloud)] == [False]
    assert cloud.refusal("bob", "CreateTags", Resources=[group_id], Tags=[A]).code == "InvalidPlacementGroup.Unknown"


@pytest.mark.parametrize("action", ["CreateTags", "DeleteTags"])
def test_a_placement_group_that_instances_are_in_keeps_its_tags(cloud: Cloud, action: str) -> None:
    """OpenNebula refuses the change; nothing else of the request is changed either."""
    group = create(cloud, "apart", **specification("placement-group", A))
    parameters: dict[str, Any] = {"Tags": [{"Key": "Name"}]}
    (inside,) = launched(cloud, Placement={"GroupName": "apart"})
    before = len(cloud.changes)
    resources = [inside["InstanceId"], group["GroupId"]]
    for dry_run in (False, True):
        refused = cloud.refusal("alice", action, dry_run=dry_run, Resources=resources, **parameters)
        assert (refused.code, group["GroupId"] in refused.message) == ("IncorrectState", True)
    assert len(cloud.changes) == before
    assert groups(cloud) == [group]
    cloud.run("alice", "TerminateInstances", InstanceIds=[inside["InstanceId"]])
    cloud.wait(20)
    cloud.run("alice", action, Resources=[group["GroupId"]], **parameters)


def test_a_placement_group_that_an_instance_enters_meanwhile_keeps_its_tags(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = create(cloud, "apart")
    update = Session.vm_group_update

    async def launch_first(session: Session, group_id: int, text: str) -> None:
        text_of_group = f'VMGROUP=[VMGROUP_ID="{group_id}",ROLE="instances"]'
        await session.instantiate(0, "", True, text_of_group)
        await update(session, group_id, text)

    monkeypatch.setattr(Session, "vm_group_update", launch_first)
    with pytest.raises(EC2Error) as refused:
        cloud.run("alice", "CreateTags", Resources=[group["GroupId"]], Tags=[A])
    assert refused.value.code == "IncorrectState"
    assert groups(cloud) == [group]
