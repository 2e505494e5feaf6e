"""Volumes and snapshots that oned is copying can be attached and deleted like any other, at any moment."""

from __future__ import annotations

from dataclasses import replace
from itertools import cycle
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.python.failure import Failure

from econed.actions.disk_images.volume_facts import TO_ATTACH, TO_DELETE, PendingAttachment
from econed.actions.volumes.chores import PENDING_AGE
from econed.errors import EC2Error
from tests.actions.volumes.test_attaching import mappings, target
from tests.actions.volumes.test_snapshots import snapshot_ids as snapshot_ids
from tests.actions.volumes.test_volumes import ZONE, begin, image, instance, reconcile, show, volume, volume_ids
from tests.support.cloud import Cloud
from tests.support.delayed_oned import DelayedOned, DyingOned

pytestmark = pytest.mark.slow

LONG_COPY = 120.0


def set_copy_duration(cloud: Cloud, seconds: float) -> None:
    cloud.oned.cloud.delays = replace(cloud.oned.cloud.delays, image=seconds)


def start_snapshot(cloud: Cloud, volume_id: str) -> str:
    """Start creating a snapshot of a volume and return its id."""
    return str(cloud.run("alice", "CreateSnapshot", VolumeId=volume_id)["SnapshotId"])


def snapshot_state(cloud: Cloud, snapshot_id: str) -> str:
    (item,) = cloud.run("alice", "DescribeSnapshots", SnapshotIds=[snapshot_id])["Snapshots"]
    return str(item["State"])


def attachment_parameters(volume_id: str, instance_id: str, device: str = "/dev/sdh") -> dict[str, Any]:
    return {"VolumeId": volume_id, "InstanceId": instance_id, "Device": device}


def image_volume_ids(cloud: Cloud) -> list[str]:
    """Return the ids of the volumes that are images, without the non-persistent disks of instances."""
    return [text for text in volume_ids(cloud) if len(text) == len("vol-00000000")]


def test_a_volume_is_deleted_while_it_is_copied_to_a_snapshot_which_is_completed(cloud: Cloud) -> None:
    volume_id = volume(cloud)
    set_copy_duration(cloud, LONG_COPY)
    snapshot_id = start_snapshot(cloud, volume_id)
    for _ in range(2):
        cloud.run("alice", "DeleteVolume", VolumeId=volume_id)
        assert show(cloud, volume_id)["State"] == "deleting"
    instance_id = instance(cloud)
    assert (
        cloud.refusal("alice", "AttachVolume", **attachment_parameters(volume_id, instance_id)).code == "IncorrectState"
    )
    assert cloud.refusal("alice", "CreateSnapshot", VolumeId=volume_id).code == "IncorrectState"
    reconcile(cloud)
    cloud.wait(LONG_COPY)
    reconcile(cloud)
    assert cloud.refusal("alice", "DescribeVolumes", VolumeIds=[volume_id]).code == "InvalidVolume.NotFound"
    assert snapshot_state(cloud, snapshot_id) == "completed"


def test_a_snapshot_is_deleted_while_it_is_copied_to_a_volume_which_is_completed(cloud: Cloud) -> None:
    snapshot_id = start_snapshot(cloud, volume(cloud))
    cloud.wait(5)
    set_copy_duration(cloud, LONG_COPY)
    volume_id = cloud.run("alice", "CreateVolume", AvailabilityZone=ZONE, SnapshotId=snapshot_id)["VolumeId"]
    cloud.run("alice", "DeleteSnapshot", SnapshotId=snapshot_id)
    assert snapshot_ids(cloud) == []
    calls: list[tuple[str, dict[str, Any]]] = [
        ("DeleteSnapshot", {"SnapshotId": snapshot_id}),
        ("CreateVolume", {"AvailabilityZone": ZONE, "SnapshotId": snapshot_id}),
        ("DescribeSnapshots", {"SnapshotIds": [snapshot_id]}),
        ("RegisterImage", {"ImageLocation": f"ami-{snapshot_id[5:]}"}),
    ]
    for action, parameters in calls:
        assert cloud.refusal("alice", action, **parameters).code.endswith("NotFound"), action
    cloud.wait(LONG_COPY)
    reconcile(cloud)
    reconcile(cloud)
    assert show(cloud, volume_id)["State"] == "available"
    assert TO_DELETE not in image(cloud, volume_id).template
    pool = cloud.oneadmin("one.imagepool.info", cloud.user("alice").id, -1, -1)
    assert pool.count("<IMAGE>") == 2


