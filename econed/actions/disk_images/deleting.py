"""Deleting the image of a volume or a snapshot, of which a copy may be being made.

EC2 deletes at once what it has a snapshot or a volume of under way; oned refuses to delete an image that it copies. So
the image is marked (TO_DELETE): it is gone for everybody from then on, and the chore removes it when oned lets it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from econed.actions.disk_images.volume_facts import TO_DELETE, is_being_copied
from econed.actions.watch import watch_caller
from econed.errors import OpenNebulaCode, OpenNebulaRefusal
from econed.opennebula.states import ImageState
from econed.opennebula.template import attribute, removal

if TYPE_CHECKING:
    from econed.actions.call import Call
    from econed.opennebula.documents import Image

_COPIED = frozenset({ImageState.READY, ImageState.USED, ImageState.CLONE})
"""Being copied, or a moment ago."""


async def delete_image(call: Call, image: Image) -> bool:
    """Delete an image, now or as soon as oned has copied it; False, and it stays as it is, if a machine uses it.

    Another user's image, which the reconciler would not look for in the caller's name, is deleted now or not at all.
    """
    is_own = image.uid == call.caller.id
    marked = is_own and is_being_copied(image)
    if marked:
        await _mark(call, image)
    while True:
        try:
            await call.session.image_delete(image.id)
        except OpenNebulaRefusal as refusal:
            if refusal.code == OpenNebulaCode.NO_EXISTS:
                return True
            if refusal.code != OpenNebulaCode.ACTION:
                raise
            image = await call.session.image(image.id)
            if image.vm_ids:
                if marked:
                    await call.session.image_update(image.id, removal(TO_DELETE))
                return False
            if marked or image.state is ImageState.DELETE:
                return True
            if not is_own or image.state not in _COPIED:
                raise
            marked = True
            await _mark(call, image)
        else:
            return True


async def _mark(call: Call, image: Image) -> None:
    await watch_caller(call)
    await call.session.image_update(image.id, attribute(TO_DELETE, "YES"))
