"""The calls on images."""

from __future__ import annotations

from econed.opennebula.states import DatastoreType, ImageState
from econed.sandbox.calls.declaration import serves
from econed.sandbox.cloud import Cloud
from econed.sandbox.image_manager import ImageManager
from econed.sandbox.objects.base import Kind, Right
from econed.sandbox.objects.images import DUMMY_SIZE, Image, ImageType
from econed.sandbox.objects.infrastructure import Datastore
from econed.sandbox.objects.pools import page
from econed.sandbox.objects.users import User
from econed.sandbox.quotas import Charge
from econed.sandbox.refusals import Refused, internal, not_allocated, unauthorized, wrong_state
from econed.sandbox.template import Template, restricted_attributes

_RESTRICTED = restricted_attributes("SOURCE")
_TRUE = ("YES", "TRUE")
_OWN_ELEMENTS = ("NAME", "TYPE", "PATH", "SIZE", "SOURCE", "PERSISTENT", "FORMAT", "DRIVER", "DISK_TYPE")


class ImageCalls:
    """`one.image.*`, `one.imagepool.info`. Names are unique per owner."""

    def __init__(self, cloud: Cloud, manager: ImageManager) -> None:
        self._cloud = cloud
        self._manager = manager

    @serves("one.image.allocate", str, int, optional=(bool,))
    def allocate(self, caller: User, text: str, datastore_id: int, _check_capacity: bool = True) -> int:
        """Allocate an image; it is LOCKED until it has been copied."""
        cloud = self._cloud
        template = cloud.parse(text).unique()
        store = cloud.datastores.get(datastore_id)
        attribute = template.first_restricted(_RESTRICTED)
        if attribute and not caller.is_oneadmin:
            raise unauthorized(f"User [{caller.id}] : Template includes a restricted attribute {attribute}.")
        image_type = self._type(template, store)
        size = self._size(template)
        cloud.rights.check(caller, Right.CREATE, Kind.IMAGE, None)
        cloud.rights.check(caller, Right.USE, Kind.DATASTORE, store)
        stored = template.stored()
        if stored is None:
            raise not_allocated("Error allocating a new image. Error transforming the Image to XML.")
        template = stored
        charge = Charge("DATASTORE", str(datastore_id), {"IMAGES": 1, "SIZE": size})
        cloud.charge(caller, caller.gid, [charge])
        try:
            self._manager.check_name(caller.id, template.get("NAME"))
        except Refused:
            cloud.count_usage(caller.id, caller.gid, [charge], -1)
            raise
        image = self._create(caller, template.get("NAME"), template, store)
        image.type, image.size = image_type, size
        self._manager.register(image)
        return image.id

    def _create(self, caller: User, name: str, template: Template, store: Datastore) -> Image:
        is_v7 = self._cloud.version.is_v7
        image = Image(
            self._cloud.images.allocate_id(), caller.id, caller.gid, caller.name, caller.gname, name, template=template
        )
        image.datastore_id, image.datastore_name = store.id, store.name
        image.is_persistent = template.get("PERSISTENT").upper() in _TRUE
        image.path = template.get("PATH")
        image.source = template.get("SOURCE")
        if is_v7:
            image.file_system = template.get("FS")
            template.pop("FS")
            image.format = template.get("FORMAT") or template.get("DRIVER") or ("" if image.path else "raw")
        else:
            image.fstype = template.get("FSTYPE") or ("" if image.path else "raw")
            template.pop("FSTYPE")
        for element in _OWN_ELEMENTS:
            template.pop(element)
        template.replace("DEV_PREFIX", template.get("DEV_PREFIX", "sd"))
        return image

    def _type(self, template: Template, store: Datastore) -> ImageType:
        label = template.get("TYPE", "OS").upper()
        if label not in ImageType.__members__:
            raise not_allocated(f"Error allocating a new image. Unknown type {label} in the template.")
        image_type = ImageType[label]
        if store.type is DatastoreType.SYSTEM_DS:
            raise not_allocated("New images cannot be allocated in a system datastore.")
        if (store.type is DatastoreType.FILE_DS) != (image_type >= ImageType.KERNEL):
            raise not_allocated(f"Images of type {label} cannot be registered in this datastore.")
        return image_type

    @staticmethod
    def _size(template: Template) -> int:
        if template.get("PATH"):
            return DUMMY_SIZE
        size = template.get("SIZE")
        if not size.isdigit() or int(size) < 1:
            raise internal("Cannot parse image SIZE: Wrong number or missing SIZE attribute.")
        return int(size)

    @serves("one.image.info", int, optional=(bool,))
    def info(self, caller: User, image_id: int, _decrypt: bool = False) -> str:
        """Return the document of an image."""
        image = self._cloud.get_authorized(caller, Right.USE, self._cloud.images, image_id, locks=False)
        return image.xml(is_v7=self._cloud.version.is_v7)

    @serves("one.imagepool.info", int, int, int)
    def pool(self, caller: User, owner: int, start: int, end: int) -> str:
        """Return the document of the images that the caller may use."""
        is_v7 = self._cloud.version.is_v7
        images = self._cloud.visible(caller, self._cloud.images.newest_first(), Kind.IMAGE, owner)
        elements = "".join(image.xml(is_v7=is_v7) for image in page(images, start, end))
        return f"<IMAGE_POOL>{elements}</IMAGE_POOL>"

    def _managed(self, caller: User, image_id: int, right: Right = Right.MANAGE) -> Image:
        return self._cloud.get_authorized(caller, right, self._cloud.images, image_id)

    @serves("one.image.update", int, str, optional=(int,))
    def update(self, caller: User, image_id: int, text: str, append: int = 0) -> int:
        """Replace an image's attributes (0), or merge into them (1)."""
        image = self._managed(caller, image_id)
        image.template = self._cloud.updated_template(caller, image.template, text, append, _RESTRICTED, unique=True)
        image.modified = self._cloud.now()
        return image_id

    @serves("one.image.clone", int, str, optional=(int,))
    def clone(self, caller: User, image_id: int, name: str, datastore_id: int = -1) -> int:
        """Copy an image, with all its attributes, to an image of the caller."""
        cloud = self._cloud
        source = self._managed(caller, image_id, Right.USE)
        store = cloud.datastores.get(source.datastore_id if datastore_id < 0 else datastore_id)
        if source.type >= ImageType.KERNEL:
            raise internal("KERNEL, RAMDISK and CONTEXT cannot be cloned.")
        if store.type is not DatastoreType.IMAGE_DS:
            raise wrong_state("Clone only supported for IMAGE_DS Datastores")
        cloud.rights.check(caller, Right.CREATE, Kind.IMAGE, None)
        cloud.rights.check(caller, Right.USE, Kind.DATASTORE, store)
        self._manager.check_name(caller.id, name)
        charge = Charge("DATASTORE", str(store.id), {"IMAGES": 1, "SIZE": source.size})
        cloud.charge(caller, caller.gid, [charge])
        clone = self._create(caller, name, source.template.copy(), store)
        clone.type, clone.size, clone.path = source.type, source.size, source.source
        clone.is_persistent, clone.format, clone.fstype = source.is_persistent, source.format, ""
        try:
            self._manager.clone(source, clone)
        except Refused:
            cloud.count_usage(caller.id, caller.gid, [charge], -1)
            raise
        return clone.id

    @serves("one.image.delete", int, optional=(bool,))
    def delete(self, caller: User, image_id: int, _force: bool = False) -> int:
        """Delete an image."""
        self._manager.delete(self._managed(caller, image_id))
        return image_id

    @serves("one.image.enable", int, bool)
    def enable(self, caller: User, image_id: int, enable: bool) -> int:
        """Enable or disable an image that is not in use."""
        image = self._managed(caller, image_id)
        image.check_idle("enable image" if enable else "disable image")
        image.set_state(ImageState.READY if enable else ImageState.DISABLED)
        return image_id

    @serves("one.image.persistent", int, bool)
    def persistent(self, caller: User, image_id: int, is_persistent: bool) -> int:
        """Make an image that is not in use persistent or non-persistent."""
        image = self._managed(caller, image_id)
        image.check_idle("make image persistent" if is_persistent else "make image nonpersistent")
        image.is_persistent = is_persistent
        return image_id

    @serves("one.image.chtype", int, str)
    def chtype(self, caller: User, image_id: int, label: str) -> int:
        """Change an image's type to OS, CDROM or DATABLOCK."""
        image = self._managed(caller, image_id)
        if label.upper() not in ("OS", "CDROM", "DATABLOCK"):
            raise internal(f"Could not change the type of the image: unknown type {label}")
        image.type = ImageType[label.upper()]
        return image_id

    @serves("one.image.snapshotdelete", int, int)
    def delete_snapshot(self, caller: User, image_id: int, _snapshot_id: int) -> int:
        """Delete a snapshot of an image; images in the sandbox have none."""
        self._managed(caller, image_id)
        raise wrong_state("Snapshot does not exist")
