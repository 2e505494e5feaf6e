"""A recurring service continues after a failed run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogEvent, Logger, formatEvent

from econed.recurring import Recurring


class Runs:
    """Runs with the outcomes that the test sets: a delay, None, or an exception."""

    def __init__(self, *outcomes: Exception | float | None, after_failure: float | None) -> None:
        self.clock = Clock()
        self.events: list[LogEvent] = []
        self.start_times: list[float] = []
        self._outcomes = list(outcomes)
        observer: Any = self.events.append
        log = Logger(observer=observer)
        self.service = Recurring(self._run, 5.0, self.clock, log, what="a run", after_failure=after_failure)

    async def _run(self) -> float | None:
        self.start_times.append(self.clock.seconds())
        outcome = self._outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def times(self, seconds: int) -> Sequence[float]:
        """Advance the clock and return when runs began."""
        for _ in range(seconds):
            self.clock.advance(1)
        return self.start_times


def test_each_run_returns_the_delay_before_the_next() -> None:
    runs = Runs(10.0, 3.0, None, after_failure=1.0)
    runs.service.startService()
    assert runs.times(60) == [5, 15, 18]
    assert runs.events == []


@pytest.mark.parametrize(("after_failure", "start_times"), [(7.0, [5, 12]), (None, [5])])
def test_an_unexpected_error_is_logged_and_the_next_run_follows_after_a_delay(
    after_failure: float | None, start_times: list[float]
) -> None:
    """With a traceback. Without a delay there is no next run."""
    runs = Runs(ValueError("unexpected"), None, after_failure=after_failure)
    runs.service.startService()
    assert runs.times(60) == start_times
    (event,) = runs.events
    assert formatEvent(event) == "a run failed"
    assert event["log_failure"].type is ValueError


def test_there_are_no_runs_after_the_service_was_stopped() -> None:
    runs = Runs(10.0, after_failure=1.0)
    runs.service.startService()
    assert runs.times(6) == [5]
    runs.service.stopService()
    assert runs.times(60) == [5]
    assert runs.clock.getDelayedCalls() == []
