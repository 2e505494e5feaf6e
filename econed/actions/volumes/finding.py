"""Volumes and where they are attached, which the disks of the machines say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from econed.actions.call import gather
from econed.actions.disk_images.finding import images_by_id
from econed.actions.disk_images.volume_facts import (
    ATTACHMENT_HINT,
    MODIFICATION,
    PendingAttachment,
    is_unfinished,
    is_volume,
)
from econed.actions.machines.facts import ATTACH_TIME, DELETE_ON_TERMINATION
from econed.actions.machines.finding import find_settled_machines, is_instance
from econed.actions.tagging import disk_tag_prefix, tags_of, tags_under
from econed.ids import INSTANCE, VOLUME, machine_and_part, part_of_machine
from econed.opennebula.states import VmState
from econed.opennebula.values import epoch_seconds

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import TagTypeDef

    from econed.actions.call import Call
    from econed.opennebula.documents import Disk, Image, VirtualMachine

SETTLE_TIMEOUT = 15
"""Seconds to wait for a machine that comes out of a passing state by itself: another disk is being attached."""

_MB_PER_GIB = 1024
_DISK_DETACH = 22
"""HISTORY/ACTION of a stay that ended because a disk was detached (oned, VMActions)."""


@dataclass(frozen=True)
class Attachment:
    """A disk of a machine that is a volume; `detaching` while it is being detached."""

    machine: VirtualMachine
    disk: Disk
    detaching: bool = False

    @property
    def status(self) -> str:
        """EC2's word for it (VolumeAttachmentState)."""
        if self.detaching:
            return "detaching"
        return "attaching" if self.disk.is_attaching else "attached"

    @property
    def is_root(self) -> bool:
        """Whether the machine boots from it: it is its first disk."""
        return self.machine.disks[0].disk_id == self.disk.disk_id

    @property
    def own_tags(self) -> list[TagTypeDef]:
        """The tags that the machine keeps for a disk that belongs to it alone."""
        return tags_under(self.machine.user_template, disk_tag_prefix(self.disk.disk_id))

    @property
    def deletes_on_termination(self) -> bool:
        """Whether it goes with the machine: a copy does, a volume only if it was said."""
        return not self.disk.is_persistent or self.disk.text(DELETE_ON_TERMINATION) == "YES"

    def since(self, image: Image | None) -> int:
        """Return when it was attached, in seconds since the epoch: as noted, or with the machine."""
        noted = epoch_seconds(self.disk.text(ATTACH_TIME))
        if noted is not None:
            return noted
        hint: Mapping[str, str] = image.template.vector(ATTACHMENT_HINT) if image is not None else {}
        hinted = epoch_seconds(hint.get("ATTACH_TIME", ""))
        if hinted is not None and hint.get("INSTANCE_ID") == INSTANCE.format(self.machine.id):
            return hinted
        return self.machine.stime


@dataclass(frozen=True)
class ImageVolume:
    """A volume that is an image, with where it is attached: oned lets one machine at a time use a persistent image."""

    image: Image
    attachment: Attachment | None

    @property
    def id(self) -> str:
        """The EC2 id."""
        return VOLUME.format(self.image.id)

    @property
    def pending(self) -> PendingAttachment | None:
        """To which machine it is attached as soon as oned has copied it."""
        return None if self.image.vm_ids or is_unfinished(self.image) else PendingAttachment.on(self.image)

    @property
    def size(self) -> int:
        """The size in GiB; the image learns of the growth of its disk a moment later."""
        return _gib(max(self.image.size, self.attachment.disk.size if self.attachment is not None else 0))

    @property
    def created(self) -> int:
        """When it was created, in seconds since the epoch."""
        return self.image.regtime

    @property
    def tags(self) -> list[TagTypeDef]:
        """The tags, by key."""
        return tags_of(self.image.template)

    @property
    def position(self) -> Position:
        """Where it stands in a list: images come before disks, by number."""
        return 0, self.image.id, 0

    @property
    def modification(self) -> tuple[str, Mapping[str, str]]:
        """The attribute of the image that keeps the last modification, and its members."""
        return MODIFICATION, self.image.template.vector(MODIFICATION)


