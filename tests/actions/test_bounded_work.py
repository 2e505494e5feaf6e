"""Limits on the work of a request: filter values, and yielding to the reactor."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from operator import attrgetter
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from zope.interface import implementer

from econed.actions.action import Action
from econed.actions.empty_lists.tables import EMPTY_LISTS
from econed.actions.pacing import ITEM_COST, Pacer, WorkBudget
from econed.actions.tagging import tag_text
from econed.actions.tags.tag_list import TAG_COST
from econed.calls.turns import MAX_CHANGES
from econed.catalogue import all_actions
from econed.cli.reference import filters_of
from econed.interfaces import IOpenNebula
from econed.opennebula import template
from econed.slots import MAX_CALLS_PER_REQUEST
from econed.user import Login
from tests.support.addresses import AddressCloud
from tests.support.cloud import Cloud, perform

LISTS = sorted((action for action in all_actions() if "Filters" in action.accepts.of), key=lambda action: action.name)
NAMES = [action.name for action in LISTS]
EMPTY = frozenset({*(row.action for row in EMPTY_LISTS), "DescribeInstanceCreditSpecifications"})


def known_filters(action: Action) -> list[str]:
    """Return the names of the filters of a list."""
    filters = filters_of(action)
    return [] if filters is None else sorted(filters.known)


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
class StoppingOned:
    """oned that does not reply to a method any more after a number of replies; `waiting` are the calls in flight."""

    def __init__(self, oned: IOpenNebula, method: str, *, replies: int) -> None:
        self._oned = oned
        self._method = method
        self._replies_left = replies
        self.waiting: list[Deferred[None]] = []

    async def call(self, user: Login, method: str, *args: object) -> Any:
        """Make a call (`IOpenNebula.call`)."""
        if method == self._method:
            self._replies_left -= 1
            if self._replies_left >= 0:
                return await self._oned.call(user, method, *args)
            self.waiting.append(Deferred())
            await self.waiting[-1]
        return await self._oned.call(user, method, *args)

    async def document(self, user: Login, method: str, *args: object, **options: Any) -> Any:
        """Make a call (`IOpenNebula.document`)."""
        return await self._oned.document(user, method, *args, **options)


@pytest.fixture(scope="module")
def cloud() -> AddressCloud:
    """A cloud in which alice has a resource of every kind."""
    cloud = AddressCloud()
    _, instance, _ = cloud.associate()
    volume = cloud.run("alice", "CreateVolume", AvailabilityZone="default", Size=1)["VolumeId"]
    cloud.wait(5)
    cloud.run("alice", "CreateSnapshot", VolumeId=volume)
    cloud.wait(5)
    cloud.run("alice", "AttachVolume", VolumeId=volume, InstanceId=instance, Device="/dev/sdh")
    cloud.wait(5)
    cloud.run("alice", "ModifyVolume", VolumeId=volume, Size=2)
    cloud.run("alice", "CreateKeyPair", KeyName="laptop")
    cloud.run("alice", "CreatePlacementGroup", GroupName="apart", Strategy="spread")
    cloud.run("alice", "CreateTags", Resources=[volume], Tags=[{"Key": "env", "Value": "test"}])
    cloud.wait(5)
    return cloud


@pytest.mark.parametrize("action", [action for action in LISTS if known_filters(action)], ids=attrgetter("name"))
def test_every_list_refuses_more_than_200_filter_values(cloud: AddressCloud, action: Action) -> None:
    known = known_filters(action)
    filters = [
        {"Name": known[0], "Values": [f"{number}*" for number in range(100)]},
        {"Name": known[-1], "Values": [str(number) for number in range(101)]},
    ]
    assert cloud.refusal("alice", action.name, Filters=filters).code == "FilterLimitExceeded"


@pytest.mark.parametrize("action", LISTS, ids=NAMES)
def test_every_list_counts_its_items_as_work(cloud: AddressCloud, action: Action) -> None:
    budget = CountedBudget(cloud.pacer)
    response = cloud.result(perform(replace(cloud.call_as("alice"), budget=budget), action.name, {}))
    (listed,) = response.values()
    assert bool(listed) == (action.name not in EMPTY)
    assert budget.total >= ITEM_COST * len(listed)


def test_the_number_of_volumes_of_a_launch_is_limited(cloud: AddressCloud) -> None:
    devices = [{"DeviceName": f"/dev/sd{letter}", "Ebs": {"VolumeSize": 1}} for letter in "fghijk"]
    parameters: dict[str, Any] = {"ImageId": "ami-00000000", "MinCount": 1, "BlockDeviceMappings": devices}
    before = len(cloud.changes)
    assert cloud.refusal("alice", "RunInstances", **parameters, MaxCount=167).code == "VolumeLimitExceeded"
    assert len(cloud.changes) == before
    assert cloud.refusal("alice", "RunInstances", **parameters, MaxCount=166, dry_run=True).code == "DryRunOperation"


def test_volumes_that_are_disks_of_machines_are_found_by_several_ids(cloud: AddressCloud) -> None:
    """A repeated id is listed once; nothing is listed if one of the ids does not exist."""
    ids = [volume["VolumeId"] for volume in cloud.run("alice", "DescribeVolumes")["Volumes"]]
    disk_id = next(text for text in ids if len(text) == len("vol-") + 11)
    volumes = cloud.run("alice", "DescribeVolumes", VolumeIds=[disk_id, disk_id])["Volumes"]
    assert [volume["VolumeId"] for volume in volumes] == [disk_id]
    missing = f"{disk_id[:-1]}7"
    refusal = cloud.refusal("alice", "DescribeVolumes", VolumeIds=[disk_id, missing])
    assert (refusal.code, refusal.message) == ("InvalidVolume.NotFound", f"The volume '{missing}' does not exist")


def test_delete_tags_removes_the_tags_that_any_of_many_names(cloud: AddressCloud) -> None:
    """By key and value, or by key; not by a value that the tag does not have."""
    instance = cloud.run_instance()
    added = [{"Key": f"k{number}", "Value": f"v{number}"} for number in range(5)]
    cloud.run("alice", "CreateTags", Resources=[instance], Tags=added)
    removed = [{"Key": "k0"}, {"Key": "k1", "Value": "v1"}, {"Key": "k2", "Value": "other"}, {"Key": "k2", "Value": ""}]
    removed += [{"Key": "k3", "Value": "no"}, {"Key": "k3"}, *({"Key": f"x{number}"} for number in range(900))]
    cloud.run("alice", "DeleteTags", Resources=[instance], Tags=removed)
    filters = [{"Name": "resource-id", "Values": [instance]}]
    assert [tag["Key"] for tag in cloud.run("alice", "DescribeTags", Filters=filters)["Tags"]] == ["k2", "k4"]


def work_of(cloud: Cloud, action: str, **parameters: Any) -> int:
    """Return the units of work of a call of alice's."""
    budget = CountedBudget(cloud.pacer)
    cloud.result(perform(replace(cloud.call_as("alice"), budget=budget), action, parameters))
    return budget.total


