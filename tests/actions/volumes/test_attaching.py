"""Attaching, detaching and resizing volumes; attachments are read from the machines' disks."""

from __future__ import annotations

from itertools import cycle, repeat
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import Logger
from twisted.python.failure import Failure

from econed.catalogue import all_chores
from econed.errors import EC2Error
from econed.opennebula.session import Session
from econed.reconciler import Reconciler
from tests.actions.volumes.test_volumes import ZONE, attach, begin, image, instance, show, snapshot, volume, volume_ids
from tests.support.cloud import NOW, Cloud
from tests.support.delayed_oned import DelayedOned, DyingOned


def mappings(cloud: Cloud, instance_id: str) -> dict[str, dict[str, Any]]:
    """Return the block device mappings of an instance by device."""
    (reservation,) = cloud.run("alice", "DescribeInstances", InstanceIds=[instance_id])["Reservations"]
    return {mapping["DeviceName"]: mapping["Ebs"] for mapping in reservation["Instances"][0]["BlockDeviceMappings"]}


def target(cloud: Cloud, instance_id: str, volume_id: str) -> str:
    """Return the hypervisor's device of an attached volume."""
    machine = cloud.result(Session(cloud.backend, "alice").vm(int(instance_id[2:])))
    return next(disk.target for disk in machine.disks if disk.image_id == int(volume_id[4:]))


@pytest.mark.parametrize(
    ("device", "expected_target"),
    [("/dev/sdh", "sdh"), ("/dev/xvdf", "sdf"), ("/dev/vdb", "sdb"), ("sdc", "sdc"), ("/dev/sdf1", "sdf")],
)
def test_a_volume_is_attached_at_the_hypervisors_device_and_shown_at_the_clients(
    cloud: Cloud, device: str, expected_target: str
) -> None:
    volume_id, instance_id = volume(cloud), instance(cloud)
    response = cloud.run("alice", "AttachVolume", VolumeId=volume_id, InstanceId=instance_id, Device=device)
    assert (response["State"], response["Device"], response["InstanceId"]) == ("attaching", device, instance_id)
    assert show(cloud, volume_id)["Attachments"][0]["State"] == "attaching"
    cloud.wait(5)
    volume_view = show(cloud, volume_id)
    assert volume_view["State"] == "in-use"
    (attachment,) = volume_view["Attachments"]
    assert (attachment["State"], attachment["Device"], attachment["InstanceId"]) == ("attached", device, instance_id)
    assert attachment["DeleteOnTermination"] is False
    assert NOW < attachment["AttachTime"].timestamp() < cloud.clock.seconds()
    assert mappings(cloud, instance_id)[device]["VolumeId"] == volume_id
    assert target(cloud, instance_id, volume_id) == expected_target


def test_a_detached_volume_is_available_and_no_longer_in_the_mappings_of_its_instance(cloud: Cloud) -> None:
    volume_id, instance_id = volume(cloud), instance(cloud)
    attach(cloud, volume_id, instance_id)
    response = cloud.run(
        "alice", "DetachVolume", VolumeId=volume_id, InstanceId=instance_id, Device="/dev/sdh", Force=True
    )
    assert response["State"] == "detaching"
    assert show(cloud, volume_id)["Attachments"][0]["State"] == "detaching"
    cloud.wait(5)
    volume_view = show(cloud, volume_id)
    assert (volume_view["State"], volume_view["Attachments"]) == ("available", [])
    assert "/dev/sdh" not in mappings(cloud, instance_id)
    assert cloud.refusal("alice", "DetachVolume", VolumeId=volume_id).code == "IncorrectState"


def test_a_volume_is_detached_without_naming_its_instance_also_from_a_stopped_one(cloud: Cloud) -> None:
    volume_id, instance_id = volume(cloud), instance(cloud)
    cloud.run("alice", "StopInstances", InstanceIds=[instance_id])
    cloud.wait(10)
    attach(cloud, volume_id, instance_id)
    assert show(cloud, volume_id)["Attachments"][0]["State"] == "attached"
    cloud.run("alice", "DetachVolume", VolumeId=volume_id)
    assert show(cloud, volume_id)["Attachments"][0]["State"] == "detaching"
    cloud.wait(5)
    assert show(cloud, volume_id)["State"] == "available"


