"""Long computations yield to the reactor."""

from __future__ import annotations

from itertools import pairwise

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from econed.actions.pacing import Pacer, WorkBudget
from tests.support.turn_clock import TurnClock


def one_slice_a_turn(clock: TurnClock) -> Pacer:
    """Return a pacer whose turns end after one slice."""
    return Pacer(clock, is_over=lambda: lambda: True, now=clock.seconds)


async def work(budget: WorkBudget, name: str, units: int, log: list[str]) -> None:
    """Do this many units of work, one by one."""
    for _ in range(units):
        await budget.spend(1)
        log.append(name)


def test_no_more_units_than_a_slice_are_done_between_two_turns_of_the_reactor() -> None:
    clock = TurnClock()
    log: list[str] = []
    running = Deferred.fromCoroutine(work(WorkBudget(one_slice_a_turn(clock), 100), "a", 1000, log))
    progress = []
    while not running.called:
        progress.append(len(log))
        clock.turn()
    assert max(later - earlier for earlier, later in pairwise(progress)) <= 100


def test_less_than_a_slice_is_done_at_once() -> None:
    log: list[str] = []
    running = Deferred.fromCoroutine(work(WorkBudget(Pacer(TurnClock()), 100), "a", 99, log))
    assert running.called
    assert len(log) == 99


def test_the_reactor_waits_for_one_slice_of_any_number_of_computations() -> None:
    clock = TurnClock()
    pacer = one_slice_a_turn(clock)
    log: list[str] = []
    running = [Deferred.fromCoroutine(work(WorkBudget(pacer, 10), name, 100, log)) for name in "abcdefgh"]
    while not all(task.called for task in running):
        before = len(log)
        clock.turn()
        assert len(log) - before <= 10


def test_computations_take_turns() -> None:
    clock = TurnClock()
    pacer = one_slice_a_turn(clock)
    log: list[str] = []
    long = Deferred.fromCoroutine(work(WorkBudget(pacer, 10), "long", 1000, log))
    short = Deferred.fromCoroutine(work(WorkBudget(pacer, 10), "short", 20, log))
    while not short.called:
        clock.turn()
    assert not long.called
    assert log.count("long") <= 40


def test_a_computation_cancelled_while_it_waits_does_not_delay_the_others() -> None:
    clock = TurnClock()
    pacer = one_slice_a_turn(clock)
    log: list[str] = []
    ended: list[Failure] = []
    cancelled = Deferred.fromCoroutine(work(WorkBudget(pacer, 10), "a", 100, log))
    cancelled.addErrback(ended.append)
    other = Deferred.fromCoroutine(work(WorkBudget(pacer, 10), "b", 100, log))
    cancelled.cancel()
    assert ended[0].check(CancelledError)
    while not other.called:
        clock.turn()
    assert log.count("a") == 9
    assert log.count("b") == 100


def test_a_turn_ends_after_its_time_on_the_monotonic_clock() -> None:
    """A turn of no length ends after one slice."""
    clock = TurnClock()
    log: list[str] = []
    pacer = Pacer(clock, turn=0, now=clock.seconds)
    running = Deferred.fromCoroutine(work(WorkBudget(pacer, 10), "a", 25, log))
    turns = 0
    while not running.called:
        clock.turn()
        turns += 1
    assert turns == 2


@pytest.mark.parametrize(("duration", "delay"), [(11.0, 9.0), (2.5, 0.5)])
def test_a_turn_that_took_too_long_delays_the_next_by_as_much(duration: float, delay: float) -> None:
    """A request with thousands of parameters, for example, is authenticated without a pause."""
    clock = TurnClock()
    time = [0.0]
    pacer = Pacer(clock, turn=0.002, now=lambda: time[0])

    async def work_without_pause() -> None:
        await pacer.turn()
        time[0] += duration / 1000
        await pacer.turn()

    running = Deferred.fromCoroutine(work_without_pause())
    clock.turn()
    (next_turn,) = clock.getDelayedCalls()
    assert next_turn.getTime() - clock.seconds() == pytest.approx(delay / 1000)
    clock.advance(delay / 1000)
    assert running.called


def test_the_delay_after_a_very_long_turn_is_limited() -> None:
    clock = TurnClock()
    time = [0.0]
    pacer = Pacer(clock, now=lambda: time[0])

    async def stall() -> None:
        await pacer.turn()
        time[0] += 3600
        await pacer.turn()

    running = Deferred.fromCoroutine(stall())
    clock.turn()
    clock.advance(0.1)
    assert running.called
