"""Limits on the size of econed's attributes on one object of OpenNebula."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any
from xml.sax.saxutils import escape

import pytest
from lxml import etree

from econed.actions.images.announcements import MAX_ANNOUNCED, announced_images
from econed.actions.keys.store import MAX_KEY_PAIRS, key_pair_tag_prefix, key_pairs
from econed.actions.object_limits import (
    MAX_ON_ADDRESS_NETWORK,
    MAX_ON_IMAGE,
    MAX_ON_MACHINE,
    MAX_ON_USER,
    check_size,
    size_of,
)
from econed.actions.tagging import tag_text
from econed.actions.watch import watched_until
from econed.errors import EC2Error
from econed.opennebula.attributes import Attributes
from econed.opennebula.documents import UserDocument
from econed.opennebula.methods import MAX_USER
from econed.opennebula.template import hex_name, vector
from tests.actions.keys.test_public_keys import ED25519
from tests.support.addresses import AddressCloud
from tests.support.cloud import Cloud

ALICE = 2
KEY = f"{ED25519} me@example.org".encode()
TAG = [{"Key": "one", "Value": "more"}]
LONGEST = [{"Key": f"{number:02}" + "\N{PILE OF POO}" * 126, "Value": "\N{PILE OF POO}" * 256} for number in range(50)]
"""The longest tags that a resource can have."""


def fill(cloud: Cloud, method: str, object_id: int, max_bytes: int, prefix: str = "EC2_TAG_") -> None:
    """Fill an object with attributes up to some 200 bytes below a limit, as many calls of its owner would."""
    attributes: list[tuple[str, dict[str, str]]] = []
    while (remaining := max_bytes - 150 - size_of(attributes)) > 100:
        key = f"filling-{len(attributes)}"
        name = hex_name(prefix, key)
        value = "v" * (min(60_000, remaining) - size_of([(name, {"KEY": key, "VALUE": ""})]))
        attributes.append((name, {"KEY": key, "VALUE": value}))
    cloud.oneadmin(method, object_id, "\n".join(vector(*item) for item in attributes), 1)


def import_key(cloud: Cloud, name: str, **others: Any) -> dict[str, Any]:
    """Import a key pair for alice."""
    return cloud.run("alice", "ImportKeyPair", KeyName=name, PublicKeyMaterial=KEY, **others)


def changes_of(cloud: Cloud, operation: Callable[[], object]) -> list[str]:
    """Return the methods of the changes that an operation makes."""
    before = len(cloud.changes)
    operation()
    return [call.method for call in cloud.changes[before:]]


# Size


def test_only_econeds_attributes_count_and_removals_are_never_refused() -> None:
    present = Attributes([("SSH_PUBLIC_KEY", "x" * 1000), ("EC2_TAG_61", {"KEY": "a", "VALUE": "b" * 100})])
    assert 100 < size_of(present) < 150
    full = EC2Error("TagLimitExceeded", "full")
    check_size(present, "x" * 100, size_of(present) + 100, full)
    with pytest.raises(EC2Error):
        check_size(present, "x" * 101, size_of(present) + 100, full)
    check_size(present, "", 0, full)


def test_the_size_of_attributes_is_about_that_of_the_template_text() -> None:
    """An attribute counts as about the same number of bytes before and after it is written."""
    tags = {"a": "", "ключ": "значение", "k" * 128: "v" * 256}
    text = tag_text(tags)
    read = Attributes([(f"EC2_TAG_{key.encode().hex().upper()}", {"KEY": key, "VALUE": tags[key]}) for key in tags])
    assert len(text.encode()) <= size_of(read) <= len(text.encode()) + 10 * len(tags)


def test_a_user_with_the_most_short_tags_can_be_read() -> None:
    """The shortest tags grow the most as XML within XML: the document of their user is still accepted from oned."""
    name = hex_name(key_pair_tag_prefix(2**31 - 1, "n"), "k")
    members = {"KEY": "k", "VALUE": ""}
    document = (
        f"<{name}>{''.join(f'<{member}><![CDATA[{text}]]></{member}>' for member, text in members.items())}</{name}>"
    )
    tags = MAX_ON_USER // size_of([(name, members)])
    assert tags * len(escape(document)) < MAX_USER * 3 // 4


# Users


def with_key_pairs(cloud: Cloud, count: int) -> None:
    """Give alice so many key pairs."""
    cloud.oneadmin(
        "one.user.update",
        ALICE,
        "\n".join(
            vector(hex_name("EC2_KEYPAIR_", f"k{number}"), {"NAME": f"k{number}", "PUBLIC_KEY": "ssh-ed25519 A"})
            for number in range(count)
        ),
        1,
    )


@pytest.mark.slow
def test_a_user_has_at_most_5000_key_pairs() -> None:
    """Then nothing is created and nothing written; when one is deleted, another can be created."""
    cloud = Cloud()
    with_key_pairs(cloud, MAX_KEY_PAIRS - 1)
    import_key(cloud, "last")

    def check_refusals() -> None:
        for error in (
            cloud.refusal("alice", "ImportKeyPair", KeyName="another", PublicKeyMaterial=KEY),
            cloud.refusal("alice", "CreateKeyPair", KeyName="another"),
        ):
            assert (error.code, error.status) == ("KeyPairLimitExceeded", 400)

    assert changes_of(cloud, check_refusals) == []
    cloud.run("alice", "DeleteKeyPair", KeyName="k7")
    import_key(cloud, "another")
    assert len(cloud.run("alice", "DescribeKeyPairs")["KeyPairs"]) == MAX_KEY_PAIRS


def test_a_user_at_the_size_limit_gets_no_more_key_pairs_and_tags_of_them() -> None:
    cloud = Cloud()
    key = import_key(cloud, "mine")["KeyPairId"]
    fill(cloud, "one.user.update", ALICE, MAX_ON_USER, key_pair_tag_prefix(ALICE, "mine"))

    def check_refusals() -> None:
        assert (
            cloud.refusal("alice", "ImportKeyPair", KeyName="k", PublicKeyMaterial=KEY).code == "KeyPairLimitExceeded"
        )
        assert cloud.refusal("alice", "CreateKeyPair", KeyName="k").code == "KeyPairLimitExceeded"
        assert (
            cloud.refusal("alice", "CreateTags", Resources=[key], Tags=[{"Key": "k" * 128}]).code == "TagLimitExceeded"
        )

    assert changes_of(cloud, check_refusals) == []
    cloud.run("alice", "DeleteTags", Resources=[key])
    cloud.run("alice", "CreateTags", Resources=[key], Tags=TAG)
    import_key(cloud, "another")


def test_tags_that_would_exceed_the_limit_on_many_key_pairs_are_refused() -> None:
    """Each resource may have 50 tags, but all of them together exceed the limit of the user."""
    cloud = Cloud()
    keys = [import_key(cloud, f"k{number}")["KeyPairId"] for number in range(15)]
    assert changes_of(cloud, lambda: cloud.refusal("alice", "CreateTags", Resources=keys, Tags=LONGEST)) == [], (
        "nothing is written unless all can be"
    )
    assert cloud.refusal("alice", "CreateTags", Resources=keys, Tags=LONGEST).code == "TagLimitExceeded"
    cloud.run("alice", "CreateTags", Resources=keys[:2], Tags=LONGEST)


def test_a_user_at_the_size_limit_can_create_no_images() -> None:
    """The announcement of an image is kept on the user until the image is created."""
    cloud = Cloud()
    fill(cloud, "one.user.update", ALICE, MAX_ON_USER)
    error = cloud.refusal(
        "alice",
        "CopyImage",
        SourceImageId="ami-00000000",
        SourceRegion="OpenNebula",
        Name="copy",
        Description="d" * 255,
    )
    assert error.code == "ResourceLimitExceeded"
    assert cloud.changes == []


def test_the_number_of_images_being_created_for_a_user_is_limited() -> None:
    """Not all announcements are read if a user writes more of them into their own document."""
    cloud = Cloud()
    texts = [
        vector(hex_name("EC2_NEW_IMAGE_", f"i{number}"), {"NAME": f"i{number}", "BEGAN": "0"})
        for number in range(MAX_ANNOUNCED + 5)
    ]
    cloud.oneadmin("one.user.update", ALICE, "\n".join(texts), 1)
    assert len(announced_images(UserDocument(etree.fromstring(cloud.oneadmin("one.user.info", ALICE, False))))) == 1000
    error = cloud.refusal("alice", "CopyImage", SourceImageId="ami-00000000", SourceRegion="OpenNebula", Name="copy")
    assert error.code == "ResourceLimitExceeded"
    assert cloud.changes == []


def test_looking_up_attributes_of_a_user_is_cheap_in_a_long_document() -> None:
    """The dates of the reconciler and announcements of images are found without parsing the other attributes."""

    def count_calls(attributes: int, look_up: Callable[[UserDocument], object]) -> int:
        """Return how many functions are called for a user with so many vector attributes of their own."""
        own = "".join(f"<OWN{number}><B/></OWN{number}>" for number in range(attributes))
        user = UserDocument(etree.fromstring(f"<USER><ID>2</ID><TEMPLATE>{own}</TEMPLATE></USER>"))
        calls = [0]

        def count(_: FrameType, event: str, __: object) -> None:
            calls[0] += event in ("call", "c_call")

        sys.setprofile(count)
        try:
            look_up(user)
        finally:
            sys.setprofile(None)
        return calls[0]

    assert count_calls(1000, watched_until) == count_calls(10, watched_until)
    assert count_calls(1010, announced_images) - count_calls(10, announced_images) < 3 * 1000


def test_the_work_of_reading_key_pairs_is_linear_in_their_number() -> None:
    def count_calls(key_pair_count: int) -> int:
        """Return how many C functions are called to read so many key pairs with a tag each."""
        cloud = Cloud()
        with_key_pairs(cloud, key_pair_count)
        tags = "\n".join(
            tag_text({"a": "b"}, key_pair_tag_prefix(ALICE, f"k{number}")) for number in range(key_pair_count)
        )
        cloud.oneadmin("one.user.update", ALICE, tags, 1)
        user = UserDocument(etree.fromstring(cloud.oneadmin("one.user.info", ALICE, False)))
        calls = [0]

        def count(_: FrameType, event: str, __: object) -> None:
            calls[0] += event == "c_call"

        sys.setprofile(count)
        try:
            pairs = key_pairs(user)
        finally:
            sys.setprofile(None)
        assert len(pairs) == key_pair_count
        assert all(pair.tags == ({"Key": "a", "Value": "b"},) for pair in pairs.values())
        return calls[0]

    assert count_calls(400) < 5 * count_calls(100)


# Machines and images


def test_a_machine_at_the_size_limit_gets_no_more_tags() -> None:
    """The limit is for its own tags and those of its disks together."""
    cloud = Cloud()
    cloud.run("alice", "RunInstances", ImageId="ami-00000000", MinCount=1, MaxCount=1)
    fill(cloud, "one.vm.update", 0, MAX_ON_MACHINE, "EC2_DISK7_TAG_")
    error = cloud.refusal("alice", "CreateTags", Resources=["i-00000000"], Tags=[{"Key": "k" * 128}])
    assert error.code == "TagLimitExceeded"
    assert [call.method for call in cloud.changes].count("one.vm.update") == 0


def test_an_image_at_the_size_limit_gets_no_more_tags() -> None:
    cloud = Cloud()
    volume_id = cloud.run("alice", "CreateVolume", AvailabilityZone="default", Size=1)["VolumeId"]
    fill(cloud, "one.image.update", int(volume_id.removeprefix("vol-")), MAX_ON_IMAGE, "EC2_SNAPSHOT_TAG_")
    error = cloud.refusal("alice", "CreateTags", Resources=[volume_id], Tags=[{"Key": "k" * 128}])
    assert error.code == "TagLimitExceeded"


def test_the_longest_tags_that_ec2_allows_fit_on_every_kind_of_resource() -> None:
    """The limits are for several resources that are kept on one object, not for a single resource."""
    cloud = AddressCloud()
    cloud.run("alice", "RunInstances", ImageId="ami-00000000", MinCount=1, MaxCount=1)
    volume = cloud.run("alice", "CreateVolume", AvailabilityZone="default", Size=1)["VolumeId"]
    address = cloud.run("alice", "AllocateAddress")["AllocationId"]
    key = import_key(cloud, "mine")["KeyPairId"]
    cloud.wait(10)
    cloud.run("alice", "CreateTags", Resources=["i-00000000", volume, address, key], Tags=LONGEST)
    assert len(cloud.run("alice", "DescribeTags")["Tags"]) == 4 * 50


def test_an_instance_whose_disk_tags_exceed_the_limit_is_not_launched() -> None:
    cloud = Cloud()
    disks = "\n".join('DISK=[TYPE="fs",FORMAT="raw",SIZE="1"]' for _ in range(4))
    cloud.oneadmin("one.template.update", 0, f'DISK=[IMAGE_ID="0"]\n{disks}', 1)
    error = cloud.refusal(
        "alice",
        "RunInstances",
        ImageId="ami-00000000",
        MinCount=1,
        MaxCount=1,
        TagSpecifications=[{"ResourceType": "volume", "Tags": LONGEST}],
    )
    assert error.code == "TagLimitExceeded"
    assert cloud.changes == []


# Elastic IPs, on the network that all users share


def test_a_user_cannot_use_up_the_space_of_others_on_the_network_of_elastic_ips() -> None:
    """Each user has a limit for addresses and tags; other users are not affected when one reaches it."""
    cloud = AddressCloud()
    ids = [cloud.run("alice", "AllocateAddress")["AllocationId"] for _ in range(2)]
    cloud.run("alice", "CreateTags", Resources=ids[:1], Tags=LONGEST)

    def size() -> int:
        return size_of(cloud.pool().attributes_of(cloud.user("alice").id))

    assert size() > MAX_ON_ADDRESS_NETWORK // 2
    before = size()
    assert cloud.refusal("alice", "CreateTags", Resources=ids[1:], Tags=LONGEST).code == "TagLimitExceeded"
    specification = [{"ResourceType": "elastic-ip", "Tags": LONGEST}]
    assert cloud.refusal("alice", "AllocateAddress", TagSpecifications=specification).code == "TagLimitExceeded"
    assert size() == before
    assert cloud.run("bob", "AllocateAddress", TagSpecifications=specification)["AllocationId"]
    cloud.run("alice", "DeleteTags", Resources=ids[:1])
    cloud.run("alice", "CreateTags", Resources=ids[1:], Tags=LONGEST)
    assert size() < MAX_ON_ADDRESS_NETWORK