def test_a_volume_is_not_detached_from_another_instance_or_device(cloud: Cloud) -> None:
    volume_id, instance_id, other_id = volume(cloud), instance(cloud), instance(cloud)
    attach(cloud, volume_id, instance_id)
    wrong_parameters: list[dict[str, Any]] = [
        {"InstanceId": other_id},
        {"Device": "/dev/sdi"},
        {"InstanceId": instance_id, "Device": "/dev/sda"},
    ]
    for parameters in wrong_parameters:
        assert (
            cloud.refusal("alice", "DetachVolume", VolumeId=volume_id, **parameters).code
            == "InvalidAttachment.NotFound"
        )
    assert show(cloud, volume_id)["State"] == "in-use"


def test_a_volume_in_use_is_not_attached_again(cloud: Cloud) -> None:
    volume_id, instance_id, other_id = volume(cloud), instance(cloud), instance(cloud)
    attach(cloud, volume_id, instance_id)
    for other_instance_id, device in ((other_id, "/dev/sdh"), (instance_id, "/dev/sdi")):
        refusal = cloud.refusal(
            "alice", "AttachVolume", VolumeId=volume_id, InstanceId=other_instance_id, Device=device
        )
        assert refusal.code == "VolumeInUse"


def test_a_repeated_attachment_returns_the_existing_one(cloud: Cloud) -> None:
    """A client that lost the response repeats the call."""
    volume_id, instance_id = volume(cloud), instance(cloud)
    attach(cloud, volume_id, instance_id)
    response = cloud.run("alice", "AttachVolume", VolumeId=volume_id, InstanceId=instance_id, Device="/dev/sdh")
    assert response["State"] == "attached"
    assert [call.method for call in cloud.changes].count("one.vm.attach") == 1


def test_a_device_that_is_in_use_or_invalid_is_refused(cloud: Cloud) -> None:
    volume_id, other_id, instance_id = volume(cloud), volume(cloud), instance(cloud)
    attach(cloud, volume_id, instance_id)
    for device in ("/dev/sdh", "/dev/xvdh", "/dev/sda", "/dev/sda1", "/dev/nvme0n1", "sd", "h", "/dev/sdh\n"):
        refusal = cloud.refusal("alice", "AttachVolume", VolumeId=other_id, InstanceId=instance_id, Device=device)
        assert (refusal.code, device) == ("InvalidParameterValue", device)
    assert show(cloud, other_id)["State"] == "available"


def test_no_volume_is_attached_to_an_instance_that_is_not_running_yet(cloud: Cloud) -> None:
    volume_id = volume(cloud)
    launched = cloud.run("alice", "RunInstances", ImageId="ami-00000000", MinCount=1, MaxCount=1)["Instances"][0]
    parameters: dict[str, Any] = {"VolumeId": volume_id, "InstanceId": launched["InstanceId"], "Device": "/dev/sdh"}
    assert cloud.refusal("alice", "AttachVolume", **parameters).code == "IncorrectState"


def test_a_volume_that_is_being_created_is_not_attached(cloud: Cloud) -> None:
    instance_id = instance(cloud)
    volume_id = cloud.run("alice", "CreateVolume", AvailabilityZone=ZONE, Size=1)["VolumeId"]
    parameters: dict[str, Any] = {"VolumeId": volume_id, "InstanceId": instance_id, "Device": "/dev/sdh"}
    assert cloud.refusal("alice", "AttachVolume", **parameters).code in ("IncorrectState", "DryRunOperation")


def test_attaching_and_detaching_wait_for_a_busy_machine(cloud: Cloud) -> None:
    first_id, second_id, instance_id = volume(cloud), volume(cloud), instance(cloud)
    cloud.run("alice", "AttachVolume", VolumeId=first_id, InstanceId=instance_id, Device="/dev/sdf")
    cloud.run("alice", "AttachVolume", VolumeId=second_id, InstanceId=instance_id, Device="/dev/sdg")
    cloud.run("alice", "DetachVolume", VolumeId=first_id)
    cloud.run("alice", "DetachVolume", VolumeId=second_id)
    cloud.wait(5)
    assert [show(cloud, volume_id)["State"] for volume_id in (first_id, second_id)] == ["available"] * 2


def test_a_volume_is_not_attached_in_another_zone(cloud: Cloud) -> None:
    volume_id, instance_id = volume(cloud), instance(cloud)
    cloud.as_user("alice", "one.image.update", int(volume_id[4:]), 'EC2_AVAILABILITY_ZONE="7"', 1)
    parameters: dict[str, Any] = {"VolumeId": volume_id, "InstanceId": instance_id, "Device": "/dev/sdh"}
    assert cloud.refusal("alice", "AttachVolume", **parameters).code == "InvalidVolume.ZoneMismatch"


