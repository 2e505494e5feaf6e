"""Attaching, detaching and growing volumes: what is there is what the machines' disks say."""

from __future__ import annotations

from itertools import cycle
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
from tests.actions.volumes.test_volumes import ZONE, attach, begin, image, instance, listed, show, snapshot, volume
from tests.support.cloud import NOW, Cloud
from tests.support.delayed_oned import DelayedOned, DyingOned


def mappings(cloud: Cloud, instance_id: str) -> dict[str, dict[str, Any]]:
    """Return the block device mappings of an instance by device."""
    (reservation,) = cloud.run("alice", "DescribeInstances", InstanceIds=[instance_id])["Reservations"]
    return {each["DeviceName"]: each["Ebs"] for each in reservation["Instances"][0]["BlockDeviceMappings"]}


def target(cloud: Cloud, instance_id: str, volume_id: str) -> str:
    """Return the device of the hypervisor that a volume is at."""
    machine = cloud.result(Session(cloud.backend, "alice").vm(int(instance_id[2:])))
    return next(disk.target for disk in machine.disks if disk.image_id == int(volume_id[4:]))


@pytest.mark.parametrize(
    ("device", "expected"),
    [("/dev/sdh", "sdh"), ("/dev/xvdf", "sdf"), ("/dev/vdb", "sdb"), ("sdc", "sdc"), ("/dev/sdf1", "sdf")],
)
def test_a_volume_is_attached_where_the_hypervisor_takes_it_and_shown_where_the_client_said(
    cloud: Cloud, device: str, expected: str
) -> None:
    made, on = volume(cloud), instance(cloud)
    answer = cloud.run("alice", "AttachVolume", VolumeId=made, InstanceId=on, Device=device)
    assert (answer["State"], answer["Device"], answer["InstanceId"]) == ("attaching", device, on)
    assert show(cloud, made)["Attachments"][0]["State"] == "attaching"
    cloud.wait(5)
    found = show(cloud, made)
    assert found["State"] == "in-use"
    (attached,) = found["Attachments"]
    assert (attached["State"], attached["Device"], attached["InstanceId"]) == ("attached", device, on)
    assert attached["DeleteOnTermination"] is False
    assert NOW < attached["AttachTime"].timestamp() < cloud.clock.seconds()
    assert mappings(cloud, on)[device]["VolumeId"] == made
    assert target(cloud, on, made) == expected


def test_a_detached_volume_is_available_and_gone_from_its_instance(cloud: Cloud) -> None:
    made, on = volume(cloud), instance(cloud)
    attach(cloud, made, on)
    answer = cloud.run("alice", "DetachVolume", VolumeId=made, InstanceId=on, Device="/dev/sdh", Force=True)
    assert answer["State"] == "detaching"
    assert show(cloud, made)["Attachments"][0]["State"] == "detaching"
    cloud.wait(5)
    found = show(cloud, made)
    assert (found["State"], found["Attachments"]) == ("available", [])
    assert "/dev/sdh" not in mappings(cloud, on)
    assert cloud.refusal("alice", "DetachVolume", VolumeId=made).code == "IncorrectState"


def test_a_volume_is_detached_without_saying_from_where_also_from_a_stopped_instance(cloud: Cloud) -> None:
    made, on = volume(cloud), instance(cloud)
    cloud.run("alice", "StopInstances", InstanceIds=[on])
    cloud.wait(10)
    attach(cloud, made, on)
    assert show(cloud, made)["Attachments"][0]["State"] == "attached"
    cloud.run("alice", "DetachVolume", VolumeId=made)
    assert show(cloud, made)["Attachments"][0]["State"] == "detaching"
    cloud.wait(5)
    assert show(cloud, made)["State"] == "available"


def test_a_volume_is_not_detached_from_where_it_is_not(cloud: Cloud) -> None:
    made, on, other = volume(cloud), instance(cloud), instance(cloud)
    attach(cloud, made, on)
    wrongs: list[dict[str, Any]] = [
        {"InstanceId": other},
        {"Device": "/dev/sdi"},
        {"InstanceId": on, "Device": "/dev/sda"},
    ]
    for wrong in wrongs:
        assert cloud.refusal("alice", "DetachVolume", VolumeId=made, **wrong).code == "InvalidAttachment.NotFound"
    assert show(cloud, made)["State"] == "in-use"


def test_a_volume_in_use_is_not_attached_once_more(cloud: Cloud) -> None:
    made, on, other = volume(cloud), instance(cloud), instance(cloud)
    attach(cloud, made, on)
    for where, device in ((other, "/dev/sdh"), (on, "/dev/sdi")):
        refusal = cloud.refusal("alice", "AttachVolume", VolumeId=made, InstanceId=where, Device=device)
        assert refusal.code == "VolumeInUse"


