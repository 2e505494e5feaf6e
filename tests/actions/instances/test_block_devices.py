"""BlockDeviceMapping.N of RunInstances: the size of the root disk, and volumes created and deleted with the machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from econed.actions.disk_images.volume_facts import DELETE_WITH, LAUNCHED_AT
from econed.actions.instances.chores import HOLD_AGE
from econed.actions.volumes.chores import ORPHAN_AGE
from econed.catalogue import all_chores
from econed.opennebula.pools import OwnerFilter, StateFilter
from econed.opennebula.session import Session
from econed.opennebula.states import VmState
from econed.reconciler import Reconciler
from tests.actions.volumes.test_attaching import mappings, target
from tests.actions.volumes.test_volumes import (
    RUN,
    attach,
    begin,
    image,
    instance,
    reconcile,
    show,
    snapshot,
    volume,
    volume_ids,
)
from tests.support.cloud import Cloud
from tests.support.delayed_oned import DyingOned

DATA = {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 2}}


def devices(*mappings: dict[str, Any], **extra: Any) -> dict[str, Any]:
    """Return the parameters of a RunInstances call with block device mappings."""
    return {"BlockDeviceMappings": list(mappings), **extra}


def images(cloud: Cloud) -> set[int]:
    """Return the ids of alice's images."""
    return {image.id for image in cloud.result(Session(cloud.backend, "alice").images(OwnerFilter.MINE))}


def terminate(cloud: Cloud, instance_id: str) -> None:
    """Terminate an instance and wait until it is terminated, without running chores."""
    cloud.run("alice", "TerminateInstances", InstanceIds=[instance_id])
    cloud.wait(30)


