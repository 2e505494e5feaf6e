"""The view of the daemon that the administrator's port has."""

from __future__ import annotations

from collections.abc import Sequence

from zope.interface import Interface

from econed.telemetry.metrics import Snapshot

DRAINING = "draining: the daemon is stopping and accepts no new connections"
"""Why a stopping daemon is not ready."""


class IWatched(Interface):
    """The state of the daemon for the administrator's port: of one serving process, or of the supervisor of several.

    No method calls oned; whether oned is reachable is in the snapshots.
    """

    def unready_reason() -> str | None:
        """Return why no requests should be sent here now (draining, or no worker listens); None if they may."""

    async def snapshots() -> Sequence[Snapshot]:
        """Return the counts of each running process, and the sum of those of processes that have exited.

        Takes at most a second or two: for a process that does not reply, it returns the last reported counts. See
        `ProcessSnapshots` in `econed.telemetry.merging`.
        """
