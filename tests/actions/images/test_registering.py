"""Images in OpenNebula that are registered as AMIs."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.awkward_texts import AWKWARD
from tests.support.cloud import Cloud
from tests.support.images import DEBIAN, create_image, describe_image, filtered_ids, image_attributes


@pytest.mark.parametrize("location", ["ami-{:08d}", "{}", "ami-{}"])
def test_an_image_in_opennebula_is_registered_by_its_id_or_number(cloud: Cloud, location: str) -> None:
    image_id = create_image(cloud, "alice", "mine", 'PROJECT="x"')
    attributes_before = image_attributes(cloud, image_id)
    assert cloud.run("alice", "RegisterImage", ImageLocation=location.format(int(image_id[4:])), Name="mine") == {
        "ImageId": image_id
    }
    assert image_attributes(cloud, image_id) == {**attributes_before, "EC2_AMI": "YES"}
    assert describe_image(cloud, image_id)["Name"] == "mine"


def test_a_name_is_optional_as_for_the_ruby_server(cloud: Cloud) -> None:
    image_id = create_image(cloud, "alice", "mine", 'PROJECT="x"')
    assert cloud.run("alice", "RegisterImage", ImageLocation=image_id) == {"ImageId": image_id}


def test_a_different_name_applies_to_the_ami_and_not_to_the_image(cloud: Cloud) -> None:
    image_id = create_image(cloud, "alice", "mine", 'PROJECT="x"')
    cloud.run("alice", "RegisterImage", ImageLocation=image_id, Name="web [v1.0]")
    assert describe_image(cloud, image_id)["Name"] == "web [v1.0]"
    assert filtered_ids(cloud, "name", "web*") == [image_id]
    assert "<NAME>mine</NAME>" in cloud.oneadmin("one.image.info", int(image_id[4:]), False)
    cloud.run("alice", "RegisterImage", ImageLocation=image_id, Name="mine")
    assert describe_image(cloud, image_id)["Name"] == "mine"


@pytest.mark.parametrize("name", ["ab", "x" * 129, "né-e", 'quo"te', "back\\"])
def test_a_name_that_amazon_would_refuse_is_refused(cloud: Cloud, name: str) -> None:
    image_id = create_image(cloud, "alice", "mine", 'PROJECT="x"')
    attributes_before = image_attributes(cloud, image_id)
    error = cloud.refusal("alice", "RegisterImage", ImageLocation=image_id, Name=name)
    assert error.code == "InvalidAMIName.Malformed"
    assert image_attributes(cloud, image_id) == attributes_before


@pytest.mark.parametrize("text", AWKWARD.values(), ids=AWKWARD)
def test_a_description_is_returned_unchanged_and_nothing_else_changes(cloud: Cloud, text: str) -> None:
    image_id = create_image(cloud, "alice", "mine", 'PROJECT="x"')
    attributes_before = image_attributes(cloud, image_id)
    cloud.run("alice", "RegisterImage", ImageLocation=image_id, Name="mine", Description=text)
    assert describe_image(cloud, image_id)["Description"] == text
    added = image_attributes(cloud, image_id).keys() - attributes_before.keys()
    assert added in ({"EC2_AMI", "DESCRIPTION"}, {"EC2_AMI", "DESCRIPTION_BASE64"})
    assert image_attributes(cloud, image_id) | attributes_before == image_attributes(cloud, image_id)


def test_a_description_replaces_the_previous_one(cloud: Cloud) -> None:
    image_id = create_image(cloud, "alice", "mine")
    for text in ("plain", AWKWARD["emoji"], "plain again", AWKWARD["trailing-backslash"]):
        cloud.run("alice", "RegisterImage", ImageLocation=image_id, Name="mine", Description=text)
        assert describe_image(cloud, image_id)["Description"] == text


def test_an_empty_description_removes_the_previous_one_and_a_missing_one_keeps_it(cloud: Cloud) -> None:
    image_id = create_image(cloud, "alice", "mine", 'DESCRIPTION="before"')
    cloud.run("alice", "RegisterImage", ImageLocation=image_id)
    assert describe_image(cloud, image_id)["Description"] == "before"
    cloud.run("alice", "RegisterImage", ImageLocation=image_id, Description="")
    assert "Description" not in describe_image(cloud, image_id)


def test_a_description_set_in_sunstone_overrides_an_encoded_one(cloud: Cloud) -> None:
    image_id = create_image(cloud, "alice", "mine")
    cloud.run("alice", "RegisterImage", ImageLocation=image_id, Name="mine", Description=AWKWARD["emoji"])
    cloud.as_user("alice", "one.image.update", int(image_id[4:]), 'DESCRIPTION="by hand"', 1)
    assert describe_image(cloud, image_id)["Description"] == "by hand"


def test_registering_adds_the_specified_tags(cloud: Cloud) -> None:
    image_id = create_image(cloud, "alice", "mine", 'PROJECT="x"')
    tags = [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": ""}]
    specification = {"ResourceType": "image", "Tags": tags}
    cloud.run("alice", "RegisterImage", ImageLocation=image_id, Name="mine", TagSpecifications=[specification])
    assert describe_image(cloud, image_id)["Tags"] == tags


def test_registering_makes_one_update_call(cloud: Cloud) -> None:
    image_id = create_image(cloud, "alice", "mine", 'PROJECT="x"')
    changes_before = len(cloud.changes)
    tags = [{"ResourceType": "image", "Tags": [{"Key": "a", "Value": "1"}]}]
    cloud.run(
        "alice",
        "RegisterImage",
        ImageLocation=image_id,
        Name="other",
        Description=AWKWARD["emoji"],
        TagSpecifications=tags,
    )
    assert [change.method for change in cloud.changes[changes_before:]] == ["one.image.update"]


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"ImageLocation": "ami-00000077"}, "InvalidAMIID.NotFound"),
        ({"ImageLocation": "bucket/manifest.xml"}, "InvalidParameterValue"),
        ({"ImageLocation": "ami-x"}, "InvalidParameterValue"),
        ({"ImageLocation": "-1"}, "InvalidParameterValue"),
        ({"ImageLocation": "/var/lib/one/.one/one_auth"}, "InvalidParameterValue"),
        ({"ImageLocation": "file:///etc/passwd"}, "InvalidParameterValue"),
        ({}, "MissingParameter"),
        ({"ImageLocation": DEBIAN, "Architecture": "arm64"}, "InvalidParameterValue"),
        ({"ImageLocation": DEBIAN, "VirtualizationType": "paravirtual"}, "UnsupportedOperation"),
        ({"ImageLocation": DEBIAN, "KernelId": "aki-1"}, "UnsupportedOperation"),
        ({"ImageLocation": DEBIAN, "Description": "x" * 256}, "InvalidParameterValue"),
        ({"ImageLocation": DEBIAN, "Description": "bell\x07"}, "InvalidParameterValue"),
        ({"ImageLocation": DEBIAN, "TagSpecifications": [{"ResourceType": "instance"}]}, "InvalidParameterValue"),
        ({"ImageLocation": DEBIAN}, "UnauthorizedOperation"),
    ],
)
def test_an_image_that_cannot_be_registered_is_refused(cloud: Cloud, parameters: dict[str, Any], code: str) -> None:
    attributes_before = image_attributes(cloud, DEBIAN)
    assert cloud.refusal("alice", "RegisterImage", Name="debian-13", **parameters).code == code
    assert image_attributes(cloud, DEBIAN) == attributes_before


def test_an_image_of_another_user_cannot_be_registered(cloud: Cloud) -> None:
    image_id = create_image(cloud, "bob", "bobs", 'EC2_AMI="NO"')
    assert cloud.refusal("alice", "RegisterImage", ImageLocation=image_id, Name="bobs").code == "InvalidAMIID.NotFound"
    assert image_attributes(cloud, image_id)["EC2_AMI"] == "NO"


def test_a_file_that_is_no_disk_cannot_be_registered(cloud: Cloud) -> None:
    kernel_id = cloud.oneadmin("one.image.allocate", 'NAME="vmlinuz"\nTYPE="KERNEL"\nPATH="/x"', 2)
    cloud.oneadmin("one.image.chmod", kernel_id, 1, 1, 0, 1, 1, 0, 1, 1, 0)
    error = cloud.refusal("alice", "RegisterImage", ImageLocation=str(kernel_id), Name="vmlinuz")
    assert error.code == "InvalidParameterValue"


def test_an_image_whose_copy_failed_cannot_be_registered(cloud: Cloud) -> None:
    cloud.oned.fail_next_image()
    image_id = create_image(cloud, "alice", "broken", 'PROJECT="x"')
    assert cloud.refusal("alice", "RegisterImage", ImageLocation=image_id, Name="broken").code == "IncorrectState"


def test_a_dry_run_of_registering_changes_nothing_and_returns_the_result(cloud: Cloud) -> None:
    image_id = create_image(cloud, "alice", "mine", 'PROJECT="x"')
    changes_before = len(cloud.changes)
    assert cloud.refusal("alice", "RegisterImage", ImageLocation=image_id, Name="mine", dry_run=True).code == (
        "DryRunOperation"
    )
    assert cloud.refusal("alice", "RegisterImage", ImageLocation=DEBIAN, Name="debian-13", dry_run=True).code == (
        "UnauthorizedOperation"
    )
    assert cloud.changes[changes_before:] == []
