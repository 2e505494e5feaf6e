"""Finding snapshots, and EC2's representation of them: images marked EBS_SNAPSHOT=YES, as by the Ruby server."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from econed.actions.by_id import find_by_ids
from econed.actions.disk_images.ami_facts import SAVED_FROM_MACHINE, description
from econed.actions.disk_images.lookup import images_by_id
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
from econed.ids import IMAGE, INSTANCE, SNAPSHOT, account_id
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
"""The filters of DescribeSnapshots."""


async def snapshots_by_id(call: Call, snapshot_ids: Sequence[str]) -> tuple[Image, ...]:
    """Return the images of the snapshots with these ids, in this order and each once.

    Raises `EC2Error` InvalidSnapshotID.Malformed, or InvalidSnapshot.NotFound if one does not exist, is no snapshot, is
    being deleted, or may not be seen by the caller.
    """

    async def read(image_ids: Sequence[int]) -> list[Image]:
        return [image for image in await images_by_id(call, image_ids) if is_listed_snapshot(image)]

    return await find_by_ids(SNAPSHOT, snapshot_ids, read)


def is_listed_snapshot(image: Image) -> bool:
    """Whether an image is a snapshot that is not being deleted, for which EC2 has no state."""
    return is_snapshot(image) and image.state is not ImageState.DELETE and not is_marked_deleted(image)


def snapshot_view(image: Image, owner_alias: str | None = None) -> SnapshotTypeDef:
    """Return an image as EC2's Snapshot; `owner_alias` is its owner's alias as the caller sees it, if there is one.

    OpenNebula does not report the progress of a copy.
    """
    state = snapshot_state(image)
    is_finished = not is_unfinished(image)
    view: SnapshotTypeDef = {
        "SnapshotId": SNAPSHOT.format(image.id),
        "VolumeId": source_volume_id(image),
        "State": state,
        "StartTime": timestamp(image.regtime),
        "Progress": "100%" if state == "completed" else "0%",
        "OwnerId": account_id(image.uid),
        "Description": _description(image) if is_finished else "",
        "VolumeSize": -(-image.size // _MB_PER_GIB),
        "Encrypted": False,
        "StorageTier": "standard",
    }
    if is_finished and (tags := snapshot_tags(image)):
        view["Tags"] = tags
    if owner_alias is not None:
        view["OwnerAlias"] = owner_alias
    if state == "error":
        view["StateMessage"] = image.template.text("ERROR") or "The volume could not be copied."
    return view


def snapshot_state(image: Image) -> SnapshotStateType:
    """Return the state of a snapshot."""
    if image.state in (ImageState.ERROR, ImageState.DISABLED):
        return "error"
    return "pending" if image.state in _PENDING or is_unfinished(image) else "completed"


def _description(image: Image) -> str:
    """Return the description of a snapshot; for the image of an AMI, which stores the AMI's, return Amazon's text."""
    if not is_ami_snapshot(image):
        return description(image)
    machine_id = whole_number(image.template.text(SAVED_FROM_MACHINE))
    if machine_id is not None:
        return f"Created by CreateImage({INSTANCE.format(machine_id)}) for {IMAGE.format(image.id)}"
    return f"Copied for DestinationAmi {IMAGE.format(image.id)}"
