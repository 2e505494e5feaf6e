"""AMIs: which images are AMIs, what is shown of them, and how they are registered and deregistered."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from econed.opennebula.documents import Image
from econed.sandbox.objects.base import Kind, Right
from econed.sandbox.rights import INDIVIDUAL
from tests.support.awkward_texts import AWKWARD
from tests.support.cloud import Cloud

LEGACY = Path(__file__).parents[2] / "data" / "legacy"
UBUNTU, DEBIAN = "ami-00000000", "ami-00000001"
ALICE, BOB, ONEADMIN = "000000000002", "000000000003", "000000000000"


def image_ids(cloud: Cloud, user: str = "alice", **parameters: Any) -> list[str]:
    return [image["ImageId"] for image in cloud.run(user, "DescribeImages", **parameters)["Images"]]


def describe(cloud: Cloud, image_id: str, user: str = "alice") -> dict[str, Any]:
    (image,) = cloud.run(user, "DescribeImages", ImageIds=[image_id])["Images"]
    return dict(image)


def filtered_ids(cloud: Cloud, name: str, *values: str) -> list[str]:
    return image_ids(cloud, Filters=[{"Name": name, "Values": list(values)}])


def create_image(cloud: Cloud, user: str, name: str, extra: str = 'EC2_AMI="YES"') -> str:
    """Create an image that only `user` may see, with the attributes `extra`; by default an AMI."""
    text = f'NAME="{name}"\nTYPE="OS"\nPATH="/var/tmp/x"\n{extra}'
    image_id = cloud.as_user(user, "one.image.allocate", text, 1)
    cloud.wait(10)
    return f"ami-{image_id:08d}"


def attributes(cloud: Cloud, image_id: str) -> dict[str, Any]:
    """Return all free attributes of an image, as oned stores them."""
    document = etree.fromstring(cloud.oneadmin("one.image.info", int(image_id[4:]), False))
    return dict(Image(document).template)


def test_an_ami_shows_every_field(cloud: Cloud) -> None:
    cloud.oneadmin("one.image.update", 0, 'DEV_PREFIX="vd"\nSIZE="9"\nEC2_TAG_4B=[KEY="K",VALUE="v"]', 1)
    size = int(etree.fromstring(cloud.oneadmin("one.image.info", 0, False)).findtext("SIZE") or "")
    assert describe(cloud, UBUNTU) == {
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
    assert describe(cloud, new_id)["State"] == "pending"
    cloud.wait(10)
    assert describe(cloud, new_id)["State"] == "available"
    cloud.oned.fail_next_image()
    broken_id = create_image(cloud, "alice", "broken")
    assert describe(cloud, broken_id)["State"] == "failed"
    assert describe(cloud, broken_id)["StateReason"]["Code"] == "Server.InternalError"


def test_a_disabled_image_is_listed_only_on_request(cloud: Cloud) -> None:
    image_id = create_image(cloud, "alice", "mine")
    cloud.as_user("alice", "one.image.enable", int(image_id[4:]), False)
    assert image_ids(cloud) == [UBUNTU]
    assert image_ids(cloud, IncludeDisabled=True) == [UBUNTU, image_id]
    assert describe(cloud, image_id)["State"] == "disabled"


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


# RegisterImage


@pytest.mark.parametrize("location", ["ami-{:08d}", "{}", "ami-{}"])
def test_an_image_in_opennebula_is_registered_by_its_id_or_number(cloud: Cloud, location: str) -> None:
    image_id = create_image(cloud, "alice", "mine", 'PROJECT="x"')
    attributes_before = attributes(cloud, image_id)
    assert cloud.run("alice", "RegisterImage", ImageLocation=location.format(int(image_id[4:])), Name="mine") == {
        "ImageId": image_id
    }
    assert attributes(cloud, image_id) == {**attributes_before, "EC2_AMI": "YES"}
    assert describe(cloud, image_id)["Name"] == "mine"


def test_a_name_is_optional_as_for_the_ruby_server(cloud: Cloud) -> None:
    image_id = create_image(cloud, "alice", "mine", 'PROJECT="x"')
    assert cloud.run("alice", "RegisterImage", ImageLocation=image_id) == {"ImageId": image_id}


def test_a_different_name_applies_to_the_ami_and_not_to_the_image(cloud: Cloud) -> None:
    image_id = create_image(cloud, "alice", "mine", 'PROJECT="x"')
    cloud.run("alice", "RegisterImage", ImageLocation=image_id, Name="web [v1.0]")
    assert describe(cloud, image_id)["Name"] == "web [v1.0]"
    assert filtered_ids(cloud, "name", "web*") == [image_id]
    assert "<NAME>mine</NAME>" in cloud.oneadmin("one.image.info", int(image_id[4:]), False)
    cloud.run("alice", "RegisterImage", ImageLocation=image_id, Name="mine")
    assert describe(cloud, image_id)["Name"] == "mine"


@pytest.mark.parametrize("name", ["ab", "x" * 129, "né-e", 'quo"te', "back\\"])
def test_a_name_that_amazon_would_refuse_is_refused(cloud: Cloud, name: str) -> None:
    image_id = create_image(cloud, "alice", "mine", 'PROJECT="x"')
    attributes_before = attributes(cloud, image_id)
    error = cloud.refusal("alice", "RegisterImage", ImageLocation=image_id, Name=name)
    assert error.code == "InvalidAMIName.Malformed"
    assert attributes(cloud, image_id) == attributes_before


@pytest.mark.parametrize("text", AWKWARD.values(), ids=AWKWARD)
def test_a_description_is_returned_unchanged_and_nothing_else_changes(cloud: Cloud, text: str) -> None:
    image_id = create_image(cloud, "alice", "mine", 'PROJECT="x"')
    attributes_before = attributes(cloud, image_id)
    cloud.run("alice", "RegisterImage", ImageLocation=image_id, Name="mine", Description=text)
    assert describe(cloud, image_id)["Description"] == text
    added = attributes(cloud, image_id).keys() - attributes_before.keys()
    assert added in ({"EC2_AMI", "DESCRIPTION"}, {"EC2_AMI", "DESCRIPTION_BASE64"})
    assert attributes(cloud, image_id) | attributes_before == attributes(cloud, image_id)


def test_a_description_replaces_the_previous_one(cloud: Cloud) -> None:
    image_id = create_image(cloud, "alice", "mine")
    for text in ("plain", AWKWARD["emoji"], "plain again", AWKWARD["trailing-backslash"]):
        cloud.run("alice", "RegisterImage", ImageLocation=image_id, Name="mine", Description=text)
        assert describe(cloud, image_id)["Description"] == text


def test_an_empty_description_removes_the_previous_one_and_a_missing_one_keeps_it(cloud: Cloud) -> None:
    image_id = create_image(cloud, "alice", "mine", 'DESCRIPTION="before"')
    cloud.run("alice", "RegisterImage", ImageLocation=image_id)
    assert describe(cloud, image_id)["Description"] == "before"
    cloud.run("alice", "RegisterImage", ImageLocation=image_id, Description="")
    assert "Description" not in describe(cloud, image_id)


def test_a_description_set_in_sunstone_overrides_an_encoded_one(cloud: Cloud) -> None:
    image_id = create_image(cloud, "alice", "mine")
    cloud.run("alice", "RegisterImage", ImageLocation=image_id, Name="mine", Description=AWKWARD["emoji"])
    cloud.as_user("alice", "one.image.update", int(image_id[4:]), 'DESCRIPTION="by hand"', 1)
    assert describe(cloud, image_id)["Description"] == "by hand"


def test_registering_adds_the_specified_tags(cloud: Cloud) -> None:
    image_id = create_image(cloud, "alice", "mine", 'PROJECT="x"')
    tags = [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": ""}]
    specification = {"ResourceType": "image", "Tags": tags}
    cloud.run("alice", "RegisterImage", ImageLocation=image_id, Name="mine", TagSpecifications=[specification])
    assert describe(cloud, image_id)["Tags"] == tags


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
    attributes_before = attributes(cloud, DEBIAN)
    assert cloud.refusal("alice", "RegisterImage", Name="debian-13", **parameters).code == code
    assert attributes(cloud, DEBIAN) == attributes_before


def test_an_image_of_another_user_cannot_be_registered(cloud: Cloud) -> None:
    image_id = create_image(cloud, "bob", "bobs", 'EC2_AMI="NO"')
    assert cloud.refusal("alice", "RegisterImage", ImageLocation=image_id, Name="bobs").code == "InvalidAMIID.NotFound"
    assert attributes(cloud, image_id)["EC2_AMI"] == "NO"


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


# RegisterImage by URL

TRUSTED_HOSTS = ("images.example", "10.0.0.1", "*.inside", "2001:db8::1")


@pytest.fixture
def trusting_cloud(cloud: Cloud) -> Cloud:
    """Return a cloud whose oned downloads images from some hosts."""
    cloud.settings = replace(cloud.settings, image_url_hosts=TRUSTED_HOSTS)
    return cloud


IMAGE_URL = "https://images.example:8443/noble/server%20v1.img?key=a%2Fb&time=1"


def test_oned_downloads_an_image_from_a_url_and_all_parameters_are_applied(trusting_cloud: Cloud) -> None:
    changes_before = len(trusting_cloud.changes)
    tags = [{"Key": "a", "Value": "1"}]
    image_id = trusting_cloud.run(
        "alice",
        "RegisterImage",
        ImageLocation=IMAGE_URL,
        Name="noble",
        Description=AWKWARD["attributes"],
        Architecture="arm64",
        TagSpecifications=[{"ResourceType": "image", "Tags": tags}],
    )["ImageId"]
    assert [change.method for change in trusting_cloud.changes[changes_before:]] == ["one.image.allocate"]
    assert describe(trusting_cloud, image_id)["State"] == "pending"
    trusting_cloud.wait(10)
    image = describe(trusting_cloud, image_id)
    assert (image["Name"], image["State"], image["Architecture"]) == ("noble", "available", "arm64")
    assert (image["Description"], image["Tags"]) == (AWKWARD["attributes"], tags)
    document = etree.fromstring(trusting_cloud.oneadmin("one.image.info", int(image_id[4:]), False))
    assert (document.findtext("PATH"), document.findtext("TYPE"), document.findtext("DATASTORE_ID")) == (
        IMAGE_URL,
        "0",
        "1",
    )


def test_an_image_that_oned_cannot_download_is_failed(trusting_cloud: Cloud) -> None:
    trusting_cloud.oned.fail_next_image()
    image_id = trusting_cloud.run("alice", "RegisterImage", ImageLocation=IMAGE_URL)["ImageId"]
    trusting_cloud.wait(10)
    assert (describe(trusting_cloud, image_id)["State"], describe(trusting_cloud, image_id)["StateReason"]["Code"]) == (
        "failed",
        "Server.InternalError",
    )


@pytest.mark.parametrize(
    "url",
    [
        "http:///x",
        "http://user:password@images.example/x",
        "http://images.example/a b",
        "http://images.example/x';touch /tmp/x;'",
        "http://images.example/$(id)",
        "http://images.example/`id`",
        "http://images.example/{a,b}",
        "http://images.example/[1-3]",
        'http://images.example/x"',
        "http://images.example/x\nPATH=y",
        "http://images.example/x#part",
        "http://images.example:0/x",
        "http://images.example:99999/x",
        "http://imagês.example/x",
        "http://other.example/x",
        "http://images.example.other.example/x",
        "http://10.0.0.2/x",
        "http://167772161/x",
        "HTTPS://images.example/x",
        "https://images.example/" + "x" * 2048,
    ],
)
def test_a_url_with_special_characters_or_another_host_never_reaches_oned(trusting_cloud: Cloud, url: str) -> None:
    """In a cloud where econed downloads nothing either; tests/fetching tests its downloads."""
    changes_before = len(trusting_cloud.changes)
    assert (
        trusting_cloud.refusal("alice", "RegisterImage", ImageLocation=url, Name="image").code
        == "InvalidParameterValue"
    )
    assert trusting_cloud.changes[changes_before:] == []


@pytest.mark.parametrize(
    "url",
    ["http://IMAGES.example./x", "http://10.0.0.1:2633/x", "http://a.b.inside/x", "https://[2001:DB8:0::1]/x"],
)
def test_oned_downloads_from_the_configured_hosts_even_in_private_networks(trusting_cloud: Cloud, url: str) -> None:
    image_id = trusting_cloud.run("alice", "RegisterImage", ImageLocation=url)["ImageId"]
    document = etree.fromstring(trusting_cloud.oneadmin("one.image.info", int(image_id[4:]), False))
    assert document.findtext("PATH") == url


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"Name": "mine"}, "InvalidAMIName.Duplicate"),
        ({"Name": "x"}, "InvalidAMIName.Malformed"),
        ({"Name": "other", "Architecture": "vax"}, "InvalidParameterValue"),
    ],
)
def test_an_ami_that_cannot_be_created_from_a_url_is_refused(
    trusting_cloud: Cloud, parameters: dict[str, Any], code: str
) -> None:
    create_image(trusting_cloud, "alice", "mine")
    changes_before = len(trusting_cloud.changes)
    assert trusting_cloud.refusal("alice", "RegisterImage", ImageLocation=IMAGE_URL, **parameters).code == code
    assert (
        trusting_cloud.refusal("alice", "RegisterImage", ImageLocation=IMAGE_URL, dry_run=True, **parameters).code
        == code
    )
    assert trusting_cloud.changes[changes_before:] == []


# DeregisterImage


def test_deregistering_removes_the_mark_and_keeps_the_image(cloud: Cloud) -> None:
    image_id = create_image(cloud, "alice", "mine", 'PROJECT="x"')
    cloud.run("alice", "RegisterImage", ImageLocation=image_id, Name="some-name")
    assert cloud.run("alice", "DeregisterImage", ImageId=image_id) == {"Return": True}
    assert cloud.refusal("alice", "DescribeImages", ImageIds=[image_id]).code == "InvalidAMIID.NotFound"
    assert image_ids(cloud) == [UBUNTU]
    assert attributes(cloud, image_id)["PROJECT"] == "x"
    cloud.run("alice", "RegisterImage", ImageLocation=image_id)
    assert describe(cloud, image_id)["Name"] == "mine"


def test_deregistering_leaves_only_the_mark_that_the_image_is_no_ami(cloud: Cloud) -> None:
    image_id = create_image(cloud, "alice", "mine", 'EC2_AMI="NO"')
    attributes_before = attributes(cloud, image_id)
    cloud.run("alice", "RegisterImage", ImageLocation=image_id, Name="some-name", Description=AWKWARD["emoji"])
    cloud.run("alice", "ModifyImageAttribute", ImageId=image_id, Description={"Value": "plain"})
    cloud.run("alice", "ModifyImageAttribute", ImageId=image_id, Description={"Value": ""})
    cloud.run("alice", "DeregisterImage", ImageId=image_id)
    assert attributes(cloud, image_id) == attributes_before


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
