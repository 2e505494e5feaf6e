"""The index of client tokens: which machines of a session carry which token, and how far it reaches."""

from __future__ import annotations

from econed.actions.token_index import MAX_TOKEN, TokenIndex, TokenMachine

NOW = 1_800_000_000
DAY = 24 * 3600


def machine(machine_id: int, token: str = "tok", created: int = NOW) -> TokenMachine:
    return TokenMachine(machine_id, token, created)


def test_nothing_is_known_of_a_new_session() -> None:
    index = TokenIndex()
    assert index.newest_id("alice") is None
    assert index.ids("alice", "tok") == frozenset()


def test_machines_that_were_read_are_found_by_their_tokens() -> None:
    index = TokenIndex()
    index.add("alice", None, 9, [machine(7), machine(3, "other"), machine(5)], NOW - DAY)
    index.add("alice", 9, 12, [machine(11)], NOW - DAY)
    assert index.newest_id("alice") == 12
    assert index.ids("alice", "tok") == {5, 7, 11}
    assert index.ids("alice", "other") == {3}
    assert index.ids("bob", "tok") == frozenset()


def test_a_machine_that_two_requests_have_read_is_known_once() -> None:
    """Two requests may read on from the same id, or look back, at the same time."""
    index = TokenIndex(max_entries=6)
    for after in (None, None, 4):
        index.add("alice", after, 6, [machine(5), machine(6)], NOW - DAY)
    assert index.ids("alice", "tok") == {5, 6}


def test_machines_of_a_session_that_was_forgotten_meanwhile_are_not_added() -> None:
    """The index would have a gap before them."""
    index = TokenIndex()
    index.add("alice", None, 9, [machine(9)], NOW - DAY)
    index.forget("alice")
    index.add("alice", 9, 10, [machine(10)], NOW - DAY)
    assert index.newest_id("alice") is None


def test_machines_above_those_that_another_request_has_read_again_are_not_added() -> None:
    """The session was forgotten, and then read again by a request that had begun earlier."""
    index = TokenIndex()
    index.add("alice", None, 9, [machine(9)], NOW - DAY)
    index.forget("alice")
    index.add("alice", None, 7, [machine(7)], NOW - DAY)
    index.add("alice", 9, 10, [machine(10)], NOW - DAY)
    assert index.newest_id("alice") == 7
    assert index.ids("alice", "tok") == {7}


def test_machines_that_are_too_old_are_removed() -> None:
    index = TokenIndex()
    index.add("alice", None, 2, [machine(1, "old", NOW), machine(2, "new", NOW + DAY)], NOW - DAY)
    index.add("alice", 2, 2, [], NOW + 1)
    assert index.ids("alice", "old") == frozenset()
    assert index.ids("alice", "new") == {2}
    assert index.newest_id("alice") == 2


def test_the_session_that_was_used_least_recently_is_forgotten_when_the_index_is_full() -> None:
    index = TokenIndex(max_entries=5)
    index.add("alice", None, 1, [machine(1)], NOW - DAY)
    index.add("bob", None, 2, [machine(2)], NOW - DAY)
    index.add("alice", 1, 1, [], NOW - DAY)
    index.add("carol", None, 3, [machine(3)], NOW - DAY)
    assert index.newest_id("bob") is None
    assert index.newest_id("alice") == 1
    assert index.newest_id("carol") == 3


def test_a_session_that_alone_fills_half_of_the_index_is_not_remembered() -> None:
    """Sessions with fewer machines are not forgotten for it."""
    index = TokenIndex(max_entries=8)
    index.add("bob", None, 9, [machine(9)], NOW - DAY)
    index.add("alice", None, 4, [machine(number) for number in range(3)], NOW - DAY)
    assert index.newest_id("alice") == 4
    index.add("alice", 4, 5, [machine(5)], NOW - DAY)
    assert index.newest_id("alice") is None
    assert index.ids("bob", "tok") == {9}


def test_tokens_that_no_call_can_have_are_not_kept() -> None:
    index = TokenIndex()
    index.add("alice", None, 2, [machine(1, "x" * (MAX_TOKEN + 1)), machine(2, "x" * MAX_TOKEN)], NOW - DAY)
    assert index.ids("alice", "x" * (MAX_TOKEN + 1)) == frozenset()
    assert index.ids("alice", "x" * MAX_TOKEN) == {2}
