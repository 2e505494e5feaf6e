"""Volumes and snapshots of the Ruby server, as a real OpenNebula 5.12 stores them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from econed.opennebula.session import Session
from tests.actions.volumes.test_volumes import attach, image, instance, reconcile, show, snapshot, volume, volume_ids
from tests.support.cloud import Cloud

LEGACY = Path(__file__).parents[2] / "data" / "legacy"
ATTACHED_NAME, FREE_NAME = "ec2-08b182b4-fbd9-44d0-96ab-3a5736efaf93", "ec2-b74e5e43-2903-4c99-b649-04cbd7e1024e"
SNAPSHOT_NAME = "nightly"


@pytest.fixture
def legacy(cloud: Cloud) -> dict[str, str]:
    """Create the Ruby server's data blocks in a cloud, one attached; return the digits of their ids by name."""
    ids_by_name: dict[str, str] = {}
    instance_id = instance(cloud)
    for element in etree.parse(str(LEGACY / "imagepool.xml")).getroot().iterchildren("IMAGE"):
        if element.findtext("TYPE") != "2":
            continue
        name, size = element.findtext("NAME") or "", element.findtext("SIZE")
        text = f'NAME="{name}"\nTYPE="DATABLOCK"\nSIZE="{size}"\nFSTYPE="ext3"\nPERSISTENT="YES"'
        image_id = cloud.as_user("alice", "one.image.allocate", text, 1)
        attributes = element.find("TEMPLATE")
        assert attributes is not None
        for value in attributes.iter("INSTANCE_ID"):
            value.text = instance_id
        cloud.as_user("alice", "one.image.update", image_id, etree.tostring(attributes, encoding="unicode"), 1)
        ids_by_name[name] = f"{image_id:08d}"
    cloud.wait(5)
    cloud.as_user(
        "alice",
        "one.vm.attach",
        int(instance_id[2:]),
        f'DISK=[IMAGE_ID="{int(ids_by_name[ATTACHED_NAME])}",TARGET="sdh"]',
    )
    cloud.wait(5)
    return {**ids_by_name, "instance": instance_id}


def test_an_attached_volume_of_the_ruby_server_is_shown_unchanged(cloud: Cloud, legacy: dict[str, str]) -> None:
    volume_view = show(cloud, f"vol-{legacy[ATTACHED_NAME]}")
    assert (volume_view["Size"], volume_view["State"], volume_view["AvailabilityZone"]) == (1, "in-use", "default")
    assert volume_view["Tags"] == [{"Key": "ROLE", "Value": "data"}]
    (attachment,) = volume_view["Attachments"]
    assert (attachment["InstanceId"], attachment["Device"], attachment["State"]) == (
        legacy["instance"],
        "/dev/sdh",
        "attached",
    )
    assert attachment["AttachTime"].timestamp() == 1795336761
    assert attachment["DeleteOnTermination"] is False


def test_a_free_volume_of_the_ruby_server_is_available(cloud: Cloud, legacy: dict[str, str]) -> None:
    volume_view = show(cloud, f"vol-{legacy[FREE_NAME]}")
    assert (volume_view["Size"], volume_view["State"], volume_view["Attachments"], "Tags" in volume_view) == (
        2,
        "available",
        [],
        False,
    )
    assert volume_view["AvailabilityZone"] == "default"


def test_a_stale_hint_of_an_attachment_is_ignored(cloud: Cloud, legacy: dict[str, str]) -> None:
    """The Ruby server's hint remained on volumes that were detached in OpenNebula."""
    hint = 'EBS=[INSTANCE_ID="i-00000099",DEVICE="/dev/sdq",ATTACH_TIME="5"]'
    cloud.as_user("alice", "one.image.update", int(legacy[FREE_NAME]), hint, 1)
    assert show(cloud, f"vol-{legacy[FREE_NAME]}")["Attachments"] == []
    attach(cloud, f"vol-{legacy[FREE_NAME]}", legacy["instance"], "/dev/sdj")
    assert show(cloud, f"vol-{legacy[FREE_NAME]}")["Attachments"][0]["Device"] == "/dev/sdj"


def test_volumes_are_created_from_a_snapshot_of_the_ruby_server(cloud: Cloud, legacy: dict[str, str]) -> None:
    (snapshot_view,) = cloud.run("alice", "DescribeSnapshots")["Snapshots"]
    assert (snapshot_view["SnapshotId"], snapshot_view["State"], snapshot_view["VolumeSize"]) == (
        f"snap-{legacy[SNAPSHOT_NAME]}",
        "completed",
        2,
    )
    assert snapshot_view["VolumeId"] == "vol-ffffffff"
    volume_id = volume(cloud, Size=2, SnapshotId=snapshot_view["SnapshotId"])
    assert show(cloud, volume_id)["SnapshotId"] == snapshot_view["SnapshotId"]
    assert [item["SnapshotId"] for item in cloud.run("alice", "DescribeSnapshots")["Snapshots"]] == [
        snapshot_view["SnapshotId"]
    ]


def test_volumes_of_the_ruby_server_are_tagged_copied_detached_and_deleted(
    cloud: Cloud, legacy: dict[str, str]
) -> None:
    attached_id, free_id = f"vol-{legacy[ATTACHED_NAME]}", f"vol-{legacy[FREE_NAME]}"
    cloud.run("alice", "CreateTags", Resources=[attached_id], Tags=[{"Key": "role", "Value": "new"}])
    assert {"Key": "ROLE", "Value": "data"} in show(cloud, attached_id)["Tags"]
    snapshot_id = snapshot(cloud, attached_id)
    cloud.run("alice", "DetachVolume", VolumeId=attached_id, InstanceId=legacy["instance"], Device="/dev/sdh")
    cloud.wait(5)
    reconcile(cloud)
    assert show(cloud, attached_id)["State"] == "available"
    assert image(cloud, attached_id).name == ATTACHED_NAME
    for volume_id in (attached_id, free_id):
        cloud.run("alice", "DeleteVolume", VolumeId=volume_id)
    for deleted_id in (snapshot_id, f"snap-{legacy[SNAPSHOT_NAME]}"):
        cloud.run("alice", "DeleteSnapshot", SnapshotId=deleted_id)
    cloud.wait(10)
    assert cloud.run("alice", "DescribeSnapshots")["Snapshots"] == []
    assert volume_ids(cloud, Filters=[{"Name": "status", "Values": ["available"]}]) == []
    assert cloud.result(Session(cloud.backend, "alice").images(-3)) == ()


def test_the_tags_of_a_volume_of_the_ruby_server_are_listed(cloud: Cloud, legacy: dict[str, str]) -> None:
    tags: list[dict[str, Any]] = cloud.run("alice", "DescribeTags")["Tags"]
    assert [(tag["ResourceId"], tag["ResourceType"], tag["Key"], tag["Value"]) for tag in tags] == [
        (f"vol-{legacy[ATTACHED_NAME]}", "volume", "ROLE", "data")
    ]
