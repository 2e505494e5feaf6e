"""EC2's representation of a volume, its status and its last modification, and the filters on them."""

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
from econed.actions.volumes.lookup import DiskVolume, ImageVolume
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
    from econed.actions.volumes.lookup import Attachment, Volume
    from econed.opennebula.documents import Image

DEFAULT_TYPE = "standard"
"""The VolumeType of volumes created without one. OpenNebula has no volume types."""

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
"""The filters of DescribeVolumes."""

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
"""The filters of DescribeVolumeStatus. Volumes never have events or actions here: filters on them match nothing."""

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
"""The filters of DescribeVolumesModifications."""


@dataclass(frozen=True)
class Zones:
    """The availability zones of volumes: the names of the clusters by id, and the cluster ids of each datastore."""

    cluster_names: Mapping[int, str]
    datastore_clusters: Mapping[int, Sequence[int]]

    def suffice_for(self, volume: Volume) -> bool:
        """Whether the zone of a volume can be determined without reading the datastores."""
        return bool(self.datastore_clusters) or not _has_no_zone(volume)

    @classmethod
    async def of(cls, call: Call, volumes: Iterable[Volume]) -> Zones:
        """Return the zones; datastores are read only for volumes without a zone, such as the Ruby server's."""
        datastores = await call.session.datastores() if any(map(_has_no_zone, volumes)) else ()
        return cls(await call.cluster_names(), {datastore.id: datastore.cluster_ids for datastore in datastores})

    def name(self, volume: Volume) -> str:
        """Return the zone of a volume: the one it was created for, else its machine's, else one of its datastore's."""
        if isinstance(volume, DiskVolume):
            return availability_zone_of(volume.attachment.machine, self.cluster_names)
        cluster_id = whole_number(volume.image.template.text(AVAILABILITY_ZONE))
        if cluster_id is not None:
            return self.cluster_names.get(cluster_id, "")
        if volume.attachment is not None:
            return availability_zone_of(volume.attachment.machine, self.cluster_names)
        cluster_ids = self.datastore_clusters.get(volume.image.datastore_id, ())
        return next(
            (self.cluster_names[cluster] for cluster in sorted(cluster_ids) if cluster in self.cluster_names), ""
        )


def _has_no_zone(volume: Volume) -> bool:
    """Whether a volume has no zone of its own and no machine."""
    return (
        isinstance(volume, ImageVolume)
        and volume.attachment is None
        and not volume.image.template.text(AVAILABILITY_ZONE)
    )


def volume_view(volume: Volume, zones: Zones) -> VolumeTypeDef:
    """Return a volume as EC2's Volume."""
    image = _finished_image(volume)
    view: VolumeTypeDef = {
        "VolumeId": volume.id,
        "Size": volume.size,
        "SnapshotId": image.template.text(SOURCE_SNAPSHOT) if image is not None else "",
        "AvailabilityZone": zones.name(volume),
        "State": volume_state(volume),
        "CreateTime": timestamp(volume.created),
        "Attachments": attachments_view(volume),
        "Encrypted": False,
        "VolumeType": volume_type(volume),  # type: ignore[typeddict-item]  # as the client gave it
        "MultiAttachEnabled": False,
    }
    if (image is not None or isinstance(volume, DiskVolume)) and volume.tags:
        view["Tags"] = volume.tags
    return view


def _finished_image(volume: Volume) -> Image | None:
    """Return the image of a volume; None if it has none, or the attributes are still those of its original."""
    return volume.image if isinstance(volume, ImageVolume) and not is_unfinished(volume.image) else None


def attachment_view(volume: Volume, attachment: Attachment) -> VolumeAttachmentTypeDef:
    """Return an attachment of a volume as EC2's VolumeAttachment."""
    return {
        "VolumeId": volume.id,
        "InstanceId": INSTANCE.format(attachment.machine.id),
        "Device": device_name(attachment.machine, attachment.disk),
        "State": attachment.status,  # type: ignore[typeddict-item]  # EC2's words
        "AttachTime": timestamp(attachment.attach_time(volume.image if isinstance(volume, ImageVolume) else None)),
        "DeleteOnTermination": attachment.deletes_on_termination,
    }


