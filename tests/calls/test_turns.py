"""Whose call is sent next: users take turns, then the requests of each user."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from econed.calls import turns
from econed.calls.kinds import CallKind, kind_of
from econed.calls.turns import MAX_BULK_READS, MAX_CHANGES, MAX_PASSED, Owner, Ticket, Turns


class Simulation:
    """A simulation of calls that take turns; `sent` are their names in the order in which they got a slot."""

    def __init__(self, limit: int) -> None:
        self.turns = Turns(limit)
        self.sent: list[Any] = []
        self.in_flight: dict[Any, Ticket] = {}

    def enter(
        self, name: Any, owner: Owner | int = 1, request: object = "r", kind: CallKind = CallKind.OBJECT
    ) -> Ticket:
        """Add a call to the queue."""

        def on_turn() -> None:
            self.sent.append(name)
            self.in_flight[name] = ticket

        ticket = Ticket(owner if isinstance(owner, Owner) else Owner(owner), request, kind, on_turn)
        self.turns.enter(ticket)
        return ticket

    def end(self, name: Any) -> None:
        """End a call in flight."""
        self.turns.leave(self.in_flight.pop(name))

    def end_all(self) -> None:
        """End the calls in flight, the oldest first, until there are none."""
        while self.in_flight:
            self.end(next(iter(self.in_flight)))


def test_after_a_burst_of_one_user_the_call_of_another_is_the_next() -> None:
    simulation = Simulation(8)
    for number in range(250):
        simulation.enter(number, owner=1, kind=CallKind.CHANGE)
    simulation.enter("other", owner=2)
    simulation.end_all()
    assert simulation.sent.index("other") == MAX_CHANGES
    assert len(simulation.sent) == 251


def test_a_user_whose_calls_take_all_their_slots_leaves_some_to_others() -> None:
    simulation = Simulation(8)
    for number in range(250):
        simulation.enter(number, owner=1)
    assert simulation.sent == [0, 1, 2, 3, 4, 5]
    simulation.enter("other", owner=2)
    assert simulation.sent[-1] == "other"
    for user in range(3, 20):
        simulation.enter(f"user {user}", owner=user)
    assert simulation.turns.taken == 8


@pytest.mark.parametrize(("limit", "share"), [(1, 1), (2, 1), (3, 2), (4, 3), (8, 6), (15, 12)])
def test_one_owner_has_three_quarters_of_the_slots_and_at_least_one(limit: int, share: int) -> None:
    simulation = Simulation(limit)
    for number in range(50):
        simulation.enter(number)
    assert simulation.turns.taken == share


@pytest.mark.parametrize("limit", [1, 8])
def test_users_take_turns_whatever_the_number_of_their_calls(limit: int) -> None:
    simulation = Simulation(limit)
    for number in range(limit):
        simulation.enter(number, owner=number)
    for name in ("a1", "a2", "a3", "b1", "b2", "c1"):
        simulation.enter(name, owner=ord(name[0]))
    simulation.end_all()
    assert simulation.sent[limit:] == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_the_requests_of_a_user_take_turns_whatever_the_number_of_their_calls() -> None:
    simulation = Simulation(1)
    for number in range(1000):
        simulation.enter(("long", number), request="long")
    simulation.enter(("short", 0), request="short")
    simulation.end_all()
    assert simulation.sent[:4] == [("long", 0), ("long", 1), ("short", 0), ("long", 2)]


def test_reads_of_one_object_go_ahead_of_the_users_changes_and_of_their_long_reads() -> None:
    simulation = Simulation(1)
    simulation.enter("first")
    simulation.enter("bulk", kind=CallKind.BULK)
    simulation.enter("change", kind=CallKind.CHANGE)
    simulation.enter("object")
    simulation.end_all()
    assert simulation.sent == ["first", "object", "change", "bulk"]


def test_reads_of_one_object_of_one_user_do_not_go_ahead_of_another_users_calls() -> None:
    simulation = Simulation(1)
    simulation.enter("first", owner=1)
    for number in range(5):
        simulation.enter(number, owner=1)
    simulation.enter("bulk", owner=2, kind=CallKind.BULK)
    simulation.end_all()
    assert simulation.sent[:3] == ["first", "bulk", 0]


def test_no_call_of_a_user_waits_for_ever_behind_their_other_calls() -> None:
    simulation = Simulation(1)
    simulation.enter("first")
    simulation.enter("change", kind=CallKind.CHANGE)
    simulation.enter("bulk", kind=CallKind.BULK)
    for number in range(100):
        simulation.enter(number)
    simulation.end_all()
    assert simulation.sent.index("change") <= MAX_PASSED + 2
    assert simulation.sent.index("bulk") <= MAX_PASSED + 3


@pytest.mark.parametrize(("kind", "limit"), [(CallKind.CHANGE, MAX_CHANGES), (CallKind.BULK, MAX_BULK_READS)])
def test_a_user_has_few_changes_and_few_long_reads_in_flight(kind: CallKind, limit: int) -> None:
    simulation = Simulation(100)
    for number in range(50):
        simulation.enter(number, request=number % 7, kind=kind)
    for _ in range(50):
        assert len(simulation.in_flight) == min(limit, 50 - len(simulation.sent) + len(simulation.in_flight))
        simulation.end(next(iter(simulation.in_flight)))


def test_an_owner_that_goes_first_is_sent_before_all_users() -> None:
    simulation = Simulation(1)
    for user in range(1, 20):
        simulation.enter(user, owner=user)
    simulation.enter("x", owner=Owner("users", goes_first=True))
    simulation.enter("y", owner=Owner("users", goes_first=True))
    simulation.end_all()
    assert simulation.sent[:4] == [1, "x", "y", 2]


def test_any_number_of_calls_may_end_as_soon_as_they_are_sent() -> None:
    """Each leaves when it gets its slot; that must not recurse."""
    simulation = Simulation(1)
    first = simulation.enter("first")
    sent: list[int] = []

    def enter(number: int) -> None:
        def on_turn() -> None:
            sent.append(number)
            simulation.turns.leave(ticket)

        ticket = Ticket(Owner(number % 3), number % 5, CallKind.OBJECT, on_turn)
        simulation.turns.enter(ticket)

    for number in range(5000):
        enter(number)
    simulation.turns.leave(first)
    assert sorted(sent) == list(range(5000))
    assert simulation.turns.is_idle


def test_leaving_a_long_queue_takes_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list would be searched: a cancelled request with thousands of calls would block the reactor."""
    steps: Counter[str] = Counter()

    class Counted(Ticket):
        def __eq__(self, other: object) -> bool:
            steps["compared"] += 1
            return self is other

        __hash__ = object.__hash__

    for name in ("_update", "_grant"):
        original = getattr(Turns, name)
        monkeypatch.setattr(
            Turns, name, lambda self, *args, _name=name, _do=original: (steps.update([_name]), _do(self, *args))[1]
        )
    queue = turns.Turns(1)
    tickets = [Counted(Owner(1), number % 10, CallKind.CHANGE, lambda: None) for number in range(3000)]
    for ticket in tickets:
        queue.enter(ticket)
    steps.clear()
    for ticket in reversed(tickets[1:]):
        queue.leave(ticket)
    assert steps == {"_update": 2999, "_grant": 2999}
    queue.leave(tickets[0])
    assert queue.is_idle