def test_the_same_attachment_once_more_is_the_one_there_is(cloud: Cloud) -> None:
    """A client whose answer was lost asks again."""
    made, on = volume(cloud), instance(cloud)
    attach(cloud, made, on)
    again = cloud.run("alice", "AttachVolume", VolumeId=made, InstanceId=on, Device="/dev/sdh")
    assert again["State"] == "attached"
    assert [call.method for call in cloud.changes].count("one.vm.attach") == 1


def test_a_device_in_use_or_none_is_refused(cloud: Cloud) -> None:
    made, other, on = volume(cloud), volume(cloud), instance(cloud)
    attach(cloud, made, on)
    for device in ("/dev/sdh", "/dev/xvdh", "/dev/sda", "/dev/sda1", "/dev/nvme0n1", "sd", "h", "/dev/sdh\n"):
        refusal = cloud.refusal("alice", "AttachVolume", VolumeId=other, InstanceId=on, Device=device)
        assert (refusal.code, device) == ("InvalidParameterValue", device)
    assert show(cloud, other)["State"] == "available"


def test_an_instance_that_does_not_run_yet_takes_no_volume(cloud: Cloud) -> None:
    made = volume(cloud)
    on = cloud.run("alice", "RunInstances", ImageId="ami-00000000", MinCount=1, MaxCount=1)["Instances"][0]
    asked: dict[str, Any] = {"VolumeId": made, "InstanceId": on["InstanceId"], "Device": "/dev/sdh"}
    assert cloud.refusal("alice", "AttachVolume", **asked).code == "IncorrectState"


def test_a_volume_that_is_not_made_yet_is_not_attached(cloud: Cloud) -> None:
    on = instance(cloud)
    made = cloud.run("alice", "CreateVolume", AvailabilityZone=ZONE, Size=1)["VolumeId"]
    asked: dict[str, Any] = {"VolumeId": made, "InstanceId": on, "Device": "/dev/sdh"}
    assert cloud.refusal("alice", "AttachVolume", **asked).code in ("IncorrectState", "DryRunOperation")


def test_a_machine_that_is_busy_is_waited_for(cloud: Cloud) -> None:
    first, second, on = volume(cloud), volume(cloud), instance(cloud)
    cloud.run("alice", "AttachVolume", VolumeId=first, InstanceId=on, Device="/dev/sdf")
    cloud.run("alice", "AttachVolume", VolumeId=second, InstanceId=on, Device="/dev/sdg")
    cloud.run("alice", "DetachVolume", VolumeId=first)
    cloud.run("alice", "DetachVolume", VolumeId=second)
    cloud.wait(5)
    assert [show(cloud, each)["State"] for each in (first, second)] == ["available"] * 2


def test_a_volume_stays_in_its_zone(cloud: Cloud) -> None:
    made, on = volume(cloud), instance(cloud)
    cloud.as_user("alice", "one.image.update", int(made[4:]), 'EC2_AVAILABILITY_ZONE="7"', 1)
    asked: dict[str, Any] = {"VolumeId": made, "InstanceId": on, "Device": "/dev/sdh"}
    assert cloud.refusal("alice", "AttachVolume", **asked).code == "InvalidVolume.ZoneMismatch"


def test_a_dry_run_attaches_nothing(cloud: Cloud) -> None:
    made, on = volume(cloud), instance(cloud)
    asked: dict[str, Any] = {"VolumeId": made, "InstanceId": on, "Device": "/dev/sdh"}
    assert cloud.refusal("alice", "AttachVolume", dry_run=True, **asked).code == "DryRunOperation"
    assert show(cloud, made)["State"] == "available"


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", range(8))
def test_an_attachment_whose_process_died_is_there_or_not_and_the_same_call_makes_it(step: int, after: bool) -> None:
    cloud = Cloud()
    made, on = volume(cloud), instance(cloud)
    asked: dict[str, Any] = {"VolumeId": made, "InstanceId": on, "Device": "/dev/sdh"}
    begin(cloud, DyingOned(cloud.backend, step, after=after), "AttachVolume", **asked)
    assert show(cloud, made)["State"] in ("available", "in-use")
    cloud.run("alice", "AttachVolume", **asked)
    cloud.wait(5)
    (attached,) = show(cloud, made)["Attachments"]
    assert (attached["State"], attached["Device"], attached["InstanceId"]) == ("attached", "/dev/sdh", on)


def test_a_volume_outlives_its_instance(cloud: Cloud) -> None:
    made, on = volume(cloud), instance(cloud)
    attach(cloud, made, on)
    cloud.run("alice", "TerminateInstances", InstanceIds=[on])
    cloud.wait(30)
    cloud.result(Reconciler(cloud.backend, cloud.clock, all_chores(), Logger("test")).round())
    cloud.wait(10)
    assert show(cloud, made)["State"] == "available"


