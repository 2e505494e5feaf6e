"""A service that runs a function repeatedly, on an injected clock."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger


class Recurring(Service):
    """Runs a function repeatedly, never concurrently, while the service runs.

    The first run begins `first` seconds after the start. Each run returns the seconds until the next, or None.
    An unexpected error of a run is logged as "`what` failed", and the next run begins `after_failure` seconds later.
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
        """Schedule the first run."""
        super().startService()
        self._run_after(self._first)

    def stopService(self) -> Deferred[None] | None:
        """Cancel the current or next run; the next process continues the work."""
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
        self._running = Deferred.fromCoroutine(self._run_and_reschedule())

    async def _run_and_reschedule(self) -> None:
        delay: float | None = None
        try:
            delay = await self._run()
        except CancelledError:
            self._log.debug("{what} cancelled: the daemon stops", what=self._what)
        except Exception:  # noqa: BLE001 - the next run must follow in any case
            self._log.failure("{what} failed", what=self._what)
            delay = self._after_failure
        finally:
            self._running = None
        if delay is not None and self.running:
            self._run_after(delay)
