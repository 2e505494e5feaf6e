"""Reads that the requests of a user share: one at a time, and none that began before the request."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from econed.actions.shared_reads import SharedReads


class Source:
    """A source whose reads the test finishes."""

    def __init__(self) -> None:
        self.reads: list[Deferred[str]] = []

    async def read(self) -> str:
        """Read the source."""
        self.reads.append(Deferred())
        return await self.reads[-1]


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def shared() -> SharedReads:
    return SharedReads()


def request(
    shared: SharedReads, source: Source, user: str = "alice", key: str = "ids"
) -> tuple[Deferred[Any], list[Any]]:
    """Begin the read of a request; return its Deferred, and a list that gets the result."""
    results: list[Any] = []
    reading = Deferred.fromCoroutine(shared.get(user, key, source.read))
    reading.addBoth(results.append)
    return reading, results


def test_requests_that_arrive_during_a_read_share_the_next_one(shared: SharedReads, source: Source) -> None:
    _, first = request(shared, source)
    others = [request(shared, source)[1] for _ in range(19)]
    assert len(source.reads) == 1
    source.reads[0].callback("old")
    assert first == ["old"]
    assert others == [[]] * 19
    assert len(source.reads) == 2
    source.reads[1].callback("new")
    assert others == [["new"]] * 19
    assert len(source.reads) == 2
    assert not shared._queues


def test_a_user_has_one_read_at_a_time_and_other_users_do_not_wait_for_it(shared: SharedReads, source: Source) -> None:
    """The second read of a user waits even if it has another key."""
    request(shared, source, key="all")
    _, other = request(shared, source, key="living")
    assert len(source.reads) == 1
    _, bob = request(shared, source, "bob")
    source.reads[1].callback("bob's")
    assert bob == ["bob's"]
    source.reads[0].callback("all")
    source.reads[2].callback("living")
    assert other == ["living"]


def test_a_read_that_fails_fails_only_the_requests_that_wait_for_it(shared: SharedReads, source: Source) -> None:
    request(shared, source)
    others = [request(shared, source)[1] for _ in range(2)]
    source.reads[0].errback(ValueError("first"))
    source.reads[1].errback(ValueError("second"))
    assert [str(results[0].value) for results in others] == ["second", "second"]
    assert all(isinstance(results[0], Failure) for results in others)
    _, later = request(shared, source)
    source.reads[2].callback("fine")
    assert later == ["fine"]


def test_a_read_is_cancelled_with_the_last_request_that_waits(shared: SharedReads, source: Source) -> None:
    request(shared, source)
    cancelled, failures = request(shared, source)
    _, remaining = request(shared, source)
    source.reads[0].callback("old")
    cancelled.cancel()
    assert failures[0].check(CancelledError)
    source.reads[1].callback("new")
    assert remaining == ["new"]
    only_reader, _ = request(shared, source)
    assert not source.reads[2].called
    only_reader.cancel()
    assert source.reads[2].called
    assert not shared._queues


def test_a_read_that_no_request_waits_for_is_not_started(shared: SharedReads, source: Source) -> None:
    request(shared, source)
    waiting, _ = request(shared, source)
    waiting.cancel()
    source.reads[0].callback("old")
    assert len(source.reads) == 1
    assert not shared._queues
