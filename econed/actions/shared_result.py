"""What several requests make of a document that they share, made once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from econed.opennebula.documents import View

_V = TypeVar("_V", bound="View")
_T = TypeVar("_T")


class SharedResult:
    """The result of the last document: requests whose reads were one call (`econed.calls`) have the same document.

    The document and its result stay in memory until the next one.
    """

    def __init__(self) -> None:
        self._last: tuple[View, Any] | None = None

    def of(self, view: _V, make: Callable[[_V], _T]) -> _T:
        """Return what `make` returns for the view of a document. It is always the same function; nothing changes it."""
        if self._last is None or not self._last[0].is_of_same_element(view):
            self._last = view, make(view)
        result: _T = self._last[1]
        return result
