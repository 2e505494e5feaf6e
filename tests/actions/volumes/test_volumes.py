"""Volumes: what CreateVolume makes, DescribeVolumes shows and DeleteVolume removes."""

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
    """Make a volume of one GiB, let it be made, and return its id."""
    made = cloud.run(user, "CreateVolume", **{"AvailabilityZone": ZONE, "Size": 1, **more})
    cloud.wait(5)
    return str(made["VolumeId"])


def snapshot(cloud: Cloud, volume_id: str, user: str = "alice", **more: Any) -> str:
    """Make a snapshot of a volume, let it be made, and return its id."""
    made = cloud.run(user, "CreateSnapshot", VolumeId=volume_id, **more)
    cloud.wait(5)
    return str(made["SnapshotId"])


def instance(cloud: Cloud, user: str = "alice", **more: Any) -> str:
    """Run an instance, let it start, and return its id."""
    answer = cloud.run(user, "RunInstances", **RUN, **more)
    cloud.wait(20)
    return str(answer["Instances"][0]["InstanceId"])


def attach(cloud: Cloud, volume_id: str, instance_id: str, device: str = "/dev/sdh") -> None:
    """Attach a volume and let it be attached."""
    cloud.run("alice", "AttachVolume", VolumeId=volume_id, InstanceId=instance_id, Device=device)
    cloud.wait(5)


def show(cloud: Cloud, volume_id: str, user: str = "alice") -> dict[str, Any]:
    """Return a volume as DescribeVolumes shows it."""
    (found,) = cloud.run(user, "DescribeVolumes", VolumeIds=[volume_id])["Volumes"]
    return dict(found)


def listed(cloud: Cloud, user: str = "alice", **more: Any) -> list[str]:
    """Return the ids that DescribeVolumes lists."""
    return [each["VolumeId"] for each in cloud.run(user, "DescribeVolumes", **more)["Volumes"]]


def image(cloud: Cloud, resource_id: str) -> Any:
    """Return the image behind a volume or snapshot."""
    return cloud.result(Session(cloud.backend, "alice").image(int(resource_id.partition("-")[2])))


def look(cloud: Cloud) -> None:
    """Let a reconciler make a round, and what it begins come to its end."""
    cloud.result(Reconciler(cloud.backend, cloud.clock, all_chores(), Logger("test")).round())
    cloud.wait(10)


def begin(cloud: Cloud, one: IOpenNebula, action: str, **parameters: Any) -> list[Any]:
    """Begin a call in a process that sees oned as `one`; the answer or failure comes into the list returned."""
    call = replace(cloud.call_as("alice"), session=Session(one, "alice"), serveradmin=Session(one, None))
    ended: list[Any] = []
    Deferred.fromCoroutine(perform(call, action, parameters)).addBoth(ended.append)
    return ended


def test_a_volume_is_made_as_it_was_asked_for_and_becomes_available(cloud: Cloud) -> None:
    tags = [{"ResourceType": "volume", "Tags": [{"Key": "Name", "Value": "data"}]}]
    made = cloud.run("alice", "CreateVolume", AvailabilityZone=ZONE, Size=3, VolumeType="gp2", TagSpecifications=tags)
    assert made["State"] == "creating"
    cloud.wait(5)
    found = show(cloud, made["VolumeId"])
    assert (found["State"], found["Size"], found["AvailabilityZone"]) == ("available", 3, ZONE)
    assert (found["VolumeType"], found["SnapshotId"], found["Attachments"]) == ("gp2", "", [])
    assert found["Tags"] == [{"Key": "Name", "Value": "data"}]


def test_a_volume_is_a_persistent_image_with_the_configured_file_system_and_datastore(cloud: Cloud) -> None:
    cloud.settings = replace(cloud.settings, ebs_fstype="xfs")
    made = image(cloud, volume(cloud))
    assert made.is_persistent
    assert made.size == 1024
    assert made.datastore_id == cloud.settings.datastore_id
    assert made.template.text("EBS_VOLUME") == "YES"
    assert "xfs" in (made.file_system, made.template.text("FSTYPE"))


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
def test_a_volume_that_cannot_be_is_refused_and_nothing_is_made(parameters: dict[str, Any], code: str) -> None:
    cloud = Cloud()
    assert cloud.refusal("alice", "CreateVolume", **parameters).code == code
    assert cloud.changes == []


