"""Long lists, read and shown set by set, so that while somebody is waited for no documents are in memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, TypeVar

from econed.actions.paging import Paging, Position

if TYPE_CHECKING:
    from econed.actions.action import Parts

_D = TypeVar("_D")
_T = TypeVar("_T")

Read: TypeAlias = Callable[[], Awaitable[Iterable[_D]]]
"""Reads the next set of documents when it is called, which is once. It holds none itself before or after that."""

Sets: TypeAlias = AsyncGenerator[Read[_D], None]


class Arrangement(Protocol[_T]):
    """What items of a list go through before they are shown, as where some belong together."""

    def of(self, items: list[_T]) -> list[_T]:
        """Return what is to be shown now, when these items have come."""

    def rest(self) -> list[_T]:
        """Return what has been kept back, at the end of the list."""


async def in_parts(
    member: str,
    sets: Sets[_D],
    shown: Callable[[_D], Awaitable[_T | None]],
    page: Page[_D],
    arrangement: Arrangement[_T] | None = None,
) -> Parts[Any]:
    """Yield a result in parts: a list, `member`, up to the page's end, and NextToken if more is left to look at.

    `shown` returns what the client gets to see of a document, None for one that is not shown.
    """
    async with aclosing(sets):
        async for read in sets:
            items = await page.items(read, shown)
            yield {member: _taken(items if arrangement is None else arrangement.of(_taken(items)))}
            if page.is_cut:
                break
    yield {member: [] if arrangement is None else arrangement.rest(), **page.next_token()}


async def single_set(read: Read[_D]) -> Sets[_D]:
    """Yield what reads the only set."""
    yield read


def set_of(documents: list[_D]) -> Sets[_D]:
    """Return one set of documents that are there already; nothing of them is kept when they are read."""

    async def read() -> list[_D]:
        return _taken(documents)

    return single_set(read)


class Page(Generic[_D]):
    """A page of a list while it is read: what is in it, how much was shown, and up to where.

    Documents of a set come in the order of `position`; those of one set stand before those of the next. Without
    `paging` it is the whole list, as it comes.
    """

    def __init__(self, position: Callable[[_D], Position], paging: Paging | None = None) -> None:
        self._position = position
        self._paging = paging
        self._count = 0
        self._last: Position = ()
        self.is_cut = False

    async def items(self, read: Read[_D], shown: Callable[[_D], Awaitable[_T | None]]) -> list[_T]:
        """Read a set and return what is shown of it. The documents are held by this frame alone."""
        items: list[_T] = []
        for document in self._ordered(await read()):
            if self._paging is not None and self._count == self._paging.limit:
                self.is_cut = True
                break
            self._last = self._position(document)
            if (item := await shown(document)) is not None:
                items.append(item)
                self._count += 1
        return items

    def next_token(self) -> dict[str, Any]:
        """Return the NextToken member of the result, if there is to be one."""
        return {"NextToken": self._paging.token(self._last)} if self._paging is not None and self.is_cut else {}

    def _ordered(self, documents: Iterable[_D]) -> Iterable[_D]:
        return documents if self._paging is None else self._paging.rest(documents, self._position)


def _taken(items: list[_T]) -> list[_T]:
    """Return a list's items and leave it empty: whoever holds it while a reader is waited for holds nothing."""
    taken = items[:]
    items.clear()
    return taken
