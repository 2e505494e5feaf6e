"""Volumes: CreateVolume, DescribeVolumes and DeleteVolume."""

from __future__ import annotations

from dataclasses import replace
from itertools import cycle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from econed.actions.volumes.chores import COPY_AGE
from econed.catalogue import all_chores
from econed.errors import EC2Error
from econed.interfaces import IOpenNebula
from econed.opennebula.pools import OwnerFilter
from econed.opennebula.session import Session
from econed.reconciler import Reconciler
from tests.support.awkward_texts import AWKWARD
from tests.support.cloud import Cloud, perform
from tests.support.delayed_oned import DelayedOned, DyingOned

ZONE = "default"
RUN: dict[str, Any] = {"ImageId": "ami-00000000", "MinCount": 1, "MaxCount": 1}


def volume(cloud: Cloud, user: str = "alice", **more: Any) -> str:
    """Create a volume of one GiB, wait for it, and return its id."""
    response = cloud.run(user, "CreateVolume", **{"AvailabilityZone": ZONE, "Size": 1, **more})
    cloud.wait(5)
    return str(response["VolumeId"])


def snapshot(cloud: Cloud, volume_id: str, user: str = "alice", **more: Any) -> str:
    """Create a snapshot of a volume, wait for it, and return its id."""
    response = cloud.run(user, "CreateSnapshot", VolumeId=volume_id, **more)
    cloud.wait(5)
    return str(response["SnapshotId"])


def instance(cloud: Cloud, user: str = "alice", **more: Any) -> str:
    """Launch an instance, wait until it runs, and return its id."""
    response = cloud.run(user, "RunInstances", **RUN, **more)
    cloud.wait(20)
    return str(response["Instances"][0]["InstanceId"])


def attach(cloud: Cloud, volume_id: str, instance_id: str, device: str = "/dev/sdh") -> None:
    """Attach a volume and wait for it."""
    cloud.run("alice", "AttachVolume", VolumeId=volume_id, InstanceId=instance_id, Device=device)
    cloud.wait(5)


def show(cloud: Cloud, volume_id: str, user: str = "alice") -> dict[str, Any]:
    """Return the description of a volume from DescribeVolumes."""
    (volume,) = cloud.run(user, "DescribeVolumes", VolumeIds=[volume_id])["Volumes"]
    return dict(volume)


def volume_ids(cloud: Cloud, user: str = "alice", **more: Any) -> list[str]:
    """Return the ids that DescribeVolumes lists."""
    return [item["VolumeId"] for item in cloud.run(user, "DescribeVolumes", **more)["Volumes"]]


def image(cloud: Cloud, resource_id: str) -> Any:
    """Return the image behind a volume or snapshot."""
    return cloud.result(Session(cloud.backend, "alice").image(int(resource_id.partition("-")[2])))


def reconcile(cloud: Cloud) -> None:
    """Run one round of the reconciler, and wait for what it starts."""
    cloud.result(Reconciler(cloud.backend, cloud.clock, all_chores(), Logger("test")).round())
    cloud.wait(10)


def begin(cloud: Cloud, oned: IOpenNebula, action: str, **parameters: Any) -> list[Any]:
    """Start a call in a process with `oned` as its client; the response or failure is appended to the list returned."""
    call = cloud.call_in_new_process("alice", oned)
    results: list[Any] = []
    Deferred.fromCoroutine(perform(call, action, parameters)).addBoth(results.append)
    return results


def test_a_volume_is_created_with_the_requested_properties_and_becomes_available(cloud: Cloud) -> None:
    tags = [{"ResourceType": "volume", "Tags": [{"Key": "Name", "Value": "data"}]}]
    response = cloud.run(
        "alice", "CreateVolume", AvailabilityZone=ZONE, Size=3, VolumeType="gp2", TagSpecifications=tags
    )
    assert response["State"] == "creating"
    cloud.wait(5)
    volume_view = show(cloud, response["VolumeId"])
    assert (volume_view["State"], volume_view["Size"], volume_view["AvailabilityZone"]) == ("available", 3, ZONE)
    assert (volume_view["VolumeType"], volume_view["SnapshotId"], volume_view["Attachments"]) == ("gp2", "", [])
    assert volume_view["Tags"] == [{"Key": "Name", "Value": "data"}]


