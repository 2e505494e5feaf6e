"""MaxResults and NextToken: the token has the last position returned, so pages stay valid while the list changes."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, TypeVar

from econed.errors import EC2Error

_T = TypeVar("_T")
Position = tuple[int | str, ...]


class NextToken(TypedDict, total=False):
    """The member of a result from which the next page is requested; absent on the last page."""

    NextToken: str


@dataclass(frozen=True)
class Listing:
    """A kind of list that has pages: its name in tokens, and the types of the parts of a position in it."""

    name: str
    position: tuple[type, ...]


@dataclass(frozen=True)
class Paging:
    """The requested part of a list: the items after the position `after` (None: all), at most `limit` (None: all)."""

    kind: Listing
    after: Position | None
    limit: int | None

    @classmethod
    def of(
        cls,
        kind: Listing,
        max_results: int | None,
        next_token: str | None,
        *,
        minimum: int = 5,
        maximum: int = 1000,
        ids: Sequence[str] | None = None,
    ) -> Paging:
        """Read the two parameters; a MaxResults above `maximum` is lowered (EC2, "Pagination").

        Raises `EC2Error` InvalidParameterValue for a MaxResults below `minimum`, InvalidNextToken, or
        InvalidParameterCombination if there are ids.
        """
        if max_results is not None and ids:
            raise EC2Error("InvalidParameterCombination", "MaxResults cannot be given together with a list of ids.")
        if max_results is not None and max_results < minimum:
            raise EC2Error(
                "InvalidParameterValue",
                f"Value ( {max_results} ) for parameter maxResults is invalid. "
                f"Expecting a value of at least {minimum}.",
            )
        return cls(
            kind,
            None if next_token is None else _position(kind, next_token),
            None if max_results is None else min(max_results, maximum),
        )

    def token(self, position: Position) -> str:
        """Return the NextToken for the items after a position."""
        return base64.urlsafe_b64encode(json.dumps([self.kind.name, *position]).encode()).decode()

    def remaining(self, items: Iterable[_T], position: Callable[[_T], Any]) -> list[_T]:
        """Return the items after `after`, ordered by position."""
        ordered = sorted(items, key=position)
        return ordered if self.after is None else [item for item in ordered if position(item) > self.after]

    def page(self, items: Iterable[_T], position: Callable[[_T], Any]) -> tuple[list[_T], NextToken]:
        """Return this page of a complete list, and the NextToken member of the result (empty on the last page)."""
        remaining = self.remaining(items, position)
        if self.limit is None or len(remaining) <= self.limit:
            return remaining, {}
        page = remaining[: self.limit]
        return page, {"NextToken": self.token(position(page[-1]))}


def _position(kind: Listing, token: str) -> Position:
    try:
        name, *position = json.loads(base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True))
    except (ValueError, TypeError, RecursionError):
        raise _invalid() from None
    if name != kind.name or tuple(map(type, position)) != kind.position:
        raise _invalid()
    return tuple(position)


def _invalid() -> EC2Error:
    return EC2Error("InvalidNextToken", "The specified pagination token is not valid.")
