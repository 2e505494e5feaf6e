"""Health checks of a process: an unreachable oned, and a reactor that lags."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, Logger
from zope.interface import implementer

from econed.errors import InvalidReply, OpenNebulaRefusal, OpenNebulaUnavailable, ServerAccountRefused
from econed.interfaces import IOpenNebula
from econed.process.health import (
    CHECK_INTERVAL,
    FAILURE_GRACE,
    LAG_INTERVAL,
    LAG_SAMPLES,
    PROBE,
    PROBE_AFTER,
    PROBE_TIMEOUT,
    REPLY_VALID_FOR,
    LagWatch,
    OnedState,
    OnedWatch,
)
from econed.telemetry.observed_calls import ObservedOpenNebula
from econed.user import Login

UNREACHABLE = OpenNebulaUnavailable(PROBE, "connection refused")
REFUSED = OpenNebulaRefusal(PROBE, 256, "no")
REJECTED = ServerAccountRefused(PROBE, 256, "wrong credentials")
INVALID = InvalidReply(PROBE, "not XML")


@implementer(IOpenNebula)
class FakeOned:
    """An oned that replies, raises, or hangs, as the test sets it."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.is_hanging = False
        self.calls: list[tuple[object, ...]] = []

    async def call(self, user: Login, method: str, *args: object) -> str | int | bool:
        self.calls.append((user, method, *args))
        if self.is_hanging:
            await Deferred()
        if self.error is not None:
            raise self.error
        return "7.4.0"

    async def document(self, user: Login, method: str, *args: object, **options: Any) -> Any:
        raise AssertionError("no document is read")


