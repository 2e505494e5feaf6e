"""A cached lookup: coalesced, cached by age, and rate-limited after failures."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from econed.cached_lookup import RETRY_INTERVAL, CachedLookup, CacheEntry
from econed.errors import OpenNebulaUnavailable
from tests.auth.support import done


@dataclass
class Harness:
    """A lookup whose runs end when a test fires their Deferreds."""

    clock: Clock = field(default_factory=Clock)
    runs: list[Deferred[str]] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.lookup = CachedLookup(self.clock, self.look_up, self.outcomes.append)

    async def look_up(self) -> str:
        self.runs.append(Deferred())
        return await self.runs[-1]

    def get(self, max_age: float = 1) -> Deferred[str]:
        return Deferred.fromCoroutine(self.lookup.get(max_age))


@pytest.fixture
def harness() -> Harness:
    return Harness()


def unavailable() -> OpenNebulaUnavailable:
    return OpenNebulaUnavailable("one.userpool.info", "down")


def test_callers_at_the_same_time_share_a_run(harness: Harness) -> None:
    callers = [harness.get() for _ in range(3)]
    harness.runs[0].callback("value")
    assert [done(caller) for caller in callers] == ["value"] * 3
    assert len(harness.runs) == 1
    assert harness.outcomes == ["miss", "joined", "joined"]


def test_the_age_of_a_value_counts_from_the_start_of_its_run(harness: Harness) -> None:
    harness.get()
    harness.clock.advance(0.5)
    harness.runs[0].callback("value")
    assert harness.lookup.entry == CacheEntry("value", 0.0)
    harness.clock.advance(0.4)
    assert done(harness.get(1)) == "value"
    harness.clock.advance(0.1)
    harness.get(1)
    assert harness.outcomes == ["miss", "hit", "miss"]


def test_a_failure_is_repeated_for_the_retry_interval_and_counts_as_no_miss(harness: Harness) -> None:
    callers = [harness.get() for _ in range(2)]
    harness.runs[0].errback(unavailable())
    callers.append(harness.get())
    for caller in callers:
        with pytest.raises(OpenNebulaUnavailable):
            done(caller)
    harness.clock.advance(RETRY_INTERVAL)
    harness.get()
    assert harness.outcomes == ["miss", "joined", "failed", "miss"]


def test_a_failure_does_not_replace_the_cached_value(harness: Harness) -> None:
    harness.get()
    harness.runs[0].callback("value")
    harness.clock.advance(1)
    failing = harness.get(1)
    harness.runs[1].errback(unavailable())
    with pytest.raises(OpenNebulaUnavailable):
        done(failing)
    assert done(harness.get(2)) == "value"


def test_a_cancelled_caller_does_not_affect_the_others(harness: Harness) -> None:
    first, second = harness.get(), harness.get()
    first.cancel()
    harness.runs[0].callback("value")
    with pytest.raises(CancelledError):
        done(first)
    assert done(second) == "value"


def test_a_run_continues_without_callers_so_that_its_result_limits_the_next(harness: Harness) -> None:
    """Otherwise clients that disconnect at once could have oned called at any rate."""
    callers = [harness.get(), harness.get()]
    for caller in callers:
        caller.cancel()
        with pytest.raises(CancelledError):
            done(caller)
    late = harness.get()
    harness.runs[0].callback("value")
    assert done(late) == done(harness.get()) == "value"
    assert harness.outcomes == ["miss", "joined", "joined", "hit"]


def test_a_failure_without_callers_is_repeated_too(harness: Harness) -> None:
    caller = harness.get()
    caller.cancel()
    with pytest.raises(CancelledError):
        done(caller)
    harness.runs[0].errback(unavailable())
    with pytest.raises(OpenNebulaUnavailable):
        done(harness.get())
    assert len(harness.runs) == 1


def test_a_lookup_that_ends_at_once_runs_once_per_call() -> None:
    runs: list[int] = []

    async def look_up() -> int:
        runs.append(1)
        return len(runs)

    lookup = CachedLookup(Clock(), look_up)
    assert done(Deferred.fromCoroutine(lookup.get(1))) == 1
    assert done(Deferred.fromCoroutine(lookup.get(0))) == 2
    assert len(runs) == 2


def test_a_stored_value_is_ignored_where_a_newer_one_is_cached(harness: Harness) -> None:
    harness.lookup.store("new", 2.0)
    harness.lookup.store("old", 1.0)
    assert harness.lookup.entry == CacheEntry("new", 2.0)


def test_a_value_from_the_future_is_not_used_after_the_clock_was_set_back(harness: Harness) -> None:
    harness.lookup.store("value", 10.0)
    harness.get(60)
    assert harness.outcomes == ["miss"]
