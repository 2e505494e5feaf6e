"""How much is said, and what time it is."""

from __future__ import annotations

import time

import pytest
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock
from twisted.logger import LogEvent, LogLevel
from zope.interface.verify import verifyObject

from econed.clock import WallClock
from econed.logs import logger


@pytest.mark.parametrize(
    ("debug_level", "said"),
    [
        (0, ["critical", "error"]),
        (1, ["critical", "error", "warn"]),
        (2, ["critical", "error", "warn", "info"]),
        (3, ["critical", "error", "warn", "info", "debug"]),
    ],
)
def test_the_debug_level_says_how_much_is_logged(debug_level: int, said: list[str]) -> None:
    events: list[LogEvent] = []
    log = logger("econed", debug_level, events.append)  # type: ignore[arg-type]
    for level in (LogLevel.critical, LogLevel.error, LogLevel.warn, LogLevel.info, LogLevel.debug):
        log.emit(level, "x")
    assert [event["log_level"].name for event in events] == said


def test_the_time_of_day_does_not_depend_on_the_reactor() -> None:
    """The clock of asyncio's reactor counts from its start, and every signature would be too old."""
    clock = WallClock(Clock())
    verifyObject(IReactorTime, clock)
    before = time.time()
    assert before <= clock.seconds() <= time.time()


def test_what_is_to_come_later_is_left_to_the_reactor() -> None:
    reactor = Clock()
    came: list[str] = []
    clock = WallClock(reactor)
    clock.callLater(5, came.append, "now")
    assert len(clock.getDelayedCalls()) == 1
    reactor.advance(5)
    assert came == ["now"]
