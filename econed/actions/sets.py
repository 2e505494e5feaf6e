"""The sets in which long lists are read."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from typing import Any, TypeAlias, TypeVar

_D = TypeVar("_D")

Read: TypeAlias = Callable[[], Coroutine[Any, Any, Iterable[_D]]]
"""Reads the next set of documents; called once. It holds no documents before or after the call."""

Sets: TypeAlias = AsyncGenerator[Read[_D], None]
"""Readers of the sets of a list. Each is called before the next is requested, which may depend on what was read."""
