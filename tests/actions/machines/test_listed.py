"""Lists of machines: which calls they make, and that a process that knows machines lists the same as a new one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from zope.interface import implementer

from econed.actions.instances.instances import describe_instances
from econed.actions.known_machines import MAX_AGE
from econed.actions.machines import listed
from econed.config.settings import Settings
from econed.interfaces import IOpenNebula
from econed.opennebula.pools import StateFilter
from econed.user import Login
from tests.support.cloud import Cloud

EXPIRATION_TIME = Settings().terminated_instances_expiration_time
TEMPLATE = 0
RUNNING = {"Name": "instance-state-name", "Values": ["running"]}
ANY_STATE = {"Name": "instance-state-name", "Values": ["*"]}


def create(cloud: Cloud, count: int, *, on_hold: bool = False, user: str = "alice") -> list[int]:
    """Create machines, wait until they run unless they are on HOLD, and return their ids."""
    ids = [cloud.as_user(user, "one.template.instantiate", TEMPLATE, "", on_hold, "", False) for _ in range(count)]
    cloud.clock.pump([1] * 20)
    return ids


def end(cloud: Cloud, *ids: int) -> None:
    """End machines of alice, and wait until they have ended."""
    for machine_id in ids:
        cloud.as_user("alice", "one.vm.action", "terminate-hard", machine_id)
    cloud.clock.pump([1] * 20)


def states(cloud: Cloud, user: str = "alice", **parameters: Any) -> list[tuple[str, str]]:
    """Return the ids and states of all instances in the order of the response, page after page with MaxResults."""
    listed_states: list[tuple[str, str]] = []
    token: dict[str, Any] = {}
    while True:
        page = cloud.run(user, "DescribeInstances", **parameters, **token)
        instances = [instance for reservation in page["Reservations"] for instance in reservation["Instances"]]
        listed_states += [(instance["InstanceId"], instance["State"]["Name"]) for instance in instances]
        if "NextToken" not in page:
            return listed_states
        token = {"NextToken": page["NextToken"]}


def calls_of(cloud: Cloud, make: Callable[[], object], user: str = "alice") -> list[tuple[object, ...]]:
    """Return the calls to oned in a user's session during `make`: methods without `one.vmpool.`, and arguments."""
    before = len(cloud.oned.calls)
    make()
    return [
        (call.method.removeprefix("one.vmpool."), *call.args)
        for call in list(cloud.oned.calls)[before:]
        if call.user == user
    ]


def methods(calls: Sequence[tuple[object, ...]]) -> list[object]:
    return [call[0] for call in calls]


