"""Device names of EC2 (`/dev/sdf`, `xvdf`, `/dev/sda2`): which of them are one device, and where its disk is put.

A hypervisor knows whole disks, by letters (`sdf`, `vdf`). EC2 knows partitions too (EC2 User Guide, "Device names for
volumes"): the first one, `/dev/sda1`, is another spelling of the whole disk, each other one is a device of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from econed.actions.machines.facts import (
    ATTACH_TIME,
    DEVICE,
)
from econed.errors import EC2Error
from econed.ids import (
    VOLUME,
    part_of_machine,
)
from econed.opennebula.template import vector

if TYPE_CHECKING:
    from econed.opennebula.documents import Disk, VirtualMachine


_SPELLING = re.compile(r"(?:/dev/)?(?:sd|xvd|vd|hd)([a-z]{1,2})([1-9][0-9]?)?")
_TARGET = re.compile(r"(xvd|sd|vd|hd)[a-z]+")
_DEFAULT_PREFIX = "sd"
_ROOT = "a"

ROOT_DEVICE = "/dev/sda1"
"""How the device that a machine boots from is called wherever it is shown, as on Amazon: tools know it by that name."""


@dataclass(frozen=True)
class Device:
    """A device of EC2's: two spellings of it are equal. `partition` is 1 of the whole disk."""

    letters: str
    partition: int

    @classmethod
    def read(cls, name: str) -> Device | None:
        """Return the device that a name means; None if it is no name of a device."""
        found = _SPELLING.fullmatch(name)
        return cls(found.group(1), int(found.group(2) or 1)) if found is not None else None

    @classmethod
    def parse(cls, name: str) -> Device:
        """Return the device that a parameter of EC2's means; raises `EC2Error` InvalidParameterValue."""
        found = cls.read(name)
        if found is None:
            raise EC2Error(
                "InvalidParameterValue",
                f"Value ({name}) for parameter device is invalid. {name} is not a valid EBS device name.",
            )
        return found

    @property
    def is_whole(self) -> bool:
        """Whether it is a whole disk, for which the hypervisor has a name."""
        return self.partition == 1

    @property
    def is_root(self) -> bool:
        """Whether it is the one that a machine boots from."""
        return self.is_whole and self.letters == _ROOT

    def place(self, prefix: str) -> Mapping[str, str]:
        """Return the members of a DISK that put it there, on the bus of `prefix`; a partition where oned has room."""
        return {"TARGET": f"{prefix}{self.letters}"} if self.is_whole else {"DEV_PREFIX": prefix}


def device_of(disk: Disk) -> Device | None:
    """Return the device at which EC2 sees a disk: as the client named it, else as the hypervisor does."""
    return Device.read(disk.text(DEVICE) or disk.target)


def shown_device(machine: VirtualMachine, disk: Disk) -> str:
    """Return the name of a disk's device: as the client spelled it, else EC2's or the hypervisor's; empty for none."""
    if spelled := disk.text(DEVICE):
        return spelled
    device = Device.read(disk.target)
    is_first = disk.disk_id == machine.disks[0].disk_id
    if is_first and device is not None and device.is_root:
        return ROOT_DEVICE
    return f"/dev/{disk.target}" if disk.target else ""


def place(machine: VirtualMachine, device: Device) -> Mapping[str, str]:
    """Return the members of a DISK that put a volume at a device of a machine, on the bus of the machine's first disk.

    `/dev/sdf`, `xvdf` and `/dev/sdf1` are all `vdf` on a machine whose disks are virtio. Where the hypervisor has a
    disk of that name which EC2 sees at another device, oned finds a name for the new one.
    """
    root = _TARGET.fullmatch(machine.disks[0].target) if machine.disks else None
    prefix = root.group(1) if root else _DEFAULT_PREFIX
    wanted = device.place(prefix)
    used = {disk.target for disk in machine.disks}
    return wanted if wanted.get("TARGET") not in used else {"DEV_PREFIX": prefix}


def disk_text(machine: VirtualMachine, image_id: int, name: str, now: int) -> str:
    """Return the DISK that attaches a volume at a device as the client named it; `now` in epoch seconds."""
    members = {"IMAGE_ID": str(image_id), **place(machine, Device.parse(name)), DEVICE: name, ATTACH_TIME: str(now)}
    return vector("DISK", members)


def demand_free(machine: VirtualMachine, name: str) -> None:
    """Raise `EC2Error` InvalidParameterValue if a machine has a disk, or its context, at a device."""
    device = Device.parse(name)
    used = {device_of(disk) for disk in machine.disks}
    context = machine.context_text("TARGET")
    if device in used or (context and place(machine, device).get("TARGET") == context):
        raise EC2Error(
            "InvalidParameterValue",
            f"Invalid value '{name}' for unixDevice. Attachment point {name} is already in use",
        )


def volume_id(machine: VirtualMachine, disk: Disk) -> str:
    """Return the volume that a disk is: a persistent image, or a copy that belongs to the machine alone."""
    if disk.is_persistent and disk.image_id is not None:
        return VOLUME.format(disk.image_id)
    return part_of_machine(VOLUME.prefix, machine.id, disk.disk_id)