def test_the_root_disk_has_the_requested_size(cloud: Cloud) -> None:
    instance_id = instance(cloud, **devices({"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 8, "VolumeType": "gp2"}}))
    (root,) = volume_ids(cloud)
    described = show(cloud, root)
    (attachment,) = described["Attachments"]
    assert (described["Size"], described["VolumeType"]) == (8, "gp2")
    assert attachment["InstanceId"] == instance_id


def test_a_volume_is_created_and_deleted_with_its_instance(cloud: Cloud) -> None:
    instance_id = instance(cloud, **devices(DATA))
    data = mappings(cloud, instance_id)["/dev/sdf"]
    assert data["DeleteOnTermination"] is True
    described = show(cloud, data["VolumeId"])
    assert (described["Size"], described["State"]) == (2, "in-use")
    (attachment,) = described["Attachments"]
    assert (attachment["Device"], attachment["InstanceId"]) == ("/dev/sdf", instance_id)
    assert attachment["DeleteOnTermination"] is True
    terminate(cloud, instance_id)
    reconcile(cloud)
    assert images(cloud) == set()


def test_a_volume_without_delete_on_termination_is_kept(cloud: Cloud) -> None:
    keep = {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 2, "DeleteOnTermination": False}}
    instance_id = instance(cloud, **devices(keep))
    data = mappings(cloud, instance_id)["/dev/sdf"]
    assert data["DeleteOnTermination"] is False
    terminate(cloud, instance_id)
    cloud.wait(ORPHAN_AGE + 60)
    reconcile(cloud)
    assert show(cloud, data["VolumeId"])["State"] == "available"
    attributes = image(cloud, data["VolumeId"]).template
    assert not {LAUNCHED_AT, DELETE_WITH} & set(attributes.names())


def test_a_volume_detached_before_termination_is_kept(cloud: Cloud) -> None:
    """This also holds for a volume detached in OpenNebula, without a request to econed."""
    instance_id = instance(cloud, **devices(DATA))
    volume_id = mappings(cloud, instance_id)["/dev/sdf"]["VolumeId"]
    cloud.as_user("alice", "one.vm.detach", int(instance_id[2:]), 1)
    cloud.wait(5)
    assert show(cloud, volume_id)["State"] == "available"
    terminate(cloud, instance_id)
    for _ in range(2):
        cloud.wait(ORPHAN_AGE)
        reconcile(cloud)
    assert show(cloud, volume_id)["State"] == "available"


def test_a_volume_detached_and_attached_again_is_kept(cloud: Cloud) -> None:
    instance_id = instance(cloud, **devices(DATA))
    volume_id = mappings(cloud, instance_id)["/dev/sdf"]["VolumeId"]
    cloud.run("alice", "DetachVolume", VolumeId=volume_id)
    cloud.wait(5)
    attach(cloud, volume_id, instance_id)
    assert mappings(cloud, instance_id)["/dev/sdh"]["DeleteOnTermination"] is False
    terminate(cloud, instance_id)
    reconcile(cloud)
    assert show(cloud, volume_id)["State"] == "available"


def test_volumes_are_deleted_if_the_instance_is_terminated_in_opennebula(cloud: Cloud) -> None:
    instance_id = instance(cloud, **devices(DATA))
    cloud.oneadmin("one.vm.action", "terminate-hard", int(instance_id[2:]))
    cloud.wait(30)
    reconcile(cloud)
    assert images(cloud) == set()


def test_volumes_are_deleted_even_long_after_the_launch(cloud: Cloud) -> None:
    instance_id = instance(cloud, **devices(DATA))
    for _ in range(3):
        cloud.clock.advance(25 * 3600)
        reconcile(cloud)
    terminate(cloud, instance_id)
    reconcile(cloud)
    assert images(cloud) == set()


@pytest.mark.parametrize("step", range(10))
def test_a_deletion_interrupted_by_the_death_of_a_process_is_completed_by_the_next(step: int) -> None:
    """The process that served the request is dead, the next one dies at any step, and the third completes the work."""
    cloud = Cloud()
    instance_id = instance(cloud, **devices(DATA))
    terminate(cloud, instance_id)
    dying = Deferred.fromCoroutine(
        Reconciler(DyingOned(cloud.backend, step), cloud.clock, all_chores(), Logger("test")).round()
    )
    reconcile(cloud)
    assert images(cloud) == set()
    dying.addErrback(lambda _: None)
    dying.cancel()


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", range(30))
def test_a_launch_interrupted_at_any_step_is_completed_by_the_same_call_without_stray_volumes(
    step: int, after: bool
) -> None:
    cloud = Cloud()
    parameters = {**RUN, "MinCount": 2, "MaxCount": 2, "ClientToken": "tok", **devices(DATA)}
    begin(cloud, DyingOned(cloud.backend, step, after=after), "RunInstances", **parameters)
    result = cloud.run("alice", "RunInstances", **parameters)
    cloud.wait(30)
    instance_ids = [instance["InstanceId"] for instance in result["Instances"]]
    assert len(instance_ids) == 2
    image_ids = {int(mappings(cloud, instance_id)["/dev/sdf"]["VolumeId"][4:]) for instance_id in instance_ids}
    cloud.wait(ORPHAN_AGE + HOLD_AGE)
    reconcile(cloud)
    reconcile(cloud)
    assert images(cloud) == image_ids
    for instance_id in instance_ids:
        terminate(cloud, instance_id)
    reconcile(cloud)
    assert images(cloud) == set()


@pytest.mark.parametrize("step", range(30))
def test_nothing_remains_of_an_interrupted_launch_that_is_not_repeated(step: int) -> None:
    cloud = Cloud()
    begin(cloud, DyingOned(cloud.backend, step, after=True), "RunInstances", **RUN, ClientToken="tok", **devices(DATA))
    cloud.wait(20)
    cloud.clock.advance(ORPHAN_AGE + HOLD_AGE)
    for _ in range(3):
        reconcile(cloud)
        cloud.wait(20)
    living = [m for m in cloud.result(Session(cloud.backend, "alice").vms(_all(cloud))) if m.state is not VmState.DONE]
    assert len(images(cloud)) == len(living)


def _all(cloud: Cloud) -> tuple[int, ...]:
    return cloud.result(Session(cloud.backend, "alice").vm_ids(OwnerFilter.MINE, StateFilter.ANY))


def test_a_volume_is_created_from_a_snapshot_with_the_instance(cloud: Cloud) -> None:
    for original in (volume(cloud), _attached_volume(cloud)):
        snapshot_id = snapshot(cloud, original)
        mapping = {"DeviceName": "/dev/xvdg", "Ebs": {"SnapshotId": snapshot_id}}
        instance_id = instance(cloud, **devices(mapping))
        volume_id = mappings(cloud, instance_id)["/dev/xvdg"]["VolumeId"]
        assert show(cloud, volume_id)["SnapshotId"] == snapshot_id
        assert image(cloud, volume_id).is_persistent


def _attached_volume(cloud: Cloud) -> str:
    volume_id = volume(cloud)
    attach(cloud, volume_id, instance(cloud))
    return volume_id


def test_the_machine_waits_for_slow_volumes_and_the_request_does_not(cloud: Cloud) -> None:
    cloud.oned.cloud.delays = replace(cloud.oned.cloud.delays, image=60.0)
    result = cloud.run("alice", "RunInstances", **RUN, **devices(DATA))
    (launched,) = result["Instances"]
    assert launched["State"]["Name"] == "pending"
    cloud.wait(120)
    reconcile(cloud)
    cloud.wait(20)
    (reservation,) = cloud.run("alice", "DescribeInstances")["Reservations"]
    assert reservation["Instances"][0]["State"]["Name"] == "running"
    terminate(cloud, launched["InstanceId"])
    reconcile(cloud)
    cloud.wait(100)
    assert images(cloud) == set()


def test_tags_for_volumes_are_set_on_all_of_them(cloud: Cloud) -> None:
    tags = [
        {"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "web"}]},
        {"ResourceType": "volume", "Tags": [{"Key": "Name", "Value": "disk"}]},
    ]
    instance_id = instance(cloud, **devices(DATA, TagSpecifications=tags))
    assert [show(cloud, volume_id)["Tags"] for volume_id in volume_ids(cloud)] == [tags[1]["Tags"]] * 2
    (reservation,) = cloud.run("alice", "DescribeInstances", InstanceIds=[instance_id])["Reservations"]
    assert reservation["Instances"][0]["Tags"] == tags[0]["Tags"]


def test_the_disks_of_the_type_are_the_ephemeral_disks_and_can_be_omitted(cloud: Cloud) -> None:
    cloud.oneadmin("one.template.update", 0, 'DISK=[TYPE="fs",SIZE="100",FORMAT="raw",TARGET="sdb"]', 1)
    ephemeral = {"DeviceName": "/dev/sdb", "VirtualName": "ephemeral0"}
    assert len(mappings(cloud, instance(cloud, **devices(ephemeral)))) == 2
    assert len(mappings(cloud, instance(cloud, **devices({"DeviceName": "/dev/sdb", "NoDevice": ""})))) == 1


@pytest.mark.parametrize(
    ("mapping", "code"),
    [
        ([{"DeviceName": "/dev/sda", "Ebs": {"VolumeSize": 0}}], "InvalidBlockDeviceMapping"),
        ([{"DeviceName": "/dev/sda", "Ebs": {"DeleteOnTermination": False}}], "UnsupportedOperation"),
        ([{"DeviceName": "/dev/sda", "NoDevice": ""}], "InvalidBlockDeviceMapping"),
        ([{"DeviceName": "/dev/sdf"}], "InvalidBlockDeviceMapping"),
        ([{"DeviceName": "floppy", "Ebs": {"VolumeSize": 1}}], "InvalidBlockDeviceMapping"),
        ([{"Ebs": {"VolumeSize": 1}}], "InvalidBlockDeviceMapping"),
        ([DATA, {"DeviceName": "/dev/xvdf", "Ebs": {"VolumeSize": 1}}], "InvalidBlockDeviceMapping"),
        ([{"DeviceName": "/dev/sdf", "Ebs": {"VolumeType": "gp2"}}], "MissingParameter"),
        ([{"DeviceName": "/dev/sdf", "Ebs": {"SnapshotId": "snap-00000099"}}], "InvalidSnapshot.NotFound"),
        ([{"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1, "Encrypted": True}}], "UnsupportedOperation"),
        ([{"DeviceName": "/dev/sdf", "VirtualName": "floppy0"}], "InvalidBlockDeviceMapping"),
        ([{**DATA, "NoDevice": ""}], "InvalidBlockDeviceMapping"),
        ([{"DeviceName": "/dev/sdf", "VirtualName": "ephemeral0", "NoDevice": ""}], "InvalidBlockDeviceMapping"),
        ([{"DeviceName": "/dev/sda", "Ebs": {}}, {"DeviceName": "xvda1", "Ebs": {}}], "InvalidBlockDeviceMapping"),
        ([{**DATA, "DeviceName": "/dev/sda2"}, {**DATA, "DeviceName": "/dev/xvda2"}], "InvalidBlockDeviceMapping"),
        ([DATA, {**DATA, "DeviceName": "/dev/sdf1"}], "InvalidBlockDeviceMapping"),
    ],
)
def test_an_impossible_mapping_is_refused_before_any_change(mapping: list[dict[str, Any]], code: str) -> None:
    cloud = Cloud()
    assert cloud.refusal("alice", "RunInstances", **RUN, BlockDeviceMappings=mapping).code == code
    assert cloud.changes == []


@pytest.mark.parametrize("root", ["/dev/sda", "/dev/sda1", "/dev/xvda", "xvda", "/dev/vda1", "/dev/hda"])
def test_the_root_device_has_several_names(cloud: Cloud, root: str) -> None:
    instance(cloud, **devices({"DeviceName": root, "Ebs": {"VolumeSize": 8}}))
    assert [show(cloud, volume_id)["Size"] for volume_id in volume_ids(cloud)] == [8]


@pytest.mark.parametrize("name", ["/dev/sda2", "/dev/xvda3", "vda15"])
def test_another_partition_of_the_root_device_is_a_separate_device(cloud: Cloud, name: str) -> None:
    instance(cloud)
    (plain,) = volume_ids(cloud)
    instance_id = instance(cloud, **devices({"DeviceName": name, "Ebs": {"VolumeSize": 5}}, DATA))
    by_device = mappings(cloud, instance_id)
    described = show(cloud, by_device[name]["VolumeId"])
    (attachment,) = described["Attachments"]
    assert (described["Size"], attachment["Device"], attachment["State"]) == (5, name, "attached")
    assert by_device["/dev/sdf"]["VolumeId"] != described["VolumeId"]
    assert len(by_device) == 3
    (root,) = {*volume_ids(cloud)} - {plain, described["VolumeId"], by_device["/dev/sdf"]["VolumeId"]}
    assert show(cloud, root)["Size"] == show(cloud, plain)["Size"]


def test_partitions_and_disks_attached_later_do_not_conflict(cloud: Cloud) -> None:
    """The hypervisor has whole disks only: oned chooses a target for `/dev/sda2`, which clients do not see."""
    instance_id = instance(cloud, **devices({"DeviceName": "/dev/sda2", "Ebs": {"VolumeSize": 1}}))
    hidden = target(cloud, instance_id, mappings(cloud, instance_id)["/dev/sda2"]["VolumeId"])
    for name in (f"/dev/{hidden}", "/dev/sda3"):
        attach(cloud, volume(cloud), instance_id, name)
    other = volume(cloud)
    for name in ("/dev/xvda2", "sda3", f"/dev/xvd{hidden[2:]}"):
        refusal = cloud.refusal("alice", "AttachVolume", VolumeId=other, InstanceId=instance_id, Device=name)
        assert (refusal.code, name) == ("InvalidParameterValue", name)
    by_device = mappings(cloud, instance_id)
    assert {"/dev/sda2", "/dev/sda3", f"/dev/{hidden}"} < set(by_device)
    targets = {
        target(cloud, instance_id, by_device[name]["VolumeId"]) for name in ("/dev/sda2", "/dev/sda3", f"/dev/{hidden}")
    }
    assert len(targets) == 3
    volume_id = by_device["/dev/sda3"]["VolumeId"]
    cloud.run("alice", "DetachVolume", VolumeId=volume_id, Device="xvda3")
    cloud.wait(5)
    assert "/dev/sda3" not in mappings(cloud, instance_id)


@pytest.mark.parametrize(("size", "code"), [(1, "InvalidParameterValue"), (3, "UnsupportedOperation")])
def test_a_volume_from_a_snapshot_must_have_the_size_of_the_snapshot(size: int, code: str) -> None:
    """This is documented in `docs/compatibility.md`; the error message names the alternative."""
    cloud = Cloud()
    snapshot_id = snapshot(cloud, volume(cloud, Size=2))
    mapping = {"DeviceName": "/dev/sdf", "Ebs": {"SnapshotId": snapshot_id, "VolumeSize": size}}
    refusal = cloud.refusal("alice", "RunInstances", **RUN, **devices(mapping))
    assert refusal.code == code
    assert size < 2 or "ModifyVolume" in refusal.message


def test_the_documentation_describes_the_size_of_a_volume_from_a_snapshot() -> None:
    page = (Path(__file__).parents[3] / "docs" / "compatibility.md").read_text()
    _, _, rest = page.partition("- A volume from a snapshot")
    item = " ".join(rest.partition("\n- ")[0].split())
    assert "a larger Size is `UnsupportedOperation`, a smaller one `InvalidParameterValue`" in item
    assert item.endswith("Attach the volume, then use ModifyVolume.")


def test_a_virtual_name_next_to_a_volume_is_ignored(cloud: Cloud) -> None:
    instance_id = instance(cloud, **devices({**DATA, "VirtualName": "ephemeral0"}))
    assert show(cloud, mappings(cloud, instance_id)["/dev/sdf"]["VolumeId"])["Size"] == 2


def test_a_volume_replaces_a_disk_of_the_instance_type(cloud: Cloud) -> None:
    template = 'NAME="two"\nEC2_INSTANCE_TYPE="two.disks"\nCPU="1"\nMEMORY="64"\nDISK=[TYPE="fs",SIZE="9",TARGET="sdf"]'
    cloud.as_user("alice", "one.template.allocate", template)
    instance_id = instance(cloud, **devices(DATA, InstanceType="two.disks"))
    assert show(cloud, mappings(cloud, instance_id)["/dev/sdf"]["VolumeId"])["Size"] == 2
    assert len(mappings(cloud, instance_id)) == 2


def test_a_failed_machine_leaves_no_volume(cloud: Cloud) -> None:
    cloud.oneadmin("one.user.quota", cloud.user("alice").id, 'VM=[VMS="0",CPU="-2",MEMORY="-2"]')
    assert cloud.refusal("alice", "RunInstances", **RUN, **devices(DATA)).code == "InstanceLimitExceeded"
    cloud.wait(20)
    assert images(cloud) == set()


def test_a_failed_volume_leaves_no_machine(cloud: Cloud) -> None:
    cloud.oneadmin("one.user.quota", cloud.user("alice").id, 'DATASTORE=[ID="1",IMAGES="1",SIZE="-2"]')
    two_volumes = devices(DATA, {"DeviceName": "/dev/sdg", "Ebs": {"VolumeSize": 1}})
    assert cloud.refusal("alice", "RunInstances", **RUN, **two_volumes).code == "VolumeLimitExceeded"
    cloud.wait(20)
    assert images(cloud) == set()
    assert cloud.run("alice", "DescribeInstances")["Reservations"] == []
