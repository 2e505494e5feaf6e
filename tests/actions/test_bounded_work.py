"""What all actions that list things have in common: a bound on filters, and work that gives way to the reactor."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from zope.interface import implementer

from econed.actions.action import Action
from econed.actions.pacing import ITEM, Pacer, WorkBudget
from econed.actions.tagging import tag_text
from econed.catalogue import all_actions
from econed.cli.reference import filters_of
from econed.interfaces import IOpenNebula
from econed.opennebula import template
from econed.slots import CALLS_OF_A_REQUEST
from tests.support.addresses import AddressCloud
from tests.support.cloud import Cloud, perform

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


@implementer(IOpenNebula)
class Silent:
    """oned that no longer answers to a method after it has done so a number of times; `asked` is what waits for it."""

    def __init__(self, one: IOpenNebula, method: str, *, answered: int) -> None:
        self._one = one
        self._method = method
        self._answered = answered
        self.asked: list[Deferred[None]] = []

    async def call(self, user: str | None, method: str, *args: object) -> Any:
        """Make a call (`IOpenNebula.call`)."""
        if method == self._method:
            self._answered -= 1
            if self._answered >= 0:
                return await self._one.call(user, method, *args)
            self.asked.append(Deferred())
            await self.asked[-1]
        return await self._one.call(user, method, *args)

    async def document(self, user: str | None, method: str, *args: object) -> Any:
        """Make a call (`IOpenNebula.document`)."""
        return await self._one.document(user, method, *args)


@pytest.fixture(scope="module")
def cloud() -> AddressCloud:
    """A cloud in which alice has something of every kind."""
    made = AddressCloud()
    _, instance, _ = made.associate()
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
def test_every_list_counts_its_items_as_work(cloud: AddressCloud, action: Action) -> None:
    budget = CountedBudget(cloud.pacer)
    answer = cloud.result(perform(replace(cloud.call_as("alice"), budget=budget), action.name, {}))
    (listed,) = answer.values()
    assert listed
    assert budget.total >= ITEM * len(listed)


def test_the_number_of_volumes_of_a_launch_is_limited(cloud: AddressCloud) -> None:
    devices = [{"DeviceName": f"/dev/sd{letter}", "Ebs": {"VolumeSize": 1}} for letter in "fghijk"]
    asked: dict[str, Any] = {"ImageId": "ami-00000000", "MinCount": 1, "BlockDeviceMappings": devices}
    before = len(cloud.changes)
    assert cloud.refusal("alice", "RunInstances", **asked, MaxCount=167).code == "VolumeLimitExceeded"
    assert len(cloud.changes) == before
    assert cloud.refusal("alice", "RunInstances", **asked, MaxCount=166, dry_run=True).code == "DryRunOperation"


def test_volumes_that_are_disks_of_machines_are_found_by_several_ids(cloud: AddressCloud) -> None:
    """Each by its own id, one given twice once; one that is not there among them keeps all from being shown."""
    listed = [each["VolumeId"] for each in cloud.run("alice", "DescribeVolumes")["Volumes"]]
    volume = next(each for each in listed if len(each) == len("vol-") + 11)
    shown = cloud.run("alice", "DescribeVolumes", VolumeIds=[volume, volume])["Volumes"]
    assert [each["VolumeId"] for each in shown] == [volume]
    missing = f"{volume[:-1]}7"
    refusal = cloud.refusal("alice", "DescribeVolumes", VolumeIds=[volume, missing])
    assert (refusal.code, refusal.message) == ("InvalidVolume.NotFound", f"The volume '{missing}' does not exist")


def test_delete_tags_removes_the_tags_that_any_of_many_names(cloud: AddressCloud) -> None:
    """By key and value, by key alone, and not by a value that the tag has not."""
    instance = cloud.run_instance()
    put = [{"Key": f"k{number}", "Value": f"v{number}"} for number in range(5)]
    cloud.run("alice", "CreateTags", Resources=[instance], Tags=put)
    meant = [{"Key": "k0"}, {"Key": "k1", "Value": "v1"}, {"Key": "k2", "Value": "other"}, {"Key": "k2", "Value": ""}]
    meant += [{"Key": "k3", "Value": "no"}, {"Key": "k3"}, *({"Key": f"x{number}"} for number in range(900))]
    cloud.run("alice", "DeleteTags", Resources=[instance], Tags=meant)
    named = [{"Name": "resource-id", "Values": [instance]}]
    assert [tag["Key"] for tag in cloud.run("alice", "DescribeTags", Filters=named)["Tags"]] == ["k2", "k4"]


def spent(cloud: Cloud, action: str, **parameters: Any) -> int:
    """Return the units of work that alice's call is counted for."""
    budget = CountedBudget(cloud.pacer)
    cloud.result(perform(replace(cloud.call_as("alice"), budget=budget), action, parameters))
    return budget.total


