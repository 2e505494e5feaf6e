"""The calls that plug disks and NICs in and out, copy, grow and snapshot disks."""

from __future__ import annotations

from econed.opennebula.states import LcmState, VmState
from econed.sandbox.calls.declaration import serves
from econed.sandbox.cloud import Cloud
from econed.sandbox.image_manager import ImageManager, taken_name
from econed.sandbox.machines.context import fill_context
from econed.sandbox.machines.devices import (
    add_disk,
    add_nic,
    assign_target,
    authorize,
    deploy_disks,
    drop_disk,
    drop_nic,
    resolve,
    targets_in_use,
)
from econed.sandbox.machines.hot_plug import is_pluggable, plug, record_change
from econed.sandbox.machines.restrictions import demand_unrestricted
from econed.sandbox.machines.security_rules import join_groups
from econed.sandbox.objects.base import Kind, Right, check_name
from econed.sandbox.objects.history import HistoryAction
from econed.sandbox.objects.images import Image, ImageType
from econed.sandbox.objects.users import User
from econed.sandbox.objects.virtual_machines import VirtualMachine
from econed.sandbox.quotas import Charge
from econed.sandbox.refusals import Refused, did_not_complete, internal, not_allocated, wrong_state
from econed.sandbox.template import Template, Vector


class HotplugCalls:
    """`one.vm.attach`, `detach`, `attachnic`, `detachnic`, `attachsg`, `detachsg`, `disksaveas`, `diskresize`, ..."""

    def __init__(self, cloud: Cloud, images: ImageManager) -> None:
        self._cloud = cloud
        self._images = images

    def _vm(self, caller: User, number: int) -> VirtualMachine:
        return self._cloud.demand(caller, Right.MANAGE, self._cloud.vms, number)

    # -- disks ------------------------------------------------------------------------------------------------------

    @serves("one.vm.attach", int, str)
    def attach(self, caller: User, number: int, text: str) -> int:
        """Plug a disk in: an image, or a volatile one."""
        cloud = self._cloud
        machine = self._vm(caller, number)
        template = self._cloud.read(text)
        demand_unrestricted(self._cloud.version, caller, template)
        disks = template.vectors("DISK")
        if not disks:
            raise internal("Error parsing DISK attribute")
        asked = resolve(cloud, caller, disks[:1], [])
        try:
            authorize(cloud, caller, asked)
        except Refused as refusal:
            if not cloud.version.modern:
                raise did_not_complete() from refusal
            raise
        disk, image = asked.disks[0]
        if not is_pluggable(machine):
            raise wrong_state(f"Could not attach a new disk to VM {number}, wrong state {machine.state_name}.")
        if disk.get("TARGET") in targets_in_use(machine):
            raise wrong_state(f"Target {disk['TARGET']} is already in use.")
        self._attach(caller, machine, disk, image)
        return number

    def _attach(self, caller: User, machine: VirtualMachine, asked: Vector, image: Image | None) -> None:
        disk = add_disk(self._cloud, machine, asked, image, attach=True)
        assign_target(machine, disk)
        deploy_disks(self._cloud, machine, [disk])
        disk["TM_MAD_SYSTEM"] = self._cloud.datastores.get(0).template.get("TM_MAD")
        disk["ATTACH"] = "YES"
        record_change(self._cloud, machine, caller, HistoryAction.DISK_ATTACH)
        self._cloud.recharge(machine)

        def attached() -> None:
            disk.pop("ATTACH", None)

        plug(self._cloud, machine, LcmState.HOTPLUG, LcmState.HOTPLUG_PROLOG_POWEROFF, attached)

    @serves("one.vm.detach", int, int)
    def detach(self, caller: User, number: int, disk_id: int) -> int:
        """Plug a disk out; oned does so with the root disk too."""
        machine = self._vm(caller, number)
        if not is_pluggable(machine):
            raise wrong_state(f"Could not detach disk from VM {number}, wrong state {machine.state_name}.")
        disk = machine.disk(disk_id)
        if disk is None:
            if machine.modern:
                raise wrong_state("VM disk does not exist")
            raise wrong_state(f"Could not detach disk with DISK_ID {disk_id}, it does not exist.")
        disk["ATTACH"] = "YES"
        record_change(self._cloud, machine, caller, HistoryAction.DISK_DETACH)

        def detached() -> None:
            machine.snapshots.pop(disk_id, None)
            drop_disk(self._cloud, machine, disk)
            self._cloud.recharge(machine)

        plug(self._cloud, machine, LcmState.HOTPLUG, LcmState.HOTPLUG_EPILOG_POWEROFF, detached)
        return number

    def _existing_disk(self, machine: VirtualMachine, disk_id: int) -> Vector:
        disk = machine.disk(disk_id)
        if disk is None:
            raise wrong_state("VM disk does not exist")
        return disk

    @serves("one.vm.diskresize", int, int, str)
    def diskresize(self, caller: User, number: int, disk_id: int, size: str) -> int:
        """Let a disk grow to `size` MB; 5.12 answers with the disk's number, 7.x with the machine's."""
        machine = self._vm(caller, number)
        disk = self._existing_disk(machine, disk_id)
        if not size.isdigit() or int(size) <= int(disk.get("SIZE", "0")):
            raise wrong_state("New disk size has to be greater than current one")
        if not is_pluggable(machine) and machine.state is not VmState.UNDEPLOYED:
            raise wrong_state(f"Could not perform resize on VM {number}, wrong state {machine.state_name}.")
        before = disk["SIZE"]
        image = self._cloud.images.find(int(disk["IMAGE_ID"])) if disk.get("PERSISTENT") == "YES" else None
        if image is not None:
            growth = {"SIZE": float(int(size) - int(before))}
            self._cloud.charge(caller, image.gid, [Charge("DATASTORE", str(image.datastore), growth)])
        record_change(self._cloud, machine, caller, HistoryAction.DISK_RESIZE)
        disk.update(SIZE=size, RESIZE="YES", SIZE_PREV=before)
        self._cloud.recharge(machine)

        def resized() -> None:
            disk.pop("RESIZE", None)
            disk.pop("SIZE_PREV", None)

        at_rest = LcmState.DISK_RESIZE_POWEROFF
        plug(self._cloud, machine, LcmState.DISK_RESIZE, at_rest, resized)
        return number if machine.modern else disk_id

    @serves("one.vm.disksaveas", int, int, str, optional=(str, int))
    def disksaveas(self, caller: User, number: int, disk_id: int, name: str, label: str = "", _snap: int = -1) -> int:
        """Copy a disk into a new image, which is LOCKED until then."""
        cloud = self._cloud
        machine = self._vm(caller, number)
        disk = machine.disk(disk_id)
        if disk is None or "IMAGE_ID" not in disk:
            raise Refused(internal("").code, "Cannot use DISK. DISK does not exist.", number if machine.modern else -1)
        if not is_pluggable(machine) and machine.state is not VmState.SUSPENDED:
            raise internal("VM has to be RUNNING, POWEROFF or SUSPENDED to save disks.")
        source = cloud.images.get(int(disk["IMAGE_ID"]))
        store = cloud.datastores.get(source.datastore)
        cloud.rights.demand(caller, Right.CREATE, Kind.IMAGE, None)
        cloud.rights.demand(caller, Right.USE, Kind.DATASTORE, store)
        self._demand_name(caller, name)
        size = int(disk.get("SIZE", source.size))
        cloud.charge(caller, caller.gid, [Charge("DATASTORE", str(store.id), {"IMAGES": 1, "SIZE": size})])
        saved = self._saved(caller, name, source, machine, disk_id)
        saved.size = size
        if label.upper() in ImageType.__members__:
            saved.type = ImageType[label.upper()]
        self._images.register(saved, then=True)
        disk["SAVE_AS"] = str(saved.id)

        def copied() -> None:
            disk.pop("SAVE_AS", None)
            self._images.copied(saved)

        suspended = machine.state is VmState.SUSPENDED
        waiting = LcmState.HOTPLUG_SAVEAS_SUSPENDED if suspended else LcmState.HOTPLUG_SAVEAS_POWEROFF
        plug(self._cloud, machine, LcmState.HOTPLUG_SAVEAS, waiting, copied)
        return saved.id

    def _demand_name(self, caller: User, name: str) -> None:
        taken = taken_name(self._cloud, caller.id, name)
        reason = f"NAME is already taken by IMAGE {taken.id}." if taken else check_name(name)
        if reason:
            raise not_allocated(f"Error allocating a new image. {reason}")

    def _saved(self, caller: User, name: str, source: Image, machine: VirtualMachine, disk_id: int) -> Image:
        template = Template([("DEV_PREFIX", source.template.get("DEV_PREFIX", "sd")), ("SAVED_DISK_ID", str(disk_id))])
        template.replace("SAVED_IMAGE_ID", str(source.id))
        template.replace("SAVED_VM_ID", str(machine.id))
        if not machine.modern and machine.state is VmState.ACTIVE:
            template.replace("SAVE_AS_HOT", "YES")
        number = self._cloud.images.take_id()
        saved = Image(number, caller.id, caller.gid, caller.name, caller.gname, name, template=template)
        saved.type, saved.datastore, saved.datastore_name = source.type, source.datastore, source.datastore_name
        saved.fstype, saved.format = "save_as", source.format
        return saved

    # -- snapshots of disks ----------------------------------------------------------------------------------------

    @serves("one.vm.disksnapshotcreate", int, int, str)
    def snapshot_create(self, caller: User, number: int, disk_id: int, name: str) -> int:
        """Make a snapshot of a disk and return its number."""
        machine = self._vm(caller, number)
        disk = self._existing_disk(machine, disk_id)
        self._demand_pluggable(machine, "snapshot")
        kept = machine.snapshots.setdefault(disk_id, [])
        snapshot = {"ID": str(len(kept)), "NAME": name, "DATE": str(self._cloud.now()), "PARENT": "-1"}
        snapshot["SIZE"] = disk.get("SIZE", "0")
        kept.append(snapshot)
        record_change(self._cloud, machine, caller, HistoryAction.DISK_SNAPSHOT_CREATE)
        plug(self._cloud, machine, LcmState.DISK_SNAPSHOT, LcmState.DISK_SNAPSHOT_POWEROFF, _nothing)
        return int(snapshot["ID"])

    def _demand_pluggable(self, machine: VirtualMachine, doing: str) -> None:
        if not is_pluggable(machine):
            raise wrong_state(f"Could not {doing} disk of VM {machine.id}, wrong state {machine.state_name}.")

    def _snapshot(self, machine: VirtualMachine, disk_id: int, number: int) -> Vector:
        self._existing_disk(machine, disk_id)
        kept = machine.snapshots.get(disk_id, [])
        found = next((snapshot for snapshot in kept if snapshot["ID"] == str(number)), None)
        if found is None:
            raise wrong_state(f"Snapshot {number} does not exist")
        return found

    @serves("one.vm.disksnapshotrevert", int, int, int)
    def snapshot_revert(self, caller: User, number: int, disk_id: int, snapshot: int) -> int:
        """Take a disk back to a snapshot; the machine must be powered off."""
        machine = self._vm(caller, number)
        self._snapshot(machine, disk_id, snapshot)
        if machine.state is not VmState.POWEROFF:
            raise wrong_state(f"Could not revert disk of VM {number}, wrong state {machine.state_name}.")
        record_change(self._cloud, machine, caller, HistoryAction.DISK_SNAPSHOT_REVERT)
        plug(self._cloud, machine, LcmState.DISK_SNAPSHOT_REVERT, LcmState.DISK_SNAPSHOT_REVERT_POWEROFF, _nothing)
        return snapshot

    @serves("one.vm.disksnapshotdelete", int, int, int)
    def snapshot_delete(self, caller: User, number: int, disk_id: int, snapshot: int) -> int:
        """Remove a snapshot of a disk."""
        machine = self._vm(caller, number)
        found = self._snapshot(machine, disk_id, snapshot)
        self._demand_pluggable(machine, "delete a snapshot of a")
        record_change(self._cloud, machine, caller, HistoryAction.DISK_SNAPSHOT_DELETE)

        def deleted() -> None:
            machine.snapshots[disk_id].remove(found)

        plug(self._cloud, machine, LcmState.DISK_SNAPSHOT_DELETE, LcmState.DISK_SNAPSHOT_DELETE_POWEROFF, deleted)
        return snapshot

    # -- NICs -------------------------------------------------------------------------------------------------------

    @serves("one.vm.attachnic", int, str)
    def attach_nic(self, caller: User, number: int, text: str) -> int:
        """Plug a NIC in."""
        cloud = self._cloud
        machine = self._vm(caller, number)
        template = self._cloud.read(text)
        demand_unrestricted(self._cloud.version, caller, template)
        nics = template.vectors("NIC")
        if not nics:
            raise internal("Error parsing NIC attribute")
        asked = resolve(cloud, caller, [], nics[:1])
        authorize(cloud, caller, asked)
        if not is_pluggable(machine):
            raise wrong_state(f"Could not add a new NIC to VM {number}, wrong state {machine.state_name}.")
        wanted, network = asked.nics[0]
        if network is not None:
            beyond = Charge("NETWORK", str(network.id), {"LEASES": 1})
            cloud.charge(caller, machine.gid, [beyond])
            cloud.count(caller.id, machine.gid, [beyond], -1)
        nic = add_nic(cloud, machine, wanted, network)
        nic["ATTACH"] = "YES"
        fill_context(machine, cloud)
        record_change(self._cloud, machine, caller, HistoryAction.NIC_ATTACH)
        cloud.recharge(machine)

        def attached() -> None:
            nic.pop("ATTACH", None)

        plug(self._cloud, machine, LcmState.HOTPLUG_NIC, LcmState.HOTPLUG_NIC_POWEROFF, attached)
        return number

    @serves("one.vm.detachnic", int, int)
    def detach_nic(self, caller: User, number: int, nic_id: int) -> int:
        """Plug a NIC out; its address is free again."""
        machine = self._vm(caller, number)
        if not is_pluggable(machine):
            raise wrong_state(f"Could not detach NIC from VM {number}, wrong state {machine.state_name}.")
        nic = machine.nic(nic_id)
        if nic is None:
            raise wrong_state(f"NIC with NIC_ID {nic_id} does not exist.")
        nic["ATTACH"] = "YES"
        record_change(self._cloud, machine, caller, HistoryAction.NIC_DETACH)

        def detached() -> None:
            drop_nic(self._cloud, machine, nic)
            fill_context(machine, self._cloud)
            self._cloud.recharge(machine)

        plug(self._cloud, machine, LcmState.HOTPLUG_NIC, LcmState.HOTPLUG_NIC_POWEROFF, detached)
        return number

    def _nic(self, machine: VirtualMachine, nic_id: int) -> Vector:
        nic = machine.nic(nic_id)
        if nic is None:
            raise wrong_state(f"VM {machine.id} does not have NIC {nic_id}")
        return nic

    @serves("one.vm.attachsg", int, int, int)
    def attach_group(self, caller: User, number: int, nic_id: int, group_id: int) -> int:
        """Give a NIC one more security group (7.x)."""
        machine = self._vm(caller, number)
        self._cloud.demand(caller, Right.USE, self._cloud.security_groups, group_id)
        nic = self._nic(machine, nic_id)
        groups = [int(each) for each in nic.get("SECURITY_GROUPS", "").split(",") if each]
        if group_id in groups:
            raise wrong_state(f"VM {number} SG {group_id} already in NIC {nic_id}")
        self._regroup(machine, nic, sorted([*groups, group_id]))
        return number

    @serves("one.vm.detachsg", int, int, int)
    def detach_group(self, caller: User, number: int, nic_id: int, group_id: int) -> int:
        """Take a security group from a NIC (7.x)."""
        machine = self._vm(caller, number)
        nic = self._nic(machine, nic_id)
        groups = [int(each) for each in nic.get("SECURITY_GROUPS", "").split(",") if each]
        if group_id not in groups:
            raise wrong_state(f"VM {number} SG {group_id} is not in NIC {nic_id}")
        self._regroup(machine, nic, [each for each in groups if each != group_id])
        return number

    def _regroup(self, machine: VirtualMachine, nic: Vector, groups: list[int]) -> None:
        if not is_pluggable(machine):
            raise wrong_state(f"Could not change security groups of VM {machine.id}, wrong state {machine.state_name}.")
        nic["SECURITY_GROUPS"] = ",".join(str(each) for each in groups)
        join_groups(self._cloud, machine)
        plug(self._cloud, machine, LcmState.HOTPLUG_NIC, LcmState.HOTPLUG_NIC_POWEROFF, _nothing)


def _nothing() -> None:
    return None