@pytest.mark.parametrize("action", ["DescribeImages", "DescribeSnapshots", "DescribeVolumes", "DescribeTags"])
def test_images_that_are_read_and_not_listed_count_as_work(action: str) -> None:
    """Images of other kinds are read to know their kind, and a user may have any number of them."""
    cloud = Cloud()
    before = work_of(cloud, action)
    for number in range(30):
        cloud.as_user("alice", "one.image.allocate", f'NAME="plain-{number}"\nPATH="/p"', 1)
    assert work_of(cloud, action) - before >= 30 * ITEM_COST


@pytest.mark.parametrize("action", ["DescribeInstances", "DescribeVolumes", "DescribeTags", "DescribeInstanceStatus"])
def test_machines_that_are_not_listed_count_as_work(action: str) -> None:
    cloud = Cloud(vms=30)
    for number in range(30):
        cloud.as_user("alice", "one.vm.update", number, 'EC2_DISCARDED="YES"', 1)
    assert work_of(cloud, action) >= 30 * ITEM_COST


@pytest.mark.parametrize("action", ["DescribeInstances", "DescribeVolumes", "DescribeTags", "DescribeInstanceStatus"])
def test_the_work_of_a_list_is_linear_in_the_number_of_machines(action: str) -> None:
    filters = {} if action == "DescribeTags" else {"Filters": [{"Name": "availability-zone", "Values": ["*a*", "x"]}]}
    of_few, of_many = (work_of(Cloud(vms=count), action, **filters) for count in (20, 40))
    assert of_few >= 20 * ITEM_COST
    assert of_many <= 2.2 * of_few


def test_tags_count_as_work_when_they_are_read_and_when_they_are_listed() -> None:
    """A set has hundreds of machines, and any of them may have thousands of tags that EC2 did not add."""
    cloud = Cloud(vms=1)
    before = work_of(cloud, "DescribeTags")
    cloud.as_user("alice", "one.vm.update", 0, tag_text({f"k{number}": "v" for number in range(1000)}), 1)
    assert work_of(cloud, "DescribeTags") - before >= 1000 * (ITEM_COST + TAG_COST)


MANY = 40
LONGEST_TAGS = [{"Key": f"{number:03d}{'ü' * 125}", "Value": "ü" * 256} for number in range(50)]


@pytest.mark.parametrize(
    ("action", "parameters", "method", "replied"),
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
    action: str, parameters: dict[str, Any], method: str, replied: int
) -> None:
    """The text for each of many machines is made when it is sent; RunInstances makes the first before the others."""
    cloud = Cloud(vms=MANY)
    stopping = StoppingOned(cloud.backend, method, replies=replied)
    cloud.backend = stopping
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
    assert len(stopping.waiting) == MAX_CHANGES
    allocated = sum(statistic.size for statistic in snapshot.statistics("filename"))
    sent = len(tag_text({tag["Key"]: tag["Value"] for tag in LONGEST_TAGS}).encode()) * MAX_CALLS_PER_REQUEST
    assert sent / 2 < allocated < sent * 2
