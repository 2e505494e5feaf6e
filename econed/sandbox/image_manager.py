"""Copying and deleting of images, as oned's image manager and datastore drivers do it."""

from __future__ import annotations

from functools import partial

from econed.opennebula.states import ImageState
from econed.sandbox.cloud import Cloud
from econed.sandbox.objects.base import name_error
from econed.sandbox.objects.images import Image
from econed.sandbox.refusals import not_allocated, wrong_state

_DUMMY_SOURCE, _DUMMY_FORMAT = "dummy_path", "dummy_format"


class ImageManager:
    """Copies and deletes images after a delay. With `fail_next` the next copy ends in ERROR."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self.fail_next = False

    def check_name(self, uid: int, name: str) -> None:
        """Refuse (16384) an invalid name, or a name that another image of the owner has."""
        image = self._cloud.images.find_by_name(uid, name)
        reason = f"NAME is already taken by IMAGE {image.id}." if image else name_error(name)
        if reason:
            raise not_allocated(f"Error allocating a new image. {reason}")

    def add(self, image: Image) -> None:
        """Add a new image to its pool and its datastore; the caller calls `copied`."""
        image.registered = image.modified = self._cloud.now()
        self._cloud.images.add(image)
        self._cloud.datastores.get(image.datastore_id).image_ids.add(image.id)

    def register(self, image: Image) -> None:
        """Add a new image and copy its source."""
        self.add(image)
        failed, self.fail_next = self.fail_next, False
        self._cloud.call_later(self._cloud.delays.image, partial(self.copied, image, failed=failed))

    def copied(self, image: Image, *, failed: bool = False) -> None:
        """Set a LOCKED image READY, or ERROR if its copy has `failed`, and notify the machines that wait for it."""
        if not image.state.is_being_written:
            return
        source = self._cloud.images.find(image.source_id)
        if source is not None:
            source.clone_ids.discard(image.id)
            source.settle()
        image.source_id = -1
        image.source = image.source or _DUMMY_SOURCE
        image.format = image.format or _DUMMY_FORMAT
        if failed:
            image.set_state(ImageState.ERROR)
            image.template.replace("ERROR", "Error copying image in the datastore: Error copying")
        else:
            image.settle()
        for vm_id in sorted(image.vm_ids):
            machine = self._cloud.vms.find(vm_id)
            if machine is not None:
                machine.image_copied()

    def clone(self, source: Image, clone: Image) -> None:
        """Register the new image `clone` as a copy of `source`, which is in use until it has been copied."""
        if source.state not in (ImageState.READY, ImageState.USED, ImageState.CLONE):
            raise not_allocated(f"Error allocating a new image. Cannot clone image in state: {source.state.name}")
        source.clone_ids.add(clone.id)
        clone.source_id = source.id
        self.register(clone)
        source.settle()

    def delete(self, image: Image) -> None:
        """Delete an image after a delay; refuses (2048) if machines or clones use it."""
        if image.vm_ids:
            raise wrong_state(f"Cannot delete image. There are {len(image.vm_ids)} VMs using it.")
        if image.clone_ids:
            raise wrong_state(f"Cannot delete image. There are {len(image.clone_ids)} active clone operations.")
        if image.state is ImageState.DELETE:
            raise wrong_state("Cannot delete image. The image is being deleted.")
        image.set_state(ImageState.DELETE)
        self._cloud.call_later(self._cloud.delays.removal, partial(self._delete, image))

    def _delete(self, image: Image) -> None:
        self._cloud.images.remove(image)
        self._cloud.datastores.get(image.datastore_id).image_ids.discard(image.id)
        self._cloud.count_usage(image.uid, image.gid, [image.charge()], -1)
