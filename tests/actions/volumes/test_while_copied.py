"""Volumes and snapshots that oned is copying: they are attached and deleted as any other, whatever the moment."""

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
from tests.actions.volumes.test_snapshots import ids as snapshots
from tests.actions.volumes.test_volumes import ZONE, begin, image, instance, listed, look, show, volume
from tests.support.cloud import Cloud
from tests.support.delayed_oned import DelayedOned, DyingOned

pytestmark = pytest.mark.slow

LONG = 120.0


def copying_takes(cloud: Cloud, seconds: float) -> None:
    cloud.oned.cloud.delays = replace(cloud.oned.cloud.delays, image=seconds)


def begun(cloud: Cloud, volume_id: str) -> str:
    """Begin a snapshot of a volume and return its id."""
    return str(cloud.run("alice", "CreateSnapshot", VolumeId=volume_id)["SnapshotId"])


def state_of(cloud: Cloud, snapshot_id: str) -> str:
    (found,) = cloud.run("alice", "DescribeSnapshots", SnapshotIds=[snapshot_id])["Snapshots"]
    return str(found["State"])


def asked(volume_id: str, on: str, device: str = "/dev/sdh") -> dict[str, Any]:
    return {"VolumeId": volume_id, "InstanceId": on, "Device": device}


def disks(cloud: Cloud) -> list[str]:
    """Return the volumes that are images: the disks of instances are none."""
    return [each for each in listed(cloud) if len(each) == len("vol-00000000")]


def test_a_volume_of_which_a_snapshot_is_being_made_is_deleted_and_the_snapshot_is_made(cloud: Cloud) -> None:
    made = volume(cloud)
    copying_takes(cloud, LONG)
    saved = begun(cloud, made)
    for _ in range(2):
        cloud.run("alice", "DeleteVolume", VolumeId=made)
        assert show(cloud, made)["State"] == "deleting"
    on = instance(cloud)
    assert cloud.refusal("alice", "AttachVolume", **asked(made, on)).code == "IncorrectState"
    assert cloud.refusal("alice", "CreateSnapshot", VolumeId=made).code == "IncorrectState"
    look(cloud)
    cloud.wait(LONG)
    look(cloud)
    assert cloud.refusal("alice", "DescribeVolumes", VolumeIds=[made]).code == "InvalidVolume.NotFound"
    assert state_of(cloud, saved) == "completed"


def test_a_snapshot_of_which_a_volume_is_being_made_is_gone_at_once_and_the_volume_is_made(cloud: Cloud) -> None:
    saved = begun(cloud, volume(cloud))
    cloud.wait(5)
    copying_takes(cloud, LONG)
    made = cloud.run("alice", "CreateVolume", AvailabilityZone=ZONE, SnapshotId=saved)["VolumeId"]
    cloud.run("alice", "DeleteSnapshot", SnapshotId=saved)
    assert snapshots(cloud) == []
    calls: list[tuple[str, dict[str, Any]]] = [
        ("DeleteSnapshot", {"SnapshotId": saved}),
        ("CreateVolume", {"AvailabilityZone": ZONE, "SnapshotId": saved}),
        ("DescribeSnapshots", {"SnapshotIds": [saved]}),
        ("RegisterImage", {"ImageLocation": f"ami-{saved[5:]}"}),
    ]
    for action, parameters in calls:
        assert cloud.refusal("alice", action, **parameters).code.endswith("NotFound"), action
    cloud.wait(LONG)
    look(cloud)
    look(cloud)
    assert show(cloud, made)["State"] == "available"
    assert TO_DELETE not in image(cloud, made).template
    pool = cloud.oneadmin("one.imagepool.info", cloud.user("alice").id, -1, -1)
    assert pool.count("<IMAGE>") == 2