def test_a_volume_is_a_persistent_image_with_the_configured_file_system_and_datastore(cloud: Cloud) -> None:
    cloud.settings = replace(cloud.settings, ebs_fstype="xfs")
    volume_image = image(cloud, volume(cloud))
    assert volume_image.is_persistent
    assert volume_image.size == 1024
    assert volume_image.datastore_id == cloud.settings.datastore_id
    assert volume_image.template.text("EBS_VOLUME") == "YES"
    assert "xfs" in (volume_image.file_system, volume_image.template.text("FSTYPE"))


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"Size": 1}, "MissingParameter"),
        ({"AvailabilityZone": ZONE}, "MissingParameter"),
        ({"AvailabilityZone": "elsewhere", "Size": 1}, "InvalidZone.NotFound"),
        ({"AvailabilityZone": ZONE, "Size": 0}, "InvalidParameterValue"),
        ({"AvailabilityZone": ZONE, "Size": 20000}, "InvalidParameterValue"),
        ({"AvailabilityZone": ZONE, "Size": 1, "VolumeType": "floppy"}, "InvalidParameterValue"),
        ({"AvailabilityZone": ZONE, "Size": 1, "Encrypted": True}, "UnsupportedOperation"),
        ({"AvailabilityZone": ZONE, "Size": 1, "Iops": 100}, "UnsupportedOperation"),
        ({"AvailabilityZone": ZONE, "SnapshotId": "snap-00000099"}, "InvalidSnapshot.NotFound"),
        ({"AvailabilityZone": ZONE, "SnapshotId": "snap-x"}, "InvalidSnapshotID.Malformed"),
    ],
)
def test_an_invalid_volume_is_refused_and_nothing_is_created(parameters: dict[str, Any], code: str) -> None:
    cloud = Cloud()
    assert cloud.refusal("alice", "CreateVolume", **parameters).code == code
    assert cloud.changes == []


def test_a_dry_run_creates_no_volume() -> None:
    cloud = Cloud()
    parameters: dict[str, Any] = {"AvailabilityZone": ZONE, "Size": 1}
    assert cloud.refusal("alice", "CreateVolume", dry_run=True, **parameters).code == "DryRunOperation"
    assert volume_ids(cloud) == []


def test_oneds_quota_limits_the_number_of_volumes(cloud: Cloud) -> None:
    cloud.oneadmin("one.user.quota", cloud.user("alice").id, 'DATASTORE=[ID="1",IMAGES="1",SIZE="-2"]')
    volume(cloud)
    refusal = cloud.refusal("alice", "CreateVolume", AvailabilityZone=ZONE, Size=1)
    assert refusal.code == "VolumeLimitExceeded"


@pytest.mark.parametrize("text", AWKWARD.values(), ids=AWKWARD)
def test_tags_of_a_volume_are_returned_unchanged(cloud: Cloud, text: str) -> None:
    volume_id = volume(cloud)
    cloud.run("alice", "CreateTags", Resources=[volume_id], Tags=[{"Key": text, "Value": text}])
    assert show(cloud, volume_id)["Tags"] == [{"Key": text, "Value": text}]
    (tag,) = cloud.run("alice", "DescribeTags", Filters=[{"Name": "resource-id", "Values": [volume_id]}])["Tags"]
    assert (tag["ResourceType"], tag["Key"], tag["Value"]) == ("volume", text, text)
    assert volume_ids(cloud, Filters=[{"Name": "tag-key", "Values": ["nothing"]}]) == []
    cloud.run("alice", "DeleteTags", Resources=[volume_id], Tags=[{"Key": text}])
    assert "Tags" not in show(cloud, volume_id)


