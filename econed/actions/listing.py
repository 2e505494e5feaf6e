"""Long lists, read and sent set by set, so that no documents are in memory while a request waits for its client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from econed.actions.paging import Paging, Position
from econed.actions.sets import Read, Sets
from econed.actions.tasks import TaskGroup

if TYPE_CHECKING:
    from econed.actions.action import Parts

_D = TypeVar("_D")
_T = TypeVar("_T")


class Merger(Protocol[_T]):
    """Merges items of a list that belong together, such as the instances of a reservation."""

    def add(self, items: list[_T]) -> list[_T]:
        """Add items, and return those that are complete."""

    def remaining(self) -> list[_T]:
        """Return the remaining items, at the end of the list."""


async def in_parts(
    member: str,
    sets: Sets[_D],
    view: Callable[[_D], Awaitable[_T | None]],
    page: Page[_D],
    merger: Merger[_T] | None = None,
) -> Parts[Any]:
    """Yield a result in parts: the list `member` up to the end of the page, and NextToken if there is more to read.

    `view` returns the item for a document, None if it is not listed.
    """
    async with aclosing(sets):
        async for read in sets:
            items = await page.items(read, view)
            yield {member: _drain(items if merger is None else merger.add(_drain(items)))}
            if page.is_truncated:
                break
    yield {member: [] if merger is None else merger.remaining(), **page.next_token()}


async def with_first_set(sets: Sets[_D], read_more: Callable[[], Coroutine[Any, Any, None]]) -> Sets[_D]:
    """Yield the readers of `sets`; `read_more` runs at the same time as the first."""
    async with aclosing(sets):
        is_first = True
        async for read in sets:
            yield partial(_read_with, read, read_more) if is_first else read
            is_first = False


async def _read_with(read: Read[_D], read_more: Callable[[], Coroutine[Any, Any, None]]) -> Iterable[_D]:
    async with TaskGroup() as tasks:
        documents = tasks.start(read())
        tasks.start(read_more())
    return documents.result


async def single_set(read: Read[_D]) -> Sets[_D]:
    """Yield the only set."""
    yield read


def set_of(documents: list[_D]) -> Sets[_D]:
    """Return documents that were read before as a single set, which releases them when it is read."""

    async def read() -> list[_D]:
        return _drain(documents)

    return single_set(read)


class Page(Generic[_D]):
    """A page of a list while it is read: its items so far, and the position of the last.

    The documents of a set are ordered by `position`, and all come before those of the next set. Without `paging` the
    page is the whole list, in the order in which it is read.
    """

    def __init__(self, position: Callable[[_D], Position], paging: Paging | None = None) -> None:
        self._position = position
        self._paging = paging
        self._count = 0
        self._end: Position = ()
        self.is_truncated = False

    async def items(self, read: Read[_D], view: Callable[[_D], Awaitable[_T | None]]) -> list[_T]:
        """Read a set and return the views of its documents. Only this frame holds the documents.

        Each is released when it has been viewed, with all that its view has read of it.
        """
        items: list[_T] = []
        unviewed = list(self._ordered(await read()))[::-1]
        while unviewed:
            if self._paging is not None and self._count == self._paging.limit:
                self.is_truncated = True
                break
            document = unviewed.pop()
            self._end = self._position(document)
            if (item := await view(document)) is not None:
                items.append(item)
                self._count += 1
        return items

    def next_token(self) -> dict[str, Any]:
        """Return the NextToken member of the result, empty if the list is not truncated."""
        return {"NextToken": self._paging.token(self._end)} if self._paging is not None and self.is_truncated else {}

    def _ordered(self, documents: Iterable[_D]) -> Iterable[_D]:
        return documents if self._paging is None else self._paging.remaining(documents, self._position)


def _drain(items: list[_T]) -> list[_T]:
    """Return the items of a list and clear it, so that a frame that is suspended holds none of them."""
    drained = items[:]
    items.clear()
    return drained
