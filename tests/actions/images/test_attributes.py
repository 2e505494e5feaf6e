"""Single attributes of AMIs: shown, changed and reset."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.awkward_texts import AWKWARD
from tests.support.cloud import Cloud

UBUNTU, EVERYBODY = "ami-00000000", [{"Group": "all"}]


def create_image(cloud: Cloud, user: str = "alice", extra: str = 'EC2_AMI="YES"') -> str:
    image_id = cloud.as_user(user, "one.image.allocate", f'NAME="mine"\nTYPE="OS"\nPATH="/x"\n{extra}', 1)
    cloud.wait(10)
    return f"ami-{image_id:08d}"


def describe_attribute(cloud: Cloud, image_id: str, attribute: str, user: str = "alice") -> dict[str, Any]:
    response = cloud.run(user, "DescribeImageAttribute", ImageId=image_id, Attribute=attribute)
    assert response.pop("ImageId") == image_id
    return response


NEWER_FORM = {"LaunchPermission": {"Add": EVERYBODY}}, {"LaunchPermission": {"Remove": EVERYBODY}}
OLDER_FORM = tuple(
    {"Attribute": "launchPermission", "OperationType": operation, "UserGroups": ["all"]}
    for operation in ("add", "remove")
)
WITHOUT_ATTRIBUTE = tuple({"OperationType": operation, "UserGroups": ["all"]} for operation in ("add", "remove"))


@pytest.mark.parametrize(
    ("add", "remove"), [NEWER_FORM, OLDER_FORM, WITHOUT_ATTRIBUTE], ids=["newer", "older", "without-attribute"]
)
def test_an_ami_is_shared_with_everybody_and_no_longer_shared(
    cloud: Cloud, add: dict[str, Any], remove: dict[str, Any]
) -> None:
    image_id = create_image(cloud)
    assert describe_attribute(cloud, image_id, "launchPermission") == {"LaunchPermissions": []}
    cloud.run("alice", "ModifyImageAttribute", ImageId=image_id, **add)
    assert describe_attribute(cloud, image_id, "launchPermission") == {"LaunchPermissions": EVERYBODY}
    assert cloud.run("bob", "DescribeImages", ImageIds=[image_id])["Images"][0]["Public"]
    assert [image["ImageId"] for image in cloud.run("bob", "DescribeImages", ExecutableUsers=["all"])["Images"]] == [
        UBUNTU,
        image_id,
    ]
    cloud.run("bob", "RunInstances", ImageId=image_id, MinCount=1, MaxCount=1)
    cloud.run("alice", "ModifyImageAttribute", ImageId=image_id, **remove)
    assert describe_attribute(cloud, image_id, "launchPermission") == {"LaunchPermissions": []}
    assert cloud.refusal("bob", "DescribeImages", ImageIds=[image_id]).code == "InvalidAMIID.NotFound"


def test_resetting_removes_every_permission_but_the_owners(cloud: Cloud) -> None:
    image_id = create_image(cloud)
    cloud.as_user("alice", "one.image.chmod", int(image_id[4:]), -1, -1, -1, 1, -1, -1, -1, -1, -1)
    assert describe_attribute(cloud, image_id, "launchPermission") == {"LaunchPermissions": EVERYBODY}
    cloud.run("alice", "ResetImageAttribute", ImageId=image_id, Attribute="launchPermission")
    assert describe_attribute(cloud, image_id, "launchPermission") == {"LaunchPermissions": []}
    assert cloud.run("alice", "DescribeImages", Owners=["self"])["Images"][0]["ImageId"] == image_id


@pytest.mark.parametrize("text", [*AWKWARD.values(), "plain", ""], ids=[*AWKWARD, "plain", "empty"])
def test_a_changed_description_is_returned_unchanged(cloud: Cloud, text: str) -> None:
    image_id = create_image(cloud, extra='EC2_AMI="YES"\nDESCRIPTION="before"')
    cloud.run("alice", "ModifyImageAttribute", ImageId=image_id, Description={"Value": text})
    assert describe_attribute(cloud, image_id, "description").get("Description", {}).get("Value", "") == text
    cloud.run("alice", "ModifyImageAttribute", ImageId=image_id, Attribute="description", Value="old form")
    assert describe_attribute(cloud, image_id, "description") == {"Description": {"Value": "old form"}}


def test_attributes_that_no_image_here_has_are_empty(cloud: Cloud) -> None:
    for attribute in ("kernel", "ramdisk", "sriovNetSupport"):
        assert describe_attribute(cloud, UBUNTU, attribute) == {}
    assert describe_attribute(cloud, UBUNTU, "productCodes") in ({}, {"ProductCodes": []})
    (disk,) = describe_attribute(cloud, UBUNTU, "blockDeviceMapping")["BlockDeviceMappings"]
    assert disk["DeviceName"] == "/dev/sda1"


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"LaunchPermission": {"Add": [{"UserId": "000000000003"}]}}, "UnsupportedOperation"),
        ({"OperationType": "add", "UserIds": ["000000000003"]}, "UnsupportedOperation"),
        ({"LaunchPermission": {"Add": [{"UserId": "000000000000"}]}}, "UnsupportedOperation"),
        ({"LaunchPermission": {"Add": EVERYBODY, "Remove": EVERYBODY}}, "InvalidParameterCombination"),
        ({"LaunchPermission": {"Add": EVERYBODY}, "Description": {"Value": "x"}}, "InvalidParameterCombination"),
        ({}, "InvalidParameterCombination"),
        ({"UserGroups": ["all"]}, "MissingParameter"),
        ({"OperationType": "toggle", "UserGroups": ["all"]}, "InvalidParameterValue"),
        ({"Attribute": "kernel", "Value": "aki-1"}, "InvalidParameterValue"),
        ({"Description": {"Value": "x" * 256}}, "InvalidParameterValue"),
        ({"ProductCodes": ["x"]}, "UnsupportedOperation"),
    ],
)
def test_a_modification_that_is_not_supported_is_refused_and_changes_nothing(
    cloud: Cloud, parameters: dict[str, Any], code: str
) -> None:
    image_id = create_image(cloud)
    changes_before = len(cloud.changes)
    assert cloud.refusal("alice", "ModifyImageAttribute", ImageId=image_id, **parameters).code == code
    assert cloud.changes[changes_before:] == []


def test_the_images_of_other_users_are_not_changed(cloud: Cloud) -> None:
    other_image_id = create_image(cloud, "bob")
    for image_id, code in ((other_image_id, "InvalidAMIID.NotFound"), (UBUNTU, "UnauthorizedOperation")):
        for parameters in ({"LaunchPermission": {"Add": EVERYBODY}}, {"Description": {"Value": "mine now"}}):
            assert cloud.refusal("alice", "ModifyImageAttribute", ImageId=image_id, **parameters).code == code
        refusal = cloud.refusal("alice", "ResetImageAttribute", ImageId=image_id, Attribute="launchPermission")
        assert refusal.code == code
    refusal = cloud.refusal("alice", "DescribeImageAttribute", ImageId=UBUNTU, Attribute="launchPermission")
    assert refusal.code == "AuthFailure"
    assert describe_attribute(cloud, UBUNTU, "description") == {"Description": {"Value": "Ubuntu 24.04 LTS"}}


@pytest.mark.parametrize("account", ["000000004711", "999999999999", "3", "0000000000003", "bob", "", "00000000000x"])
def test_an_account_that_does_not_exist_is_an_invalid_item(cloud: Cloud, account: str) -> None:
    """As on Amazon, in both forms of the request, whether the AMI is to be shared or no longer shared."""
    image_id = create_image(cloud)
    requests: list[dict[str, Any]] = [{"OperationType": "add", "UserIds": [account]}]
    if account:  # an empty member of a structure counts as not given
        requests += [{"LaunchPermission": {operation: [{"UserId": account}]}} for operation in ("Add", "Remove")]
    for parameters in requests:
        refusal = cloud.refusal("alice", "ModifyImageAttribute", ImageId=image_id, **parameters)
        assert (refusal.code, refusal.status) == ("InvalidAMIAttributeItemValue", 400)
        assert refusal.message == f'Invalid attribute item value "{account}" for userId item type.'


def test_a_group_other_than_all_is_an_invalid_item(cloud: Cloud) -> None:
    image_id = create_image(cloud)
    for parameters in (
        {"OperationType": "add", "UserGroups": ["friends"]},
        {"LaunchPermission": {"Add": [{"Group": "friends"}]}},
        {"LaunchPermission": {"Remove": [*EVERYBODY, {"Group": "friends"}]}},
    ):
        refusal = cloud.refusal("alice", "ModifyImageAttribute", ImageId=image_id, **parameters)
        assert (refusal.code, refusal.status) == ("InvalidAMIAttributeItemValue", 400)
        assert refusal.message == 'Invalid attribute item value "friends" for UserGroup item type.'


@pytest.mark.parametrize("action", ["DescribeImageAttribute", "ResetImageAttribute"])
def test_an_unknown_attribute_is_refused(cloud: Cloud, action: str) -> None:
    image_id = create_image(cloud)
    assert cloud.refusal("alice", action, ImageId=image_id, Attribute="colour").code == "InvalidParameterValue"


def test_dry_runs_change_nothing(cloud: Cloud) -> None:
    image_id = create_image(cloud)
    changes_before = len(cloud.changes)
    for action, parameters in (
        ("ModifyImageAttribute", {"LaunchPermission": {"Add": EVERYBODY}}),
        ("ModifyImageAttribute", {"Description": {"Value": "x"}}),
        ("ResetImageAttribute", {"Attribute": "launchPermission"}),
    ):
        assert cloud.refusal("alice", action, ImageId=image_id, dry_run=True, **parameters).code == "DryRunOperation"
    assert cloud.changes[changes_before:] == []
