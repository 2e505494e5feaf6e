"""Long computations in the reactor's thread: counted in units of work, they yield to the reactor after each slice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import Cooperator

_T = TypeVar("_T")

SLICE: Final = 4_000
"""Units of work after which a request yields to the reactor: a millisecond or two. A turn costs microseconds."""

ITEM_COST: Final = 500
"""Units that one item of a list costs, for making EC2's view of it: some tenths of a millisecond."""

PARAMETER_COST: Final = 20
"""Units that a parameter of a request costs in addition to one for each byte, for its signature and its decoding.

A parameter takes some microseconds; a byte of a pattern (`econed.actions.wildcards`) takes half a microsecond.
"""

_TURN_LENGTH = 0.001
"""Seconds that the slices of all requests together may take before the reactor serves its connections again.

A short request takes some eight turns of the reactor from its first byte to its response, and waits this long in each.
"""

_MAX_DELAY = 0.1
"""Seconds by which the next turn is delayed at most after a turn that took too long."""


class Pacer:
    """Shares the reactor between the long computations of one process, which run in slices, round robin.

    However many there are, they block the reactor for no longer than one turn and a slice. If a computation cannot be
    divided into slices and exceeds a turn, the next turn is delayed by as much, so that others get their share of time.
    """

    def __init__(
        self,
        clock: IReactorTime,
        *,
        is_over: Callable[[], Callable[[], bool]] | None = None,
        turn: float = _TURN_LENGTH,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`is_over` returns, when a turn begins, the condition that ends it: by default, that `turn` seconds passed.

        `now` returns the seconds of a monotonic clock.
        """
        self._clock = clock
        self._turn = turn
        self._now = now
        self._began: float | None = None
        self._cooperator = Cooperator(
            terminationPredicateFactory=is_over or (lambda: self._has_lasted), scheduler=self._schedule
        )

    async def turn(self) -> None:
        """Wait until the reactor has served its connections and this computation is next."""
        await self._cooperator.coiterate(iter(()))

    def _schedule(self, tick: Callable[[], None]) -> IDelayedCall:
        delay = min(max(self._lasted() - self._turn, 0.0), _MAX_DELAY)
        return self._clock.callLater(delay, self._run, tick)

    def _run(self, tick: Callable[[], None]) -> None:
        self._began = self._now()
        try:
            tick()
        finally:
            self._began = None

    def _lasted(self) -> float:
        return 0.0 if self._began is None else self._now() - self._began

    def _has_lasted(self) -> bool:
        return self._lasted() >= self._turn


class WorkBudget:
    """The work of one request: after each `SLICE` units it waits for the next turn of the reactor."""

    def __init__(self, pacer: Pacer, size: int = SLICE) -> None:
        self._pacer = pacer
        self._size = size
        self._spent = 0

    async def spend(self, units: int) -> None:
        """Count work that was done or is done next, and yield to the reactor if it fills a slice.

        A caller with more than a slice of work spends it in parts.
        """
        self._spent += units
        if self._spent >= self._size:
            self._spent = 0
            await self._pacer.turn()

    async def filtered(self, items: Iterable[_T], condition: Callable[[_T], bool]) -> list[_T]:
        """Return the items that satisfy a condition; every item counts, since its document is read for it."""
        matching = []
        for item in items:
            await self.spend(ITEM_COST)
            if condition(item):
                matching.append(item)
        return matching
