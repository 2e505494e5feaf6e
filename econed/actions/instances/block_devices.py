"""BlockDeviceMapping.N of RunInstances: the size of the root disk, and the volumes created with each machine.

A volume is created before its machine, as an image with the attribute LAUNCHED_AT, and is part of the machine's first
template, so that it is attached when the guest boots. Before the machine is released,
`econed.actions.volumes.chores.assign_volumes` notes on the volume that it belongs to the machine. If a process dies in
between, a volume remains that no released machine has, and the chore deletes it.
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

_COPY_TIMEOUT = 20
"""Seconds to wait until the copy of a snapshot is complete."""


class EbsBlockDevice(TypedDict, total=False):
    """A volume of a mapping (EC2 EbsBlockDevice)."""

    DeleteOnTermination: bool
    SnapshotId: str
    VolumeSize: int
    VolumeType: str


class BlockDeviceMapping(TypedDict, total=False):
    """The volume or disk for a device (EC2 BlockDeviceMapping)."""

    DeviceName: str
    NoDevice: str
    VirtualName: str
    Ebs: EbsBlockDevice


@dataclass(frozen=True)
class NewVolume:
    """A volume that is created for each machine of a launch; `size` in GiB.

    `device` is the name that the client gave, `target_members` are the members of the DISK for it.
    """

    device: str
    target_members: Mapping[str, str]
    size: int
    snapshot: Image | None
    volume_type: str
    deletes_on_termination: bool


@dataclass(frozen=True)
class BlockDevices:
    """The checked mappings of a launch.

    `root` are members of the root disk, `tags` those of all volumes. `excluded_targets` are the targets at which the
    instance type's disk is omitted or replaced by a volume.
    """

    root: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    volumes: tuple[NewVolume, ...] = ()
    tags: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    excluded_targets: frozenset[str] = frozenset()

    def without_excluded(self, disks: Attributes) -> Attributes:
        """Return the disks of an instance type without those that a mapping omits or replaces."""
        return Attributes(
            (name, disk)
            for name, disk in disks
            if isinstance(disk, str) or disk.get("TARGET", "") not in self.excluded_targets
        )

    def disks(self, image_ids: Sequence[int], now: int) -> Iterable[str]:
        """Yield the DISKs for a machine's volumes; `image_ids` are the images created for them."""
        for volume, image_id in zip(self.volumes, image_ids, strict=True):
            yield vector(
                "DISK",
                {
                    "IMAGE_ID": str(image_id),
                    **volume.target_members,
                    DEVICE: volume.device,
                    ATTACH_TIME: str(now),
                    DELETE_ON_TERMINATION: "YES" if volume.deletes_on_termination else "NO",
                },
            )


NO_BLOCK_DEVICES = BlockDevices()
"""A launch without mappings."""


async def block_devices(
    call: Call, mappings: Sequence[BlockDeviceMapping], image: Image, tags: Mapping[str, str]
) -> BlockDevices:
    """Return the checked mappings of a launch; `tags` are those of all volumes, including the one of the root disk.

    `ephemeralN` is the Nth of the instance type's own disks, which the machine has in any case; if there is no such
    disk, the mapping is ignored, as on Amazon. Raises `EC2Error` InvalidBlockDeviceMapping, and the errors of
    `checked_size`.
    """
    prefix = image.dev_prefix
    devices = BlockDevices(tags=tags)
    mapped: set[Device] = set()
    volumes: list[tuple[EbsBlockDevice, str, Mapping[str, str]]] = []
    for mapping in mappings:
        name = mapping.get("DeviceName", "")
        device = Device.find(name)
        if device is None:
            raise _invalid(f"Invalid device name '{name}'")
        if device in mapped:
            raise _invalid(f"The device '{name}' is used in more than one block-device mapping")
        mapped.add(device)
        _check_form(mapping)
        ebs, target_members = mapping.get("Ebs"), device.target_members(prefix)
        if device.is_root:
            if ebs is None:
                raise _invalid(f"The root device '{name}' must be a volume")
            devices = replace(devices, root=_root_members(ebs, image))
            continue
        if ebs is not None:
            volumes.append((ebs, name, target_members))
        if (ebs is not None or "NoDevice" in mapping) and device.is_whole:
            excluded_targets = devices.excluded_targets | {target_members["TARGET"]}
            devices = replace(devices, excluded_targets=excluded_targets)
    return replace(devices, volumes=tuple(await gather(_new_volume(call, *volume) for volume in volumes)))


