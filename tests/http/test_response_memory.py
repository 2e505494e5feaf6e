"""What long answers may take of a process's memory: turns for making sets, and bytes that clients have not taken."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from econed.errors import EC2Error
from econed.http.heap import TRIM_DELAY, trim
from econed.http.response_memory import (
    FEW_BYTES,
    MAX_BYTES,
    MAX_BYTES_PER_USER,
    MAX_PARTS,
    MAX_PARTS_PER_USER,
    RESERVED_BYTES,
    TURN_TIMEOUT,
    ResponseMemory,
)


class Maker:
    """Somebody who makes a set, and has it in hand until told to end."""

    def __init__(self, memory: ResponseMemory, user: str) -> None:
        self.has_turn = False
        self._done: Deferred[None] = Deferred()
        self.result: Any = None
        self.running = Deferred.fromCoroutine(self._make(memory, user))
        self.running.addBoth(self._ended)

    async def _make(self, memory: ResponseMemory, user: str) -> str:
        async with memory.turn(user):
            self.has_turn = True
            await self._done
        return "made"

    def _ended(self, result: Any) -> None:
        self.result = result

    def end(self) -> None:
        """Have the set made."""
        self._done.callback(None)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def given_back() -> list[float]:
    """When memory was given back to the system."""
    return []


@pytest.fixture
def memory(clock: Clock, given_back: list[float]) -> ResponseMemory:
    return ResponseMemory(clock, lambda: given_back.append(clock.seconds()))


def test_a_user_has_a_few_sets_made_at_a_time_and_the_next_when_one_is_done(memory: ResponseMemory) -> None:
    makers = [Maker(memory, "alice") for _ in range(MAX_PARTS_PER_USER + 2)]
    assert [each.has_turn for each in makers] == [True] * MAX_PARTS_PER_USER + [False] * 2
    makers[0].end()
    assert [each.has_turn for each in makers] == [True] * (MAX_PARTS_PER_USER + 1) + [False]
    assert makers[0].result == "made"


def test_what_one_user_waits_for_nobody_else_does(memory: ResponseMemory) -> None:
    for _ in range(50):
        Maker(memory, "alice")
    assert Maker(memory, "bob").has_turn


def test_all_users_together_have_no_more_than_so_many_made_and_take_turns(memory: ResponseMemory) -> None:
    """Whoever has just had a turn comes after those who wait."""
    users = [f"user{number}" for number in range(MAX_PARTS)]
    first = [Maker(memory, user) for user in users]
    waiting = [Maker(memory, user) for user in ("alice", "alice", "bob")]
    assert memory.producing == MAX_PARTS
    assert not any(each.has_turn for each in waiting)
    first[0].end()
    first[1].end()
    assert [each.has_turn for each in waiting] == [True, False, True]
    assert memory.producing == MAX_PARTS


def test_bytes_that_a_user_does_not_take_keep_further_sets_of_this_user_from_being_made(memory: ResponseMemory) -> None:
    memory.hold("alice", MAX_BYTES_PER_USER)
    maker = Maker(memory, "alice")
    assert not maker.has_turn
    assert Maker(memory, "bob").has_turn
    memory.release("alice", 1)
    assert maker.has_turn


def test_bytes_that_all_do_not_take_keep_further_sets_of_those_who_hold_many_from_being_made(
    memory: ResponseMemory,
) -> None:
    for number in range(5):
        memory.hold(f"user{number}", MAX_BYTES // 5 + 1)
    assert memory.held > MAX_BYTES
    maker = Maker(memory, "user1")
    assert not maker.has_turn
    memory.release("user0", MAX_BYTES // 5 + 1)
    assert maker.has_turn


def test_a_few_who_take_nothing_do_not_keep_others_waiting(memory: ResponseMemory) -> None:
    """Whoever has taken nearly all that was made for them has a reserve, which has its bound, too."""
    for number in range(MAX_BYTES // MAX_BYTES_PER_USER):
        memory.hold(f"user{number}", MAX_BYTES_PER_USER)
    memory.check_room("alice")
    first = Maker(memory, "alice")
    assert first.has_turn
    memory.hold("alice", FEW_BYTES)
    first.end()
    second = Maker(memory, "alice")
    assert not second.has_turn
    memory.release("alice", 1)
    assert second.has_turn
    second.end()
    for number in range(RESERVED_BYTES // MAX_BYTES_PER_USER):
        memory.hold(f"another{number}", MAX_BYTES_PER_USER)
    assert not Maker(memory, "alice").has_turn
    with pytest.raises(EC2Error):
        memory.check_room("alice")


def test_what_one_user_does_not_take_keeps_nobody_else_waiting_however_much_it_is(memory: ResponseMemory) -> None:
    """One set of a user may be as large as that user's machines are; the beginning of a short answer is held too."""
    memory.hold("mallory", 2 * (MAX_BYTES + RESERVED_BYTES))
    memory.hold("alice", 190)
    memory.check_room("alice")
    assert Maker(memory, "alice").has_turn
    assert not Maker(memory, "mallory").has_turn


def test_a_long_answer_that_is_made_whole_is_refused_where_there_is_no_room_for_it(memory: ResponseMemory) -> None:
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


def test_who_waits_too_long_is_told_so_and_takes_no_turn(memory: ResponseMemory, clock: Clock) -> None:
    makers = [Maker(memory, "alice") for _ in range(MAX_PARTS_PER_USER + 1)]
    clock.advance(TURN_TIMEOUT)
    error = makers[-1].result.value
    assert isinstance(error, EC2Error)
    assert (error.code, error.status) == ("RequestLimitExceeded", 503)
    for each in makers[:-1]:
        each.end()
    assert (memory.producing, memory.held) == (0, 0)
    assert Maker(memory, "alice").has_turn


def test_who_goes_away_while_waiting_or_making_leaves_nothing_behind(memory: ResponseMemory) -> None:
    makers = [Maker(memory, "alice") for _ in range(MAX_PARTS_PER_USER + 2)]
    makers[-1].running.cancel()
    makers[0].running.cancel()
    assert all(each.result.check(CancelledError) for each in (makers[-1], makers[0]))
    assert makers[MAX_PARTS_PER_USER].has_turn
    for each in makers[1:-1]:
        each.end()
    assert memory.producing == 0
    assert not memory._waiting
    assert not memory._producing


def test_what_was_freed_goes_back_to_the_system_a_while_later_and_once(
    memory: ResponseMemory, clock: Clock, given_back: list[float]
) -> None:
    """After a set was made, and after bytes were taken or thrown away."""
    makers = [Maker(memory, user) for user in ("alice", "bob")]
    for each in makers:
        each.end()
    clock.advance(TRIM_DELAY)
    assert given_back == [TRIM_DELAY]
    clock.advance(60)
    assert len(given_back) == 1
    memory.hold("alice", 1 << 20)
    memory.release("alice", 1 << 19)
    memory.release("alice", 1 << 19)
    clock.advance(TRIM_DELAY)
    assert len(given_back) == 2


def test_giving_back_what_is_free_leaves_what_is_in_use() -> None:
    """By the C library itself; elsewhere nothing happens."""
    kept = [bytes([number]) * 3000 for number in range(100)]
    trim()
    assert [each[0] for each in kept] == list(range(100))
