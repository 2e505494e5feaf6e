"""Snapshots: created from attached and free volumes, shared, copied, and never visible half finished."""

from __future__ import annotations

from typing import Any

import pytest

from econed.actions.volumes.chores import COPY_AGE
from econed.opennebula.pools import OwnerFilter
from econed.opennebula.session import Session
from tests.actions.volumes.test_volumes import (
    attach,
    begin,
    image,
    instance,
    reconcile,
    show,
    snapshot,
    volume,
    volume_ids,
)
from tests.support.awkward_texts import AWKWARD
from tests.support.cloud import Cloud
from tests.support.delayed_oned import DyingOned


def described(cloud: Cloud, user: str = "alice", **more: Any) -> list[dict[str, Any]]:
    """Return the snapshots that DescribeSnapshots lists."""
    return [dict(item) for item in cloud.run(user, "DescribeSnapshots", **more)["Snapshots"]]


def snapshot_ids(cloud: Cloud, user: str = "alice", **more: Any) -> list[str]:
    """Return the ids that DescribeSnapshots lists."""
    return [item["SnapshotId"] for item in described(cloud, user, **more)]


@pytest.mark.parametrize("attached", [False, True], ids=["free", "attached"])
def test_a_snapshot_is_pending_then_completed_and_has_the_id_of_its_volume(cloud: Cloud, attached: bool) -> None:
    volume_id = volume(cloud, Size=2)
    if attached:
        attach(cloud, volume_id, instance(cloud))
    tags = [{"ResourceType": "snapshot", "Tags": [{"Key": "when", "Value": "nightly"}]}]
    response = cloud.run(
        "alice", "CreateSnapshot", VolumeId=volume_id, Description="of the data", TagSpecifications=tags
    )
    assert (response["State"], response["Progress"]) == ("pending", "0%")
    cloud.wait(5)
    (snapshot_view,) = described(cloud)
    assert snapshot_view["SnapshotId"] == response["SnapshotId"]
    assert (snapshot_view["State"], snapshot_view["Progress"], snapshot_view["VolumeId"]) == (
        "completed",
        "100%",
        volume_id,
    )
    assert (snapshot_view["VolumeSize"], snapshot_view["Description"], snapshot_view["Tags"]) == (
        2,
        "of the data",
        tags[0]["Tags"],
    )
    assert snapshot_view["OwnerId"] == f"{cloud.user('alice').id:012d}"
    assert response["SnapshotId"].replace("snap", "vol") not in volume_ids(cloud)
    assert show(cloud, volume_id)["State"] == ("in-use" if attached else "available")


def test_a_snapshot_is_created_from_the_disk_of_an_instance(cloud: Cloud) -> None:
    instance(cloud)
    (root_id,) = volume_ids(cloud)
    snapshot_id = snapshot(cloud, root_id)
    (snapshot_view,) = described(cloud, SnapshotIds=[snapshot_id])
    assert (snapshot_view["VolumeId"], snapshot_view["State"]) == (root_id, "completed")


def test_a_snapshot_has_none_of_the_tags_and_attributes_of_its_volume(cloud: Cloud) -> None:
    volume_id = volume(
        cloud, TagSpecifications=[{"ResourceType": "volume", "Tags": [{"Key": "Name", "Value": "data"}]}]
    )
    snapshot_id = snapshot(cloud, volume_id)
    assert "Tags" not in described(cloud)[0]
    assert image(cloud, snapshot_id).template.text("EBS_VOLUME") != "YES"
    assert [tag["ResourceId"] for tag in cloud.run("alice", "DescribeTags")["Tags"]] == [volume_id]
    assert not [name for name, value in image(cloud, snapshot_id).template if not value], "removed, not emptied"