async def create_volumes(call: Call, devices: BlockDevices, zone_cluster_id: int | None) -> tuple[int, ...]:
    """Create the volumes of one machine and return their images' ids; if one fails, delete the others and raise.

    The copy of a non-persistent snapshot must be complete before it can become persistent: this waits for it, and
    raises `EC2Error` IncorrectState if it takes too long.
    """
    image_ids: dict[int, int] = {}

    async def make(index: int, volume: NewVolume) -> None:
        image_ids[index] = await make_volume(call, _volume_plan(call, volume, zone_cluster_id, devices.tags))
        await _make_persistent(call, image_ids[index])

    try:
        await gather(make(index, volume) for index, volume in enumerate(devices.volumes))
    except (EC2Error, OpenNebulaError):
        await delete_volumes(call, image_ids.values())
        raise
    return tuple(image_ids[index] for index in range(len(devices.volumes)))


async def delete_volumes(call: Call, image_ids: Iterable[int]) -> None:
    """Delete volumes whose machine could not be created; those that oned cannot delete now are left to the chore."""

    async def delete(image_id: int) -> None:
        try:
            await call.session.image_delete(image_id)
        except OpenNebulaError:
            return

    await gather(delete(image_id) for image_id in image_ids)


async def _make_persistent(call: Call, image_id: int) -> None:
    def is_copied(image: Image) -> bool:
        return image.is_persistent or image.state in (ImageState.READY, ImageState.ERROR)

    image = await wait_until(call, is_copied, partial(call.session.image, image_id), timeout=_COPY_TIMEOUT)
    if image.is_persistent:
        return
    if image.state is not ImageState.READY:
        raise EC2Error("IncorrectState", "The snapshot could not be copied in time. Create a volume from it first.")
    await call.session.image_persistent(image_id, True)


def _volume_plan(call: Call, volume: NewVolume, zone_cluster_id: int | None, tags: Mapping[str, str]) -> VolumePlan:
    facts = {LAUNCHED_AT: str(call.now)}
    if zone_cluster_id is not None:
        facts[AVAILABILITY_ZONE] = str(zone_cluster_id)
    if volume.snapshot is not None:
        facts[SOURCE_SNAPSHOT] = SNAPSHOT.format(volume.snapshot.id)
    if volume.volume_type:
        facts[VOLUME_TYPE] = volume.volume_type
    return VolumePlan(volume_name(), volume.size, volume.snapshot, facts, tags)


def _check_form(mapping: BlockDeviceMapping) -> None:
    """Raise `EC2Error` InvalidBlockDeviceMapping unless a mapping has exactly one of Ebs, NoDevice and VirtualName.

    A VirtualName next to Ebs is ignored: it applies to instance store volumes (EC2 API Reference, BlockDeviceMapping).
    """
    name, virtual = mapping.get("DeviceName", ""), mapping.get("VirtualName")
    is_virtual = virtual is not None and "Ebs" not in mapping
    if ("Ebs" in mapping) + ("NoDevice" in mapping) + is_virtual != 1:
        raise _invalid(f"The mapping of '{name}' must have one of Ebs, NoDevice and VirtualName")
    if is_virtual and virtual is not None and not virtual.startswith(_EPHEMERAL):
        raise _invalid(f"Invalid device virtual name '{virtual}'")


def _root_members(ebs: EbsBlockDevice, image: Image) -> Mapping[str, str]:
    """Return the members of the root disk in addition to its image; it is a copy and is deleted with its machine."""
    if "SnapshotId" in ebs and not (is_snapshot(image) and ebs["SnapshotId"] == SNAPSHOT.format(image.id)):
        raise _invalid(f"The snapshot of the root device '{ROOT_DEVICE}' cannot be changed")
    if ebs.get("DeleteOnTermination") is False:
        raise EC2Error("UnsupportedOperation", "The root volume is always deleted with the instance here.")
    members: dict[str, str] = {}
    size = ebs.get("VolumeSize")
    if size is not None:
        min_size = -(-image.size // _MB_PER_GIB)
        if size < min_size:
            raise _invalid(f"Volume of size {size}GB is smaller than its image, expect size >= {min_size}GB")
        if size > MAX_SIZE:
            raise EC2Error("InvalidParameterValue", f"Volume of size {size}GiB is invalid.")
        if size * _MB_PER_GIB > image.size:
            members["SIZE"] = str(size * _MB_PER_GIB)
    if "VolumeType" in ebs:
        members[VOLUME_TYPE] = checked_type(ebs["VolumeType"])
    return members


async def _new_volume(call: Call, ebs: EbsBlockDevice, device: str, target_members: Mapping[str, str]) -> NewVolume:
    snapshot = (await snapshots_by_id(call, [ebs["SnapshotId"]]))[0] if "SnapshotId" in ebs else None
    if snapshot is not None:
        check_completed(snapshot)
    return NewVolume(
        device=device,
        target_members=target_members,
        size=checked_size(ebs.get("VolumeSize"), snapshot),
        snapshot=snapshot,
        volume_type=checked_type(ebs["VolumeType"]) if "VolumeType" in ebs else "",
        deletes_on_termination=ebs.get("DeleteOnTermination", True),
    )


def _invalid(sentence: str) -> EC2Error:
    return EC2Error("InvalidBlockDeviceMapping", sentence)
