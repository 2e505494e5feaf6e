"""Images: what they are, and how machines and copies take hold of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from xml.sax.saxutils import escape

from econed.opennebula.states import ImageState
from econed.sandbox.objects.base import Kind, PoolObject, ids
from econed.sandbox.objects.infrastructure import Datastore
from econed.sandbox.quotas import Charge
from econed.sandbox.refusals import internal, wrong_state
from econed.sandbox.template import Vector, cdata


class ImageType(IntEnum):
    """The types of an image; those from KERNEL on live in file datastores."""

    OS = 0
    CDROM = 1
    DATABLOCK = 2
    KERNEL = 3
    RAMDISK = 4
    CONTEXT = 5


DUMMY_SIZE = 1024
"""What the dummy datastore driver says of the size of any file, in MB."""
_USABLE = frozenset(
    {ImageState.READY, ImageState.USED, ImageState.USED_PERS}
    | {ImageState.LOCKED, ImageState.LOCKED_USED, ImageState.LOCKED_USED_PERS}
)


@dataclass(eq=False)
class Image(PoolObject):
    """An image; `size` in MB. `fstype` is 5.12's FSTYPE, `format` and `file_system` are 7.x's FORMAT and FS."""

    type: ImageType = ImageType.OS
    persistent: bool = False
    registered: int = 0
    modified: int = 0
    source: str = ""
    path: str = ""
    format: str = ""
    fstype: str = ""
    file_system: str = ""
    size: int = 0
    state: ImageState = ImageState.LOCKED
    previous: ImageState = ImageState.INIT
    datastore: int = 1
    datastore_name: str = "default"
    vms: set[int] = field(default_factory=set)
    clones: set[int] = field(default_factory=set)
    cloning_from: int = -1
    snapshots: bool = True

    kind = Kind.IMAGE

    def enter(self, state: ImageState) -> None:
        """Change the state; the one before is kept where it was a lasting one."""
        self.previous, self.state = state, state

    def charge(self) -> Charge:
        """Return what the image takes of its datastore's quota."""
        return Charge("DATASTORE", str(self.datastore), {"IMAGES": 1, "SIZE": self.size})

    def taken(self) -> list[Charge]:
        """Return what the image takes of its owner's quotas."""
        return [self.charge()]

    def settle(self) -> None:
        """Return to the state that follows from who uses the image."""
        if self.vms:
            self.enter(ImageState.USED_PERS if self.persistent else ImageState.USED)
        elif self.clones:
            self.enter(ImageState.CLONE if self.persistent else ImageState.USED)
        else:
            self.enter(ImageState.READY)

    def acquire(self, vm: int, *, attach: bool) -> None:
        """Let a machine use the image; refuses where its state does not allow it.

        A new machine may wait for an image that is being copied, one that runs may not.
        """
        refusal = f"Cannot acquire image {self.id}, it is"
        if self.type >= ImageType.KERNEL:
            raise wrong_state(f"Image {self.id} ({self.name}) of type {self.type.name} cannot be used as DISK.")
        if self.state in (ImageState.USED_PERS, ImageState.LOCKED_USED_PERS) or (self.persistent and self.clones):
            raise wrong_state(f"{refusal} persistent and already in use")
        if attach and self.state.is_being_written:
            raise wrong_state(f"{refusal} locked")
        if self.state not in _USABLE:
            raise wrong_state(f"{refusal} in state: {self.state.name}")
        self.vms.add(vm)
        self._follow()

    def release(self, vm: int) -> None:
        """Let go of the image."""
        self.vms.discard(vm)
        if self.state in _USABLE:
            self._follow()

    def _follow(self) -> None:
        if not self.state.is_being_written:
            self.settle()
        elif self.vms:
            self.state = ImageState.LOCKED_USED_PERS if self.persistent else ImageState.LOCKED_USED
        else:
            self.state = ImageState.LOCKED

    def demand_idle(self, doing: str) -> None:
        """Refuse a change that needs the image to be READY, DISABLED or in ERROR (code 8192)."""
        if self.state not in (ImageState.READY, ImageState.DISABLED, ImageState.ERROR):
            raise internal(f"Could not {doing}: Image cannot be in state {self.state.name}.")

    def xml(self, *, modern: bool) -> str:
        """Return the element as oned shows it."""
        if modern:
            kept = f"{cdata('FORMAT', self.format)}{cdata('FS', self.file_system)}"
            times = f"<REGTIME>{self.registered}</REGTIME><MODTIME>{self.modified}</MODTIME>"
            previous = f"<PREV_STATE>{int(self.previous)}</PREV_STATE>"
            backups = "<BACKUP_INCREMENTS></BACKUP_INCREMENTS><BACKUP_DISK_IDS></BACKUP_DISK_IDS>"
        else:
            kept, previous, backups = cdata("FSTYPE", self.fstype), "", ""
            times = f"<REGTIME>{self.registered}</REGTIME>"
        chain = ""
        if self.snapshots:
            chain = cdata("ALLOW_ORPHANS", "NO") + cdata("CURRENT_BASE", -1) + cdata("NEXT_SNAPSHOT", 0)
        return (
            f"<IMAGE>{self.head()}{self.lock_xml()}<TYPE>{int(self.type)}</TYPE><DISK_TYPE>0</DISK_TYPE>"
            f"<PERSISTENT>{int(self.persistent)}</PERSISTENT>{times}{cdata('SOURCE', self.source)}"
            f"{cdata('PATH', self.path)}{kept}<SIZE>{self.size}</SIZE><STATE>{int(self.state)}</STATE>{previous}"
            f"<RUNNING_VMS>{len(self.vms)}</RUNNING_VMS><CLONING_OPS>{len(self.clones)}</CLONING_OPS>"
            f"<CLONING_ID>{self.cloning_from}</CLONING_ID><TARGET_SNAPSHOT>-1</TARGET_SNAPSHOT>"
            f"<DATASTORE_ID>{self.datastore}</DATASTORE_ID><DATASTORE>{escape(self.datastore_name)}</DATASTORE>"
            f"{ids('VMS', self.vms)}{ids('CLONES', self.clones)}<APP_CLONES></APP_CLONES>{self.template.xml()}"
            f"<SNAPSHOTS>{chain}</SNAPSHOTS>{backups}</IMAGE>"
        )

    def disk(self, store: Datastore, asked: Vector, *, modern: bool) -> Vector:
        """Return the DISK of a machine that uses the image, as `asked` and as oned fills it."""
        disk = dict(asked)
        disk.update(IMAGE=self.name, IMAGE_ID=str(self.id), SOURCE=self.source, ORIGINAL_SIZE=str(self.size))
        disk.update(IMAGE_STATE=str(int(self.state)), DISK_SNAPSHOT_TOTAL_SIZE="0", DISK_TYPE="FILE")
        disk.setdefault("SIZE", str(self.size))
        disk.setdefault("DEV_PREFIX", self.template.get("DEV_PREFIX", "sd"))
        disk.update(DATASTORE=self.datastore_name, DATASTORE_ID=str(self.datastore))
        disk["TYPE"] = "CDROM" if self.type is ImageType.CDROM else "FILE"
        disk.setdefault("READONLY", "YES" if self.type is ImageType.CDROM else "NO")
        if self.persistent:
            disk.update(PERSISTENT="YES", CLONE="NO", SAVE="YES")
        else:
            disk.update(CLONE="NO" if self.type is ImageType.CDROM else "YES", SAVE="NO")
        if self.template.get("TARGET"):
            disk.setdefault("TARGET", self.template.get("TARGET"))
        for name in ("CLONE_TARGET", "LN_TARGET", "TM_MAD", "ALLOW_ORPHANS"):
            disk[name] = store.template.get(name)
        if modern:
            disk.update(DRIVER=self.format, FORMAT=self.format, PERSISTENT_SNAPSHOTS="YES")
        return disk
