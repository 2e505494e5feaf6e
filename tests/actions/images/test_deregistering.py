"""AMIs that are deregistered, while their images stay."""

from __future__ import annotations

import pytest

from tests.support.awkward_texts import AWKWARD
from tests.support.cloud import Cloud
from tests.support.images import DEBIAN, UBUNTU, create_image, describe_image, image_attributes, image_ids


def test_deregistering_removes_the_mark_and_keeps_the_image(cloud: Cloud) -> None:
    image_id = create_image(cloud, "alice", "mine", 'PROJECT="x"')
    cloud.run("alice", "RegisterImage", ImageLocation=image_id, Name="some-name")
    assert cloud.run("alice", "DeregisterImage", ImageId=image_id) == {"Return": True}
    assert cloud.refusal("alice", "DescribeImages", ImageIds=[image_id]).code == "InvalidAMIID.NotFound"
    assert image_ids(cloud) == [UBUNTU]
    assert image_attributes(cloud, image_id)["PROJECT"] == "x"
    cloud.run("alice", "RegisterImage", ImageLocation=image_id)
    assert describe_image(cloud, image_id)["Name"] == "mine"


def test_deregistering_leaves_only_the_mark_that_the_image_is_no_ami(cloud: Cloud) -> None:
    image_id = create_image(cloud, "alice", "mine", 'EC2_AMI="NO"')
    attributes_before = image_attributes(cloud, image_id)
    cloud.run("alice", "RegisterImage", ImageLocation=image_id, Name="some-name", Description=AWKWARD["emoji"])
    cloud.run("alice", "ModifyImageAttribute", ImageId=image_id, Description={"Value": "plain"})
    cloud.run("alice", "ModifyImageAttribute", ImageId=image_id, Description={"Value": ""})
    cloud.run("alice", "DeregisterImage", ImageId=image_id)
    assert image_attributes(cloud, image_id) == attributes_before


@pytest.mark.parametrize(
    ("image_id", "code"),
    [
        (DEBIAN, "InvalidAMIID.NotFound"),
        ("ami-00000099", "InvalidAMIID.NotFound"),
        ("1", "InvalidAMIID.Malformed"),
        (UBUNTU, "UnauthorizedOperation"),
    ],
)
def test_an_ami_that_the_caller_does_not_own_cannot_be_deregistered(cloud: Cloud, image_id: str, code: str) -> None:
    assert cloud.refusal("alice", "DeregisterImage", ImageId=image_id).code == code
    assert cloud.refusal("alice", "DeregisterImage", ImageId=image_id, dry_run=True).code == code
    assert image_ids(cloud) == [UBUNTU]


def test_a_dry_run_of_deregistering_changes_nothing(cloud: Cloud) -> None:
    image_id = create_image(cloud, "alice", "mine")
    changes_before = len(cloud.changes)
    assert cloud.refusal("alice", "DeregisterImage", ImageId=image_id, dry_run=True).code == "DryRunOperation"
    assert cloud.changes[changes_before:] == []
