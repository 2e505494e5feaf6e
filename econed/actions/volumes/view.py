"""A volume as EC2 shows it, its status and its last modification; and the filters on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from econed.actions.disk_images.volume_facts import (
    AVAILABILITY_ZONE,
    SOURCE_SNAPSHOT,
    VOLUME_TYPE,
    is_marked_deleted,
    is_unfinished,
)
from econed.actions.filters import Filters, field, tag_filters
from econed.actions.machines.devices import device_name
from econed.actions.machines.placement import availability_zone_of
from econed.actions.timestamps import timestamp
from econed.actions.volumes.finding import DiskVolume, ImageVolume
from econed.ids import INSTANCE
from econed.opennebula.states import ImageState
from econed.opennebula.template import attribute, template, vector
from econed.opennebula.values import epoch_seconds, whole_number

if TYPE_CHECKING:
    from types_boto3_ec2.literals import VolumeStateType
    from types_boto3_ec2.type_defs import (
        VolumeAttachmentTypeDef,
        VolumeModificationTypeDef,
        VolumeStatusItemTypeDef,
        VolumeTypeDef,
    )

    from econed.actions.call import Call
    from econed.actions.disk_images.volume_facts import PendingAttachment
    from econed.actions.volumes.finding import Attachment, Volume
    from econed.opennebula.documents import Image

DEFAULT_TYPE = "standard"
"""The VolumeType of what was asked for without one: OpenNebula promises nothing."""

_STATES: MappingProxyType[ImageState, VolumeStateType] = MappingProxyType(
    {
        ImageState.INIT: "creating",
        ImageState.READY: "available",
        ImageState.USED: "available",
        ImageState.DISABLED: "error",
        ImageState.LOCKED: "creating",
        ImageState.ERROR: "error",
        ImageState.CLONE: "available",
        ImageState.DELETE: "deleting",
        ImageState.USED_PERS: "in-use",
        ImageState.LOCKED_USED: "creating",
        ImageState.LOCKED_USED_PERS: "creating",
    }
)

_ATTACHMENT = "Attachments"

VOLUME_FILTERS = Filters(
    MappingProxyType(
        {
            "attachment.attach-time": field(_ATTACHMENT, "AttachTime"),
            "attachment.delete-on-termination": field(_ATTACHMENT, "DeleteOnTermination"),
            "attachment.device": field(_ATTACHMENT, "Device"),
            "attachment.instance-id": field(_ATTACHMENT, "InstanceId"),
            "attachment.status": field(_ATTACHMENT, "State"),
            "availability-zone": field("AvailabilityZone"),
            "availability-zone-id": field("AvailabilityZoneId"),
            "create-time": field("CreateTime"),
            "encrypted": field("Encrypted"),
            "fast-restored": field("FastRestored"),
            "multi-attach-enabled": field("MultiAttachEnabled"),
            "operator.managed": field("Operator", "Managed"),
            "operator.principal": field("Operator", "Principal"),
            "size": field("Size"),
            "snapshot-id": field("SnapshotId"),
            "source-volume-id": field("SourceVolumeId"),
            "status": field("State"),
            "volume-id": field("VolumeId"),
            "volume-type": field("VolumeType"),
            **tag_filters(),
        }
    )
)
"""Of DescribeVolumes."""

STATUS_FILTERS = Filters(
    MappingProxyType(
        {
            **dict.fromkeys(
                (
                    *("action.code", "action.description", "action.event-id"),
                    *("event.description", "event.event-id", "event.event-type", "event.not-after", "event.not-before"),
                ),
                lambda _: (),
            ),
            "availability-zone": field("AvailabilityZone"),
            "volume-status.details-name": field("VolumeStatus", "Details", "Name"),
            "volume-status.details-status": field("VolumeStatus", "Details", "Status"),
            "volume-status.status": field("VolumeStatus", "Status"),
        }
    )
)
"""Of DescribeVolumeStatus. Nothing is ever scheduled for a volume here: filters on that match nothing."""

MODIFICATION_FILTERS = Filters(
    MappingProxyType(
        {
            "modification-state": field("ModificationState"),
            "original-iops": field("OriginalIops"),
            "original-size": field("OriginalSize"),
            "original-volume-type": field("OriginalVolumeType"),
            "start-time": field("StartTime"),
            "target-iops": field("TargetIops"),
            "target-size": field("TargetSize"),
            "target-volume-type": field("TargetVolumeType"),
            "volume-id": field("VolumeId"),
        }
    )
)
"""Of DescribeVolumesModifications."""


@dataclass(frozen=True)
class Zones:
    """The availability zones of volumes: the names of the clusters, and the clusters of each datastore."""

    names: Mapping[int, str]
    of_datastore: Mapping[int, Sequence[int]]

    def tell(self, volume: Volume) -> bool:
        """Whether these are enough to say where a volume is."""
        return bool(self.of_datastore) or not _is_silent(volume)

    @classmethod
    async def of(cls, call: Call, found: Iterable[Volume]) -> Zones:
        """Return the zones; datastores are read only where a volume does not say its zone itself, as the old ones."""
        stores = await call.session.datastores() if any(map(_is_silent, found)) else ()
        return cls(await call.cluster_names(), {store.id: store.cluster_ids for store in stores})

    def name(self, volume: Volume) -> str:
        """Return the zone of a volume: as it was asked for, else of its machine, else one where it can be used."""
        if isinstance(volume, DiskVolume):
            return availability_zone_of(volume.attachment.machine, self.names)
        asked = whole_number(volume.image.template.text(AVAILABILITY_ZONE))
        if asked is not None:
            return self.names.get(asked, "")
        if volume.attachment is not None:
            return availability_zone_of(volume.attachment.machine, self.names)
        clusters = self.of_datastore.get(volume.image.datastore_id, ())
        return next((self.names[each] for each in sorted(clusters) if each in self.names), "")


def _is_silent(volume: Volume) -> bool:
    """Whether a volume does not say its zone itself."""
    return (
        isinstance(volume, ImageVolume)
        and volume.attachment is None
        and not volume.image.template.text(AVAILABILITY_ZONE)
    )


def volume_view(volume: Volume, zones: Zones) -> VolumeTypeDef:
    """Return a volume as EC2's Volume."""
    image = _finished_image(volume)
    shown: VolumeTypeDef = {
        "VolumeId": volume.id,
        "Size": volume.size,
        "SnapshotId": image.template.text(SOURCE_SNAPSHOT) if image is not None else "",
        "AvailabilityZone": zones.name(volume),
        "State": state(volume),
        "CreateTime": timestamp(volume.created),
        "Attachments": attachments_view(volume),
        "Encrypted": False,
        "VolumeType": volume_type(volume),  # type: ignore[typeddict-item]  # as the client gave it
        "MultiAttachEnabled": False,
    }
    if (image is not None or isinstance(volume, DiskVolume)) and volume.tags:
        shown["Tags"] = volume.tags
    return shown


