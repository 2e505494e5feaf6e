"""What is done again and again goes on when one run fails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogEvent, Logger, formatEvent

from econed.recurring import Recurring


class Runs:
    """Runs that come to what a test says, one after the other."""

    def __init__(self, *outcomes: Exception | float | None, after_failure: float | None) -> None:
        self.clock = Clock()
        self.events: list[LogEvent] = []
        self.begun: list[float] = []
        self._outcomes = list(outcomes)
        observer: Any = self.events.append
        log = Logger(observer=observer)
        self.service = Recurring(self._run, 5.0, self.clock, log, what="a run", after_failure=after_failure)

    async def _run(self) -> float | None:
        self.begun.append(self.clock.seconds())
        outcome = self._outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def times(self, seconds: int) -> Sequence[float]:
        """Let time pass and return when runs began."""
        for _ in range(seconds):
            self.clock.advance(1)
        return self.begun


def test_each_run_says_when_the_next_comes() -> None:
    runs = Runs(10.0, 3.0, None, after_failure=1.0)
    runs.service.startService()
    assert runs.times(60) == [5, 15, 18]
    assert runs.events == []


@pytest.mark.parametrize(("after_failure", "begun"), [(7.0, [5, 12]), (None, [5])])
def test_one_that_fails_is_logged_and_is_not_the_last_unless_it_was_to_be(
    after_failure: float | None, begun: list[float]
) -> None:
    """With its traceback, which nobody foresaw."""
    runs = Runs(ValueError("unforeseen"), None, after_failure=after_failure)
    runs.service.startService()
    assert runs.times(60) == begun
    (event,) = runs.events
    assert formatEvent(event) == "a run failed"
    assert event["log_failure"].type is ValueError


def test_there_is_none_any_more_when_it_is_stopped() -> None:
    runs = Runs(10.0, after_failure=1.0)
    runs.service.startService()
    assert runs.times(6) == [5]
    runs.service.stopService()
    assert runs.times(60) == [5]
    assert runs.clock.getDelayedCalls() == []
