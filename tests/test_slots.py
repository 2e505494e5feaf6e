"""Limits on concurrent calls, with a queue whose operations take constant time."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred

import econed.slots
from econed.slots import Slots


def test_slots_are_acquired_in_the_order_of_the_requests() -> None:
    slots = Slots(2)
    order: list[int] = []
    for number in range(5):
        slots.acquire().addCallback(lambda _, served: order.append(served), number)
    assert (order, slots.taken, slots.waiting) == ([0, 1], 2, 3)
    slots.release()
    slots.release()
    assert (order, slots.taken, slots.waiting) == ([0, 1, 2, 3], 2, 1)
    for _ in range(3):
        slots.release()
    assert (order, slots.taken, slots.waiting) == ([0, 1, 2, 3, 4], 0, 0)


def test_a_cancelled_request_gets_no_slot_and_takes_none_from_others() -> None:
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


def test_leaving_a_long_queue_takes_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list would be searched: a cancelled request with thousands of calls would block the reactor."""
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
    for deferred in reversed(waiting):
        deferred.addErrback(lambda _: None)
        deferred.cancel()
    assert slots.waiting == 0
    assert not compared


def test_any_number_of_callers_may_release_their_slot_at_once() -> None:
    """Each releases it when it has acquired it; that must not recurse."""
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


@given(st.integers(1, 4), st.lists(st.sampled_from(["acquire", "release", "cancel"]), max_size=60))
def test_the_limit_is_never_exceeded_and_no_slot_is_free_while_a_caller_waits(limit: int, steps: list[str]) -> None:
    slots = Slots(limit)
    requests: list[Deferred[None]] = []
    for step in steps:
        holding = [request for request in requests if request.called]
        waiting = [request for request in requests if not request.called]
        if step == "acquire":
            requests.append(slots.acquire())
        elif step == "release" and holding:
            requests.remove(holding[0])
            slots.release()
        elif step == "cancel" and waiting:
            requests.remove(waiting[-1])
            waiting[-1].addErrback(lambda _: None)
            waiting[-1].cancel()
        assert slots.taken == sum(request.called for request in requests) <= limit
        assert slots.waiting == sum(not request.called for request in requests)
        assert slots.waiting == 0 or slots.taken == limit
