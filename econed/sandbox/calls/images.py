"""The calls on images."""

from __future__ import annotations

from econed.opennebula.states import ImageState
from econed.sandbox.calls.declaration import serves
from econed.sandbox.cloud import Cloud
from econed.sandbox.image_manager import ImageManager, taken_name
from econed.sandbox.objects.base import Kind, Right, check_name, demand_name
from econed.sandbox.objects.images import DUMMY_SIZE, Image, ImageType
from econed.sandbox.objects.infrastructure import FILE_DS, IMAGE_DS, SYSTEM_DS, Datastore
from econed.sandbox.objects.pools import page
from econed.sandbox.objects.users import User
from econed.sandbox.quotas import Charge
from econed.sandbox.refusals import internal, not_allocated, unauthorized, wrong_state
from econed.sandbox.template import Template, restricted_attributes

RESTRICTED = restricted_attributes("SOURCE")
_TRUE = ("YES", "TRUE")
_OWN_ELEMENTS = ("NAME", "TYPE", "PATH", "SIZE", "SOURCE", "PERSISTENT", "FORMAT", "DRIVER", "DISK_TYPE")


class ImageCalls:
    """`one.image.*`, `one.imagepool.info`. Names are unique per owner."""

    def __init__(self, cloud: Cloud, manager: ImageManager) -> None:
        self._cloud = cloud
        self._manager = manager

    @serves("one.image.allocate", str, int, optional=(bool,))
    def allocate(self, caller: User, text: str, store_id: int, _check_capacity: bool = True) -> int:
        """Make an image; it is LOCKED until it has been copied."""
        cloud = self._cloud
        template = cloud.read(text).unique()
        store = cloud.datastores.get(store_id)
        if not caller.is_oneadmin and template.restricted(RESTRICTED):
            name = template.restricted(RESTRICTED)
            raise unauthorized(f"User [{caller.id}] : Template includes a restricted attribute {name}.")
        kind = self._type(template, store)
        size = self._size(template)
        cloud.rights.demand(caller, Right.CREATE, Kind.IMAGE, None)
        cloud.rights.demand(caller, Right.USE, Kind.DATASTORE, store)
        stored = template.stored()
        if stored is None:
            raise not_allocated("Error allocating a new image. Error transforming the Image to XML.")
        template = stored
        charge = Charge("DATASTORE", str(store_id), {"IMAGES": 1, "SIZE": size})
        cloud.charge(caller, caller.gid, [charge])
        try:
            name = self._free_name(caller.id, template.get("NAME"))
        except Exception:
            cloud.count(caller.id, caller.gid, [charge], -1)
            raise
        image = self._new(caller, name, template, store)
        image.type, image.size = kind, size
        self._manager.register(image)
        return image.id

    def _new(self, caller: User, name: str, template: Template, store: Datastore) -> Image:
        modern = self._cloud.version.modern
        image = Image(
            self._cloud.images.take_id(), caller.id, caller.gid, caller.name, caller.gname, name, template=template
        )
        image.datastore, image.datastore_name = store.id, store.name
        image.persistent = template.get("PERSISTENT").upper() in _TRUE
        image.path = template.get("PATH")
        image.source = template.get("SOURCE")
        if modern:
            image.file_system = template.get("FS")
            template.pop("FS")
            image.format = template.get("FORMAT") or template.get("DRIVER") or ("" if image.path else "raw")
        else:
            image.fstype = template.get("FSTYPE")
            template.pop("FSTYPE")
        for own in _OWN_ELEMENTS:
            template.pop(own)
        template.replace("DEV_PREFIX", template.get("DEV_PREFIX", "sd"))
        return image

    def _type(self, template: Template, store: Datastore) -> ImageType:
        label = template.get("TYPE", "OS").upper()
        if label not in ImageType.__members__:
            raise not_allocated(f"Error allocating a new image. Unknown type {label} in the template.")
        kind = ImageType[label]
        if store.type == SYSTEM_DS:
            raise not_allocated("New images cannot be allocated in a system datastore.")
        if (store.type == FILE_DS) != (kind >= ImageType.KERNEL):
            raise not_allocated(f"Images of type {label} cannot be registered in this datastore.")
        return kind

    @staticmethod
    def _size(template: Template) -> int:
        if template.get("PATH"):
            return DUMMY_SIZE
        size = template.get("SIZE")
        if not size.isdigit() or int(size) < 1:
            raise internal("Cannot parse image SIZE: Wrong number or missing SIZE attribute.")
        return int(size)

    def _free_name(self, uid: int, name: str) -> str:
        taken = taken_name(self._cloud, uid, name)
        reason = f"NAME is already taken by IMAGE {taken.id}." if taken else check_name(name)
        if reason:
            raise not_allocated(f"Error allocating a new image. {reason}")
        return name

    @serves("one.image.info", int, optional=(bool,))
    def info(self, caller: User, number: int, _decrypt: bool = False) -> str:
        """Show an image."""
        image = self._cloud.demand(caller, Right.USE, self._cloud.images, number, locks=False)
        return image.xml(modern=self._cloud.version.modern)

    @serves("one.imagepool.info", int, int, int)
    def pool(self, caller: User, flag: int, start: int, end: int) -> str:
        """Show images."""
        modern = self._cloud.version.modern
        images = self._cloud.visible(caller, self._cloud.images.newest_first(), Kind.IMAGE, flag)
        return f"<IMAGE_POOL>{''.join(image.xml(modern=modern) for image in page(images, start, end))}</IMAGE_POOL>"

    def _managed(self, caller: User, number: int, right: Right = Right.MANAGE) -> Image:
        return self._cloud.demand(caller, right, self._cloud.images, number)

    @serves("one.image.update", int, str, optional=(int,))
    def update(self, caller: User, number: int, text: str, append: int = 0) -> int:
        """Replace an image's attributes (0), or merge into them (1)."""
        image = self._managed(caller, number)
        image.template = self._cloud.updated(caller, image.template, text, append, RESTRICTED, unique=True)
        image.modified = self._cloud.now()
        return number

    @serves("one.image.clone", int, str, optional=(int,))
    def clone(self, caller: User, number: int, name: str, store_id: int = -1) -> int:
        """Copy an image with all its attributes, for the caller."""
        cloud = self._cloud
        source = self._managed(caller, number, Right.USE)
        store = cloud.datastores.get(source.datastore if store_id < 0 else store_id)
        if source.type >= ImageType.KERNEL:
            raise internal("KERNEL, RAMDISK and CONTEXT cannot be cloned.")
        if store.type != IMAGE_DS:
            raise wrong_state("Clone only supported for IMAGE_DS Datastores")
        cloud.rights.demand(caller, Right.CREATE, Kind.IMAGE, None)
        cloud.rights.demand(caller, Right.USE, Kind.DATASTORE, store)
        self._free_name(caller.id, name)
        charge = Charge("DATASTORE", str(store.id), {"IMAGES": 1, "SIZE": source.size})
        cloud.charge(caller, caller.gid, [charge])
        copy = self._new(caller, name, source.template.copy(), store)
        copy.type, copy.size, copy.path = source.type, source.size, source.source
        copy.persistent, copy.format, copy.fstype = source.persistent, source.format, ""
        try:
            self._manager.clone(source, copy)
        except Exception:
            cloud.count(caller.id, caller.gid, [charge], -1)
            raise
        return copy.id

    @serves("one.image.delete", int, optional=(bool,))
    def delete(self, caller: User, number: int, _force: bool = False) -> int:
        """Remove an image."""
        self._manager.delete(self._managed(caller, number))
        return number

    @serves("one.image.enable", int, bool)
    def enable(self, caller: User, number: int, enable: bool) -> int:
        """Enable or disable an image that is not in use."""
        image = self._managed(caller, number)
        image.demand_idle("enable image" if enable else "disable image")
        image.enter(ImageState.READY if enable else ImageState.DISABLED)
        return number

    @serves("one.image.persistent", int, bool)
    def persistent(self, caller: User, number: int, persistent: bool) -> int:
        """Make an image that is not in use persistent, or not."""
        image = self._managed(caller, number)
        image.demand_idle("make image persistent" if persistent else "make image nonpersistent")
        image.persistent = persistent
        return number

    @serves("one.image.rename", int, str)
    def rename(self, caller: User, number: int, name: str) -> int:
        """Rename an image."""
        image = self._managed(caller, number)
        taken = taken_name(self._cloud, image.uid, name)
        if taken and taken is not image:
            raise internal(f"NAME is already taken by IMAGE {taken.id}.")
        image.name = demand_name(name)
        return number

    @serves("one.image.chtype", int, str)
    def chtype(self, caller: User, number: int, label: str) -> int:
        """Change an image's type, among OS, CDROM and DATABLOCK."""
        image = self._managed(caller, number)
        if label.upper() not in ("OS", "CDROM", "DATABLOCK"):
            raise internal(f"Could not change the type of the image: unknown type {label}")
        image.type = ImageType[label.upper()]
        return number
