"""Times in results."""

from __future__ import annotations

from datetime import UTC, datetime


def timestamp(seconds: int) -> datetime:
    """Convert a time in seconds since the epoch, the form that oned uses, to a timestamp of a result."""
    return datetime.fromtimestamp(seconds, UTC)
