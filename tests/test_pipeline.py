"""From the parameters of an authenticated request to the result of its action."""

from __future__ import annotations

from types import ModuleType

import pytest

from econed.actions.action import action, actions_of
from econed.actions.call import Call
from econed.dispatch import Dispatcher
from econed.errors import EC2Error
from econed.pipeline import Invocation
from econed.services import EC2
from econed.wire.model import Model
from tests.support.cloud import VERSION, Cloud

MODEL = Model.load(EC2)


@action()
async def describe_regions(call: Call) -> None:
    """Change something, which no action that only reads may do."""
    await call.session.vm_action("poweroff", 0)


@action()
async def reboot_instances(call: Call, *, instance_ids: object = ()) -> None:
    """Change something."""
    await call.session.vm_action("poweroff", 0)


def invocation(cloud: Cloud, *pairs: tuple[str, str]) -> Invocation:
    """Return the invocation of one of these actions for alice."""
    module = ModuleType(__name__)
    vars(module).update(describe_regions=describe_regions, reboot_instances=reboot_instances)
    return Invocation.of(Dispatcher([MODEL], actions_of(module)), cloud.call_as("alice"), pairs)


@pytest.fixture
def cloud() -> Cloud:
    """A cloud in which alice has a running machine with the id 0."""
    cloud = Cloud()
    cloud.run("alice", "RunInstances", ImageId="ami-00000000", MinCount=1, MaxCount=1)
    cloud.wait(60)
    return cloud


@pytest.mark.parametrize(
    ("pairs", "code"),
    [
        ([], "MissingAction"),
        ([("Action", "RebootInstances")], "MissingParameter"),
        ([("Action", "RebootInstances"), ("Version", "today")], "NoSuchVersion"),
        ([("Action", "RebootInstance"), ("Version", VERSION)], "InvalidAction"),
        ([("Action", "RebootInstances"), ("Version", VERSION), ("Colour", "red")], "UnknownParameter"),
    ],
)
def test_a_request_without_an_action_that_exists_and_takes_its_parameters_is_refused(
    cloud: Cloud, pairs: list[tuple[str, str]], code: str
) -> None:
    with pytest.raises(EC2Error) as caught:
        invocation(cloud, *pairs)
    assert caught.value.code == code


def test_an_action_that_changes_something_runs_in_the_sessions_of_its_call(cloud: Cloud) -> None:
    before = len(cloud.changes)
    cloud.result(invocation(cloud, ("Action", "RebootInstances"), ("Version", VERSION)).run())
    assert [change.method for change in cloud.changes[before:]] == ["one.vm.action"]


def test_a_dry_run_ends_before_the_first_change(cloud: Cloud) -> None:
    before = len(cloud.changes)
    dry_run = invocation(cloud, ("Action", "RebootInstances"), ("Version", VERSION), ("DryRun", "true"))
    with pytest.raises(EC2Error) as caught:
        cloud.result(dry_run.run())
    assert caught.value.code == "DryRunOperation"
    assert cloud.changes[before:] == []


def test_an_action_that_only_reads_cannot_change_anything(cloud: Cloud) -> None:
    before = len(cloud.changes)
    with pytest.raises(AssertionError, match=r"one\.vm\.action called by an action that only reads"):
        cloud.result(invocation(cloud, ("Action", "DescribeRegions"), ("Version", VERSION)).run())
    assert cloud.changes[before:] == []
