"""The queue before oned: limits, deadlines, cancellation, and fairness between users and requests."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from econed.calls.turns import MAX_CHANGES, Owner
from econed.calls.wait_limit import MAX_WAIT
from econed.errors import OpenNebulaRefusal, OpenNebulaUnavailable
from econed.interfaces import ICallLimiter, IOpenNebula
from econed.slots import MAX_CALLS_PER_REQUEST
from tests.calls.manual_oned import Queued, Request, machines


@pytest.fixture
def queued() -> Queued:
    return Queued()


def test_the_queue_and_its_shares_have_the_interfaces_of_a_client_of_oned(queued: Queued) -> None:
    assert verifyObject(ICallLimiter, queued.queue)
    assert verifyObject(IOpenNebula, queued.queue.share(Owner(1)))


def test_of_a_burst_of_one_user_and_one_call_of_another_the_others_is_sent_at_once(queued: Queued) -> None:
    burst = [queued.request(user=1) for _ in range(50)]
    for number in range(250):
        burst[number % 50].change(number)
    other = queued.request(user=2)
    other.change(1000)
    assert [call.user for call in queued.oned.sent] == ["user-1"] * MAX_CHANGES + ["user-2"]
    queued.end_all()
    assert Counter(call.args[-1] for call in queued.oned.sent) == Counter((*range(250), 1000))
    assert queued.is_forgotten


def test_the_second_request_of_a_user_does_not_wait_for_a_thousand_calls_of_the_first(queued: Queued) -> None:
    first, second = queued.request(), queued.request()
    for number in range(1000):
        first.change(number)
    second.change(-1)
    for _ in range(MAX_CHANGES):
        queued.oned.in_flight[0].reply.callback(True)
    assert -1 in [call.args[-1] for call in queued.oned.sent[: MAX_CHANGES + 2]]


def test_a_request_has_few_calls_in_the_queue_and_in_flight() -> None:
    queued = Queued(limit=100)
    request = queued.request()
    for number in range(40):
        request.read("one.vm.info", number, False)
    assert len(queued.oned.in_flight) == MAX_CALLS_PER_REQUEST
    assert queued.queue.calls_waiting == 0
    queued.end_all()
    assert len(request.results) == 40
    assert queued.is_forgotten


def test_calls_in_flight_and_calls_that_wait_are_counted() -> None:
    queued = Queued(limit=2)
    requests = [queued.request(user) for user in range(5)]
    for request in requests:
        request.change(1)
    assert (queued.queue.calls_in_flight, queued.queue.calls_waiting) == (2, 3)
    queued.oned.in_flight[0].reply.errback(OpenNebulaRefusal("one.vm.action", 2048, "no"))
    assert (queued.queue.calls_in_flight, queued.queue.calls_waiting) == (2, 2)
    assert requests[0].results[0].check(OpenNebulaRefusal)
    queued.end_all()
    assert queued.is_forgotten


def test_a_request_gives_up_if_none_of_its_calls_is_sent_for_a_minute() -> None:
    queued = Queued(limit=1)
    queued.request(user=1).change(1)
    waiting = queued.request(user=2)
    waiting.change(2)
    queued.clock.advance(10)
    waiting.change(3)
    queued.clock.advance(MAX_WAIT - 11)
    assert waiting.results == []
    queued.clock.advance(1)
    assert [failure.check(OpenNebulaUnavailable) for failure in waiting.results] == [OpenNebulaUnavailable] * 2
    assert all(failure.value.never_sent for failure in waiting.results)
    queued.end_all()
    assert len(queued.oned.sent) == 1
    assert queued.is_forgotten


def test_a_request_with_progress_is_not_given_up() -> None:
    """Its calls are sent and end, so a launch of many machines takes as long as oned takes."""
    queued = Queued(limit=1)
    launch, other = queued.request(user=1), queued.request(user=2)
    for number in range(30):
        launch.change(number)
        other.change(number)
    for _ in range(60):
        queued.clock.advance(MAX_WAIT / 2 - 1)
        queued.oned.in_flight[0].reply.callback(True)
    assert launch.results == other.results == [True] * 30
    assert queued.is_forgotten


@pytest.mark.parametrize("progress", ["a call ends", "a call is sent"])
def test_each_sent_and_each_ended_call_is_progress(progress: str) -> None:
    queued = Queued(limit=1)
    other, request = queued.request(user=2), queued.request(user=1)
    first, second = (request, other) if progress == "a call ends" else (other, request)
    first.change(1)
    second.change(2)
    if progress == "a call ends":
        other.change(3)
    request.change(4)
    queued.clock.advance(MAX_WAIT - 1)
    queued.oned.in_flight[0].reply.callback(True)
    queued.clock.advance(MAX_WAIT - 1)
    assert not any(isinstance(result, Failure) for result in request.results)
    queued.clock.advance(1)
    assert isinstance(request.results[-1], Failure)
    queued.end_all()


def test_a_call_that_is_sent_is_not_given_up_by_the_queue(queued: Queued) -> None:
    request = queued.request()
    request.change(1)
    queued.clock.advance(10 * MAX_WAIT)
    assert request.results == []


def test_a_cancelled_call_in_flight_is_cancelled_and_its_slot_is_used() -> None:
    queued = Queued(limit=1)
    first, second = queued.request(), queued.request()
    change = first.change(1)
    second.change(2)
    change.cancel()
    assert first.results[0].check(CancelledError)
    assert [call.args[-1] for call in queued.oned.in_flight] == [2]


def test_a_cancelled_request_with_thousands_of_calls_leaves_at_once() -> None:
    queued = Queued(limit=1)
    queued.request(user=1).change(-1)
    leaving, staying = queued.request(user=2), queued.request(user=2)
    calls = [leaving.change(number) for number in range(3000)]
    staying.change(-2)
    for call in calls:
        call.cancel()
    assert len(leaving.results) == 3000
    assert queued.queue.calls_waiting == 1
    queued.end_all()
    assert [call.args[-1] for call in queued.oned.sent] == [-1, -2]
    assert queued.is_forgotten


def test_calls_of_the_daemon_itself_have_turns_of_their_own(queued: Queued) -> None:
    queued = Queued(limit=1)
    request = queued.request(user=1)
    for number in range(5):
        request.change(number)
    reconciler = Request(queued.queue.share(Owner("reconciler")), "user-1")
    users = Request(queued.queue.share(Owner("users", goes_first=True)), "user-1")
    reconciler.change(100)
    users.change(200)
    queued.end_all()
    assert [call.args[-1] for call in queued.oned.sent[:4]] == [0, 200, 100, 1]


steps = st.one_of(
    st.tuples(st.just("change"), st.integers(1, 3), st.integers(0, 2)),
    st.tuples(st.just("read"), st.integers(1, 3), st.integers(0, 2), st.integers(0, 3)),
    st.tuples(st.just("set"), st.integers(1, 3), st.integers(0, 2), st.lists(st.integers(0, 9), min_size=1)),
    st.tuples(st.sampled_from(["end", "fail", "cancel"]), st.integers(0, 20)),
    st.tuples(st.just("wait"), st.sampled_from([1, 30, 60])),
)


@given(st.integers(1, 8), st.lists(steps, max_size=60))
def test_every_call_ends_once_no_change_is_sent_twice_and_nothing_is_kept(limit: int, actions: list[Any]) -> None:
    queued = Queued(limit=limit)
    requests = {(user, number): queued.request(user) for user in range(1, 4) for number in range(3)}
    calls: list[Deferred[Any]] = []
    for count, (name, *arguments) in enumerate(actions):
        in_flight = queued.oned.in_flight
        match name, arguments:
            case "change", [user, number]:
                calls.append(requests[user, number].change(count))
            case "read", [user, number, id_]:
                calls.append(requests[user, number].read("one.vm.info", id_, False))
            case "set", [user, number, ids]:
                calls.append(requests[user, number].read_set(*ids))
            case "end", [number] if in_flight:
                _end(in_flight[number % len(in_flight)])
            case "fail", [number] if in_flight:
                call = in_flight[number % len(in_flight)]
                call.reply.errback(OpenNebulaUnavailable(call.method, "no reply"))
            case "cancel", [number] if calls:
                calls[number % len(calls)].cancel()
            case "wait", [seconds]:
                queued.clock.advance(seconds)
        assert len(queued.oned.in_flight) == queued.queue.calls_in_flight <= limit
    while in_flight := queued.oned.in_flight:
        _end(in_flight[0])
    assert all(call.called for call in calls)
    assert sum(len(request.results) for request in requests.values()) == len(calls)
    assert (
        max(Counter(call.args for call in queued.oned.sent if call.method == "one.vm.action").values(), default=1) == 1
    )
    assert queued.is_forgotten


def _end(call: Any) -> None:
    ids = [int(id_) for id_ in str(call.args[0]).split(",")] if call.method == "one.vmpool.infoset" else []
    call.reply.callback(machines(ids))
