"""AMIs: which images are some, what is shown of them, and how images become some and cease to be."""

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


def ids(cloud: Cloud, user: str = "alice", **parameters: Any) -> list[str]:
    return [image["ImageId"] for image in cloud.run(user, "DescribeImages", **parameters)["Images"]]


def one(cloud: Cloud, image_id: str, user: str = "alice") -> dict[str, Any]:
    (image,) = cloud.run(user, "DescribeImages", ImageIds=[image_id])["Images"]
    return dict(image)


def filtered(cloud: Cloud, name: str, *values: str) -> list[str]:
    return ids(cloud, Filters=[{"Name": name, "Values": list(values)}])


def image_of(cloud: Cloud, user: str, name: str, extra: str = 'EC2_AMI="YES"') -> str:
    """Make an image that only `user` may see; an AMI, unless `extra` says something else of it."""
    text = f'NAME="{name}"\nTYPE="OS"\nPATH="/var/tmp/x"\n{extra}'
    number = cloud.as_user(user, "one.image.allocate", text, 1)
    cloud.wait(10)
    return f"ami-{number:08d}"


def attributes(cloud: Cloud, image_id: str) -> dict[str, Any]:
    """All free attributes of an image, as oned keeps them."""
    document = etree.fromstring(cloud.oneadmin("one.image.info", int(image_id[4:]), False))
    return dict(Image(document).template)