calls = st.tuples(st.integers(1, 4), st.integers(1, 3), st.sampled_from(CallKind))


@given(st.integers(1, 9), st.lists(st.one_of(calls, st.sampled_from(["end", "leave"])), max_size=80))
def test_no_call_is_lost_none_is_sent_twice_and_no_limit_is_exceeded(limit: int, steps: list[Any]) -> None:
    simulation = Simulation(limit)
    tickets: dict[int, Ticket] = {}
    left: set[int] = set()
    for number, step in enumerate(steps):
        waiting = [name for name, ticket in tickets.items() if not ticket.has_slot and name not in left]
        if step == "end" and simulation.in_flight:
            simulation.end(next(iter(simulation.in_flight)))
        elif step == "leave" and waiting:
            simulation.turns.leave(tickets[waiting[len(waiting) // 2]])
            left.add(waiting[len(waiting) // 2])
        elif not isinstance(step, str):
            owner, request, kind = step
            tickets[number] = simulation.enter(number, owner, request, kind)
        _check_limits(simulation, limit)
    simulation.end_all()
    assert sorted((*simulation.sent, *left)) == sorted(tickets)
    assert simulation.turns.is_idle


def _check_limits(simulation: Simulation, limit: int) -> None:
    in_flight = simulation.in_flight.values()
    assert simulation.turns.taken == len(in_flight) <= limit
    by_owner = Counter(ticket.owner for ticket in in_flight)
    assert all(count <= max(1, limit - max(1, limit // 4)) for count in by_owner.values())
    by_kind = Counter((ticket.owner, ticket.kind) for ticket in in_flight)
    assert all(count <= MAX_CHANGES for (_, kind), count in by_kind.items() if kind is CallKind.CHANGE)


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 4)), min_size=1, max_size=60))
def test_a_user_waits_for_at_most_one_call_of_each_other_user(entered: list[tuple[int, int]]) -> None:
    simulation = Simulation(1)
    simulation.enter((0, 0), owner=0)
    for number, (user, request) in enumerate(entered):
        simulation.enter((user, number), owner=user, request=request)
    simulation.end_all()
    remaining = Counter(user for user, _ in entered)
    since: Counter[int] = Counter()
    for user, _ in simulation.sent[1:]:
        remaining[user] -= 1
        since[user] = 0
        for other, count in remaining.items():
            if other != user and count:
                since[other] += 1
                assert since[other] < 5


@pytest.mark.parametrize(
    ("method", "args", "kind"),
    [
        ("one.vm.info", (1, False), CallKind.OBJECT),
        ("one.system.version", (), CallKind.OBJECT),
        ("one.clusterpool.info", (), CallKind.OBJECT),
        ("one.vmpool.infoset", ("1,2,3", True), CallKind.OBJECT),
        ("one.vmpool.infoset", (",".join(map(str, range(51))), True), CallKind.BULK),
        ("one.vmpool.info", (-2, -1, -1, -1, ""), CallKind.BULK),
        ("one.vmpool.accounting", (-2, 0, -1), CallKind.BULK),
        ("one.imagepool.info", (-2, -1, -1), CallKind.BULK),
        ("one.imagepool.info", (-2, 7, 8), CallKind.BULK),
        ("one.imagepool.info", (-2, 7, 7), CallKind.OBJECT),
        ("one.vm.action", ("resume", 1), CallKind.CHANGE),
        ("one.template.instantiate", (1, "", True, "", False), CallKind.CHANGE),
    ],
)
def test_calls_are_told_apart_by_what_they_cost(method: str, args: tuple[object, ...], kind: CallKind) -> None:
    assert kind_of(method, args) is kind
