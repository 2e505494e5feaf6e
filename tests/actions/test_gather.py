"""Running many coroutines, a few at a time."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from econed.actions.call import gather
from econed.slots import MAX_CALLS_PER_REQUEST


class Work:
    """Coroutines that end when the test says so."""

    def __init__(self) -> None:
        self.created: list[int] = []
        self.started: dict[int, Deferred[Any]] = {}
        self.results: list[Any] = []

    def create(self, number: int) -> Coroutine[Any, Any, Any]:
        """Return the coroutine with a number."""
        self.created.append(number)
        return self._run(number)

    async def _run(self, number: int) -> Any:
        self.started[number] = Deferred()
        return await self.started[number]

    def gather(self, count: int, create: Callable[[int], Coroutine[Any, Any, Any]] | None = None) -> Deferred[Any]:
        """Gather coroutines with the numbers from 0."""
        gathering = Deferred.fromCoroutine(gather((create or self.create)(number) for number in range(count)))
        gathering.addBoth(self.results.append)
        return gathering


@pytest.fixture
def work() -> Work:
    return Work()


def test_the_next_is_created_when_one_has_ended(work: Work) -> None:
    work.gather(1000)
    assert work.created == list(range(MAX_CALLS_PER_REQUEST))
    work.started[3].callback("three")
    assert work.created == list(range(MAX_CALLS_PER_REQUEST + 1))
    for number in (4, *range(3), *range(5, 1000)):
        work.started[number].callback(number)
    assert work.results == [[0, 1, 2, "three", *range(4, 1000)]]


def test_the_first_failure_in_order_is_raised_when_all_have_ended(work: Work) -> None:
    work.gather(8)
    work.started[2].errback(ValueError("two"))
    work.started[1].errback(KeyError("one"))
    for number in (0, 3, 4, 5, 6):
        work.started[number].callback(None)
    assert work.results == []
    work.started[7].callback(None)
    assert work.results[0].check(KeyError)


def test_cancelling_cancels_what_runs_and_starts_nothing_else(work: Work) -> None:
    work.gather(100).cancel()
    assert work.created == list(range(MAX_CALLS_PER_REQUEST))
    assert all(started.called for started in work.started.values())
    assert work.results[0].check(CancelledError)


def test_any_number_may_end_at_once(work: Work) -> None:
    async def at_once(number: int) -> int:
        return number

    work.gather(5000, at_once)
    assert work.results == [list(range(5000))]


def test_nothing_is_gathered_from_nothing(work: Work) -> None:
    work.gather(0)
    assert work.results == [[]]
