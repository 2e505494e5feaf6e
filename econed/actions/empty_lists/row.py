"""A row of the tables of empty lists, and the action that it stands for.

Ids of what is not there are never found. Unknown parameters and filters are refused as in any other list.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from econed.actions.action import Action, Members, ResultType, keyword_of, supported_members
from econed.actions.filters import Filters, no_values, tag_filters
from econed.actions.inputs import Filter
from econed.actions.paging import Listing, Paging
from econed.ids import Kind
from econed.services import EC2

if TYPE_CHECKING:
    from econed.actions.call import Call

_OTHER_DIGITS: Final = re.compile(r"[a-z]{1,6}-[0-9a-f]{8,17}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
"""Of ids whose prefix has two parts (import-ami-…), and of those with a UUID."""

_ALL_VALUES: Final = Members(MappingProxyType({}), is_open=True)


@dataclass(frozen=True)
class EmptyList:
    """An action whose list is empty: its name, the member of its result, and what it would list.

    `filters` are Amazon's, without those on tags, which it has if its items `have_tags`. `ids` is the parameter with
    ids, and `kind` what they are ids of. `filters_in` is the parameter with the filters, if there is one. Pages have
    `max_results` items at least and at most; None: there are no pages. `narrowed_by` are other parameters that leave
    items out. If the `ids_are_of_others`, they are ids of objects that may exist, about which there is nothing.
    """

    action: str
    member: str
    noun: str
    filters: tuple[str, ...] = ()
    have_tags: bool = True
    ids: str = ""
    kind: Kind | None = None
    filters_in: str = "Filters"
    max_results: tuple[int, int] | None = (5, 1000)
    narrowed_by: tuple[str, ...] = ()
    ids_are_of_others: bool = False


def absent(prefix: str, not_found_code: str, malformed_code: str, noun: str) -> Kind:
    """Return a type of resource that does not exist here; its ids have Amazon's forms only."""
    head, _, _ = prefix.partition("-")
    return Kind(head, not_found_code, malformed_code, noun, forms=(_OTHER_DIGITS,))


def action_of(row: EmptyList) -> Action:
    """Return the action of a row."""
    known = {**dict.fromkeys(row.filters, no_values), **(tag_filters() if row.have_tags else {})}
    filters = Filters(MappingProxyType(known)) if row.filters_in else None
    listing = Listing(row.action, (int,))
    filters_keyword, ids_keyword = keyword_of(row.filters_in), keyword_of(row.ids)

    async def run(
        call: Call, *, max_results: int | None = None, next_token: str | None = None, **others: Any
    ) -> dict[str, Any]:
        if filters is not None:
            filters.selection(others.get(filters_keyword), call.budget)
        ids: Sequence[str] = others.get(ids_keyword, ())
        if row.max_results is not None:
            minimum, maximum = row.max_results
            Paging.of(listing, max_results, next_token, minimum=minimum, maximum=maximum, ids=ids)
        if row.kind is not None and ids:
            for text in ids:
                row.kind.opennebula_id(text)
            if not row.ids_are_of_others:
                raise row.kind.not_found(*ids)
        return {row.member: []}

    run.__doc__ = f"List {row.noun}: there are none (EC2 {row.action})."
    return Action(
        service=EC2,
        name=row.action,
        run=run,
        only_reads=True,
        accepts=Members(MappingProxyType(_parameters(row))),
        required=frozenset(),
        ignores=frozenset(),
        as_is=MappingProxyType({}),
        missing=MappingProxyType({}),
        takes_file=False,
        returns=ResultType(frozenset({row.member, *(["NextToken"] if row.max_results else [])})),
    )


def _parameters(row: EmptyList) -> dict[str, Members]:
    names = (row.ids, *row.narrowed_by, *(("MaxResults", "NextToken") if row.max_results else ()))
    parameters = {name: _ALL_VALUES for name in names if name}
    return {**({row.filters_in: supported_members(Sequence[Filter])} if row.filters_in else {}), **parameters}
