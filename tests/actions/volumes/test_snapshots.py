"""Snapshots: made of attached and of free volumes, shared, copied, and never half there."""

from __future__ import annotations

from typing import Any

import pytest

from econed.actions.volumes.chores import COPY_AGE
from econed.opennebula.pools import OwnerFilter
from econed.opennebula.session import Session
from tests.actions.volumes.test_volumes import attach, begin, image, instance, listed, look, show, snapshot, volume
from tests.support.awkward_texts import AWKWARD
from tests.support.cloud import Cloud
from tests.support.delayed_oned import DyingOned


def shown(cloud: Cloud, user: str = "alice", **more: Any) -> list[dict[str, Any]]:
    """Return what DescribeSnapshots lists."""
    return [dict(each) for each in cloud.run(user, "DescribeSnapshots", **more)["Snapshots"]]


def ids(cloud: Cloud, user: str = "alice", **more: Any) -> list[str]:
    """Return the ids that DescribeSnapshots lists."""
    return [each["SnapshotId"] for each in shown(cloud, user, **more)]


@pytest.mark.parametrize("attached", [False, True], ids=["free", "attached"])
def test_a_snapshot_is_pending_then_complete_and_remembers_its_volume(cloud: Cloud, attached: bool) -> None:
    made = volume(cloud, Size=2)
    if attached:
        attach(cloud, made, instance(cloud))
    tags = [{"ResourceType": "snapshot", "Tags": [{"Key": "when", "Value": "nightly"}]}]
    answer = cloud.run("alice", "CreateSnapshot", VolumeId=made, Description="of the data", TagSpecifications=tags)
    assert (answer["State"], answer["Progress"]) == ("pending", "0%")
    cloud.wait(5)
    (found,) = shown(cloud)
    assert found["SnapshotId"] == answer["SnapshotId"]
    assert (found["State"], found["Progress"], found["VolumeId"]) == ("completed", "100%", made)
    assert (found["VolumeSize"], found["Description"], found["Tags"]) == (2, "of the data", tags[0]["Tags"])
    assert found["OwnerId"] == f"{cloud.user('alice').id:012d}"
    assert answer["SnapshotId"].replace("snap", "vol") not in listed(cloud)
    assert show(cloud, made)["State"] == ("in-use" if attached else "available")


def test_a_snapshot_of_the_disk_of_an_instance(cloud: Cloud) -> None:
    instance(cloud)
    (root,) = listed(cloud)
    made = snapshot(cloud, root)
    (found,) = shown(cloud, SnapshotIds=[made])
    assert (found["VolumeId"], found["State"]) == (root, "completed")


def test_a_snapshot_has_nothing_of_its_volumes_tags_and_facts(cloud: Cloud) -> None:
    made = volume(cloud, TagSpecifications=[{"ResourceType": "volume", "Tags": [{"Key": "Name", "Value": "data"}]}])
    saved = snapshot(cloud, made)
    assert "Tags" not in shown(cloud)[0]
    assert image(cloud, saved).template.text("EBS_VOLUME") != "YES"
    assert [tag["ResourceId"] for tag in cloud.run("alice", "DescribeTags")["Tags"]] == [made]
    assert not [name for name, value in image(cloud, saved).template if not value], "gone, not emptied"


@pytest.mark.parametrize("text", AWKWARD.values(), ids=AWKWARD)
def test_a_description_and_a_tag_come_back_as_they_were_given(cloud: Cloud, text: str) -> None:
    tags = [{"ResourceType": "snapshot", "Tags": [{"Key": text, "Value": text}]}]
    made = snapshot(cloud, volume(cloud), Description=text, TagSpecifications=tags)
    (found,) = shown(cloud, SnapshotIds=[made])
    assert (found["Description"], found["Tags"]) == (text, tags[0]["Tags"])
    cloud.run("alice", "CreateTags", Resources=[made], Tags=[{"Key": "k", "Value": text}])
    told = cloud.run("alice", "DescribeTags", Filters=[{"Name": "resource-type", "Values": ["snapshot"]}])["Tags"]
    assert {tag["Key"]: tag["Value"] for tag in told} == {text: text, "k": text}