class WatchHarness:
    """An `OnedWatch` with a clock and a stand-in for oned."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_800_000_000)
        self.oned = FakeOned()
        self.state = OnedState(self.clock)
        self.one = ObservedOpenNebula(self.oned, self.clock, self.state)
        self.logged: list[LogEvent] = []
        self.service = OnedWatch(self.one, self.state, self.clock, Logger("test", observer=self.logged.append))  # type: ignore[arg-type]

    def advance(self, seconds: float) -> None:
        """Advance the clock."""
        for _ in range(int(seconds)):
            self.clock.advance(1)

    def log_lines(self) -> list[tuple[str, str]]:
        """Return the level and text of everything logged but debug messages."""
        return [(e["log_level"].name, e["log_format"]) for e in self.logged if e["log_level"].name != "debug"]


@pytest.fixture
def watch() -> Any:
    """An `OnedWatch` that is started."""
    harness = WatchHarness()
    harness.service.startService()
    harness.clock.advance(0)
    yield harness
    harness.service.stopService()


def test_the_first_probe_is_sent_at_once_as_serveradmin(watch: WatchHarness) -> None:
    assert watch.oned.calls == [(None, "one.system.version")]
    assert watch.state.is_reachable
    assert watch.state.last_reply == 1_800_000_000


def test_oned_is_unreachable_before_its_first_reply() -> None:
    """A cloud may boot with oned still down."""
    assert not WatchHarness().state.is_reachable


def test_probes_without_other_calls_are_sent_at_long_intervals(watch: WatchHarness) -> None:
    watch.advance(600)
    assert 600 / (PROBE_AFTER + CHECK_INTERVAL) <= len(watch.oned.calls) <= 1 + 600 / PROBE_AFTER
    assert watch.state.is_reachable


def test_no_probe_is_sent_while_oned_replies_to_other_calls(watch: WatchHarness) -> None:
    for _ in range(100):
        watch.advance(10)
        watch.state("one.vmpool.info", 0.1, "ok")
    assert len(watch.oned.calls) == 1


@pytest.mark.parametrize("error", [UNREACHABLE, INVALID])
def test_an_oned_that_does_not_reply_is_unreachable(watch: WatchHarness, error: Exception) -> None:
    """So is a server at its address that sends invalid replies."""
    watch.oned.error = error
    watch.advance(PROBE_AFTER + CHECK_INTERVAL + 1)
    assert not watch.state.is_reachable
    assert watch.log_lines() == [("warn", "oned is unreachable")]


def test_an_oned_that_refuses_calls_is_reachable(watch: WatchHarness) -> None:
    watch.oned.error = REFUSED
    watch.advance(600)
    assert watch.state.is_reachable
    assert watch.log_lines() == []


def test_rejected_credentials_are_logged_once_and_probed_until_they_are_accepted(watch: WatchHarness) -> None:
    """Oned is reachable meanwhile. Other refusals show that it accepts the credentials."""
    watch.oned.error = REJECTED
    watch.advance(PROBE_AFTER + CHECK_INTERVAL)
    assert (watch.state.is_reachable, watch.state.rejects_credentials) == (True, True)
    calls_before = len(watch.oned.calls)
    watch.advance(10 * CHECK_INTERVAL)
    assert len(watch.oned.calls) == calls_before + 10
    assert watch.log_lines() == [("error", "oned rejects the credentials of serveradmin: every request fails")]
    watch.oned.error = REFUSED
    watch.advance(CHECK_INTERVAL)
    assert (watch.state.is_reachable, watch.state.rejects_credentials) == (True, False)
    assert watch.log_lines()[1:] == [("info", "oned accepts the credentials of serveradmin again")]


def test_a_rejected_call_of_a_request_counts_at_once(watch: WatchHarness) -> None:
    """No probe is needed to see it."""
    watch.state("one.vmpool.info", 0.1, "rejected")
    assert watch.state.rejects_credentials
    watch.state("one.vmpool.info", 0.1, "unavailable")
    assert watch.state.rejects_credentials
    watch.state("one.vmpool.info", 0.1, "ok")
    assert not watch.state.rejects_credentials


def test_an_unreachable_oned_is_probed_more_often_and_its_first_reply_is_logged(watch: WatchHarness) -> None:
    watch.oned.error = UNREACHABLE
    watch.advance(300)
    calls_before = len(watch.oned.calls)
    watch.oned.error = None
    watch.advance(CHECK_INTERVAL)
    assert len(watch.oned.calls) == calls_before + 1
    assert watch.state.is_reachable
    assert [text for _, text in watch.log_lines()] == ["oned is unreachable", "oned is reachable again"]


def test_one_call_that_times_out_does_not_make_oned_unreachable(watch: WatchHarness) -> None:
    """Other calls were answered shortly before. The next check sends a probe, whose outcome counts."""
    watch.state("one.vmpool.info", 30.0, "unavailable")
    assert watch.state.is_reachable
    watch.advance(CHECK_INTERVAL)
    assert len(watch.oned.calls) == 2
    assert watch.state.is_reachable


def test_a_failed_call_counts_when_the_last_reply_is_older_than_the_grace_period(watch: WatchHarness) -> None:
    watch.oned.error = UNREACHABLE
    watch.clock.advance(FAILURE_GRACE - 1)
    watch.state("one.vm.info", 0.1, "unavailable")
    assert watch.state.is_reachable
    watch.clock.advance(1)
    assert not watch.state.is_reachable


@pytest.mark.parametrize("outcome", ["cancelled", "failed"])
def test_a_cancelled_call_does_not_change_the_state(watch: WatchHarness, outcome: str) -> None:
    watch.clock.advance(FAILURE_GRACE + 1)
    watch.state("one.vm.info", 0.1, outcome)
    assert watch.state.is_reachable
    assert watch.state.last_reply == 1_800_000_000


def test_an_oned_that_accepts_calls_and_never_replies_is_unreachable(watch: WatchHarness) -> None:
    """The timeout of a probe is shorter than that of a request."""
    watch.oned.is_hanging = True
    watch.advance(REPLY_VALID_FOR)
    assert not watch.state.is_reachable
    watch.oned.is_hanging = False
    watch.advance(PROBE_TIMEOUT + CHECK_INTERVAL)
    assert watch.state.is_reachable


def test_an_unexpected_error_does_not_end_the_checks(watch: WatchHarness) -> None:
    watch.oned.error = ValueError("a mistake")
    watch.advance(PROBE_AFTER)
    assert [event["log_failure"].type for event in watch.logged if "log_failure" in event] == [ValueError]
    watch.oned.error = None
    watch.advance(CHECK_INTERVAL)
    assert watch.state.is_reachable


def test_setting_the_clock_back_does_not_make_oned_unreachable(watch: WatchHarness) -> None:
    """A reply in the future counts as one just now."""
    watch.clock.rightNow -= 3600
    assert watch.state.is_reachable


def test_stopping_the_service_cancels_a_probe_in_flight(watch: WatchHarness) -> None:
    watch.oned.is_hanging = True
    watch.advance(PROBE_AFTER + CHECK_INTERVAL)
    watch.service.stopService()
    calls_before = len(watch.oned.calls)
    watch.advance(600)
    assert len(watch.oned.calls) == calls_before
    assert watch.clock.getDelayedCalls() == []


# The reactor's lag


class LagHarness:
    """A `LagWatch` on a reactor that lags as the test sets it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.reported: list[float] = []
        self.total_lag = 0.0
        self.service = LagWatch(
            self.reported.append, lambda: self.clock.seconds() + self.total_lag, self.clock, Logger("test")
        )
        self.service.startService()
        self.clock.advance(0)

    def measure(self, lag: float = 0.0, times: int = 1) -> None:
        """Have the reactor run the measurement, `lag` seconds late each time."""
        for _ in range(times):
            self.total_lag += lag
            self.clock.advance(LAG_INTERVAL)


def test_a_reactor_that_is_on_time_has_no_lag() -> None:
    harness = LagHarness()
    harness.measure(times=3)
    assert harness.reported == [0.0, 0.0, 0.0]


def test_the_reported_lag_is_the_largest_of_the_last_minute() -> None:
    """So that a scrape every minute sees it."""
    harness = LagHarness()
    harness.measure(lag=0.5)
    harness.measure(lag=2.0)
    harness.measure(times=LAG_SAMPLES - 1)
    assert harness.reported[0] == pytest.approx(0.5)
    assert harness.reported[1:] == pytest.approx([2.0] * LAG_SAMPLES)
    harness.measure()
    assert harness.reported[-1] == pytest.approx(0.0)
