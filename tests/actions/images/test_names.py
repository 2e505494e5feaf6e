"""Names of AMIs, key pairs and instances can be used again when the resource has been deleted."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree
from twisted.python.failure import Failure

from econed.actions.images.announcements import REQUEST_AGE
from econed.errors import EC2Error
from tests.actions.keys.test_key_pairs import import_key
from tests.actions.keys.test_key_pairs import listed as key_pairs
from tests.actions.volumes.test_volumes import begin, instance, reconcile
from tests.support.cloud import Cloud
from tests.support.delayed_oned import DelayedOned, DyingOned
from tests.support.images import create_image

UBUNTU = "ami-00000000"
COPY: dict[str, Any] = {"SourceImageId": UBUNTU, "SourceRegion": "OpenNebula"}


def copy_image(cloud: Cloud, name: str) -> str:
    response = cloud.run("alice", "CopyImage", Name=name, **COPY)
    cloud.wait(10)
    return str(response["ImageId"])


def own_amis(cloud: Cloud) -> list[tuple[str, str]]:
    """Return the ids and names of alice's AMIs."""
    images = cloud.run("alice", "DescribeImages", Owners=["self"])["Images"]
    return [(image["ImageId"], image["Name"]) for image in images]


def image_names(cloud: Cloud) -> list[str]:
    """Return the names of alice's images in OpenNebula, oldest first."""
    pool = etree.fromstring(cloud.oneadmin("one.imagepool.info", cloud.user("alice").id, -1, -1))
    return [str(image.findtext("NAME")) for image in reversed(pool)]


def test_the_name_of_a_deregistered_ami_can_be_used_again_immediately_any_number_of_times(cloud: Cloud) -> None:
    instance_id = instance(cloud)
    for number in range(1, 4):
        image_id = cloud.run("alice", "CreateImage", InstanceId=instance_id, Name="web", NoReboot=True)["ImageId"]
        cloud.wait(10)
        assert own_amis(cloud) == [(image_id, "web")]
        assert len(image_names(cloud)) == number
        cloud.run("alice", "DeregisterImage", ImageId=image_id)
    assert image_names(cloud) == ["web", "web (2)", "web (3)"]
    image_id = copy_image(cloud, "web")
    assert own_amis(cloud) == [(image_id, "web")]


def test_an_image_that_is_no_ami_does_not_reserve_its_name_and_keeps_it(cloud: Cloud) -> None:
    """Templates may refer to the image by its name."""
    existing_id = create_image(cloud, "alice", "web", "")
    image_id = copy_image(cloud, "web")
    assert own_amis(cloud) == [(image_id, "web")]
    registered_id = cloud.run("alice", "RegisterImage", ImageLocation=existing_id, Name="other")["ImageId"]
    assert own_amis(cloud) == [(existing_id, "other"), (image_id, "web")]
    assert registered_id == existing_id
    assert image_names(cloud) == ["web", "web (2)"]


def test_a_name_is_used_by_one_ami_of_its_owner_whichever_action_created_it(cloud: Cloud) -> None:
    image_id = copy_image(cloud, "web")
    other_id = create_image(cloud, "alice", "other", "")
    calls: list[tuple[str, dict[str, Any]]] = [
        ("CopyImage", {"Name": "web", **COPY}),
        ("CreateImage", {"Name": "web", "InstanceId": instance(cloud)}),
        ("RegisterImage", {"Name": "web", "ImageLocation": other_id}),
    ]
    for action, parameters in calls:
        refusal = cloud.refusal("alice", action, **parameters)
        assert (refusal.code, action, image_id in refusal.message) == ("InvalidAMIName.Duplicate", action, True)
    assert own_amis(cloud) == [(image_id, "web")]
    cloud.run("alice", "RegisterImage", ImageLocation=image_id, Name="web", Description="once more")
    assert cloud.run("bob", "CopyImage", Name="web", **COPY)["ImageId"] != image_id


