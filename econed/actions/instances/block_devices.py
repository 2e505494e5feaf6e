"""BlockDeviceMapping.N of RunInstances: the size of the root disk, and volumes that are made with each machine.

A volume is made before its machine, as an image that says so (LAUNCHED_AT), and goes into the machine's first template:
so it is there when the guest boots. Before the machine is released `econed.actions.volumes.chores.assign_volumes` notes
on the volume that it is the machine's. If a process dies in between, a volume is left that no released machine has, and
the chore deletes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, TypedDict

from econed.actions.call import gather
from econed.actions.disk_images.volume_facts import (
    AVAILABILITY_ZONE,
    LAUNCHED_AT,
    SOURCE_SNAPSHOT,
    VOLUME_TYPE,
    is_snapshot,
    volume_name,
)
from econed.actions.machines.devices import ROOT_DEVICE, Device
from econed.actions.machines.facts import ATTACH_TIME, DELETE_ON_TERMINATION, DEVICE
from econed.actions.volumes.creating import (
    MAX_SIZE,
    VolumePlan,
    check_completed,
    checked_size,
    checked_type,
    make_volume,
)
from econed.actions.volumes.snapshot_view import snapshots_by_id
from econed.actions.waiting import wait_until
from econed.errors import EC2Error, OpenNebulaError
from econed.ids import SNAPSHOT
from econed.opennebula.documents import Attributes
from econed.opennebula.states import ImageState
from econed.opennebula.template import vector

if TYPE_CHECKING:
    from econed.actions.call import Call
    from econed.opennebula.documents import Image

_MB_PER_GIB = 1024
_EPHEMERAL = "ephemeral"
_PATIENCE = 20


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
    """A volume that each machine of a launch gets: `size` in GiB.

    `device` is as the client gave it, `place` the members of the DISK that put it there.
    """

    device: str
    place: Mapping[str, str]
    size: int
    snapshot: Image | None
    volume_type: str
    deletes_on_termination: bool


@dataclass(frozen=True)
class BlockDevices:
    """The mappings of a launch, checked.

    `root` are members for the root disk, `tags` those of all volumes. `left_out` are the targets at which there is to
    be no disk of the instance type's: none at all, or a volume.
    """

    root: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    volumes: tuple[NewVolume, ...] = ()
    tags: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    left_out: frozenset[str] = frozenset()

    def without_left_out(self, disks: Attributes) -> Attributes:
        """Return the other disks of an instance type but for those that a mapping leaves out or takes the place of."""
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
                    **volume.place,
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
    prefix = image.dev_prefix
    found = BlockDevices(tags=tags)
    seen: set[Device] = set()
    for mapping in mappings:
        name = mapping.get("DeviceName", "")
        device = Device.find(name)
        if device is None:
            raise _invalid(f"Invalid device name '{name}'")
        if device in seen:
            raise _invalid(f"The device '{name}' is used in more than one block-device mapping")
        seen.add(device)
        _demand_form(mapping)
        ebs, place = mapping.get("Ebs"), device.target_members(prefix)
        if device.is_root:
            if ebs is None:
                raise _invalid(f"The root device '{name}' must be a volume")
            found = replace(found, root=_root(ebs, image))
            continue
        if ebs is not None:
            found = replace(found, volumes=(*found.volumes, await _volume(call, ebs, name, place)))
        if (ebs is not None or "NoDevice" in mapping) and device.is_whole:
            found = replace(found, left_out=found.left_out | {place["TARGET"]})
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
        await gather(_persistent(call, number) for number in made)
    except (EC2Error, OpenNebulaError):
        await take_back(call, made)
        raise
    return tuple(made)


async def take_back(call: Call, made: Iterable[int]) -> None:
    """Delete volumes whose machine could not be made, as far as oned does it now; the chore does the rest."""

    async def one(number: int) -> None:
        try:
            await call.session.image_delete(number)
        except OpenNebulaError:
            return

    await gather(one(number) for number in made)


async def _persistent(call: Call, number: int) -> None:
    def is_copied(image: Image) -> bool:
        return image.is_persistent or image.state in (ImageState.READY, ImageState.ERROR)

    image = await wait_until(call, is_copied, partial(call.session.image, number), timeout=_PATIENCE)
    if image.is_persistent:
        return
    if image.state is not ImageState.READY:
        raise EC2Error("IncorrectState", "A snapshot could not be copied in time: make a volume of it first.")
    await call.session.image_persistent(number, True)


def _plan(call: Call, volume: NewVolume, zone: int | None, tags: Mapping[str, str]) -> VolumePlan:
    facts = {LAUNCHED_AT: str(call.now)}
    if zone is not None:
        facts[AVAILABILITY_ZONE] = str(zone)
    if volume.snapshot is not None:
        facts[SOURCE_SNAPSHOT] = SNAPSHOT.format(volume.snapshot.id)
    if volume.volume_type:
        facts[VOLUME_TYPE] = volume.volume_type
    return VolumePlan(volume_name(), volume.size, volume.snapshot, facts, tags)


def _demand_form(mapping: BlockDeviceMapping) -> None:
    """Raise `EC2Error` InvalidBlockDeviceMapping for a mapping to nothing, or to several things.

    A VirtualName beside Ebs says nothing: it is of instance store volumes (EC2 API Reference, BlockDeviceMapping).
    """
    name, virtual = mapping.get("DeviceName", ""), mapping.get("VirtualName")
    is_virtual = virtual is not None and "Ebs" not in mapping
    if ("Ebs" in mapping) + ("NoDevice" in mapping) + is_virtual != 1:
        raise _invalid(f"The mapping of '{name}' must have one of Ebs, NoDevice and VirtualName")
    if is_virtual and virtual is not None and not virtual.startswith(_EPHEMERAL):
        raise _invalid(f"Invalid device virtual name '{virtual}'")


def _root(ebs: EbsBlockDevice, image: Image) -> Mapping[str, str]:
    """Return what the root disk has beside its image. It is a copy, and goes with its machine."""
    if "SnapshotId" in ebs and not (is_snapshot(image) and ebs["SnapshotId"] == SNAPSHOT.format(image.id)):
        raise _invalid(f"The snapshot of the root device '{ROOT_DEVICE}' cannot be changed")
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


async def _volume(call: Call, ebs: EbsBlockDevice, device: str, place: Mapping[str, str]) -> NewVolume:
    snapshot = (await snapshots_by_id(call, [ebs["SnapshotId"]]))[0] if "SnapshotId" in ebs else None
    if snapshot is not None:
        check_completed(snapshot)
    return NewVolume(
        device=device,
        place=place,
        size=checked_size(ebs.get("VolumeSize"), snapshot),
        snapshot=snapshot,
        volume_type=checked_type(ebs["VolumeType"]) if "VolumeType" in ebs else "",
        deletes_on_termination=ebs.get("DeleteOnTermination", True),
    )


def _invalid(sentence: str) -> EC2Error:
    return EC2Error("InvalidBlockDeviceMapping", sentence)