def test_a_volume_that_the_hypervisor_refuses_is_not_attached(cloud: Cloud) -> None:
    """Oned is so slow here that it has detached the volume again before it is read."""
    volume_id, instance_id = volume(cloud), instance(cloud)
    parameters: dict[str, Any] = {"VolumeId": volume_id, "InstanceId": instance_id, "Device": "/dev/sdh"}
    cloud.oned.fail_next_attachment()
    direct, cloud.backend = cloud.backend, DelayedOned(cloud.backend, cloud.clock, repeat(1.0))
    refusal = cloud.refusal("alice", "AttachVolume", **parameters)
    cloud.backend = direct
    assert (refusal.code, refusal.message) == ("IncorrectState", f"The volume '{volume_id}' could not be attached.")
    assert [call.method for call in cloud.changes].count("one.vm.attach") == 1
    assert show(cloud, volume_id)["State"] == "available"
    attach(cloud, volume_id, instance_id)
    assert show(cloud, volume_id)["State"] == "in-use"


def test_a_dry_run_attaches_nothing(cloud: Cloud) -> None:
    volume_id, instance_id = volume(cloud), instance(cloud)
    parameters: dict[str, Any] = {"VolumeId": volume_id, "InstanceId": instance_id, "Device": "/dev/sdh"}
    assert cloud.refusal("alice", "AttachVolume", dry_run=True, **parameters).code == "DryRunOperation"
    assert show(cloud, volume_id)["State"] == "available"


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", range(8))
def test_an_attachment_whose_process_died_is_completed_by_the_same_call(step: int, after: bool) -> None:
    cloud = Cloud()
    volume_id, instance_id = volume(cloud), instance(cloud)
    parameters: dict[str, Any] = {"VolumeId": volume_id, "InstanceId": instance_id, "Device": "/dev/sdh"}
    begin(cloud, DyingOned(cloud.backend, step, after=after), "AttachVolume", **parameters)
    assert show(cloud, volume_id)["State"] in ("available", "in-use")
    cloud.run("alice", "AttachVolume", **parameters)
    cloud.wait(5)
    (attachment,) = show(cloud, volume_id)["Attachments"]
    assert (attachment["State"], attachment["Device"], attachment["InstanceId"]) == (
        "attached",
        "/dev/sdh",
        instance_id,
    )


def test_an_attached_volume_is_kept_when_its_instance_terminates(cloud: Cloud) -> None:
    volume_id, instance_id = volume(cloud), instance(cloud)
    attach(cloud, volume_id, instance_id)
    cloud.run("alice", "TerminateInstances", InstanceIds=[instance_id])
    cloud.wait(30)
    cloud.result(Reconciler(cloud.backend, cloud.clock, all_chores(), Logger("test")).round())
    cloud.wait(10)
    assert show(cloud, volume_id)["State"] == "available"


def test_an_attached_volume_is_enlarged_and_the_modification_is_shown(cloud: Cloud) -> None:
    volume_id, instance_id = volume(cloud), instance(cloud)
    attach(cloud, volume_id, instance_id)
    response = cloud.run("alice", "ModifyVolume", VolumeId=volume_id, Size=3)["VolumeModification"]
    assert (response["ModificationState"], response["OriginalSize"], response["TargetSize"]) == ("modifying", 1, 3)
    cloud.wait(5)
    assert show(cloud, volume_id)["Size"] == 3
    (modification,) = cloud.run("alice", "DescribeVolumesModifications", VolumeIds=[volume_id])["VolumesModifications"]
    assert (modification["ModificationState"], modification["OriginalSize"], modification["TargetSize"]) == (
        "completed",
        1,
        3,
    )
    cloud.run("alice", "DetachVolume", VolumeId=volume_id)
    cloud.wait(5)
    assert show(cloud, volume_id)["Size"] == 3
    assert image(cloud, volume_id).size == 3072


def test_the_disk_of_an_instance_is_enlarged(cloud: Cloud) -> None:
    instance(cloud)
    (root_id,) = volume_ids(cloud)
    cloud.run("alice", "ModifyVolume", VolumeId=root_id, Size=4)
    cloud.wait(5)
    assert show(cloud, root_id)["Size"] == 4
    response = cloud.run("alice", "DescribeVolumesModifications", Filters=[{"Name": "target-size", "Values": ["4"]}])
    assert [modification["VolumeId"] for modification in response["VolumesModifications"]] == [root_id]


