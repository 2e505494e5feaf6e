"""Long computations in one thread: they are counted in units of work, and give way to the reactor after a slice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import Cooperator

_T = TypeVar("_T")

SLICE: Final = 20_000
"""Units of work after which a request gives way: some milliseconds."""

ITEM: Final = 500
"""Units that one item of a list costs, for being turned into what EC2 shows: some tenths of a millisecond."""

PARAMETER: Final = 20
"""Units that a parameter of a request costs beside one for each byte, for its signature and for its being decoded.

Some microseconds each. A byte may be one of a pattern (`econed.actions.wildcards`), which takes half of one.
"""

_TURN = 0.002
"""Seconds that the slices of all requests together take before the reactor serves its connections again.

A short request has some eight turns of the reactor from its first byte to its answer, and waits for this in each.
"""

_LONGEST_REST = 0.1
"""Seconds that the next turn is put off at most after one that took too long."""


class Pacer:
    """Turns of the reactor for the long computations of one process; they get slices round robin.

    However many there are, they hold up the reactor for no longer than one does, and a slice. Where one cannot be cut
    into slices and takes longer than a turn, the next comes later by as much: others have their share of the time.
    """

    def __init__(
        self,
        clock: IReactorTime,
        *,
        is_over: Callable[[], Callable[[], bool]] | None = None,
        turn: float = _TURN,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`is_over` makes, when a turn begins, the condition that ends it: by default it has lasted `turn` seconds.

        `now` tells the seconds on a clock that nobody sets.
        """
        self._clock = clock
        self._turn = turn
        self._now = now
        self._began: float | None = None
        self._cooperator = Cooperator(
            terminationPredicateFactory=is_over or (lambda: self._has_lasted), scheduler=self._schedule
        )

    async def turn(self) -> None:
        """Wait until the reactor has served others and this computation is next."""
        await self._cooperator.coiterate(iter(()))

    def _schedule(self, tick: Callable[[], None]) -> IDelayedCall:
        rest = min(max(self._lasted() - self._turn, 0.0), _LONGEST_REST)
        return self._clock.callLater(rest, self._run, tick)

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
        """Count work that has been done or is done next, and give way if it fills a slice.

        Whoever has more than a slice to do at once spends it in parts.
        """
        self._spent += units
        if self._spent >= self._size:
            self._spent = 0
            await self._pacer.turn()

    async def filtered(self, items: Iterable[_T], is_wanted: Callable[[_T], bool]) -> list[_T]:
        """Return the items that are wanted; each that is looked at counts, since its document is read for that."""
        found = []
        for item in items:
            await self.spend(ITEM)
            if is_wanted(item):
                found.append(item)
        return found
