"""AMIs: which images are AMIs, what is shown of them, and how they are selected."""

from __future__ import annotations

from pathlib import Path

import pytest
from lxml import etree

from econed.sandbox.objects.base import Kind, Right
from econed.sandbox.rights import INDIVIDUAL
from tests.support.cloud import Cloud
from tests.support.images import DEBIAN, UBUNTU, create_image, describe_image, filtered_ids, image_ids

LEGACY = Path(__file__).parents[2] / "data" / "legacy"
ALICE, BOB, ONEADMIN = "000000000002", "000000000003", "000000000000"


def test_an_ami_shows_every_field(cloud: Cloud) -> None:
    cloud.oneadmin("one.image.update", 0, 'DEV_PREFIX="vd"\nSIZE="9"\nEC2_TAG_4B=[KEY="K",VALUE="v"]', 1)
    size = int(etree.fromstring(cloud.oneadmin("one.image.info", 0, False)).findtext("SIZE") or "")
    assert describe_image(cloud, UBUNTU) == {
        "ImageId": UBUNTU,
        "Name": "ubuntu-24.04",
        "Description": "Ubuntu 24.04 LTS",
        "ImageLocation": f"{ONEADMIN}/ubuntu-24.04",
        "State": "available",
        "OwnerId": ONEADMIN,
        "ImageOwnerAlias": "amazon",
        "Public": True,
        "Architecture": "x86_64",
        "ImageType": "machine",
        "PlatformDetails": "Linux/UNIX",
        "UsageOperation": "RunInstances",
        "EnaSupport": False,
        "Hypervisor": "xen",
        "VirtualizationType": "hvm",
        "RootDeviceType": "ebs",
        "RootDeviceName": "/dev/sda1",
        "BlockDeviceMappings": [
            {
                "DeviceName": "/dev/sda1",
                "Ebs": {
                    "VolumeSize": (size + 1023) // 1024,
                    "VolumeType": "standard",
                    "DeleteOnTermination": True,
                    "Encrypted": False,
                },
            }
        ],
        "CreationDate": "2027-01-15T08:00:00.000Z",
        "Tags": [{"Key": "K", "Value": "v"}],
    }


def test_only_marked_images_that_the_caller_may_see_are_amis(cloud: Cloud) -> None:
    image_id = create_image(cloud, "alice", "mine")
    create_image(cloud, "alice", "unmarked", 'EC2_AMI="NO"')
    assert image_ids(cloud, "alice") == [UBUNTU, image_id]
    assert image_ids(cloud, "bob") == [UBUNTU]


def test_an_ami_is_read_by_its_id_and_no_other_image_with_it(cloud: Cloud) -> None:
    image_id = create_image(cloud, "alice", "mine")
    before = len(cloud.oned.calls)
    cloud.run("alice", "DescribeImageAttribute", ImageId=image_id, Attribute="description")
    reads = [logged for logged in list(cloud.oned.calls)[before:] if logged.method == "one.imagepool.info"]
    assert [logged.args for logged in reads] == [(-2, int(image_id[4:]), int(image_id[4:]))]


@pytest.mark.parametrize("image_id", [DEBIAN, "ami-00000099", "ami-2147483647"])
def test_an_image_that_is_no_ami_does_not_exist(cloud: Cloud, image_id: str) -> None:
    error = cloud.refusal("alice", "DescribeImages", ImageIds=[image_id])
    assert (error.code, error.message) == ("InvalidAMIID.NotFound", f"The image id '{image_id}' does not exist")


def test_the_ami_of_another_user_does_not_exist(cloud: Cloud) -> None:
    hidden_id = create_image(cloud, "bob", "bobs")
    assert cloud.refusal("alice", "DescribeImages", ImageIds=[UBUNTU, hidden_id]).code == "InvalidAMIID.NotFound"


@pytest.mark.parametrize("image_id", ["ami-x", "ami-", "i-00000000", "0", "ami-00000000 ", "ami--1"])
def test_a_malformed_image_id_is_refused_as_malformed(cloud: Cloud, image_id: str) -> None:
    assert cloud.refusal("alice", "DescribeImages", ImageIds=[image_id]).code == "InvalidAMIID.Malformed"


