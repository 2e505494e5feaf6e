"""What requests cost grows with the number of objects, not with its square: twice as many cost about twice as much.

The costs are steps, which are calls of Python's functions by econed's own code, and bytes of oned's replies.
"""

from __future__ import annotations

import cProfile
import pstats
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import econed
from econed.catalogue import all_actions
from econed.config.settings import Settings
from tests.support.addresses import NETWORK
from tests.support.cloud import Cloud, body_of
from tests.support.sandbox_connection import SandboxEndpoint, sandbox_backend

pytestmark = pytest.mark.slow

MAX_GROWTH = 2.2
"""The largest factor between the costs for twice as many objects and for the smaller number."""

MAX_READ = {"cold": 2.4, "warm": 1.02}
"""How many bytes a list of machines may read, as a multiple of their documents: a process that has just started reads
the ids as well, from short forms, and the accounting records of those that ended recently."""

SMALL = 40
"""The smaller number of objects of each kind. Twice as many, with 120 images, are less than a page of 250."""

FEW_MACHINES = 300
"""The smaller number of machines where there is nothing else; twice as many are more than one range of ids."""

LISTS = sorted(action.name for action in all_actions() if action.name.startswith("Describe") and not action.required)
"""The actions that list all objects of a kind."""

LISTS_OF_MACHINES = (
    *("DescribeInstances", "DescribeInstanceStatus"),
    *("DescribeTags", "DescribeVolumes", "DescribeVolumeStatus"),
)

_ECONED = str(Path(econed.__file__).parent)
_SANDBOX = f"{_ECONED}/sandbox"


def is_econeds(file: str) -> bool:
    """Whether a file is econed's, but not the sandbox's."""
    return file.startswith(_ECONED) and not file.startswith(_SANDBOX)


def steps(cloud: Cloud, action: str, *pairs: tuple[str, str]) -> int:
    """Make a request, and return the number of calls of econed's functions, and of calls from these to others."""
    profile = cProfile.Profile()
    profile.runcall(cloud.result, body_of(cloud.call_as("alice"), action, pairs))
    functions: Mapping[Any, Any] = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    total = 0
    for (file, *_), (_, count, *_, callers) in functions.items():
        if is_econeds(file):
            total += count
        else:
            total += sum(by_caller for (by, *_), (_, by_caller, *_) in callers.items() if is_econeds(by))
    return total


def launch_of(count: int, token: str) -> list[tuple[str, str]]:
    """Return the parameters of a launch with a client token."""
    return [("ImageId", "ami-00000000"), ("ClientToken", token), ("MinCount", str(count)), ("MaxCount", str(count))]


def assert_linear(small: int, large: int) -> None:
    """Check the costs for some objects, and for twice as many."""
    assert large <= MAX_GROWTH * small, f"{small}, and {large} for twice as many: {large / small:.2f} times"


def furnished(count: int) -> Cloud:
    """Return a cloud in which alice has this many of each: machines with a tag, AMIs, volumes, snapshots and keys."""
    cloud = Cloud(vms=count, settings=Settings(elasticips_vnet_id=NETWORK))
    image = 'TYPE="{}"\nPATH="/var/tmp/image"\nNAME="{} {}"\nPERSISTENT="{}"\n{}="YES"\nEC2_TAG_61=[KEY="a",VALUE="b"]'
    for number in range(count):
        for kind, persistent, mark in (
            ("OS", "NO", "EC2_AMI"),
            ("DATABLOCK", "YES", "EBS_VOLUME"),
            ("DATABLOCK", "NO", "EBS_SNAPSHOT"),
        ):
            text = image.format(kind, mark, number, persistent, mark)
            cloud.as_user("alice", "one.image.allocate", text, 1)
        cloud.as_user("alice", "one.vm.update", number, 'EC2_TAG_61=[KEY="a",VALUE="b"]', 1)
    cloud.wait(10)
    for number in range(count):
        cloud.run("alice", "CreateKeyPair", KeyName=f"key {number}", KeyType="ed25519")
    return cloud


@pytest.fixture(scope="module")
def clouds() -> tuple[Cloud, Cloud]:
    """A cloud, and one with twice as many objects of each kind."""
    return furnished(SMALL), furnished(2 * SMALL)


@pytest.fixture(scope="module")
def clouds_of_machines() -> tuple[Cloud, Cloud]:
    """A cloud with machines, and one with twice as many."""
    return Cloud(vms=FEW_MACHINES), Cloud(vms=2 * FEW_MACHINES)


@pytest.mark.parametrize("action", LISTS)
def test_the_steps_of_a_list_grow_no_faster_than_the_list(clouds: tuple[Cloud, Cloud], action: str) -> None:
    for cloud in clouds:
        cloud.run("alice", action)  # what is only done for the first request does not count
    small, large = (steps(cloud, action) for cloud in clouds)
    assert_linear(small, large)


@pytest.mark.parametrize("action", LISTS_OF_MACHINES)
@pytest.mark.parametrize("process", ["cold", "warm"])
def test_the_steps_of_a_list_of_machines_grow_no_faster_than_their_number(
    clouds_of_machines: tuple[Cloud, Cloud], action: str, process: str
) -> None:
    for cloud in clouds_of_machines:
        cloud.memory = cloud.new_memory()
        if process == "warm":
            cloud.run("alice", action)
    small, large = (steps(cloud, action) for cloud in clouds_of_machines)
    assert_linear(small, large)


@pytest.mark.parametrize("process", ["cold", "warm"])
def test_the_steps_of_a_launch_grow_no_faster_than_the_number_of_machines_that_exist(
    clouds_of_machines: tuple[Cloud, Cloud], process: str
) -> None:
    counts = []
    for cloud in clouds_of_machines:
        cloud.memory = cloud.new_memory()
        if process == "warm":
            cloud.run("alice", "RunInstances", ImageId="ami-00000000", MinCount=1, MaxCount=1)
        counts.append(steps(cloud, "RunInstances", *launch_of(1, process)))
    small, large = counts
    assert_linear(small, large)


def test_the_steps_of_a_launch_grow_no_faster_than_the_number_of_its_instances() -> None:
    small, large = (steps(Cloud(), "RunInstances", *launch_of(count, "token")) for count in (30, 60))
    assert_linear(small, large)


@pytest.mark.parametrize("form", ["5.12", "7.4"])
@pytest.mark.parametrize("count", [FEW_MACHINES, 2 * FEW_MACHINES])
def test_a_list_of_machines_reads_hardly_more_bytes_than_their_documents_have(form: str, count: int) -> None:
    cloud = Cloud(form, vms=count)
    endpoint = SandboxEndpoint(cloud.oned)
    cloud.backend = sandbox_backend(cloud.oned, cloud.clock, endpoint)
    documents = bytes_read(endpoint, lambda: cloud.as_user("alice", "one.vmpool.infoextended", -2, -1, -1, -1, ""))
    for process in ("cold", "warm"):
        read = bytes_read(endpoint, lambda: cloud.run("alice", "DescribeInstances"))
        assert documents < read < MAX_READ[process] * documents, f"{process}: {read / documents:.3f} times"


def bytes_read(endpoint: SandboxEndpoint, work: Callable[[], object]) -> int:
    """Return how many bytes oned sent."""
    before = endpoint.bytes_sent
    work()
    return endpoint.bytes_sent - before