@pytest.mark.parametrize("text", AWKWARD.values(), ids=AWKWARD)
def test_the_description_and_the_tags_of_a_snapshot_are_returned_unchanged(cloud: Cloud, text: str) -> None:
    tags = [{"ResourceType": "snapshot", "Tags": [{"Key": text, "Value": text}]}]
    snapshot_id = snapshot(cloud, volume(cloud), Description=text, TagSpecifications=tags)
    (snapshot_view,) = described(cloud, SnapshotIds=[snapshot_id])
    assert (snapshot_view["Description"], snapshot_view["Tags"]) == (text, tags[0]["Tags"])
    cloud.run("alice", "CreateTags", Resources=[snapshot_id], Tags=[{"Key": "k", "Value": text}])
    described_tags = cloud.run("alice", "DescribeTags", Filters=[{"Name": "resource-type", "Values": ["snapshot"]}])[
        "Tags"
    ]
    assert {tag["Key"]: tag["Value"] for tag in described_tags} == {text: text, "k": text}


@pytest.mark.parametrize("attached", [False, True], ids=["free", "attached"])
@pytest.mark.parametrize("step", range(12))
def test_a_snapshot_whose_process_died_is_finished_or_absent(step: int, attached: bool) -> None:
    cloud = Cloud()
    volume_id = volume(cloud, TagSpecifications=[{"ResourceType": "volume", "Tags": [{"Key": "a", "Value": "b"}]}])
    if attached:
        attach(cloud, volume_id, instance(cloud))
    volumes_before = volume_ids(cloud)
    begin(cloud, DyingOned(cloud.backend, step, after=True), "CreateSnapshot", VolumeId=volume_id)
    assert volume_ids(cloud) == volumes_before
    remaining_ids = snapshot_ids(cloud)
    cloud.wait(5)
    new_id = cloud.run("alice", "CreateSnapshot", VolumeId=volume_id)["SnapshotId"]
    cloud.wait(COPY_AGE + 10)
    reconcile(cloud)
    assert volume_ids(cloud) == volumes_before
    assert snapshot_ids(cloud) == [*remaining_ids, new_id]
    assert [(item["State"], "Tags" in item) for item in described(cloud)] == [("completed", False)] * (
        len(remaining_ids) + 1
    )


def test_no_snapshot_is_created_of_a_volume_that_is_being_created_or_whose_machine_is_starting(cloud: Cloud) -> None:
    volume_id = cloud.run("alice", "CreateVolume", AvailabilityZone="default", Size=1)["VolumeId"]
    assert show(cloud, volume_id)["State"] == "creating"
    assert cloud.refusal("alice", "CreateSnapshot", VolumeId=volume_id).code == "IncorrectState"
    cloud.wait(5)
    cloud.run("alice", "RunInstances", ImageId="ami-00000000", MinCount=1, MaxCount=1)
    root_id = volume_ids(cloud)[-1]
    assert cloud.refusal("alice", "CreateSnapshot", VolumeId=root_id).code == "IncorrectState"


def test_a_dry_run_creates_no_snapshot(cloud: Cloud) -> None:
    volume_id = volume(cloud)
    assert cloud.refusal("alice", "CreateSnapshot", dry_run=True, VolumeId=volume_id).code == "DryRunOperation"
    assert snapshot_ids(cloud) == []


def test_a_deleted_snapshot_is_not_found_immediately_afterwards(cloud: Cloud) -> None:
    snapshot_id = snapshot(cloud, volume(cloud))
    cloud.run("alice", "DeleteSnapshot", SnapshotId=snapshot_id)
    assert cloud.refusal("alice", "DescribeSnapshots", SnapshotIds=[snapshot_id]).code == "InvalidSnapshot.NotFound"
    cloud.wait(10)
    assert snapshot_ids(cloud) == []