@pytest.fixture
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read at most four machines in a range."""
    monkeypatch.setattr(listed, "RANGE_SIZE", 4)


STEPS = st.one_of(
    st.tuples(st.just("create"), st.integers(1, 3)),
    st.tuples(st.just("hold"), st.integers(1, 2)),
    st.tuples(st.just("end"), st.integers(0, 20)),
    st.tuples(st.just("end"), st.integers(0, 20)),
    st.tuples(
        st.just("wait"),
        st.sampled_from([60, EXPIRATION_TIME // 2, EXPIRATION_TIME - 90, EXPIRATION_TIME + 60, MAX_AGE + 60]),
    ),
    st.tuples(st.just("list"), st.integers(0, 3)),
    st.tuples(st.just("list"), st.integers(0, 3)),
)
LISTS: tuple[dict[str, Any], ...] = ({}, {"Filters": [RUNNING]}, {"MaxResults": 5}, {"Filters": [ANY_STATE]})


@settings(max_examples=20, deadline=None)
@given(st.lists(STEPS, min_size=4, max_size=24))
@example([("create", 3), ("list", 0), ("end", 1), ("list", 0), ("wait", EXPIRATION_TIME + 60), ("list", 0)])
@example([("create", 3), ("list", 1), ("end", 1), ("list", 1), ("list", 0), ("list", 0)])
@example([("hold", 2), ("list", 1), ("create", 1), ("end", 0), ("end", 1), ("list", 1), ("list", 0)])
@example([("list", 0), ("create", 1), ("end", 0), ("list", 0), ("create", 3), ("end", 0), ("list", 2)])
def test_a_process_that_knows_machines_lists_the_same_as_a_new_process(steps: list[tuple[str, int]]) -> None:
    cloud = Cloud()
    known = cloud.memory
    living: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listed, "RANGE_SIZE", 4)
        for step, number in [*steps, ("list", 0)]:
            match step:
                case "create":
                    living += create(cloud, number)
                case "hold":
                    living += create(cloud, number, on_hold=True)
                case "end" if living:
                    end(cloud, living.pop(number % len(living)))
                case "wait":
                    cloud.clock.advance(number)
                case "list":
                    cloud.memory = known
                    with_knowledge = states(cloud, **LISTS[number])
                    cloud.memory = cloud.new_memory()
                    assert with_knowledge == states(cloud, **LISTS[number])
                    cloud.memory = known


@pytest.mark.usefixtures("small_ranges")
def test_a_list_reads_ranges_of_ids_and_at_the_same_time_as_the_last_what_is_newer() -> None:
    cloud = Cloud()
    create(cloud, 10)
    states(cloud)
    assert calls_of(cloud, lambda: states(cloud)) == [
        ("infoextended", -2, 0, 3, -1, ""),
        ("infoextended", -2, 4, 6, -1, ""),
        ("infoextended", -2, 7, 9, -1, ""),
        ("info", -2, 10, -1, StateFilter.ANY, ""),
    ]


@pytest.mark.usefixtures("small_ranges")
def test_the_next_range_is_read_while_the_current_one_is_sent() -> None:
    cloud = Cloud(vms=12)

    async def read_first_part() -> None:
        parts = await describe_instances(cloud.call_as("alice"))
        await anext(parts)
        await parts.aclose()

    calls = calls_of(cloud, lambda: cloud.result(read_first_part()))
    ranges = [call[2:4] for call in calls if call[0] == "infoextended" and call[4] == StateFilter.NOT_DONE]
    assert ranges == [(0, 3), (4, 7)]


@pytest.mark.usefixtures("small_ranges")
def test_what_was_created_since_the_last_list_is_read_in_further_ranges() -> None:
    cloud = Cloud()
    create(cloud, 2)
    states(cloud)
    _, ended, *_ = create(cloud, 6)
    end(cloud, ended)
    calls = calls_of(cloud, lambda: states(cloud))
    assert calls[2:] == [("infoextended", -2, 2, 5, -1, ""), ("infoset", "3", True), ("infoextended", -2, 6, 7, -1, "")]
    assert len(states(cloud)) == 8


def test_only_a_process_that_knows_nothing_reads_accounting() -> None:
    cloud = Cloud()
    create(cloud, 2)
    first = calls_of(cloud, lambda: states(cloud))
    assert methods(first) == ["info", "info", "accounting", "infoextended", "infoextended"]
    assert methods(calls_of(cloud, lambda: states(cloud))) == ["infoextended", "info"]
    cloud.clock.advance(MAX_AGE + 1)
    assert methods(calls_of(cloud, lambda: states(cloud))) == methods(first)


def test_a_list_without_terminated_instances_reads_no_ended_machines() -> None:
    cloud = Cloud()
    _, ended = create(cloud, 2)
    states(cloud, Filters=[RUNNING])
    end(cloud, ended)
    for _ in range(2):
        assert methods(calls_of(cloud, lambda: states(cloud, Filters=[RUNNING]))) == ["infoextended", "info"]


def test_machines_that_ended_are_read_again_until_they_are_no_longer_listed() -> None:
    """Their tags may change."""
    cloud = Cloud()
    (ended,) = create(cloud, 1)
    states(cloud)
    end(cloud, ended)
    for _ in range(2):
        assert ("infoset", str(ended), True) in calls_of(cloud, lambda: states(cloud))
        cloud.clock.advance(EXPIRATION_TIME / 2 - 60)
    cloud.clock.advance(180)
    states(cloud)
    assert methods(calls_of(cloud, lambda: states(cloud))) == ["infoextended", "info"]


@pytest.mark.usefixtures("small_ranges")
@pytest.mark.parametrize("is_known", [True, False])
def test_many_machines_that_ended_are_read_in_several_ranges(*, is_known: bool) -> None:
    """Their documents are in memory at the same time, and a range that has few other machines may have many of them."""
    cloud = Cloud()
    ended = create(cloud, 10)
    states(cloud)
    end(cloud, *ended)
    states(cloud)
    if not is_known:
        cloud.memory = cloud.new_memory()
    calls = calls_of(cloud, lambda: states(cloud))
    assert [call[1] for call in calls if call[0] == "infoset"] == ["0,1,2,3", "4,5,6,7", "8,9"]


def test_what_one_session_knows_does_not_decide_what_another_lists() -> None:
    """Two sessions of one user may belong to different groups."""
    cloud = Cloud()
    create(cloud, 1)
    states(cloud)
    alice = cloud.user("alice")
    group = cloud.oneadmin("one.group.allocate", "other")
    cloud.oneadmin("one.user.addgroup", alice.id, group)
    changed = cloud.user("alice")
    assert changed.groups != alice.groups
    assert "accounting" in methods(calls_of(cloud, lambda: states(cloud)))
    cloud.cached_users["alice"] = alice
    assert "accounting" not in methods(calls_of(cloud, lambda: states(cloud)))


def test_a_machine_that_becomes_visible_is_listed() -> None:
    cloud = Cloud()
    (machine,) = create(cloud, 1, user="bob")
    create(cloud, 1)
    assert len(states(cloud)) == 1
    cloud.as_user("bob", "one.vm.chmod", machine, -1, -1, -1, -1, -1, -1, 1, -1, -1)
    assert len(states(cloud)) == 2
    cloud.as_user("bob", "one.vm.chmod", machine, -1, -1, -1, -1, -1, -1, 0, -1, -1)
    assert len(states(cloud)) == 1


@implementer(IOpenNebula)
class _ChangingOned:
    """An oned that changes before a user's call of a method, after `calls_before` such calls."""

    def __init__(self, oned: IOpenNebula, method: str, calls_before: int, change: Callable[[], None]) -> None:
        self._oned = oned
        self._method = method
        self._calls_before = calls_before
        self._change = change

    async def call(self, user: Login, method: str, *args: object) -> str | int | bool:
        return await self._oned.call(user, method, *args)

    async def document(self, user: Login, method: str, *args: object, **options: Any) -> Any:
        if method == self._method:
            if self._calls_before == 0:
                self._change()
            self._calls_before -= 1
        return await self._oned.document(user, method, *args, **options)


@pytest.mark.usefixtures("small_ranges")
@pytest.mark.parametrize("ranges_before", range(3))
@pytest.mark.parametrize("is_known", [False, True])
def test_machines_that_end_or_appear_between_two_ranges_are_listed_once(ranges_before: int, *, is_known: bool) -> None:
    cloud = Cloud()
    ids = create(cloud, 12)
    if is_known:
        states(cloud)
    alice = cloud.user("alice")

    def change() -> None:
        for machine_id in ids[1::3]:
            cloud.oneadmin("one.vm.action", "terminate-hard", machine_id)
        created = cloud.oneadmin("one.template.instantiate", TEMPLATE, "", False, "", False)
        cloud.oneadmin("one.vm.chown", created, alice.id, alice.gid)
        cloud.clock.pump([1] * 30)

    cloud.backend = _ChangingOned(cloud.backend, "one.vmpool.infoextended", ranges_before, change)
    during = [instance for instance, _ in states(cloud)]
    assert during == sorted(set(during))
    assert set(during) >= {f"i-{machine_id:08d}" for machine_id in ids}
    known = states(cloud)
    cloud.memory = cloud.new_memory()
    assert known == states(cloud)
    assert len(known) == 13