@pytest.mark.parametrize("attached", [False, True], ids=["free", "attached"])
@pytest.mark.parametrize("step", range(12))
def test_a_snapshot_whose_process_died_is_one_or_is_not_there_and_another_can_be_made(
    step: int, attached: bool
) -> None:
    cloud = Cloud()
    made = volume(cloud, TagSpecifications=[{"ResourceType": "volume", "Tags": [{"Key": "a", "Value": "b"}]}])
    if attached:
        attach(cloud, made, instance(cloud))
    volumes = listed(cloud)
    begin(cloud, DyingOned(cloud.backend, step, after=True), "CreateSnapshot", VolumeId=made)
    assert listed(cloud) == volumes
    left = ids(cloud)
    cloud.wait(5)
    again = cloud.run("alice", "CreateSnapshot", VolumeId=made)["SnapshotId"]
    cloud.wait(COPY_AGE + 10)
    look(cloud)
    assert listed(cloud) == volumes
    assert ids(cloud) == [*left, again]
    assert [(each["State"], "Tags" in each) for each in shown(cloud)] == [("completed", False)] * (len(left) + 1)


def test_a_volume_that_is_not_made_yet_or_whose_machine_is_starting_has_no_snapshot(cloud: Cloud) -> None:
    made = cloud.run("alice", "CreateVolume", AvailabilityZone="default", Size=1)["VolumeId"]
    assert show(cloud, made)["State"] == "creating"
    assert cloud.refusal("alice", "CreateSnapshot", VolumeId=made).code == "IncorrectState"
    cloud.wait(5)
    cloud.run("alice", "RunInstances", ImageId="ami-00000000", MinCount=1, MaxCount=1)
    root = listed(cloud)[-1]
    assert cloud.refusal("alice", "CreateSnapshot", VolumeId=root).code == "IncorrectState"


def test_a_dry_run_makes_no_snapshot(cloud: Cloud) -> None:
    made = volume(cloud)
    assert cloud.refusal("alice", "CreateSnapshot", dry_run=True, VolumeId=made).code == "DryRunOperation"
    assert ids(cloud) == []


def test_a_deleted_snapshot_is_gone_at_once(cloud: Cloud) -> None:
    made = snapshot(cloud, volume(cloud))
    cloud.run("alice", "DeleteSnapshot", SnapshotId=made)
    assert cloud.refusal("alice", "DescribeSnapshots", SnapshotIds=[made]).code == "InvalidSnapshot.NotFound"
    cloud.wait(10)
    assert ids(cloud) == []


def test_another_users_snapshot_is_not_there_until_it_is_shared_and_then_only_to_be_used(cloud: Cloud) -> None:
    made = snapshot(cloud, volume(cloud))
    tag: dict[str, Any] = {"Resources": [made], "Tags": [{"Key": "a", "Value": "b"}]}
    calls: list[tuple[str, dict[str, Any]]] = [
        ("DescribeSnapshots", {"SnapshotIds": [made]}),
        ("DeleteSnapshot", {"SnapshotId": made}),
        ("CreateVolume", {"SnapshotId": made, "AvailabilityZone": "default"}),
        ("CopySnapshot", {"SourceSnapshotId": made, "SourceRegion": "OpenNebula"}),
        ("CreateTags", tag),
    ]
    for action, parameters in calls:
        assert (cloud.refusal("bob", action, **parameters).code, action) == ("InvalidSnapshot.NotFound", action)
    add: dict[str, Any] = {"CreateVolumePermission": {"Add": [{"Group": "all"}]}}
    cloud.run("alice", "ModifySnapshotAttribute", SnapshotId=made, Attribute="createVolumePermission", **add)
    told = cloud.run("alice", "DescribeSnapshotAttribute", SnapshotId=made, Attribute="createVolumePermission")
    assert told["CreateVolumePermissions"] == [{"Group": "all"}]
    assert ids(cloud, "bob") == [made]
    assert ids(cloud, "bob", OwnerIds=["self"]) == []
    assert ids(cloud, "bob", RestorableByUserIds=["all"]) == [made]
    assert show(cloud, volume(cloud, "bob", SnapshotId=made), "bob")["SnapshotId"] == made
    assert cloud.refusal("bob", "DeleteSnapshot", SnapshotId=made).code == "UnauthorizedOperation"
    assert cloud.refusal("bob", "CreateTags", **tag).code == "UnauthorizedOperation"
    removed: dict[str, Any] = {"OperationType": "remove", "GroupNames": ["all"]}
    cloud.run("alice", "ModifySnapshotAttribute", SnapshotId=made, Attribute="createVolumePermission", **removed)
    assert ids(cloud, "bob") == []


def test_a_snapshot_is_not_shared_with_single_users(cloud: Cloud) -> None:
    made = snapshot(cloud, volume(cloud))
    alone: dict[str, Any] = {"CreateVolumePermission": {"Add": [{"UserId": "000000000003"}]}}
    refusal = cloud.refusal("alice", "ModifySnapshotAttribute", SnapshotId=made, **alone)
    assert refusal.code == "UnsupportedOperation"
    named: dict[str, Any] = {"OperationType": "add", "UserIds": ["000000000003"]}
    assert cloud.refusal("alice", "ModifySnapshotAttribute", SnapshotId=made, **named).code == "UnsupportedOperation"
    assert cloud.refusal("alice", "ModifySnapshotAttribute", SnapshotId=made).code == "MissingParameter"


