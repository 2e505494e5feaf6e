"""Tags in the answers that show resources, and the filter by a tag's value alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.addresses import AddressCloud

PLACE = "default"
RUN: dict[str, Any] = {"ImageId": "ami-00000000", "MinCount": 1, "MaxCount": 1}


@dataclass(frozen=True)
class Kind:
    """A kind of resource: how one of alice's is made, and how all of them are listed."""

    action: str
    make: Callable[[AddressCloud], tuple[str, dict[str, Any]]]
    """Returns the id, and what the answer shows of the resource."""
    listed: Callable[[dict[str, Any]], list[dict[str, Any]]]
    id_name: str

    def shown(self, cloud: AddressCloud, **asked: Any) -> dict[str, dict[str, Any]]:
        """Return all resources of the kind that alice is shown, by id."""
        return {each[self.id_name]: each for each in self.listed(cloud.run("alice", self.action, **asked))}


def instance(cloud: AddressCloud) -> tuple[str, dict[str, Any]]:
    (made,) = cloud.run("alice", "RunInstances", **RUN)["Instances"]
    cloud.wait(10)
    return made["InstanceId"], made


def volume(cloud: AddressCloud) -> tuple[str, dict[str, Any]]:
    made = cloud.run("alice", "CreateVolume", AvailabilityZone=PLACE, Size=1)
    cloud.wait(10)
    return made["VolumeId"], made


def snapshot(cloud: AddressCloud) -> tuple[str, dict[str, Any]]:
    made = cloud.run("alice", "CreateSnapshot", VolumeId=volume(cloud)[0])
    cloud.wait(10)
    return made["SnapshotId"], made


def image(cloud: AddressCloud) -> tuple[str, dict[str, Any]]:
    made = cloud.run("alice", "CopyImage", SourceImageId="ami-00000000", SourceRegion="OpenNebula", Name="copy")
    cloud.wait(10)
    return made["ImageId"], made


def address(cloud: AddressCloud) -> tuple[str, dict[str, Any]]:
    made = cloud.run("alice", "AllocateAddress")
    return made["AllocationId"], made


def key_pair(cloud: AddressCloud) -> tuple[str, dict[str, Any]]:
    made = cloud.run("alice", "CreateKeyPair", KeyName="key", KeyType="ed25519")
    return made["KeyPairId"], made


KINDS = {
    "instance": Kind(
        "DescribeInstances",
        instance,
        lambda answer: [each for reservation in answer["Reservations"] for each in reservation["Instances"]],
        "InstanceId",
    ),
    "volume": Kind("DescribeVolumes", volume, lambda answer: answer["Volumes"], "VolumeId"),
    "snapshot": Kind("DescribeSnapshots", snapshot, lambda answer: answer["Snapshots"], "SnapshotId"),
    "image": Kind("DescribeImages", image, lambda answer: answer["Images"], "ImageId"),
    "elastic IP": Kind("DescribeAddresses", address, lambda answer: answer["Addresses"], "AllocationId"),
    "key pair": Kind("DescribeKeyPairs", key_pair, lambda answer: answer["KeyPairs"], "KeyPairId"),
}


@pytest.fixture(params=["5.12", "7.4"])
def cloud(request: pytest.FixtureRequest) -> AddressCloud:
    """A cloud with elastic IPs."""
    return AddressCloud(request.param)


@pytest.mark.parametrize("name", KINDS)
def test_a_resource_without_tags_is_listed_as_amazon_lists_it(cloud: AddressCloud, name: str) -> None:
    """Without the member Tags, by which scripts tell; only key pairs have an empty one, as Amazon documents it."""
    kind = KINDS[name]
    number, _ = kind.make(cloud)
    empty: list[Any] | None = [] if name == "key pair" else None
    assert kind.shown(cloud)[number].get("Tags") == empty
    cloud.run("alice", "CreateTags", Resources=[number], Tags=[{"Key": "a", "Value": "b"}])
    assert kind.shown(cloud)[number]["Tags"] == [{"Key": "a", "Value": "b"}]
    cloud.run("alice", "DeleteTags", Resources=[number])
    assert kind.shown(cloud)[number].get("Tags") == empty


@pytest.mark.parametrize(
    ("name", "tags"),
    [
        ("instance", []),
        ("volume", []),
        ("snapshot", []),
        ("image", None),
        ("elastic IP", None),
        ("key pair", None),
    ],
)
def test_the_response_that_creates_a_resource_without_tags_is_as_amazons(name: str, tags: list[Any] | None) -> None:
    """RunInstances, CreateVolume and CreateSnapshot show an empty member there, the others none."""
    assert KINDS[name].make(AddressCloud())[1].get("Tags") == tags


@pytest.mark.parametrize("name", KINDS)
def test_resources_are_found_by_the_value_of_any_tag(cloud: AddressCloud, name: str) -> None:
    """The old filter `tag-value`; it is independent of `tag-key`, and takes wildcards as all do."""
    kind = KINDS[name]
    number, _ = kind.make(cloud)
    tags = [{"Key": "stage", "Value": "blue"}, {"Key": "blue", "Value": "sky"}]
    cloud.run("alice", "CreateTags", Resources=[number], Tags=tags)

    def found(*filters: tuple[str, str]) -> bool:
        asked = [{"Name": name, "Values": [value]} for name, value in filters]
        return number in kind.shown(cloud, Filters=asked)

    assert found(("tag-value", "blue"))
    assert found(("tag-value", "s?y"))
    assert found(("tag-value", "sky"), ("tag-key", "stage"))
    assert not found(("tag-value", "stage"))
    assert not found(("tag-value", "Blue"))
    assert not found(("tag-value", "sky"), ("tag-key", "sky"))


def test_a_copy_of_a_snapshot_has_only_the_tags_that_were_specified(cloud: AddressCloud) -> None:
    """CopySnapshot."""
    source = snapshot(cloud)[0]
    asked: dict[str, Any] = {"SourceSnapshotId": source, "SourceRegion": "OpenNebula"}
    assert "Tags" not in cloud.run("alice", "CopySnapshot", **asked)
    tags = [{"Key": "a", "Value": "b"}]
    specified = [{"ResourceType": "snapshot", "Tags": tags}]
    assert cloud.run("alice", "CopySnapshot", **asked, TagSpecifications=specified)["Tags"] == tags
