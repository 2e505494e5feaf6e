"""What all actions that list things have in common: a bound on filters, and work that gives way to the reactor."""

from __future__ import annotations

from dataclasses import replace

import pytest

from econed.actions.action import Action
from econed.actions.pacing import ITEM, Pacer, WorkBudget
from econed.catalogue import all_actions
from econed.cli.reference import filters_of
from tests.support.addresses import AddressCloud
from tests.support.cloud import perform

LISTS = sorted((each for each in all_actions() if "Filters" in each.accepts.of), key=lambda each: each.name)
NAMES = [each.name for each in LISTS]


class CountedBudget(WorkBudget):
    """A budget that remembers what was spent."""

    def __init__(self, pacer: Pacer) -> None:
        super().__init__(pacer)
        self.total = 0

    async def spend(self, units: int) -> None:
        """Count the work (`WorkBudget.spend`)."""
        self.total += units
        await super().spend(units)


@pytest.fixture(scope="module")
def cloud() -> AddressCloud:
    """A cloud in which alice has something of every kind."""
    made = AddressCloud()
    _, instance, _ = made.associated()
    volume = made.run("alice", "CreateVolume", AvailabilityZone="default", Size=1)["VolumeId"]
    made.wait(5)
    made.run("alice", "CreateSnapshot", VolumeId=volume)
    made.wait(5)
    made.run("alice", "AttachVolume", VolumeId=volume, InstanceId=instance, Device="/dev/sdh")
    made.wait(5)
    made.run("alice", "ModifyVolume", VolumeId=volume, Size=2)
    made.run("alice", "CreateKeyPair", KeyName="laptop")
    made.run("alice", "CreateTags", Resources=[volume], Tags=[{"Key": "env", "Value": "test"}])
    made.wait(5)
    return made


@pytest.mark.parametrize("action", LISTS, ids=NAMES)
def test_every_list_refuses_more_than_200_filter_values(cloud: AddressCloud, action: Action) -> None:
    known = sorted(filters_of(action).known)  # type: ignore[union-attr]
    filters = [
        {"Name": known[0], "Values": [f"{number}*" for number in range(100)]},
        {"Name": known[-1], "Values": [str(number) for number in range(101)]},
    ]
    assert cloud.refusal("alice", action.name, Filters=filters).code == "FilterLimitExceeded"


@pytest.mark.parametrize("action", LISTS, ids=NAMES)
def test_every_list_counts_what_it_looks_at_so_that_it_gives_way(cloud: AddressCloud, action: Action) -> None:
    budget = CountedBudget(cloud.pacer)
    answer = cloud.result(perform(replace(cloud.call_as("alice"), budget=budget), action.name, {}))
    (listed,) = answer.values()
    assert listed
    assert budget.total >= ITEM * len(listed)
