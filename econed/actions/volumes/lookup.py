"""Finding volumes and their attachments, which are read from the disks of the machines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from econed.actions.call import gather
from econed.actions.disk_images.lookup import images_by_id
from econed.actions.disk_images.volume_facts import (
    ATTACHMENT_HINT,
    MODIFICATION,
    PendingAttachment,
    is_unfinished,
    is_volume,
)
from econed.actions.machines.facts import ATTACH_TIME, DELETE_ON_TERMINATION
from econed.actions.machines.lookup import find_settled_machines, is_instance
from econed.actions.tagging import disk_tag_prefix, tags_of, tags_under
from econed.ids import INSTANCE, VOLUME, machine_and_part, part_of_machine
from econed.opennebula.states import VmState
from econed.opennebula.values import epoch_seconds

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import TagTypeDef

    from econed.actions.call import Call
    from econed.opennebula.documents import Disk, Image, VirtualMachine

SETTLE_TIMEOUT = 15
"""Seconds to wait for a machine in a transitional state, for example while another disk is being attached."""

_MB_PER_GIB = 1024
_DISK_DETACH = 22
"""HISTORY/ACTION of a history record that was closed by detaching a disk (oned, VMActions)."""


@dataclass(frozen=True)
class Attachment:
    """A disk of a machine that is a volume; `is_detaching` while it is being detached."""

    machine: VirtualMachine
    disk: Disk
    is_detaching: bool = False

    @property
    def status(self) -> str:
        """The state in EC2 (VolumeAttachmentState)."""
        if self.is_detaching:
            return "detaching"
        return "attaching" if self.disk.is_attaching else "attached"

    @property
    def is_root(self) -> bool:
        """Whether the machine boots from it: its first disk."""
        return self.machine.disks[0].disk_id == self.disk.disk_id

    @property
    def own_tags(self) -> list[TagTypeDef]:
        """The tags of a non-persistent disk, which are stored on the machine."""
        return tags_under(self.machine.user_template, disk_tag_prefix(self.disk.disk_id))

    @property
    def deletes_on_termination(self) -> bool:
        """Whether it is deleted with the machine: a copy always is, a volume only if that was requested."""
        return not self.disk.is_persistent or self.disk.text(DELETE_ON_TERMINATION) == "YES"

    def attach_time(self, image: Image | None) -> int:
        """Return when it was attached, in seconds since the epoch; if not recorded, when the machine was created."""
        recorded = epoch_seconds(self.disk.text(ATTACH_TIME))
        if recorded is not None:
            return recorded
        hint: Mapping[str, str] = image.template.vector(ATTACHMENT_HINT) if image is not None else {}
        hinted_time = epoch_seconds(hint.get("ATTACH_TIME", ""))
        if hinted_time is not None and hint.get("INSTANCE_ID") == INSTANCE.format(self.machine.id):
            return hinted_time
        return self.machine.stime


@dataclass(frozen=True)
class ImageVolume:
    """A volume that is an image, with its only attachment: oned lets one machine at a time use a persistent image."""

    image: Image
    attachment: Attachment | None

    @property
    def id(self) -> str:
        """The EC2 id."""
        return VOLUME.format(self.image.id)

    @property
    def pending(self) -> PendingAttachment | None:
        """The attachment that is deferred until oned has copied the image."""
        return None if self.image.vm_ids or is_unfinished(self.image) else PendingAttachment.from_image(self.image)

    @property
    def size(self) -> int:
        """The size in GiB. oned updates the image shortly after its disk has grown."""
        return _gib(max(self.image.size, self.attachment.disk.size if self.attachment is not None else 0))

    @property
    def created(self) -> int:
        """When it was created, in seconds since the epoch."""
        return self.image.regtime

    @property
    def tags(self) -> list[TagTypeDef]:
        """The tags, sorted by key."""
        return tags_of(self.image.template)

    @property
    def position(self) -> Position:
        """The position in lists: images come before disks, sorted by id."""
        return 0, self.image.id, 0

    @property
    def modification(self) -> tuple[str, Mapping[str, str]]:
        """The attribute of the image that stores the last modification, and its members."""
        return MODIFICATION, self.image.template.vector(MODIFICATION)


@dataclass(frozen=True)
class DiskVolume:
    """A volume that is a non-persistent disk of a machine and no image: usually the root disk."""

    attachment: Attachment
    pending: ClassVar[None] = None

    @property
    def id(self) -> str:
        """The EC2 id."""
        return part_of_machine(VOLUME.prefix, self.attachment.machine.id, self.attachment.disk.disk_id)

    @property
    def size(self) -> int:
        """The size in GiB."""
        return _gib(self.attachment.disk.size)

    @property
    def created(self) -> int:
        """When its machine was created, in seconds since the epoch."""
        return self.attachment.machine.stime

    @property
    def tags(self) -> list[TagTypeDef]:
        """The tags, which are stored on the machine, sorted by key."""
        return self.attachment.own_tags

    @property
    def position(self) -> Position:
        """The position in lists: after all images, sorted by machine and disk."""
        return 1, self.attachment.machine.id, self.attachment.disk.disk_id

    @property
    def modification(self) -> tuple[str, Mapping[str, str]]:
        """The attribute of the machine that stores the last modification, and its members."""
        name = f"{MODIFICATION}_{self.attachment.disk.disk_id}"
        return name, self.attachment.machine.user_template.vector(name)


Volume: TypeAlias = ImageVolume | DiskVolume
Position: TypeAlias = tuple[int, int, int]
"""Position in lists of volumes."""


def _gib(megabytes: int) -> int:
    return -(-megabytes // _MB_PER_GIB)


async def volumes_by_id(call: Call, volume_ids: Sequence[str]) -> tuple[Volume, ...]:
    """Return the volumes with these ids, in this order and each once.

    Raises `EC2Error` InvalidVolumeID.Malformed, or InvalidVolume.NotFound if one does not exist, is no volume, or may
    not be seen by the caller.
    """
    volumes = await find_volumes(call, volume_ids)
    missing = [volume_id for volume_id in dict.fromkeys(volume_ids) if volume_id not in volumes]
    if missing:
        raise VOLUME.not_found(*missing)
    return tuple({volume.id: volume for volume in (volumes[volume_id] for volume_id in volume_ids)}.values())


async def find_volumes(call: Call, volume_ids: Iterable[str]) -> Mapping[str, Volume]:
    """Return the volumes that exist, by their ids as in `volume_ids`; raises `EC2Error` InvalidVolumeID.Malformed."""
    image_ids: dict[str, int] = {}
    disk_keys: dict[str, tuple[int, int]] = {}
    for volume_id in volume_ids:
        disk_key = machine_and_part(VOLUME.prefix, volume_id)
        if disk_key is not None:
            disk_keys[volume_id] = disk_key
        elif (image_id := VOLUME.opennebula_id(volume_id)) is not None:
            image_ids[volume_id] = image_id
    disks: dict[tuple[int, int], DiskVolume] = {}
    for machine in await call.session.vms(sorted({machine_id for machine_id, _ in disk_keys.values()})):
        disks |= _disk_volumes_by_key(machine) if is_instance(call, machine) else {}
    volumes: dict[str, Volume] = {volume_id: disks[key] for volume_id, key in disk_keys.items() if key in disks}
    images = [image for image in await images_by_id(call, sorted(set(image_ids.values()))) if is_volume(image)]
    by_image_id = {volume.image.id: volume for volume in await with_attachments(call, images)}
    volumes |= {
        volume_id: by_image_id[image_id] for volume_id, image_id in image_ids.items() if image_id in by_image_id
    }
    return volumes


async def with_attachments(call: Call, images: Sequence[Image]) -> list[ImageVolume]:
    """Return these images as volumes with their attachments; only machines that use one of them are read."""
    machines = await call.session.vms(sorted({machine_id for image in images for machine_id in image.vm_ids}))
    disks = {
        disk.image_id: (machine, disk)
        for machine in machines
        if machine.state is not VmState.DONE
        for disk in machine.disks
        if disk.is_persistent and disk.image_id is not None
    }

    async def volume_of(image: Image) -> ImageVolume:
        if image.id not in disks:
            return ImageVolume(image, None)
        return ImageVolume(image, await read_attachment(call, *disks[image.id]))

    return await gather(volume_of(image) for image in images)


async def read_attachment(call: Call, machine: VirtualMachine, disk: Disk) -> Attachment:
    """Return a disk as an attachment; only the history tells whether a disk is being attached or detached."""
    if not disk.is_attaching:
        return Attachment(machine, disk)
    history = (await call.session.vm(machine.id)).history
    return Attachment(machine, disk, is_detaching=len(history) > 1 and history[-2].action == _DISK_DETACH)


def disk_volumes(machine: VirtualMachine) -> list[DiskVolume]:
    """Return the non-persistent disks of a machine as volumes."""
    if machine.state is VmState.DONE:
        return []
    return [DiskVolume(Attachment(machine, disk)) for disk in machine.disks if not disk.is_persistent]


async def settled_machine(call: Call, machine_id: int) -> VirtualMachine:
    """Return a machine once it is in no transitional state, or as it is after `SETTLE_TIMEOUT` seconds.

    Raises `EC2Error` InvalidInstanceID.NotFound if it no longer exists.
    """
    (machine,) = await find_settled_machines(call, [INSTANCE.format(machine_id)], timeout=SETTLE_TIMEOUT)
    return machine


def _disk_volumes_by_key(machine: VirtualMachine) -> dict[tuple[int, int], DiskVolume]:
    """Return the non-persistent disks of a machine by machine id and disk id."""
    return {(machine.id, volume.attachment.disk.disk_id): volume for volume in disk_volumes(machine)}
