"""Placement groups: creating, listing and deleting them, and running instances in them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.actions.instances.test_launch_networks import launch, launched
from tests.support.cloud import Cloud


@pytest.fixture(params=["5.12", "6.4", "7.4"])
def cloud(request: pytest.FixtureRequest) -> Cloud:
    return Cloud(version=request.param)


def create(cloud: Cloud, name: str, strategy: str = "spread", user: str = "alice", **parameters: Any) -> dict[str, Any]:
    """Create a placement group and return it."""
    created = cloud.run(user, "CreatePlacementGroup", GroupName=name, Strategy=strategy, **parameters)
    return dict(created["PlacementGroup"])


def groups(cloud: Cloud, user: str = "alice", **parameters: Any) -> list[dict[str, Any]]:
    """Return the placement groups that a user sees."""
    return list(cloud.run(user, "DescribePlacementGroups", **parameters)["PlacementGroups"])


def hosts(cloud: Cloud) -> dict[str, str]:
    """Return the hosts of alice's instances by instance id; empty while the scheduler has found none."""
    machines = cloud.result(cloud.call_as("alice").session.vms(range(20)))
    return {f"i-{machine.id:08d}": machine.hostname for machine in machines}


def test_a_placement_group_is_a_vm_group_with_one_role(cloud: Cloud) -> None:
    spread = create(cloud, "apart")
    assert spread == {
        "GroupName": "apart",
        "GroupId": "pg-00000000",
        "GroupArn": "arn:aws:ec2:OpenNebula:000000000002:placement-group/apart",
        "State": "available",
        "Strategy": "spread",
        "SpreadLevel": "host",
    }
    cluster = cloud.run("alice", "CreatePlacementGroup", GroupName="together")["PlacementGroup"]
    assert (cluster["Strategy"], "SpreadLevel" in cluster) == ("cluster", False)
    assert groups(cloud) == [spread, cluster]
    document = cloud.as_user("alice", "one.vmgroup.info", 1)
    assert "<NAME><![CDATA[instances]]></NAME><POLICY><![CDATA[AFFINED]]></POLICY>" in document


def test_instances_of_a_spread_group_run_on_different_hosts(cloud: Cloud) -> None:
    cloud.oneadmin("one.host.allocate", "second", "dummy", "dummy", 0)
    cloud.wait(5)
    create(cloud, "apart")
    instances = launched(cloud, 2, Placement={"GroupName": "apart"})
    assert [instance["Placement"]["GroupName"] for instance in instances] == ["apart", "apart"]
    cloud.wait(20)
    assert len({*hosts(cloud).values()} - {""}) == 2


def test_instances_of_a_cluster_group_run_on_one_host(cloud: Cloud) -> None:
    cloud.oneadmin("one.host.allocate", "second", "dummy", "dummy", 0)
    cloud.wait(5)
    group_id = create(cloud, "together", "cluster")["GroupId"]
    launched(cloud, 3, Placement={"GroupId": group_id})
    cloud.wait(20)
    (host,) = {*hosts(cloud).values()}
    assert host


def test_an_instance_for_which_there_is_no_further_host_stays_pending(cloud: Cloud) -> None:
    """OpenNebula places it when there is one; Amazon would refuse it."""
    create(cloud, "apart")
    instances = launched(cloud, 5, Placement={"GroupName": "apart"})
    cloud.wait(30)
    ids = [instance["InstanceId"] for instance in instances]
    (reservation,) = cloud.run("alice", "DescribeInstances", InstanceIds=ids)["Reservations"]
    states = [instance["State"]["Name"] for instance in reservation["Instances"]]
    used = [host for host in hosts(cloud).values() if host]
    assert len(set(used)) == len(used) == states.count("running")
    assert states.count("pending") == 5 - len(used) > 0


def test_instances_are_selected_by_their_placement_group(cloud: Cloud) -> None:
    create(cloud, "apart")
    (inside,) = launched(cloud, Placement={"GroupName": "apart"})
    launched(cloud)
    filters = [{"Name": "placement-group-name", "Values": ["apart"]}]
    (reservation,) = cloud.run("alice", "DescribeInstances", Filters=filters)["Reservations"]
    assert [instance["InstanceId"] for instance in reservation["Instances"]] == [inside["InstanceId"]]


def test_a_group_in_use_is_not_deleted(cloud: Cloud) -> None:
    """OpenNebula would delete it."""
    create(cloud, "apart")
    (instance,) = launched(cloud, Placement={"GroupName": "apart"})
    before = len(cloud.changes)
    assert cloud.refusal("alice", "DeletePlacementGroup", GroupName="apart").code == "InvalidPlacementGroup.InUse"
    assert len(cloud.changes) == before
    cloud.run("alice", "TerminateInstances", InstanceIds=[instance["InstanceId"]])
    cloud.wait(20)
    cloud.run("alice", "DeletePlacementGroup", GroupName="apart")
    assert groups(cloud) == []
    assert cloud.refusal("alice", "DeletePlacementGroup", GroupName="apart").code == "InvalidPlacementGroup.Unknown"


