"""Finding the objects that a request names by EC2 ids: all of them, or EC2's error for those that are missing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from econed.ids import Kind
from econed.opennebula.documents import OwnedView

_T = TypeVar("_T", bound=OwnedView)


async def find_by_ids(
    kind: Kind, texts: Sequence[str], read: Callable[[Sequence[int]], Awaitable[Iterable[_T]]]
) -> tuple[_T, ...]:
    """Return the objects with these EC2 ids, in this order and each once.

    `read` returns the objects with these OpenNebula ids that the caller may see. Raises `EC2Error` Invalid….Malformed
    before anything is read, or .NotFound, which names all that are missing.
    """
    ids = {text: kind.opennebula_id(text) for text in texts}
    possible_ids = [id_ for id_ in dict.fromkeys(ids.values()) if id_ is not None]
    by_id = {object_.id: object_ for object_ in await read(possible_ids)} if possible_ids else {}
    missing = [text for text, id_ in ids.items() if id_ not in by_id]
    if missing:
        raise kind.not_found(*missing)
    return tuple(by_id[id_] for id_ in possible_ids)
