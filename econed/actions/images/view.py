"""EC2's representation of AMIs, which are OpenNebula images marked EC2_AMI=YES, as by the Ruby server."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from econed.actions.disk_images.ami_facts import AMI_NAME, IS_AMI, SAVED_FROM_MACHINE, description
from econed.actions.disk_images.volume_facts import is_marked_deleted, is_snapshot, is_unfinished
from econed.actions.filters import Filters, field, filter_text, tag_filters
from econed.actions.machines.devices import ROOT_DEVICE
from econed.actions.tagging import tags_of
from econed.actions.timestamps import timestamp
from econed.ids import IMAGE, INSTANCE, SNAPSHOT, account_id
from econed.opennebula.documents import Right
from econed.opennebula.states import ImageState
from econed.opennebula.values import whole_number

if TYPE_CHECKING:
    from types_boto3_ec2.literals import ArchitectureValuesType, ImageStateType
    from types_boto3_ec2.type_defs import BlockDeviceMappingTypeDef, EbsBlockDeviceTypeDef, ImageTypeDef

    from econed.opennebula.documents import Image

_MB_PER_GIB = 1024

_STATES: MappingProxyType[ImageState, ImageStateType] = MappingProxyType(
    {
        ImageState.INIT: "pending",
        ImageState.READY: "available",
        ImageState.USED: "available",
        ImageState.DISABLED: "disabled",
        ImageState.LOCKED: "pending",
        ImageState.ERROR: "failed",
        ImageState.CLONE: "available",
        ImageState.DELETE: "deregistered",
        ImageState.USED_PERS: "available",
        ImageState.LOCKED_USED: "pending",
        ImageState.LOCKED_USED_PERS: "pending",
    }
)
ARCHITECTURES: MappingProxyType[str, str] = MappingProxyType({"x86_64": "x86_64", "i386": "i686", "arm64": "aarch64"})
"""The values of ARCH by EC2's architecture."""

_ARCHITECTURES: MappingProxyType[str, ArchitectureValuesType] = MappingProxyType(
    {"i386": "i386", "i686": "i386", "aarch64": "arm64", "arm64": "arm64"}
)

# Filters on members of Image that no image here has are accepted and match nothing, as on Amazon.
IMAGE_FILTERS = Filters(
    MappingProxyType(
        {
            "architecture": field("Architecture"),
            "block-device-mapping.delete-on-termination": field("BlockDeviceMappings", "Ebs", "DeleteOnTermination"),
            "block-device-mapping.device-name": field("BlockDeviceMappings", "DeviceName"),
            "block-device-mapping.encrypted": field("BlockDeviceMappings", "Ebs", "Encrypted"),
            "block-device-mapping.snapshot-id": field("BlockDeviceMappings", "Ebs", "SnapshotId"),
            "block-device-mapping.volume-size": field("BlockDeviceMappings", "Ebs", "VolumeSize"),
            "block-device-mapping.volume-type": field("BlockDeviceMappings", "Ebs", "VolumeType"),
            "boot-mode": field("BootMode"),
            "creation-date": field("CreationDate"),
            "description": field("Description"),
            "ena-support": field("EnaSupport"),
            "hypervisor": field("Hypervisor"),
            "image-id": field("ImageId"),
            "image-type": field("ImageType"),
            "is-public": field("Public"),
            "kernel-id": field("KernelId"),
            "manifest-location": field("ImageLocation"),
            "name": field("Name"),
            "owner-alias": field("ImageOwnerAlias"),
            "owner-id": field("OwnerId"),
            "platform": field("Platform"),
            "product-code": field("ProductCodes", "ProductCodeId"),
            "product-code.type": field("ProductCodes", "ProductCodeType"),
            "ramdisk-id": field("RamdiskId"),
            "root-device-name": field("RootDeviceName"),
            "root-device-type": field("RootDeviceType"),
            "source-instance-id": field("SourceInstanceId"),
            "sriov-net-support": field("SriovNetSupport"),
            "state": field("State"),
            "state-reason-code": field("StateReason", "Code"),
            "state-reason-message": field("StateReason", "Message"),
            "virtualization-type": field("VirtualizationType"),
            **tag_filters(),
        }
    )
)
"""The filters of DescribeImages."""


def is_ami(image: Image) -> bool:
    """Whether an image is an AMI, is not being deleted, and is not an unfinished copy of an AMI."""
    is_marked = image.template.text(IS_AMI).upper() == "YES"
    return (
        is_marked and image.state is not ImageState.DELETE and not is_marked_deleted(image) and not is_unfinished(image)
    )


def ami_view(image: Image, owner_alias: str | None = None) -> ImageTypeDef:
    """Return an image as EC2's Image; `owner_alias` is its owner's alias as the caller sees it, if there is one.

    Hypervisor is xen, because EC2 has no value for others (Amazon uses it for KVM too).
    """
    view: ImageTypeDef = {
        "ImageId": IMAGE.format(image.id),
        "Name": ami_name(image),
        "ImageLocation": f"{account_id(image.uid)}/{ami_name(image)}",
        "State": _STATES.get(image.state, "transient"),
        "OwnerId": account_id(image.uid),
        "Public": is_public(image),
        "Architecture": architecture(image),
        "ImageType": "machine",
        "PlatformDetails": "Linux/UNIX",
        "UsageOperation": "RunInstances",
        "EnaSupport": False,
        "Hypervisor": "xen",
        "VirtualizationType": "hvm",
        "RootDeviceType": "ebs",
        "RootDeviceName": ROOT_DEVICE,
        "BlockDeviceMappings": [_root_disk(image)],
        "CreationDate": filter_text(timestamp(image.regtime)),
    }
    if tags := tags_of(image.template):
        view["Tags"] = tags
    if owner_alias is not None:
        view["ImageOwnerAlias"] = owner_alias
    if text := description(image):
        view["Description"] = text
    if (machine_id := whole_number(image.template.text(SAVED_FROM_MACHINE))) is not None:
        view["SourceInstanceId"] = INSTANCE.format(machine_id)
    if image.state is ImageState.ERROR:
        reason = image.template.text("ERROR") or "The image could not be copied into its datastore."
        view["StateReason"] = {"Code": "Server.InternalError", "Message": reason}
    return view


def ami_name(image: Image) -> str:
    """Return the name of an AMI: the one it was registered with, else the name of its image."""
    return image.template.text(AMI_NAME) or image.name


def is_public(image: Image) -> bool:
    """Whether the image's group or everybody may use it; OpenNebula also calls that public."""
    return Right.USE in image.permissions.group | image.permissions.other


def architecture(image: Image) -> ArchitectureValuesType:
    """Return the architecture of an image: the value of ARCH, else x86_64."""
    return ec2_architecture(image.template.text("ARCH"))


def ec2_architecture(arch: str) -> ArchitectureValuesType:
    """Return EC2's word for a value of ARCH; x86_64 if it is none."""
    return _ARCHITECTURES.get(arch.lower(), "x86_64")


def _root_disk(image: Image) -> BlockDeviceMappingTypeDef:
    ebs: EbsBlockDeviceTypeDef = {
        "VolumeSize": -(-image.size // _MB_PER_GIB),
        "VolumeType": "standard",
        "DeleteOnTermination": True,
        "Encrypted": False,
    }
    if is_snapshot(image):
        ebs["SnapshotId"] = SNAPSHOT.format(image.id)
    return {"DeviceName": ROOT_DEVICE, "Ebs": ebs}
