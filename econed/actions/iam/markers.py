"""MaxItems and Marker of IAM: the marker is the key of the last item, so pages stay valid while a list changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NotRequired, TypedDict, TypeVar

_T = TypeVar("_T")

DEFAULT_ITEMS = 100
"""Items of a page for which the client names no number (IAM API Reference, MaxItems)."""


class Truncation(TypedDict):
    """The members of a result that say whether, and from where, there is another page."""

    IsTruncated: bool
    Marker: NotRequired[str]


def page_of(
    items: Sequence[_T], key_of: Callable[[_T], str], marker: str | None, max_items: int
) -> tuple[Sequence[_T], Truncation]:
    """Return up to `max_items` items with keys after `marker`, by their keys, and what the result says of the page."""
    following = sorted((item for item in items if marker is None or key_of(item) > marker), key=key_of)
    shown = following[:max_items]
    if len(following) == len(shown):
        return shown, {"IsTruncated": False}
    return shown, {"IsTruncated": True, "Marker": key_of(shown[-1])}
