"""Observers are called once for every call to oned, with its duration and outcome."""

from __future__ import annotations

from typing import Any

import pytest
from lxml import etree
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from zope.interface import implementer
from zope.interface.verify import verifyObject

from econed.errors import InvalidReply, OpenNebulaError, OpenNebulaRefusal, OpenNebulaUnavailable, ServerAccountRefused
from econed.interfaces import IOpenNebula
from econed.sandbox.backend import SandboxBackend
from econed.sandbox.demo_cloud import populate
from econed.sandbox.oned import Oned
from econed.telemetry.observed_calls import OUTCOMES, CallCounter, ObservedOpenNebula
from econed.user import Login


@implementer(IOpenNebula)
class DelayedOpenNebula:
    """An oned that replies when the test fires a Deferred."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.replies: list[Deferred[Any]] = []

    async def call(self, user: Login, method: str, *args: object) -> str | int | bool:
        return await self._reply("call", user, method, *args)  # type: ignore[no-any-return]

    async def document(self, user: Login, method: str, *args: object, **options: Any) -> Any:
        return await self._reply("document", user, method, *args)

    def _reply(self, *call: object) -> Deferred[Any]:
        self.calls.append(call)
        self.replies.append(Deferred())
        return self.replies[-1]


class ObservationHarness:
    """A delayed oned, its observed client, and what the observer recorded."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.delayed = DelayedOpenNebula()
        self.observed: list[tuple[str, float, str]] = []
        self.one = ObservedOpenNebula(self.delayed, self.clock, lambda *call: self.observed.append(call))

    def call(self, method: str, *args: object) -> Deferred[Any]:
        """Call `method` without waiting for the reply."""
        return Deferred.fromCoroutine(self.one.call("alice", method, *args))


@pytest.fixture
def harness() -> ObservationHarness:
    """A new harness."""
    return ObservationHarness()


def test_the_observed_client_provides_the_interface_of_a_client(harness: ObservationHarness) -> None:
    verifyObject(IOpenNebula, harness.one)
    verifyObject(IOpenNebula, harness.delayed)


def test_calls_and_values_are_passed_on_unchanged(harness: ObservationHarness) -> None:
    results: list[object] = []
    harness.call("one.vm.action", "resume", 7).addCallback(results.append)
    Deferred.fromCoroutine(harness.one.document(None, "one.vm.info", 7, False)).addCallback(results.append)
    assert harness.delayed.calls == [
        ("call", "alice", "one.vm.action", "resume", 7),
        ("document", None, "one.vm.info", 7, False),
    ]
    root = etree.Element("VM")
    harness.delayed.replies[0].callback(7)
    harness.delayed.replies[1].callback(root)
    assert results == [7, root]


def test_the_observer_is_called_at_the_end_of_a_call_with_its_duration(harness: ObservationHarness) -> None:
    first, second = harness.call("one.vm.info"), harness.call("one.image.info")
    harness.clock.advance(2)
    assert harness.observed == []
    harness.delayed.replies[1].callback(1)
    harness.clock.advance(1.5)
    harness.delayed.replies[0].callback(1)
    assert harness.observed == [("one.image.info", 2.0, "ok"), ("one.vm.info", 3.5, "ok")]
    assert first.result == second.result == 1


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (OpenNebulaRefusal("one.vm.action", 2048, "no"), "refused"),
        (ServerAccountRefused("one.vm.action", 256, "no"), "rejected"),
        (OpenNebulaUnavailable("one.vm.action", "away"), "unavailable"),
        (InvalidReply("one.vm.action", "?"), "nonsense"),
        (ZeroDivisionError("ours"), "failed"),
    ],
)
def test_the_outcome_is_the_kind_of_error_and_the_error_reaches_the_caller(
    harness: ObservationHarness, error: Exception, outcome: str
) -> None:
    call = harness.call("one.vm.action")
    failures: list[Any] = []
    call.addErrback(failures.append)
    harness.delayed.replies[0].errback(error)
    assert failures[0].value is error
    assert harness.observed == [("one.vm.action", 0.0, outcome)]
    assert outcome in OUTCOMES


def test_the_outcome_of_a_cancelled_call_is_cancelled(harness: ObservationHarness) -> None:
    call = harness.call("one.vm.action")
    call.addErrback(lambda failure: failure.trap(CancelledError))
    harness.clock.advance(3)
    call.cancel()
    assert harness.observed == [("one.vm.action", 3.0, "cancelled")]


def test_the_outcome_of_a_closed_coroutine_is_cancelled(harness: ObservationHarness) -> None:
    coroutine = harness.one.call("alice", "one.vm.action")
    coroutine.send(None)
    coroutine.close()
    assert harness.observed == [("one.vm.action", 0.0, "cancelled")]


def test_all_observers_are_called_and_an_observed_client_can_be_observed_again(harness: ObservationHarness) -> None:
    """The daemon observes the client of oned for the metrics, and the observed client again for each request."""
    first, second = CallCounter(), CallCounter()
    observed_again = ObservedOpenNebula(harness.one, harness.clock, first, second)
    Deferred.fromCoroutine(observed_again.call(None, "one.user.info"))
    harness.clock.advance(1)
    harness.delayed.replies[0].callback(1)
    assert harness.observed == [("one.user.info", 1.0, "ok")]
    assert (first.calls, first.seconds) == (second.calls, second.seconds) == (1, 1.0)


def test_a_call_counter_sums_the_durations_of_concurrent_calls(harness: ObservationHarness) -> None:
    counter = CallCounter()
    one = ObservedOpenNebula(harness.delayed, harness.clock, counter)
    for _ in range(2):
        Deferred.fromCoroutine(one.call(None, "one.vm.info")).addErrback(lambda _: None)
    harness.clock.advance(2)
    harness.delayed.replies[0].callback(1)
    harness.delayed.replies[1].errback(OpenNebulaUnavailable("one.vm.info", "away"))
    assert (counter.calls, counter.seconds) == (2, 4.0)


def test_the_sandbox_can_be_observed() -> None:
    clock = Clock()
    oned = Oned(clock)
    populate(oned, users=[("alice", "secret")])
    calls: list[tuple[str, str]] = []
    one = ObservedOpenNebula(SandboxBackend(oned), clock, lambda method, _, outcome: calls.append((method, outcome)))
    assert _result(one.document("alice", "one.user.info", -1, False)).findtext("NAME") == "alice"
    with pytest.raises(OpenNebulaError):
        _result(one.document("alice", "one.vm.info", 4711, False))
    assert calls == [("one.user.info", "ok"), ("one.vm.info", "refused")]


def _result(coroutine: Any) -> Any:
    """Return the result of a coroutine that does not wait."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("the coroutine waits")