def test_a_volume_is_attached_while_it_is_copied_to_a_snapshot(cloud: Cloud) -> None:
    volume_id, instance_id = volume(cloud), instance(cloud)
    snapshot_id = start_snapshot(cloud, volume_id)
    response = cloud.run("alice", "AttachVolume", **attachment_parameters(volume_id, instance_id))
    assert (response["State"], response["Device"], response["InstanceId"]) == ("attaching", "/dev/sdh", instance_id)
    cloud.wait(5)
    (attachment,) = show(cloud, volume_id)["Attachments"]
    assert (attachment["State"], attachment["Device"], attachment["InstanceId"]) == (
        "attached",
        "/dev/sdh",
        instance_id,
    )
    assert snapshot_state(cloud, snapshot_id) == "completed"
    assert TO_ATTACH not in image(cloud, volume_id).template


def start_deferred_attachment(cloud: Cloud) -> tuple[str, str, str]:
    """Attach a volume while it is being copied for a long time; return it, the instance and the snapshot."""
    volume_id, instance_id = volume(cloud), instance(cloud)
    set_copy_duration(cloud, LONG_COPY)
    snapshot_id = start_snapshot(cloud, volume_id)
    response = cloud.run("alice", "AttachVolume", **attachment_parameters(volume_id, instance_id))
    assert response["State"] == "attaching"
    return volume_id, instance_id, snapshot_id


def test_during_a_long_copy_the_volume_is_attaching_until_another_process_attaches_it(cloud: Cloud) -> None:
    volume_id, instance_id, snapshot_id = start_deferred_attachment(cloud)
    volume_view = show(cloud, volume_id)
    assert volume_view["State"] == "in-use"
    (attachment,) = volume_view["Attachments"]
    assert (attachment["State"], attachment["Device"], attachment["InstanceId"]) == (
        "attaching",
        "/dev/sdh",
        instance_id,
    )
    assert cloud.run("alice", "AttachVolume", **attachment_parameters(volume_id, instance_id))["State"] == "attaching"
    assert (
        cloud.refusal("alice", "AttachVolume", **attachment_parameters(volume_id, instance_id, "/dev/sdi")).code
        == "VolumeInUse"
    )
    assert cloud.refusal("alice", "DeleteVolume", VolumeId=volume_id).code == "VolumeInUse"
    reconcile(cloud)
    assert snapshot_state(cloud, snapshot_id) == "pending"
    cloud.wait(LONG_COPY)
    reconcile(cloud)
    volume_view = show(cloud, volume_id)
    assert [attachment["State"] for attachment in volume_view["Attachments"]] == ["attached"]
    assert mappings(cloud, instance_id)["/dev/sdh"]["VolumeId"] == volume_id
    assert target(cloud, instance_id, volume_id) == "sdh"
    reconcile(cloud)
    assert TO_ATTACH not in image(cloud, volume_id).template
    assert snapshot_state(cloud, snapshot_id) == "completed"


def test_detaching_a_volume_cancels_its_deferred_attachment(cloud: Cloud) -> None:
    volume_id, instance_id, _ = start_deferred_attachment(cloud)
    wrong_parameters: list[dict[str, Any]] = [{"Device": "/dev/sdz"}, {"InstanceId": "i-00000777"}]
    for parameters in wrong_parameters:
        refusal = cloud.refusal("alice", "DetachVolume", VolumeId=volume_id, **parameters)
        assert refusal.code == "InvalidAttachment.NotFound"
    assert (
        cloud.run("alice", "DetachVolume", VolumeId=volume_id, InstanceId=instance_id, Device="xvdh")["State"]
        == "detaching"
    )
    assert show(cloud, volume_id)["State"] == "available"
    cloud.wait(LONG_COPY)
    reconcile(cloud)
    assert show(cloud, volume_id)["Attachments"] == []


def test_a_snapshot_of_a_volume_with_a_deferred_attachment_does_not_inherit_it(cloud: Cloud) -> None:
    volume_id, _, _ = start_deferred_attachment(cloud)
    snapshot_id = start_snapshot(cloud, volume_id)
    assert TO_ATTACH not in image(cloud, snapshot_id).template
    cloud.wait(LONG_COPY + 10)
    assert snapshot_state(cloud, snapshot_id) == "completed"


def test_a_deferred_attachment_is_dropped_when_its_instance_is_terminated(cloud: Cloud) -> None:
    volume_id, instance_id, _ = start_deferred_attachment(cloud)
    cloud.run("alice", "TerminateInstances", InstanceIds=[instance_id])
    cloud.wait(LONG_COPY)
    reconcile(cloud)
    volume_view = show(cloud, volume_id)
    assert (volume_view["State"], volume_view["Attachments"]) == ("available", [])