def test_owners_are_accounts_and_self(cloud: Cloud) -> None:
    image_id = create_image(cloud, "alice", "mine")
    assert image_ids(cloud, Owners=["self"]) == [image_id]
    assert image_ids(cloud, Owners=[ALICE]) == [image_id]
    assert image_ids(cloud, Owners=[ONEADMIN]) == [UBUNTU]
    assert image_ids(cloud, Owners=["self", ONEADMIN]) == [UBUNTU, image_id]
    assert image_ids(cloud, Owners=["self"], ImageIds=[UBUNTU]) == []


def test_the_administrators_images_have_the_owner_alias_amazon(cloud: Cloud) -> None:
    """They are the provider's. Users can also select them by account number."""
    image_id = create_image(cloud, "alice", "mine")
    (ubuntu,) = cloud.run("alice", "DescribeImages", Owners=["amazon"])["Images"]
    assert (ubuntu["ImageId"], ubuntu["ImageOwnerAlias"], ubuntu["OwnerId"]) == (UBUNTU, "amazon", ONEADMIN)
    (own_image,) = cloud.run("alice", "DescribeImages", ImageIds=[image_id])["Images"]
    assert "ImageOwnerAlias" not in own_image
    assert image_ids(cloud, Owners=["amazon", "self"]) == [UBUNTU, image_id]
    assert image_ids(cloud, Filters=[{"Name": "owner-alias", "Values": ["amazon"]}]) == [UBUNTU]


def test_the_administrators_images_have_no_owner_alias_for_the_administrator(cloud: Cloud) -> None:
    images = cloud.run("oneadmin", "DescribeImages", Owners=["self"])["Images"]
    assert [image["ImageId"] for image in images] == [UBUNTU]
    assert "ImageOwnerAlias" not in images[0]
    assert cloud.run("oneadmin", "DescribeImages", Owners=["amazon"])["Images"] == []


@pytest.mark.parametrize("alias", ["aws-marketplace", "aws-backup-vault", "microsoft"])
def test_other_owner_aliases_of_amazons_match_nothing(cloud: Cloud, alias: str) -> None:
    assert image_ids(cloud, Owners=[alias]) == []


def test_an_account_number_is_accepted_without_leading_zeros(cloud: Cloud) -> None:
    """As clients send it that treat it as an integer."""
    image_id = create_image(cloud, "alice", "mine")
    assert image_ids(cloud, Owners=["0"]) == image_ids(cloud, Owners=["0000"]) == [UBUNTU]
    assert image_ids(cloud, Owners=[str(int(ALICE))]) == [image_id]
    assert image_ids(cloud, ExecutableUsers=[str(int(ALICE))]) == image_ids(cloud, ExecutableUsers=[ALICE])
    assert image_ids(cloud, Owners=["999999999999"]) == []


def test_a_malformed_owner_is_refused(cloud: Cloud) -> None:
    for owner in ("alice", "0000000000000", "-1", "1.0", "", "\u0663"):
        assert cloud.refusal("alice", "DescribeImages", Owners=[owner]).code == "InvalidUserID.Malformed"
    assert cloud.refusal("alice", "DescribeImages", ExecutableUsers=["bob"]).code == "InvalidUserID.Malformed"


def test_executable_users_selects_public_images_by_all_and_images_shared_with_the_caller_by_self(cloud: Cloud) -> None:
    own_id, shared_id = create_image(cloud, "alice", "mine"), create_image(cloud, "bob", "shared")
    user_mask, image_mask = INDIVIDUAL | 2, Kind.IMAGE.bit | INDIVIDUAL | int(shared_id[4:])
    cloud.oneadmin("one.acl.addrule", f"{user_mask:x}", f"{image_mask:x}", f"{Right.USE:x}")
    assert image_ids(cloud) == [UBUNTU, own_id, shared_id]
    assert image_ids(cloud, ExecutableUsers=["all"]) == [UBUNTU]
    assert image_ids(cloud, ExecutableUsers=["self"]) == image_ids(cloud, ExecutableUsers=[ALICE]) == [shared_id]
    assert image_ids(cloud, ExecutableUsers=[BOB]) == []


