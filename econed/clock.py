"""Time on a reactor. Signatures, tokens and OpenNebula's dates are in seconds since the epoch; timers are not."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer


def steady(reactor: Any) -> None:
    """Have the timers of a reactor go by a clock that nobody sets, where none of them runs yet.

    Twisted's go by the time of day. Were that put back by an hour, whatever is to come would come an hour late: the end
    of what is idle, the replacement of a worker, the word to systemd's watchdog, which ends the daemon for want of it.
    """
    if not reactor.getDelayedCalls():
        reactor.seconds = time.monotonic


@implementer(IReactorTime)
class WallClock:
    """A reactor's clock whose `seconds` are the time of day, whatever the reactor's own timers go by."""

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor

    def seconds(self) -> float:
        """Return the time in seconds since the epoch."""
        return time.time()

    def callLater(self, delay: float, callable: Callable[..., Any], *args: object, **kwargs: object) -> IDelayedCall:
        """Call something in so many seconds (`IReactorTime.callLater`)."""
        return self._reactor.callLater(delay, callable, *args, **kwargs)

    def getDelayedCalls(self) -> Sequence[IDelayedCall]:
        """Return the calls that are to come (`IReactorTime.getDelayedCalls`)."""
        return self._reactor.getDelayedCalls()
