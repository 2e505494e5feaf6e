"""The calls on disks of machines: attach, detach, resize, save as an image, snapshots."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from econed.errors import OpenNebulaCode
from econed.opennebula.states import LcmState, VmState
from econed.sandbox.calls.declaration import serves
from econed.sandbox.cloud import Cloud
from econed.sandbox.image_manager import ImageManager
from econed.sandbox.machines.devices import (
    add_disk,
    assign_target,
    authorize,
    place_disks,
    release_disk,
    resolve,
    targets_in_use,
)
from econed.sandbox.machines.hot_plug import is_pluggable, plug, record_change
from econed.sandbox.machines.restrictions import check_restricted_attributes
from econed.sandbox.objects.base import Kind, Right
from econed.sandbox.objects.history import HistoryAction
from econed.sandbox.objects.images import Image, ImageType
from econed.sandbox.objects.users import User
from econed.sandbox.objects.virtual_machines import VirtualMachine
from econed.sandbox.quotas import Charge
from econed.sandbox.refusals import Refused, did_not_complete, internal, wrong_state
from econed.sandbox.template import Template, Vector


class DiskCalls:
    """`one.vm.attach`, `one.vm.detach`, `one.vm.disk*`. With `fail_next` the hypervisor refuses the next attachment."""

    def __init__(self, cloud: Cloud, images: ImageManager) -> None:
        self._cloud = cloud
        self._images = images
        self.fail_next = False

    def _managed(self, caller: User, vm_id: int) -> VirtualMachine:
        return self._cloud.get_authorized(caller, Right.MANAGE, self._cloud.vms, vm_id)

    @serves("one.vm.attach", int, str)
    def attach(self, caller: User, vm_id: int, text: str) -> int:
        """Attach a disk, of an image or volatile."""
        cloud = self._cloud
        with self._faults_for_refusals():
            machine = self._managed(caller, vm_id)
        template = self._cloud.parse(text)
        check_restricted_attributes(self._cloud.version, caller, template)
        disks = template.vectors("DISK")
        if not disks:
            raise internal("Error parsing DISK attribute")
        devices = resolve(cloud, caller, disks[:1], [])
        with self._faults_for_refusals():
            authorize(cloud, caller, devices)
        requested, image = devices.disks[0]
        if not is_pluggable(machine):
            raise wrong_state(f"Could not attach a new disk to VM {vm_id}, wrong state {machine.state_name}.")
        if requested.get("TARGET") in targets_in_use(machine):
            raise wrong_state(f"Target {requested['TARGET']} is already in use.")
        self._attach(caller, machine, requested, image)
        return vm_id

    @contextmanager
    def _faults_for_refusals(self) -> Iterator[None]:
        """Replace refusals for missing rights by faults, as 5.12 does when a disk is attached."""
        try:
            yield
        except Refused as refusal:
            if self._cloud.version.is_v7 or refusal.code is not OpenNebulaCode.AUTHORIZATION:
                raise
            raise did_not_complete() from refusal

    def _attach(self, caller: User, machine: VirtualMachine, requested: Vector, image: Image | None) -> None:
        disk = add_disk(self._cloud, machine, requested, image, attach=True)
        assign_target(machine, disk)
        place_disks(self._cloud, machine, [disk])
        disk["TM_MAD_SYSTEM"] = self._cloud.datastores.get(0).template.get("TM_MAD")
        disk["ATTACH"] = "YES"
        record_change(self._cloud, machine, caller, HistoryAction.DISK_ATTACH)
        self._cloud.recount_usage(machine)
        failed, self.fail_next = self.fail_next, False

        def attached() -> None:
            disk.pop("ATTACH", None)
            if failed:
                release_disk(self._cloud, machine, disk)
                self._cloud.recount_usage(machine)

        plug(self._cloud, machine, LcmState.HOTPLUG, LcmState.HOTPLUG_PROLOG_POWEROFF, attached)

    @serves("one.vm.detach", int, int)
    def detach(self, caller: User, vm_id: int, disk_id: int) -> int:
        """Detach a disk; oned allows it also for the root disk."""
        machine = self._managed(caller, vm_id)
        if not is_pluggable(machine):
            raise wrong_state(f"Could not detach disk from VM {vm_id}, wrong state {machine.state_name}.")
        disk = machine.disk(disk_id)
        if disk is None:
            if machine.is_v7:
                raise wrong_state("VM disk does not exist")
            raise wrong_state(f"Could not detach disk with DISK_ID {disk_id}, it does not exist.")
        disk["ATTACH"] = "YES"
        record_change(self._cloud, machine, caller, HistoryAction.DISK_DETACH)

        def detached() -> None:
            machine.snapshots.pop(disk_id, None)
            release_disk(self._cloud, machine, disk)
            self._cloud.recount_usage(machine)

        plug(self._cloud, machine, LcmState.HOTPLUG, LcmState.HOTPLUG_EPILOG_POWEROFF, detached)
        return vm_id

    def _existing_disk(self, machine: VirtualMachine, disk_id: int) -> Vector:
        disk = machine.disk(disk_id)
        if disk is None:
            raise wrong_state("VM disk does not exist")
        return disk

    @serves("one.vm.diskresize", int, int, str)
    def diskresize(self, caller: User, vm_id: int, disk_id: int, size: str) -> int:
        """Grow a disk to `size` MB; 5.12 asks for no right, and returns the id of the disk, 7.x that of the machine."""
        is_v7 = self._cloud.version.is_v7
        machine = self._managed(caller, vm_id) if is_v7 else self._cloud.vms.get(vm_id)
        disk = self._existing_disk(machine, disk_id)
        if not size.isdigit() or int(size) <= int(disk.get("SIZE", "0")):
            raise wrong_state("New disk size has to be greater than current one")
        if not is_pluggable(machine) and machine.state is not VmState.UNDEPLOYED:
            raise wrong_state(f"Could not perform resize on VM {vm_id}, wrong state {machine.state_name}.")
        old_size = disk["SIZE"]
        image = self._cloud.images.find(int(disk["IMAGE_ID"])) if disk.get("PERSISTENT") == "YES" else None
        if image is not None:
            growth = {"SIZE": float(int(size) - int(old_size))}
            self._cloud.charge(caller, image.gid, [Charge("DATASTORE", str(image.datastore_id), growth)])
        record_change(self._cloud, machine, caller, HistoryAction.DISK_RESIZE)
        disk.update(SIZE=size, RESIZE="YES", SIZE_PREV=old_size)
        self._cloud.recount_usage(machine)

        def resized() -> None:
            disk.pop("RESIZE", None)
            disk.pop("SIZE_PREV", None)

        plug(self._cloud, machine, LcmState.DISK_RESIZE, LcmState.DISK_RESIZE_POWEROFF, resized)
        return vm_id if machine.is_v7 else disk_id

    @serves("one.vm.disksaveas", int, int, str, optional=(str, int))
    def disksaveas(self, caller: User, vm_id: int, disk_id: int, name: str, label: str = "", _snap: int = -1) -> int:
        """Save a disk as a new image, which is LOCKED until it has been copied."""
        cloud = self._cloud
        machine = self._managed(caller, vm_id)
        disk = machine.disk(disk_id)
        if disk is None or "IMAGE_ID" not in disk:
            reported_id = vm_id if machine.is_v7 else -1
            raise Refused(OpenNebulaCode.INTERNAL, "Cannot use DISK. DISK does not exist.", reported_id)
        if not is_pluggable(machine) and machine.state is not VmState.SUSPENDED:
            raise internal("VM has to be RUNNING, POWEROFF or SUSPENDED to save disks.")
        source = cloud.images.get(int(disk["IMAGE_ID"]))
        store = cloud.datastores.get(source.datastore_id)
        cloud.rights.check(caller, Right.CREATE, Kind.IMAGE, None)
        cloud.rights.check(caller, Right.USE, Kind.DATASTORE, store)
        self._images.check_name(caller.id, name)
        size = int(disk.get("SIZE", source.size))
        cloud.charge(caller, caller.gid, [Charge("DATASTORE", str(store.id), {"IMAGES": 1, "SIZE": size})])
        image = self._saved_image(caller, name, source, machine, disk_id)
        image.size = size
        if label.upper() in ImageType.__members__:
            image.type = ImageType[label.upper()]
        self._images.add(image)
        disk["SAVE_AS"] = str(image.id)

        def copied() -> None:
            disk.pop("SAVE_AS", None)
            self._images.copied(image)

        is_suspended = machine.state is VmState.SUSPENDED
        stopped = LcmState.HOTPLUG_SAVEAS_SUSPENDED if is_suspended else LcmState.HOTPLUG_SAVEAS_POWEROFF
        plug(self._cloud, machine, LcmState.HOTPLUG_SAVEAS, stopped, copied)
        return image.id

    def _saved_image(self, caller: User, name: str, source: Image, machine: VirtualMachine, disk_id: int) -> Image:
        template = Template([("DEV_PREFIX", source.template.get("DEV_PREFIX", "sd")), ("SAVED_DISK_ID", str(disk_id))])
        template.replace("SAVED_IMAGE_ID", str(source.id))
        template.replace("SAVED_VM_ID", str(machine.id))
        if not machine.is_v7 and machine.state is VmState.ACTIVE:
            template.replace("SAVE_AS_HOT", "YES")
        image_id = self._cloud.images.allocate_id()
        image = Image(image_id, caller.id, caller.gid, caller.name, caller.gname, name, template=template)
        image.type, image.datastore_id, image.datastore_name = source.type, source.datastore_id, source.datastore_name
        image.fstype, image.format = "save_as", source.format
        return image

    @serves("one.vm.disksnapshotcreate", int, int, str)
    def snapshot_create(self, caller: User, vm_id: int, disk_id: int, name: str) -> int:
        """Create a snapshot of a disk and return its id."""
        machine = self._managed(caller, vm_id)
        disk = self._existing_disk(machine, disk_id)
        self._check_pluggable(machine, "snapshot")
        snapshots = machine.snapshots.setdefault(disk_id, [])
        snapshot = {"ID": str(len(snapshots)), "NAME": name, "DATE": str(self._cloud.now()), "PARENT": "-1"}
        snapshot["SIZE"] = disk.get("SIZE", "0")
        snapshots.append(snapshot)
        record_change(self._cloud, machine, caller, HistoryAction.DISK_SNAPSHOT_CREATE)
        plug(self._cloud, machine, LcmState.DISK_SNAPSHOT, LcmState.DISK_SNAPSHOT_POWEROFF)
        return int(snapshot["ID"])

    def _check_pluggable(self, machine: VirtualMachine, change: str) -> None:
        if not is_pluggable(machine):
            raise wrong_state(f"Could not {change} disk of VM {machine.id}, wrong state {machine.state_name}.")

    def _existing_snapshot(self, machine: VirtualMachine, disk_id: int, snapshot_id: int) -> Vector:
        self._existing_disk(machine, disk_id)
        snapshots = machine.snapshots.get(disk_id, [])
        snapshot = next((snapshot for snapshot in snapshots if snapshot["ID"] == str(snapshot_id)), None)
        if snapshot is None:
            raise wrong_state(f"Snapshot {snapshot_id} does not exist")
        return snapshot

    @serves("one.vm.disksnapshotrevert", int, int, int)
    def snapshot_revert(self, caller: User, vm_id: int, disk_id: int, snapshot_id: int) -> int:
        """Revert a disk to a snapshot; the machine must be powered off."""
        machine = self._managed(caller, vm_id)
        self._existing_snapshot(machine, disk_id, snapshot_id)
        if machine.state is not VmState.POWEROFF:
            raise wrong_state(f"Could not revert disk of VM {vm_id}, wrong state {machine.state_name}.")
        record_change(self._cloud, machine, caller, HistoryAction.DISK_SNAPSHOT_REVERT)
        plug(self._cloud, machine, LcmState.DISK_SNAPSHOT_REVERT, LcmState.DISK_SNAPSHOT_REVERT_POWEROFF)
        return snapshot_id

    @serves("one.vm.disksnapshotdelete", int, int, int)
    def snapshot_delete(self, caller: User, vm_id: int, disk_id: int, snapshot_id: int) -> int:
        """Delete a snapshot of a disk."""
        machine = self._managed(caller, vm_id)
        snapshot = self._existing_snapshot(machine, disk_id, snapshot_id)
        self._check_pluggable(machine, "delete a snapshot of a")
        record_change(self._cloud, machine, caller, HistoryAction.DISK_SNAPSHOT_DELETE)

        def deleted() -> None:
            machine.snapshots[disk_id].remove(snapshot)

        plug(self._cloud, machine, LcmState.DISK_SNAPSHOT_DELETE, LcmState.DISK_SNAPSHOT_DELETE_POWEROFF, deleted)
        return snapshot_id
