"""Finding AMIs by their ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from econed.actions.by_id import find_by_ids
from econed.actions.disk_images.lookup import images_by_id
from econed.actions.images.view import is_ami
from econed.ids import IMAGE

if TYPE_CHECKING:
    from econed.actions.call import Call
    from econed.opennebula.documents import Image


async def amis_by_id(call: Call, image_ids: Sequence[str]) -> tuple[Image, ...]:
    """Return the AMIs with these ids, in this order and each once.

    Raises `EC2Error` InvalidAMIID.Malformed, or InvalidAMIID.NotFound if one does not exist, is no AMI, or may not be
    seen by the caller.
    """

    async def read(image_ids: Sequence[int]) -> list[Image]:
        return [image for image in await images_by_id(call, image_ids) if is_ami(image)]

    return await find_by_ids(IMAGE, image_ids, read)
