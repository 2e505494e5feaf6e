"""RunInstances with a client token: repeated, concurrent and interrupted calls launch the instances once."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from econed.actions.client_tokens import CLIENT_TOKEN
from econed.actions.instances.chores import HOLD_AGE
from econed.actions.instances.token_machines import TOKEN_LIFETIME
from econed.actions.machines.facts import DISCARDED
from econed.catalogue import all_chores
from econed.errors import EC2Error
from econed.interfaces import IOpenNebula
from econed.opennebula.pools import OwnerFilter, StateFilter
from econed.opennebula.session import Session
from econed.opennebula.states import VmState
from econed.reconciler import Reconciler
from tests.support.cloud import Cloud, perform
from tests.support.delayed_oned import DelayedOned, DyingOned

AMI = "ami-00000000"


def launch_parameters(count: int = 3, token: str = "tok", **extra: Any) -> dict[str, Any]:
    """Return the parameters of a RunInstances call."""
    return {"ImageId": AMI, "MinCount": count, "MaxCount": count, "ClientToken": token, **extra}


def begin(cloud: Cloud, oned: IOpenNebula, parameters: dict[str, Any]) -> list[Any]:
    """Begin a call in a separate process with the given oned; its result or failure is added to the returned list."""
    call = cloud.call_in_new_process("alice", oned)
    results: list[Any] = []
    Deferred.fromCoroutine(perform(call, "RunInstances", parameters)).addBoth(results.append)
    return results


def ids(result: Any) -> list[str]:
    """Return the ids of the instances in a result."""
    assert not isinstance(result, Failure), result
    return [instance["InstanceId"] for instance in result["Instances"]]


def living(cloud: Cloud) -> list[str]:
    """Return the ids of alice's instances that are not terminated, sorted."""
    reservations = cloud.run("alice", "DescribeInstances")["Reservations"]
    return sorted(i["InstanceId"] for r in reservations for i in r["Instances"] if i["State"]["Name"] != "terminated")


def machine_count(cloud: Cloud) -> int:
    """Return the number of alice's machines in all states."""
    return len(cloud.result(Session(cloud.backend, "alice").vm_ids(OwnerFilter.MINE, StateFilter.ANY)))


def test_a_repeated_call_returns_the_same_instances() -> None:
    cloud = Cloud()
    first = cloud.run("alice", "RunInstances", **launch_parameters())
    repeated = cloud.run("alice", "RunInstances", **launch_parameters())
    assert ids(first) == ids(repeated)
    assert repeated["ReservationId"] == first["ReservationId"]
    assert machine_count(cloud) == 3


def test_the_same_token_with_other_parameters_is_a_mismatch() -> None:
    cloud = Cloud()
    cloud.run("alice", "RunInstances", **launch_parameters())
    refusal = cloud.refusal("alice", "RunInstances", **launch_parameters(InstanceType="m1.large"))
    assert refusal.code == "IdempotentParameterMismatch"
    assert machine_count(cloud) == 3


def test_the_tokens_of_different_users_are_independent() -> None:
    cloud = Cloud()
    alices = ids(cloud.run("alice", "RunInstances", **launch_parameters()))
    bobs = ids(cloud.run("bob", "RunInstances", **launch_parameters()))
    assert not {*alices} & {*bobs}


def test_other_tokens_and_no_token_launch_other_instances() -> None:
    cloud = Cloud()
    cloud.run("alice", "RunInstances", **launch_parameters(1))
    cloud.run("alice", "RunInstances", **launch_parameters(1, token="other"))
    call = cloud.call_as("alice")
    for _ in range(2):
        cloud.result(perform(call, "RunInstances", {"ImageId": AMI, "MinCount": 1, "MaxCount": 1, "ClientToken": ""}))
    assert machine_count(cloud) == 4


