"""One run for all who ask at the same time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from econed import single_flight
from econed.single_flight import SingleFlight


class Runs:
    """Runs that end as a test says; `stubborn` ones do not end when they are cancelled."""

    def __init__(self, *, stubborn: bool = False) -> None:
        self._canceller: Callable[[Any], None] | None = (lambda deferred: None) if stubborn else None
        self.begun: list[Deferred[str]] = []
        self.flight = SingleFlight(self._run)

    async def _run(self) -> str:
        deferred: Deferred[str] = Deferred(self._canceller)
        self.begun.append(deferred)
        try:
            return await deferred
        except CancelledError:
            if self._canceller is None:
                raise
            return await self._once_more()

    async def _once_more(self) -> str:
        late: Deferred[str] = Deferred()
        self.begun.append(late)
        return await late


def results(*waiters: Deferred[str]) -> list[Any]:
    """Return a list that gets what each waiter gets."""
    found: list[Any] = []
    for waiter in waiters:
        waiter.addBoth(found.append)
    return found


def test_all_who_ask_while_it_runs_get_what_comes_of_it() -> None:
    """It is run once, and anew for who asks afterwards."""
    runs = Runs()
    found = results(runs.flight.join(), runs.flight.join())
    assert len(runs.begun) == 1
    assert runs.flight.is_running
    runs.begun[0].callback("done")
    assert found == ["done", "done"]
    assert not runs.flight.is_running
    results(runs.flight.join())
    assert len(runs.begun) == 2


@pytest.mark.parametrize("stay", [True, False], ids=["one stays", "nobody stays"])
def test_it_is_given_up_when_nobody_waits_any_more(stay: bool) -> None:
    """Not when the first goes."""
    runs = Runs()
    first, second = runs.flight.join(), runs.flight.join()
    found = results(first, second)
    first.cancel()
    if not stay:
        second.cancel()
    assert runs.begun[0].called is not stay
    assert runs.flight.is_running is stay
    assert len(found) == (1 if stay else 2)


def test_what_comes_late_of_a_run_that_was_given_up_is_for_nobody() -> None:
    """Whoever asks after that waits for a run of his own."""
    runs = Runs(stubborn=True)
    given_up = runs.flight.join()
    results(given_up)
    given_up.cancel()
    found = results(runs.flight.join())
    late, own = runs.begun[1:]
    late.callback("late")
    assert found == []
    own.callback("own")
    assert found == ["own"]


def test_one_who_is_answered_may_cancel_another() -> None:
    runs = Runs()
    first, second, third = runs.flight.join(), runs.flight.join(), runs.flight.join()
    first.addCallback(lambda _: second.cancel())
    found = results(second, third)
    runs.begun[0].callback("done")
    assert found[0].check(CancelledError)
    assert found[1:] == ["done"]


def test_leaving_does_not_look_at_those_who_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[object] = []

    class Compared(Deferred[str]):
        def __eq__(self, other: object) -> bool:
            compared.append(other)
            return self is other

        __hash__ = Deferred.__hash__

    runs = Runs()
    monkeypatch.setattr(single_flight, "Deferred", Compared)
    waiters = [runs.flight.join() for _ in range(1000)]
    results(*waiters)
    for waiter in reversed(waiters[1:]):
        waiter.cancel()
    assert not compared
    assert runs.flight.is_running
