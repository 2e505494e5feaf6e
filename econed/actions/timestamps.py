"""Times in results."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


def timestamp(seconds: int) -> datetime:
    """Return a time of oned's, in seconds since the epoch, as one of a result's."""
    return datetime.fromtimestamp(seconds, UTC)
