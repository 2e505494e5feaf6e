"""Disks and NICs as oned makes them of what a template asks for: authorised, acquired, filled in.

The order is oned's: rights on what is named, quotas, addresses, images, targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_lowercase

from econed.opennebula.values import whole_number
from econed.sandbox.cloud import Cloud
from econed.sandbox.machines.requirements import Unreadable, satisfied
from econed.sandbox.machines.security_rules import join_groups
from econed.sandbox.objects.base import Kind, Right
from econed.sandbox.objects.images import Image
from econed.sandbox.objects.networks import Network, is_automatic
from econed.sandbox.objects.users import User
from econed.sandbox.objects.virtual_machines import VirtualMachine
from econed.sandbox.refusals import unauthorized, wrong_state
from econed.sandbox.template import Vector

_VOLATILE = ("FS", "SWAP")
_INHERITED_FROM_NETWORK = ("DNS", "GATEWAY")
_INHERITED_FROM_RANGE = ("VLAN_ID", "BRIDGE", "PHYDEV")


@dataclass(frozen=True)
class Asked:
    """The disks and NICs that a call asks for, with the images and networks that they name, or None."""

    disks: Sequence[tuple[Vector, Image | None]]
    nics: Sequence[tuple[Vector, Network | None]]


def resolve(cloud: Cloud, caller: User, disks: Sequence[Vector], nics: Sequence[Vector]) -> Asked:
    """Find what disks and NICs name, by number or by name and owner."""
    return Asked(
        [(disk, _image(cloud, caller, disk)) for disk in disks],
        [(nic, _network(cloud, caller, nic)) for nic in nics],
    )


def _image(cloud: Cloud, caller: User, disk: Vector) -> Image | None:
    number = disk.get("IMAGE_ID", "")
    if number:
        return cloud.images.find(int(number)) if number.isdigit() else None
    owner = _owner(cloud, caller, disk, "IMAGE")
    name = disk.get("IMAGE")
    return next((image for image in cloud.images if name and (image.name, image.uid) == (name, owner)), None)


def _network(cloud: Cloud, caller: User, nic: Vector) -> Network | None:
    number = nic.get("NETWORK_ID", "")
    if number:
        return cloud.networks.find(int(number)) if number.isdigit() else None
    owner = _owner(cloud, caller, nic, "NETWORK")
    name = nic.get("NETWORK")
    return next((net for net in cloud.networks if name and (net.name, net.uid) == (name, owner)), None)


def _owner(cloud: Cloud, caller: User, vector: Vector, of: str) -> int:
    number, name = vector.get(f"{of}_UID", ""), vector.get(f"{of}_UNAME", "")
    if number.isdigit():
        return int(number)
    named = cloud.user_named(name) if name else None
    return named.id if named is not None else caller.id


def authorize(cloud: Cloud, caller: User, asked: Asked, *, numbered_images: bool = True) -> None:
    """Refuse (512) what the caller may not use: images, networks, and the security groups of NICs.

    `numbered_images` says whether that is asked of images named by IMAGE_ID too: oned does not where it makes a
    machine of a template, but lets anybody use them there.
    """
    for disk, image in asked.disks:
        _demand_number(caller, disk.get("IMAGE_ID", ""))
        if image is not None and (numbered_images or not disk.get("IMAGE_ID")):
            cloud.rights.demand(caller, Right.USE, Kind.IMAGE, image)
    for nic, network in asked.nics:
        _demand_number(caller, nic.get("NETWORK_ID", ""))
        if network is not None:
            cloud.rights.demand(caller, Right.USE, Kind.NET, network)
        for number in _numbers(nic.get("SECURITY_GROUPS", "")):
            group = cloud.security_groups.find(number)
            if group is not None:
                cloud.rights.demand(caller, Right.USE, Kind.SECGROUP, group)


def _demand_number(caller: User, text: str) -> None:
    if text and not text.isdigit():
        raise unauthorized(f"User [{caller.id}] : user [{caller.id}] String '{text}' is not a valid ID.")


def _numbers(text: str) -> list[int]:
    found = (whole_number(part.strip()) for part in text.split(","))
    return [number for number in found if number is not None]


def add_nic(cloud: Cloud, machine: VirtualMachine, asked: Vector, network: Network | None) -> Vector:
    """Return the machine's new NIC, with an address of its network; refuses (2048) where it cannot be had.

    One that names no network, or leaves it to the scheduler (NETWORK_MODE="auto"), is kept as it was typed.
    """
    number = str(machine.next_nic)
    nic = {**asked, "NIC_ID": number}
    nic.setdefault("NAME", f"NIC{number}")
    if network is not None:
        _lease(cloud, machine, nic, network)
    elif not is_automatic(asked) and (asked.get("NETWORK_ID") or asked.get("NETWORK")):
        named = asked.get("NETWORK_ID") or asked.get("NETWORK", "")
        raise wrong_state(f"Virtual network with ID: {named} does not exist")
    else:
        machine.without_network.add(number)
    machine.nics.append(nic)
    machine.next_nic += 1
    join_groups(cloud, machine)
    return nic


def _lease(cloud: Cloud, machine: VirtualMachine, nic: Vector, network: Network) -> None:
    """Fill in what a NIC gets by being on a network."""
    place = network.lease(machine.id, nic.get("IP", ""), modern=machine.modern)
    if place is None:
        raise wrong_state(f"Cannot get IP/MAC lease from virtual network {network.id}.")
    span, index = place
    asked_groups = nic.get("SECURITY_GROUPS", "")
    nic.update(span.addresses(index))
    nic.update(AR_ID=str(span.id), NETWORK=network.name, NETWORK_ID=str(network.id))
    nic.update(VN_MAD=network.template.get("VN_MAD"), BRIDGE=network.template.get("BRIDGE"))
    nic.update(BRIDGE_TYPE=network.template.get("BRIDGE_TYPE"), TARGET=f"one-{machine.id}-{nic['NIC_ID']}")
    nic["CLUSTER_ID"] = ",".join(str(each) for each in sorted(network.clusters))
    for name in _INHERITED_FROM_NETWORK if machine.modern else ():
        value = span.attributes.get(name) or network.template.get(name)
        if value:
            nic.setdefault(name, value)
    for name in _INHERITED_FROM_RANGE:
        if span.attributes.get(name):
            nic[name] = span.attributes[name]
    groups = {*_numbers(network.template.get("SECURITY_GROUPS")), *_numbers(asked_groups)}
    groups |= set(_numbers(span.attributes.get("SECURITY_GROUPS", "")))
    nic["SECURITY_GROUPS"] = ",".join(str(group) for group in sorted(groups))
    network.vms.add(machine.id)


def choose_networks(cloud: Cloud, machine: VirtualMachine) -> None:
    """Put the NICs that leave it to the scheduler on networks, the first that the owner may use and the NIC asks for.

    Refuses (2048) where there is none with the address that is asked for; what it has leased until then stays.
    """
    owner = cloud.users.find(machine.uid)
    for nic in machine.nics:
        if nic["NIC_ID"] in machine.without_network and is_automatic(nic) and owner is not None:
            for network in sorted(cloud.networks, key=lambda each: each.id):
                if cloud.rights.may(owner, Right.USE, Kind.NET, network) and _suits(nic, network):
                    _lease(cloud, machine, nic, network)
                    machine.without_network.remove(nic["NIC_ID"])
                    break
            else:
                raise wrong_state(f"No network for NIC {nic['NIC_ID']}")
    join_groups(cloud, machine)


def _suits(nic: Vector, network: Network) -> bool:
    facts = {"ID": str(network.id), "NAME": network.name}
    try:
        return satisfied(nic.get("SCHED_REQUIREMENTS", ""), facts) and network.has_free(nic.get("IP", ""))
    except Unreadable:
        return False


def drop_nic(cloud: Cloud, machine: VirtualMachine, nic: Vector, *, keep: bool = False) -> None:
    """Give a NIC's address back; `keep` leaves the NIC in the document, as of a machine that ended."""
    network = None if nic["NIC_ID"] in machine.without_network else cloud.networks.find(int(nic["NETWORK_ID"]))
    if network is not None:
        place = network.find(nic["IP"])
        if place is not None and place[0].leases.get(place[1], None) is not None:
            span, index = place
            if span.leases[index].number == machine.id:
                span.free(index)
        others = [
            other for other in machine.leased_nics if other is not nic and other["NETWORK_ID"] == nic["NETWORK_ID"]
        ]
        if keep or not others:
            network.vms.discard(machine.id)
    if not keep:
        machine.nics.remove(nic)
        machine.without_network.discard(nic["NIC_ID"])
        join_groups(cloud, machine)


