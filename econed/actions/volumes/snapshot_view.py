"""A snapshot as EC2 shows it: an image with the mark EBS_SNAPSHOT=YES, as the Ruby server set it."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from econed.actions.by_id import find_by_ids
from econed.actions.call import account_id
from econed.actions.disk_images.ami_facts import SAVED_FROM_MACHINE, description
from econed.actions.disk_images.finding import images_by_id
from econed.actions.disk_images.volume_facts import (
    is_ami_snapshot,
    is_marked_deleted,
    is_snapshot,
    is_unfinished,
    snapshot_tags,
    source_volume_id,
)
from econed.actions.filters import Filters, field, tag_filters
from econed.actions.timestamps import timestamp
from econed.ids import IMAGE, INSTANCE, SNAPSHOT
from econed.opennebula.states import ImageState
from econed.opennebula.values import whole_number

if TYPE_CHECKING:
    from types_boto3_ec2.literals import SnapshotStateType
    from types_boto3_ec2.type_defs import SnapshotTypeDef

    from econed.actions.call import Call
    from econed.opennebula.documents import Image

_MB_PER_GIB = 1024
_PENDING = frozenset({ImageState.INIT, ImageState.LOCKED, ImageState.LOCKED_USED, ImageState.LOCKED_USED_PERS})

SNAPSHOT_FILTERS = Filters(
    MappingProxyType(
        {
            "description": field("Description"),
            "encrypted": field("Encrypted"),
            "owner-alias": field("OwnerAlias"),
            "owner-id": field("OwnerId"),
            "progress": field("Progress"),
            "snapshot-id": field("SnapshotId"),
            "start-time": field("StartTime"),
            "status": field("State"),
            "storage-tier": field("StorageTier"),
            "transfer-type": field("TransferType"),
            "volume-id": field("VolumeId"),
            "volume-size": field("VolumeSize"),
            **tag_filters(),
        }
    )
)
"""Of DescribeSnapshots."""


async def snapshots_by_id(call: Call, snapshot_ids: Sequence[str]) -> tuple[Image, ...]:
    """Return the images that are the snapshots with these ids, in this order and each once.

    Raises `EC2Error` InvalidSnapshotID.Malformed, or InvalidSnapshot.NotFound for what does not exist, is no snapshot,
    is being deleted, or may not be seen by the caller.
    """

    async def read(numbers: Sequence[int]) -> list[Image]:
        return [image for image in await images_by_id(call, numbers) if is_shown(image)]

    return await find_by_ids(SNAPSHOT, snapshot_ids, read)


def is_shown(image: Image) -> bool:
    """Whether an image is a snapshot, and not just being deleted: EC2 has no state for that."""
    return is_snapshot(image) and image.state is not ImageState.DELETE and not is_marked_deleted(image)


def snapshot_view(image: Image, owner_alias: str | None = None) -> SnapshotTypeDef:
    """Return an image as EC2's Snapshot; `owner_alias` is the alias of its owner, if they have one for the caller.

    How far a copy has come OpenNebula does not say.
    """
    now = state(image)
    finished = not is_unfinished(image)
    shown: SnapshotTypeDef = {
        "SnapshotId": SNAPSHOT.format(image.id),
        "VolumeId": source_volume_id(image),
        "State": now,
        "StartTime": timestamp(image.regtime),
        "Progress": "100%" if now == "completed" else "0%",
        "OwnerId": account_id(image.uid),
        "Description": _description(image) if finished else "",
        "VolumeSize": -(-image.size // _MB_PER_GIB),
        "Encrypted": False,
        "StorageTier": "standard",
    }
    if finished and (tags := snapshot_tags(image)):
        shown["Tags"] = tags
    if owner_alias is not None:
        shown["OwnerAlias"] = owner_alias
    if now == "error":
        shown["StateMessage"] = image.template.text("ERROR") or "The volume could not be copied."
    return shown


def state(image: Image) -> SnapshotStateType:
    """Return the state of a snapshot."""
    if image.state in (ImageState.ERROR, ImageState.DISABLED):
        return "error"
    return "pending" if image.state in _PENDING or is_unfinished(image) else "completed"


def _description(image: Image) -> str:
    """Return what is said of a snapshot; of the one behind an AMI, whose description is the AMI's, what Amazon says."""
    if not is_ami_snapshot(image):
        return description(image)
    machine = whole_number(image.template.text(SAVED_FROM_MACHINE))
    if machine is not None:
        return f"Created by CreateImage({INSTANCE.format(machine)}) for {IMAGE.format(image.id)}"
    return f"Copied for DestinationAmi {IMAGE.format(image.id)}"
