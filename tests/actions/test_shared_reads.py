"""One read for all requests of a user that wait for it, one at a time, and none from before a request came."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from econed.actions.shared_reads import SharedReads


class Source:
    """Something that is read, each time when the test lets it."""

    def __init__(self) -> None:
        self.reads: list[Deferred[str]] = []

    async def read(self) -> str:
        """Read it."""
        self.reads.append(Deferred())
        return await self.reads[-1]


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def shared() -> SharedReads:
    return SharedReads()


def asked(
    shared: SharedReads, source: Source, user: str = "alice", key: str = "ids"
) -> tuple[Deferred[Any], list[Any]]:
    """Have a request ask, and return it and what it comes to."""
    ended: list[Any] = []
    asking = Deferred.fromCoroutine(shared.get(user, key, source.read))
    asking.addBoth(ended.append)
    return asking, ended


def test_requests_that_arrive_during_a_read_share_the_next_one(shared: SharedReads, source: Source) -> None:
    _, first = asked(shared, source)
    others = [asked(shared, source)[1] for _ in range(19)]
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
    """Also where it is another read."""
    asked(shared, source, key="all")
    _, other = asked(shared, source, key="living")
    assert len(source.reads) == 1
    _, bob = asked(shared, source, "bob")
    source.reads[1].callback("bob's")
    assert bob == ["bob's"]
    source.reads[0].callback("all")
    source.reads[2].callback("living")
    assert other == ["living"]


def test_a_read_that_fails_fails_only_the_requests_that_wait_for_it(shared: SharedReads, source: Source) -> None:
    asked(shared, source)
    others = [asked(shared, source)[1] for _ in range(2)]
    source.reads[0].errback(ValueError("first"))
    source.reads[1].errback(ValueError("second"))
    assert [str(each[0].value) for each in others] == ["second", "second"]
    assert all(isinstance(each[0], Failure) for each in others)
    _, later = asked(shared, source)
    source.reads[2].callback("fine")
    assert later == ["fine"]


def test_a_read_is_cancelled_with_the_last_request_that_waits(shared: SharedReads, source: Source) -> None:
    asked(shared, source)
    leaving, gone = asked(shared, source)
    _, staying = asked(shared, source)
    source.reads[0].callback("old")
    leaving.cancel()
    assert gone[0].check(CancelledError)
    source.reads[1].callback("new")
    assert staying == ["new"]
    alone, _ = asked(shared, source)
    assert not source.reads[2].called
    alone.cancel()
    assert source.reads[2].called
    assert not shared._queues


def test_a_read_that_no_request_waits_for_is_not_started(shared: SharedReads, source: Source) -> None:
    asked(shared, source)
    waiting, _ = asked(shared, source)
    waiting.cancel()
    source.reads[0].callback("old")
    assert len(source.reads) == 1
    assert not shared._queues
