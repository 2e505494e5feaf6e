"""What the administrator's port reads of the daemon."""

from __future__ import annotations

from collections.abc import Sequence

from zope.interface import Interface

from econed.telemetry.metrics import Snapshot


class IWatched(Interface):
    """The daemon as its administrator's port sees it: one process that serves, or the supervisor of several.

    Nothing here asks oned; whether oned is reachable is in the snapshots.
    """

    def unready() -> str | None:
        """Return in words why no requests should be sent here now: draining, or nobody listens; None if they may."""

    async def snapshots() -> Sequence[Snapshot]:
        """Return what has been counted: by each process that runs, and all together by those that have ended.

        In bounded time (a second or two): of a process that does not answer, what it said last. See `ProcessSnapshots`
        in `econed.telemetry.merging`, which keeps that.
        """