def test_a_token_whose_instances_are_terminated_cannot_be_used_again() -> None:
    cloud = Cloud()
    instances = ids(cloud.run("alice", "RunInstances", **launch_parameters()))
    cloud.run("alice", "TerminateInstances", InstanceIds=instances)
    cloud.clock.pump([1] * 30)
    refusal = cloud.refusal("alice", "RunInstances", **launch_parameters())
    assert refusal.code == "IdempotentInstanceTerminated"
    assert machine_count(cloud) == 3


def test_a_token_is_found_during_its_lifetime_despite_many_newer_machines() -> None:
    cloud = Cloud()
    first = ids(cloud.run("alice", "RunInstances", **launch_parameters()))
    cloud.clock.advance(TOKEN_LIFETIME - 600)
    for index in range(3):
        cloud.run("alice", "RunInstances", **launch_parameters(60, token=f"other {index}"))
    assert ids(cloud.run("alice", "RunInstances", **launch_parameters())) == first


def test_a_token_expires_after_its_lifetime() -> None:
    cloud = Cloud()
    first = ids(cloud.run("alice", "RunInstances", **launch_parameters()))
    cloud.clock.advance(TOKEN_LIFETIME + 60)
    assert not {*first} & {*ids(cloud.run("alice", "RunInstances", **launch_parameters()))}


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.0, 3.0), min_size=8, max_size=40), st.lists(st.floats(0.0, 3.0), min_size=8, max_size=40))
def test_two_processes_with_the_same_call_return_the_same_instances(
    first_delays: list[float], second_delays: list[float]
) -> None:
    """This holds for every order of their calls to oned, and exactly the requested instances are launched."""
    cloud = Cloud()
    results = [
        begin(cloud, DelayedOned(cloud.backend, cloud.clock, cycle(first_delays)), launch_parameters()),
        begin(cloud, DelayedOned(cloud.backend, cloud.clock, cycle(second_delays)), launch_parameters()),
    ]
    cloud.clock.pump([0.1] * 4000)
    (first,), (second,) = results
    assert ids(first) == ids(second)
    assert first["ReservationId"] == second["ReservationId"]
    assert living(cloud) == ids(first)
    repeated = cloud.run("alice", "RunInstances", **launch_parameters())
    assert sorted(instance["AmiLaunchIndex"] for instance in repeated["Instances"]) == [0, 1, 2]


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.0, 3.0), min_size=8, max_size=40), st.lists(st.floats(0.0, 3.0), min_size=8, max_size=40))
def test_one_of_two_different_calls_with_the_same_token_succeeds(
    first_delays: list[float], second_delays: list[float]
) -> None:
    cloud = Cloud()
    other_parameters = launch_parameters(InstanceType="m1.large")
    results = [
        begin(cloud, DelayedOned(cloud.backend, cloud.clock, cycle(first_delays)), launch_parameters()),
        begin(cloud, DelayedOned(cloud.backend, cloud.clock, cycle(second_delays)), other_parameters),
    ]
    cloud.clock.pump([0.1] * 4000)
    errors = [result.value for (result,) in results if isinstance(result, Failure)]
    successes = [result for (result,) in results if not isinstance(result, Failure)]
    assert len(successes) == 1
    assert {error.code for error in errors if isinstance(error, EC2Error)} == {"IdempotentParameterMismatch"}
    assert living(cloud) == ids(successes[0])


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", range(24))
def test_a_call_interrupted_at_any_step_is_completed_by_the_next(step: int, after: bool) -> None:
    cloud = Cloud()
    dying = DyingOned(cloud.backend, step, after=after)
    assert begin(cloud, dying, launch_parameters()) == [] or not dying.is_dead
    result = cloud.run("alice", "RunInstances", **launch_parameters())
    cloud.clock.pump([1] * 30)
    assert living(cloud) == ids(result)
    states = [i["State"]["Name"] for i in cloud.run("alice", "DescribeInstances")["Reservations"][0]["Instances"]]
    assert states == ["running"] * 3


