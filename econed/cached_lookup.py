"""One lookup in oned that many requests need at the same time: coalesced, cached, and rate-limited after failures."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from econed.single_flight import SingleFlight

T = TypeVar("T")

RETRY_INTERVAL = 1.0
"""Seconds for which a failed lookup fails for every caller, before oned is called again; the default."""

CountLookup = Callable[[str], None]
"""Called once for each `CachedLookup.get` with where its value comes from: hit (the cache), joined (a lookup in
flight), failed (a lookup failed a moment ago), or miss (a new lookup)."""


@dataclass(frozen=True)
class CacheEntry(Generic[T]):
    """A value and the time its lookup began, in seconds: later changes in oned may be missing from it."""

    value: T
    requested_at: float


class CachedLookup(Generic[T]):
    """Coalesces and caches one lookup in oned.

    `look_up` runs once at a time, and not at all while the cached value is recent enough. A run continues when its
    callers are cancelled: its result still limits how often oned is called. `count` is for the metrics. After a failure
    all callers get the same one for `retry_interval` seconds; with 0 the next caller starts a new lookup.
    """

    def __init__(
        self,
        clock: IReactorTime,
        look_up: Callable[[], Coroutine[Deferred[Any], Any, T]],
        count: CountLookup | None = None,
        *,
        retry_interval: float = RETRY_INTERVAL,
    ) -> None:
        self._clock = clock
        self._look_up = look_up
        self._count = count
        self._retry_interval = retry_interval
        self._entry: CacheEntry[T] | None = None
        self._failure: tuple[float, Exception] | None = None
        self._flight = SingleFlight(self._run)

    async def get(self, max_age: float) -> T:
        """Return the cached value if it is less than `max_age` seconds old, else that of a lookup, in flight or new.

        Raises what `look_up` raises.
        """
        if self._entry is not None and self._is_recent(self._entry.requested_at, max_age):
            self._report("hit")
            return self._entry.value
        if self._flight.is_running:
            self._report("joined")
            return await self._flight.join()
        if self._failure is not None and self._is_recent(self._failure[0], self._retry_interval):
            self._report("failed")
            raise self._failure[1].with_traceback(None)
        self._report("miss")
        return await self._start()

    @property
    def entry(self) -> CacheEntry[T] | None:
        """The cached value, of any age; None if there is none."""
        return self._entry

    def store(self, value: T, requested_at: float) -> None:
        """Cache a value from another lookup, which began at `requested_at`, unless the cached one is newer."""
        if self._entry is None or requested_at >= self._entry.requested_at:
            self._entry = CacheEntry(value, requested_at)

    def _is_recent(self, moment: float, max_age: float) -> bool:
        # Ages are negative after the clock was set back; the true age of such a value is unknown.
        return 0 <= self._clock.seconds() - moment < max_age

    def _report(self, outcome: str) -> None:
        if self._count is not None:
            self._count(outcome)

    def _start(self) -> Deferred[T]:
        waiter = self._flight.join()
        if self._flight.is_running:
            self._flight.join().addErrback(lambda _: None)  # a run without callers would be cancelled
        return waiter

    async def _run(self) -> T:
        requested_at = self._clock.seconds()
        try:
            value = await self._look_up()
        except Exception as error:
            self._failure = requested_at, error
            raise
        self._failure = None
        self.store(value, requested_at)
        return value
