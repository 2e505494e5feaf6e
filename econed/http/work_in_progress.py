"""Work that runs to its end even if the request that waits for it is cancelled; a process drains it before it exits."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred


class WorkInProgress:
    """The uncancellable work of one kind in one process, such as changes in OpenNebula."""

    def __init__(self) -> None:
        self._count = 0
        self._waiting: list[Deferred[None]] = []

    def shielded(self, running: Deferred[Any]) -> Deferred[Any]:
        """Return a Deferred with the result of `running`; cancelling it does not cancel `running`."""
        shield: Deferred[Any] = Deferred()
        self._count += 1
        running.addBoth(self._ended)
        running.addBoth(lambda result: None if shield.called else shield.callback(result))
        return shield

    async def drained(self) -> None:
        """Wait until no work is in progress."""
        if self._count:
            waiting: Deferred[None] = Deferred()
            self._waiting.append(waiting)
            await waiting

    def _ended(self, result: Any) -> Any:
        self._count -= 1
        if not self._count:
            waiting, self._waiting = self._waiting, []
            for deferred in waiting:
                deferred.callback(None)
        return result
