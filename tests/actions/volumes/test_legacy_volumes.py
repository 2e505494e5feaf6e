"""Volumes and snapshots of the Ruby server, as a real 5.12 holds them: read, used, changed and given back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from econed.opennebula.session import Session
from tests.actions.volumes.test_volumes import attach, image, instance, listed, look, show, snapshot, volume
from tests.support.cloud import Cloud

LEGACY = Path(__file__).parents[2] / "data" / "legacy"
ATTACHED, FREE = "ec2-08b182b4-fbd9-44d0-96ab-3a5736efaf93", "ec2-b74e5e43-2903-4c99-b649-04cbd7e1024e"
NIGHTLY = "nightly"


@pytest.fixture
def old(cloud: Cloud) -> dict[str, str]:
    """Put the old server's data blocks into a cloud, the attached one attached; return their numbers by name."""
    numbers: dict[str, str] = {}
    on = instance(cloud)
    for each in etree.parse(str(LEGACY / "imagepool.xml")).getroot().iterchildren("IMAGE"):
        if each.findtext("TYPE") != "2":
            continue
        name, size = each.findtext("NAME") or "", each.findtext("SIZE")
        text = f'NAME="{name}"\nTYPE="DATABLOCK"\nSIZE="{size}"\nFSTYPE="ext3"\nPERSISTENT="YES"'
        number = cloud.as_user("alice", "one.image.allocate", text, 1)
        kept = each.find("TEMPLATE")
        assert kept is not None
        for value in kept.iter("INSTANCE_ID"):
            value.text = on
        cloud.as_user("alice", "one.image.update", number, etree.tostring(kept, encoding="unicode"), 1)
        numbers[name] = f"{number:08d}"
    cloud.wait(5)
    cloud.as_user("alice", "one.vm.attach", int(on[2:]), f'DISK=[IMAGE_ID="{int(numbers[ATTACHED])}",TARGET="sdh"]')
    cloud.wait(5)
    return {**numbers, "instance": on}


def test_an_old_volume_that_is_attached_is_shown_as_it_was(cloud: Cloud, old: dict[str, str]) -> None:
    found = show(cloud, f"vol-{old[ATTACHED]}")
    assert (found["Size"], found["State"], found["AvailabilityZone"]) == (1, "in-use", "default")
    assert found["Tags"] == [{"Key": "ROLE", "Value": "data"}]
    (attached,) = found["Attachments"]
    assert (attached["InstanceId"], attached["Device"], attached["State"]) == (old["instance"], "/dev/sdh", "attached")
    assert attached["AttachTime"].timestamp() == 1795336761
    assert attached["DeleteOnTermination"] is False


def test_an_old_volume_that_is_free_is_available(cloud: Cloud, old: dict[str, str]) -> None:
    found = show(cloud, f"vol-{old[FREE]}")
    assert (found["Size"], found["State"], found["Attachments"], "Tags" in found) == (2, "available", [], False)
    assert found["AvailabilityZone"] == "default"


def test_a_stale_hint_of_an_attachment_is_not_believed(cloud: Cloud, old: dict[str, str]) -> None:
    """The Ruby server left its hint where a volume was detached in OpenNebula."""
    hint = 'EBS=[INSTANCE_ID="i-00000099",DEVICE="/dev/sdq",ATTACH_TIME="5"]'
    cloud.as_user("alice", "one.image.update", int(old[FREE]), hint, 1)
    assert show(cloud, f"vol-{old[FREE]}")["Attachments"] == []
    attach(cloud, f"vol-{old[FREE]}", old["instance"], "/dev/sdj")
    assert show(cloud, f"vol-{old[FREE]}")["Attachments"][0]["Device"] == "/dev/sdj"


def test_an_old_snapshot_is_complete_and_makes_volumes(cloud: Cloud, old: dict[str, str]) -> None:
    (found,) = cloud.run("alice", "DescribeSnapshots")["Snapshots"]
    assert (found["SnapshotId"], found["State"], found["VolumeSize"]) == (f"snap-{old[NIGHTLY]}", "completed", 2)
    assert found["VolumeId"] == "vol-ffffffff"
    made = volume(cloud, Size=2, SnapshotId=found["SnapshotId"])
    assert show(cloud, made)["SnapshotId"] == found["SnapshotId"]
    assert [each["SnapshotId"] for each in cloud.run("alice", "DescribeSnapshots")["Snapshots"]] == [
        found["SnapshotId"]
    ]


def test_old_volumes_are_used_changed_and_released_without_loss(cloud: Cloud, old: dict[str, str]) -> None:
    attached, free = f"vol-{old[ATTACHED]}", f"vol-{old[FREE]}"
    cloud.run("alice", "CreateTags", Resources=[attached], Tags=[{"Key": "role", "Value": "new"}])
    assert {"Key": "ROLE", "Value": "data"} in show(cloud, attached)["Tags"]
    saved = snapshot(cloud, attached)
    cloud.run("alice", "DetachVolume", VolumeId=attached, InstanceId=old["instance"], Device="/dev/sdh")
    cloud.wait(5)
    look(cloud)
    assert show(cloud, attached)["State"] == "available"
    assert image(cloud, attached).name == ATTACHED
    for each in (attached, free):
        cloud.run("alice", "DeleteVolume", VolumeId=each)
    for each in (saved, f"snap-{old[NIGHTLY]}"):
        cloud.run("alice", "DeleteSnapshot", SnapshotId=each)
    cloud.wait(10)
    assert cloud.run("alice", "DescribeSnapshots")["Snapshots"] == []
    assert listed(cloud, Filters=[{"Name": "status", "Values": ["available"]}]) == []
    assert cloud.result(Session(cloud.backend, "alice").images(-3)) == ()


def test_the_tags_of_an_old_volume_are_listed_with_the_others(cloud: Cloud, old: dict[str, str]) -> None:
    found: list[dict[str, Any]] = cloud.run("alice", "DescribeTags")["Tags"]
    assert [(each["ResourceId"], each["ResourceType"], each["Key"], each["Value"]) for each in found] == [
        (f"vol-{old[ATTACHED]}", "volume", "ROLE", "data")
    ]