def _finished_image(volume: Volume) -> Image | None:
    """Return the image of a volume; None where it has none, or its attributes are still those of the original."""
    return volume.image if isinstance(volume, ImageVolume) and not is_unfinished(volume.image) else None


def attachment_view(volume: Volume, attached: Attachment) -> VolumeAttachmentTypeDef:
    """Return where a volume is attached as EC2's VolumeAttachment."""
    return {
        "VolumeId": volume.id,
        "InstanceId": INSTANCE.format(attached.machine.id),
        "Device": device_name(attached.machine, attached.disk),
        "State": attached.status,  # type: ignore[typeddict-item]  # EC2's words
        "AttachTime": timestamp(attached.attach_time(volume.image if isinstance(volume, ImageVolume) else None)),
        "DeleteOnTermination": attached.deletes_on_termination,
    }


def pending_attachment_view(volume: Volume, pending: PendingAttachment) -> VolumeAttachmentTypeDef:
    """Return where a volume is to be attached as EC2's VolumeAttachment."""
    return {
        "VolumeId": volume.id,
        "InstanceId": INSTANCE.format(pending.machine_id),
        "Device": pending.device,
        "State": "attaching",
        "AttachTime": timestamp(pending.time),
        "DeleteOnTermination": False,
    }


def attachments_view(volume: Volume) -> list[VolumeAttachmentTypeDef]:
    """Return where a volume is attached, or is to be."""
    if volume.attachment is not None:
        return [attachment_view(volume, volume.attachment)]
    return [] if volume.pending is None else [pending_attachment_view(volume, volume.pending)]