def test_a_volume_of_which_a_snapshot_is_being_made_is_attached(cloud: Cloud) -> None:
    made, on = volume(cloud), instance(cloud)
    saved = begun(cloud, made)
    answer = cloud.run("alice", "AttachVolume", **asked(made, on))
    assert (answer["State"], answer["Device"], answer["InstanceId"]) == ("attaching", "/dev/sdh", on)
    cloud.wait(5)
    (attached,) = show(cloud, made)["Attachments"]
    assert (attached["State"], attached["Device"], attached["InstanceId"]) == ("attached", "/dev/sdh", on)
    assert state_of(cloud, saved) == "completed"
    assert TO_ATTACH not in image(cloud, made).template


def pending(cloud: Cloud) -> tuple[str, str, str]:
    """Attach a volume while a long copy of it is being made; return it, the instance and the snapshot."""
    made, on = volume(cloud), instance(cloud)
    copying_takes(cloud, LONG)
    saved = begun(cloud, made)
    answer = cloud.run("alice", "AttachVolume", **asked(made, on))
    assert answer["State"] == "attaching"
    return made, on, saved


def test_where_the_copy_takes_long_the_volume_is_attaching_until_another_process_attaches_it(cloud: Cloud) -> None:
    made, on, saved = pending(cloud)
    found = show(cloud, made)
    assert found["State"] == "in-use"
    (attached,) = found["Attachments"]
    assert (attached["State"], attached["Device"], attached["InstanceId"]) == ("attaching", "/dev/sdh", on)
    assert cloud.run("alice", "AttachVolume", **asked(made, on))["State"] == "attaching"
    assert cloud.refusal("alice", "AttachVolume", **asked(made, on, "/dev/sdi")).code == "VolumeInUse"
    assert cloud.refusal("alice", "DeleteVolume", VolumeId=made).code == "VolumeInUse"
    look(cloud)
    assert state_of(cloud, saved) == "pending"
    cloud.wait(LONG)
    look(cloud)
    found = show(cloud, made)
    assert [each["State"] for each in found["Attachments"]] == ["attached"]
    assert mappings(cloud, on)["/dev/sdh"]["VolumeId"] == made
    assert target(cloud, on, made) == "sdh"
    look(cloud)
    assert TO_ATTACH not in image(cloud, made).template
    assert state_of(cloud, saved) == "completed"


def test_a_volume_that_is_to_be_attached_is_detached_by_taking_that_back(cloud: Cloud) -> None:
    made, on, _ = pending(cloud)
    others: list[dict[str, Any]] = [{"Device": "/dev/sdz"}, {"InstanceId": "i-00000777"}]
    for other in others:
        refusal = cloud.refusal("alice", "DetachVolume", VolumeId=made, **other)
        assert refusal.code == "InvalidAttachment.NotFound"
    assert cloud.run("alice", "DetachVolume", VolumeId=made, InstanceId=on, Device="xvdh")["State"] == "detaching"
    assert show(cloud, made)["State"] == "available"
    cloud.wait(LONG)
    look(cloud)
    assert show(cloud, made)["Attachments"] == []


def test_another_snapshot_is_made_of_a_volume_that_is_to_be_attached_and_knows_nothing_of_that(cloud: Cloud) -> None:
    made, _, _ = pending(cloud)
    second = begun(cloud, made)
    assert TO_ATTACH not in image(cloud, second).template
    cloud.wait(LONG + 10)
    assert state_of(cloud, second) == "completed"


def test_a_volume_whose_instance_is_terminated_before_it_was_attached_is_available(cloud: Cloud) -> None:
    made, on, _ = pending(cloud)
    cloud.run("alice", "TerminateInstances", InstanceIds=[on])
    cloud.wait(LONG)
    look(cloud)
    found = show(cloud, made)
    assert (found["State"], found["Attachments"]) == ("available", [])


def test_a_volume_that_its_instance_cannot_take_is_available_after_a_while(cloud: Cloud) -> None:
    made, on, _ = pending(cloud)
    cloud.as_user("alice", "one.vm.action", "suspend", int(on[2:]))
    cloud.wait(LONG)
    look(cloud)
    assert [each["State"] for each in show(cloud, made)["Attachments"]] == ["attaching"]
    cloud.clock.advance(PENDING_AGE)
    look(cloud)
    found = show(cloud, made)
    assert (found["State"], found["Attachments"]) == ("available", [])
    assert TO_ATTACH not in image(cloud, made).template


