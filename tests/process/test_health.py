"""What a process notices by itself: an oned that is away, and a reactor that comes too late."""

from __future__ import annotations

from typing import Any

import pytest
from lxml import etree
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, Logger
from zope.interface import implementer

from econed.errors import InvalidReply, OpenNebulaRefusal, OpenNebulaUnavailable
from econed.interfaces import IOpenNebula
from econed.process.health import (
    ASK_FOR,
    DOUBT_FOR,
    HEARD_FOR,
    LAG_EVERY,
    LAG_KEPT,
    LOOK_EVERY,
    PROBE,
    QUIET_FOR,
    LagWatch,
    OnedState,
    OnedWatch,
)
from econed.telemetry.observed_calls import ObservedOpenNebula

AWAY = OpenNebulaUnavailable(PROBE, "connection refused")
REFUSED = OpenNebulaRefusal(PROBE, 256, "no")
NONSENSE = InvalidReply(PROBE, "not XML")


@implementer(IOpenNebula)
class FakeOned:
    """An oned that answers, raises, or hangs, as the test has it."""

    def __init__(self) -> None:
        self.raises: Exception | None = None
        self.hangs = False
        self.calls: list[tuple[object, ...]] = []

    async def call(self, user: str | None, method: str, *args: object) -> str | int | bool:
        self.calls.append((user, method, *args))
        if self.hangs:
            await Deferred()
        if self.raises is not None:
            raise self.raises
        return "7.4.0"

    async def document(self, user: str | None, method: str, *args: object) -> etree._Element:
        raise AssertionError("nobody asks for documents")


