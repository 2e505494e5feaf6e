"""Requests for few instances each: the reads of several are one call to oned."""

from __future__ import annotations

from itertools import repeat
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from econed.actions.instances.instances import describe_instance_status, describe_instances
from econed.opennebula.machine_sets import MAX_SMALL_SET
from tests.calls_to_oned.recording import described, waves_of
from tests.support.addresses import AddressCloud
from tests.support.cloud import Cloud, perform
from tests.support.delayed_oned import DelayedOned

REQUESTS = 16


def set_calls(cloud: Cloud) -> int:
    """Return how many calls for machines by their ids oned has received."""
    return sum(call.method == "one.vmpool.infoset" for call in cloud.oned.calls)


def test_an_instance_is_read_at_the_same_time_as_what_its_view_needs() -> None:
    cloud = AddressCloud()
    instance = cloud.run("alice", "RunInstances", ImageId="ami-00000000", MinCount=1, MaxCount=1)["Instances"][0]
    parameters = {"InstanceIds": [instance["InstanceId"]]}
    cloud.memory = cloud.new_memory()
    first, second = (
        described(waves_of(cloud, "alice", lambda call: perform(call, "DescribeInstances", parameters)))
        for _ in range(2)
    )
    assert first == "clusterpool.info*, vmpool.infoset, vnpool.info*"
    assert second == "vmpool.infoset, vnpool.info*"


def test_requests_for_one_instance_each_share_few_calls_and_get_their_own() -> None:
    cloud = Cloud(vms=REQUESTS)
    call = cloud.call_as("alice")
    cloud.cached_users["alice"] = call.caller
    cloud.backend = DelayedOned(cloud.backend, cloud.clock, repeat(0.1))
    responses: list[Any] = []
    for number in range(REQUESTS):
        described = perform(cloud.call_as("alice"), "DescribeInstances", {"InstanceIds": [f"i-{number:08d}"]})
        Deferred.fromCoroutine(described).addBoth(responses.append)
    cloud.wait(5)
    found = [[group["Instances"][0]["InstanceId"] for group in response["Reservations"]] for response in responses]
    assert sorted(found) == [[f"i-{number:08d}"] for number in range(REQUESTS)]
    assert set_calls(cloud) == 2


def test_one_instance_that_does_not_exist_is_an_error_of_its_request_only() -> None:
    cloud = Cloud(vms=3)
    cloud.cached_users["alice"] = cloud.user("alice")
    cloud.backend = DelayedOned(cloud.backend, cloud.clock, repeat(0.1))
    responses: list[Any] = []
    for number in (0, 1, 9, 2):
        described = perform(cloud.call_as("alice"), "DescribeInstances", {"InstanceIds": [f"i-{number:08d}"]})
        Deferred.fromCoroutine(described).addBoth(responses.append)
    cloud.wait(5)
    failed = [response for response in responses if not isinstance(response, dict)]
    assert [failure.value.code for failure in failed] == ["InvalidInstanceID.NotFound"]
    assert len(responses) == 4
    assert set_calls(cloud) == 2


@pytest.mark.parametrize("action", [describe_instances, describe_instance_status])
@pytest.mark.parametrize(("count", "is_read"), [(1, True), (MAX_SMALL_SET, True), (MAX_SMALL_SET + 1, False)])
def test_few_instances_are_read_before_the_response_has_a_turn(action: Any, count: int, is_read: bool) -> None:
    """The result comes in parts, each of which has a turn; more instances are read within it."""
    cloud = Cloud(vms=MAX_SMALL_SET + 1)
    call = cloud.call_as("alice")
    parts = cloud.result(action(call, instance_ids=[f"i-{number:08d}" for number in range(count)]))
    assert set_calls(cloud) == int(is_read)
    cloud.result(parts.aclose())
