"""EC2's device names (`/dev/sdf`, `xvdf`, `/dev/sda2`): which names denote the same device, and the target of its disk.

A hypervisor has whole disks only, named by letters (`sdf`, `vdf`). EC2 has partitions too (EC2 User Guide, "Device
names for volumes"): the first, `/dev/sda1`, is another name of the whole disk; all others are separate devices.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from econed.actions.machines.facts import ATTACH_TIME, DEVICE
from econed.errors import EC2Error
from econed.ids import VOLUME, part_of_machine
from econed.opennebula.template import vector

if TYPE_CHECKING:
    from econed.opennebula.documents import Disk, VirtualMachine

_DEVICE_NAME = re.compile(r"(?:/dev/)?(?:sd|xvd|vd|hd)([a-z]{1,2})([1-9][0-9]?)?")
_TARGET = re.compile(r"(xvd|sd|vd|hd)[a-z]+")
_DEFAULT_PREFIX = "sd"
_ROOT_LETTERS = "a"

ROOT_DEVICE = "/dev/sda1"
"""The name of a machine's boot device in all responses, as on Amazon: tools find the root device by this name."""


@dataclass(frozen=True)
class Device:
    """An EC2 device; different names of the same device are equal. `partition` is 1 for the whole disk."""

    letters: str
    partition: int

    @classmethod
    def find(cls, name: str) -> Device | None:
        """Return the device with this name; None for text that is not a device name."""
        match = _DEVICE_NAME.fullmatch(name)
        return cls(match.group(1), int(match.group(2) or 1)) if match is not None else None

    @classmethod
    def parse(cls, name: str) -> Device:
        """Return the device with the name in an EC2 parameter; raises `EC2Error` InvalidParameterValue."""
        device = cls.find(name)
        if device is None:
            raise EC2Error(
                "InvalidParameterValue",
                f"Value ({name}) for parameter device is invalid. {name} is not a valid EBS device name.",
            )
        return device

    @property
    def is_whole(self) -> bool:
        """Whether it is a whole disk, which the hypervisor can name."""
        return self.partition == 1

    @property
    def is_root(self) -> bool:
        """Whether it is the boot device."""
        return self.is_whole and self.letters == _ROOT_LETTERS

    def target_members(self, prefix: str) -> Mapping[str, str]:
        """Return the members of a DISK for this device, on the bus of `prefix`; oned chooses a partition's target."""
        return {"TARGET": f"{prefix}{self.letters}"} if self.is_whole else {"DEV_PREFIX": prefix}


def device_of(disk: Disk) -> Device | None:
    """Return the EC2 device of a disk: the one that the client named, else the hypervisor's target."""
    return Device.find(disk.text(DEVICE) or disk.target)


def device_name(machine: VirtualMachine, disk: Disk) -> str:
    """Return the name of a disk's device: the client's, else EC2's or the hypervisor's; empty if it has no target."""
    if client_name := disk.text(DEVICE):
        return client_name
    if not (target := disk.target):
        return ""
    is_first = disk is machine.disks[0] or disk.disk_id == machine.disks[0].disk_id
    if is_first and (device := Device.find(target)) is not None and device.is_root:
        return ROOT_DEVICE
    return f"/dev/{target}"


def target_members(machine: VirtualMachine, device: Device) -> Mapping[str, str]:
    """Return the members of a DISK that attach a volume at a device of a machine, on the bus of its first disk.

    `/dev/sdf`, `xvdf` and `/dev/sdf1` are all `vdf` on a machine whose disks are virtio. If that target is used by a
    disk whose EC2 device is a different one, oned chooses the target.
    """
    root = _TARGET.fullmatch(machine.disks[0].target) if machine.disks else None
    prefix = root.group(1) if root else _DEFAULT_PREFIX
    members = device.target_members(prefix)
    used_targets = {disk.target for disk in machine.disks}
    return members if members.get("TARGET") not in used_targets else {"DEV_PREFIX": prefix}


def disk_text(machine: VirtualMachine, image_id: int, name: str, now: int) -> str:
    """Return the DISK that attaches a volume at the device that the client named; `now` in epoch seconds."""
    target = target_members(machine, Device.parse(name))
    return vector("DISK", {"IMAGE_ID": str(image_id), **target, DEVICE: name, ATTACH_TIME: str(now)})


def check_device_is_free(machine: VirtualMachine, name: str) -> None:
    """Raise `EC2Error` InvalidParameterValue if a machine has a disk, or its CONTEXT image, at a device."""
    device = Device.parse(name)
    used_devices = {device_of(disk) for disk in machine.disks}
    context_target = machine.context_text("TARGET")
    if device in used_devices or (context_target and target_members(machine, device).get("TARGET") == context_target):
        raise EC2Error(
            "InvalidParameterValue",
            f"Invalid value '{name}' for unixDevice. Attachment point {name} is already in use",
        )


def volume_id(machine: VirtualMachine, disk: Disk) -> str:
    """Return the volume id of a disk, which is a persistent image or a copy that belongs to the machine only."""
    if disk.is_persistent and disk.image_id is not None:
        return VOLUME.format(disk.image_id)
    return part_of_machine(VOLUME.prefix, machine.id, disk.disk_id)