@pytest.mark.parametrize(
    ("name", "value", "matches"),
    [
        ("architecture", "x86_64", True),
        ("architecture", "arm64", False),
        ("block-device-mapping.delete-on-termination", "true", True),
        ("block-device-mapping.device-name", "/dev/sda1", True),
        ("block-device-mapping.encrypted", "true", False),
        ("block-device-mapping.volume-type", "standard", True),
        ("creation-date", "2027-01-15T*", True),
        ("description", "*24.04*", True),
        ("ena-support", "true", False),
        ("ena-support", "false", True),
        ("hypervisor", "xen", True),
        ("image-id", UBUNTU, True),
        ("image-type", "machine", True),
        ("is-public", "true", True),
        ("kernel-id", "aki-*", False),
        ("manifest-location", f"{ONEADMIN}/ubuntu-24.04", True),
        ("name", "ubuntu-??.04", True),
        ("name", "Ubuntu*", False),
        ("owner-alias", "amazon", True),
        ("owner-id", ONEADMIN, True),
        ("platform", "windows", False),
        ("root-device-name", "/dev/sda1", True),
        ("root-device-type", "ebs", True),
        ("state", "available", True),
        ("state", "failed", False),
        ("tag:os", "linux", True),
        ("tag:os", "Linux", False),
        ("tag-key", "os", True),
        ("virtualization-type", "hvm", True),
    ],
)
def test_images_are_filtered(cloud: Cloud, name: str, value: str, matches: bool) -> None:
    cloud.oneadmin("one.image.update", 0, 'EC2_TAG_6F73=[KEY="os",VALUE="linux"]', 1)
    assert filtered_ids(cloud, name, value) == ([UBUNTU] if matches else [])


def test_an_unknown_filter_of_images_is_refused(cloud: Cloud) -> None:
    assert cloud.refusal("alice", "DescribeImages", Filters=[{"Name": "nme", "Values": ["x"]}]).code == (
        "InvalidParameterValue"
    )


def test_pages_of_images_add_up_to_the_list(cloud: Cloud) -> None:
    for number in range(4):
        create_image(cloud, "alice", f"image-{number}")
    first = cloud.run("alice", "DescribeImages", MaxResults=2)
    second = cloud.run("alice", "DescribeImages", MaxResults=2, NextToken=first["NextToken"])
    third = cloud.run("alice", "DescribeImages", MaxResults=2, NextToken=second["NextToken"])
    assert "NextToken" not in third
    assert [len(page["Images"]) for page in (first, second, third)] == [2, 2, 1]
    assert [image["ImageId"] for page in (first, second, third) for image in page["Images"]] == image_ids(cloud)


def test_an_image_that_is_being_copied_is_pending_and_failed_if_the_copy_fails(cloud: Cloud) -> None:
    template = 'NAME="{}"\nTYPE="OS"\nPATH="/var/tmp/x"\nEC2_AMI="YES"'
    new_id = f"ami-{cloud.as_user('alice', 'one.image.allocate', template.format('fresh'), 1):08d}"
    assert describe_image(cloud, new_id)["State"] == "pending"
    cloud.wait(10)
    assert describe_image(cloud, new_id)["State"] == "available"
    cloud.oned.fail_next_image()
    broken_id = create_image(cloud, "alice", "broken")
    assert describe_image(cloud, broken_id)["State"] == "failed"
    assert describe_image(cloud, broken_id)["StateReason"]["Code"] == "Server.InternalError"


def test_a_disabled_image_is_listed_only_on_request(cloud: Cloud) -> None:
    image_id = create_image(cloud, "alice", "mine")
    cloud.as_user("alice", "one.image.enable", int(image_id[4:]), False)
    assert image_ids(cloud) == [UBUNTU]
    assert image_ids(cloud, IncludeDisabled=True) == [UBUNTU, image_id]
    assert describe_image(cloud, image_id)["State"] == "disabled"


def test_an_ami_of_the_ruby_server_is_an_ami(cloud: Cloud) -> None:
    pool = etree.parse(str(LEGACY / "imagepool.xml")).getroot()
    for image in pool.iterchildren("IMAGE"):
        name = image.findtext("NAME")
        image_id = cloud.as_user("alice", "one.image.allocate", f'NAME="{name}"\nTYPE="OS"\nPATH="/x"', 1)
        template = image.find("TEMPLATE")
        assert template is not None
        cloud.as_user("alice", "one.image.update", image_id, etree.tostring(template, encoding="unicode"), 1)
    cloud.wait(10)
    (ami,) = cloud.run("alice", "DescribeImages", Owners=["self"])["Images"]
    assert (ami["Name"], ami["Description"], ami["RootDeviceName"]) == ("ami-lab", "lab AMI", "/dev/sda1")