def test_a_dry_run_makes_no_volume() -> None:
    cloud = Cloud()
    asked: dict[str, Any] = {"AvailabilityZone": ZONE, "Size": 1}
    assert cloud.refusal("alice", "CreateVolume", dry_run=True, **asked).code == "DryRunOperation"
    assert listed(cloud) == []


def test_a_quota_of_oneds_is_the_limit_of_volumes(cloud: Cloud) -> None:
    cloud.oneadmin("one.user.quota", cloud.user("alice").id, 'DATASTORE=[ID="1",IMAGES="1",SIZE="-2"]')
    volume(cloud)
    refusal = cloud.refusal("alice", "CreateVolume", AvailabilityZone=ZONE, Size=1)
    assert refusal.code == "VolumeLimitExceeded"


@pytest.mark.parametrize("text", AWKWARD.values(), ids=AWKWARD)
def test_tags_of_a_volume_come_back_as_they_were_given(cloud: Cloud, text: str) -> None:
    made = volume(cloud)
    cloud.run("alice", "CreateTags", Resources=[made], Tags=[{"Key": text, "Value": text}])
    assert show(cloud, made)["Tags"] == [{"Key": text, "Value": text}]
    (tag,) = cloud.run("alice", "DescribeTags", Filters=[{"Name": "resource-id", "Values": [made]}])["Tags"]
    assert (tag["ResourceType"], tag["Key"], tag["Value"]) == ("volume", text, text)
    assert listed(cloud, Filters=[{"Name": "tag-key", "Values": ["nothing"]}]) == []
    cloud.run("alice", "DeleteTags", Resources=[made], Tags=[{"Key": text}])
    assert "Tags" not in show(cloud, made)


def test_another_users_volume_is_not_there_and_stays_as_it_is(cloud: Cloud) -> None:
    made = volume(cloud)
    mine = instance(cloud, "bob")
    before = image(cloud, made).template
    calls: list[tuple[str, dict[str, Any]]] = [
        ("DescribeVolumes", {"VolumeIds": [made]}),
        ("DeleteVolume", {"VolumeId": made}),
        ("AttachVolume", {"VolumeId": made, "InstanceId": mine, "Device": "/dev/sdh"}),
        ("DetachVolume", {"VolumeId": made}),
        ("ModifyVolume", {"VolumeId": made, "Size": 2}),
        ("CreateSnapshot", {"VolumeId": made}),
        ("CreateTags", {"Resources": [made], "Tags": [{"Key": "a", "Value": "b"}]}),
        ("DescribeVolumeAttribute", {"VolumeId": made, "Attribute": "autoEnableIO"}),
    ]
    for action, parameters in calls:
        refusal = cloud.refusal("bob", action, **parameters)
        assert (refusal.code, action) == ("InvalidVolume.NotFound", action)
    assert listed(cloud, "bob", Filters=[{"Name": "volume-id", "Values": [made]}]) == []
    assert image(cloud, made).template == before
    assert show(cloud, made)["State"] == "available"


def test_what_is_no_volume_is_not_there(cloud: Cloud) -> None:
    ami = "vol-00000000"
    assert cloud.refusal("alice", "DescribeVolumes", VolumeIds=[ami]).code == "InvalidVolume.NotFound"
    assert cloud.refusal("alice", "DeleteVolume", VolumeId=ami).code == "InvalidVolume.NotFound"
    assert cloud.refusal("alice", "DeleteVolume", VolumeId="vol-abc").code == "InvalidVolumeID.Malformed"


def test_a_deleted_volume_is_soon_not_there_any_more(cloud: Cloud) -> None:
    made = volume(cloud)
    cloud.run("alice", "DeleteVolume", VolumeId=made)
    assert show(cloud, made)["State"] == "deleting"
    cloud.run("alice", "DeleteVolume", VolumeId=made)
    cloud.wait(10)
    assert cloud.refusal("alice", "DescribeVolumes", VolumeIds=[made]).code == "InvalidVolume.NotFound"