@pytest.mark.parametrize("action", ["DescribeImages", "DescribeSnapshots", "DescribeVolumes", "DescribeTags"])
def test_images_that_are_read_and_not_listed_count_as_work(action: str) -> None:
    """Images of other kinds are read to know that they are: of those a user may have any number."""
    cloud = Cloud()
    before = spent(cloud, action)
    for number in range(30):
        cloud.as_user("alice", "one.image.allocate", f'NAME="plain-{number}"\nPATH="/p"', 1)
    assert spent(cloud, action) - before >= 30 * ITEM


@pytest.mark.parametrize("action", ["DescribeInstances", "DescribeVolumes", "DescribeTags", "DescribeInstanceStatus"])
def test_machines_that_are_not_listed_count_as_work(action: str) -> None:
    cloud = Cloud(vms=30)
    for number in range(30):
        cloud.as_user("alice", "one.vm.update", number, 'EC2_DISCARDED="YES"', 1)
    assert spent(cloud, action) >= 30 * ITEM


MANY = 40
LONGEST_TAGS = [{"Key": f"{number:03d}{'ü' * 125}", "Value": "ü" * 256} for number in range(50)]


@pytest.mark.parametrize(
    ("action", "parameters", "method", "alone"),
    [
        ("CreateTags", {"Resources": [f"i-{number:08d}" for number in range(MANY)]}, "one.vm.update", 0),
        (
            "RunInstances",
            {"ImageId": "ami-00000000", "MinCount": MANY, "MaxCount": MANY},
            "one.template.instantiate",
            1,
        ),
    ],
    ids=["CreateTags", "RunInstances"],
)
def test_the_texts_of_changes_to_many_objects_are_in_memory_only_while_they_are_sent(
    action: str, parameters: dict[str, Any], method: str, alone: int
) -> None:
    """The text for one of many machines is made when it is its turn; before the others RunInstances makes the first."""
    cloud = Cloud(vms=MANY)
    silent = Silent(cloud.backend, method, answered=alone)
    cloud.backend = silent
    tags = (
        {"Tags": LONGEST_TAGS}
        if action == "CreateTags"
        else {"TagSpecifications": [{"ResourceType": "instance", "Tags": LONGEST_TAGS}]}
    )
    call = cloud.call_as("alice")
    tracemalloc.start()
    try:
        Deferred.fromCoroutine(perform(call, action, {**parameters, **tags}))
        cloud.wait(5)
        made_by_template = tracemalloc.Filter(inclusive=True, filename_pattern=template.__file__)
        snapshot = tracemalloc.take_snapshot().filter_traces([made_by_template])
    finally:
        tracemalloc.stop()
    assert len(silent.asked) == CALLS_OF_A_REQUEST
    held = sum(each.size for each in snapshot.statistics("filename"))
    sent = len(tag_text({tag["Key"]: tag["Value"] for tag in LONGEST_TAGS}).encode()) * CALLS_OF_A_REQUEST
    assert sent / 2 < held < sent * 2