def test_the_token_of_a_volume_that_is_to_be_deleted_is_free(cloud: Cloud) -> None:
    made = volume(cloud, ClientToken="token")
    copying_takes(cloud, LONG)
    begun(cloud, made)
    cloud.run("alice", "DeleteVolume", VolumeId=made)
    again = volume(cloud, ClientToken="token", Size=2)
    assert again != made
    cloud.wait(LONG)
    look(cloud)
    assert disks(cloud) == [again]


def test_what_is_another_users_is_not_left_to_a_process_that_would_never_look_for_it(cloud: Cloud) -> None:
    made, on = volume(cloud), instance(cloud, "bob")
    number = int(made[4:])
    cloud.as_user("alice", "one.image.chmod", number, -1, -1, -1, 1, 1, -1, -1, -1, -1)
    copying_takes(cloud, LONG)
    begun(cloud, made)
    for action, parameters in (("AttachVolume", asked(made, on)), ("DeleteVolume", {"VolumeId": made})):
        assert cloud.refusal("bob", action, **parameters).code == "IncorrectState"
    assert not {TO_ATTACH, TO_DELETE} & set(image(cloud, made).template.names())


def test_dry_runs_write_nothing_down(cloud: Cloud) -> None:
    made, on = volume(cloud), instance(cloud)
    begun(cloud, made)
    before = len(cloud.changes)
    for action, parameters in (("AttachVolume", asked(made, on)), ("DeleteVolume", {"VolumeId": made})):
        assert cloud.refusal("alice", action, dry_run=True, **parameters).code == "DryRunOperation"
    assert cloud.changes[before:] == []


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", range(14))
@pytest.mark.parametrize("action", ["AttachVolume", "DeleteVolume"])
def test_what_a_process_that_died_had_written_down_is_done_by_another(action: str, step: int, after: bool) -> None:
    cloud = Cloud()
    made, on = volume(cloud), instance(cloud)
    copying_takes(cloud, 4.0)
    begun(cloud, made)
    parameters = asked(made, on) if action == "AttachVolume" else {"VolumeId": made}
    begin(cloud, DyingOned(cloud.backend, step, after=after), action, **parameters)
    written = {TO_ATTACH, TO_DELETE} & set(image(cloud, made).template.names())
    for _ in range(3):
        cloud.wait(20)
        look(cloud)
    if disks(cloud) == [made]:
        found = show(cloud, made)
        assert (found["State"], bool(written)) in (("in-use", True), ("in-use", False), ("available", False))
        assert not {TO_ATTACH, TO_DELETE} & set(image(cloud, made).template.names())
    else:
        assert action == "DeleteVolume"


PACE = st.lists(st.floats(0.0, 2.0), min_size=6, max_size=20)


@settings(max_examples=30, deadline=None)
@given(PACE, PACE, st.sampled_from(["AttachVolume", "DeleteVolume"]))
def test_the_answer_does_not_depend_on_when_the_snapshot_is_begun(
    one: list[float], two: list[float], action: str
) -> None:
    cloud = Cloud()
    made, on = volume(cloud), instance(cloud)
    copying_takes(cloud, 3.0)
    parameters = asked(made, on) if action == "AttachVolume" else {"VolumeId": made}
    begin(cloud, DelayedOned(cloud.backend, cloud.clock, cycle(one)), "CreateSnapshot", VolumeId=made)
    ended = begin(cloud, DelayedOned(cloud.backend, cloud.clock, cycle(two)), action, **parameters)
    cloud.clock.pump([0.1] * 1500)
    look(cloud)
    look(cloud)
    assert not isinstance(ended[0], Failure), ended
    assert [show(cloud, each)["State"] for each in disks(cloud)] == (["in-use"] if action == "AttachVolume" else [])


