"""Whoever looks on hears of every call of oned once, with how long it took and how it ended, and of nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from lxml import etree
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from zope.interface import implementer
from zope.interface.verify import verifyObject

from econed.errors import InvalidReply, OpenNebulaError, OpenNebulaRefusal, OpenNebulaUnavailable
from econed.interfaces import IOpenNebula
from econed.sandbox.backend import SandboxBackend
from econed.sandbox.demo_cloud import populate
from econed.sandbox.oned import Oned
from econed.telemetry.observed_calls import OUTCOMES, CallCounter, ObservedOpenNebula


@implementer(IOpenNebula)
class Slow:
    """An oned that answers when the test has it answer."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []
        self.answers: list[Deferred[Any]] = []

    async def call(self, user: str | None, method: str, *args: object) -> str | int | bool:
        return await self._answer("call", user, method, *args)  # type: ignore[no-any-return]

    async def document(self, user: str | None, method: str, *args: object) -> etree._Element:
        return await self._answer("document", user, method, *args)  # type: ignore[no-any-return]

    def _answer(self, *asked: object) -> Deferred[Any]:
        self.asked.append(asked)
        self.answers.append(Deferred())
        return self.answers[-1]


class Watching:
    """An oned that is slow, one that is observed, and what the observer heard."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.slow = Slow()
        self.heard: list[tuple[str, float, str]] = []
        self.one = ObservedOpenNebula(self.slow, self.clock, lambda *told: self.heard.append(told))

    def call(self, method: str, *args: object) -> Deferred[Any]:
        """Call, without waiting for the answer."""
        return Deferred.fromCoroutine(self.one.call("alice", method, *args))


@pytest.fixture
def watching() -> Watching:
    """Return one."""
    return Watching()


def test_it_is_an_oned_as_what_it_is_put_round(watching: Watching) -> None:
    verifyObject(IOpenNebula, watching.one)
    verifyObject(IOpenNebula, watching.slow)


def test_a_call_and_its_value_pass_unchanged(watching: Watching) -> None:
    came: list[object] = []
    watching.call("one.vm.action", "resume", 7).addCallback(came.append)
    Deferred.fromCoroutine(watching.one.document(None, "one.vm.info", 7, False)).addCallback(came.append)
    assert watching.slow.asked == [
        ("call", "alice", "one.vm.action", "resume", 7),
        ("document", None, "one.vm.info", 7, False),
    ]
    root = etree.Element("VM")
    watching.slow.answers[0].callback(7)
    watching.slow.answers[1].callback(root)
    assert came == [7, root]


def test_each_call_is_told_when_it_ends_with_the_seconds_it_took(watching: Watching) -> None:
    first, second = watching.call("one.vm.info"), watching.call("one.image.info")
    watching.clock.advance(2)
    assert watching.heard == []
    watching.slow.answers[1].callback(1)
    watching.clock.advance(1.5)
    watching.slow.answers[0].callback(1)
    assert watching.heard == [("one.image.info", 2.0, "ok"), ("one.vm.info", 3.5, "ok")]
    assert first.result == second.result == 1


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (OpenNebulaRefusal("one.vm.action", 2048, "no"), "refused"),
        (OpenNebulaUnavailable("one.vm.action", "away"), "unavailable"),
        (InvalidReply("one.vm.action", "?"), "nonsense"),
        (ZeroDivisionError("ours"), "failed"),
    ],
)
def test_an_error_is_told_by_its_kind_and_goes_on_to_the_caller(
    watching: Watching, error: Exception, outcome: str
) -> None:
    call = watching.call("one.vm.action")
    failed: list[Any] = []
    call.addErrback(failed.append)
    watching.slow.answers[0].errback(error)
    assert failed[0].value is error
    assert watching.heard == [("one.vm.action", 0.0, outcome)]
    assert outcome in OUTCOMES


def test_a_call_that_is_given_up_is_told_as_cancelled(watching: Watching) -> None:
    call = watching.call("one.vm.action")
    call.addErrback(lambda failure: failure.trap(CancelledError))
    watching.clock.advance(3)
    call.cancel()
    assert watching.heard == [("one.vm.action", 3.0, "cancelled")]


def test_a_coroutine_that_is_closed_is_told_as_cancelled(watching: Watching) -> None:
    coroutine = watching.one.call("alice", "one.vm.action")
    coroutine.send(None)
    coroutine.close()
    assert watching.heard == [("one.vm.action", 0.0, "cancelled")]


def test_all_observers_are_told_and_an_observed_oned_can_be_observed_again(watching: Watching) -> None:
    """As it is in the daemon: one round the client of oned for the metrics, one for each request round that."""
    first, second = CallCounter(), CallCounter()
    again = ObservedOpenNebula(watching.one, watching.clock, first, second)
    Deferred.fromCoroutine(again.call(None, "one.user.info"))
    watching.clock.advance(1)
    watching.slow.answers[0].callback(1)
    assert watching.heard == [("one.user.info", 1.0, "ok")]
    assert (first.calls, first.seconds) == (second.calls, second.seconds) == (1, 1.0)


def test_a_tally_adds_up_calls_that_overlap(watching: Watching) -> None:
    tally = CallCounter()
    one = ObservedOpenNebula(watching.slow, watching.clock, tally)
    for _ in range(2):
        Deferred.fromCoroutine(one.call(None, "one.vm.info")).addErrback(lambda _: None)
    watching.clock.advance(2)
    watching.slow.answers[0].callback(1)
    watching.slow.answers[1].errback(OpenNebulaUnavailable("one.vm.info", "away"))
    assert (tally.calls, tally.seconds) == (2, 4.0)


def test_the_sandbox_can_be_observed() -> None:
    clock = Clock()
    oned = Oned(clock)
    populate(oned, users=[("alice", "secret")])
    heard: list[tuple[str, str]] = []
    one = ObservedOpenNebula(SandboxBackend(oned), clock, lambda method, _, outcome: heard.append((method, outcome)))
    assert _now(one.document("alice", "one.user.info", -1, False)).findtext("NAME") == "alice"
    with pytest.raises(OpenNebulaError):
        _now(one.document("alice", "one.vm.info", 4711, False))
    assert heard == [("one.user.info", "ok"), ("one.vm.info", "refused")]


def _now(coroutine: Any) -> Any:
    """Return what a coroutine that waits for nothing comes to."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits")
