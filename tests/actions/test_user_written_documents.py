"""Any text in the documents of users: no list fails because of it, and no other user's objects are changed."""

from __future__ import annotations

import io
from typing import Any

import pytest
from twisted.logger import Logger

from econed.actions.chores import ChoreRun
from econed.actions.images.announcements import REQUEST_AGE
from econed.actions.instances.chores import HOLD_AGE
from econed.catalogue import all_chores
from econed.cli import check
from econed.cli.survey import Row, Verdict
from econed.reconciler import Reconciler
from tests.support.cloud import NOW, Cloud

pytestmark = pytest.mark.slow

RUN: dict[str, Any] = {"ImageId": "ami-00000000", "MinCount": 1, "MaxCount": 1}
DISK = 'DISK=[IMAGE_ID="0"]'
DIGITS = "9" * 5000
"""More digits than Python converts to a number."""

VALUES = (DIGITS, "99999999999999999999", "253402300800", "-1", "\u0661\u0662", "$(id)", "\u009b31m", "\n")
"""Texts in place of a number, a date or an id, all of which oned keeps."""

_OF_MACHINES = (
    *(
        "EC2_INSTANCE_TYPE",
        "IMAGE_ID",
        "EC2_CLIENT_TOKEN",
        "EC2_RESERVATION_ID",
        "EC2_LAUNCH_INDEX",
        "EC2_LAUNCH_COUNT",
    ),
    *("EC2_REQUEST_DIGEST", "EC2_AVAILABILITY_ZONE", "EC2_SHUTDOWN_BEHAVIOR", "SCHED_MESSAGE", "ERROR"),
)
_OF_DISKS = (
    "EC2_ATTACH_TIME",
    "EC2_DEVICE",
    "EC2_DELETE_ON_TERMINATION",
    "EC2_VOLUME_TYPE",
    "DATASTORE_ID",
    "CLUSTER_ID",
)
_OF_NICS = ("SECURITY_GROUPS", "IP", "IP6", "IP6_GLOBAL", "NETWORK_MODE", "NAME", "EC2_NOTE")
_OF_VOLUMES = (
    *("EC2_AVAILABILITY_ZONE", "EC2_VOLUME_TYPE", "EC2_SNAPSHOT_ID", "EBS_SNAPSHOT_VOLUME", "EC2_REQUEST_DIGEST"),
    *("EC2_LAUNCHED_AT", "EC2_DELETE_WITH", "SAVED_VM_ID", "DEV_PREFIX", "ARCH", "DESCRIPTION", "EC2_AMI_NAME"),
)
_OF_USERS = ("EC2_WATCHED_UNTIL", "EC2_TERMINATING_SINCE")
LISTS = (
    *("DescribeInstances", "DescribeInstanceStatus", "DescribeImages", "DescribeVolumes", "DescribeVolumeStatus"),
    *("DescribeVolumesModifications", "DescribeSnapshots", "DescribeKeyPairs", "DescribeTags"),
)


@pytest.fixture(params=["5.12", "7.4"])
def cloud(request: pytest.FixtureRequest) -> Cloud:
    """A new cloud of each form of oned."""
    return Cloud(request.param)


def members(names: tuple[str, ...], value: str) -> str:
    """Return the members of a vector attribute, which all have the same value."""
    return ",".join(f'{name}="{value}"' for name in names)


def vector(name: str, *names: str, value: str) -> str:
    """Return a vector attribute whose members all have the same value."""
    return f"{name}=[{members(names, value)}]"


def texts(names: tuple[str, ...], value: str) -> str:
    """Return template text in which all of these attributes have the same value."""
    return "\n".join(f'{name}="{value}"' for name in names)


def check_lists(cloud: Cloud) -> None:
    """Check that all lists work for alice, who owns the documents, and for bob, with whom she shares them."""
    for user in ("alice", "bob"):
        for action in LISTS:
            cloud.run(user, action)
        cloud.run(user, "DescribeInstanceStatus", IncludeAllInstances=True)


def share(cloud: Cloud, kind: str, object_id: int) -> None:
    """Share an object of alice with her group."""
    cloud.as_user("alice", f"one.{kind}.chmod", object_id, -1, -1, -1, 1, -1, -1, -1, -1, -1)


