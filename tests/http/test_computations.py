"""Long computations of requests in threads: a bounded number at a time, and none of a user's before another's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from econed.config.settings import Settings
from econed.http.computations import MAX_COMPUTATIONS, Computations
from tests.support.reactor_turns import wait_until
from tests.support.serving import Server, connected, get, signed

_T = TypeVar("_T")


class Threads:
    """Threads that do nothing until a test lets them; `works` are what they have got."""

    def __init__(self) -> None:
        self.works: list[tuple[Callable[[], Any], Deferred[Any]]] = []

    def __call__(self, work: Callable[[], _T]) -> Awaitable[_T]:
        """Take a work (`InThread`)."""
        done: Deferred[_T] = Deferred()
        self.works.append((work, done))
        return done

    def finish(self) -> object:
        """Do the work that was taken first, and return what came of it."""
        work, done = self.works.pop(0)
        result = work()
        done.callback(result)
        return result


@pytest.fixture
def threads() -> Threads:
    return Threads()


@pytest.fixture
def computations(threads: Threads) -> Computations:
    return Computations(threads)


def begun(computations: Computations, user: str, result: object = None) -> Deferred[Any]:
    """Have something computed for a user, and return what comes of it."""

    async def wait() -> object:
        return await computations.of(user)(lambda: result)

    return Deferred.fromCoroutine(wait())


def test_of_one_user_one_computation_is_made_at_a_time(computations: Computations, threads: Threads) -> None:
    ended = [begun(computations, "alice", number) for number in range(3)]
    results = []
    while threads.works:
        assert len(threads.works) == 1
        results.append(threads.finish())
    assert results == [0, 1, 2]
    assert [each.result for each in ended] == [0, 1, 2]


def test_of_all_users_together_few_are_made_at_a_time_in_the_order_of_asking(
    computations: Computations, threads: Threads
) -> None:
    users = [f"user{number}" for number in range(3 * MAX_COMPUTATIONS)]
    for user in users:
        begun(computations, user, user)
    results = []
    while threads.works:
        assert len(threads.works) <= MAX_COMPUTATIONS
        results.append(threads.finish())
    assert results == users


def test_however_many_one_user_asks_for_another_waits_for_one_of_them(
    computations: Computations, threads: Threads
) -> None:
    for user in ("alice", "carol"):
        for _ in range(50):
            begun(computations, user, user)
    begun(computations, "bob", "bob")
    assert [threads.finish() for _ in range(3)].count("bob") == 1
    while threads.works:
        threads.finish()


def test_who_goes_away_while_computing_leaves_the_place_to_the_next_when_the_thread_is_done(
    computations: Computations, threads: Threads
) -> None:
    first, second, third = (begun(computations, "alice", number) for number in range(3))
    first.cancel()
    second.cancel()
    for gone in (first, second):
        assert isinstance(gone.result, Failure)
        assert gone.result.check(CancelledError)
        gone.addErrback(lambda _: None)
    assert len(threads.works) == 1
    assert [threads.finish(), threads.finish()] == [0, 2]
    assert third.result == 2


def test_who_goes_away_while_waiting_for_others_takes_no_place(computations: Computations, threads: Threads) -> None:
    for number in range(MAX_COMPUTATIONS):
        begun(computations, f"user{number}", number)
    gone, kept = begun(computations, "alice", "gone"), begun(computations, "alice", "kept")
    gone.cancel()
    gone.addErrback(lambda _: None)
    assert [threads.finish() for _ in range(MAX_COMPUTATIONS + 1)] == [*range(MAX_COMPUTATIONS), "kept"]
    assert kept.result == "kept"
    assert not computations._user_slots


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    running = Server(Settings(tmpdir=str(tmp_path)))
    yield running
    running.close()
    running.site.abort()


@pytest_twisted.ensureDeferred
async def test_requests_of_one_user_compute_one_after_the_other(server: Server) -> None:
    server.held = []
    users = [("alice", "alicepw")] * 5 + [("bob", "bobpw")]
    clients = [await connected(server) for _ in users]
    before = len(server.cloud.oned.calls)
    for client, (user, secret) in zip(clients, users, strict=True):
        client.send(get(server, signed(server, user, secret, Action="DescribeKeyPairs")))

    def have_come() -> bool:
        calls = list(server.cloud.oned.calls)[before:]
        return sum(call.user in ("alice", "bob") and call.method == "one.user.info" for call in calls) == len(users)

    await wait_until(have_come)
    while not all(client.has_response for client in clients):
        await wait_until(lambda: server.held)
        assert len(server.held) <= len({user for user, _ in users})
        server.held.pop(0)()
        await wait_until(lambda: server.held or all(client.has_response for client in clients))
    for client in clients:
        client.close()
