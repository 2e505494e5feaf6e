"""Volumes and snapshots by boto3, on every form of oned, also those created with an instance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.e2e.waiting import QUICK, attached, described, wait, wait_for
from tests.support.clients import refusal
from tests.support.econed_process import Person
from tests.support.furnished_cloud import PATIENCE, FurnishedCloud
from tests.support.processes import until


@pytest.fixture
def volume(cloud: FurnishedCloud, ec2: Any) -> Iterator[Callable[..., str]]:
    """Creates volumes of alice's and waits until they are available; they are deleted after the test."""
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
    for each in created_ids:
        try:
            wait_for(ec2, "volume_available", VolumeIds=[each])
            ec2.delete_volume(VolumeId=each)
        except ClientError as error:
            assert refusal(error)[0] == "InvalidVolume.NotFound"


def _shown(ec2: Any, volume_id: str) -> dict[str, Any]:
    (found,) = ec2.describe_volumes(VolumeIds=[volume_id])["Volumes"]
    return dict(found)


def _running(ec2: Any, launch: Any) -> str:
    (instance,) = launch()
    wait(ec2, "instance_running", [instance["InstanceId"]])
    return str(instance["InstanceId"])


def test_a_volume_is_created_attached_detached_and_deleted(
    cloud: FurnishedCloud, alice: Person, ec2: Any, launch: Any
) -> None:
    """With the SDK's waiters; in OpenNebula it is a persistent datablock of the user's, on the requested device."""
    tags = [{"ResourceType": "volume", "Tags": [{"Key": "Name", "Value": "data"}]}]
    created = ec2.create_volume(AvailabilityZone=cloud.zone, Size=2, VolumeType="gp3", TagSpecifications=tags)
    volume_id = created["VolumeId"]
    assert (created["Size"], created["AvailabilityZone"], created["VolumeType"]) == (2, cloud.zone, "gp3")
    assert created["State"] in ("creating", "available")
    wait_for(ec2, "volume_available", VolumeIds=[volume_id])
    image = cloud.admin.document("one.image.info", int(volume_id[4:]), False)
    kept = [image.findtext(name) for name in ("UID", "TYPE", "PERSISTENT", "SIZE")]
    assert kept == [str(alice.id), "2", "1", "2048"]
    free = _shown(ec2, volume_id)
    assert (free["State"], free["Attachments"], free["Tags"]) == ("available", [], tags[0]["Tags"])

    instance = _running(ec2, launch)
    answer = ec2.attach_volume(VolumeId=volume_id, InstanceId=instance, Device="/dev/sdf")
    assert (answer["State"], answer["Device"], answer["InstanceId"]) == ("attaching", "/dev/sdf", instance)
    wait_for(ec2, "volume_in_use", VolumeIds=[volume_id])
    (there,) = attached(ec2, volume_id)["Attachments"]
    assert (there["InstanceId"], there["Device"], there["DeleteOnTermination"]) == (instance, "/dev/sdf", False)
    (disk,) = cloud.vm(int(instance[2:])).findall(f"TEMPLATE/DISK[IMAGE_ID='{int(volume_id[4:])}']")
    assert str(disk.findtext("TARGET")).endswith("f")
    (shown,) = described(ec2, instance)
    devices = {each["DeviceName"]: each["Ebs"]["VolumeId"] for each in shown["BlockDeviceMappings"]}
    assert devices["/dev/sdf"] == volume_id
    with pytest.raises(ClientError) as raised:
        ec2.delete_volume(VolumeId=volume_id)
    assert refusal(raised.value) == ("VolumeInUse", 400)

    assert ec2.detach_volume(VolumeId=volume_id)["State"] == "detaching"
    wait_for(ec2, "volume_available", VolumeIds=[volume_id])
    assert _shown(ec2, volume_id)["Attachments"] == []
    ec2.delete_volume(VolumeId=volume_id)
    wait_for(ec2, "volume_deleted", VolumeIds=[volume_id])
    with pytest.raises(ClientError) as raised:
        ec2.describe_volumes(VolumeIds=[volume_id])
    assert refusal(raised.value) == ("InvalidVolume.NotFound", 400)


