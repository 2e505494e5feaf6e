"""Volumes and snapshots by boto3, including volumes created with an instance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.e2e.waiting import QUICK, attached, described, wait, wait_for
from tests.support.clients import refusal
from tests.support.econed_process import Person
from tests.support.furnished_cloud import MAX_WAIT, FurnishedCloud
from tests.support.processes import until


@pytest.fixture
def volume(cloud: FurnishedCloud, ec2: Any) -> Iterator[Callable[..., str]]:
    """Create volumes of alice's and wait until they are available; delete them after the test."""
    created_ids: list[str] = []

    def make(**parameters: Any) -> str:
        arguments = {
            "AvailabilityZone": cloud.zone,
            **({} if "SnapshotId" in parameters else {"Size": 1}),
            **parameters,
        }
        created_ids.append(ec2.create_volume(**arguments)["VolumeId"])
        wait_for(ec2, "volume_available", VolumeIds=[created_ids[-1]])
        return created_ids[-1]

    yield make
    for volume_id in created_ids:
        try:
            wait_for(ec2, "volume_available", VolumeIds=[volume_id])
            ec2.delete_volume(VolumeId=volume_id)
        except ClientError as error:
            assert refusal(error)[0] == "InvalidVolume.NotFound"


def _described_volume(ec2: Any, volume_id: str) -> dict[str, Any]:
    (volume,) = ec2.describe_volumes(VolumeIds=[volume_id])["Volumes"]
    return dict(volume)


def _running(ec2: Any, launch: Any) -> str:
    (instance,) = launch()
    wait(ec2, "instance_running", [instance["InstanceId"]])
    return str(instance["InstanceId"])


def test_a_volume_is_created_attached_detached_and_deleted(
    cloud: FurnishedCloud, alice: Person, ec2: Any, launch: Any
) -> None:
    """In OpenNebula the volume is a persistent datablock of the user, attached as the requested device."""
    tags = [{"ResourceType": "volume", "Tags": [{"Key": "Name", "Value": "data"}]}]
    created = ec2.create_volume(AvailabilityZone=cloud.zone, Size=2, VolumeType="gp3", TagSpecifications=tags)
    volume_id = created["VolumeId"]
    assert (created["Size"], created["AvailabilityZone"], created["VolumeType"]) == (2, cloud.zone, "gp3")
    assert created["State"] in ("creating", "available")
    wait_for(ec2, "volume_available", VolumeIds=[volume_id])
    image = cloud.admin.document("one.image.info", int(volume_id[4:]), False)
    values = [image.findtext(name) for name in ("UID", "TYPE", "PERSISTENT", "SIZE")]
    assert values == [str(alice.id), "2", "1", "2048"]
    free = _described_volume(ec2, volume_id)
    assert (free["State"], free["Attachments"], free["Tags"]) == ("available", [], tags[0]["Tags"])

    instance = _running(ec2, launch)
    response = ec2.attach_volume(VolumeId=volume_id, InstanceId=instance, Device="/dev/sdf")
    assert (response["State"], response["Device"], response["InstanceId"]) == ("attaching", "/dev/sdf", instance)
    wait_for(ec2, "volume_in_use", VolumeIds=[volume_id])
    (there,) = attached(ec2, volume_id)["Attachments"]
    assert (there["InstanceId"], there["Device"], there["DeleteOnTermination"]) == (instance, "/dev/sdf", False)
    (disk,) = cloud.vm(int(instance[2:])).findall(f"TEMPLATE/DISK[IMAGE_ID='{int(volume_id[4:])}']")
    assert str(disk.findtext("TARGET")).endswith("f")
    (described_instance,) = described(ec2, instance)
    devices = {
        mapping["DeviceName"]: mapping["Ebs"]["VolumeId"] for mapping in described_instance["BlockDeviceMappings"]
    }
    assert devices["/dev/sdf"] == volume_id
    with pytest.raises(ClientError) as raised:
        ec2.delete_volume(VolumeId=volume_id)
    assert refusal(raised.value) == ("VolumeInUse", 400)

    assert ec2.detach_volume(VolumeId=volume_id)["State"] == "detaching"
    wait_for(ec2, "volume_available", VolumeIds=[volume_id])
    assert _described_volume(ec2, volume_id)["Attachments"] == []
    ec2.delete_volume(VolumeId=volume_id)
    wait_for(ec2, "volume_deleted", VolumeIds=[volume_id])
    with pytest.raises(ClientError) as raised:
        ec2.describe_volumes(VolumeIds=[volume_id])
    assert refusal(raised.value) == ("InvalidVolume.NotFound", 400)


