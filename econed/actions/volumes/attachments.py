"""Volumes and where they are attached: read from the disks of machines, which are the truth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from econed.actions.call import together
from econed.actions.disk_images.finding import images
from econed.actions.disk_images.volume_facts import HINT, PendingAttachment, is_unfinished, is_volume
from econed.actions.machines.facts import ATTACH_TIME, DELETE_ON_TERMINATION
from econed.actions.machines.finding import is_shown, settled
from econed.actions.tagging import disk_tag_prefix, tags_under
from econed.ids import INSTANCE, VOLUME, machine_and_part, part_of_machine
from econed.opennebula.states import VmState
from econed.opennebula.values import epoch_seconds

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import TagTypeDef

    from econed.actions.call import Call
    from econed.opennebula.documents import Disk, Image, VirtualMachine

PATIENCE = 15
"""Seconds to wait for a machine that comes out of a passing state by itself: another disk is being attached."""

_MB_PER_GIB = 1024
_DISK_DETACH = 22
"""HISTORY/ACTION of a stay that ended because a disk was detached (oned, VMActions)."""


@dataclass(frozen=True)
class Attachment:
    """A disk of a machine that is a volume; `detaching` while it is being plugged out."""

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
        hint: Mapping[str, str] = image.template.vector(HINT) if image is not None else {}
        hinted = epoch_seconds(hint.get("ATTACH_TIME", ""))
        if hinted is not None and hint.get("INSTANCE_ID") == INSTANCE.format(self.machine.id):
            return hinted
        return self.machine.stime


@dataclass(frozen=True)
class Volume:
    """A volume: an image, or a disk that belongs to a machine alone (`image` None), with where it is attached.

    oned lets one machine at a time use a persistent image.
    """

    image: Image | None
    attachment: Attachment | None

    @property
    def pending(self) -> PendingAttachment | None:
        """To which machine it is attached as soon as oned has copied it."""
        is_free = self.image is not None and not self.image.vm_ids and not is_unfinished(self.image)
        return PendingAttachment.on(self.image) if self.image is not None and is_free else None

    @property
    def id(self) -> str:
        """The EC2 id."""
        if self.image is not None:
            return VOLUME.format(self.image.id)
        assert self.attachment is not None  # noqa: S101  what is no image is a disk
        return part_of_machine(VOLUME.prefix, self.attachment.machine.id, self.attachment.disk.disk_id)

    @property
    def size(self) -> int:
        """The size in GiB; an image learns of the growth of its disk a moment later."""
        sizes = [self.image.size if self.image is not None else 0]
        sizes += [self.attachment.disk.size] if self.attachment is not None else []
        return -(-max(sizes) // _MB_PER_GIB)


async def volumes(call: Call, volume_ids: Sequence[str]) -> tuple[Volume, ...]:
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
        elif (number := VOLUME.number(text)) is not None:
            numbers[text] = number
    own: dict[tuple[int, int], Volume] = {}
    for machine in await call.one.vms(sorted({machine for machine, _ in parts.values()})):
        own |= _own_disks_by_part(machine) if is_shown(call, machine) else {}
    found = {text: own[part] for text, part in parts.items() if part in own}
    marked = [image for image in await images(call, sorted(set(numbers.values()))) if is_volume(image)]
    by_number = {each.image.id: each for each in await with_attachments(call, marked) if each.image is not None}
    found |= {text: by_number[each] for text, each in numbers.items() if each in by_number}
    return found


async def with_attachments(call: Call, found: Sequence[Image]) -> list[Volume]:
    """Return images that are volumes with where they are attached; only machines that use one of them are read."""
    users = await call.one.vms(sorted({number for image in found for number in image.vm_ids}))
    attached = {
        disk.image_id: (machine, disk)
        for machine in users
        if machine.state is not VmState.DONE
        for disk in machine.disks
        if disk.is_persistent and disk.image_id is not None
    }

    async def one(image: Image) -> Volume:
        if image.id not in attached:
            return Volume(image, None)
        return Volume(image, await attachment(call, *attached[image.id]))

    return await together(one(image) for image in found)


async def attachment(call: Call, machine: VirtualMachine, disk: Disk) -> Attachment:
    """Return a disk as an attachment. Which way one is going that is on its way only a machine's history says."""
    if not disk.is_attaching:
        return Attachment(machine, disk)
    history = (await call.one.vm(machine.id)).history
    return Attachment(machine, disk, detaching=len(history) > 1 and history[-2].action == _DISK_DETACH)


def own_disks(machine: VirtualMachine) -> list[Volume]:
    """Return the disks that belong to a machine alone, as volumes."""
    if machine.state is VmState.DONE:
        return []
    return [Volume(None, Attachment(machine, disk)) for disk in machine.disks if not disk.is_persistent]


async def settled_machine(call: Call, machine_id: int) -> VirtualMachine:
    """Return a machine once it is in no transitional state, or as it is after `PATIENCE` seconds.

    Raises `EC2Error` InvalidInstanceID.NotFound where it has gone.
    """
    (machine,) = await settled(call, [INSTANCE.format(machine_id)], timeout=PATIENCE)
    return machine


def _own_disks_by_part(machine: VirtualMachine) -> dict[tuple[int, int], Volume]:
    """Return the disks that belong to a machine alone by its number and theirs."""
    found = ((volume, volume.attachment) for volume in own_disks(machine))
    return {(machine.id, attached.disk.disk_id): volume for volume, attached in found if attached is not None}