def test_snapshots_are_created_of_free_and_of_attached_volumes(ec2: Any, launch: Any, volume: Any) -> None:
    """Each is completed after a while, and another volume can be created from it."""
    free, used = volume(), volume(Size=2)
    instance = _running(ec2, launch)
    ec2.attach_volume(VolumeId=used, InstanceId=instance, Device="/dev/sdg")
    attached(ec2, used)
    snapshots = [ec2.create_snapshot(VolumeId=each, Description=f"of {each}") for each in (free, used)]
    ids = [each["SnapshotId"] for each in snapshots]
    wait_for(ec2, "snapshot_completed", SnapshotIds=ids)
    shown = ec2.describe_snapshots(SnapshotIds=ids)["Snapshots"]
    assert [(each["VolumeId"], each["VolumeSize"], each["Description"], each["Progress"]) for each in shown] == [
        (free, 1, f"of {free}", "100%"),
        (used, 2, f"of {used}", "100%"),
    ]
    region = ec2.describe_regions()["Regions"][0]["RegionName"]
    ids.append(ec2.copy_snapshot(SourceSnapshotId=ids[0], SourceRegion=region)["SnapshotId"])
    wait_for(ec2, "snapshot_completed", SnapshotIds=ids)

    again = volume(SnapshotId=ids[1])
    assert (_shown(ec2, again)["SnapshotId"], _shown(ec2, again)["Size"]) == (ids[1], 2)
    ec2.attach_volume(VolumeId=again, InstanceId=instance, Device="/dev/sdh")
    attached(ec2, again)
    for each in ids:
        ec2.delete_snapshot(SnapshotId=each)
    until(lambda: not _listed(ec2, ids), "the snapshots to be gone", PATIENCE)
    for each in (used, again):
        ec2.detach_volume(VolumeId=each, InstanceId=instance)
        wait_for(ec2, "volume_available", VolumeIds=[each])


def _listed(ec2: Any, ids: list[str]) -> set[str]:
    return {each["SnapshotId"] for each in ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]} & set(ids)


def test_an_attached_volume_survives_its_instance(ec2: Any, launch: Any, volume: Any) -> None:
    """Attached volumes exist after the instance is terminated."""
    kept, instance = volume(), _running(ec2, launch)
    ec2.attach_volume(VolumeId=kept, InstanceId=instance, Device="/dev/sdf")
    attached(ec2, kept)
    ec2.terminate_instances(InstanceIds=[instance])
    wait(ec2, "instance_terminated", [instance])
    wait_for(ec2, "volume_available", VolumeIds=[kept])


def test_volumes_created_with_an_instance_are_deleted_with_it_if_requested(
    cloud: FurnishedCloud, ec2: Any, launch: Any, volume: Any
) -> None:
    """By the reconciler of any process, also one that created neither; other volumes remain."""
    devices = [
        {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1, "DeleteOnTermination": True}},
        {"DeviceName": "/dev/sdg", "Ebs": {"VolumeSize": 1, "DeleteOnTermination": False}},
    ]
    (launched,) = launch(BlockDeviceMappings=devices)
    instance = launched["InstanceId"]
    wait(ec2, "instance_running", [instance])
    (shown,) = described(ec2, instance)
    on = {each["DeviceName"]: each["Ebs"] for each in shown["BlockDeviceMappings"]}
    goes, stays = (on[device]["VolumeId"] for device in ("/dev/sdf", "/dev/sdg"))
    assert [on[device]["DeleteOnTermination"] for device in ("/dev/sdf", "/dev/sdg")] == [True, False]
    assert [each["State"] for each in ec2.describe_volumes(VolumeIds=[goes, stays])["Volumes"]] == ["in-use"] * 2

    caretaker = cloud.econed(interval=QUICK)
    try:
        ec2.terminate_instances(InstanceIds=[instance])
        wait(ec2, "instance_terminated", [instance])
        wait_for(ec2, "volume_deleted", VolumeIds=[goes])
    finally:
        caretaker.process.stop()
    wait_for(ec2, "volume_available", VolumeIds=[stays])
    ec2.delete_volume(VolumeId=stays)
    wait_for(ec2, "volume_deleted", VolumeIds=[stays])