def test_an_attached_volume_grows_and_the_modification_is_told(cloud: Cloud) -> None:
    made, on = volume(cloud), instance(cloud)
    attach(cloud, made, on)
    answer = cloud.run("alice", "ModifyVolume", VolumeId=made, Size=3)["VolumeModification"]
    assert (answer["ModificationState"], answer["OriginalSize"], answer["TargetSize"]) == ("modifying", 1, 3)
    cloud.wait(5)
    assert show(cloud, made)["Size"] == 3
    (told,) = cloud.run("alice", "DescribeVolumesModifications", VolumeIds=[made])["VolumesModifications"]
    assert (told["ModificationState"], told["OriginalSize"], told["TargetSize"]) == ("completed", 1, 3)
    cloud.run("alice", "DetachVolume", VolumeId=made)
    cloud.wait(5)
    assert show(cloud, made)["Size"] == 3
    assert image(cloud, made).size == 3072


def test_the_disk_of_an_instance_grows(cloud: Cloud) -> None:
    instance(cloud)
    (root,) = listed(cloud)
    cloud.run("alice", "ModifyVolume", VolumeId=root, Size=4)
    cloud.wait(5)
    assert show(cloud, root)["Size"] == 4
    told = cloud.run("alice", "DescribeVolumesModifications", Filters=[{"Name": "target-size", "Values": ["4"]}])
    assert [each["VolumeId"] for each in told["VolumesModifications"]] == [root]


def test_a_volume_does_not_shrink_nor_grow_at_rest(cloud: Cloud) -> None:
    made = volume(cloud, Size=2)
    assert cloud.refusal("alice", "ModifyVolume", VolumeId=made, Size=1).code == "InvalidParameterValue"
    assert cloud.refusal("alice", "ModifyVolume", VolumeId=made, Size=3).code == "UnsupportedOperation"
    assert cloud.refusal("alice", "ModifyVolume", VolumeId=made, Size=2, Iops=100).code == "UnsupportedOperation"
    assert cloud.run("alice", "DescribeVolumesModifications")["VolumesModifications"] == []


def test_another_type_of_a_volume_is_noted_and_told(cloud: Cloud) -> None:
    made = volume(cloud)
    answer = cloud.run("alice", "ModifyVolume", VolumeId=made, VolumeType="gp3")["VolumeModification"]
    assert (answer["OriginalVolumeType"], answer["TargetVolumeType"]) == ("standard", "gp3")
    assert show(cloud, made)["VolumeType"] == "gp3"


def test_a_copy_of_a_snapshot_is_the_machines_own_disk_and_not_a_copy_once_more(cloud: Cloud) -> None:
    """What oned saves from a disk is not persistent; whoever attaches a copy of it first makes that so."""
    original, on = volume(cloud), instance(cloud)
    attach(cloud, original, on)
    made = volume(cloud, SnapshotId=snapshot(cloud, original))
    attach(cloud, made, on, "/dev/sdi")
    assert image(cloud, made).is_persistent
    assert show(cloud, made)["Attachments"][0]["Device"] == "/dev/sdi"


@pytest.mark.parametrize("root", ["vda", "xvda", "sda"])
def test_a_volume_goes_onto_the_bus_of_the_root_disk(cloud: Cloud, root: str) -> None:
    cloud.as_user("oneadmin", "one.image.update", 0, f'DEV_PREFIX="{root[:-1]}"', 1)
    made, on = volume(cloud), instance(cloud)
    attach(cloud, made, on, "/dev/sdf")
    assert target(cloud, on, made) == f"{root[:-1]}f"
    assert {*mappings(cloud, on)} == {"/dev/sda1", "/dev/sdf"}


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0.0, 2.0), min_size=6, max_size=20), st.lists(st.floats(0.0, 2.0), min_size=6, max_size=20))
def test_of_two_processes_that_attach_one_volume_one_does(one: list[float], two: list[float]) -> None:
    cloud = Cloud()
    made, machines = volume(cloud), [instance(cloud), instance(cloud)]
    answers = [
        begin(
            cloud,
            DelayedOned(cloud.backend, cloud.clock, cycle(delays)),
            "AttachVolume",
            VolumeId=made,
            InstanceId=on,
            Device="/dev/sdh",
        )
        for on, delays in zip(machines, (one, two), strict=True)
    ]
    cloud.clock.pump([0.1] * 1000)
    refused = [a.value for (a,) in answers if isinstance(a, Failure)]
    assert [error.code for error in refused if isinstance(error, EC2Error)] == ["VolumeInUse"]
    (attached,) = show(cloud, made)["Attachments"]
    (answer,) = [a for (a,) in answers if not isinstance(a, Failure)]
    assert attached["InstanceId"] == answer["InstanceId"]


def test_a_modification_that_asks_for_nothing_or_is_a_dry_run_changes_nothing(cloud: Cloud) -> None:
    made, on = volume(cloud), instance(cloud)
    attach(cloud, made, on)
    assert cloud.refusal("alice", "ModifyVolume", VolumeId=made).code == "MissingParameter"
    assert cloud.refusal("alice", "ModifyVolume", dry_run=True, VolumeId=made, Size=2).code == "DryRunOperation"
    assert cloud.run("alice", "DescribeVolumesModifications")["VolumesModifications"] == []