def test_another_users_volume_is_not_found_and_not_changed(cloud: Cloud) -> None:
    volume_id = volume(cloud)
    instance_id = instance(cloud, "bob")
    before = image(cloud, volume_id).template
    calls: list[tuple[str, dict[str, Any]]] = [
        ("DescribeVolumes", {"VolumeIds": [volume_id]}),
        ("DeleteVolume", {"VolumeId": volume_id}),
        ("AttachVolume", {"VolumeId": volume_id, "InstanceId": instance_id, "Device": "/dev/sdh"}),
        ("DetachVolume", {"VolumeId": volume_id}),
        ("ModifyVolume", {"VolumeId": volume_id, "Size": 2}),
        ("CreateSnapshot", {"VolumeId": volume_id}),
        ("CreateTags", {"Resources": [volume_id], "Tags": [{"Key": "a", "Value": "b"}]}),
        ("DescribeVolumeAttribute", {"VolumeId": volume_id, "Attribute": "autoEnableIO"}),
    ]
    for action, parameters in calls:
        refusal = cloud.refusal("bob", action, **parameters)
        assert (refusal.code, action) == ("InvalidVolume.NotFound", action)
    assert volume_ids(cloud, "bob", Filters=[{"Name": "volume-id", "Values": [volume_id]}]) == []
    assert image(cloud, volume_id).template == before
    assert show(cloud, volume_id)["State"] == "available"


def test_an_image_that_is_no_volume_is_not_found(cloud: Cloud) -> None:
    ami = "vol-00000000"
    assert cloud.refusal("alice", "DescribeVolumes", VolumeIds=[ami]).code == "InvalidVolume.NotFound"
    assert cloud.refusal("alice", "DeleteVolume", VolumeId=ami).code == "InvalidVolume.NotFound"
    assert cloud.refusal("alice", "DeleteVolume", VolumeId="vol-abc").code == "InvalidVolumeID.Malformed"


def test_a_deleted_volume_is_not_found_after_a_while(cloud: Cloud) -> None:
    volume_id = volume(cloud)
    cloud.run("alice", "DeleteVolume", VolumeId=volume_id)
    assert show(cloud, volume_id)["State"] == "deleting"
    cloud.run("alice", "DeleteVolume", VolumeId=volume_id)
    cloud.wait(10)
    assert cloud.refusal("alice", "DescribeVolumes", VolumeIds=[volume_id]).code == "InvalidVolume.NotFound"


def test_an_attached_volume_is_not_deleted(cloud: Cloud) -> None:
    volume_id, instance_id = volume(cloud), instance(cloud)
    attach(cloud, volume_id, instance_id)
    assert cloud.refusal("alice", "DeleteVolume", VolumeId=volume_id).code == "VolumeInUse"
    assert show(cloud, volume_id)["State"] == "in-use"


def test_a_volume_whose_creation_failed_is_in_error_impaired_and_can_be_deleted(cloud: Cloud) -> None:
    cloud.oned.images.fail_next = True
    volume_id = volume(cloud)
    assert show(cloud, volume_id)["State"] == "error"
    (status,) = cloud.run("alice", "DescribeVolumeStatus", VolumeIds=[volume_id])["VolumeStatuses"]
    assert status["VolumeStatus"]["Status"] == "impaired"
    cloud.run("alice", "DeleteVolume", VolumeId=volume_id)
    cloud.wait(10)
    assert volume_id not in volume_ids(cloud)


def test_the_status_and_the_attributes_of_a_volume_are_shown(cloud: Cloud) -> None:
    volume_id = volume(cloud)
    (status,) = cloud.run("alice", "DescribeVolumeStatus", VolumeIds=[volume_id])["VolumeStatuses"]
    assert status["VolumeStatus"]["Status"] == "ok"
    auto = cloud.run("alice", "DescribeVolumeAttribute", VolumeId=volume_id, Attribute="autoEnableIO")
    assert auto["AutoEnableIO"] == {"Value": False}


