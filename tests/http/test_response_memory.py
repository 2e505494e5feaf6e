"""Limits on the memory for long responses: turns for producing parts, and bytes that clients have not read."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from econed.errors import EC2Error
from econed.http.heap import TRIM_DELAY, trim
from econed.http.response_memory import (
    MAX_BYTES,
    MAX_BYTES_PER_USER,
    MAX_PARTS,
    MAX_PARTS_PER_USER,
    RESERVE_THRESHOLD,
    RESERVED_BYTES,
    TURN_TIMEOUT,
    ResponseMemory,
)


class Producer:
    """Produces a part; it has its turn until `finish`."""

    def __init__(self, memory: ResponseMemory, user: str) -> None:
        self.has_turn = False
        self._done: Deferred[None] = Deferred()
        self.result: Any = None
        self.running = Deferred.fromCoroutine(self._produce(memory, user))
        self.running.addBoth(self._set_result)

    async def _produce(self, memory: ResponseMemory, user: str) -> str:
        async with memory.turn(user):
            self.has_turn = True
            await self._done
        return "produced"

    def _set_result(self, result: Any) -> None:
        self.result = result

    def finish(self) -> None:
        """Finish the part."""
        self._done.callback(None)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def trims() -> list[float]:
    """The times at which the heap was trimmed."""
    return []


@pytest.fixture
def memory(clock: Clock, trims: list[float]) -> ResponseMemory:
    return ResponseMemory(clock, lambda: trims.append(clock.seconds()))


def test_a_limited_number_of_parts_is_produced_at_a_time_for_a_user(memory: ResponseMemory) -> None:
    producers = [Producer(memory, "alice") for _ in range(MAX_PARTS_PER_USER + 2)]
    assert [producer.has_turn for producer in producers] == [True] * MAX_PARTS_PER_USER + [False] * 2
    producers[0].finish()
    assert [producer.has_turn for producer in producers] == [True] * (MAX_PARTS_PER_USER + 1) + [False]
    assert producers[0].result == "produced"


def test_users_do_not_wait_for_the_turns_of_another_user(memory: ResponseMemory) -> None:
    for _ in range(50):
        Producer(memory, "alice")
    assert Producer(memory, "bob").has_turn


def test_a_limited_number_of_parts_is_produced_at_a_time_for_all_users_in_turns(memory: ResponseMemory) -> None:
    """A user who has just had a turn comes after those who wait."""
    users = [f"user{number}" for number in range(MAX_PARTS)]
    first = [Producer(memory, user) for user in users]
    waiting = [Producer(memory, user) for user in ("alice", "alice", "bob")]
    assert memory.producing == MAX_PARTS
    assert not any(producer.has_turn for producer in waiting)
    first[0].finish()
    first[1].finish()
    assert [producer.has_turn for producer in waiting] == [True, False, True]
    assert memory.producing == MAX_PARTS


def test_no_part_is_produced_for_a_user_with_too_many_unread_bytes(memory: ResponseMemory) -> None:
    memory.hold("alice", MAX_BYTES_PER_USER)
    producer = Producer(memory, "alice")
    assert not producer.has_turn
    assert Producer(memory, "bob").has_turn
    memory.release("alice", 1)
    assert producer.has_turn


def test_too_many_unread_bytes_of_all_users_block_users_who_hold_many(
    memory: ResponseMemory,
) -> None:
    for number in range(5):
        memory.hold(f"user{number}", MAX_BYTES // 5 + 1)
    assert memory.held > MAX_BYTES
    producer = Producer(memory, "user1")
    assert not producer.has_turn
    memory.release("user0", MAX_BYTES // 5 + 1)
    assert producer.has_turn


def test_some_users_who_read_nothing_do_not_block_the_others(memory: ResponseMemory) -> None:
    """Users who have read nearly everything may use a reserve, which is limited too."""
    for number in range(MAX_BYTES // MAX_BYTES_PER_USER):
        memory.hold(f"user{number}", MAX_BYTES_PER_USER)
    memory.check_room("alice")
    first = Producer(memory, "alice")
    assert first.has_turn
    memory.hold("alice", RESERVE_THRESHOLD)
    first.finish()
    second = Producer(memory, "alice")
    assert not second.has_turn
    memory.release("alice", 1)
    assert second.has_turn
    second.finish()
    for number in range(RESERVED_BYTES // MAX_BYTES_PER_USER):
        memory.hold(f"another{number}", MAX_BYTES_PER_USER)
    assert not Producer(memory, "alice").has_turn
    with pytest.raises(EC2Error):
        memory.check_room("alice")


def test_the_unread_bytes_of_one_user_do_not_block_other_users_however_many_they_are(memory: ResponseMemory) -> None:
    """One part may be as large as the user's machines are. The beginning of a short response is held, too."""
    memory.hold("mallory", 2 * (MAX_BYTES + RESERVED_BYTES))
    memory.hold("alice", 190)
    memory.check_room("alice")
    assert Producer(memory, "alice").has_turn
    assert not Producer(memory, "mallory").has_turn