def test_a_deferred_attachment_that_stays_impossible_is_given_up_after_a_while(cloud: Cloud) -> None:
    volume_id, instance_id, _ = start_deferred_attachment(cloud)
    cloud.as_user("alice", "one.vm.action", "suspend", int(instance_id[2:]))
    cloud.wait(LONG_COPY)
    reconcile(cloud)
    assert [attachment["State"] for attachment in show(cloud, volume_id)["Attachments"]] == ["attaching"]
    cloud.clock.advance(PENDING_AGE)
    reconcile(cloud)
    volume_view = show(cloud, volume_id)
    assert (volume_view["State"], volume_view["Attachments"]) == ("available", [])
    assert TO_ATTACH not in image(cloud, volume_id).template


def test_the_token_of_a_volume_whose_deletion_is_deferred_can_be_used_again(cloud: Cloud) -> None:
    volume_id = volume(cloud, ClientToken="token")
    set_copy_duration(cloud, LONG_COPY)
    start_snapshot(cloud, volume_id)
    cloud.run("alice", "DeleteVolume", VolumeId=volume_id)
    new_id = volume(cloud, ClientToken="token", Size=2)
    assert new_id != volume_id
    cloud.wait(LONG_COPY)
    reconcile(cloud)
    assert image_volume_ids(cloud) == [new_id]


def test_nothing_is_deferred_on_another_users_volume(cloud: Cloud) -> None:
    volume_id, instance_id = volume(cloud), instance(cloud, "bob")
    image_id = int(volume_id[4:])
    cloud.as_user("alice", "one.image.chmod", image_id, -1, -1, -1, 1, 1, -1, -1, -1, -1)
    set_copy_duration(cloud, LONG_COPY)
    start_snapshot(cloud, volume_id)
    for action, parameters in (
        ("AttachVolume", attachment_parameters(volume_id, instance_id)),
        ("DeleteVolume", {"VolumeId": volume_id}),
    ):
        assert cloud.refusal("bob", action, **parameters).code == "IncorrectState"
    assert not {TO_ATTACH, TO_DELETE} & set(image(cloud, volume_id).template.names())


def test_dry_runs_defer_nothing(cloud: Cloud) -> None:
    volume_id, instance_id = volume(cloud), instance(cloud)
    start_snapshot(cloud, volume_id)
    changes_before = len(cloud.changes)
    for action, parameters in (
        ("AttachVolume", attachment_parameters(volume_id, instance_id)),
        ("DeleteVolume", {"VolumeId": volume_id}),
    ):
        assert cloud.refusal("alice", action, dry_run=True, **parameters).code == "DryRunOperation"
    assert cloud.changes[changes_before:] == []


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", range(14))
@pytest.mark.parametrize("action", ["AttachVolume", "DeleteVolume"])
def test_what_a_process_that_died_has_deferred_is_done_by_another(action: str, step: int, after: bool) -> None:
    cloud = Cloud()
    volume_id, instance_id = volume(cloud), instance(cloud)
    set_copy_duration(cloud, 4.0)
    start_snapshot(cloud, volume_id)
    parameters = attachment_parameters(volume_id, instance_id) if action == "AttachVolume" else {"VolumeId": volume_id}
    begin(cloud, DyingOned(cloud.backend, step, after=after), action, **parameters)
    marks = {TO_ATTACH, TO_DELETE} & set(image(cloud, volume_id).template.names())
    for _ in range(3):
        cloud.wait(20)
        reconcile(cloud)
    if image_volume_ids(cloud) == [volume_id]:
        volume_view = show(cloud, volume_id)
        assert (volume_view["State"], bool(marks)) in (("in-use", True), ("in-use", False), ("available", False))
        assert not {TO_ATTACH, TO_DELETE} & set(image(cloud, volume_id).template.names())
    else:
        assert action == "DeleteVolume"


DELAYS = st.lists(st.floats(0.0, 2.0), min_size=6, max_size=20)


@settings(max_examples=30, deadline=None)
@given(DELAYS, DELAYS, st.sampled_from(["AttachVolume", "DeleteVolume"]))
def test_the_response_does_not_depend_on_when_the_snapshot_is_started(
    snapshot_delays: list[float], action_delays: list[float], action: str
) -> None:
    cloud = Cloud()
    volume_id, instance_id = volume(cloud), instance(cloud)
    set_copy_duration(cloud, 3.0)
    parameters = attachment_parameters(volume_id, instance_id) if action == "AttachVolume" else {"VolumeId": volume_id}
    begin(cloud, DelayedOned(cloud.backend, cloud.clock, cycle(snapshot_delays)), "CreateSnapshot", VolumeId=volume_id)
    results = begin(cloud, DelayedOned(cloud.backend, cloud.clock, cycle(action_delays)), action, **parameters)
    cloud.clock.pump([0.1] * 1500)
    reconcile(cloud)
    reconcile(cloud)
    assert not isinstance(results[0], Failure), results
    assert [show(cloud, volume_id)["State"] for volume_id in image_volume_ids(cloud)] == (
        ["in-use"] if action == "AttachVolume" else []
    )