def test_without_a_name_an_image_is_not_registered_under_one_that_an_ami_has(cloud: Cloud) -> None:
    existing_id = create_image(cloud, "alice", "web", "")
    image_id = copy_image(cloud, "web")
    assert cloud.refusal("alice", "RegisterImage", ImageLocation=existing_id).code == "InvalidAMIName.Duplicate"
    assert own_amis(cloud) == [(image_id, "web")]


@pytest.mark.parametrize("name", [f"ec2-vol-{'0' * 32}", f"ec2-snap-{'0' * 32}", "x" * 128])
def test_no_name_makes_an_ami_a_volume_or_a_snapshot(cloud: Cloud, name: str) -> None:
    create_image(cloud, "alice", "x" * 128, "")
    image_id = copy_image(cloud, name)
    assert own_amis(cloud) == [(image_id, name)]
    assert cloud.refusal("alice", "DescribeVolumes", VolumeIds=[f"vol-{image_id[4:]}"]).code == "InvalidVolume.NotFound"
    assert name not in image_names(cloud)[1:]
    assert max(map(len, image_names(cloud))) <= 128


DELAYS = st.lists(st.floats(0.0, 2.0), min_size=6, max_size=20)


@settings(max_examples=25, deadline=None)
@given(DELAYS, DELAYS, st.booleans(), st.booleans())
def test_of_two_processes_one_creates_an_ami_with_a_name(
    first_delays: list[float], second_delays: list[float], is_name_taken: bool, copies_image: bool
) -> None:
    """From two instances, or from an instance and an AMI; also if an image that is no AMI has the name."""
    cloud = Cloud()
    if is_name_taken:
        create_image(cloud, "alice", "web", "")
    first_id, second_id = instance(cloud), instance(cloud)
    calls: list[tuple[str, dict[str, Any]]] = [
        ("CreateImage", {"Name": "web", "InstanceId": first_id}),
        ("CopyImage", {"Name": "web", **COPY})
        if copies_image
        else ("CreateImage", {"Name": "web", "InstanceId": second_id}),
    ]
    results = [
        begin(cloud, DelayedOned(cloud.backend, cloud.clock, cycle(delays)), action, **parameters)
        for (action, parameters), delays in zip(calls, (first_delays, second_delays), strict=True)
    ]
    cloud.clock.pump([0.1] * 2500)
    errors = [result.value for (result,) in results if isinstance(result, Failure)]
    assert [error.code for error in errors if isinstance(error, EC2Error)] == ["InvalidAMIName.Duplicate"]
    assert [name for _, name in own_amis(cloud)] == ["web"]


@pytest.mark.parametrize("step", range(12))
def test_a_name_announced_by_a_process_that_died_is_never_used_twice(step: int) -> None:
    """Another call is refused until the first is finished, and gets the name if the first created nothing."""
    cloud = Cloud()
    create_image(cloud, "alice", "web", "")
    first_id, second_id = instance(cloud), instance(cloud)
    begin(
        cloud, DyingOned(cloud.backend, step, after=True), "CreateImage", Name="web", InstanceId=first_id, NoReboot=True
    )
    cloud.wait(5)
    parameters: dict[str, Any] = {"Name": "web", "InstanceId": second_id, "NoReboot": True}
    for _ in range(2):
        begin(cloud, cloud.backend, "CreateImage", **parameters)
        cloud.wait(REQUEST_AGE + 10)
        assert [name for _, name in own_amis(cloud)] in ([], ["web"])
        reconcile(cloud)
        assert [name for _, name in own_amis(cloud)] in ([], ["web"])
    assert [name for _, name in own_amis(cloud)] == ["web"]


def test_the_names_of_key_pairs_and_instances_can_be_used_again(cloud: Cloud) -> None:
    import_key(cloud, "mine")
    cloud.run("alice", "DeleteKeyPair", KeyName="mine")
    import_key(cloud, "mine")
    assert list(key_pairs(cloud)) == ["mine"]
    name_tag = [{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "web"}]}]
    assert len({instance(cloud, TagSpecifications=name_tag) for _ in range(2)}) == 2
