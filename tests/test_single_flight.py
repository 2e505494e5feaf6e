"""One run for all callers that wait at the same time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from econed import single_flight
from econed.single_flight import SingleFlight


class Runs:
    """Runs that end when the test says; with `ignores_cancel` they do not end when they are cancelled."""

    def __init__(self, *, ignores_cancel: bool = False) -> None:
        self._canceller: Callable[[Any], None] | None = (lambda deferred: None) if ignores_cancel else None
        self.started: list[Deferred[str]] = []
        self.flight = SingleFlight(self._run)

    async def _run(self) -> str:
        deferred: Deferred[str] = Deferred(self._canceller)
        self.started.append(deferred)
        try:
            return await deferred
        except CancelledError:
            if self._canceller is None:
                raise
            return await self._continue()

    async def _continue(self) -> str:
        late: Deferred[str] = Deferred()
        self.started.append(late)
        return await late


def results(*waiters: Deferred[str]) -> list[Any]:
    """Return a list to which the result of each waiter is added."""
    received: list[Any] = []
    for waiter in waiters:
        waiter.addBoth(received.append)
    return received


def test_callers_during_a_run_get_its_result() -> None:
    """A later caller starts a new run."""
    runs = Runs()
    received = results(runs.flight.join(), runs.flight.join())
    assert len(runs.started) == 1
    assert runs.flight.is_running
    runs.started[0].callback("done")
    assert received == ["done", "done"]
    assert not runs.flight.is_running
    results(runs.flight.join())
    assert len(runs.started) == 2


@pytest.mark.parametrize("one_stays", [True, False], ids=["one stays", "all leave"])
def test_a_run_is_cancelled_when_all_callers_have_left(one_stays: bool) -> None:
    """It goes on while any caller waits."""
    runs = Runs()
    first, second = runs.flight.join(), runs.flight.join()
    received = results(first, second)
    first.cancel()
    if not one_stays:
        second.cancel()
    assert runs.started[0].called is not one_stays
    assert runs.flight.is_running is one_stays
    assert len(received) == (1 if one_stays else 2)


def test_the_late_result_of_a_cancelled_run_is_ignored() -> None:
    """A later caller gets the result of a new run."""
    runs = Runs(ignores_cancel=True)
    cancelled = runs.flight.join()
    results(cancelled)
    cancelled.cancel()
    received = results(runs.flight.join())
    late, new = runs.started[1:]
    late.callback("late")
    assert received == []
    new.callback("new")
    assert received == ["new"]


def test_a_callback_of_one_caller_may_cancel_another() -> None:
    runs = Runs()
    first, second, third = runs.flight.join(), runs.flight.join(), runs.flight.join()
    first.addCallback(lambda _: second.cancel())
    received = results(second, third)
    runs.started[0].callback("done")
    assert received[0].check(CancelledError)
    assert received[1:] == ["done"]


def test_leaving_takes_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiter is compared with another."""
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
