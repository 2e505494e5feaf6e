"""The calls of oned that RunInstances makes, and which of them wait for others."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from econed.actions.client_tokens import CLIENT_TOKEN
from tests.support.cloud import Cloud, perform
from tests.support.delayed_oned import SteppedOned

AMI = "ami-00000000"
READS = ["one.imagepool.info", "one.templatepool.info", "one.user.info", "one.vmpool.infoextended"]
"""What a launch reads before it creates anything; the names of the clusters are remembered for some seconds."""


def parameters(token: str, count: int = 1) -> dict[str, Any]:
    """Return the parameters of a RunInstances call, as SDKs send them: with a token of its own."""
    return {"ImageId": AMI, "MinCount": count, "MaxCount": count, "ClientToken": token}


def calls_of(cloud: Cloud, token: str, count: int = 1) -> Counter[str]:
    """Run instances and return the number of calls of oned by method."""
    call = cloud.call_as("alice")
    before = len(cloud.oned.calls)
    cloud.result(perform(call, "RunInstances", parameters(token, count)))
    return Counter(logged.method for logged in list(cloud.oned.calls)[before:])


def create_machines(cloud: Cloud, count: int) -> None:
    """Create machines of alice's with a token each, as other processes would."""
    for number in range(count):
        text = f'DISK=[IMAGE_ID="0"]\n{CLIENT_TOKEN}="made {number}"'
        cloud.as_user("alice", "one.template.instantiate", 0, "", True, text, False)


@pytest.mark.parametrize("machine_count", [0, 50, 500])
def test_a_launch_of_one_takes_eight_calls_however_many_machines_there_are(machine_count: int) -> None:
    """The first launch of a process reads the machines of the day; later ones read on."""
    cloud = Cloud()
    create_machines(cloud, machine_count)
    calls_of(cloud, "first")
    assert calls_of(cloud, "second") == Counter(
        {
            **dict.fromkeys(READS, 1),
            "one.vmpool.infoextended": 2,
            "one.template.instantiate": 1,
            "one.vm.action": 1,
            "one.vmpool.infoset": 1,
        }
    )


@pytest.mark.parametrize(("machine_count", "pages"), [(0, 1), (50, 1), (500, 3), (1000, 4)])
def test_the_first_launch_of_a_process_reads_the_machines_of_the_day_once(machine_count: int, pages: int) -> None:
    """The pages have 100, 200, 400, and then 500 machines."""
    cloud = Cloud()
    cloud.run("alice", "RunInstances", **parameters("watches the user"))
    cloud.memory = cloud.new_memory()
    create_machines(cloud, machine_count)
    calls = calls_of(cloud, "first")
    assert calls["one.vmpool.infoextended"] == pages + 1
    assert calls.total() == 9 + pages - 1


def test_no_call_of_a_launch_waits_for_another_without_need() -> None:
    cloud = Cloud()
    calls_of(cloud, "first")
    cloud.cached_users["alice"] = cloud.user("alice")
    stepped = cloud.backend = SteppedOned(cloud.backend)
    call = cloud.call_as("alice")
    ended: list[Any] = []
    Deferred.fromCoroutine(perform(call, "RunInstances", parameters("second"))).addBoth(ended.append)
    steps = []
    while not ended:
        steps.append(stepped.step())
        assert steps[-1], "the launch waits for something else"
    assert steps == [
        READS,
        ["one.template.instantiate"],
        ["one.vmpool.infoextended"],
        ["one.vm.action"],
        ["one.vmpool.infoset"],
    ]
    assert ended[0]["Instances"]


def test_a_launch_of_200_takes_two_calls_for_each_machine_and_eight_others() -> None:
    """The first machine is created, and the machines are read, before the others are created."""
    cloud = Cloud()
    calls_of(cloud, "first")
    assert calls_of(cloud, "second", 200) == Counter(
        {
            **dict.fromkeys(READS, 1),
            "one.vmpool.infoextended": 3,
            "one.template.instantiate": 200,
            "one.vm.action": 200,
            "one.vmpool.infoset": 2,
        }
    )


def test_a_repeated_call_only_reads() -> None:
    cloud = Cloud()
    calls_of(cloud, "tok", 3)
    assert calls_of(cloud, "tok", 3) == Counter({**dict.fromkeys(READS, 1), "one.vmpool.infoset": 1})