@settings(max_examples=30, deadline=None)
@given(PACE, PACE, st.booleans())
@example([0.0, 0.0, 1.0, 0.0, 0.0, 0.0], [0.0], True)  # detached between the reads of the image and of its machine
def test_a_snapshot_is_made_whether_its_volume_is_being_attached_or_detached_or_neither(
    one: list[float], two: list[float], attached: bool
) -> None:
    cloud = Cloud()
    made, on = volume(cloud), instance(cloud)
    if attached:
        cloud.run("alice", "AttachVolume", **asked(made, on))
        cloud.wait(5)
    action, parameters = ("DetachVolume", {"VolumeId": made}) if attached else ("AttachVolume", asked(made, on))
    ended = begin(cloud, DelayedOned(cloud.backend, cloud.clock, cycle(one)), "CreateSnapshot", VolumeId=made)
    begin(cloud, DelayedOned(cloud.backend, cloud.clock, cycle(two)), action, **parameters)
    cloud.clock.pump([0.1] * 1500)
    assert not isinstance(ended[0], Failure), ended
    assert state_of(cloud, ended[0]["SnapshotId"]) == "completed"


def test_a_volume_that_a_machine_has_after_all_is_not_deleted(cloud: Cloud) -> None:
    """The mark may come between the looks of a call that attaches it."""
    made, on = volume(cloud), instance(cloud)
    cloud.run("alice", "AttachVolume", **asked(made, on))
    cloud.wait(5)
    cloud.as_user("alice", "one.image.update", int(made[4:]), f'{TO_DELETE}="YES"', 1)
    look(cloud)
    assert show(cloud, made)["State"] == "in-use"
    assert cloud.refusal("alice", "DeleteVolume", VolumeId=made).code == "VolumeInUse"
    cloud.run("alice", "DetachVolume", VolumeId=made)
    cloud.wait(5)
    look(cloud)
    assert show(cloud, made)["State"] == "available"


def test_a_volume_that_is_attached_is_not_deleted_and_the_error_names_its_instance(cloud: Cloud) -> None:
    made, on = volume(cloud), instance(cloud)
    cloud.run("alice", "AttachVolume", **asked(made, on))
    cloud.wait(5)
    refusal: EC2Error = cloud.refusal("alice", "DeleteVolume", VolumeId=made)
    assert (refusal.code, on in refusal.message) == ("VolumeInUse", True)


def shared_to_manage(cloud: Cloud) -> str:
    """Return a volume of alice's that bob, of her group, may manage."""
    made = volume(cloud)
    cloud.as_user("alice", "one.image.chmod", int(made[4:]), -1, -1, -1, 1, 1, -1, -1, -1, -1)
    return made


def test_a_mark_on_a_volume_that_others_may_manage_attaches_it_to_nothing(cloud: Cloud) -> None:
    """Who may write on a volume may not, for that, have it plugged into its owner's instances."""
    on, made = instance(cloud), shared_to_manage(cloud)
    cloud.run("alice", "CreateVolume", AvailabilityZone=ZONE, Size=1)  # has the reconciler look after alice
    mark = PendingAttachment(int(on[2:]), "/dev/sdz", int(cloud.clock.seconds()))
    cloud.as_user("bob", "one.image.update", int(made[4:]), mark.text, 1)
    assert show(cloud, made)["State"] == "available"
    look(cloud)
    assert show(cloud, made)["Attachments"] == []
    assert TO_ATTACH not in image(cloud, made).template
    cloud.run("alice", "AttachVolume", **asked(made, on))


def test_a_volume_that_others_may_manage_is_not_attached_while_it_is_copied(cloud: Cloud) -> None:
    on, made = instance(cloud), shared_to_manage(cloud)
    copying_takes(cloud, LONG)
    begun(cloud, made)
    assert cloud.refusal("alice", "AttachVolume", **asked(made, on)).code == "IncorrectState"
    assert TO_ATTACH not in image(cloud, made).template