@settings(max_examples=30, deadline=None)
@given(DELAYS, DELAYS, st.booleans())
@example([0.0, 0.0, 1.0, 0.0, 0.0, 0.0], [0.0], True)  # detached between the reads of its image and its machine
def test_a_snapshot_is_created_while_its_volume_is_attached_or_detached(
    snapshot_delays: list[float], action_delays: list[float], is_attached: bool
) -> None:
    cloud = Cloud()
    volume_id, instance_id = volume(cloud), instance(cloud)
    if is_attached:
        cloud.run("alice", "AttachVolume", **attachment_parameters(volume_id, instance_id))
        cloud.wait(5)
    action, parameters = (
        ("DetachVolume", {"VolumeId": volume_id})
        if is_attached
        else ("AttachVolume", attachment_parameters(volume_id, instance_id))
    )
    results = begin(
        cloud, DelayedOned(cloud.backend, cloud.clock, cycle(snapshot_delays)), "CreateSnapshot", VolumeId=volume_id
    )
    begin(cloud, DelayedOned(cloud.backend, cloud.clock, cycle(action_delays)), action, **parameters)
    cloud.clock.pump([0.1] * 1500)
    assert not isinstance(results[0], Failure), results
    assert snapshot_state(cloud, results[0]["SnapshotId"]) == "completed"


def test_a_volume_that_is_attached_despite_its_deletion_mark_is_not_deleted(cloud: Cloud) -> None:
    """The mark may be set while a call is attaching the volume."""
    volume_id, instance_id = volume(cloud), instance(cloud)
    cloud.run("alice", "AttachVolume", **attachment_parameters(volume_id, instance_id))
    cloud.wait(5)
    cloud.as_user("alice", "one.image.update", int(volume_id[4:]), f'{TO_DELETE}="YES"', 1)
    reconcile(cloud)
    assert show(cloud, volume_id)["State"] == "in-use"
    assert cloud.refusal("alice", "DeleteVolume", VolumeId=volume_id).code == "VolumeInUse"
    cloud.run("alice", "DetachVolume", VolumeId=volume_id)
    cloud.wait(5)
    reconcile(cloud)
    assert show(cloud, volume_id)["State"] == "available"


def test_the_error_for_deleting_an_attached_volume_names_its_instance(cloud: Cloud) -> None:
    volume_id, instance_id = volume(cloud), instance(cloud)
    cloud.run("alice", "AttachVolume", **attachment_parameters(volume_id, instance_id))
    cloud.wait(5)
    refusal: EC2Error = cloud.refusal("alice", "DeleteVolume", VolumeId=volume_id)
    assert (refusal.code, instance_id in refusal.message) == ("VolumeInUse", True)


def shared_to_manage(cloud: Cloud) -> str:
    """Return a volume of alice's that bob, a member of the same group, may manage."""
    volume_id = volume(cloud)
    cloud.as_user("alice", "one.image.chmod", int(volume_id[4:]), -1, -1, -1, 1, 1, -1, -1, -1, -1)
    return volume_id


def test_a_mark_on_a_volume_that_others_may_manage_does_not_attach_it(cloud: Cloud) -> None:
    """Permission to change a volume is no permission to attach it to the instances of its owner."""
    instance_id, volume_id = instance(cloud), shared_to_manage(cloud)
    cloud.run("alice", "CreateVolume", AvailabilityZone=ZONE, Size=1)  # has the chores run for alice
    mark = PendingAttachment(int(instance_id[2:]), "/dev/sdz", int(cloud.clock.seconds()))
    cloud.as_user("bob", "one.image.update", int(volume_id[4:]), mark.text, 1)
    assert show(cloud, volume_id)["State"] == "available"
    reconcile(cloud)
    assert show(cloud, volume_id)["Attachments"] == []
    assert TO_ATTACH not in image(cloud, volume_id).template
    cloud.run("alice", "AttachVolume", **attachment_parameters(volume_id, instance_id))


def test_a_volume_that_others_may_manage_is_not_attached_while_it_is_copied(cloud: Cloud) -> None:
    instance_id, volume_id = instance(cloud), shared_to_manage(cloud)
    set_copy_duration(cloud, LONG_COPY)
    start_snapshot(cloud, volume_id)
    assert (
        cloud.refusal("alice", "AttachVolume", **attachment_parameters(volume_id, instance_id)).code == "IncorrectState"
    )
    assert TO_ATTACH not in image(cloud, volume_id).template