@dataclass(frozen=True)
class DiskVolume:
    """A volume that is a disk which belongs to a machine alone: an instance's root disk, as a rule."""

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
        """When it was created, in seconds since the epoch: with its machine."""
        return self.attachment.machine.stime

    @property
    def tags(self) -> list[TagTypeDef]:
        """The tags, which the machine keeps, by key."""
        return self.attachment.own_tags

    @property
    def position(self) -> Position:
        """Where it stands in a list: behind all images, by machine and number."""
        return 1, self.attachment.machine.id, self.attachment.disk.disk_id

    @property
    def modification(self) -> tuple[str, Mapping[str, str]]:
        """The attribute of the machine that keeps the last modification, and its members."""
        name = f"{MODIFICATION}_{self.attachment.disk.disk_id}"
        return name, self.attachment.machine.user_template.vector(name)


Volume: TypeAlias = ImageVolume | DiskVolume
Position: TypeAlias = tuple[int, int, int]
"""In lists of volumes."""


def _gib(megabytes: int) -> int:
    return -(-megabytes // _MB_PER_GIB)


async def volumes_by_id(call: Call, volume_ids: Sequence[str]) -> tuple[Volume, ...]:
    """Return the volumes with these ids, in this order and each once.

    Raises `EC2Error` InvalidVolumeID.Malformed, or InvalidVolume.NotFound for what does not exist, is no volume, or may
    not be seen by the caller.
    """
    found = await find_volumes(call, volume_ids)
    missing = [text for text in dict.fromkeys(volume_ids) if text not in found]
    if missing:
        raise VOLUME.not_found(*missing)
    return tuple({each.id: each for each in (found[text] for text in volume_ids)}.values())


async def find_volumes(call: Call, volume_ids: Iterable[str]) -> Mapping[str, Volume]:
    """Return those volumes that there are by the ids as they were given; raises `EC2Error` …Malformed."""
    numbers: dict[str, int] = {}
    parts: dict[str, tuple[int, int]] = {}
    for text in volume_ids:
        part = machine_and_part(VOLUME.prefix, text)
        if part is not None:
            parts[text] = part
        elif (number := VOLUME.opennebula_id(text)) is not None:
            numbers[text] = number
    own: dict[tuple[int, int], DiskVolume] = {}
    for machine in await call.session.vms(sorted({machine for machine, _ in parts.values()})):
        own |= _own_disks_by_part(machine) if is_instance(call, machine) else {}
    found: dict[str, Volume] = {text: own[part] for text, part in parts.items() if part in own}
    marked = [image for image in await images_by_id(call, sorted(set(numbers.values()))) if is_volume(image)]
    by_number = {volume.image.id: volume for volume in await with_attachments(call, marked)}
    found |= {text: by_number[each] for text, each in numbers.items() if each in by_number}
    return found


async def with_attachments(call: Call, found: Sequence[Image]) -> list[ImageVolume]:
    """Return images that are volumes with where they are attached; only machines that use one of them are read."""
    users = await call.session.vms(sorted({number for image in found for number in image.vm_ids}))
    attached = {
        disk.image_id: (machine, disk)
        for machine in users
        if machine.state is not VmState.DONE
        for disk in machine.disks
        if disk.is_persistent and disk.image_id is not None
    }

    async def volume_of(image: Image) -> ImageVolume:
        if image.id not in attached:
            return ImageVolume(image, None)
        return ImageVolume(image, await read_attachment(call, *attached[image.id]))

    return await gather(volume_of(image) for image in found)


async def read_attachment(call: Call, machine: VirtualMachine, disk: Disk) -> Attachment:
    """Return a disk as an attachment. Which way one is going that is on its way only a machine's history says."""
    if not disk.is_attaching:
        return Attachment(machine, disk)
    history = (await call.session.vm(machine.id)).history
    return Attachment(machine, disk, detaching=len(history) > 1 and history[-2].action == _DISK_DETACH)


def own_disks(machine: VirtualMachine) -> list[DiskVolume]:
    """Return the disks that belong to a machine alone, as volumes."""
    if machine.state is VmState.DONE:
        return []
    return [DiskVolume(Attachment(machine, disk)) for disk in machine.disks if not disk.is_persistent]


async def settled_machine(call: Call, machine_id: int) -> VirtualMachine:
    """Return a machine once it is in no transitional state, or as it is after `SETTLE_TIMEOUT` seconds.

    Raises `EC2Error` InvalidInstanceID.NotFound where it has gone.
    """
    (machine,) = await find_settled_machines(call, [INSTANCE.format(machine_id)], timeout=SETTLE_TIMEOUT)
    return machine


def _own_disks_by_part(machine: VirtualMachine) -> dict[tuple[int, int], DiskVolume]:
    """Return the disks that belong to a machine alone by its number and theirs."""
    return {(machine.id, volume.attachment.disk.disk_id): volume for volume in own_disks(machine)}