def test_an_ami_shows_every_field(cloud: Cloud) -> None:
    cloud.oneadmin("one.image.update", 0, 'DEV_PREFIX="vd"\nSIZE="9"\nEC2_TAG_4B=[KEY="K",VALUE="v"]', 1)
    size = int(etree.fromstring(cloud.oneadmin("one.image.info", 0, False)).findtext("SIZE") or "")
    assert one(cloud, UBUNTU) == {
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
    mine = image_of(cloud, "alice", "mine")
    image_of(cloud, "alice", "unmarked", 'EC2_AMI="NO"')
    assert ids(cloud, "alice") == [UBUNTU, mine]
    assert ids(cloud, "bob") == [UBUNTU]


@pytest.mark.parametrize("image_id", [DEBIAN, "ami-00000099", "ami-2147483647"])
def test_an_image_that_is_no_ami_does_not_exist(cloud: Cloud, image_id: str) -> None:
    error = cloud.refusal("alice", "DescribeImages", ImageIds=[image_id])
    assert (error.code, error.message) == ("InvalidAMIID.NotFound", f"The image id '{image_id}' does not exist")


def test_the_ami_of_another_user_does_not_exist(cloud: Cloud) -> None:
    hidden = image_of(cloud, "bob", "bobs")
    assert cloud.refusal("alice", "DescribeImages", ImageIds=[UBUNTU, hidden]).code == "InvalidAMIID.NotFound"


@pytest.mark.parametrize("image_id", ["ami-x", "ami-", "i-00000000", "0", "ami-00000000 ", "ami--1"])
def test_a_malformed_image_id_is_said_to_be_so(cloud: Cloud, image_id: str) -> None:
    assert cloud.refusal("alice", "DescribeImages", ImageIds=[image_id]).code == "InvalidAMIID.Malformed"


def test_owners_are_accounts_and_self(cloud: Cloud) -> None:
    mine = image_of(cloud, "alice", "mine")
    assert ids(cloud, Owners=["self"]) == [mine]
    assert ids(cloud, Owners=[ALICE]) == [mine]
    assert ids(cloud, Owners=[ONEADMIN]) == [UBUNTU]
    assert ids(cloud, Owners=["self", ONEADMIN]) == [UBUNTU, mine]
    assert ids(cloud, Owners=["self"], ImageIds=[UBUNTU]) == []


def test_the_administrators_images_are_amazons(cloud: Cloud) -> None:
    """They are the provider's, who is called so; to everybody else only by the alias, and by account as ever."""
    mine = image_of(cloud, "alice", "mine")
    (ubuntu,) = cloud.run("alice", "DescribeImages", Owners=["amazon"])["Images"]
    assert (ubuntu["ImageId"], ubuntu["ImageOwnerAlias"], ubuntu["OwnerId"]) == (UBUNTU, "amazon", ONEADMIN)
    (own,) = cloud.run("alice", "DescribeImages", ImageIds=[mine])["Images"]
    assert "ImageOwnerAlias" not in own
    assert ids(cloud, Owners=["amazon", "self"]) == [UBUNTU, mine]
    assert ids(cloud, Filters=[{"Name": "owner-alias", "Values": ["amazon"]}]) == [UBUNTU]


def test_to_the_administrator_they_are_their_own(cloud: Cloud) -> None:
    own = cloud.run("oneadmin", "DescribeImages", Owners=["self"])["Images"]
    assert [image["ImageId"] for image in own] == [UBUNTU]
    assert "ImageOwnerAlias" not in own[0]
    assert cloud.run("oneadmin", "DescribeImages", Owners=["amazon"])["Images"] == []


@pytest.mark.parametrize("alias", ["aws-marketplace", "aws-backup-vault", "microsoft"])
def test_other_aliases_of_amazons_own_no_image_here(cloud: Cloud, alias: str) -> None:
    assert ids(cloud, Owners=[alias]) == []


def test_an_account_number_may_lack_its_zeros(cloud: Cloud) -> None:
    """As those have it who take it for an integer."""
    mine = image_of(cloud, "alice", "mine")
    assert ids(cloud, Owners=["0"]) == ids(cloud, Owners=["0000"]) == [UBUNTU]
    assert ids(cloud, Owners=[str(int(ALICE))]) == [mine]
    assert ids(cloud, ExecutableUsers=[str(int(ALICE))]) == ids(cloud, ExecutableUsers=[ALICE])
    assert ids(cloud, Owners=["999999999999"]) == []


def test_an_owner_that_cannot_be_one_is_refused(cloud: Cloud) -> None:
    for owner in ("alice", "0000000000000", "-1", "1.0", "", "\u0663"):
        assert cloud.refusal("alice", "DescribeImages", Owners=[owner]).code == "InvalidUserID.Malformed"
    assert cloud.refusal("alice", "DescribeImages", ExecutableUsers=["bob"]).code == "InvalidUserID.Malformed"


def test_executable_users_are_all_for_public_images_and_self_for_those_shared_with_one(cloud: Cloud) -> None:
    mine, shared = image_of(cloud, "alice", "mine"), image_of(cloud, "bob", "shared")
    alice, image = INDIVIDUAL | 2, Kind.IMAGE.bit | INDIVIDUAL | int(shared[4:])
    cloud.oneadmin("one.acl.addrule", f"{alice:x}", f"{image:x}", f"{Right.USE:x}")
    assert ids(cloud) == [UBUNTU, mine, shared]
    assert ids(cloud, ExecutableUsers=["all"]) == [UBUNTU]
    assert ids(cloud, ExecutableUsers=["self"]) == ids(cloud, ExecutableUsers=[ALICE]) == [shared]
    assert ids(cloud, ExecutableUsers=[BOB]) == []


@pytest.mark.parametrize(
    ("name", "value", "found"),
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
def test_images_are_filtered(cloud: Cloud, name: str, value: str, found: bool) -> None:
    cloud.oneadmin("one.image.update", 0, 'EC2_TAG_6F73=[KEY="os",VALUE="linux"]', 1)
    assert filtered(cloud, name, value) == ([UBUNTU] if found else [])


def test_an_unknown_filter_of_images_is_refused(cloud: Cloud) -> None:
    assert cloud.refusal("alice", "DescribeImages", Filters=[{"Name": "nme", "Values": ["x"]}]).code == (
        "InvalidParameterValue"
    )


def test_pages_of_images_add_up_to_the_list(cloud: Cloud) -> None:
    for number in range(4):
        image_of(cloud, "alice", f"image-{number}")
    first = cloud.run("alice", "DescribeImages", MaxResults=2)
    second = cloud.run("alice", "DescribeImages", MaxResults=2, NextToken=first["NextToken"])
    third = cloud.run("alice", "DescribeImages", MaxResults=2, NextToken=second["NextToken"])
    assert "NextToken" not in third
    assert [len(page["Images"]) for page in (first, second, third)] == [2, 2, 1]
    assert [each["ImageId"] for page in (first, second, third) for each in page["Images"]] == ids(cloud)


def test_an_image_that_is_being_copied_is_pending_and_one_whose_copy_failed_says_so(cloud: Cloud) -> None:
    text = 'NAME="{}"\nTYPE="OS"\nPATH="/var/tmp/x"\nEC2_AMI="YES"'
    fresh = f"ami-{cloud.as_user('alice', 'one.image.allocate', text.format('fresh'), 1):08d}"
    assert one(cloud, fresh)["State"] == "pending"
    cloud.wait(10)
    assert one(cloud, fresh)["State"] == "available"
    cloud.oned.fail_next_image()
    broken = image_of(cloud, "alice", "broken")
    assert one(cloud, broken)["State"] == "failed"
    assert one(cloud, broken)["StateReason"]["Code"] == "Server.InternalError"


def test_a_disabled_image_is_listed_only_if_it_is_asked_for(cloud: Cloud) -> None:
    mine = image_of(cloud, "alice", "mine")
    cloud.as_user("alice", "one.image.enable", int(mine[4:]), False)
    assert ids(cloud) == [UBUNTU]
    assert ids(cloud, IncludeDisabled=True) == [UBUNTU, mine]
    assert one(cloud, mine)["State"] == "disabled"


def test_an_ami_of_the_ruby_server_is_an_ami(cloud: Cloud) -> None:
    pool = etree.parse(str(LEGACY / "imagepool.xml")).getroot()
    for image in pool.iterchildren("IMAGE"):
        name = image.findtext("NAME")
        number = cloud.as_user("alice", "one.image.allocate", f'NAME="{name}"\nTYPE="OS"\nPATH="/x"', 1)
        template = image.find("TEMPLATE")
        assert template is not None
        cloud.as_user("alice", "one.image.update", number, etree.tostring(template, encoding="unicode"), 1)
    cloud.wait(10)
    (legacy,) = cloud.run("alice", "DescribeImages", Owners=["self"])["Images"]
    assert (legacy["Name"], legacy["Description"], legacy["RootDeviceName"]) == ("ami-lab", "lab AMI", "/dev/sda1")


# RegisterImage


@pytest.mark.parametrize("spelled", ["ami-{:08d}", "{}", "ami-{}"])
def test_an_image_in_opennebula_is_registered_by_its_id_or_number(cloud: Cloud, spelled: str) -> None:
    mine = image_of(cloud, "alice", "mine", 'PROJECT="x"')
    before = attributes(cloud, mine)
    assert cloud.run("alice", "RegisterImage", ImageLocation=spelled.format(int(mine[4:])), Name="mine") == {
        "ImageId": mine
    }
    assert attributes(cloud, mine) == {**before, "EC2_AMI": "YES"}
    assert one(cloud, mine)["Name"] == "mine"


def test_a_name_is_not_insisted_on_as_the_ruby_servers_clients_send_none(cloud: Cloud) -> None:
    mine = image_of(cloud, "alice", "mine", 'PROJECT="x"')
    assert cloud.run("alice", "RegisterImage", ImageLocation=mine) == {"ImageId": mine}


def test_another_name_is_the_amis_and_not_the_images(cloud: Cloud) -> None:
    mine = image_of(cloud, "alice", "mine", 'PROJECT="x"')
    cloud.run("alice", "RegisterImage", ImageLocation=mine, Name="web [v1.0]")
    assert one(cloud, mine)["Name"] == "web [v1.0]"
    assert filtered(cloud, "name", "web*") == [mine]
    assert "<NAME>mine</NAME>" in cloud.oneadmin("one.image.info", int(mine[4:]), False)
    cloud.run("alice", "RegisterImage", ImageLocation=mine, Name="mine")
    assert one(cloud, mine)["Name"] == "mine"


@pytest.mark.parametrize("name", ["ab", "x" * 129, "né-e", 'quo"te', "back\\"])
def test_a_name_that_amazon_would_refuse_is_refused(cloud: Cloud, name: str) -> None:
    mine = image_of(cloud, "alice", "mine", 'PROJECT="x"')
    before = attributes(cloud, mine)
    error = cloud.refusal("alice", "RegisterImage", ImageLocation=mine, Name=name)
    assert error.code == "InvalidAMIName.Malformed"
    assert attributes(cloud, mine) == before


@pytest.mark.parametrize("text", AWKWARD.values(), ids=AWKWARD)
def test_a_description_survives_whatever_it_holds_and_nothing_else_changes(cloud: Cloud, text: str) -> None:
    mine = image_of(cloud, "alice", "mine", 'PROJECT="x"')
    before = attributes(cloud, mine)
    cloud.run("alice", "RegisterImage", ImageLocation=mine, Name="mine", Description=text)
    assert one(cloud, mine)["Description"] == text
    added = attributes(cloud, mine).keys() - before.keys()
    assert added in ({"EC2_AMI", "DESCRIPTION"}, {"EC2_AMI", "DESCRIPTION_BASE64"})
    assert attributes(cloud, mine) | before == attributes(cloud, mine)


def test_a_description_takes_the_place_of_the_one_before(cloud: Cloud) -> None:
    mine = image_of(cloud, "alice", "mine")
    for text in ("plain", AWKWARD["emoji"], "plain again", AWKWARD["trailing-backslash"]):
        cloud.run("alice", "RegisterImage", ImageLocation=mine, Name="mine", Description=text)
        assert one(cloud, mine)["Description"] == text


def test_an_empty_description_takes_away_the_one_before_and_none_leaves_it(cloud: Cloud) -> None:
    mine = image_of(cloud, "alice", "mine", 'DESCRIPTION="before"')
    cloud.run("alice", "RegisterImage", ImageLocation=mine)
    assert one(cloud, mine)["Description"] == "before"
    cloud.run("alice", "RegisterImage", ImageLocation=mine, Description="")
    assert "Description" not in one(cloud, mine)


def test_a_description_in_sunstone_takes_the_place_of_an_encoded_one(cloud: Cloud) -> None:
    mine = image_of(cloud, "alice", "mine")
    cloud.run("alice", "RegisterImage", ImageLocation=mine, Name="mine", Description=AWKWARD["emoji"])
    cloud.as_user("alice", "one.image.update", int(mine[4:]), 'DESCRIPTION="by hand"', 1)
    assert one(cloud, mine)["Description"] == "by hand"


def test_tags_come_with_registering(cloud: Cloud) -> None:
    mine = image_of(cloud, "alice", "mine", 'PROJECT="x"')
    tags = [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": ""}]
    specification = {"ResourceType": "image", "Tags": tags}
    cloud.run("alice", "RegisterImage", ImageLocation=mine, Name="mine", TagSpecifications=[specification])
    assert one(cloud, mine)["Tags"] == tags


def test_only_one_update_is_asked_of_oned(cloud: Cloud) -> None:
    mine = image_of(cloud, "alice", "mine", 'PROJECT="x"')
    before = len(cloud.changes)
    tags = [{"ResourceType": "image", "Tags": [{"Key": "a", "Value": "1"}]}]
    cloud.run(
        "alice", "RegisterImage", ImageLocation=mine, Name="other", Description=AWKWARD["emoji"], TagSpecifications=tags
    )
    assert [change.method for change in cloud.changes[before:]] == ["one.image.update"]


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
def test_what_cannot_be_registered_is_refused(cloud: Cloud, parameters: dict[str, Any], code: str) -> None:
    before = attributes(cloud, DEBIAN)
    assert cloud.refusal("alice", "RegisterImage", Name="debian-13", **parameters).code == code
    assert attributes(cloud, DEBIAN) == before


def test_an_image_of_another_user_cannot_be_registered(cloud: Cloud) -> None:
    bobs = image_of(cloud, "bob", "bobs", 'EC2_AMI="NO"')
    assert cloud.refusal("alice", "RegisterImage", ImageLocation=bobs, Name="bobs").code == "InvalidAMIID.NotFound"
    assert attributes(cloud, bobs)["EC2_AMI"] == "NO"


def test_a_file_is_no_disk_to_start_from(cloud: Cloud) -> None:
    kernel = cloud.oneadmin("one.image.allocate", 'NAME="vmlinuz"\nTYPE="KERNEL"\nPATH="/x"', 2)
    cloud.oneadmin("one.image.chmod", kernel, 1, 1, 0, 1, 1, 0, 1, 1, 0)
    error = cloud.refusal("alice", "RegisterImage", ImageLocation=str(kernel), Name="vmlinuz")
    assert error.code == "InvalidParameterValue"


def test_an_image_whose_copy_failed_cannot_be_registered(cloud: Cloud) -> None:
    cloud.oned.fail_next_image()
    broken = image_of(cloud, "alice", "broken", 'PROJECT="x"')
    assert cloud.refusal("alice", "RegisterImage", ImageLocation=broken, Name="broken").code == "IncorrectState"


def test_registering_dry_changes_nothing_and_says_what_would_come_of_it(cloud: Cloud) -> None:
    mine = image_of(cloud, "alice", "mine", 'PROJECT="x"')
    before = len(cloud.changes)
    assert cloud.refusal("alice", "RegisterImage", ImageLocation=mine, Name="mine", dry_run=True).code == (
        "DryRunOperation"
    )
    assert cloud.refusal("alice", "RegisterImage", ImageLocation=DEBIAN, Name="debian-13", dry_run=True).code == (
        "UnauthorizedOperation"
    )
    assert cloud.changes[before:] == []


# RegisterImage by URL

NAMED = ("images.example", "10.0.0.1", "*.inside", "2001:db8::1")


@pytest.fixture
def trusting(cloud: Cloud) -> Cloud:
    """A cloud whose oned fetches images from some hosts."""
    cloud.settings = replace(cloud.settings, image_url_hosts=NAMED)
    return cloud


IMAGE_URL = "https://images.example:8443/noble/server%20v1.img?key=a%2Fb&time=1"


def test_an_image_is_fetched_from_a_url_by_oned_with_all_that_is_said_of_it(trusting: Cloud) -> None:
    before = len(trusting.changes)
    tags = [{"Key": "a", "Value": "1"}]
    made = trusting.run(
        "alice",
        "RegisterImage",
        ImageLocation=IMAGE_URL,
        Name="noble",
        Description=AWKWARD["attributes"],
        Architecture="arm64",
        TagSpecifications=[{"ResourceType": "image", "Tags": tags}],
    )["ImageId"]
    assert [change.method for change in trusting.changes[before:]] == ["one.image.allocate"]
    assert one(trusting, made)["State"] == "pending"
    trusting.wait(10)
    image = one(trusting, made)
    assert (image["Name"], image["State"], image["Architecture"]) == ("noble", "available", "arm64")
    assert (image["Description"], image["Tags"]) == (AWKWARD["attributes"], tags)
    document = etree.fromstring(trusting.oneadmin("one.image.info", int(made[4:]), False))
    assert (document.findtext("PATH"), document.findtext("TYPE"), document.findtext("DATASTORE_ID")) == (
        IMAGE_URL,
        "0",
        "1",
    )


def test_what_cannot_be_fetched_is_failed_and_says_so(trusting: Cloud) -> None:
    trusting.oned.fail_next_image()
    made = trusting.run("alice", "RegisterImage", ImageLocation=IMAGE_URL)["ImageId"]
    trusting.wait(10)
    assert (one(trusting, made)["State"], one(trusting, made)["StateReason"]["Code"]) == (
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
def test_a_url_that_is_not_plain_or_of_another_host_never_reaches_oned(trusting: Cloud, url: str) -> None:
    """Where econed fetches nothing either; tests/fetching has the tests of what it fetches."""
    before = len(trusting.changes)
    assert trusting.refusal("alice", "RegisterImage", ImageLocation=url, Name="image").code == "InvalidParameterValue"
    assert trusting.changes[before:] == []


@pytest.mark.parametrize(
    "url",
    ["http://IMAGES.example./x", "http://10.0.0.1:2633/x", "http://a.b.inside/x", "https://[2001:DB8:0::1]/x"],
)
def test_oned_fetches_from_the_hosts_that_the_administrator_has_named_wherever_they_are(
    trusting: Cloud, url: str
) -> None:
    made = trusting.run("alice", "RegisterImage", ImageLocation=url)["ImageId"]
    document = etree.fromstring(trusting.oneadmin("one.image.info", int(made[4:]), False))
    assert document.findtext("PATH") == url


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"Name": "mine"}, "InvalidAMIName.Duplicate"),
        ({"Name": "x"}, "InvalidAMIName.Malformed"),
        ({"Name": "other", "Architecture": "vax"}, "InvalidParameterValue"),
    ],
)
def test_what_cannot_be_made_from_a_url_is_refused(trusting: Cloud, parameters: dict[str, Any], code: str) -> None:
    image_of(trusting, "alice", "mine")
    before = len(trusting.changes)
    assert trusting.refusal("alice", "RegisterImage", ImageLocation=IMAGE_URL, **parameters).code == code
    assert trusting.refusal("alice", "RegisterImage", ImageLocation=IMAGE_URL, dry_run=True, **parameters).code == code
    assert trusting.changes[before:] == []


