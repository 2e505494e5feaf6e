"""What oned's image manager does: copies images, deletes them, and notifies the machines that wait for them."""

from __future__ import annotations

from functools import partial

from econed.opennebula.states import ImageState
from econed.sandbox.cloud import Cloud
from econed.sandbox.objects.images import Image
from econed.sandbox.refusals import not_allocated, wrong_state

_DUMMY_SOURCE, _DUMMY_FORMAT = "dummy_path", "dummy_format"


class ImageManager:
    """What oned's image manager does by itself: copying, deleting, and telling who waits for an image."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self.fail_next = False

    def register(self, image: Image, *, then: bool = False) -> None:
        """Put a new image into its pool; it is copied a moment later (`then` the caller finishes it)."""
        cloud = self._cloud
        store = cloud.datastores.get(image.datastore)
        image.registered = image.modified = cloud.now()
        cloud.images.put(image)
        store.images.add(image.id)
        if not then:
            failing, self.fail_next = self.fail_next, False
            cloud.later(cloud.delays.image, partial(self.copied, image, failed=failing))

    def copied(self, image: Image, *, failed: bool = False) -> None:
        """Let an image that was LOCKED be ready, or in error, and the machines that wait for it go on."""
        if not image.state.is_being_written:
            return
        source = self._cloud.images.find(image.cloning_from)
        if source is not None:
            source.clones.discard(image.id)
            source.settle()
        image.cloning_from = -1
        image.source = image.source or _DUMMY_SOURCE
        image.format = image.format or _DUMMY_FORMAT
        if failed:
            image.enter(ImageState.ERROR)
            image.template.replace("ERROR", "Error copying image in the datastore: Error copying")
        else:
            image.settle()
        for number in sorted(image.vms):
            machine = self._cloud.vms.find(number)
            if machine is not None:
                machine.image_copied()

    def clone(self, source: Image, copy: Image) -> None:
        """Copy `source` to the new image `copy`, and be USED meanwhile."""
        if source.state not in (ImageState.READY, ImageState.USED, ImageState.CLONE):
            raise not_allocated(f"Error allocating a new image. Cannot clone image in state: {source.state.name}")
        source.clones.add(copy.id)
        copy.cloning_from = source.id
        self.register(copy)
        source.settle()

    def delete(self, image: Image) -> None:
        """Remove an image that nobody uses; it is gone a moment later."""
        if image.vms:
            raise wrong_state(f"Cannot delete image. There are {len(image.vms)} VMs using it.")
        if image.clones:
            raise wrong_state(f"Cannot delete image. There are {len(image.clones)} active clone operations.")
        if image.state is ImageState.DELETE:
            raise wrong_state("Cannot delete image. The image is being deleted.")
        image.enter(ImageState.DELETE)
        self._cloud.later(self._cloud.delays.removal, partial(self._removed, image))

    def _removed(self, image: Image) -> None:
        self._cloud.images.drop(image)
        self._cloud.datastores.get(image.datastore).images.discard(image.id)
        self._cloud.count(image.uid, image.gid, [image.charge()], -1)


def taken_name(cloud: Cloud, uid: int, name: str) -> Image | None:
    """Return the image by which an owner has already used a name."""
    return next((image for image in cloud.images if image.uid == uid and image.name == name), None)
