"""Deleting the image of a volume or a snapshot, which oned may be copying.

EC2 deletes a volume or a snapshot immediately, even while a copy of it is being made; oned refuses to delete an image
while it copies it. Such an image is therefore marked (TO_DELETE): econed no longer shows it to anybody, and the chore
deletes it as soon as oned allows it.
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

_STATES_DURING_COPY = frozenset({ImageState.READY, ImageState.USED, ImageState.CLONE})
"""States of an image that is being copied, or was when oned refused to delete it."""


async def delete_image(call: Call, image: Image) -> bool:
    """Delete an image, now or as soon as oned has copied it; return False and leave it unchanged if a machine uses it.

    Another user's image is deleted now or not at all: the reconciler looks only for images that the caller owns.
    """
    is_own = image.uid == call.caller.id
    is_marked = is_own and is_being_copied(image)
    if is_marked:
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
                if is_marked:
                    await call.session.image_update(image.id, removal(TO_DELETE))
                return False
            if is_marked or image.state is ImageState.DELETE:
                return True
            if not is_own or image.state not in _STATES_DURING_COPY:
                raise
            is_marked = True
            await _mark(call, image)
        else:
            return True


async def _mark(call: Call, image: Image) -> None:
    await watch_caller(call)
    await call.session.image_update(image.id, attribute(TO_DELETE, "YES"))