def state(volume: Volume) -> VolumeStateType:
    """Return the state of a volume: that of its image; what is a machine's own is in use."""
    if isinstance(volume, DiskVolume):
        return "in-use"
    if is_unfinished(volume.image):
        return "creating"
    if is_marked_deleted(volume.image):
        return "deleting"
    if volume.pending is not None:
        return "in-use"
    return _STATES.get(volume.image.state, "error")


def status_view(volume: Volume, zones: Zones) -> VolumeStatusItemTypeDef:
    """Return the status of a volume: what has not been made, or could not be, is not ok."""
    now = state(volume)
    status = "impaired" if now == "error" else "insufficient-data" if now == "creating" else "ok"
    passed = {"ok": "passed", "impaired": "failed"}.get(status, "not-applicable")
    return {
        "VolumeId": volume.id,
        "AvailabilityZone": zones.name(volume),
        "Actions": [],
        "Events": [],
        "VolumeStatus": {
            "Status": status,  # type: ignore[typeddict-item]  # EC2's words
            "Details": [
                {"Name": "io-enabled", "Status": passed},
                {"Name": "io-performance", "Status": "not-applicable"},
            ],
        },
    }


def modification_view(volume: Volume) -> VolumeModificationTypeDef | None:
    """Return the last modification of a volume; None if there was none.

    It was noted before oned was asked: as long as the disk is not as large, it is on its way or has failed.
    """
    _, noted = volume.modification
    before, after = (whole_number(noted.get(name, "")) for name in ("ORIGINAL_SIZE", "TARGET_SIZE"))
    when = epoch_seconds(noted.get("TIME", ""))
    if before is None or after is None or when is None:
        return None
    kind = volume_type(volume)
    shown: VolumeModificationTypeDef = {
        "VolumeId": volume.id,
        "ModificationState": "completed",
        "OriginalSize": before,
        "TargetSize": after,
        "OriginalVolumeType": noted.get("ORIGINAL_TYPE", kind),  # type: ignore[typeddict-item]  # as the client gave it
        "TargetVolumeType": kind,  # type: ignore[typeddict-item]
        "OriginalMultiAttachEnabled": False,
        "TargetMultiAttachEnabled": False,
        "Progress": 100,
        "StartTime": timestamp(when),
    }
    if volume.attachment is not None and volume.attachment.disk.text("RESIZE") == "YES":
        return {**shown, "ModificationState": "modifying", "Progress": 0}
    if volume.size < after:
        return {**shown, "ModificationState": "failed", "Progress": 0}
    return {**shown, "EndTime": timestamp(when)}


def modification_text(volume: Volume, size: int, kind: str, now: int) -> str:
    """Return the template text that notes a modification, for the image, or for the machine whose own disk it is."""
    members = {
        "ORIGINAL_SIZE": str(volume.size),
        "TARGET_SIZE": str(size),
        "ORIGINAL_TYPE": volume_type(volume),
        "TIME": str(now),
    }
    name, _ = volume.modification
    return template(vector(name, members), attribute(VOLUME_TYPE, kind) if kind else "")


def volume_type(volume: Volume) -> str:
    """Return the VolumeType a volume was asked for with, or last changed to."""
    noted = volume.image.template.text(VOLUME_TYPE) if isinstance(volume, ImageVolume) else ""
    if not noted and volume.attachment is not None:
        noted = volume.attachment.disk.text(VOLUME_TYPE)
    return noted or DEFAULT_TYPE