def test_a_snapshot_is_not_shared_with_accounts_and_groups_that_do_not_exist(cloud: Cloud) -> None:
    """As Amazon says it, by the code that AMIs have."""
    made = snapshot(cloud, volume(cloud))
    for parameters in (
        {"CreateVolumePermission": {"Add": [{"UserId": "000000004711"}]}},
        {"CreateVolumePermission": {"Add": [{"Group": "friends"}]}},
        {"OperationType": "remove", "UserIds": ["bob"]},
        {"OperationType": "add", "GroupNames": ["friends"]},
    ):
        refusal = cloud.refusal("alice", "ModifySnapshotAttribute", SnapshotId=made, **parameters)
        assert (refusal.code, refusal.status) == ("InvalidAMIAttributeItemValue", 400)


def test_a_copy_of_a_snapshot_is_one_of_the_same_volume_with_a_description_of_its_own(cloud: Cloud) -> None:
    original = volume(cloud)
    made = snapshot(cloud, original, Description="first")
    asked: dict[str, Any] = {"SourceSnapshotId": made, "Description": "second"}
    region = cloud.run("alice", "DescribeRegions")["Regions"][0]["RegionName"]
    answer = cloud.run("alice", "CopySnapshot", SourceRegion=region, **asked)
    cloud.wait(5)
    (copy,) = shown(cloud, SnapshotIds=[answer["SnapshotId"]])
    assert (copy["Description"], copy["VolumeId"], copy["State"]) == ("second", original, "completed")
    assert cloud.refusal("alice", "CopySnapshot", SourceRegion="mars-1", **asked).code == "InvalidParameterValue"
    cloud.signed_region = "mars-1"
    assert cloud.run("alice", "CopySnapshot", SourceRegion="mars-1", **asked)["SnapshotId"]


def test_the_administrators_snapshots_are_amazons(cloud: Cloud) -> None:
    """Where they are shared; the administrator's own view has no alias for them."""
    number = cloud.oneadmin("one.image.allocate", 'NAME="base"\nTYPE="DATABLOCK"\nSIZE="1024"\nEBS_SNAPSHOT="YES"', 1)
    cloud.oneadmin("one.image.chmod", number, -1, -1, -1, 1, -1, -1, 1, -1, -1)
    cloud.wait(5)
    (theirs,) = shown(cloud, OwnerIds=["amazon"])
    assert (theirs["SnapshotId"], theirs["OwnerAlias"], theirs["OwnerId"]) == (f"snap-{number:08d}", "amazon", "0" * 12)
    assert ids(cloud, Filters=[{"Name": "owner-alias", "Values": ["amazon"]}]) == [theirs["SnapshotId"]]
    (own,) = cloud.run("oneadmin", "DescribeSnapshots", OwnerIds=["self"])["Snapshots"]
    assert "OwnerAlias" not in own


def test_snapshots_are_filtered_and_come_in_pages(cloud: Cloud) -> None:
    original = volume(cloud)
    first, second = snapshot(cloud, original, Description="one"), snapshot(cloud, original, Description="two")
    assert ids(cloud, Filters=[{"Name": "description", "Values": ["t*"]}]) == [second]
    assert ids(cloud, Filters=[{"Name": "volume-id", "Values": [original]}]) == [first, second]
    assert ids(cloud, Filters=[{"Name": "status", "Values": ["pending"]}]) == []
    assert ids(cloud, OwnerIds=["amazon"]) == []
    assert ids(cloud, OwnerIds=[str(cloud.user("alice").id)]) == [first, second]
    page = cloud.run("alice", "DescribeSnapshots", MaxResults=1)
    rest = cloud.run("alice", "DescribeSnapshots", MaxResults=1, NextToken=page["NextToken"])
    assert [each["SnapshotId"] for each in (*page["Snapshots"], *rest["Snapshots"])] == [first, second]


def test_ids_of_snapshots_that_are_none(cloud: Cloud) -> None:
    made = volume(cloud)
    none = made.replace("vol", "snap")
    assert cloud.refusal("alice", "DescribeSnapshots", SnapshotIds=[none]).code == "InvalidSnapshot.NotFound"
    assert cloud.refusal("alice", "DeleteSnapshot", SnapshotId=none).code == "InvalidSnapshot.NotFound"
    assert cloud.refusal("alice", "DeleteSnapshot", SnapshotId="snap-x").code == "InvalidSnapshotID.Malformed"
    assert cloud.result(Session(cloud.backend, "alice").images(OwnerFilter.MINE))