def test_an_attached_volume_is_not_deleted(cloud: Cloud) -> None:
    made, on = volume(cloud), instance(cloud)
    attach(cloud, made, on)
    assert cloud.refusal("alice", "DeleteVolume", VolumeId=made).code == "VolumeInUse"
    assert show(cloud, made)["State"] == "in-use"


def test_a_volume_that_could_not_be_made_is_in_error_impaired_and_can_be_deleted(cloud: Cloud) -> None:
    cloud.oned.images.fail_next = True
    made = volume(cloud)
    assert show(cloud, made)["State"] == "error"
    (status,) = cloud.run("alice", "DescribeVolumeStatus", VolumeIds=[made])["VolumeStatuses"]
    assert status["VolumeStatus"]["Status"] == "impaired"
    cloud.run("alice", "DeleteVolume", VolumeId=made)
    cloud.wait(10)
    assert made not in listed(cloud)


def test_status_and_attributes_of_a_volume(cloud: Cloud) -> None:
    made = volume(cloud)
    (status,) = cloud.run("alice", "DescribeVolumeStatus", VolumeIds=[made])["VolumeStatuses"]
    assert status["VolumeStatus"]["Status"] == "ok"
    auto = cloud.run("alice", "DescribeVolumeAttribute", VolumeId=made, Attribute="autoEnableIO")
    assert auto["AutoEnableIO"] == {"Value": False}


def test_the_disk_of_an_instance_is_a_volume_too(cloud: Cloud) -> None:
    """Terraform looks for an instance's volumes by its id, and by the device."""
    on = instance(cloud)
    (reservation,) = cloud.run("alice", "DescribeInstances", InstanceIds=[on])["Reservations"]
    (mapping,) = reservation["Instances"][0]["BlockDeviceMappings"]
    root = mapping["Ebs"]["VolumeId"]
    assert listed(cloud) == [root]
    of_it = [{"Name": "attachment.instance-id", "Values": [on]}]
    assert listed(cloud, Filters=of_it) == [root]
    at = [*of_it, {"Name": "attachment.device", "Values": [mapping["DeviceName"]]}]
    assert listed(cloud, Filters=at) == [root]
    elsewhere = [*of_it, {"Name": "attachment.device", "Values": ["/dev/sdq"]}]
    assert listed(cloud, Filters=elsewhere, VolumeIds=[root]) == []
    found = show(cloud, root)
    assert found["State"] == "in-use"
    assert found["Attachments"][0]["DeleteOnTermination"] is True
    assert cloud.refusal("alice", "DetachVolume", VolumeId=root).code == "OperationNotPermitted"
    assert cloud.refusal("alice", "DeleteVolume", VolumeId=root).code == "VolumeInUse"
    assert cloud.refusal("bob", "DescribeVolumes", VolumeIds=[root]).code == "InvalidVolume.NotFound"


def test_the_disk_of_an_instance_can_be_tagged(cloud: Cloud) -> None:
    (root,) = (instance(cloud), listed(cloud)[0])[1:]
    cloud.run("alice", "CreateTags", Resources=[root], Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])
    cloud.run("alice", "DeleteTags", Resources=[root], Tags=[{"Key": "a"}])
    assert show(cloud, root)["Tags"] == [{"Key": "b", "Value": "2"}]
    assert listed(cloud, Filters=[{"Name": "tag:b", "Values": ["2"]}]) == [root]
    (tag,) = cloud.run("alice", "DescribeTags")["Tags"]
    assert (tag["ResourceId"], tag["ResourceType"]) == (root, "volume")


def test_volumes_come_in_pages_images_first_and_each_once(cloud: Cloud) -> None:
    for _ in range(3):
        volume(cloud)
    for _ in range(2):
        instance(cloud)
    whole = listed(cloud)
    paged: list[str] = []
    token: dict[str, Any] = {}
    assert len(whole) == 5
    while True:
        page = cloud.run("alice", "DescribeVolumes", MaxResults=2, **token)
        paged += [each["VolumeId"] for each in page["Volumes"]]
        if "NextToken" not in page:
            break
        token = {"NextToken": page["NextToken"]}
    assert paged == whole