def reconcile(cloud: Cloud) -> None:
    """Let a reconciler make a round, which must not fail."""
    cloud.result(Reconciler(cloud.backend, cloud.clock, all_chores(), Logger("test")).round())


@pytest.mark.parametrize("value", VALUES)
def test_machines_with_any_attribute_values_are_listed(cloud: Cloud, value: str) -> None:
    cloud.run("alice", "RunInstances", **RUN)
    cloud.wait(10)
    share(cloud, "vm", 0)
    cloud.as_user(
        "alice",
        "one.vm.update",
        0,
        "\n".join(
            (
                texts(_OF_MACHINES, value),
                vector("EC2_TAGS", "NAME", value=value),
                vector("EC2_TAG_41", "KEY", "VALUE", value=value),
                vector("EC2_DISK0_TAG_41", "KEY_BASE64", "VALUE_BASE64", value=value),
                vector("EC2_VOLUME_MODIFICATION_0", "ORIGINAL_SIZE", "TARGET_SIZE", "TIME", value=value),
            )
        ),
        1,
    )
    check_lists(cloud)
    cloud.run("alice", "StopInstances", InstanceIds=["i-00000000"])
    cloud.wait(10)
    check_lists(cloud)


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("by", ["one.template.instantiate", "one.vm.allocate"])
def test_machines_with_any_values_on_disks_and_interfaces_are_listed(cloud: Cloud, value: str, by: str) -> None:
    disk = f'DISK=[IMAGE_ID="0",{members(_OF_DISKS, value)}]'
    volatile = f'DISK=[TYPE="fs",SIZE="10",{members(_OF_DISKS, value)}]'
    text = "\n".join((disk, volatile, vector("NIC", *_OF_NICS, value=value), texts(_OF_MACHINES, value)))
    if by == "one.vm.allocate":
        others = f'CPU="1"\nMEMORY="128"\nTEMPLATE_ID="{value}"\nSECURITY_GROUP_RULE=[SECURITY_GROUP_ID="{value}"]'
        machine_id = cloud.as_user("alice", by, f"{text}\n{others}", True)
    else:
        machine_id = cloud.as_user("alice", by, 0, "", True, text, False)
    share(cloud, "vm", machine_id)
    check_lists(cloud)


@pytest.mark.parametrize("value", VALUES)
def test_volumes_and_images_with_any_attribute_values_are_listed(cloud: Cloud, value: str) -> None:
    zone = cloud.run("alice", "DescribeAvailabilityZones")["AvailabilityZones"][0]["ZoneName"]
    volume = cloud.run("alice", "CreateVolume", AvailabilityZone=zone, Size=1)["VolumeId"]
    cloud.wait(10)
    volume_image_id = int(volume.removeprefix("vol-"))
    copy_id = cloud.as_user("alice", "one.image.clone", 0, "an image of alice")
    cloud.wait(10)
    for image_id, mark in ((volume_image_id, "EBS_VOLUME"), (copy_id, "EC2_AMI")):
        share(cloud, "image", image_id)
        modification = vector("EC2_VOLUME_MODIFICATION", "ORIGINAL_SIZE", "TARGET_SIZE", "TIME", value=value)
        hint = vector("EBS", "INSTANCE_ID", "ATTACH_TIME", "DEVICE", value=value)
        text = "\n".join((texts(_OF_VOLUMES, value), modification, hint, f'{mark}="YES"'))
        cloud.as_user("alice", "one.image.update", image_id, text, 1)
    check_lists(cloud)
    cloud.run("alice", "RunInstances", **RUN, InstanceInitiatedShutdownBehavior="terminate")
    reconcile(cloud)
    check_lists(cloud)