def test_another_users_snapshot_is_not_found_until_it_is_shared_and_can_then_only_be_used(cloud: Cloud) -> None:
    snapshot_id = snapshot(cloud, volume(cloud))
    tag: dict[str, Any] = {"Resources": [snapshot_id], "Tags": [{"Key": "a", "Value": "b"}]}
    calls: list[tuple[str, dict[str, Any]]] = [
        ("DescribeSnapshots", {"SnapshotIds": [snapshot_id]}),
        ("DeleteSnapshot", {"SnapshotId": snapshot_id}),
        ("CreateVolume", {"SnapshotId": snapshot_id, "AvailabilityZone": "default"}),
        ("CopySnapshot", {"SourceSnapshotId": snapshot_id, "SourceRegion": "OpenNebula"}),
        ("CreateTags", tag),
    ]
    for action, parameters in calls:
        assert (cloud.refusal("bob", action, **parameters).code, action) == ("InvalidSnapshot.NotFound", action)
    add: dict[str, Any] = {"CreateVolumePermission": {"Add": [{"Group": "all"}]}}
    cloud.run("alice", "ModifySnapshotAttribute", SnapshotId=snapshot_id, Attribute="createVolumePermission", **add)
    response = cloud.run(
        "alice", "DescribeSnapshotAttribute", SnapshotId=snapshot_id, Attribute="createVolumePermission"
    )
    assert response["CreateVolumePermissions"] == [{"Group": "all"}]
    assert snapshot_ids(cloud, "bob") == [snapshot_id]
    assert snapshot_ids(cloud, "bob", OwnerIds=["self"]) == []
    assert snapshot_ids(cloud, "bob", RestorableByUserIds=["all"]) == [snapshot_id]
    assert show(cloud, volume(cloud, "bob", SnapshotId=snapshot_id), "bob")["SnapshotId"] == snapshot_id
    assert cloud.refusal("bob", "DeleteSnapshot", SnapshotId=snapshot_id).code == "UnauthorizedOperation"
    assert cloud.refusal("bob", "CreateTags", **tag).code == "UnauthorizedOperation"
    remove: dict[str, Any] = {"OperationType": "remove", "GroupNames": ["all"]}
    cloud.run("alice", "ModifySnapshotAttribute", SnapshotId=snapshot_id, Attribute="createVolumePermission", **remove)
    assert snapshot_ids(cloud, "bob") == []


def test_a_snapshot_is_not_shared_with_single_users(cloud: Cloud) -> None:
    snapshot_id = snapshot(cloud, volume(cloud))
    newer_form: dict[str, Any] = {"CreateVolumePermission": {"Add": [{"UserId": "000000000003"}]}}
    refusal = cloud.refusal("alice", "ModifySnapshotAttribute", SnapshotId=snapshot_id, **newer_form)
    assert refusal.code == "UnsupportedOperation"
    older_form: dict[str, Any] = {"OperationType": "add", "UserIds": ["000000000003"]}
    assert (
        cloud.refusal("alice", "ModifySnapshotAttribute", SnapshotId=snapshot_id, **older_form).code
        == "UnsupportedOperation"
    )
    assert cloud.refusal("alice", "ModifySnapshotAttribute", SnapshotId=snapshot_id).code == "MissingParameter"


def test_a_snapshot_is_not_shared_with_accounts_and_groups_that_do_not_exist(cloud: Cloud) -> None:
    """As on Amazon, with the error code for AMIs."""
    snapshot_id = snapshot(cloud, volume(cloud))
    for parameters in (
        {"CreateVolumePermission": {"Add": [{"UserId": "000000004711"}]}},
        {"CreateVolumePermission": {"Add": [{"Group": "friends"}]}},
        {"OperationType": "remove", "UserIds": ["bob"]},
        {"OperationType": "add", "GroupNames": ["friends"]},
    ):
        refusal = cloud.refusal("alice", "ModifySnapshotAttribute", SnapshotId=snapshot_id, **parameters)
        assert (refusal.code, refusal.status) == ("InvalidAMIAttributeItemValue", 400)