def test_machines_are_read_only_where_they_can_matter(cloud: Cloud) -> None:
    instance(cloud)
    free = volume(cloud)
    before = len(cloud.oned.calls)
    assert listed(cloud, Filters=[{"Name": "status", "Values": ["available"]}]) == [free]
    assert listed(cloud, VolumeIds=[free]) == [free]
    assert not [call for call in list(cloud.oned.calls)[before:] if call.method.startswith("one.vmpool")]


def test_filters_of_volumes(cloud: Cloud) -> None:
    small, large, on = volume(cloud), volume(cloud, Size=5), instance(cloud)
    attach(cloud, large, on, "/dev/xvdf")
    for name, values, expected in (
        ("size", ["5"], [large]),
        ("status", ["available"], [small]),
        ("attachment.device", ["/dev/xvdf"], [large]),
        ("attachment.status", ["attached"], [large, f"vol-{int(on[2:]):08d}000"]),
        ("attachment.delete-on-termination", ["false"], [large]),
        ("volume-id", [small, "vol-99999999", "nonsense"], [small]),
        ("availability-zone", ["nowhere"], []),
        ("encrypted", ["true"], []),
    ):
        assert (name, listed(cloud, Filters=[{"Name": name, "Values": values}])) == (name, expected)
    assert cloud.refusal("alice", "DescribeVolumes", Filters=[{"Name": "colour", "Values": ["red"]}]).code == (
        "InvalidParameterValue"
    )


def test_a_volume_from_a_snapshot_is_a_volume_and_nothing_that_the_snapshot_was(cloud: Cloud) -> None:
    original = volume(cloud, TagSpecifications=[{"ResourceType": "volume", "Tags": [{"Key": "a", "Value": "b"}]}])
    saved = snapshot(cloud, original, Description="nightly")
    made = volume(cloud, SnapshotId=saved)
    found = show(cloud, made)
    assert (found["SnapshotId"], found["State"], "Tags" in found) == (saved, "available", False)
    snapshots = cloud.run("alice", "DescribeSnapshots")["Snapshots"]
    assert [each["SnapshotId"] for each in snapshots] == [saved]
    assert not image(cloud, made).template.text("DESCRIPTION")


@pytest.mark.parametrize(("size", "code"), [(1, "InvalidParameterValue"), (3, "UnsupportedOperation")])
def test_a_volume_from_a_snapshot_has_its_size(cloud: Cloud, size: int, code: str) -> None:
    saved = snapshot(cloud, volume(cloud, Size=2))
    asked: dict[str, Any] = {"AvailabilityZone": ZONE, "SnapshotId": saved}
    assert cloud.refusal("alice", "CreateVolume", Size=size, **asked).code == code
    assert cloud.run("alice", "CreateVolume", **asked)["Size"] == 2


def test_a_volume_from_a_snapshot_of_an_attached_one_is_persistent_at_last(cloud: Cloud) -> None:
    """What oned saves from a disk is not persistent, and so are copies of it."""
    original, on = volume(cloud), instance(cloud)
    attach(cloud, original, on)
    made = volume(cloud, SnapshotId=snapshot(cloud, original))
    assert not image(cloud, made).is_persistent
    look(cloud)
    assert image(cloud, made).is_persistent


def test_the_same_token_gives_the_same_volume_and_other_parameters_a_mismatch(cloud: Cloud) -> None:
    made = volume(cloud, ClientToken="tok")
    assert volume(cloud, ClientToken="tok") == made
    refusal = cloud.refusal("alice", "CreateVolume", AvailabilityZone=ZONE, Size=2, ClientToken="tok")
    assert refusal.code == "IdempotentParameterMismatch"
    assert listed(cloud) == [made]
    assert volume(cloud, "bob", ClientToken="tok") != made


