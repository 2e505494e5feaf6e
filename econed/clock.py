"""The clocks of a reactor: wall-clock time for signatures, tokens and OpenNebula's dates, monotonic time for timers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer


def use_monotonic_timers(reactor: Any) -> None:
    """Make the timers of a reactor use the monotonic clock, unless it has timers already.

    Twisted's timers use wall-clock time. If that were set back by an hour, all of them would be an hour late: idle
    timeouts, the replacement of workers, and notifications of systemd's watchdog, which would kill the daemon.
    """
    if not reactor.getDelayedCalls():
        reactor.seconds = time.monotonic


@implementer(IReactorTime)
class WallClock:
    """A reactor's clock whose `seconds` are wall-clock time, also with `use_monotonic_timers`."""

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor

    def seconds(self) -> float:
        """Return the time in seconds since the epoch."""
        return time.time()

    def callLater(self, delay: float, callable: Callable[..., Any], *args: object, **kwargs: object) -> IDelayedCall:
        """Call a function after `delay` seconds (`IReactorTime.callLater`)."""
        return self._reactor.callLater(delay, callable, *args, **kwargs)

    def getDelayedCalls(self) -> Sequence[IDelayedCall]:
        """Return the pending calls (`IReactorTime.getDelayedCalls`)."""
        return self._reactor.getDelayedCalls()
