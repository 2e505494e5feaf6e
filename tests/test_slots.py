"""A bounded number of calls at once, and a queue before them that costs the same however long it is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred

import econed.slots
from econed.errors import OpenNebulaRefusal
from econed.interfaces import IOpenNebula
from econed.slots import FewAtOnce, Slots


def test_slots_are_given_in_the_order_in_which_they_were_asked_for() -> None:
    slots = Slots(2)
    order: list[int] = []
    for number in range(5):
        slots.acquire().addCallback(lambda _, asked: order.append(asked), number)
    assert (order, slots.taken, slots.waiting) == ([0, 1], 2, 3)
    slots.release()
    slots.release()
    assert (order, slots.taken, slots.waiting) == ([0, 1, 2, 3], 2, 1)
    for _ in range(3):
        slots.release()
    assert (order, slots.taken, slots.waiting) == ([0, 1, 2, 3, 4], 0, 0)


def test_who_leaves_the_queue_gets_no_slot_and_takes_none_from_others() -> None:
    slots = Slots(1)
    slots.acquire()
    failures: list[Any] = []
    leaving, staying = slots.acquire(), slots.acquire()
    leaving.addErrback(failures.append)
    leaving.cancel()
    assert failures[0].check(CancelledError)
    assert slots.waiting == 1
    slots.release()
    assert staying.called


def test_leaving_a_long_queue_does_not_look_at_those_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list would be searched: a request that is cancelled with thousands of calls would hold up the reactor."""
    compared: list[object] = []

    class Compared(Deferred[None]):
        def __eq__(self, other: object) -> bool:
            compared.append(other)
            return self is other

        __hash__ = Deferred.__hash__

    monkeypatch.setattr(econed.slots, "Deferred", Compared)
    slots = Slots(1)
    slots.acquire()
    waiting = [slots.acquire() for _ in range(2000)]
    for each in reversed(waiting):
        each.addErrback(lambda _: None)
        each.cancel()
    assert slots.waiting == 0
    assert not compared


def test_any_number_of_those_who_need_their_slot_no_longer_give_it_on() -> None:
    """Each gives it back as soon as it has it; that must not pile up on the stack."""
    slots = Slots(1)
    slots.acquire()
    served: list[int] = []

    def use(_: None, number: int) -> None:
        served.append(number)
        slots.release()

    for number in range(5000):
        slots.acquire().addCallback(use, number)
    slots.release()
    assert served == list(range(5000))
    assert slots.taken == 0


@given(st.integers(1, 4), st.lists(st.sampled_from(["ask", "give back", "leave"]), max_size=60))
def test_never_are_more_slots_taken_than_there_are_nor_free_while_somebody_waits(limit: int, steps: list[str]) -> None:
    slots = Slots(limit)
    asked: list[Deferred[None]] = []
    for step in steps:
        holding = [each for each in asked if each.called]
        waiting = [each for each in asked if not each.called]
        if step == "ask":
            asked.append(slots.acquire())
        elif step == "give back" and holding:
            asked.remove(holding[0])
            slots.release()
        elif step == "leave" and waiting:
            asked.remove(waiting[-1])
            waiting[-1].addErrback(lambda _: None)
            waiting[-1].cancel()
        assert slots.taken == sum(each.called for each in asked) <= limit
        assert slots.waiting == sum(not each.called for each in asked)
        assert slots.waiting == 0 or slots.taken == limit


class Unanswered:
    """oned that answers when it is told to."""

    def __init__(self) -> None:
        self.calls: list[Deferred[str]] = []

    async def call(self, user: str | None, method: str, *args: object) -> str:
        """Take a call (`IOpenNebula.call`)."""
        self.calls.append(Deferred())
        return await self.calls[-1]

    document = call


def test_of_the_calls_of_a_request_no_more_are_made_at_once_than_it_has_slots() -> None:
    oned = Unanswered()
    few: IOpenNebula = FewAtOnce(oned, Slots(2))  # type: ignore[arg-type]
    answers: list[Any] = []
    for number in range(5):
        work = few.call(None, "one.vm.action", number) if number % 2 else few.document(None, "one.vm.info", number)
        Deferred.fromCoroutine(work).addBoth(answers.append)
    made = 0
    while len(answers) < 5:
        assert len(oned.calls) - made <= 2
        oned.calls[made].callback("ok")
        made += 1
    assert answers == ["ok"] * 5


def test_a_call_that_fails_frees_its_slot_for_the_next() -> None:
    oned = Unanswered()
    few = FewAtOnce(oned, Slots(1))  # type: ignore[arg-type]
    answers: list[Any] = []
    for _ in range(2):
        Deferred.fromCoroutine(few.call(None, "one.vm.action")).addBoth(answers.append)
    oned.calls[0].errback(OpenNebulaRefusal("one.vm.action", 2048, "no"))
    oned.calls[1].callback("ok")
    assert answers[0].check(OpenNebulaRefusal)
    assert answers[1] == "ok"