def test_the_disk_of_an_instance_is_also_a_volume(cloud: Cloud) -> None:
    """Terraform finds the volumes of an instance by its id and by device."""
    instance_id = instance(cloud)
    (reservation,) = cloud.run("alice", "DescribeInstances", InstanceIds=[instance_id])["Reservations"]
    (mapping,) = reservation["Instances"][0]["BlockDeviceMappings"]
    root_id = mapping["Ebs"]["VolumeId"]
    assert volume_ids(cloud) == [root_id]
    instance_filter = [{"Name": "attachment.instance-id", "Values": [instance_id]}]
    assert volume_ids(cloud, Filters=instance_filter) == [root_id]
    device_filters = [*instance_filter, {"Name": "attachment.device", "Values": [mapping["DeviceName"]]}]
    assert volume_ids(cloud, Filters=device_filters) == [root_id]
    other_device_filters = [*instance_filter, {"Name": "attachment.device", "Values": ["/dev/sdq"]}]
    assert volume_ids(cloud, Filters=other_device_filters, VolumeIds=[root_id]) == []
    volume_view = show(cloud, root_id)
    assert volume_view["State"] == "in-use"
    assert volume_view["Attachments"][0]["DeleteOnTermination"] is True
    assert cloud.refusal("alice", "DetachVolume", VolumeId=root_id).code == "OperationNotPermitted"
    assert cloud.refusal("alice", "DeleteVolume", VolumeId=root_id).code == "VolumeInUse"
    assert cloud.refusal("bob", "DescribeVolumes", VolumeIds=[root_id]).code == "InvalidVolume.NotFound"


def test_the_disk_of_an_instance_can_be_tagged(cloud: Cloud) -> None:
    (root_id,) = (instance(cloud), volume_ids(cloud)[0])[1:]
    cloud.run("alice", "CreateTags", Resources=[root_id], Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])
    cloud.run("alice", "DeleteTags", Resources=[root_id], Tags=[{"Key": "a"}])
    assert show(cloud, root_id)["Tags"] == [{"Key": "b", "Value": "2"}]
    assert volume_ids(cloud, Filters=[{"Name": "tag:b", "Values": ["2"]}]) == [root_id]
    (tag,) = cloud.run("alice", "DescribeTags")["Tags"]
    assert (tag["ResourceId"], tag["ResourceType"]) == (root_id, "volume")


def test_volumes_are_paginated_images_first_and_each_once(cloud: Cloud) -> None:
    for _ in range(3):
        volume(cloud)
    for _ in range(2):
        instance(cloud)
    expected_ids = volume_ids(cloud)
    paged_ids: list[str] = []
    token: dict[str, Any] = {}
    assert len(expected_ids) == 5
    while True:
        page = cloud.run("alice", "DescribeVolumes", MaxResults=2, **token)
        paged_ids += [item["VolumeId"] for item in page["Volumes"]]
        if "NextToken" not in page:
            break
        token = {"NextToken": page["NextToken"]}
    assert paged_ids == expected_ids


def test_machines_are_only_read_if_their_disks_can_match(cloud: Cloud) -> None:
    instance(cloud)
    volume_id = volume(cloud)
    calls_before = len(cloud.oned.calls)
    assert volume_ids(cloud, Filters=[{"Name": "status", "Values": ["available"]}]) == [volume_id]
    assert volume_ids(cloud, VolumeIds=[volume_id]) == [volume_id]
    assert not [call for call in list(cloud.oned.calls)[calls_before:] if call.method.startswith("one.vmpool")]