def test_the_token_of_a_deleted_volume_is_free_again_at_once(cloud: Cloud) -> None:
    made = volume(cloud, ClientToken="tok")
    cloud.run("alice", "DeleteVolume", VolumeId=made)
    again = volume(cloud, ClientToken="tok", Size=2)
    assert again != made
    assert show(cloud, again)["Size"] == 2


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(0.0, 2.0), min_size=6, max_size=20),
    st.lists(st.floats(0.0, 2.0), min_size=6, max_size=20),
    st.booleans(),
)
def test_two_processes_with_one_token_make_one_volume(one: list[float], two: list[float], copied: bool) -> None:
    cloud = Cloud()
    asked: dict[str, Any] = {"AvailabilityZone": ZONE, "Size": 1, "ClientToken": "tok"}
    if copied:
        asked["SnapshotId"] = snapshot(cloud, volume(cloud))
    there = {*listed(cloud)}
    answers = [
        begin(cloud, DelayedOned(cloud.backend, cloud.clock, cycle(delays)), "CreateVolume", **asked)
        for delays in (one, two)
    ]
    cloud.clock.pump([0.1] * 1500)
    (first,), (second,) = answers
    assert not isinstance(first, Failure), first
    assert not isinstance(second, Failure), second
    assert first["VolumeId"] == second["VolumeId"]
    assert {*listed(cloud)} - there == {first["VolumeId"]}
    assert show(cloud, first["VolumeId"])["State"] == "available"


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0.0, 2.0), min_size=6, max_size=20), st.lists(st.floats(0.0, 2.0), min_size=6, max_size=20))
def test_of_two_different_calls_with_one_token_one_makes_a_volume(one: list[float], two: list[float]) -> None:
    cloud = Cloud()
    answers = [
        begin(
            cloud,
            DelayedOned(cloud.backend, cloud.clock, cycle(delays)),
            "CreateVolume",
            AvailabilityZone=ZONE,
            Size=size,
            ClientToken="tok",
        )
        for size, delays in ((1, one), (2, two))
    ]
    cloud.clock.pump([0.1] * 1500)
    errors = [a.value for (a,) in answers if isinstance(a, Failure)]
    assert [error.code for error in errors if isinstance(error, EC2Error)] == ["IdempotentParameterMismatch"]
    assert len(listed(cloud)) == 1


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", range(16))
def test_a_copy_that_died_at_any_step_is_finished_by_the_same_call(step: int, after: bool) -> None:
    cloud = Cloud()
    tags = [{"ResourceType": "volume", "Tags": [{"Key": "a", "Value": "b"}]}]
    original = volume(cloud)
    saved = snapshot(cloud, original)
    asked: dict[str, Any] = {
        "AvailabilityZone": ZONE,
        "SnapshotId": saved,
        "ClientToken": "tok",
        "TagSpecifications": tags,
    }
    begin(cloud, DyingOned(cloud.backend, step, after=after), "CreateVolume", **asked)
    answer = cloud.run("alice", "CreateVolume", **asked)
    cloud.wait(5)
    assert {*listed(cloud)} == {original, answer["VolumeId"]}
    assert show(cloud, answer["VolumeId"])["Tags"] == tags[0]["Tags"]
    assert [each["SnapshotId"] for each in cloud.run("alice", "DescribeSnapshots")["Snapshots"]] == [saved]


@pytest.mark.parametrize("step", range(16))
def test_a_copy_whose_process_died_is_never_a_snapshot_and_soon_a_volume(step: int) -> None:
    cloud = Cloud()
    original = volume(cloud)
    saved = snapshot(cloud, original, Description="mine")
    begin(cloud, DyingOned(cloud.backend, step, after=True), "CreateVolume", AvailabilityZone=ZONE, SnapshotId=saved)
    assert [each["SnapshotId"] for each in cloud.run("alice", "DescribeSnapshots")["Snapshots"]] == [saved]
    cloud.wait(COPY_AGE + 10)
    look(cloud)
    assert [show(cloud, each)["State"] for each in listed(cloud)] in (["available"], ["available"] * 2)
    assert [each["Description"] for each in cloud.run("alice", "DescribeSnapshots")["Snapshots"]] == ["mine"]


def test_no_name_is_used_twice(cloud: Cloud) -> None:
    first, second = volume(cloud), volume(cloud)
    names = {each.name for each in cloud.result(Session(cloud.backend, "alice").images(OwnerFilter.MINE))}
    assert first != second
    assert len(names) == 2
