"""What a process knows of machines, and how much of it."""

from __future__ import annotations

from econed.actions.known_machines import MAX_AGE, MAX_ENDED, MAX_OWNERS, MAX_SESSIONS, KnownLists, KnownMachines
from econed.opennebula.pools import OwnerFilter

NOW = 1_800_000_000

ALL = OwnerFilter.VISIBLE


def known(alive: range, ended: range = range(0)) -> KnownMachines:
    return KnownMachines(alive, ended, highest=-1, looked_at=NOW, ended_since=NOW - 900)


def ranges(machines: KnownMachines, size: int, first: int = 0, *, ended: bool = True) -> list[tuple[int, int]]:
    found = []
    while first <= machines.last_id:
        last = machines.end_of_range(first, size, ended=ended)
        found.append((first, last))
        first = last + 1
    return found


def test_ids_are_divided_into_as_few_ranges_as_possible_with_about_the_same_number_of_machines() -> None:
    assert ranges(known(range(10, 30, 2)), 4) == [(0, 16), (17, 22), (23, 28)]
    assert ranges(known(range(8)), 4) == [(0, 3), (4, 7)]
    assert ranges(known(range(9)), 4, first=2) == [(2, 5), (6, 8)]
    assert ranges(known(range(0), range(5, 7)), 4) == [(0, 6)]
    assert ranges(known(range(0)), 4) == []


def test_a_range_has_a_bounded_number_of_ended_machines_where_these_are_read() -> None:
    machines = known(range(0, 30, 10), range(11, 20))
    assert ranges(machines, 4) == [(0, 14), (15, 18), (19, 20)]
    assert ranges(machines, 4, ended=False) == [(0, 20)]


def test_a_machine_that_is_no_longer_alive_counts_as_ended_until_it_is_forgotten() -> None:
    machines = known(range(6))
    assert list(machines.replace_alive(1, 3, [3, 1])) == [2]
    assert list(machines.replace_alive(1, 3, [3, 1])) == []
    assert list(machines.ended_between(0, 5)) == [2]
    machines.forget([2], alive=[], ended_since=NOW - 800)
    assert list(machines.ended_between(0, 5)) == []
    assert machines.ended_since == NOW - 800


def test_a_machine_that_another_list_added_meanwhile_is_not_lost() -> None:
    """Its range may have been read before it was created."""
    machines = known(range(3))
    machines.add_newer([3], [4], looked_at=NOW + 1)
    assert (machines.highest, machines.last_id) == (4, 4)
    assert list(machines.replace_alive(0, 3, range(3))) == [3]
    machines.forget([3], alive=[3], ended_since=0)
    assert list(machines.replace_alive(0, 3, range(4))) == []
    assert list(machines.ended_between(0, 9)) == [4]


def test_knowledge_is_usable_for_an_hour_and_for_what_ended_after_it_began() -> None:
    machines = known(range(3))
    assert machines.is_usable(NOW + MAX_AGE, NOW - 900)
    assert not machines.is_usable(NOW + MAX_AGE + 1, None)
    assert not machines.is_usable(NOW - 1, None)
    assert machines.is_usable(NOW, None)
    assert not machines.is_usable(NOW, NOW - 901)
    assert not known(range(3), range(MAX_ENDED + 1)).is_usable(NOW, None)


def test_the_sessions_that_were_used_least_recently_are_forgotten_first() -> None:
    lists = KnownLists(max_ids=10)
    for session in "abc":
        lists.remember(session, ALL, known(range(3)))
    assert lists.get("a", ALL) is not None
    lists.remember("d", ALL, known(range(4)))
    assert [session for session in "abcd" if lists.get(session, ALL) is not None] == ["a", "c", "d"]
    assert lists.count == 10
    lists.remember("e", ALL, known(range(11)))
    assert lists.count == 0
    for number in range(MAX_SESSIONS + 1):
        lists.remember(number, ALL, known(range(0)))
    assert (lists.get(0, ALL) is None, lists.get(1, ALL) is None) == (True, False)


def test_the_lists_of_one_session_displace_only_each_other() -> None:
    """A session can have a list for every owner that it names, whether or not the owner exists."""
    lists = KnownLists()
    lists.remember("a", ALL, known(range(3)))
    for owner in range(MAX_SESSIONS + 1):
        lists.remember("b", owner, known(range(1)))
        lists.remember("b", ALL, known(range(1)))
    assert lists.get("a", ALL) is not None
    assert lists.get("b", ALL) is not None
    assert lists.get("b", MAX_SESSIONS) is not None
    assert lists.get("b", MAX_SESSIONS - MAX_OWNERS) is None
    assert lists.count == 3 + MAX_OWNERS
