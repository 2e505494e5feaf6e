"""Tags in the responses that describe resources, and the filter by a tag's value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.addresses import AddressCloud

ZONE = "default"
RUN: dict[str, Any] = {"ImageId": "ami-00000000", "MinCount": 1, "MaxCount": 1}


@dataclass(frozen=True)
class Kind:
    """A kind of resource: how to create one for alice, and how to list all of hers."""

    action: str
    create: Callable[[AddressCloud], tuple[str, dict[str, Any]]]
    """Returns the id of a new resource, and the response that created it."""
    items: Callable[[dict[str, Any]], list[dict[str, Any]]]
    id_name: str

    def describe(self, cloud: AddressCloud, **parameters: Any) -> dict[str, dict[str, Any]]:
        """Return all resources of the kind, as described to alice, by id."""
        return {item[self.id_name]: item for item in self.items(cloud.run("alice", self.action, **parameters))}


def instance(cloud: AddressCloud) -> tuple[str, dict[str, Any]]:
    (response,) = cloud.run("alice", "RunInstances", **RUN)["Instances"]
    cloud.wait(10)
    return response["InstanceId"], response


def volume(cloud: AddressCloud) -> tuple[str, dict[str, Any]]:
    response = cloud.run("alice", "CreateVolume", AvailabilityZone=ZONE, Size=1)
    cloud.wait(10)
    return response["VolumeId"], response


def snapshot(cloud: AddressCloud) -> tuple[str, dict[str, Any]]:
    response = cloud.run("alice", "CreateSnapshot", VolumeId=volume(cloud)[0])
    cloud.wait(10)
    return response["SnapshotId"], response


def image(cloud: AddressCloud) -> tuple[str, dict[str, Any]]:
    response = cloud.run("alice", "CopyImage", SourceImageId="ami-00000000", SourceRegion="OpenNebula", Name="copy")
    cloud.wait(10)
    return response["ImageId"], response


def address(cloud: AddressCloud) -> tuple[str, dict[str, Any]]:
    response = cloud.run("alice", "AllocateAddress")
    return response["AllocationId"], response


def key_pair(cloud: AddressCloud) -> tuple[str, dict[str, Any]]:
    response = cloud.run("alice", "CreateKeyPair", KeyName="key", KeyType="ed25519")
    return response["KeyPairId"], response


KINDS = {
    "instance": Kind(
        "DescribeInstances",
        instance,
        lambda response: [item for reservation in response["Reservations"] for item in reservation["Instances"]],
        "InstanceId",
    ),
    "volume": Kind("DescribeVolumes", volume, lambda response: response["Volumes"], "VolumeId"),
    "snapshot": Kind("DescribeSnapshots", snapshot, lambda response: response["Snapshots"], "SnapshotId"),
    "image": Kind("DescribeImages", image, lambda response: response["Images"], "ImageId"),
    "elastic IP": Kind("DescribeAddresses", address, lambda response: response["Addresses"], "AllocationId"),
    "key pair": Kind("DescribeKeyPairs", key_pair, lambda response: response["KeyPairs"], "KeyPairId"),
}


@pytest.fixture(params=["5.12", "7.4"])
def cloud(request: pytest.FixtureRequest) -> AddressCloud:
    """A cloud with elastic IPs."""
    return AddressCloud(request.param)


@pytest.mark.parametrize("name", KINDS)
def test_a_resource_without_tags_is_listed_as_amazon_lists_it(cloud: AddressCloud, name: str) -> None:
    """Scripts test for the member Tags, so it is missing; only key pairs have an empty one, as Amazon documents it."""
    kind = KINDS[name]
    resource_id, _ = kind.create(cloud)
    empty: list[Any] | None = [] if name == "key pair" else None
    assert kind.describe(cloud)[resource_id].get("Tags") == empty
    cloud.run("alice", "CreateTags", Resources=[resource_id], Tags=[{"Key": "a", "Value": "b"}])
    assert kind.describe(cloud)[resource_id]["Tags"] == [{"Key": "a", "Value": "b"}]
    cloud.run("alice", "DeleteTags", Resources=[resource_id])
    assert kind.describe(cloud)[resource_id].get("Tags") == empty


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
    """RunInstances, CreateVolume and CreateSnapshot have an empty member Tags, the others none."""
    assert KINDS[name].create(AddressCloud())[1].get("Tags") == tags


@pytest.mark.parametrize("name", KINDS)
def test_resources_are_found_by_the_value_of_any_tag(cloud: AddressCloud, name: str) -> None:
    """The old filter `tag-value` is independent of `tag-key`, and accepts wildcards as all filters do."""
    kind = KINDS[name]
    resource_id, _ = kind.create(cloud)
    tags = [{"Key": "stage", "Value": "blue"}, {"Key": "blue", "Value": "sky"}]
    cloud.run("alice", "CreateTags", Resources=[resource_id], Tags=tags)

    def is_found(*filters: tuple[str, str]) -> bool:
        given = [{"Name": name, "Values": [value]} for name, value in filters]
        return resource_id in kind.describe(cloud, Filters=given)

    assert is_found(("tag-value", "blue"))
    assert is_found(("tag-value", "s?y"))
    assert is_found(("tag-value", "sky"), ("tag-key", "stage"))
    assert not is_found(("tag-value", "stage"))
    assert not is_found(("tag-value", "Blue"))
    assert not is_found(("tag-value", "sky"), ("tag-key", "sky"))


def test_a_copy_of_a_snapshot_has_only_the_tags_that_were_specified(cloud: AddressCloud) -> None:
    source = snapshot(cloud)[0]
    parameters: dict[str, Any] = {"SourceSnapshotId": source, "SourceRegion": "OpenNebula"}
    assert "Tags" not in cloud.run("alice", "CopySnapshot", **parameters)
    tags = [{"Key": "a", "Value": "b"}]
    specifications = [{"ResourceType": "snapshot", "Tags": tags}]
    assert cloud.run("alice", "CopySnapshot", **parameters, TagSpecifications=specifications)["Tags"] == tags
