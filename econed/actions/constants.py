"""Structures of results that are the same for many items of a list."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, TypeVar, cast

_S = TypeVar("_S")


def constant(structure: _S) -> _S:
    """Return a structure that all items share, read-only: the encoder writes the same text for it every time."""
    return cast(_S, MappingProxyType(cast(dict[str, Any], structure)))
