"""Disks and NICs that calls request: their authorization; and disks of machines, with the attributes that oned adds.

oned checks rights first, then quotas, then acquires addresses and images, then assigns targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_lowercase

from econed.sandbox.cloud import Cloud
from econed.sandbox.machines.nics import release_nic
from econed.sandbox.objects.base import Kind, Right, ids_text, parse_ids
from econed.sandbox.objects.images import Image
from econed.sandbox.objects.networks import Network
from econed.sandbox.objects.pools import Pool, PoolObjectT
from econed.sandbox.objects.users import User
from econed.sandbox.objects.virtual_machines import VirtualMachine
from econed.sandbox.refusals import unauthorized, wrong_state
from econed.sandbox.template import Vector

_VOLATILE = ("FS", "SWAP")


@dataclass(frozen=True)
class RequestedDevices:
    """The disks, NICs and aliases of NICs in a call, with the images and networks that they name, or None."""

    disks: Sequence[tuple[Vector, Image | None]]
    nics: Sequence[tuple[Vector, Network | None]]
    aliases: Sequence[tuple[Vector, Network | None]] = ()


def resolve(
    cloud: Cloud,
    caller: User,
    disks: Sequence[Vector] = (),
    nics: Sequence[Vector] = (),
    aliases: Sequence[Vector] = (),
) -> RequestedDevices:
    """Find the images of disks and the networks of NICs and aliases, by id or by name and owner."""
    return RequestedDevices(
        [(disk, _find(cloud, caller, cloud.images, disk, "IMAGE")) for disk in disks],
        [(nic, _find(cloud, caller, cloud.networks, nic, "NETWORK")) for nic in nics],
        [(alias, _find(cloud, caller, cloud.networks, alias, "NETWORK")) for alias in aliases],
    )


def _find(cloud: Cloud, caller: User, pool: Pool[PoolObjectT], device: Vector, key: str) -> PoolObjectT | None:
    object_id, name = device.get(f"{key}_ID", ""), device.get(key)
    if object_id:
        return pool.find(int(object_id)) if object_id.isdigit() else None
    return pool.find_by_name(owner_id(cloud, caller, device, key), name) if name else None


def owner_id(cloud: Cloud, caller: User, device: Vector, key: str) -> int:
    """Return the id of the owner of an object that a vector names, by default the caller."""
    uid, name = device.get(f"{key}_UID", ""), device.get(f"{key}_UNAME", "")
    if uid.isdigit():
        return int(uid)
    owner = cloud.find_user(name) if name else None
    return owner.id if owner is not None else caller.id


def authorize(cloud: Cloud, caller: User, devices: RequestedDevices, *, checks_image_ids: bool = True) -> None:
    """Refuse (512) images, networks and security groups of NICs and networks that the caller may not use.

    `checks_image_ids` is False for the instantiation of a template: oned does not check the rights on images that are
    named by IMAGE_ID there.
    """
    for disk, image in devices.disks:
        _check_id(caller, disk.get("IMAGE_ID", ""))
        if image is not None and (checks_image_ids or not disk.get("IMAGE_ID")):
            cloud.rights.check(caller, Right.USE, Kind.IMAGE, image)
    for nic, network in (*devices.nics, *devices.aliases):
        _check_id(caller, nic.get("NETWORK_ID", ""))
        if network is not None:
            cloud.rights.check(caller, Right.USE, Kind.NET, network)
        group_ids = parse_ids(nic.get("SECURITY_GROUPS", ""))
        if network is not None:
            group_ids |= network.security_group_ids()
        for group in map(cloud.security_groups.find, group_ids):
            if group is not None:
                cloud.rights.check(caller, Right.USE, Kind.SECGROUP, group)


def _check_id(caller: User, text: str) -> None:
    if text and not text.isdigit():
        raise unauthorized(f"User [{caller.id}] : user [{caller.id}] String '{text}' is not a valid ID.")


def add_disk(
    cloud: Cloud, machine: VirtualMachine, requested: Vector, image: Image | None, *, attach: bool = False
) -> Vector:
    """Add a disk to a machine and return it: acquire its image, or make it volatile. It may still lack a TARGET."""
    disk_id = machine.next_disk_id
    if not requested.get("SIZE", "1").isdigit():
        raise wrong_state("Wrong SIZE attribute of a disk: it must be a positive number")
    if image is not None:
        _check_size(image, requested)
        image.acquire(machine.id, attach=attach)
        store = cloud.datastores.get(image.datastore_id)
        disk = image.disk(store, requested, is_v7=machine.is_v7)
        if int(disk["SIZE"]) < image.size:
            image.release(machine.id)
            raise wrong_state(f"SIZE of {disk['SIZE']}MB is less than the image original SIZE of {image.size}MB")
        disk["CLUSTER_ID"] = ids_text(store.cluster_ids)
    elif requested.get("TYPE", "").upper() in _VOLATILE:
        disk = _volatile_disk(machine, requested)
    else:
        name = requested.get("IMAGE_ID") or requested.get("IMAGE", "")
        raise wrong_state(f"Image with ID: {name} does not exist")
    disk["DISK_ID"] = str(disk_id)
    machine.disks.append(disk)
    machine.next_disk_id += 1
    return disk


def _check_size(image: Image, requested: Vector) -> None:
    """Refuse a SIZE for a disk of a persistent image, and a SIZE smaller than the image for a copy."""
    size = requested.get("SIZE", "")
    if not size:
        return
    if image.is_persistent:
        raise wrong_state(f"SIZE attribute is not supported for persistent image [{image.id}].")
    if int(size) < image.size:
        raise wrong_state(f"SIZE of {size}MB is less than the image [{image.id}] size of {image.size}MB.")


def _volatile_disk(machine: VirtualMachine, requested: Vector) -> Vector:
    if not requested.get("SIZE", "").isdigit() or int(requested["SIZE"]) < 1:
        raise wrong_state("Wrong size for a volatile disk: SIZE must be a positive number")
    disk = dict(requested)
    disk.setdefault("DEV_PREFIX", "sd")
    disk["DISK_TYPE"] = "FILE"
    if machine.is_v7:
        disk.setdefault("FORMAT", "raw")
        disk["DRIVER"] = disk["FORMAT"]
    return disk


def place_disks(cloud: Cloud, machine: VirtualMachine, disks: Sequence[Vector]) -> None:
    """Set the attributes that disks get on a host: for volatile disks, those of the system datastore."""
    store = cloud.datastores.get(0)
    for disk in disks:
        if "IMAGE_ID" not in disk:
            disk.update(DATASTORE=store.name, DATASTORE_ID=str(store.id), TM_MAD=store.template.get("TM_MAD"))
            disk["CLUSTER_ID"] = ids_text(store.cluster_ids)
            disk["ALLOW_ORPHANS"] = store.template.get("ALLOW_ORPHANS")
            if machine.is_v7:
                disk["PERSISTENT_SNAPSHOTS"] = "YES"
    machine.invalidate()


def release_disk(cloud: Cloud, machine: VirtualMachine, disk: Vector, *, keep: bool = False) -> None:
    """Release the image of a disk and remove the disk; with `keep`, as for a terminated machine, its element stays."""
    if not keep:
        machine.disks.remove(disk)
    image = cloud.images.find(int(disk["IMAGE_ID"])) if "IMAGE_ID" in disk else None
    if image is not None and (keep or not any(d.get("IMAGE_ID") == disk["IMAGE_ID"] for d in machine.disks)):
        image.release(machine.id)
        if disk.get("PERSISTENT") == "YES" and int(disk.get("SIZE", "0")) > image.size:
            image.size = int(disk["SIZE"])
        if disk.get("PERSISTENT") == "YES":
            image.has_snapshot_chain = False


def targets_in_use(machine: VirtualMachine) -> set[str]:
    """Return the device names of the machine's disks and of its CONTEXT."""
    targets = {disk["TARGET"] for disk in machine.disks if disk.get("TARGET")}
    if machine.context is not None and machine.context.get("TARGET"):
        targets.add(machine.context["TARGET"])
    return targets


def assign_target(machine: VirtualMachine, disk: Vector) -> None:
    """Set the TARGET of a disk without one to the first free device name of its prefix."""
    if not disk.get("TARGET"):
        disk["TARGET"] = free_target(machine, disk.get("DEV_PREFIX", "sd"))


def free_target(machine: VirtualMachine, prefix: str) -> str:
    """Return the first free device name of a prefix."""
    targets = targets_in_use(machine)
    return next((prefix + letter for letter in ascii_lowercase if prefix + letter not in targets), f"{prefix}aa")


def release_devices(cloud: Cloud, machine: VirtualMachine) -> None:
    """Release all addresses and images of a machine whose allocation failed."""
    for nic in list(machine.nics):
        release_nic(cloud, machine, nic)
    for disk in list(machine.disks):
        release_disk(cloud, machine, disk)
