"""RunInstances repeated while the first call is being carried out: it joins or watches, and creates nothing."""

from __future__ import annotations

from itertools import repeat
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from econed.actions.call import Call
from econed.actions.client_tokens import CLIENT_TOKEN
from econed.actions.instances.chores import HOLD_AGE
from econed.actions.instances.launch import STANDSTILL
from econed.actions.machines.facts import DISCARDED, LAUNCH_INDEX, RESERVATION
from econed.catalogue import all_chores
from econed.opennebula.session import Session
from econed.opennebula.states import VmState
from econed.reconciler import Reconciler
from tests.support.cloud import Cloud, perform
from tests.support.delayed_oned import DelayedOned, DyingOned

AMI = "ami-00000000"
DELAY = 1.0
"""Seconds that each call of the first process is delayed, and as many its reply."""


def parameters(count: int = 3, token: str = "tok", **others: Any) -> dict[str, Any]:
    return {"ImageId": AMI, "MinCount": count, "MaxCount": count, "ClientToken": token, **others}


def begin(call: Call, **call_parameters: Any) -> list[Any]:
    """Begin a call; its result or failure is added to the returned list."""
    results: list[Any] = []
    Deferred.fromCoroutine(perform(call, "RunInstances", call_parameters)).addBoth(results.append)
    return results


def begin_slowly(cloud: Cloud, **call_parameters: Any) -> list[Any]:
    """Begin a call in a process of its own, whose calls of oned take long."""
    oned = DelayedOned(cloud.backend, cloud.clock, repeat(DELAY))
    return begin(cloud.call_in_new_process("alice", oned), **call_parameters)


def ids(result: Any) -> list[str]:
    assert not isinstance(result, Failure), result
    return [instance["InstanceId"] for instance in result["Instances"]]


def created(cloud: Cloud) -> int:
    return sum(call.method == "one.template.instantiate" for call in cloud.changes)


def discarded(cloud: Cloud) -> int:
    return sum(call.method == "one.vm.update" and DISCARDED in str(call.args) for call in cloud.changes)


def in_state(cloud: Cloud, state: VmState) -> int:
    return len(cloud.result(Session(cloud.backend, "alice").vm_ids(state=state)))


def slow_process(cloud: Cloud) -> None:
    """Let all calls of oned take long, in the process of `cloud` itself."""
    cloud.cached_users["alice"] = cloud.user("alice")
    cloud.backend = DelayedOned(cloud.backend, cloud.clock, repeat(DELAY))


def test_a_repeated_call_joins_the_launch_in_the_same_process() -> None:
    cloud = Cloud()
    slow_process(cloud)
    first = begin(cloud.call_as("alice"), **parameters())
    cloud.wait(3 * DELAY)
    second = begin(cloud.call_as("alice"), **parameters())
    cloud.wait(60)
    assert ids(second[0]) == ids(first[0])
    assert created(cloud) == 3
    assert sum(call.method == "one.vm.action" for call in cloud.changes) == 3


def test_a_repeated_call_shares_the_failure_of_the_launch_that_it_joins() -> None:
    cloud = Cloud()
    cloud.oneadmin("one.user.quota", cloud.user("alice").id, 'VM=[VMS="2",CPU="-2",MEMORY="-2"]')
    slow_process(cloud)
    results = [begin(cloud.call_as("alice"), **parameters()) for _ in range(2)]
    cloud.wait(60)
    assert [failure.value.code for (failure,) in results] == ["InstanceLimitExceeded"] * 2
    assert created(cloud) == 3


def test_another_call_with_the_token_does_not_join_the_launch() -> None:
    cloud = Cloud()
    slow_process(cloud)
    first = begin(cloud.call_as("alice"), **parameters())
    cloud.wait(6 * DELAY)
    second = begin(cloud.call_as("alice"), **parameters(InstanceType="m1.large"))
    cloud.wait(60)
    assert len(ids(first[0])) == 3
    assert second[0].value.code == "IdempotentParameterMismatch"
    assert created(cloud) == 3


def test_the_launch_of_another_user_with_the_same_token_is_not_joined() -> None:
    cloud = Cloud()
    cloud.cached_users["bob"] = cloud.user("bob")
    slow_process(cloud)
    results = [begin(cloud.call_as(user), **parameters(1)) for user in ("alice", "bob")]
    cloud.wait(60)
    assert ids(results[0][0]) != ids(results[1][0])


def test_a_dry_run_does_not_join_or_wait_for_a_launch() -> None:
    cloud = Cloud()
    begin_slowly(cloud, **parameters(20))
    cloud.wait(6 * DELAY)
    dry_run = begin(cloud.call_as("alice", dry_run=True), **parameters(20))
    cloud.clock.advance(0)
    assert dry_run[0].value.code == "DryRunOperation"


