"""Names that users give: each is free again when its thing is gone, whatever OpenNebula calls what is left of it."""

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
from tests.actions.images.test_images import image_of
from tests.actions.keys.test_key_pairs import import_key
from tests.actions.keys.test_key_pairs import listed as key_pairs
from tests.actions.volumes.test_volumes import begin, instance, reconcile
from tests.support.cloud import Cloud
from tests.support.delayed_oned import DelayedOned, DyingOned

UBUNTU = "ami-00000000"
COPY: dict[str, Any] = {"SourceImageId": UBUNTU, "SourceRegion": "OpenNebula"}


def copy(cloud: Cloud, name: str) -> str:
    answer = cloud.run("alice", "CopyImage", Name=name, **COPY)
    cloud.wait(10)
    return str(answer["ImageId"])


def amis(cloud: Cloud) -> list[tuple[str, str]]:
    """Return the ids and names of alice's AMIs."""
    found = cloud.run("alice", "DescribeImages", Owners=["self"])["Images"]
    return [(each["ImageId"], each["Name"]) for each in found]


def image_names(cloud: Cloud) -> list[str]:
    """Return the names of alice's images in OpenNebula, oldest first."""
    pool = etree.fromstring(cloud.oneadmin("one.imagepool.info", cloud.user("alice").id, -1, -1))
    return [str(each.findtext("NAME")) for each in reversed(pool)]


def test_the_name_of_a_deregistered_ami_is_free_again_at_once_and_as_often_as_one_likes(cloud: Cloud) -> None:
    on = instance(cloud)
    for number in range(1, 4):
        made = cloud.run("alice", "CreateImage", InstanceId=on, Name="web", NoReboot=True)["ImageId"]
        cloud.wait(10)
        assert amis(cloud) == [(made, "web")]
        assert len(image_names(cloud)) == number
        cloud.run("alice", "DeregisterImage", ImageId=made)
    assert image_names(cloud) == ["web", "web (2)", "web (3)"]
    made = copy(cloud, "web")
    assert amis(cloud) == [(made, "web")]


def test_an_image_that_is_no_ami_does_not_have_the_name_of_one_and_keeps_its_own(cloud: Cloud) -> None:
    """Templates may refer to it by name."""
    there = image_of(cloud, "alice", "web", "")
    made = copy(cloud, "web")
    assert amis(cloud) == [(made, "web")]
    fetched = cloud.run("alice", "RegisterImage", ImageLocation=there, Name="other")["ImageId"]
    assert amis(cloud) == [(there, "other"), (made, "web")]
    assert fetched == there
    assert image_names(cloud) == ["web", "web (2)"]


def test_a_name_is_used_by_one_ami_of_its_owner_whichever_action_made_it(cloud: Cloud) -> None:
    made = copy(cloud, "web")
    other = image_of(cloud, "alice", "other", "")
    calls: list[tuple[str, dict[str, Any]]] = [
        ("CopyImage", {"Name": "web", **COPY}),
        ("CreateImage", {"Name": "web", "InstanceId": instance(cloud)}),
        ("RegisterImage", {"Name": "web", "ImageLocation": other}),
    ]
    for action, parameters in calls:
        refusal = cloud.refusal("alice", action, **parameters)
        assert (refusal.code, action, made in refusal.message) == ("InvalidAMIName.Duplicate", action, True)
    assert amis(cloud) == [(made, "web")]
    cloud.run("alice", "RegisterImage", ImageLocation=made, Name="web", Description="once more")
    assert cloud.run("bob", "CopyImage", Name="web", **COPY)["ImageId"] != made


def test_without_a_name_an_image_is_not_registered_under_one_that_an_ami_has(cloud: Cloud) -> None:
    there = image_of(cloud, "alice", "web", "")
    made = copy(cloud, "web")
    assert cloud.refusal("alice", "RegisterImage", ImageLocation=there).code == "InvalidAMIName.Duplicate"
    assert amis(cloud) == [(made, "web")]


@pytest.mark.parametrize("name", [f"ec2-vol-{'0' * 32}", f"ec2-snap-{'0' * 32}", "x" * 128])
def test_no_name_makes_an_ami_anything_else(cloud: Cloud, name: str) -> None:
    image_of(cloud, "alice", "x" * 128, "")
    made = copy(cloud, name)
    assert amis(cloud) == [(made, name)]
    assert cloud.refusal("alice", "DescribeVolumes", VolumeIds=[f"vol-{made[4:]}"]).code == "InvalidVolume.NotFound"
    assert name not in image_names(cloud)[1:]
    assert max(map(len, image_names(cloud))) <= 128


PACE = st.lists(st.floats(0.0, 2.0), min_size=6, max_size=20)


@settings(max_examples=25, deadline=None)
@given(PACE, PACE, st.booleans(), st.booleans())
def test_of_two_processes_one_makes_an_ami_of_a_name(
    one: list[float], two: list[float], held: bool, copied: bool
) -> None:
    """From two instances, or from an instance and another AMI; also where an image that is no AMI has the name."""
    cloud = Cloud()
    if held:
        image_of(cloud, "alice", "web", "")
    first, second = instance(cloud), instance(cloud)
    calls: list[tuple[str, dict[str, Any]]] = [
        ("CreateImage", {"Name": "web", "InstanceId": first}),
        ("CopyImage", {"Name": "web", **COPY}) if copied else ("CreateImage", {"Name": "web", "InstanceId": second}),
    ]
    ended = [
        begin(cloud, DelayedOned(cloud.backend, cloud.clock, cycle(delays)), action, **parameters)
        for (action, parameters), delays in zip(calls, (one, two), strict=True)
    ]
    cloud.clock.pump([0.1] * 2500)
    errors = [each.value for (each,) in ended if isinstance(each, Failure)]
    assert [error.code for error in errors if isinstance(error, EC2Error)] == ["InvalidAMIName.Duplicate"]
    assert [name for _, name in amis(cloud)] == ["web"]


@pytest.mark.parametrize("step", range(12))
def test_a_name_that_a_call_that_died_was_about_to_use_is_never_used_twice(step: int) -> None:
    """Another call is refused until that is settled, and then has the name if nothing came of the first one."""
    cloud = Cloud()
    image_of(cloud, "alice", "web", "")
    first, second = instance(cloud), instance(cloud)
    begin(cloud, DyingOned(cloud.backend, step, after=True), "CreateImage", Name="web", InstanceId=first, NoReboot=True)
    cloud.wait(5)
    asked: dict[str, Any] = {"Name": "web", "InstanceId": second, "NoReboot": True}
    for _ in range(2):
        begin(cloud, cloud.backend, "CreateImage", **asked)
        cloud.wait(REQUEST_AGE + 10)
        assert [name for _, name in amis(cloud)] in ([], ["web"])
        reconcile(cloud)
        assert [name for _, name in amis(cloud)] in ([], ["web"])
    assert [name for _, name in amis(cloud)] == ["web"]


def test_the_names_of_key_pairs_and_machines_are_free_again_too(cloud: Cloud) -> None:
    import_key(cloud, "mine")
    cloud.run("alice", "DeleteKeyPair", KeyName="mine")
    import_key(cloud, "mine")
    assert list(key_pairs(cloud)) == ["mine"]
    named = [{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "web"}]}]
    assert len({instance(cloud, TagSpecifications=named) for _ in range(2)}) == 2