def test_a_volume_is_neither_shrunk_nor_enlarged_while_it_is_not_attached(cloud: Cloud) -> None:
    volume_id = volume(cloud, Size=2)
    assert cloud.refusal("alice", "ModifyVolume", VolumeId=volume_id, Size=1).code == "InvalidParameterValue"
    assert cloud.refusal("alice", "ModifyVolume", VolumeId=volume_id, Size=3).code == "UnsupportedOperation"
    assert cloud.refusal("alice", "ModifyVolume", VolumeId=volume_id, Size=2, Iops=100).code == "UnsupportedOperation"
    assert cloud.run("alice", "DescribeVolumesModifications")["VolumesModifications"] == []


def test_a_changed_volume_type_is_stored_and_shown(cloud: Cloud) -> None:
    volume_id = volume(cloud)
    response = cloud.run("alice", "ModifyVolume", VolumeId=volume_id, VolumeType="gp3")["VolumeModification"]
    assert (response["OriginalVolumeType"], response["TargetVolumeType"]) == ("standard", "gp3")
    assert show(cloud, volume_id)["VolumeType"] == "gp3"


def test_a_volume_from_a_snapshot_is_attached_itself_and_not_copied_again(cloud: Cloud) -> None:
    """What oned saves from a disk is not persistent; attaching a copy makes the copy persistent first."""
    source_id, instance_id = volume(cloud), instance(cloud)
    attach(cloud, source_id, instance_id)
    volume_id = volume(cloud, SnapshotId=snapshot(cloud, source_id))
    attach(cloud, volume_id, instance_id, "/dev/sdi")
    assert image(cloud, volume_id).is_persistent
    assert show(cloud, volume_id)["Attachments"][0]["Device"] == "/dev/sdi"


@pytest.mark.parametrize("root", ["vda", "xvda", "sda"])
def test_a_volume_is_attached_to_the_bus_of_the_root_disk(cloud: Cloud, root: str) -> None:
    cloud.as_user("oneadmin", "one.image.update", 0, f'DEV_PREFIX="{root[:-1]}"', 1)
    volume_id, instance_id = volume(cloud), instance(cloud)
    attach(cloud, volume_id, instance_id, "/dev/sdf")
    assert target(cloud, instance_id, volume_id) == f"{root[:-1]}f"
    assert {*mappings(cloud, instance_id)} == {"/dev/sda1", "/dev/sdf"}


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0.0, 2.0), min_size=6, max_size=20), st.lists(st.floats(0.0, 2.0), min_size=6, max_size=20))
def test_one_of_two_processes_that_attach_a_volume_succeeds(
    first_delays: list[float], second_delays: list[float]
) -> None:
    cloud = Cloud()
    volume_id, instance_ids = volume(cloud), [instance(cloud), instance(cloud)]
    results = [
        begin(
            cloud,
            DelayedOned(cloud.backend, cloud.clock, cycle(delays)),
            "AttachVolume",
            VolumeId=volume_id,
            InstanceId=instance_id,
            Device="/dev/sdh",
        )
        for instance_id, delays in zip(instance_ids, (first_delays, second_delays), strict=True)
    ]
    cloud.clock.pump([0.1] * 1000)
    errors = [result.value for (result,) in results if isinstance(result, Failure)]
    assert [error.code for error in errors if isinstance(error, EC2Error)] == ["VolumeInUse"]
    (attachment,) = show(cloud, volume_id)["Attachments"]
    (response,) = [result for (result,) in results if not isinstance(result, Failure)]
    assert attachment["InstanceId"] == response["InstanceId"]


def test_an_empty_modification_or_a_dry_run_changes_nothing(cloud: Cloud) -> None:
    volume_id, instance_id = volume(cloud), instance(cloud)
    attach(cloud, volume_id, instance_id)
    assert cloud.refusal("alice", "ModifyVolume", VolumeId=volume_id).code == "MissingParameter"
    assert cloud.refusal("alice", "ModifyVolume", dry_run=True, VolumeId=volume_id, Size=2).code == "DryRunOperation"
    assert cloud.run("alice", "DescribeVolumesModifications")["VolumesModifications"] == []