def test_volumes_are_filtered(cloud: Cloud) -> None:
    small_id, large_id, instance_id = volume(cloud), volume(cloud, Size=5), instance(cloud)
    attach(cloud, large_id, instance_id, "/dev/xvdf")
    for name, values, expected in (
        ("size", ["5"], [large_id]),
        ("status", ["available"], [small_id]),
        ("attachment.device", ["/dev/xvdf"], [large_id]),
        ("attachment.status", ["attached"], [large_id, f"vol-{int(instance_id[2:]):08d}000"]),
        ("attachment.delete-on-termination", ["false"], [large_id]),
        ("volume-id", [small_id, "vol-99999999", "nonsense"], [small_id]),
        ("availability-zone", ["nowhere"], []),
        ("encrypted", ["true"], []),
    ):
        assert (name, volume_ids(cloud, Filters=[{"Name": name, "Values": values}])) == (name, expected)
    assert cloud.refusal("alice", "DescribeVolumes", Filters=[{"Name": "colour", "Values": ["red"]}]).code == (
        "InvalidParameterValue"
    )


def test_a_volume_from_a_snapshot_has_none_of_the_attributes_of_the_snapshot(cloud: Cloud) -> None:
    source_id = volume(cloud, TagSpecifications=[{"ResourceType": "volume", "Tags": [{"Key": "a", "Value": "b"}]}])
    snapshot_id = snapshot(cloud, source_id, Description="nightly")
    volume_id = volume(cloud, SnapshotId=snapshot_id)
    volume_view = show(cloud, volume_id)
    assert (volume_view["SnapshotId"], volume_view["State"], "Tags" in volume_view) == (snapshot_id, "available", False)
    snapshots = cloud.run("alice", "DescribeSnapshots")["Snapshots"]
    assert [item["SnapshotId"] for item in snapshots] == [snapshot_id]
    assert not image(cloud, volume_id).template.text("DESCRIPTION")


@pytest.mark.parametrize(("size", "code"), [(1, "InvalidParameterValue"), (3, "UnsupportedOperation")])
def test_a_volume_from_a_snapshot_has_the_size_of_the_snapshot(cloud: Cloud, size: int, code: str) -> None:
    snapshot_id = snapshot(cloud, volume(cloud, Size=2))
    parameters: dict[str, Any] = {"AvailabilityZone": ZONE, "SnapshotId": snapshot_id}
    assert cloud.refusal("alice", "CreateVolume", Size=size, **parameters).code == code
    assert cloud.run("alice", "CreateVolume", **parameters)["Size"] == 2


def test_a_volume_from_a_snapshot_of_an_attached_volume_becomes_persistent(cloud: Cloud) -> None:
    """What oned saves from a disk is not persistent, nor are copies of it."""
    source_id, instance_id = volume(cloud), instance(cloud)
    attach(cloud, source_id, instance_id)
    volume_id = volume(cloud, SnapshotId=snapshot(cloud, source_id))
    assert not image(cloud, volume_id).is_persistent
    reconcile(cloud)
    assert image(cloud, volume_id).is_persistent


def test_the_same_token_returns_the_same_volume_and_other_parameters_are_a_mismatch(cloud: Cloud) -> None:
    volume_id = volume(cloud, ClientToken="tok")
    assert volume(cloud, ClientToken="tok") == volume_id
    refusal = cloud.refusal("alice", "CreateVolume", AvailabilityZone=ZONE, Size=2, ClientToken="tok")
    assert refusal.code == "IdempotentParameterMismatch"
    assert volume_ids(cloud) == [volume_id]
    assert volume(cloud, "bob", ClientToken="tok") != volume_id


