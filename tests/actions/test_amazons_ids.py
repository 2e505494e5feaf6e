"""Ids of Amazon's form, which tools keep from Amazon's cloud: they are not malformed, but not found."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.addresses import AddressCloud
from tests.support.cloud import Cloud

VOLUME_CODES = ("InvalidVolume.NotFound", "InvalidVolumeID.Malformed")
INSTANCE_CODES = ("InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed")
IMAGE_CODES = ("InvalidAMIID.NotFound", "InvalidAMIID.Malformed")
SNAPSHOT_CODES = ("InvalidSnapshot.NotFound", "InvalidSnapshotID.Malformed")
ALLOCATION_CODES = ("InvalidAllocationID.NotFound", "InvalidAllocationID.Malformed")
ASSOCIATION_CODES = ("InvalidAssociationID.NotFound", "InvalidAssociationID.Malformed")
INTERFACE_CODES = ("InvalidNetworkInterfaceID.NotFound", "InvalidNetworkInterfaceID.Malformed")

RUN: dict[str, Any] = {"ImageId": "ami-00000000", "MinCount": 1, "MaxCount": 1}
_EBS = {"DeviceName": "/dev/sdf", "Ebs": {"SnapshotId": "snap-{}"}}

CASES: list[tuple[str, dict[str, Any], tuple[str, str]]] = [
    ("DescribeInstances", {"InstanceIds": ["i-{}"]}, INSTANCE_CODES),
    ("DescribeInstanceStatus", {"InstanceIds": ["i-{}"]}, INSTANCE_CODES),
    ("StartInstances", {"InstanceIds": ["i-00000000", "i-{}"]}, INSTANCE_CODES),
    ("StopInstances", {"InstanceIds": ["i-{}"]}, INSTANCE_CODES),
    ("RebootInstances", {"InstanceIds": ["i-{}"]}, INSTANCE_CODES),
    ("TerminateInstances", {"InstanceIds": ["i-{}", "i-00000000"]}, INSTANCE_CODES),
    ("CreateImage", {"InstanceId": "i-{}", "Name": "name"}, INSTANCE_CODES),
    ("AssociateAddress", {"PublicIp": "203.0.113.10", "InstanceId": "i-{}"}, INSTANCE_CODES),
    ("AttachVolume", {"VolumeId": "vol-00000002", "InstanceId": "i-{}", "Device": "/dev/sdf"}, INSTANCE_CODES),
    ("DetachVolume", {"VolumeId": "vol-00000002", "InstanceId": "i-{}"}, INSTANCE_CODES),
    ("RunInstances", {**RUN, "ImageId": "ami-{}"}, IMAGE_CODES),
    ("RunInstances", {**RUN, "BlockDeviceMappings": [_EBS]}, SNAPSHOT_CODES),
    ("DescribeImages", {"ImageIds": ["ami-{}"]}, IMAGE_CODES),
    ("DescribeImageAttribute", {"ImageId": "ami-{}", "Attribute": "description"}, IMAGE_CODES),
    ("ModifyImageAttribute", {"ImageId": "ami-{}", "Description": {"Value": "x"}}, IMAGE_CODES),
    ("ResetImageAttribute", {"ImageId": "ami-{}", "Attribute": "launchPermission"}, IMAGE_CODES),
    ("DeregisterImage", {"ImageId": "ami-{}"}, IMAGE_CODES),
    ("CopyImage", {"SourceImageId": "ami-{}", "SourceRegion": "OpenNebula", "Name": "name"}, IMAGE_CODES),
    ("DescribeVolumes", {"VolumeIds": ["vol-{}"]}, VOLUME_CODES),
    ("DescribeVolumeStatus", {"VolumeIds": ["vol-{}"]}, VOLUME_CODES),
    ("DescribeVolumesModifications", {"VolumeIds": ["vol-{}"]}, VOLUME_CODES),
    ("DescribeVolumeAttribute", {"VolumeId": "vol-{}", "Attribute": "autoEnableIO"}, VOLUME_CODES),
    ("ModifyVolume", {"VolumeId": "vol-{}", "Size": 2}, VOLUME_CODES),
    ("DeleteVolume", {"VolumeId": "vol-{}"}, VOLUME_CODES),
    ("DetachVolume", {"VolumeId": "vol-{}"}, VOLUME_CODES),
    ("AttachVolume", {"VolumeId": "vol-{}", "InstanceId": "i-00000000", "Device": "/dev/sdf"}, VOLUME_CODES),
    ("CreateSnapshot", {"VolumeId": "vol-{}"}, VOLUME_CODES),
    ("CreateVolume", {"AvailabilityZone": "default", "SnapshotId": "snap-{}"}, SNAPSHOT_CODES),
    ("DescribeSnapshots", {"SnapshotIds": ["snap-{}"]}, SNAPSHOT_CODES),
    ("DescribeSnapshotAttribute", {"SnapshotId": "snap-{}", "Attribute": "createVolumePermission"}, SNAPSHOT_CODES),
    ("DeleteSnapshot", {"SnapshotId": "snap-{}"}, SNAPSHOT_CODES),
    ("CopySnapshot", {"SourceSnapshotId": "snap-{}", "SourceRegion": "OpenNebula"}, SNAPSHOT_CODES),
    ("DescribeAddresses", {"AllocationIds": ["eipalloc-{}"]}, ALLOCATION_CODES),
    ("DescribeAddressesAttribute", {"AllocationIds": ["eipalloc-{}"]}, ALLOCATION_CODES),
    ("ReleaseAddress", {"AllocationId": "eipalloc-{}"}, ALLOCATION_CODES),
    ("AssociateAddress", {"AllocationId": "eipalloc-{}", "InstanceId": "i-00000000"}, ALLOCATION_CODES),
    ("DisassociateAddress", {"AssociationId": "eipassoc-{}"}, ASSOCIATION_CODES),
    ("AssociateAddress", {"PublicIp": "203.0.113.10", "NetworkInterfaceId": "eni-{}"}, INTERFACE_CODES),
    ("DescribeKeyPairs", {"KeyPairIds": ["key-{}"]}, ("InvalidKeyPair.NotFound", "InvalidKeyPair.NotFound")),
]
NAMES = [f"{action}-{codes[0]}" for action, _, codes in CASES]


def filled(parameters: Any, digits: str) -> Any:
    """Return parameters with these digits in the ids."""
    if isinstance(parameters, dict):
        return {name: filled(value, digits) for name, value in parameters.items()}
    if isinstance(parameters, list):
        return [filled(value, digits) for value in parameters]
    return parameters.replace("{}", digits) if isinstance(parameters, str) else parameters


@pytest.fixture(scope="module")
def cloud() -> AddressCloud:
    """A cloud in which alice has an instance, a volume and an elastic IP."""
    cloud = AddressCloud()
    cloud.run_instance()
    cloud.run("alice", "AllocateAddress", Address="203.0.113.10")
    assert cloud.run("alice", "CreateVolume", AvailabilityZone="default", Size=1)["VolumeId"] == "vol-00000002"
    cloud.wait(5)
    return cloud


@pytest.mark.parametrize(("action", "parameters", "codes"), CASES, ids=NAMES)
@pytest.mark.parametrize("digits", ["0123456789abcdef0", "abcdef01", "00000000000000000"])
def test_an_id_of_amazons_form_is_not_found(
    cloud: AddressCloud, action: str, parameters: dict[str, Any], codes: tuple[str, str], digits: str
) -> None:
    before = len(cloud.changes)
    assert cloud.refusal("alice", action, **filled(parameters, digits)).code == codes[0]
    assert len(cloud.changes) == before


@pytest.mark.parametrize(("action", "parameters", "codes"), CASES, ids=NAMES)
@pytest.mark.parametrize("digits", ["0123456789abcdeg0", "abcdef0", "0123456789abcdef01", "x"])
def test_an_id_that_is_not_hexadecimal_or_of_another_length_is_malformed(
    cloud: AddressCloud, action: str, parameters: dict[str, Any], codes: tuple[str, str], digits: str
) -> None:
    assert cloud.refusal("alice", action, **filled(parameters, digits)).code == codes[1]


@pytest.mark.parametrize("action", ["CreateTags", "DeleteTags"])
@pytest.mark.parametrize(
    ("prefix", "missing"),
    [
        ("i", "InvalidInstanceID.NotFound"),
        ("ami", "InvalidAMIID.NotFound"),
        ("vol", "InvalidVolume.NotFound"),
        ("snap", "InvalidSnapshot.NotFound"),
        ("eipalloc", "InvalidAllocationID.NotFound"),
        ("eipassoc", "InvalidAssociationID.NotFound"),
        ("key", "InvalidKeyPair.NotFound"),
        ("r", "InvalidReservationID.NotFound"),
        ("sg", "InvalidGroup.NotFound"),
        ("subnet", "InvalidSubnetID.NotFound"),
        ("eni", "InvalidNetworkInterfaceID.NotFound"),
    ],
)
def test_tags_of_missing_resources_and_of_texts_that_are_not_ids(
    cloud: AddressCloud, action: str, prefix: str, missing: str
) -> None:
    tags = [{"Key": "a", "Value": "b"}]
    for digits in ("0123456789abcdef0", "abcdef01"):
        resources = [f"{prefix}-{digits}"]
        assert cloud.refusal("alice", action, Resources=resources, Tags=tags).code == missing
    for digits in ("blah", "0123456789abcdef", ""):
        resources = ["i-00000000", f"{prefix}-{digits}"]
        assert cloud.refusal("alice", action, Resources=resources, Tags=tags).code == "InvalidID"


def test_a_malformed_id_is_reported_before_a_missing_one(cloud: AddressCloud) -> None:
    """As on Amazon, where the form of all ids is checked first."""
    ids = ["i-0123456789abcdef0", "i-00009999", "i-nonsense"]
    assert cloud.refusal("alice", "DescribeInstances", InstanceIds=ids).code == "InvalidInstanceID.Malformed"


def test_the_error_names_all_that_are_missing(cloud: AddressCloud) -> None:
    ids = ["i-0123456789abcdef0", "i-00000000", "i-00009999"]
    refusal = cloud.refusal("alice", "DescribeInstances", InstanceIds=ids)
    assert refusal.message == "The instance IDs 'i-0123456789abcdef0, i-00009999' do not exist"


@pytest.mark.parametrize(
    ("action", "name", "value"),
    [
        ("DescribeInstances", "instance-id", "i-0123456789abcdef0"),
        ("DescribeInstances", "reservation-id", "r-0123456789abcdef0"),
        ("DescribeInstances", "image-id", "ami-abcdef01"),
        ("DescribeImages", "image-id", "ami-abcdef01"),
        ("DescribeVolumes", "volume-id", "vol-0123456789abcdef0"),
        ("DescribeVolumes", "attachment.instance-id", "i-0123456789abcdef0"),
        ("DescribeSnapshots", "snapshot-id", "snap-0123456789abcdef0"),
        ("DescribeSnapshots", "volume-id", "vol-abcdef01"),
        ("DescribeAddresses", "allocation-id", "eipalloc-0123456789abcdef0"),
        ("DescribeTags", "resource-id", "i-0123456789abcdef0"),
        ("DescribeTags", "resource-id", "eipalloc-abcdef01"),
        ("DescribeKeyPairs", "key-pair-id", "key-0123456789abcdef0"),
    ],
)
def test_an_id_of_amazons_form_in_a_filter_matches_nothing(
    cloud: AddressCloud, action: str, name: str, value: str
) -> None:
    (listed,) = cloud.run("alice", action, Filters=[{"Name": name, "Values": [value]}]).values()
    assert listed == []


def test_an_image_with_an_id_of_amazons_form_cannot_be_registered() -> None:
    cloud = Cloud()
    location = "ami-0123456789abcdef0"
    assert cloud.refusal("alice", "RegisterImage", ImageLocation=location).code == "InvalidAMIID.NotFound"
    for nonsense in ("0123456789abcdef0", "abcdef01", "ami-blah", "bucket/image.manifest.xml"):
        assert cloud.refusal("alice", "RegisterImage", ImageLocation=nonsense).code == "InvalidParameterValue"