def pending_attachment_view(volume: Volume, pending: PendingAttachment) -> VolumeAttachmentTypeDef:
    """Return the deferred attachment of a volume as EC2's VolumeAttachment."""
    return {
        "VolumeId": volume.id,
        "InstanceId": INSTANCE.format(pending.machine_id),
        "Device": pending.device,
        "State": "attaching",
        "AttachTime": timestamp(pending.time),
        "DeleteOnTermination": False,
    }


def attachments_view(volume: Volume) -> list[VolumeAttachmentTypeDef]:
    """Return the attachment of a volume, present or deferred, as a list."""
    if volume.attachment is not None:
        return [attachment_view(volume, volume.attachment)]
    return [] if volume.pending is None else [pending_attachment_view(volume, volume.pending)]


def volume_state(volume: Volume) -> VolumeStateType:
    """Return the state of a volume: that of its image; a non-persistent disk is in use."""
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
    """Return the status of a volume: ok unless it is still being created, or failed."""
    state = volume_state(volume)
    status = "impaired" if state == "error" else "insufficient-data" if state == "creating" else "ok"
    io_enabled = {"ok": "passed", "impaired": "failed"}.get(status, "not-applicable")
    return {
        "VolumeId": volume.id,
        "AvailabilityZone": zones.name(volume),
        "Actions": [],
        "Events": [],
        "VolumeStatus": {
            "Status": status,  # type: ignore[typeddict-item]  # EC2's words
            "Details": [
                {"Name": "io-enabled", "Status": io_enabled},
                {"Name": "io-performance", "Status": "not-applicable"},
            ],
        },
    }


def modification_view(volume: Volume) -> VolumeModificationTypeDef | None:
    """Return the last modification of a volume; None if there was none.

    It is recorded before oned is called: while the disk is smaller than the target, it is in progress or has failed.
    """
    _, members = volume.modification
    original_size, target_size = (whole_number(members.get(name, "")) for name in ("ORIGINAL_SIZE", "TARGET_SIZE"))
    time = epoch_seconds(members.get("TIME", ""))
    if original_size is None or target_size is None or time is None:
        return None
    target_type = volume_type(volume)
    view: VolumeModificationTypeDef = {
        "VolumeId": volume.id,
        "ModificationState": "completed",
        "OriginalSize": original_size,
        "TargetSize": target_size,
        "OriginalVolumeType": members.get("ORIGINAL_TYPE", target_type),  # type: ignore[typeddict-item]  # as the client gave it
        "TargetVolumeType": target_type,  # type: ignore[typeddict-item]
        "OriginalMultiAttachEnabled": False,
        "TargetMultiAttachEnabled": False,
        "Progress": 100,
        "StartTime": timestamp(time),
    }
    if volume.attachment is not None and volume.attachment.disk.text("RESIZE") == "YES":
        return {**view, "ModificationState": "modifying", "Progress": 0}
    if volume.size < target_size:
        return {**view, "ModificationState": "failed", "Progress": 0}
    return {**view, "EndTime": timestamp(time)}


def modification_text(volume: Volume, size: int, new_type: str, now: int) -> str:
    """Return the template text that records a modification, on the image or on the machine whose disk it is."""
    members = {
        "ORIGINAL_SIZE": str(volume.size),
        "TARGET_SIZE": str(size),
        "ORIGINAL_TYPE": volume_type(volume),
        "TIME": str(now),
    }
    name, _ = volume.modification
    return template(vector(name, members), attribute(VOLUME_TYPE, new_type) if new_type else "")


def volume_type(volume: Volume) -> str:
    """Return the VolumeType that was last requested for a volume."""
    requested = volume.image.template.text(VOLUME_TYPE) if isinstance(volume, ImageVolume) else ""
    if not requested and volume.attachment is not None:
        requested = volume.attachment.disk.text(VOLUME_TYPE)
    return requested or DEFAULT_TYPE