@pytest.mark.parametrize("value", VALUES)
def test_lists_and_chores_work_for_users_with_any_attribute_values(cloud: Cloud, value: str) -> None:
    """Chores also work for the others: an instance of bob is terminated."""
    launched = cloud.run("bob", "RunInstances", **RUN, InstanceInitiatedShutdownBehavior="terminate")
    instance = launched["Instances"][0]["InstanceId"]
    cloud.wait(10)
    cloud.oned.shut_down_inside(int(instance.removeprefix("i-")))
    cloud.wait(10)
    alice = cloud.user("alice").id
    text = "\n".join(
        (
            texts(_OF_USERS, value),
            vector("EC2_KEYPAIR_41", "NAME", "PUBLIC_KEY", "FINGERPRINT", "TYPE", "CREATED", value=value),
            vector("EC2_KEYCLAIM_41", "NAME", "TIME", value=value),
            vector("EC2_NEW_IMAGE_41", "NAME", "BEGAN", "VMID", "FACTS", "RESTART", "TOKEN", value=value),
            f'EC2_KEYPAIRS="{value}"',
        )
    )
    cloud.as_user("alice", "one.user.update", alice, text, 1)
    check_lists(cloud)
    reconcile(cloud)
    cloud.wait(10)
    (reservation,) = cloud.run("bob", "DescribeInstances", InstanceIds=[instance])["Reservations"]
    assert reservation["Instances"][0]["State"]["Name"] == "terminated"


def test_an_unexpected_failure_for_one_user_does_not_affect_the_others() -> None:
    cloud = Cloud()
    for user in ("alice", "bob"):
        cloud.run(user, "RunInstances", **RUN)
    names: list[str] = []

    async def failing(run: ChoreRun) -> None:
        names.append(run.user.name)
        if len(names) == 1:
            raise ValueError("an unexpected text")

    with pytest.raises(ValueError, match="unexpected text"):
        cloud.result(Reconciler(cloud.backend, cloud.clock, [failing], Logger("test")).round())
    assert sorted(names) == ["alice", "bob"]


# Attributes of econed's, written by users


def test_a_repeated_launch_makes_no_more_instances_than_it_requests(cloud: Cloud) -> None:
    cloud.run("alice", "RunInstances", **RUN, ClientToken="once")
    for count in ("1000000000", "7", "0", DIGITS):
        cloud.as_user("alice", "one.vm.update", 0, f'EC2_LAUNCH_COUNT="{count}"', 1)
        response = cloud.run("alice", "RunInstances", **RUN, ClientToken="once")
        assert [instance["InstanceId"] for instance in response["Instances"]] == ["i-00000000"]
    assert len([call for call in cloud.changes if call.method == "one.template.instantiate"]) == 1


def test_an_instance_cannot_be_written_into_a_reservation_of_another_user(cloud: Cloud) -> None:
    of_alice = cloud.run("alice", "RunInstances", **RUN)
    of_bob = cloud.run("bob", "RunInstances", **RUN)["Instances"][0]["InstanceId"]
    machine_id = int(of_bob.removeprefix("i-"))
    cloud.as_user("bob", "one.vm.update", machine_id, f'EC2_RESERVATION_ID="{of_alice["ReservationId"]}"', 1)
    cloud.as_user("bob", "one.vm.chmod", machine_id, -1, -1, -1, 1, -1, -1, -1, -1, -1)
    reservations = cloud.run("alice", "DescribeInstances")["Reservations"]
    assert {
        reservation["OwnerId"]: [instance["InstanceId"] for instance in reservation["Instances"]]
        for reservation in reservations
    } == {
        of_alice["OwnerId"]: [of_alice["Instances"][0]["InstanceId"]],
        cloud.call_as("bob").owner_id: [of_bob],
    }


@pytest.mark.parametrize("text", ["r-x", "r-12345678901", "", "ami-00000000", "R-00000000"])
def test_a_text_that_is_not_an_id_is_not_shown_as_a_reservation_or_an_ami(text: str) -> None:
    cloud = Cloud()
    cloud.run("alice", "RunInstances", **RUN)
    cloud.as_user("alice", "one.vm.update", 0, f'EC2_RESERVATION_ID="{text}"\nIMAGE_ID="{text}x"', 1)
    (reservation,) = cloud.run("alice", "DescribeInstances")["Reservations"]
    assert reservation["ReservationId"] == "r-00000000"
    assert reservation["Instances"][0]["ImageId"] == "ami-00000000"


