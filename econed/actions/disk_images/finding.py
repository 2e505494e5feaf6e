"""OpenNebula's images as far as the caller may use them, by id or in sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING

from econed.actions.call import gather
from econed.actions.listing import set_of
from econed.errors import OpenNebulaCode, OpenNebulaRefusal
from econed.opennebula.pools import OwnerFilter
from econed.opennebula.read_session import SET_SIZE

if TYPE_CHECKING:
    from econed.actions.call import Call
    from econed.actions.listing import Sets
    from econed.opennebula.documents import Image


_READ_ONE_BY_ONE = 8


_OUT_OF_SIGHT = frozenset({OpenNebulaCode.NO_EXISTS, OpenNebulaCode.AUTHORIZATION})


async def matching_images(
    call: Call, is_meant: Callable[[Image], bool], owner: int = OwnerFilter.VISIBLE
) -> Sets[Image]:
    """Yield what reads those of the caller's images that are meant, lowest id first, in sets of a few hundred."""
    ids, few = await matching_ids(call, is_meant, owner)
    async with aclosing(set_of(few) if few else image_sets(call, ids, owner)) as sets:
        async for read in sets:
            yield read


async def matching_ids(
    call: Call, is_meant: Callable[[Image], bool], owner: int = OwnerFilter.VISIBLE
) -> tuple[list[int], list[Image]]:
    """Return the ids of the images that are meant, lowest first, and the images if they are no more than a set.

    The pool is read whole to know which they are. Of more the documents are not kept: `image_sets` reads them again.
    """
    found = await call.budget.filtered(await call.session.images(owner), is_meant)
    found.sort(key=lambda image: image.id)
    return [image.id for image in found], found if len(found) <= SET_SIZE else []


async def image_sets(call: Call, ids: Sequence[int], owner: int = OwnerFilter.VISIBLE) -> Sets[Image]:
    """Yield what reads the images with these OpenNebula ids, lowest first, in sets of a few hundred."""
    for start in range(0, len(ids), SET_SIZE):
        yield partial(_between, call, owner, ids[start : start + SET_SIZE])


async def _between(call: Call, owner: int, ids: Sequence[int]) -> list[Image]:
    wanted = frozenset(ids)
    return await call.budget.filtered(
        await call.session.images(owner, ids[0], ids[-1]), lambda image: image.id in wanted
    )


async def images_by_id(call: Call, numbers: Sequence[int]) -> tuple[Image, ...]:
    """Return the images with these OpenNebula ids that the caller may see, AMIs or not, each once.

    A few are read one by one, more by one reading of the pool: both show what the caller may use.
    """
    wanted = dict.fromkeys(numbers)
    if len(wanted) > _READ_ONE_BY_ONE:
        between = await call.session.images(OwnerFilter.VISIBLE, min(wanted), max(wanted))
        pool = {image.id: image for image in await call.budget.filtered(between, lambda image: image.id in wanted)}
        return tuple(pool[number] for number in wanted if number in pool)
    found = await gather(visible_image(call, number) for number in wanted)
    return tuple(image for image in found if image is not None)


async def visible_image(call: Call, image_id: int) -> Image | None:
    """Return the image with this OpenNebula id; None where there is none that the caller may see."""
    try:
        return await call.session.image(image_id)
    except OpenNebulaRefusal as refusal:
        if refusal.code in _OUT_OF_SIGHT:
            return None
        raise