class Watch:
    """A process that watches an oned."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_800_000_000)
        self.oned = FakeOned()
        self.state = OnedState(self.clock)
        self.one = ObservedOpenNebula(self.oned, self.clock, self.state)
        self.logged: list[LogEvent] = []
        self.service = OnedWatch(self.one, self.state, self.clock, Logger("test", observer=self.logged.append))  # type: ignore[arg-type]

    def goes_on(self, seconds: float) -> None:
        """Let time pass."""
        for _ in range(int(seconds)):
            self.clock.advance(1)

    def said(self) -> list[tuple[str, str]]:
        """Return what an administrator reads at the usual level."""
        return [(e["log_level"].name, e["log_format"]) for e in self.logged if e["log_level"].name != "debug"]


@pytest.fixture
def watch() -> Any:
    """Return one that has begun."""
    made = Watch()
    made.service.startService()
    made.clock.advance(0)
    yield made
    made.service.stopService()


def test_oned_is_asked_for_its_version_as_serveradmin_at_once(watch: Watch) -> None:
    assert watch.oned.calls == [(None, "one.system.version")]
    assert watch.state.is_reachable
    assert watch.state.last_answer == 1_800_000_000


def test_before_anything_was_heard_oned_is_not_there() -> None:
    """A cloud may boot with oned still down."""
    assert not Watch().state.is_reachable


def test_a_quiet_oned_is_asked_again_and_again_but_seldom(watch: Watch) -> None:
    watch.goes_on(600)
    assert 600 / (QUIET_FOR + LOOK_EVERY) <= len(watch.oned.calls) <= 1 + 600 / QUIET_FOR
    assert watch.state.is_reachable


def test_an_oned_that_answers_others_is_not_asked(watch: Watch) -> None:
    for _ in range(100):
        watch.goes_on(10)
        watch.state("one.vmpool.info", 0.1, "ok")
    assert len(watch.oned.calls) == 1


@pytest.mark.parametrize("error", [AWAY, NONSENSE])
def test_an_oned_that_does_not_answer_is_away_after_a_moment(watch: Watch, error: Exception) -> None:
    """What answers something else at its address is no oned either."""
    watch.oned.raises = error
    watch.goes_on(QUIET_FOR + LOOK_EVERY + 1)
    assert not watch.state.is_reachable
    assert watch.said() == [("warn", "oned does not answer")]


def test_an_oned_that_refuses_is_there(watch: Watch) -> None:
    watch.oned.raises = REFUSED
    watch.goes_on(600)
    assert watch.state.is_reachable
    assert watch.said() == []


def test_an_oned_that_is_away_is_asked_more_often_and_noticed_when_it_comes_back(watch: Watch) -> None:
    watch.oned.raises = AWAY
    watch.goes_on(300)
    asked = len(watch.oned.calls)
    watch.oned.raises = None
    watch.goes_on(LOOK_EVERY)
    assert len(watch.oned.calls) == asked + 1
    assert watch.state.is_reachable
    assert [text for _, text in watch.said()] == ["oned does not answer", "oned answers again"]


def test_one_call_that_was_too_slow_proves_nothing(watch: Watch) -> None:
    """Others have just been answered; it is asked at the next look, and that counts."""
    watch.state("one.vmpool.info", 30.0, "unavailable")
    assert watch.state.is_reachable
    watch.goes_on(LOOK_EVERY)
    assert len(watch.oned.calls) == 2
    assert watch.state.is_reachable


def test_a_failure_counts_when_nothing_was_heard_since_a_while(watch: Watch) -> None:
    watch.oned.raises = AWAY
    watch.clock.advance(DOUBT_FOR - 1)
    watch.state("one.vm.info", 0.1, "unavailable")
    assert watch.state.is_reachable
    watch.clock.advance(1)
    assert not watch.state.is_reachable


@pytest.mark.parametrize("outcome", ["cancelled", "failed"])
def test_a_call_that_somebody_gave_up_says_nothing(watch: Watch, outcome: str) -> None:
    watch.clock.advance(DOUBT_FOR + 1)
    watch.state("one.vm.info", 0.1, outcome)
    assert watch.state.is_reachable
    assert watch.state.last_answer == 1_800_000_000


def test_an_oned_that_takes_the_call_and_never_answers_is_away(watch: Watch) -> None:
    """It is not waited for as long as a request would."""
    watch.oned.hangs = True
    watch.goes_on(HEARD_FOR)
    assert not watch.state.is_reachable
    watch.oned.hangs = False
    watch.goes_on(ASK_FOR + LOOK_EVERY)
    assert watch.state.is_reachable


def test_a_fault_of_our_own_does_not_end_the_watch(watch: Watch) -> None:
    watch.oned.raises = ValueError("a mistake")
    watch.goes_on(QUIET_FOR)
    assert [event["log_failure"].type for event in watch.logged if "log_failure" in event] == [ValueError]
    watch.oned.raises = None
    watch.goes_on(LOOK_EVERY)
    assert watch.state.is_reachable


def test_a_clock_that_is_set_back_makes_nothing_of_it(watch: Watch) -> None:
    """What was heard in the future was heard just now."""
    watch.clock.rightNow -= 3600
    assert watch.state.is_reachable


def test_the_watch_ends_with_the_daemon_also_while_it_asks(watch: Watch) -> None:
    watch.oned.hangs = True
    watch.goes_on(QUIET_FOR + LOOK_EVERY)
    watch.service.stopService()
    asked = len(watch.oned.calls)
    watch.goes_on(600)
    assert len(watch.oned.calls) == asked
    assert watch.clock.getDelayedCalls() == []


# The reactor's lag


class Lagging:
    """A process that measures its reactor, which is as late as the test has it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.told: list[float] = []
        self.late = 0.0
        self.service = LagWatch(self.told.append, lambda: self.clock.seconds() + self.late, self.clock, Logger("test"))
        self.service.startService()
        self.clock.advance(0)

    def tick(self, late: float = 0.0, times: int = 1) -> None:
        """Let the reactor come by, each time so much later than it was asked to."""
        for _ in range(times):
            self.late += late
            self.clock.advance(LAG_EVERY)


def test_a_reactor_that_is_in_time_has_no_lag() -> None:
    lagging = Lagging()
    lagging.tick(times=3)
    assert lagging.told == [0.0, 0.0, 0.0]


def test_the_lag_is_the_largest_of_the_last_minute() -> None:
    """So no scrape misses it, and it is over a minute later."""
    lagging = Lagging()
    lagging.tick(late=0.5)
    lagging.tick(late=2.0)
    lagging.tick(times=LAG_KEPT - 1)
    assert lagging.told[0] == pytest.approx(0.5)
    assert lagging.told[1:] == pytest.approx([2.0] * LAG_KEPT)
    lagging.tick()
    assert lagging.told[-1] == pytest.approx(0.0)
