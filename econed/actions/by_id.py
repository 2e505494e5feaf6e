"""Finding what a request names by EC2 ids: all of it, or EC2's error for what is not there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from econed.ids import Kind
from econed.opennebula.documents import OwnedView

_T = TypeVar("_T", bound=OwnedView)


async def find_by_ids(
    kind: Kind, texts: Sequence[str], read: Callable[[Sequence[int]], Awaitable[Iterable[_T]]]
) -> tuple[_T, ...]:
    """Return the objects with these ids, in this order and each once.

    `read` gives those of some OpenNebula ids that there are for the caller. Raises `EC2Error` Invalid….Malformed before
    anything is read, or .NotFound, which names all that are missing.
    """
    numbers = {text: kind.opennebula_id(text) for text in texts}
    wanted = [number for number in dict.fromkeys(numbers.values()) if number is not None]
    found = {each.id: each for each in await read(wanted)} if wanted else {}
    missing = [text for text, number in numbers.items() if number not in found]
    if missing:
        raise kind.not_found(*missing)
    return tuple(found[number] for number in wanted)
