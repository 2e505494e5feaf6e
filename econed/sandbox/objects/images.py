"""Images, and their use by machines and clones."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from xml.sax.saxutils import escape

from econed.opennebula.states import ImageState
from econed.sandbox.objects.base import Kind, PoolObject, ids_xml
from econed.sandbox.objects.infrastructure import Datastore
from econed.sandbox.quotas import Charge
from econed.sandbox.refusals import internal, wrong_state
from econed.sandbox.template import Vector, cdata


class ImageType(IntEnum):
    """The types of images; those from KERNEL on are stored in file datastores."""

    OS = 0
    CDROM = 1
    DATABLOCK = 2
    KERNEL = 3
    RAMDISK = 4
    CONTEXT = 5


DUMMY_SIZE = 1024
"""The size in MB that the dummy datastore driver reports for every file."""
_USABLE = frozenset(
    {ImageState.READY, ImageState.USED, ImageState.USED_PERS}
    | {ImageState.LOCKED, ImageState.LOCKED_USED, ImageState.LOCKED_USED_PERS}
)


@dataclass(eq=False)
class Image(PoolObject):
    """An image; `size` in MB. `fstype` is 5.12's FSTYPE, `format` and `file_system` are 7.x's FORMAT and FS."""

    type: ImageType = ImageType.OS
    is_persistent: bool = False
    registered: int = 0
    modified: int = 0
    source: str = ""
    path: str = ""
    format: str = ""
    fstype: str = ""
    file_system: str = ""
    size: int = 0
    state: ImageState = ImageState.LOCKED
    previous_state: ImageState = ImageState.INIT
    datastore_id: int = 1
    datastore_name: str = "default"
    vm_ids: set[int] = field(default_factory=set)
    clone_ids: set[int] = field(default_factory=set)
    source_id: int = -1
    has_snapshot_chain: bool = True

    kind = Kind.IMAGE

    def set_state(self, state: ImageState) -> None:
        """Set the state, and PREV_STATE with it, as oned does for lasting states."""
        self.previous_state, self.state = state, state

    def charge(self) -> Charge:
        """Return the usage that the image counts in the quota of its datastore."""
        return Charge("DATASTORE", str(self.datastore_id), {"IMAGES": 1, "SIZE": self.size})

    def quota_charges(self) -> list[Charge]:
        """Return the usage that the image counts in its owner's quotas."""
        return [self.charge()]

    def settle(self) -> None:
        """Set the state that follows from the machines and clones that use the image."""
        if self.vm_ids:
            self.set_state(ImageState.USED_PERS if self.is_persistent else ImageState.USED)
        elif self.clone_ids:
            self.set_state(ImageState.CLONE if self.is_persistent else ImageState.USED)
        else:
            self.set_state(ImageState.READY)

    def acquire(self, vm_id: int, *, attach: bool) -> None:
        """Add a machine to the users of the image; refuses if the image's state does not allow it.

        A new machine may wait for an image that is being copied; `attach` to an existing machine may not.
        """
        refusal = f"Cannot acquire image {self.id}, it is"
        if self.type >= ImageType.KERNEL:
            raise wrong_state(f"Image {self.id} ({self.name}) of type {self.type.name} cannot be used as DISK.")
        if self.state in (ImageState.USED_PERS, ImageState.LOCKED_USED_PERS) or (self.is_persistent and self.clone_ids):
            raise wrong_state(f"{refusal} persistent and already in use")
        if attach and self.state.is_being_written:
            raise wrong_state(f"{refusal} locked")
        if self.state not in _USABLE:
            raise wrong_state(f"{refusal} in state: {self.state.name}")
        self.vm_ids.add(vm_id)
        self._update_state()

    def release(self, vm_id: int) -> None:
        """Remove a machine from the users of the image."""
        self.vm_ids.discard(vm_id)
        if self.state in _USABLE:
            self._update_state()

    def _update_state(self) -> None:
        if not self.state.is_being_written:
            self.settle()
        elif self.vm_ids:
            self.state = ImageState.LOCKED_USED_PERS if self.is_persistent else ImageState.LOCKED_USED
        else:
            self.state = ImageState.LOCKED

    def check_idle(self, change: str) -> None:
        """Refuse a change for which the image must be READY, DISABLED or in ERROR (code 8192)."""
        if self.state not in (ImageState.READY, ImageState.DISABLED, ImageState.ERROR):
            raise internal(f"Could not {change}: Image cannot be in state {self.state.name}.")

    def xml(self, *, is_v7: bool) -> str:
        """Return the IMAGE element."""
        if is_v7:
            formats = f"{cdata('FORMAT', self.format)}{cdata('FS', self.file_system)}"
            times = f"<REGTIME>{self.registered}</REGTIME><MODTIME>{self.modified}</MODTIME>"
            previous = f"<PREV_STATE>{int(self.previous_state)}</PREV_STATE>"
            backups = "<BACKUP_INCREMENTS></BACKUP_INCREMENTS><BACKUP_DISK_IDS></BACKUP_DISK_IDS>"
        else:
            formats, previous, backups = cdata("FSTYPE", self.fstype), "", ""
            times = f"<REGTIME>{self.registered}</REGTIME>"
        chain = ""
        if self.has_snapshot_chain:
            chain = cdata("ALLOW_ORPHANS", "NO") + cdata("CURRENT_BASE", -1) + cdata("NEXT_SNAPSHOT", 0)
        return (
            f"<IMAGE>{self.head()}{self.lock_xml()}<TYPE>{int(self.type)}</TYPE><DISK_TYPE>0</DISK_TYPE>"
            f"<PERSISTENT>{int(self.is_persistent)}</PERSISTENT>{times}{cdata('SOURCE', self.source)}"
            f"{cdata('PATH', self.path)}{formats}<SIZE>{self.size}</SIZE><STATE>{int(self.state)}</STATE>{previous}"
            f"<RUNNING_VMS>{len(self.vm_ids)}</RUNNING_VMS><CLONING_OPS>{len(self.clone_ids)}</CLONING_OPS>"
            f"<CLONING_ID>{self.source_id}</CLONING_ID><TARGET_SNAPSHOT>-1</TARGET_SNAPSHOT>"
            f"<DATASTORE_ID>{self.datastore_id}</DATASTORE_ID><DATASTORE>{escape(self.datastore_name)}</DATASTORE>"
            f"{ids_xml('VMS', self.vm_ids)}{ids_xml('CLONES', self.clone_ids)}<APP_CLONES></APP_CLONES>"
            f"{self.template.xml()}<SNAPSHOTS>{chain}</SNAPSHOTS>{backups}</IMAGE>"
        )

    def disk(self, store: Datastore, requested: Vector, *, is_v7: bool) -> Vector:
        """Return the DISK of a machine that uses the image: the `requested` attributes and those that oned adds."""
        disk = dict(requested)
        disk.update(IMAGE=self.name, IMAGE_ID=str(self.id), SOURCE=self.source, ORIGINAL_SIZE=str(self.size))
        disk.update(IMAGE_STATE=str(int(self.state)), DISK_SNAPSHOT_TOTAL_SIZE="0", DISK_TYPE="FILE")
        disk.setdefault("SIZE", str(self.size))
        disk.setdefault("DEV_PREFIX", self.template.get("DEV_PREFIX", "sd"))
        disk.update(DATASTORE=self.datastore_name, DATASTORE_ID=str(self.datastore_id))
        disk["TYPE"] = "CDROM" if self.type is ImageType.CDROM else "FILE"
        disk.setdefault("READONLY", "YES" if self.type is ImageType.CDROM else "NO")
        if self.is_persistent:
            disk.update(PERSISTENT="YES", CLONE="NO", SAVE="YES")
        else:
            disk.update(CLONE="NO" if self.type is ImageType.CDROM else "YES", SAVE="NO")
        if self.template.get("TARGET"):
            disk.setdefault("TARGET", self.template.get("TARGET"))
        for name in ("CLONE_TARGET", "LN_TARGET", "TM_MAD", "ALLOW_ORPHANS"):
            disk[name] = store.template.get(name)
        if is_v7:
            disk.update(DRIVER=self.format, FORMAT=self.format, PERSISTENT_SNAPSHOTS="YES")
        return disk