@pytest.mark.parametrize("step", range(24))
def test_machines_left_on_hold_by_an_interrupted_call_are_terminated_if_it_is_not_repeated(step: int) -> None:
    cloud = Cloud()
    begin(cloud, DyingOned(cloud.backend, step, after=True), launch_parameters())
    cloud.clock.advance(HOLD_AGE + 60)
    cloud.result(Reconciler(cloud.backend, cloud.clock, all_chores(), Logger("test")).round())
    session = Session(cloud.backend, "alice")
    assert cloud.result(session.vm_ids(OwnerFilter.MINE, VmState.HOLD)) == ()


def test_fewer_machines_than_the_minimum_are_discarded_and_never_visible() -> None:
    cloud = Cloud()
    cloud.oneadmin("one.user.quota", cloud.user("alice").id, 'VM=[VMS="2",CPU="-2",MEMORY="-2"]')
    refusal = cloud.refusal("alice", "RunInstances", **launch_parameters(3))
    assert refusal.code == "InstanceLimitExceeded"
    assert cloud.run("alice", "DescribeInstances")["Reservations"] == []


def test_a_repeated_call_returns_the_number_of_instances_that_could_be_created() -> None:
    cloud = Cloud()
    alice = cloud.user("alice").id
    cloud.oneadmin("one.user.quota", alice, 'VM=[VMS="2",CPU="-2",MEMORY="-2"]')
    parameters = {**launch_parameters(3), "MinCount": 1}
    first = ids(cloud.run("alice", "RunInstances", **parameters))
    assert len(first) == 2
    cloud.oneadmin("one.user.quota", alice, 'VM=[VMS="-2",CPU="-2",MEMORY="-2"]')
    assert ids(cloud.run("alice", "RunInstances", **parameters)) == first


def test_a_failed_call_can_be_repeated_with_its_token() -> None:
    cloud = Cloud()
    alice = cloud.user("alice").id
    cloud.oneadmin("one.user.quota", alice, 'VM=[VMS="2",CPU="-2",MEMORY="-2"]')
    cloud.refusal("alice", "RunInstances", **launch_parameters(3))
    cloud.oneadmin("one.user.quota", alice, 'VM=[VMS="-2",CPU="-2",MEMORY="-2"]')
    assert len(ids(cloud.run("alice", "RunInstances", **launch_parameters(3)))) == 3


def test_no_machine_is_released_before_all_of_its_call_are_created() -> None:
    cloud = Cloud()
    cloud.run("alice", "RunInstances", **launch_parameters(3))
    order = [call.method for call in cloud.changes if call.method.startswith(("one.template", "one.vm"))]
    assert order == ["one.template.instantiate"] * 3 + ["one.vm.action"] * 3


def test_a_token_stored_by_the_ruby_server_is_recognized() -> None:
    """The Ruby server stored EC2_CLIENT_TOKEN without a digest."""
    cloud = Cloud()
    machine = cloud.as_user(
        "alice", "one.template.instantiate", 0, "", False, f'DISK=[IMAGE_ID="0"]\n{CLIENT_TOKEN}="tok"', False
    )
    result = cloud.run("alice", "RunInstances", **launch_parameters(1))
    assert ids(result) == [f"i-{machine:08d}"]


def test_a_discarded_machine_is_not_an_instance() -> None:
    cloud = Cloud()
    (instance,) = ids(cloud.run("alice", "RunInstances", **launch_parameters(1)))
    cloud.as_user("alice", "one.vm.update", int(instance[2:]), f'{DISCARDED}="YES"', 1)
    assert cloud.refusal("alice", "DescribeInstances", InstanceIds=[instance]).code == "InvalidInstanceID.NotFound"
    assert cloud.run("alice", "DescribeInstances")["Reservations"] == []


@pytest.mark.parametrize("token", ["x" * 65, "é", "a\\", "]]>"])
def test_a_token_that_cannot_be_stored_is_refused(token: str) -> None:
    refusal = Cloud().refusal("alice", "RunInstances", **launch_parameters(1, token=token))
    assert refusal.code == "InvalidParameterValue"
