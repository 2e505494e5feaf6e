"""What econed keeps on one object of OpenNebula has a bound, whatever clients have it write there."""

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
    MAX_OF_ADDRESSES,
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


def fill(cloud: Cloud, method: str, object_id: int, most: int, prefix: str = "EC2_TAG_") -> None:
    """Have as much stand on an object as may, but for some 200 bytes, as after many calls of its owner."""
    filling: list[tuple[str, dict[str, str]]] = []
    while (left := most - 150 - size_of(filling)) > 100:
        key = f"filling-{len(filling)}"
        name = hex_name(prefix, key)
        value = "v" * (min(60_000, left) - size_of([(name, {"KEY": key, "VALUE": ""})]))
        filling.append((name, {"KEY": key, "VALUE": value}))
    cloud.oneadmin(method, object_id, "\n".join(vector(*each) for each in filling), 1)


def import_key(cloud: Cloud, name: str, **more: Any) -> dict[str, Any]:
    """Have alice import a key pair."""
    return cloud.run("alice", "ImportKeyPair", KeyName=name, PublicKeyMaterial=KEY, **more)


def changes_of(cloud: Cloud, act: Callable[[], object]) -> list[str]:
    """Return the methods of the changes that an act makes."""
    before = len(cloud.changes)
    act()
    return [call.method for call in cloud.changes[before:]]


# The measure


def test_only_econeds_attributes_count_and_removals_are_never_refused() -> None:
    kept = Attributes([("SSH_PUBLIC_KEY", "x" * 1000), ("EC2_TAG_61", {"KEY": "a", "VALUE": "b" * 100})])
    assert 100 < size_of(kept) < 150
    full = EC2Error("TagLimitExceeded", "full")
    check_size(kept, "x" * 100, size_of(kept) + 100, full)
    with pytest.raises(EC2Error):
        check_size(kept, "x" * 101, size_of(kept) + 100, full)
    check_size(kept, "", 0, full)


def test_the_size_of_attributes_is_about_that_of_the_template_text() -> None:
    """What is written counts, before and after, as about the same number of bytes."""
    tags = {"a": "", "ключ": "значение", "k" * 128: "v" * 256}
    text = tag_text(tags)
    read = Attributes([(f"EC2_TAG_{key.encode().hex().upper()}", {"KEY": key, "VALUE": tags[key]}) for key in tags])
    assert len(text.encode()) <= size_of(read) <= len(text.encode()) + 10 * len(tags)


def test_a_user_with_the_most_short_tags_can_be_read() -> None:
    """The shortest grow the most when they become XML, in XML: still their user's document may come from oned."""
    name = hex_name(key_pair_tag_prefix(2**31 - 1, "n"), "k")
    members = {"KEY": "k", "VALUE": ""}
    document = f"<{name}>{''.join(f'<{each}><![CDATA[{text}]]></{each}>' for each, text in members.items())}</{name}>"
    tags = MAX_ON_USER // size_of([(name, members)])
    assert tags * len(escape(document)) < MAX_USER * 3 // 4


# Users


def with_key_pairs(cloud: Cloud, count: int) -> None:
    """Give alice as many key pairs."""
    cloud.oneadmin(
        "one.user.update",
        ALICE,
        "\n".join(
            vector(hex_name("EC2_KEYPAIR_", f"k{number}"), {"NAME": f"k{number}", "PUBLIC_KEY": "ssh-ed25519 A"})
            for number in range(count)
        ),
        1,
    )


def test_a_user_has_at_most_5000_key_pairs() -> None:
    """Beyond them nothing is made and nothing written; when one is removed there is room for one more."""
    cloud = Cloud()
    with_key_pairs(cloud, MAX_KEY_PAIRS - 1)
    import_key(cloud, "the last")

    def refused() -> None:
        for error in (
            cloud.refusal("alice", "ImportKeyPair", KeyName="one more", PublicKeyMaterial=KEY),
            cloud.refusal("alice", "CreateKeyPair", KeyName="one more"),
        ):
            assert (error.code, error.status) == ("KeyPairLimitExceeded", 400)

    assert changes_of(cloud, refused) == []
    cloud.run("alice", "DeleteKeyPair", KeyName="k7")
    import_key(cloud, "one more")
    assert len(cloud.run("alice", "DescribeKeyPairs")["KeyPairs"]) == MAX_KEY_PAIRS


def test_a_user_at_the_size_limit_gets_no_more_key_pairs_and_tags_of_them() -> None:
    cloud = Cloud()
    key = import_key(cloud, "mine")["KeyPairId"]
    fill(cloud, "one.user.update", ALICE, MAX_ON_USER, key_pair_tag_prefix(ALICE, "mine"))

    def refused() -> None:
        assert (
            cloud.refusal("alice", "ImportKeyPair", KeyName="k", PublicKeyMaterial=KEY).code == "KeyPairLimitExceeded"
        )
        assert cloud.refusal("alice", "CreateKeyPair", KeyName="k").code == "KeyPairLimitExceeded"
        assert (
            cloud.refusal("alice", "CreateTags", Resources=[key], Tags=[{"Key": "k" * 128}]).code == "TagLimitExceeded"
        )

    assert changes_of(cloud, refused) == []
    cloud.run("alice", "DeleteTags", Resources=[key])
    cloud.run("alice", "CreateTags", Resources=[key], Tags=TAG)
    import_key(cloud, "another")


