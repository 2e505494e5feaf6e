"""BlockDeviceMapping.N of RunInstances: the size of the root disk, and volumes that are made with each machine.

A volume is made before its machine, as an image that says so (LAUNCHED_AT), and goes into the machine's first template:
so it is there when the guest boots. Before the machine is released the volume is told that it is the machine's
(`volume_chores.give_volumes`). Whatever dies in between leaves a volume that no released machine has, and the chore
deletes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, TypedDict

from econed.actions.attachments import device_letters
from econed.actions.call import together
from econed.actions.image_view import root_device_name
from econed.actions.instance_facts import ATTACH_TIME, DELETE_ON_TERMINATION, DEVICE
from econed.actions.snapshot_view import found_snapshots
from econed.actions.volume_facts import FROM_SNAPSHOT, LAUNCHED_AT, VOLUME_TYPE, ZONE, is_snapshot, volume_name
from econed.actions.volume_making import MAX_SIZE, VolumePlan, checked_size, demand_completed, make_volume
from econed.actions.volumes import checked_type
from econed.errors import EC2Error, OpenNebulaError
from econed.ids import SNAPSHOT
from econed.opennebula.documents import Attributes
from econed.opennebula.states import ImageState
from econed.opennebula.template import vector

if TYPE_CHECKING:
    from econed.actions.call import Call
    from econed.opennebula.documents import Image

_MB_PER_GIB = 1024
_ROOT = "a"
_EPHEMERAL = "ephemeral"
_PATIENCE = 20
_EVERY = 0.5


class EbsBlockDevice(TypedDict, total=False):
    """A volume of a mapping (EC2 EbsBlockDevice)."""

    DeleteOnTermination: bool
    SnapshotId: str
    VolumeSize: int
    VolumeType: str


class BlockDeviceMapping(TypedDict, total=False):
    """What is to be at a device (EC2 BlockDeviceMapping)."""

    DeviceName: str
    NoDevice: str
    VirtualName: str
    Ebs: EbsBlockDevice


@dataclass(frozen=True)
class NewVolume:
    """A volume that each machine of a launch gets: `size` in GiB, `device` as the client gave it."""

    device: str
    target: str
    size: int
    snapshot: Image | None
    volume_type: str
    deletes_on_termination: bool


@dataclass(frozen=True)
class BlockDevices:
    """The mappings of a launch, checked.

    `root` are members for the root disk, `left_out` are targets not to be, `tags` those of all volumes.
    """

    root: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    volumes: tuple[NewVolume, ...] = ()
    tags: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    left_out: frozenset[str] = frozenset()

    def without_left_out(self, disks: Attributes) -> Attributes:
        """Return the other disks of an instance type but for those that NoDevice leaves out."""
        return Attributes(
            (name, disk) for name, disk in disks if isinstance(disk, str) or disk.get("TARGET", "") not in self.left_out
        )

    def disks(self, made: Sequence[int], now: int) -> Iterable[str]:
        """Return the DISKs of a machine for which these images were made."""
        for volume, number in zip(self.volumes, made, strict=True):
            yield vector(
                "DISK",
                {
                    "IMAGE_ID": str(number),
                    "TARGET": volume.target,
                    DEVICE: volume.device,
                    ATTACH_TIME: str(now),
                    DELETE_ON_TERMINATION: "YES" if volume.deletes_on_termination else "NO",
                },
            )


NONE = BlockDevices()
"""No mapping at all."""


async def block_devices(
    call: Call, mappings: Sequence[BlockDeviceMapping], image: Image, tags: Mapping[str, str]
) -> BlockDevices:
    """Return what mappings ask for, looked up and checked; `tags` are for all volumes, that of the root disk too.

    `ephemeralN` is the Nth disk of its own that the instance type has anyway; where it has none, the mapping is passed
    over, as Amazon does. Raises `EC2Error` InvalidBlockDeviceMapping, and what `checked_size` raises.
    """
    prefix = image.template.text("DEV_PREFIX") or "sd"
    found = BlockDevices(tags=tags)
    seen: set[str] = set()
    for mapping in mappings:
        device = mapping.get("DeviceName", "")
        letters = _letters(device)
        if letters in seen:
            raise _invalid(f"The device '{device}' is used in more than one block-device mapping")
        seen.add(letters)
        ebs = mapping.get("Ebs")
        if len([each for each in ("Ebs", "NoDevice", "VirtualName") if each in mapping]) != 1:
            raise _invalid(f"The mapping of '{device}' must have one of Ebs, NoDevice and VirtualName")
        if ebs is None and letters == _ROOT:
            raise _invalid(f"The root device '{device}' must be a volume")
        if letters == _ROOT:
            found = replace(found, root=_root(ebs or {}, image))
        elif ebs is not None:
            found = replace(found, volumes=(*found.volumes, await _volume(call, ebs, device, f"{prefix}{letters}")))
        elif "NoDevice" in mapping:
            found = replace(found, left_out=found.left_out | {f"{prefix}{letters}"})
        elif not mapping.get("VirtualName", "").startswith(_EPHEMERAL):
            raise _invalid(f"Invalid device virtual name '{mapping.get('VirtualName', '')}'")
    return found


async def make_volumes(call: Call, devices: BlockDevices, zone: int | None) -> tuple[int, ...]:
    """Make the volumes of one machine and return their images' ids; all of them, or none and what kept them from it.

    A copy of a snapshot that was not persistent must be there before it can be a volume: that is waited for, and
    `EC2Error` IncorrectState if it takes too long.
    """
    made: list[int] = []
    try:
        for volume in devices.volumes:
            number = await make_volume(call, _plan(call, volume, zone, devices.tags))
            made.append(number)
        await together(_persistent(call, number) for number in made)
    except (EC2Error, OpenNebulaError):
        await take_back(call, made)
        raise
    return tuple(made)


async def take_back(call: Call, made: Iterable[int]) -> None:
    """Delete volumes whose machine could not be made, as far as oned does it now; the chore does the rest."""

    async def one(number: int) -> None:
        try:
            await call.one.image_delete(number)
        except OpenNebulaError:
            return

    await together(one(number) for number in made)


async def _persistent(call: Call, number: int) -> None:
    until = call.clock.seconds() + _PATIENCE
    while not (image := await call.one.image(number)).is_persistent:
        if image.state is ImageState.READY:
            await call.one.image_persistent(number, True)
            return
        if image.state is ImageState.ERROR or call.clock.seconds() >= until:
            raise EC2Error("IncorrectState", "A snapshot could not be copied in time: make a volume of it first.")
        await call.pause(_EVERY)


def _plan(call: Call, volume: NewVolume, zone: int | None, tags: Mapping[str, str]) -> VolumePlan:
    facts = {LAUNCHED_AT: str(call.now)}
    if zone is not None:
        facts[ZONE] = str(zone)
    if volume.snapshot is not None:
        facts[FROM_SNAPSHOT] = SNAPSHOT.format(volume.snapshot.id)
    if volume.volume_type:
        facts[VOLUME_TYPE] = volume.volume_type
    return VolumePlan(volume_name(), volume.size, volume.snapshot, facts, tags)


def _root(ebs: EbsBlockDevice, image: Image) -> Mapping[str, str]:
    """Return what the root disk has beside its image. It is a copy, and goes with its machine."""
    if "SnapshotId" in ebs and not (is_snapshot(image) and ebs["SnapshotId"] == SNAPSHOT.format(image.id)):
        raise _invalid(f"The snapshot of the root device '{root_device_name(image)}' cannot be changed")
    if ebs.get("DeleteOnTermination") is False:
        raise EC2Error("UnsupportedOperation", "The root volume of an instance always goes with the instance here.")
    members: dict[str, str] = {}
    size = ebs.get("VolumeSize")
    if size is not None:
        least = -(-image.size // _MB_PER_GIB)
        if size < least:
            raise _invalid(f"Volume of size {size}GB is smaller than its image, expect size >= {least}GB")
        if size > MAX_SIZE:
            raise EC2Error("InvalidParameterValue", f"Volume of size {size}GiB is invalid.")
        if size * _MB_PER_GIB > image.size:
            members["SIZE"] = str(size * _MB_PER_GIB)
    if "VolumeType" in ebs:
        members[VOLUME_TYPE] = checked_type(ebs["VolumeType"])
    return members


async def _volume(call: Call, ebs: EbsBlockDevice, device: str, target: str) -> NewVolume:
    snapshot = (await found_snapshots(call, [ebs["SnapshotId"]]))[0] if "SnapshotId" in ebs else None
    if snapshot is not None:
        demand_completed(snapshot)
    return NewVolume(
        device=device,
        target=target,
        size=checked_size(ebs.get("VolumeSize"), snapshot),
        snapshot=snapshot,
        volume_type=checked_type(ebs["VolumeType"]) if "VolumeType" in ebs else "",
        deletes_on_termination=ebs.get("DeleteOnTermination", True),
    )


def _letters(device: str) -> str:
    try:
        return device_letters(device)
    except EC2Error:
        raise _invalid(f"Invalid device name '{device}'") from None


def _invalid(sentence: str) -> EC2Error:
    return EC2Error("InvalidBlockDeviceMapping", sentence)