def test_names_are_unique_for_each_owner(cloud: Cloud) -> None:
    """Also among VM groups that are no placement groups."""
    create(cloud, "apart")
    assert create(cloud, "apart", user="bob")["GroupId"] == "pg-00000001"
    cloud.as_user("alice", "one.vmgroup.allocate", 'NAME="other"\nROLE=[NAME="a"]\nROLE=[NAME="b"]')
    for name in ("apart", "other"):
        refusal = cloud.refusal("alice", "CreatePlacementGroup", GroupName=name)
        assert refusal.code == "InvalidPlacementGroup.Duplicate"


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"GroupName": ""}, "MissingParameter"),
        ({"GroupName": " x"}, "InvalidParameterValue"),
        ({"GroupName": "x" * 129}, "InvalidParameterValue"),
        ({"GroupName": "a\\"}, "InvalidParameterValue"),
        ({"GroupName": "a\x01"}, "InvalidParameterValue"),
        ({"GroupName": "p", "Strategy": "partition"}, "UnsupportedOperation"),
        ({"GroupName": "p", "Strategy": "nonsense"}, "InvalidParameterValue"),
        ({"GroupName": "p", "Strategy": "spread", "SpreadLevel": "rack"}, "UnsupportedOperation"),
        ({"GroupName": "p", "PartitionCount": 2}, "UnsupportedOperation"),
    ],
)
def test_what_cannot_be_is_refused(cloud: Cloud, parameters: dict[str, Any], code: str) -> None:
    """OpenNebula takes a policy that it does not know."""
    before = len(cloud.changes)
    assert cloud.refusal("alice", "CreatePlacementGroup", **parameters).code == code
    assert len(cloud.changes) == before


def test_vm_groups_that_say_more_than_a_placement_group_are_none(cloud: Cloud) -> None:
    """One that was made in OpenNebula and says the same is one."""
    for name, roles in (
        ("two", 'ROLE=[NAME="a",POLICY="AFFINED"]\nROLE=[NAME="b"]'),
        ("none", 'ROLE=[NAME="a",POLICY="NONE"]'),
        ("unknown", 'ROLE=[NAME="a",POLICY="WHATEVER"]'),
        ("empty", ""),
        ("plain", 'ROLE=[NAME="the role",POLICY="anti_affined"]'),
    ):
        cloud.as_user("alice", "one.vmgroup.allocate", f'NAME="{name}"\n{roles}')
    assert [(group["GroupName"], group["Strategy"]) for group in groups(cloud)] == [("plain", "spread")]
    (instance,) = launched(cloud, Placement={"GroupName": "plain"})
    assert instance["Placement"]["GroupName"] == "plain"
    parameters = launch(Placement={"GroupName": "two"})
    refusal = cloud.refusal("alice", "RunInstances", **parameters, MinCount=1, MaxCount=1)
    assert refusal.code == "InvalidPlacementGroup.Unknown"


def test_groups_are_listed_by_names_ids_and_filters(cloud: Cloud) -> None:
    apart, together = create(cloud, "apart"), create(cloud, "together", "cluster")
    assert groups(cloud, GroupNames=["together"]) == [together]
    assert groups(cloud, GroupIds=["pg-00000000"]) == [apart]
    for name, value in (
        ("group-name", "apart"),
        ("strategy", "spread"),
        ("group-arn", "*apart"),
        ("group-id", "pg-*0"),
    ):
        assert groups(cloud, Filters=[{"Name": name, "Values": [value]}]) == [apart]
    assert groups(cloud, Filters=[{"Name": "state", "Values": ["deleted"]}]) == []
    refusals: tuple[tuple[dict[str, Any], str], ...] = (
        ({"GroupNames": ["unknown"]}, "InvalidPlacementGroup.Unknown"),
        ({"GroupIds": ["pg-00000099"]}, "InvalidPlacementGroup.Unknown"),
        ({"GroupIds": ["apart"]}, "InvalidPlacementGroupId.Malformed"),
    )
    for parameters, code in refusals:
        assert cloud.refusal("alice", "DescribePlacementGroups", **parameters).code == code


def test_a_group_of_another_user_is_used_if_it_is_shared_but_not_deleted(cloud: Cloud) -> None:
    """The caller's own group has precedence."""
    create(cloud, "shared", user="bob")
    assert groups(cloud) == []
    parameters = launch(Placement={"GroupName": "shared"}, MinCount=1, MaxCount=1)
    assert cloud.refusal("alice", "RunInstances", **parameters).code == "InvalidPlacementGroup.Unknown"
    cloud.as_user("bob", "one.vmgroup.chmod", 0, -1, -1, -1, 1, *(-1,) * 5)
    (shared,) = groups(cloud)
    assert shared["GroupArn"].split(":")[4] == "000000000003"
    launched(cloud, Placement={"GroupName": "shared"})
    cloud.run("alice", "TerminateInstances", InstanceIds=["i-00000000"])
    cloud.wait(20)
    before = len(cloud.changes)
    assert cloud.refusal("alice", "DeletePlacementGroup", GroupName="shared").code == "UnauthorizedOperation"
    assert [call.method for call in cloud.changes[before:] if call.ok] == []
    own = create(cloud, "shared")
    assert groups(cloud, GroupNames=["shared"]) == [own]


def test_a_dry_run_changes_nothing(cloud: Cloud) -> None:
    assert cloud.refusal("alice", "CreatePlacementGroup", dry_run=True, GroupName="p").code == "DryRunOperation"
    create(cloud, "p")
    assert cloud.refusal("alice", "DeletePlacementGroup", dry_run=True, GroupName="p").code == "DryRunOperation"
    assert [group["GroupName"] for group in groups(cloud)] == ["p"]
