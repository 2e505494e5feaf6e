"""Single attributes of AMIs, shown, changed and taken back."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.awkward_texts import AWKWARD
from tests.support.cloud import Cloud

UBUNTU, ALL = "ami-00000000", [{"Group": "all"}]


def image_of(cloud: Cloud, user: str = "alice", extra: str = 'EC2_AMI="YES"') -> str:
    number = cloud.as_user(user, "one.image.allocate", f'NAME="mine"\nTYPE="OS"\nPATH="/x"\n{extra}', 1)
    cloud.wait(10)
    return f"ami-{number:08d}"


def shown(cloud: Cloud, image: str, attribute: str, user: str = "alice") -> dict[str, Any]:
    answer = cloud.run(user, "DescribeImageAttribute", ImageId=image, Attribute=attribute)
    assert answer.pop("ImageId") == image
    return answer


NEW = {"LaunchPermission": {"Add": ALL}}, {"LaunchPermission": {"Remove": ALL}}
OLD = tuple({"Attribute": "launchPermission", "OperationType": do, "UserGroups": ["all"]} for do in ("add", "remove"))
BARE = tuple({"OperationType": do, "UserGroups": ["all"]} for do in ("add", "remove"))


@pytest.mark.parametrize(("add", "remove"), [NEW, OLD, BARE], ids=["new", "old", "bare"])
def test_an_image_is_let_to_everybody_and_to_nobody_again(
    cloud: Cloud, add: dict[str, Any], remove: dict[str, Any]
) -> None:
    mine = image_of(cloud)
    assert shown(cloud, mine, "launchPermission") == {"LaunchPermissions": []}
    cloud.run("alice", "ModifyImageAttribute", ImageId=mine, **add)
    assert shown(cloud, mine, "launchPermission") == {"LaunchPermissions": ALL}
    assert cloud.run("bob", "DescribeImages", ImageIds=[mine])["Images"][0]["Public"]
    assert [i["ImageId"] for i in cloud.run("bob", "DescribeImages", ExecutableUsers=["all"])["Images"]] == [
        UBUNTU,
        mine,
    ]
    cloud.run("bob", "RunInstances", ImageId=mine, MinCount=1, MaxCount=1)
    cloud.run("alice", "ModifyImageAttribute", ImageId=mine, **remove)
    assert shown(cloud, mine, "launchPermission") == {"LaunchPermissions": []}
    assert cloud.refusal("bob", "DescribeImages", ImageIds=[mine]).code == "InvalidAMIID.NotFound"


def test_resetting_takes_every_permission_and_leaves_the_owners(cloud: Cloud) -> None:
    mine = image_of(cloud)
    cloud.as_user("alice", "one.image.chmod", int(mine[4:]), -1, -1, -1, 1, -1, -1, -1, -1, -1)
    assert shown(cloud, mine, "launchPermission") == {"LaunchPermissions": ALL}
    cloud.run("alice", "ResetImageAttribute", ImageId=mine, Attribute="launchPermission")
    assert shown(cloud, mine, "launchPermission") == {"LaunchPermissions": []}
    assert cloud.run("alice", "DescribeImages", Owners=["self"])["Images"][0]["ImageId"] == mine


@pytest.mark.parametrize("text", [*AWKWARD.values(), "plain", ""], ids=[*AWKWARD, "plain", "empty"])
def test_a_description_is_what_it_was_changed_to(cloud: Cloud, text: str) -> None:
    mine = image_of(cloud, extra='EC2_AMI="YES"\nDESCRIPTION="before"')
    cloud.run("alice", "ModifyImageAttribute", ImageId=mine, Description={"Value": text})
    assert shown(cloud, mine, "description").get("Description", {}).get("Value", "") == text
    cloud.run("alice", "ModifyImageAttribute", ImageId=mine, Attribute="description", Value="old form")
    assert shown(cloud, mine, "description") == {"Description": {"Value": "old form"}}


def test_what_no_image_here_has_is_empty(cloud: Cloud) -> None:
    for attribute in ("kernel", "ramdisk", "sriovNetSupport"):
        assert shown(cloud, UBUNTU, attribute) == {}
    assert shown(cloud, UBUNTU, "productCodes") in ({}, {"ProductCodes": []})
    (disk,) = shown(cloud, UBUNTU, "blockDeviceMapping")["BlockDeviceMappings"]
    assert disk["DeviceName"] == "/dev/sda1"


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"LaunchPermission": {"Add": [{"UserId": "000000000003"}]}}, "UnsupportedOperation"),
        ({"OperationType": "add", "UserIds": ["000000000003"]}, "UnsupportedOperation"),
        ({"LaunchPermission": {"Add": [{"UserId": "000000000000"}]}}, "UnsupportedOperation"),
        ({"LaunchPermission": {"Add": ALL, "Remove": ALL}}, "InvalidParameterCombination"),
        ({"LaunchPermission": {"Add": ALL}, "Description": {"Value": "x"}}, "InvalidParameterCombination"),
        ({}, "InvalidParameterCombination"),
        ({"UserGroups": ["all"]}, "MissingParameter"),
        ({"OperationType": "toggle", "UserGroups": ["all"]}, "InvalidParameterValue"),
        ({"Attribute": "kernel", "Value": "aki-1"}, "InvalidParameterValue"),
        ({"Description": {"Value": "x" * 256}}, "InvalidParameterValue"),
        ({"ProductCodes": ["x"]}, "UnsupportedOperation"),
    ],
)
def test_what_cannot_be_expressed_is_refused_and_changes_nothing(
    cloud: Cloud, parameters: dict[str, Any], code: str
) -> None:
    mine = image_of(cloud)
    before = len(cloud.changes)
    assert cloud.refusal("alice", "ModifyImageAttribute", ImageId=mine, **parameters).code == code
    assert cloud.changes[before:] == []


def test_the_images_of_others_are_not_touched(cloud: Cloud) -> None:
    theirs = image_of(cloud, "bob")
    for image, code in ((theirs, "InvalidAMIID.NotFound"), (UBUNTU, "UnauthorizedOperation")):
        for parameters in ({"LaunchPermission": {"Add": ALL}}, {"Description": {"Value": "mine now"}}):
            assert cloud.refusal("alice", "ModifyImageAttribute", ImageId=image, **parameters).code == code
        refusal = cloud.refusal("alice", "ResetImageAttribute", ImageId=image, Attribute="launchPermission")
        assert refusal.code == code
    refusal = cloud.refusal("alice", "DescribeImageAttribute", ImageId=UBUNTU, Attribute="launchPermission")
    assert refusal.code == "AuthFailure"
    assert shown(cloud, UBUNTU, "description") == {"Description": {"Value": "Ubuntu 24.04 LTS"}}


@pytest.mark.parametrize("account", ["000000004711", "999999999999", "3", "0000000000003", "bob", "", "00000000000x"])
def test_an_account_that_does_not_exist_is_an_invalid_item(cloud: Cloud, account: str) -> None:
    """As Amazon says it, in both forms of the request, and whether it is to be let or not any more."""
    mine = image_of(cloud)
    requests: list[dict[str, Any]] = [{"OperationType": "add", "UserIds": [account]}]
    if account:  # an empty member of a structure says that nothing is given
        requests += [{"LaunchPermission": {do: [{"UserId": account}]}} for do in ("Add", "Remove")]
    for parameters in requests:
        refusal = cloud.refusal("alice", "ModifyImageAttribute", ImageId=mine, **parameters)
        assert (refusal.code, refusal.status) == ("InvalidAMIAttributeItemValue", 400)
        assert refusal.message == f'Invalid attribute item value "{account}" for userId item type.'


def test_a_group_other_than_all_is_an_invalid_item(cloud: Cloud) -> None:
    mine = image_of(cloud)
    for parameters in (
        {"OperationType": "add", "UserGroups": ["friends"]},
        {"LaunchPermission": {"Add": [{"Group": "friends"}]}},
        {"LaunchPermission": {"Remove": [*ALL, {"Group": "friends"}]}},
    ):
        refusal = cloud.refusal("alice", "ModifyImageAttribute", ImageId=mine, **parameters)
        assert (refusal.code, refusal.status) == ("InvalidAMIAttributeItemValue", 400)
        assert refusal.message == 'Invalid attribute item value "friends" for UserGroup item type.'


@pytest.mark.parametrize("action", ["DescribeImageAttribute", "ResetImageAttribute"])
def test_an_unknown_attribute_is_refused(cloud: Cloud, action: str) -> None:
    mine = image_of(cloud)
    assert cloud.refusal("alice", action, ImageId=mine, Attribute="colour").code == "InvalidParameterValue"


def test_dry_runs_change_nothing(cloud: Cloud) -> None:
    mine = image_of(cloud)
    before = len(cloud.changes)
    for action, parameters in (
        ("ModifyImageAttribute", {"LaunchPermission": {"Add": ALL}}),
        ("ModifyImageAttribute", {"Description": {"Value": "x"}}),
        ("ResetImageAttribute", {"Attribute": "launchPermission"}),
    ):
        assert cloud.refusal("alice", action, ImageId=mine, dry_run=True, **parameters).code == "DryRunOperation"
    assert cloud.changes[before:] == []
