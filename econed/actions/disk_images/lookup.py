"""Finding the OpenNebula images that the caller may use, by id or in sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING

from econed.actions.call import gather
from econed.actions.listing import set_of
from econed.opennebula.pools import OwnerFilter
from econed.opennebula.read_session import SET_SIZE

if TYPE_CHECKING:
    from econed.actions.call import Call
    from econed.actions.sets import Sets
    from econed.opennebula.documents import Image


_MAX_SINGLE_READS = 8
"""Number of images up to which each is read by its own call; more are read from the pool."""


async def matching_images(
    call: Call, matches: Callable[[Image], bool], owner: int = OwnerFilter.VISIBLE
) -> Sets[Image]:
    """Yield functions that each read a few hundred of the visible images that match, lowest id first."""
    ids, images = await matching_ids(call, matches, owner)
    async with aclosing(set_of(images) if images else image_sets(call, ids, owner)) as sets:
        async for read in sets:
            yield read


async def matching_ids(
    call: Call, matches: Callable[[Image], bool], owner: int = OwnerFilter.VISIBLE
) -> tuple[list[int], list[Image]]:
    """Return the ids of the images that match, lowest first, and the images themselves if they fit in one set.

    The whole pool is read to find them. The documents of more than one set are not kept in memory: `image_sets` reads
    them again.
    """
    images = await call.budget.filtered(await call.session.images(owner), matches)
    images.sort(key=lambda image: image.id)
    return [image.id for image in images], images if len(images) <= SET_SIZE else []


async def image_sets(call: Call, ids: Sequence[int], owner: int = OwnerFilter.VISIBLE) -> Sets[Image]:
    """Yield functions that each read a few hundred of the images with these OpenNebula ids; `ids` are sorted."""
    for start in range(0, len(ids), SET_SIZE):
        yield partial(_read_images, call, owner, ids[start : start + SET_SIZE])


async def _read_images(call: Call, owner: int, ids: Sequence[int]) -> list[Image]:
    requested = frozenset(ids)
    return await call.budget.filtered(
        await call.session.images(owner, ids[0], ids[-1]), lambda image: image.id in requested
    )


async def images_by_id(call: Call, image_ids: Sequence[int]) -> tuple[Image, ...]:
    """Return the images with these OpenNebula ids that the caller may see, AMIs or not, each once.

    A few are read one by one, more with one read of all between the lowest and the highest id.
    """
    unique_ids = dict.fromkeys(image_ids)
    if len(unique_ids) > _MAX_SINGLE_READS:
        pool = await call.session.images(OwnerFilter.VISIBLE, min(unique_ids), max(unique_ids))
        by_id = {image.id: image for image in await call.budget.filtered(pool, lambda image: image.id in unique_ids)}
        return tuple(by_id[image_id] for image_id in unique_ids if image_id in by_id)
    images = await gather(visible_image(call, image_id) for image_id in unique_ids)
    return tuple(image for image in images if image is not None)


async def visible_image(call: Call, image_id: int) -> Image | None:
    """Return the image with this OpenNebula id, or None if it does not exist or the caller may not see it.

    It is read from the pool, whose documents oned has ready. one.image.info builds the document, which lists all
    machines that use the image: 12 ms for 5,000 machines.
    """
    images = await call.session.images(OwnerFilter.VISIBLE, image_id, image_id)
    return images[0] if images else None
