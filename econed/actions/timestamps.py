"""Times in results."""

from __future__ import annotations

from datetime import UTC, datetime


def timestamp(seconds: int) -> datetime:
    """Return a time in seconds since the epoch, as oned has it, as a timestamp of a result."""
    return datetime.fromtimestamp(seconds, UTC)