def test_tags_that_would_exceed_the_limit_on_many_key_pairs_are_refused() -> None:
    """Each resource may have 50, all of them not what a user may not keep."""
    cloud = Cloud()
    keys = [import_key(cloud, f"k{number}")["KeyPairId"] for number in range(15)]
    assert changes_of(cloud, lambda: cloud.refusal("alice", "CreateTags", Resources=keys, Tags=LONGEST)) == [], (
        "nothing is written where not all can be"
    )
    assert cloud.refusal("alice", "CreateTags", Resources=keys, Tags=LONGEST).code == "TagLimitExceeded"
    cloud.run("alice", "CreateTags", Resources=keys[:2], Tags=LONGEST)


def test_a_user_at_the_size_limit_can_create_no_images() -> None:
    """The announcement of an image stands on the user until it is made."""
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
    """Whoever writes more announcements on their own document makes nobody read them all."""
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
    """The marks of the reconciler and announcements of images are found without taking the rest apart."""

    def calls(attributes: int, look: Callable[[UserDocument], object]) -> int:
        """Return how many functions are called to look at a user with so many vectors of their own."""
        own = "".join(f"<OWN{number}><B/></OWN{number}>" for number in range(attributes))
        user = UserDocument(etree.fromstring(f"<USER><ID>2</ID><TEMPLATE>{own}</TEMPLATE></USER>"))
        made = [0]

        def seen(_: FrameType, event: str, __: object) -> None:
            made[0] += event in ("call", "c_call")

        sys.setprofile(seen)
        try:
            look(user)
        finally:
            sys.setprofile(None)
        return made[0]

    assert calls(1000, watched_until) == calls(10, watched_until)
    assert calls(1010, announced_images) - calls(10, announced_images) < 3 * 1000


def test_the_work_of_reading_key_pairs_is_linear_in_their_number() -> None:
    def calls(count: int) -> int:
        """Return how many functions of C are called to read as many key pairs with a tag each."""
        cloud = Cloud()
        with_key_pairs(cloud, count)
        tags = "\n".join(tag_text({"a": "b"}, key_pair_tag_prefix(ALICE, f"k{number}")) for number in range(count))
        cloud.oneadmin("one.user.update", ALICE, tags, 1)
        user = UserDocument(etree.fromstring(cloud.oneadmin("one.user.info", ALICE, False)))
        made = [0]

        def seen(_: FrameType, event: str, __: object) -> None:
            made[0] += event == "c_call"

        sys.setprofile(seen)
        try:
            pairs = key_pairs(user)
        finally:
            sys.setprofile(None)
        assert len(pairs) == count
        assert all(pair.tags == ({"Key": "a", "Value": "b"},) for pair in pairs.values())
        return made[0]

    assert calls(400) < 5 * calls(100)


# Machines and images


def test_a_machine_at_the_size_limit_gets_no_more_tags() -> None:
    """Its own, and those of the disks that it keeps them for."""
    cloud = Cloud()
    cloud.run("alice", "RunInstances", ImageId="ami-00000000", MinCount=1, MaxCount=1)
    fill(cloud, "one.vm.update", 0, MAX_ON_MACHINE, "EC2_DISK7_TAG_")
    error = cloud.refusal("alice", "CreateTags", Resources=["i-00000000"], Tags=[{"Key": "k" * 128}])
    assert error.code == "TagLimitExceeded"
    assert [call.method for call in cloud.changes].count("one.vm.update") == 0


def test_an_image_at_the_size_limit_gets_no_more_tags() -> None:
    cloud = Cloud()
    made = cloud.run("alice", "CreateVolume", AvailabilityZone="default", Size=1)["VolumeId"]
    fill(cloud, "one.image.update", int(made.removeprefix("vol-")), MAX_ON_IMAGE, "EC2_SNAPSHOT_TAG_")
    error = cloud.refusal("alice", "CreateTags", Resources=[made], Tags=[{"Key": "k" * 128}])
    assert error.code == "TagLimitExceeded"


def test_the_longest_tags_that_ec2_allows_fit_on_every_kind_of_resource() -> None:
    """The bounds are for what several resources keep on one object, not for one resource."""
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


# Elastic IPs, on the network of all


def test_a_user_cannot_use_up_the_space_of_others_on_the_network_of_elastic_ips() -> None:
    """Each has a share for addresses and tags; who has used it up gets no more, and the others go on."""
    cloud = AddressCloud()
    given = [cloud.run("alice", "AllocateAddress")["AllocationId"] for _ in range(2)]
    cloud.run("alice", "CreateTags", Resources=given[:1], Tags=LONGEST)

    def kept() -> int:
        return size_of(cloud.pool().kept_for(cloud.user("alice").id))

    assert kept() > MAX_OF_ADDRESSES // 2
    before = kept()
    assert cloud.refusal("alice", "CreateTags", Resources=given[1:], Tags=LONGEST).code == "TagLimitExceeded"
    specification = [{"ResourceType": "elastic-ip", "Tags": LONGEST}]
    assert cloud.refusal("alice", "AllocateAddress", TagSpecifications=specification).code == "TagLimitExceeded"
    assert kept() == before
    assert cloud.run("bob", "AllocateAddress", TagSpecifications=specification)["AllocationId"]
    cloud.run("alice", "DeleteTags", Resources=given[:1])
    cloud.run("alice", "CreateTags", Resources=given[1:], Tags=LONGEST)
    assert kept() < MAX_OF_ADDRESSES
