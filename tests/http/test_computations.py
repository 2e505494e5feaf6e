"""Long computations of requests in threads: a bounded number at a time, shared fairly between users."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from econed.http.computations import MAX_COMPUTATIONS, Computations
from tests.support.reactor_turns import wait_until
from tests.support.serving import Server, connected, get, signed

_T = TypeVar("_T")


class FakeThreads:
    """Threads that run their work when a test calls `finish_first`; `works` are the works they have."""

    def __init__(self) -> None:
        self.works: list[tuple[Callable[[], Any], Deferred[Any]]] = []

    def __call__(self, work: Callable[[], _T]) -> Awaitable[_T]:
        """Queue a work (`InThread`)."""
        done: Deferred[_T] = Deferred()
        self.works.append((work, done))
        return done

    def finish_first(self) -> object:
        """Run the work that was queued first, and return its result."""
        work, done = self.works.pop(0)
        result = work()
        done.callback(result)
        return result


@pytest.fixture
def threads() -> FakeThreads:
    return FakeThreads()


@pytest.fixture
def computations(threads: FakeThreads) -> Computations:
    return Computations(threads)


def start(computations: Computations, user: str, result: object = None) -> Deferred[Any]:
    """Start a computation for a user, and return its Deferred."""

    async def wait() -> object:
        return await computations.of(user)(lambda: result)

    return Deferred.fromCoroutine(wait())


def test_the_computations_of_a_user_run_one_at_a_time(computations: Computations, threads: FakeThreads) -> None:
    deferreds = [start(computations, "alice", number) for number in range(3)]
    results = []
    while threads.works:
        assert len(threads.works) == 1
        results.append(threads.finish_first())
    assert results == [0, 1, 2]
    assert [deferred.result for deferred in deferreds] == [0, 1, 2]


def test_few_computations_run_at_a_time_in_the_order_of_the_calls(
    computations: Computations, threads: FakeThreads
) -> None:
    users = [f"user{number}" for number in range(3 * MAX_COMPUTATIONS)]
    for user in users:
        start(computations, user, user)
    results = []
    while threads.works:
        assert len(threads.works) <= MAX_COMPUTATIONS
        results.append(threads.finish_first())
    assert results == users


def test_a_user_waits_for_one_computation_of_each_other_user_at_most(
    computations: Computations, threads: FakeThreads
) -> None:
    for user in ("alice", "carol"):
        for _ in range(50):
            start(computations, user, user)
    start(computations, "bob", "bob")
    assert [threads.finish_first() for _ in range(3)].count("bob") == 1
    while threads.works:
        threads.finish_first()


def test_a_cancelled_computation_keeps_its_slots_until_its_thread_has_ended(
    computations: Computations, threads: FakeThreads
) -> None:
    first, second, third = (start(computations, "alice", number) for number in range(3))
    first.cancel()
    second.cancel()
    for cancelled in (first, second):
        assert isinstance(cancelled.result, Failure)
        assert cancelled.result.check(CancelledError)
        cancelled.addErrback(lambda _: None)
    assert len(threads.works) == 1
    assert [threads.finish_first(), threads.finish_first()] == [0, 2]
    assert third.result == 2


def test_a_computation_cancelled_while_it_waits_takes_no_slot(computations: Computations, threads: FakeThreads) -> None:
    for number in range(MAX_COMPUTATIONS):
        start(computations, f"user{number}", number)
    cancelled, other = start(computations, "alice", "cancelled"), start(computations, "alice", "other")
    cancelled.cancel()
    cancelled.addErrback(lambda _: None)
    assert [threads.finish_first() for _ in range(MAX_COMPUTATIONS + 1)] == [*range(MAX_COMPUTATIONS), "other"]
    assert other.result == "other"
    assert not computations._user_slots


@pytest_twisted.ensureDeferred
async def test_requests_of_a_user_compute_one_after_the_other(server: Server) -> None:
    server.held = []
    users = [("alice", "alicepw")] * 5 + [("bob", "bobpw")]
    clients = [await connected(server) for _ in users]
    before = len(server.cloud.oned.calls)
    for client, (user, secret) in zip(clients, users, strict=True):
        client.send(get(server, signed(server, user, secret, Action="DescribeKeyPairs")))

    def all_arrived() -> bool:
        calls = list(server.cloud.oned.calls)[before:]
        return sum(call.user in ("alice", "bob") and call.method == "one.user.info" for call in calls) == len(users)

    await wait_until(all_arrived)
    while not all(client.has_response for client in clients):
        await wait_until(lambda: server.held)
        assert len(server.held) <= len({user for user, _ in users})
        server.held.pop(0)()
        await wait_until(lambda: server.held or all(client.has_response for client in clients))
    for client in clients:
        client.close()