def test_another_users_machine_marked_as_terminating_does_not_keep_ones_own_running(cloud: Cloud) -> None:
    """Bob shares machines that are marked as terminating: alice may not terminate them, but her own ends."""
    shared_by_bob = cloud.as_user("bob", "one.template.instantiate", 0, "", False, DISK, False)
    own = cloud.as_user("alice", "one.template.instantiate", 0, "", False, DISK, False)
    later = cloud.as_user("bob", "one.template.instantiate", 0, "", False, DISK, False)
    cloud.wait(10)
    for machine_id in (shared_by_bob, later):
        cloud.as_user("bob", "one.vm.update", machine_id, 'EC2_TERMINATING="YES"', 1)
        cloud.as_user("bob", "one.vm.chmod", machine_id, -1, -1, -1, 1, -1, -1, -1, -1, -1)
    cloud.as_user("alice", "one.vm.update", own, 'EC2_TERMINATING="YES"', 1)
    dates = f'EC2_TERMINATING_SINCE="{NOW}"\nEC2_WATCHED_UNTIL="{NOW + HOLD_AGE * 100}"'
    cloud.as_user("alice", "one.user.update", cloud.user("alice").id, dates, 1)
    reconcile(cloud)
    cloud.wait(10)
    states = {machine_id: cloud.oned.cloud.vms.get(machine_id).state.name for machine_id in (shared_by_bob, own, later)}
    assert states == {shared_by_bob: "ACTIVE", own: "DONE", later: "ACTIVE"}


def test_a_round_finishes_a_few_announcements_of_a_user_at_a_time() -> None:
    cloud = Cloud()
    alice = cloud.user("alice").id
    announced = "\n".join(f'EC2_NEW_IMAGE_{n:04X}=[NAME="n{n}",BEGAN="1"]' for n in range(200))
    watched = f'EC2_WATCHED_UNTIL="{NOW + 10 * REQUEST_AGE}"'
    cloud.as_user("alice", "one.user.update", alice, f"{announced}\n{watched}", 1)
    before = len(cloud.oned.calls)
    reconcile(cloud)
    assert len(cloud.oned.calls) - before < 40


# Texts of users that become part of templates


@pytest.mark.parametrize("key", ["ssh-rsa $USER[PASSWORD]", "ssh-rsa AAAA@^_^@TOKEN=YES", "ssh-rsa $"])
def test_a_key_that_context_would_not_keep_unchanged_is_refused_and_leaves_nothing(cloud: Cloud, key: str) -> None:
    text = f'EC2_KEYPAIR_{b"k".hex().upper()}=[NAME="k",PUBLIC_KEY="{key}"]'
    cloud.as_user("alice", "one.user.update", cloud.user("alice").id, text, 1)
    images = len(cloud.run("alice", "DescribeVolumes")["Volumes"])
    mapping = [{"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1}}]
    refusal = cloud.refusal("alice", "RunInstances", **RUN, KeyName="k", BlockDeviceMappings=mapping)
    assert (refusal.code, refusal.status) == ("InvalidParameterValue", 400)
    cloud.wait(10)
    assert len(cloud.run("alice", "DescribeVolumes")["Volumes"]) == images
    assert cloud.run("alice", "DescribeInstances")["Reservations"] == []


@pytest.mark.parametrize("prefix", ["]", 'x",READONLY="YES', "SD", "sd/", "../../", DIGITS])
def test_an_invalid_device_prefix_of_an_image_is_replaced_by_the_default(prefix: str) -> None:
    cloud = Cloud()
    quoted = prefix.replace('"', '\\"')
    cloud.oneadmin("one.image.update", 0, f'DEV_PREFIX="{quoted}"', 1)
    (image,) = cloud.run("alice", "DescribeImages", ImageIds=["ami-00000000"])["Images"]
    assert image["RootDeviceName"].startswith("/dev/sda")
    mapping = [{"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1}}]
    instance_id = cloud.run("alice", "RunInstances", **RUN, BlockDeviceMappings=mapping)["Instances"][0]["InstanceId"]
    assert "sdf" in [disk["TARGET"] for disk in cloud.oned.cloud.vms.get(int(instance_id.removeprefix("i-"))).disks]


def test_a_name_cannot_add_lines_to_the_output_of_check() -> None:
    out = io.StringIO()
    check.print_table(
        [Row(Verdict.BAD, "type x\nGOOD  all", "\u009b31mred\u2028of template 7"), Row(Verdict.GOOD, "a", "b")], out
    )
    lines = out.getvalue().splitlines()
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)
