"""Changes that are under way: they run to their end, whether or not the client waits, and a process waits for them."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred


class UnderWay:
    """The changes that one process is making."""

    def __init__(self) -> None:
        self._count = 0
        self._waiting: list[Deferred[None]] = []

    def shielded(self, running: Deferred[Any]) -> Deferred[Any]:
        """Return a Deferred with the result of `running` that can be cancelled without it."""
        shield: Deferred[Any] = Deferred()
        self._count += 1
        running.addBoth(self._done)
        running.addBoth(lambda result: None if shield.called else shield.callback(result))
        return shield

    async def none(self) -> None:
        """Wait until there is none."""
        if self._count:
            waiting: Deferred[None] = Deferred()
            self._waiting.append(waiting)
            await waiting

    def _done(self, result: Any) -> Any:
        self._count -= 1
        if not self._count:
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                each.callback(None)
        return result
