"""What the lists of VPCs, of their parts and of subnets have in common: ids, filters and pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from econed.actions.paging import Listing, NextToken, Paging

if TYPE_CHECKING:
    from econed.actions.filters import Selection
    from econed.ids import Kind

_D = TypeVar("_D")
_T = TypeVar("_T")


@dataclass(frozen=True)
class ListRequest:
    """What a request lists: the resources with these `numbers`, by id (all, if there are none), filtered and paged."""

    kind: Kind
    numbers: Mapping[str, int | None]
    selection: Selection
    paging: Paging

    @classmethod
    def of(
        cls,
        kind: Kind,
        ids: Sequence[str],
        selection: Selection,
        max_results: int | None,
        next_token: str | None,
        *,
        maximum: int = 1000,
    ) -> ListRequest:
        """Read the parameters; raises `EC2Error` Invalid….Malformed, and the errors of `Paging.of`."""
        numbers = {text: kind.opennebula_id(text) for text in ids}
        listing = Listing(kind.prefix, (int,))
        return cls(kind, numbers, selection, Paging.of(listing, max_results, next_token, maximum=maximum, ids=ids))

    async def page(self, items: Mapping[int, _D], view: Callable[[_D], _T]) -> tuple[list[_T], NextToken]:
        """Return the requested ones of the views of all items, and the NextToken member of the result.

        `items` are by the numbers in their ids. Raises `EC2Error` Invalid….NotFound, which names all ids that are
        missing.
        """
        missing = [text for text, number in self.numbers.items() if number not in items]
        if missing:
            raise self.kind.not_found(*missing)
        requested = set(self.numbers.values())
        matching = []
        for number, item in items.items():
            if not requested or number in requested:
                item_view = view(item)
                if await self.selection.matches(item_view):
                    matching.append((number, item_view))
        page, token = self.paging.page(matching, lambda numbered: (numbered[0],))
        return [item_view for _, item_view in page], token
