"""Times in results."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

_REMEMBERED: Final = 1024
"""Times of machines that were launched together are equal, and a machine has the same time several times."""


@lru_cache(_REMEMBERED)
def timestamp(seconds: int) -> datetime:
    """Convert a time in seconds since the epoch, the form that oned uses, to a timestamp of a result."""
    return datetime.fromtimestamp(seconds, UTC)
