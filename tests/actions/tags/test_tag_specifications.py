"""TagSpecification.N: each kind of resource that an action creates gets its own tags, and none is ignored silently."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from econed.catalogue import all_actions
from econed.config.settings import Settings
from tests.actions.keys.test_public_keys import ED25519
from tests.actions.security_groups.groups import create, tcp
from tests.actions.volumes.test_volumes import ZONE, instance, snapshot, volume
from tests.support.cloud import Cloud
from tests.support.images import create_image

UBUNTU = "ami-00000000"
REGION = "OpenNebula"
A, B = [{"Key": "a", "Value": "1"}], [{"Key": "b", "Value": "2"}]


def tags(resource_type: str, *items: dict[str, str]) -> dict[str, Any]:
    """Return one tag specification."""
    return {"ResourceType": resource_type, "Tags": list(items)}


CREATING: dict[str, tuple[tuple[str, ...], Callable[[Cloud], dict[str, Any]]]] = {
    "AllocateAddress": (("elastic-ip",), lambda cloud: {}),
    **{
        f"AuthorizeSecurityGroup{direction}": (
            ("security-group-rule",),
            lambda cloud: {"GroupId": create(cloud), "IpPermissions": [tcp(22)]},
        )
        for direction in ("Ingress", "Egress")
    },
    "CopyImage": (
        ("image", "snapshot"),
        lambda cloud: {"Name": "copy", "SourceImageId": UBUNTU, "SourceRegion": REGION},
    ),
    "CopySnapshot": (
        ("snapshot",),
        lambda cloud: {"SourceSnapshotId": snapshot(cloud, volume(cloud)), "SourceRegion": REGION},
    ),
    "CreateImage": (("image", "snapshot"), lambda cloud: {"Name": "web", "InstanceId": instance(cloud)}),
    "CreateKeyPair": (("key-pair",), lambda cloud: {"KeyName": "mine"}),
    "CreatePlacementGroup": (("placement-group",), lambda cloud: {"GroupName": "apart"}),
    "CreateSecurityGroup": (("security-group",), lambda cloud: {"GroupName": "web", "Description": "web"}),
    "CreateSnapshot": (("snapshot",), lambda cloud: {"VolumeId": volume(cloud)}),
    "CreateSubnet": (("subnet",), lambda cloud: {"VpcId": "vpc-9999999999", "CidrBlock": "10.9.1.0/24"}),
    "CreateVolume": (("volume",), lambda cloud: {"AvailabilityZone": ZONE, "Size": 1}),
    "CreateVpc": (("vpc",), lambda cloud: {"CidrBlock": "10.9.0.0/16"}),
    "ImportKeyPair": (("key-pair",), lambda cloud: {"KeyName": "mine", "PublicKeyMaterial": ED25519.encode()}),
    "RegisterImage": (("image",), lambda cloud: {"ImageLocation": create_image(cloud, "alice", "mine", "")}),
    "RunInstances": (
        ("instance", "volume", "network-interface"),
        lambda cloud: {"ImageId": UBUNTU, "MinCount": 1, "MaxCount": 1},
    ),
}
"""The actions that create tagged resources: the resource types that they create, and their other parameters."""


def test_every_action_with_tag_specifications_is_tested_here() -> None:
    assert set(CREATING) == {action.name for action in all_actions() if "TagSpecifications" in action.accepts.of}


@pytest.mark.parametrize("action", CREATING)
def test_a_specification_that_amazon_refuses_is_refused_and_nothing_is_created(action: str) -> None:
    cloud = Cloud(settings=Settings(elasticips_vnet_id=1))
    resource_types, parameters_for = CREATING[action]
    parameters = parameters_for(cloud)
    before = len(cloud.changes)
    first_type = resource_types[0]
    of_each_type = [tags(resource_type, *A) for resource_type in resource_types]
    for specifications, code, message in (
        ([tags(first_type)], "InvalidTagKey.Malformed", "Tag specification must have at least one tag"),
        ([tags(first_type, *A), tags(first_type, *B)], "InvalidParameterValue", "Duplicate tag specification"),
        ([tags(first_type, *A), tags(first_type)], "InvalidParameterValue", "Duplicate tag specification"),
        ([*of_each_type, tags(resource_types[-1])], "InvalidParameterValue", "Duplicate tag specification"),
        ([tags("fleet", *A)], "InvalidParameterValue", "'fleet' is not a valid taggable resource type"),
        (
            [tags(first_type, *A), tags("fleet")],
            "InvalidParameterValue",
            "'fleet' is not a valid taggable resource type",
        ),
        ([{"Tags": A}], "InvalidParameterValue", "Tag specification resource type must have a value"),
    ):
        refusal = cloud.refusal("alice", action, **parameters, TagSpecifications=specifications)
        assert (refusal.code, refusal.message[: len(message)]) == (code, message)
    assert cloud.changes[before:] == []


def ami(cloud: Cloud, image_id: str) -> dict[str, Any]:
    (image,) = cloud.run("alice", "DescribeImages", ImageIds=[image_id])["Images"]
    return dict(image)


def snapshot_id_of(cloud: Cloud, image_id: str) -> str:
    """Return the id of the snapshot of an AMI, as DescribeImages shows it."""
    return str(ami(cloud, image_id)["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"])


def describe_snapshot(cloud: Cloud, snapshot_id: str) -> dict[str, Any]:
    (snapshot,) = cloud.run("alice", "DescribeSnapshots", SnapshotIds=[snapshot_id])["Snapshots"]
    return dict(snapshot)


def listed(cloud: Cloud) -> list[tuple[str, str, str, str]]:
    tags = cloud.run("alice", "DescribeTags")["Tags"]
    return [(tag["ResourceType"], tag["ResourceId"], tag["Key"], tag["Value"]) for tag in tags]


def create_ami(cloud: Cloud, action: str, *specifications: dict[str, Any]) -> str:
    """Create an AMI, wait until it is finished, and return its id."""
    response = cloud.run("alice", action, **CREATING[action][1](cloud), TagSpecifications=list(specifications))
    cloud.wait(20)
    return str(response["ImageId"])


@pytest.mark.parametrize("action", ["CreateImage", "CopyImage"])
@pytest.mark.parametrize("is_reversed", [False, True])
def test_an_ami_and_its_snapshot_have_tags_of_their_own(cloud: Cloud, action: str, is_reversed: bool) -> None:
    both = (tags("snapshot", *B), tags("image", *A)) if is_reversed else (tags("image", *A), tags("snapshot", *B))
    image_id = create_ami(cloud, action, *both)
    snapshot_id = snapshot_id_of(cloud, image_id)
    assert (ami(cloud, image_id)["Tags"], describe_snapshot(cloud, snapshot_id)["Tags"]) == (A, B)
    assert listed(cloud) == [("image", image_id, "a", "1"), ("snapshot", snapshot_id, "b", "2")]


@pytest.mark.parametrize("action", ["CreateImage", "CopyImage"])
def test_tags_for_the_snapshot_only_are_not_the_amis(cloud: Cloud, action: str) -> None:
    image_id = create_ami(cloud, action, tags("snapshot", *B))
    assert ami(cloud, image_id).get("Tags", []) == []
    assert describe_snapshot(cloud, snapshot_id_of(cloud, image_id))["Tags"] == B


def test_tags_of_an_ami_and_of_its_snapshot_are_changed_one_by_one_or_together(cloud: Cloud) -> None:
    image_id = create_ami(cloud, "CreateImage", tags("image", *A), tags("snapshot", *B))
    snapshot_id = snapshot_id_of(cloud, image_id)
    cloud.run("alice", "CreateTags", Resources=[image_id], Tags=[{"Key": "b", "Value": "image"}])
    cloud.run("alice", "CreateTags", Resources=[snapshot_id], Tags=[{"Key": "c", "Value": "snapshot"}])
    cloud.run("alice", "DeleteTags", Resources=[snapshot_id], Tags=[{"Key": "b"}])
    before = len(cloud.changes)
    cloud.run("alice", "CreateTags", Resources=[image_id, snapshot_id], Tags=[{"Key": "d", "Value": "both"}])
    assert len(cloud.changes) == before + 1
    assert [tag["Key"] for tag in ami(cloud, image_id)["Tags"]] == ["a", "b", "d"]
    assert [tag["Key"] for tag in describe_snapshot(cloud, snapshot_id)["Tags"]] == ["c", "d"]
    cloud.run("alice", "DeleteTags", Resources=[image_id])
    assert ami(cloud, image_id).get("Tags", []) == []
    assert [tag["Key"] for tag in describe_snapshot(cloud, snapshot_id)["Tags"]] == ["c", "d"]


def test_the_snapshot_of_an_ami_names_its_volume_and_the_ami(cloud: Cloud) -> None:
    instance_id = instance(cloud)
    (root,) = cloud.run("alice", "DescribeVolumes")["Volumes"]
    image_id = str(
        cloud.run("alice", "CreateImage", InstanceId=instance_id, Name="web", Description="the ami's")["ImageId"]
    )
    cloud.wait(20)
    described = describe_snapshot(cloud, snapshot_id_of(cloud, image_id))
    assert (described["State"], described["VolumeId"]) == ("completed", root["VolumeId"])
    assert described["Description"] == f"Created by CreateImage({instance_id}) for {image_id}"
    copied = str(cloud.run("alice", "CopyImage", Name="copied", SourceImageId=image_id, SourceRegion=REGION)["ImageId"])
    assert describe_snapshot(cloud, snapshot_id_of(cloud, copied))["VolumeId"] == "vol-ffffffff"


def test_the_snapshot_of_a_deregistered_ami_stays_and_can_be_deleted(cloud: Cloud) -> None:
    image_id = create_ami(cloud, "CreateImage", tags("image", *A), tags("snapshot", *B))
    snapshot_id = snapshot_id_of(cloud, image_id)
    assert cloud.refusal("alice", "DeleteSnapshot", SnapshotId=snapshot_id).code == "InvalidSnapshot.InUse"
    cloud.run("alice", "DeregisterImage", ImageId=image_id)
    assert describe_snapshot(cloud, snapshot_id)["Tags"] == B
    assert listed(cloud) == [("snapshot", snapshot_id, "b", "2")]
    cloud.run("alice", "DeleteSnapshot", SnapshotId=snapshot_id)
    assert cloud.refusal("alice", "DescribeSnapshots", SnapshotIds=[snapshot_id]).code == "InvalidSnapshot.NotFound"


def test_the_snapshot_is_deleted_with_its_ami_on_request_unless_an_instance_uses_it(cloud: Cloud) -> None:
    used, unused = create_ami(cloud, "CreateImage"), create_ami(cloud, "CopyImage")
    cloud.run("alice", "RunInstances", ImageId=used, MinCount=1, MaxCount=1)
    for image_id, code, remaining in ((unused, "success", 0), (used, "skipped", 1)):
        response = cloud.run("alice", "DeregisterImage", ImageId=image_id, DeleteAssociatedSnapshots=True)
        assert response["DeleteSnapshotResults"] == [{"SnapshotId": f"snap-{image_id[4:]}", "ReturnCode": code}]
        cloud.wait(5)
        snapshots = cloud.run("alice", "DescribeSnapshots")["Snapshots"]
        assert [snapshot["SnapshotId"] for snapshot in snapshots].count(f"snap-{image_id[4:]}") == remaining
    response = cloud.run(
        "alice", "DeregisterImage", ImageId=create_image(cloud, "alice", "mine"), DeleteAssociatedSnapshots=True
    )
    assert response == {"Return": True}


def test_a_volume_from_the_snapshot_of_an_ami_has_no_attributes_of_either(cloud: Cloud) -> None:
    image_id = create_ami(cloud, "CreateImage", tags("image", *A), tags("snapshot", *B))
    parameters: dict[str, Any] = {"AvailabilityZone": ZONE, "SnapshotId": snapshot_id_of(cloud, image_id)}
    volume_id = str(cloud.run("alice", "CreateVolume", **parameters)["VolumeId"])
    cloud.wait(5)
    (described,) = cloud.run("alice", "DescribeVolumes", VolumeIds=[volume_id])["Volumes"]
    assert (described["State"], "Tags" in described) == ("available", False)
    assert cloud.refusal("alice", "DescribeImages", ImageIds=[f"ami-{volume_id[4:]}"]).code == "InvalidAMIID.NotFound"
    document = cloud.as_user("alice", "one.image.info", int(volume_id[4:]), False)
    assert "_TAG_" not in document
    assert "EC2_SNAPSHOT_OF_AMI" not in document


def test_the_tags_of_a_snapshot_that_is_registered_are_not_the_amis(cloud: Cloud) -> None:
    snapshot_id = snapshot(cloud, volume(cloud), TagSpecifications=[tags("snapshot", *B)])
    image_id = f"ami-{snapshot_id[5:]}"
    cloud.run(
        "alice", "RegisterImage", ImageLocation=image_id, Name="registered", TagSpecifications=[tags("image", *A)]
    )
    assert (ami(cloud, image_id)["Tags"], describe_snapshot(cloud, snapshot_id)["Tags"]) == (A, B)
    cloud.run("alice", "RegisterImage", ImageLocation=image_id, Name="registered once more")
    assert (ami(cloud, image_id)["Tags"], describe_snapshot(cloud, snapshot_id)["Tags"]) == (A, B)
    cloud.run("alice", "DeregisterImage", ImageId=image_id)
    assert listed(cloud) == [("snapshot", snapshot_id, "b", "2")]


def test_an_instance_and_all_its_volumes_get_the_tags_for_their_kind(cloud: Cloud) -> None:
    """Also the disks of the instance type."""
    template = 'NAME="two"\nEC2_INSTANCE_TYPE="two.disks"\nCPU="1"\nMEMORY="64"\nDISK=[TYPE="fs",SIZE="1024"]'
    cloud.as_user("alice", "one.template.allocate", template)
    instance_id = instance(
        cloud,
        InstanceType="two.disks",
        BlockDeviceMappings=[{"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1}}],
        TagSpecifications=[tags("volume", *B), tags("instance", *A)],
    )
    (reservation,) = cloud.run("alice", "DescribeInstances", InstanceIds=[instance_id])["Reservations"]
    assert reservation["Instances"][0]["Tags"] == A
    volumes = cloud.run("alice", "DescribeVolumes")["Volumes"]
    assert [described["Tags"] for described in volumes] == [B, B, B]


def test_an_instance_is_launched_with_the_mappings_of_its_ami(cloud: Cloud) -> None:
    """Clients send back the mappings of DescribeImages, with the snapshot of the root device."""
    image_id = create_ami(cloud, "CreateImage", tags("image", *A))
    (mapping,) = ami(cloud, image_id)["BlockDeviceMappings"]
    del mapping["Ebs"]["Encrypted"]
    parameters: dict[str, Any] = {"ImageId": image_id, "MinCount": 1, "MaxCount": 1}
    assert cloud.run("alice", "RunInstances", **parameters, BlockDeviceMappings=[mapping])["Instances"]
    other = snapshot(cloud, volume(cloud))
    mapping["Ebs"]["SnapshotId"] = other
    refusal = cloud.refusal("alice", "RunInstances", **parameters, BlockDeviceMappings=[mapping])
    assert refusal.code == "InvalidBlockDeviceMapping"