@pytest.mark.parametrize("moment", range(0, 40, 3))
def test_a_repeated_call_in_another_process_watches_the_launch_and_returns_its_instances(moment: int) -> None:
    """If both begin at the same time, each creates the first machine."""
    cloud = Cloud()
    first = begin_slowly(cloud, **parameters(20))
    cloud.wait(moment * DELAY)
    second = begin(cloud.call_in_new_process("alice", cloud.backend), **parameters(20))
    cloud.wait(120)
    assert ids(second[0]) == ids(first[0])
    assert created(cloud) <= 21
    assert created(cloud) - discarded(cloud) == 20
    if moment * DELAY > 6:
        assert created(cloud) == 20
    assert in_state(cloud, VmState.HOLD) == 0


def test_a_launch_that_stands_still_is_completed_by_a_repeated_call() -> None:
    """Its process died when it had created some of the machines."""
    cloud = Cloud()
    begin(cloud.call_in_new_process("alice", DyingOned(cloud.backend, 12)), **parameters(20))
    left = in_state(cloud, VmState.HOLD)
    assert 1 < left < 20
    second = begin(cloud.call_as("alice"), **parameters(20))
    cloud.wait(STANDSTILL - 1)
    assert created(cloud) == left
    cloud.wait(5)
    assert len(ids(second[0])) == 20
    assert created(cloud) == 20


def test_a_launch_that_failed_is_carried_out_by_the_repeated_call_that_watched_it() -> None:
    """Machines that are being discarded are no progress to wait for."""
    cloud = Cloud()
    alice = cloud.user("alice").id
    cloud.oneadmin("one.user.quota", alice, 'VM=[VMS="10",CPU="-2",MEMORY="-2"]')
    first = begin_slowly(cloud, **parameters(20))
    cloud.wait(8 * DELAY)
    second = begin(cloud.call_in_new_process("alice", cloud.backend), **parameters(20))
    while not first:
        cloud.wait(DELAY / 2)
        if discarded(cloud):
            cloud.oneadmin("one.user.quota", alice, 'VM=[VMS="-2",CPU="-2",MEMORY="-2"]')
    cloud.wait(30)
    assert first[0].value.code == "InstanceLimitExceeded"
    assert len(ids(second[0])) == 20
    assert in_state(cloud, VmState.HOLD) == 0


def test_a_process_does_not_rely_on_its_index_after_oned_has_lost_its_newest_machines() -> None:
    """The database was restored from a backup, so oned assigns the same ids again."""
    cloud = Cloud()
    cloud.run("alice", "RunInstances", **parameters(1, "first"))
    session_key = cloud.call_as("alice").session_key
    cloud.memory.launch_tokens.add(session_key, 0, 1000, [], cloud.call_as("alice").now)
    assert len(ids(cloud.run("alice", "RunInstances", **parameters(3)))) == 3
    assert created(cloud) == 4
    assert cloud.memory.launch_tokens.newest_id(session_key) == 3


def test_a_token_that_was_removed_from_its_machine_is_new() -> None:
    """The machines are read again, also by the process that has them in its index."""
    cloud = Cloud()
    (instance,) = ids(cloud.run("alice", "RunInstances", **parameters(1)))
    cloud.as_user("alice", "one.vm.update", int(instance[2:]), f"{CLIENT_TOKEN}=[]", 1)
    assert ids(cloud.run("alice", "RunInstances", **parameters(1))) != [instance]


def test_machines_on_hold_are_kept_while_machines_of_their_launch_are_being_created() -> None:
    """A launch of many machines on a slow oned takes longer than machines may be left on HOLD."""
    cloud = Cloud()
    begin(cloud.call_in_new_process("alice", DyingOned(cloud.backend, 12)), **parameters(20))
    left = in_state(cloud, VmState.HOLD)
    cloud.clock.advance(HOLD_AGE - 1)
    facts = f'{RESERVATION}="r-00000000"\n{LAUNCH_INDEX}="{left}"'
    cloud.as_user("alice", "one.template.instantiate", 0, "", True, facts, False)
    cloud.clock.advance(HOLD_AGE - 1)
    reconcile(cloud)
    assert in_state(cloud, VmState.HOLD) == left + 1
    cloud.clock.advance(2)
    reconcile(cloud)
    assert in_state(cloud, VmState.HOLD) == 0


def reconcile(cloud: Cloud) -> None:
    cloud.result(Reconciler(cloud.backend, cloud.clock, all_chores(), Logger("test")).round())