def test_snapshots_are_created_of_free_and_of_attached_volumes(ec2: Any, launch: Any, volume: Any) -> None:
    """Each becomes completed, and another volume can be created from it."""
    free, used = volume(), volume(Size=2)
    instance = _running(ec2, launch)
    ec2.attach_volume(VolumeId=used, InstanceId=instance, Device="/dev/sdg")
    attached(ec2, used)
    snapshots = [ec2.create_snapshot(VolumeId=volume_id, Description=f"of {volume_id}") for volume_id in (free, used)]
    ids = [snapshot["SnapshotId"] for snapshot in snapshots]
    wait_for(ec2, "snapshot_completed", SnapshotIds=ids)
    described_snapshots = ec2.describe_snapshots(SnapshotIds=ids)["Snapshots"]
    assert [
        (snapshot["VolumeId"], snapshot["VolumeSize"], snapshot["Description"], snapshot["Progress"])
        for snapshot in described_snapshots
    ] == [
        (free, 1, f"of {free}", "100%"),
        (used, 2, f"of {used}", "100%"),
    ]
    region = ec2.describe_regions()["Regions"][0]["RegionName"]
    ids.append(ec2.copy_snapshot(SourceSnapshotId=ids[0], SourceRegion=region)["SnapshotId"])
    wait_for(ec2, "snapshot_completed", SnapshotIds=ids)

    restored = volume(SnapshotId=ids[1])
    assert (_described_volume(ec2, restored)["SnapshotId"], _described_volume(ec2, restored)["Size"]) == (ids[1], 2)
    ec2.attach_volume(VolumeId=restored, InstanceId=instance, Device="/dev/sdh")
    attached(ec2, restored)
    for snapshot_id in ids:
        ec2.delete_snapshot(SnapshotId=snapshot_id)
    until(lambda: not _listed(ec2, ids), "the snapshots to be gone", MAX_WAIT)
    for volume_id in (used, restored):
        ec2.detach_volume(VolumeId=volume_id, InstanceId=instance)
        wait_for(ec2, "volume_available", VolumeIds=[volume_id])


def _listed(ec2: Any, ids: list[str]) -> set[str]:
    return {snapshot["SnapshotId"] for snapshot in ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]} & set(ids)


def test_an_attached_volume_is_not_deleted_with_its_instance(ec2: Any, launch: Any, volume: Any) -> None:
    """The volume becomes available after the instance is terminated."""
    volume_id, instance = volume(), _running(ec2, launch)
    ec2.attach_volume(VolumeId=volume_id, InstanceId=instance, Device="/dev/sdf")
    attached(ec2, volume_id)
    ec2.terminate_instances(InstanceIds=[instance])
    wait(ec2, "instance_terminated", [instance])
    wait_for(ec2, "volume_available", VolumeIds=[volume_id])


def test_volumes_created_with_an_instance_are_deleted_with_it_if_requested(
    cloud: FurnishedCloud, ec2: Any, launch: Any, volume: Any
) -> None:
    """The reconciler of any process deletes them, even if another process created them; other volumes remain."""
    devices = [
        {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1, "DeleteOnTermination": True}},
        {"DeviceName": "/dev/sdg", "Ebs": {"VolumeSize": 1, "DeleteOnTermination": False}},
    ]
    (launched,) = launch(BlockDeviceMappings=devices)
    instance = launched["InstanceId"]
    wait(ec2, "instance_running", [instance])
    (described_instance,) = described(ec2, instance)
    volumes_by_device = {mapping["DeviceName"]: mapping["Ebs"] for mapping in described_instance["BlockDeviceMappings"]}
    deleted_id, remaining_id = (volumes_by_device[device]["VolumeId"] for device in ("/dev/sdf", "/dev/sdg"))
    assert [volumes_by_device[device]["DeleteOnTermination"] for device in ("/dev/sdf", "/dev/sdg")] == [True, False]
    assert [volume["State"] for volume in ec2.describe_volumes(VolumeIds=[deleted_id, remaining_id])["Volumes"]] == [
        "in-use"
    ] * 2

    caretaker = cloud.econed(interval=QUICK)
    try:
        ec2.terminate_instances(InstanceIds=[instance])
        wait(ec2, "instance_terminated", [instance])
        wait_for(ec2, "volume_deleted", VolumeIds=[deleted_id])
    finally:
        caretaker.process.stop()
    wait_for(ec2, "volume_available", VolumeIds=[remaining_id])
    ec2.delete_volume(VolumeId=remaining_id)
    wait_for(ec2, "volume_deleted", VolumeIds=[remaining_id])