def test_the_token_of_a_deleted_volume_can_be_used_again_immediately(cloud: Cloud) -> None:
    volume_id = volume(cloud, ClientToken="tok")
    cloud.run("alice", "DeleteVolume", VolumeId=volume_id)
    new_id = volume(cloud, ClientToken="tok", Size=2)
    assert new_id != volume_id
    assert show(cloud, new_id)["Size"] == 2


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(0.0, 2.0), min_size=6, max_size=20),
    st.lists(st.floats(0.0, 2.0), min_size=6, max_size=20),
    st.booleans(),
)
def test_two_processes_with_the_same_token_create_one_volume(
    first_delays: list[float], second_delays: list[float], from_snapshot: bool
) -> None:
    cloud = Cloud()
    parameters: dict[str, Any] = {"AvailabilityZone": ZONE, "Size": 1, "ClientToken": "tok"}
    if from_snapshot:
        parameters["SnapshotId"] = snapshot(cloud, volume(cloud))
    ids_before = {*volume_ids(cloud)}
    results = [
        begin(cloud, DelayedOned(cloud.backend, cloud.clock, cycle(delays)), "CreateVolume", **parameters)
        for delays in (first_delays, second_delays)
    ]
    cloud.clock.pump([0.1] * 1500)
    (first,), (second,) = results
    assert not isinstance(first, Failure), first
    assert not isinstance(second, Failure), second
    assert first["VolumeId"] == second["VolumeId"]
    assert {*volume_ids(cloud)} - ids_before == {first["VolumeId"]}
    assert show(cloud, first["VolumeId"])["State"] == "available"


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0.0, 2.0), min_size=6, max_size=20), st.lists(st.floats(0.0, 2.0), min_size=6, max_size=20))
def test_one_of_two_different_calls_with_the_same_token_creates_a_volume(
    first_delays: list[float], second_delays: list[float]
) -> None:
    cloud = Cloud()
    results = [
        begin(
            cloud,
            DelayedOned(cloud.backend, cloud.clock, cycle(delays)),
            "CreateVolume",
            AvailabilityZone=ZONE,
            Size=size,
            ClientToken="tok",
        )
        for size, delays in ((1, first_delays), (2, second_delays))
    ]
    cloud.clock.pump([0.1] * 1500)
    errors = [result.value for (result,) in results if isinstance(result, Failure)]
    assert [error.code for error in errors if isinstance(error, EC2Error)] == ["IdempotentParameterMismatch"]
    assert len(volume_ids(cloud)) == 1


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", range(16))
def test_a_copy_whose_process_died_at_any_step_is_finished_by_the_same_call(step: int, after: bool) -> None:
    cloud = Cloud()
    tags = [{"ResourceType": "volume", "Tags": [{"Key": "a", "Value": "b"}]}]
    source_id = volume(cloud)
    snapshot_id = snapshot(cloud, source_id)
    parameters: dict[str, Any] = {
        "AvailabilityZone": ZONE,
        "SnapshotId": snapshot_id,
        "ClientToken": "tok",
        "TagSpecifications": tags,
    }
    begin(cloud, DyingOned(cloud.backend, step, after=after), "CreateVolume", **parameters)
    response = cloud.run("alice", "CreateVolume", **parameters)
    cloud.wait(5)
    assert {*volume_ids(cloud)} == {source_id, response["VolumeId"]}
    assert show(cloud, response["VolumeId"])["Tags"] == tags[0]["Tags"]
    assert [item["SnapshotId"] for item in cloud.run("alice", "DescribeSnapshots")["Snapshots"]] == [snapshot_id]


@pytest.mark.parametrize("step", range(16))
def test_a_copy_whose_process_died_is_never_a_snapshot_and_becomes_a_volume(step: int) -> None:
    cloud = Cloud()
    source_id = volume(cloud)
    snapshot_id = snapshot(cloud, source_id, Description="mine")
    begin(
        cloud, DyingOned(cloud.backend, step, after=True), "CreateVolume", AvailabilityZone=ZONE, SnapshotId=snapshot_id
    )
    assert [item["SnapshotId"] for item in cloud.run("alice", "DescribeSnapshots")["Snapshots"]] == [snapshot_id]
    cloud.wait(COPY_AGE + 10)
    reconcile(cloud)
    assert [show(cloud, volume_id)["State"] for volume_id in volume_ids(cloud)] in (["available"], ["available"] * 2)
    assert [item["Description"] for item in cloud.run("alice", "DescribeSnapshots")["Snapshots"]] == ["mine"]


def test_volumes_have_different_image_names(cloud: Cloud) -> None:
    first, second = volume(cloud), volume(cloud)
    names = {
        volume_image.name for volume_image in cloud.result(Session(cloud.backend, "alice").images(OwnerFilter.MINE))
    }
    assert first != second
    assert len(names) == 2
