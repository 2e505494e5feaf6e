"""What a daemon does again and again while it runs, on an injected clock."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger


class Recurring(Service):
    """Runs something on the clock, one run after the other, for as long as the daemon does.

    The first run comes `first` seconds after the start; each returns the seconds until the next, None for no more. One
    that fails as nobody foresaw is logged, as `what` it is, and the next comes `after_failure` seconds later.
    """

    def __init__(
        self,
        run: Callable[[], Awaitable[float | None]],
        first: float,
        clock: IReactorTime,
        log: Logger,
        *,
        what: str,
        after_failure: float | None,
    ) -> None:
        self._run = run
        self._what = what
        self._after_failure = after_failure
        self._first = first
        self._clock = clock
        self._log = log
        self._next: IDelayedCall | None = None
        self._running: Deferred[None] | None = None

    def startService(self) -> None:
        """Have the first run come."""
        super().startService()
        self._run_after(self._first)

    def stopService(self) -> Deferred[None] | None:
        """Have no more runs; one that is under way is broken off, the next process goes on with it."""
        super().stopService()
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if self._running is not None:
            self._running.cancel()
        return self._running

    def _run_after(self, seconds: float) -> None:
        self._next = self._clock.callLater(seconds, self._start)

    def _start(self) -> None:
        self._next = None
        self._running = Deferred.fromCoroutine(self._run_on())

    async def _run_on(self) -> None:
        again: float | None = None
        try:
            again = await self._run()
        except CancelledError:
            self._log.debug("broken off, as the daemon stops")
        except Exception:  # noqa: BLE001 - one bad run must not be the last
            self._log.failure("{what} failed", what=self._what)
            again = self._after_failure
        finally:
            self._running = None
        if again is not None and self.running:
            self._run_after(again)