def add_disk(
    cloud: Cloud, machine: VirtualMachine, asked: Vector, image: Image | None, *, attach: bool = False
) -> Vector:
    """Acquire an image, or make a volatile disk; return the new disk, without TARGET where none is given."""
    number = machine.next_disk
    if not asked.get("SIZE", "1").isdigit():
        raise wrong_state("Wrong SIZE attribute of a disk: it must be a positive number")
    if image is not None:
        _demand_size(image, asked)
        image.acquire(machine.id, attach=attach)
        store = cloud.datastores.get(image.datastore)
        disk = image.disk(store, asked, modern=machine.modern)
        if int(disk["SIZE"]) < image.size:
            image.release(machine.id)
            raise wrong_state(f"SIZE of {disk['SIZE']}MB is less than the image original SIZE of {image.size}MB")
        disk["CLUSTER_ID"] = ",".join(str(each) for each in sorted(store.clusters))
    elif asked.get("TYPE", "").upper() in _VOLATILE:
        disk = _volatile(machine, asked)
    else:
        named = asked.get("IMAGE_ID") or asked.get("IMAGE", "")
        raise wrong_state(f"Image with ID: {named} does not exist")
    disk["DISK_ID"] = str(number)
    machine.disks.append(disk)
    machine.next_disk += 1
    return disk