def test_a_copy_of_a_snapshot_has_the_same_volume_and_its_own_description(cloud: Cloud) -> None:
    source_id = volume(cloud)
    snapshot_id = snapshot(cloud, source_id, Description="first")
    parameters: dict[str, Any] = {"SourceSnapshotId": snapshot_id, "Description": "second"}
    region = cloud.run("alice", "DescribeRegions")["Regions"][0]["RegionName"]
    response = cloud.run("alice", "CopySnapshot", SourceRegion=region, **parameters)
    cloud.wait(5)
    (copy,) = described(cloud, SnapshotIds=[response["SnapshotId"]])
    assert (copy["Description"], copy["VolumeId"], copy["State"]) == ("second", source_id, "completed")
    assert cloud.refusal("alice", "CopySnapshot", SourceRegion="mars-1", **parameters).code == "InvalidParameterValue"
    cloud.signed_region = "mars-1"
    assert cloud.run("alice", "CopySnapshot", SourceRegion="mars-1", **parameters)["SnapshotId"]


def test_the_administrators_snapshots_have_the_owner_alias_amazon(cloud: Cloud) -> None:
    """If they are shared; the administrator sees no alias on them."""
    image_id = cloud.oneadmin("one.image.allocate", 'NAME="base"\nTYPE="DATABLOCK"\nSIZE="1024"\nEBS_SNAPSHOT="YES"', 1)
    cloud.oneadmin("one.image.chmod", image_id, -1, -1, -1, 1, -1, -1, 1, -1, -1)
    cloud.wait(5)
    (shared,) = described(cloud, OwnerIds=["amazon"])
    assert (shared["SnapshotId"], shared["OwnerAlias"], shared["OwnerId"]) == (
        f"snap-{image_id:08d}",
        "amazon",
        "0" * 12,
    )
    assert snapshot_ids(cloud, Filters=[{"Name": "owner-alias", "Values": ["amazon"]}]) == [shared["SnapshotId"]]
    (own_view,) = cloud.run("oneadmin", "DescribeSnapshots", OwnerIds=["self"])["Snapshots"]
    assert "OwnerAlias" not in own_view


def test_snapshots_are_filtered_and_paginated(cloud: Cloud) -> None:
    source_id = volume(cloud)
    first_id, second_id = snapshot(cloud, source_id, Description="one"), snapshot(cloud, source_id, Description="two")
    assert snapshot_ids(cloud, Filters=[{"Name": "description", "Values": ["t*"]}]) == [second_id]
    assert snapshot_ids(cloud, Filters=[{"Name": "volume-id", "Values": [source_id]}]) == [first_id, second_id]
    assert snapshot_ids(cloud, Filters=[{"Name": "status", "Values": ["pending"]}]) == []
    assert snapshot_ids(cloud, OwnerIds=["amazon"]) == []
    assert snapshot_ids(cloud, OwnerIds=[str(cloud.user("alice").id)]) == [first_id, second_id]
    page = cloud.run("alice", "DescribeSnapshots", MaxResults=1)
    second_page = cloud.run("alice", "DescribeSnapshots", MaxResults=1, NextToken=page["NextToken"])
    assert [item["SnapshotId"] for item in (*page["Snapshots"], *second_page["Snapshots"])] == [first_id, second_id]


def test_an_image_that_is_no_snapshot_is_not_found(cloud: Cloud) -> None:
    volume_id = volume(cloud)
    wrong_id = volume_id.replace("vol", "snap")
    assert cloud.refusal("alice", "DescribeSnapshots", SnapshotIds=[wrong_id]).code == "InvalidSnapshot.NotFound"
    assert cloud.refusal("alice", "DeleteSnapshot", SnapshotId=wrong_id).code == "InvalidSnapshot.NotFound"
    assert cloud.refusal("alice", "DeleteSnapshot", SnapshotId="snap-x").code == "InvalidSnapshotID.Malformed"
    assert cloud.result(Session(cloud.backend, "alice").images(OwnerFilter.MINE))