# DeregisterImage


def test_deregistering_takes_the_mark_and_leaves_the_image(cloud: Cloud) -> None:
    mine = image_of(cloud, "alice", "mine", 'PROJECT="x"')
    cloud.run("alice", "RegisterImage", ImageLocation=mine, Name="some-name")
    assert cloud.run("alice", "DeregisterImage", ImageId=mine) == {"Return": True}
    assert cloud.refusal("alice", "DescribeImages", ImageIds=[mine]).code == "InvalidAMIID.NotFound"
    assert ids(cloud) == [UBUNTU]
    assert attributes(cloud, mine)["PROJECT"] == "x"
    cloud.run("alice", "RegisterImage", ImageLocation=mine)
    assert one(cloud, mine)["Name"] == "mine"


def test_deregistering_leaves_nothing_on_the_image_but_that_it_is_no_ami(cloud: Cloud) -> None:
    mine = image_of(cloud, "alice", "mine", 'EC2_AMI="NO"')
    before = attributes(cloud, mine)
    cloud.run("alice", "RegisterImage", ImageLocation=mine, Name="some-name", Description=AWKWARD["emoji"])
    cloud.run("alice", "ModifyImageAttribute", ImageId=mine, Description={"Value": "plain"})
    cloud.run("alice", "ModifyImageAttribute", ImageId=mine, Description={"Value": ""})
    cloud.run("alice", "DeregisterImage", ImageId=mine)
    assert attributes(cloud, mine) == before


@pytest.mark.parametrize(
    ("image_id", "code"),
    [
        (DEBIAN, "InvalidAMIID.NotFound"),
        ("ami-00000099", "InvalidAMIID.NotFound"),
        ("1", "InvalidAMIID.Malformed"),
        (UBUNTU, "UnauthorizedOperation"),
    ],
)
def test_what_is_not_ones_own_ami_cannot_be_deregistered(cloud: Cloud, image_id: str, code: str) -> None:
    assert cloud.refusal("alice", "DeregisterImage", ImageId=image_id).code == code
    assert cloud.refusal("alice", "DeregisterImage", ImageId=image_id, dry_run=True).code == code
    assert ids(cloud) == [UBUNTU]


def test_deregistering_dry_changes_nothing(cloud: Cloud) -> None:
    mine = image_of(cloud, "alice", "mine")
    before = len(cloud.changes)
    assert cloud.refusal("alice", "DeregisterImage", ImageId=mine, dry_run=True).code == "DryRunOperation"
    assert cloud.changes[before:] == []