def _demand_size(image: Image, asked: Vector) -> None:
    """Refuse a SIZE for a disk that is its image itself, and one that is less than the image's for a copy."""
    size = asked.get("SIZE", "")
    if not size:
        return
    if image.persistent:
        raise wrong_state(f"SIZE attribute is not supported for persistent image [{image.id}].")
    if int(size) < image.size:
        raise wrong_state(f"SIZE of {size}MB is less than the image [{image.id}] size of {image.size}MB.")


def _volatile(machine: VirtualMachine, asked: Vector) -> Vector:
    if not asked.get("SIZE", "").isdigit() or int(asked["SIZE"]) < 1:
        raise wrong_state("Wrong size for a volatile disk: SIZE must be a positive number")
    disk = dict(asked)
    disk.setdefault("DEV_PREFIX", "sd")
    disk["DISK_TYPE"] = "FILE"
    if machine.modern:
        disk.setdefault("FORMAT", "raw")
        disk["DRIVER"] = disk["FORMAT"]
    return disk


def deploy_disks(cloud: Cloud, machine: VirtualMachine, disks: Sequence[Vector]) -> None:
    """Fill in what a disk gets by lying on a host: for volatile ones, the system datastore."""
    store = cloud.datastores.get(0)
    for disk in disks:
        if "IMAGE_ID" not in disk:
            disk.update(DATASTORE=store.name, DATASTORE_ID=str(store.id), TM_MAD=store.template.get("TM_MAD"))
            disk["CLUSTER_ID"] = ",".join(str(each) for each in sorted(store.clusters))
            disk["ALLOW_ORPHANS"] = store.template.get("ALLOW_ORPHANS")
            if machine.modern:
                disk["PERSISTENT_SNAPSHOTS"] = "YES"
    machine.changed()


def drop_disk(cloud: Cloud, machine: VirtualMachine, disk: Vector, *, keep: bool = False) -> None:
    """Let go of a disk's image; `keep` leaves the disk in the document, as of a machine that ended."""
    if not keep:
        machine.disks.remove(disk)
    image = cloud.images.find(int(disk["IMAGE_ID"])) if "IMAGE_ID" in disk else None
    if image is not None and (keep or not any(d.get("IMAGE_ID") == disk["IMAGE_ID"] for d in machine.disks)):
        image.release(machine.id)
        if disk.get("PERSISTENT") == "YES" and int(disk.get("SIZE", "0")) > image.size:
            image.size = int(disk["SIZE"])
        if disk.get("PERSISTENT") == "YES":
            image.snapshots = False


def targets_in_use(machine: VirtualMachine) -> set[str]:
    """Return the device names that the machine has given."""
    used = {disk["TARGET"] for disk in machine.disks if disk.get("TARGET")}
    if machine.context is not None and machine.context.get("TARGET"):
        used.add(machine.context["TARGET"])
    return used


def assign_target(machine: VirtualMachine, disk: Vector) -> None:
    """Give a disk without TARGET the first free device name of its prefix."""
    if not disk.get("TARGET"):
        disk["TARGET"] = free_target(machine, disk.get("DEV_PREFIX", "sd"))


def free_target(machine: VirtualMachine, prefix: str) -> str:
    """Return the first free device name of a prefix."""
    used = targets_in_use(machine)
    return next((prefix + letter for letter in ascii_lowercase if prefix + letter not in used), f"{prefix}aa")


def undo(cloud: Cloud, machine: VirtualMachine) -> None:
    """Give everything back that a machine had acquired when making it failed."""
    for nic in list(machine.nics):
        drop_nic(cloud, machine, nic)
    for disk in list(machine.disks):
        drop_disk(cloud, machine, disk)
