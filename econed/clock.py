"""The time of day on a reactor: signatures, tokens and OpenNebula's dates are in seconds since the epoch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer


@implementer(IReactorTime)
class WallClock:
    """A reactor's clock whose `seconds` are the time of day on every reactor; that of asyncio counts from its start."""

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