def test_a_long_response_is_refused_if_there_is_no_room_for_it(memory: ResponseMemory) -> None:
    memory.hold("alice", MAX_BYTES_PER_USER)
    with pytest.raises(EC2Error) as caught:
        memory.check_room("alice")
    assert (caught.value.code, caught.value.status) == ("RequestLimitExceeded", 503)
    memory.check_room("bob")
    others = [f"user{number}" for number in range((MAX_BYTES + RESERVED_BYTES) // MAX_BYTES_PER_USER - 1)]
    for other in others:
        memory.hold(other, MAX_BYTES_PER_USER)
    with pytest.raises(EC2Error):
        memory.check_room("bob")
    memory.release(others[0], 1)
    memory.check_room("bob")


def test_waiting_for_a_turn_times_out(memory: ResponseMemory, clock: Clock) -> None:
    producers = [Producer(memory, "alice") for _ in range(MAX_PARTS_PER_USER + 1)]
    clock.advance(TURN_TIMEOUT)
    error = producers[-1].result.value
    assert isinstance(error, EC2Error)
    assert (error.code, error.status) == ("RequestLimitExceeded", 503)
    for producer in producers[:-1]:
        producer.finish()
    assert (memory.producing, memory.held) == (0, 0)
    assert Producer(memory, "alice").has_turn


def test_cancelled_turns_are_released(memory: ResponseMemory) -> None:
    producers = [Producer(memory, "alice") for _ in range(MAX_PARTS_PER_USER + 2)]
    producers[-1].running.cancel()
    producers[0].running.cancel()
    assert all(producer.result.check(CancelledError) for producer in (producers[-1], producers[0]))
    assert producers[MAX_PARTS_PER_USER].has_turn
    for producer in producers[1:-1]:
        producer.finish()
    assert memory.producing == 0
    assert not memory._waiting
    assert not memory._producing


def test_the_heap_is_trimmed_once_some_time_after_memory_was_freed(
    memory: ResponseMemory, clock: Clock, trims: list[float]
) -> None:
    """After a part was produced, and after bytes were read or dropped."""
    producers = [Producer(memory, user) for user in ("alice", "bob")]
    for producer in producers:
        producer.finish()
    clock.advance(TRIM_DELAY)
    assert trims == [TRIM_DELAY]
    clock.advance(60)
    assert len(trims) == 1
    memory.hold("alice", 1 << 20)
    memory.release("alice", 1 << 19)
    memory.release("alice", 1 << 19)
    clock.advance(TRIM_DELAY)
    assert len(trims) == 2


def test_trimming_the_heap_leaves_memory_in_use_alone() -> None:
    """With the C library itself; where it has no malloc_trim, nothing happens."""
    blocks = [bytes([number]) * 3000 for number in range(100)]
    trim()
    assert [block[0] for block in blocks] == list(range(100))
