"""Requests that name many things: a bound on the ids, and on the calls to oned that they cost."""

from __future__ import annotations

from typing import Any

import pytest

from econed.errors import EC2Error
from econed.interfaces import IOpenNebula
from econed.slots import CALLS_OF_A_REQUEST
from tests.support.cloud import Cloud, perform
from tests.support.delayed_oned import DelayedOned

HANDFUL = 6


def unknown(prefix: str, count: int, first: int = 10_000) -> list[str]:
    """Return ids that nothing has."""
    return [f"{prefix}-{number:08d}" for number in range(first, first + count)]


@pytest.mark.parametrize(
    ("action", "parameters", "code"),
    [
        ("DescribeImages", {"ImageIds": unknown("ami", 1000)}, "InvalidAMIID.NotFound"),
        ("DescribeSnapshots", {"SnapshotIds": unknown("snap", 1000)}, "InvalidSnapshot.NotFound"),
        ("DescribeVolumes", {"VolumeIds": unknown("vol", 1000)}, "InvalidVolume.NotFound"),
        ("DescribeInstances", {"InstanceIds": unknown("i", 1000)}, "InvalidInstanceID.NotFound"),
        ("TerminateInstances", {"InstanceIds": unknown("i", 1000)}, "InvalidInstanceID.NotFound"),
        ("DescribeKeyPairs", {"KeyNames": unknown("name", 1000)}, "InvalidKeyPair.NotFound"),
        ("DescribeKeyPairs", {"KeyPairIds": unknown("key", 1000)}, "InvalidKeyPair.NotFound"),
        ("CreateTags", {"Resources": unknown("ami", 1000), "Tags": [{"Key": "a"}]}, "InvalidAMIID.NotFound"),
        ("DeleteTags", {"Resources": unknown("vol", 1000)}, "InvalidVolume.NotFound"),
    ],
)
def test_a_thousand_ids_take_few_calls_to_oned(
    cloud: Cloud, action: str, parameters: dict[str, Any], code: str
) -> None:
    before = len(cloud.oned.calls)
    assert cloud.refusal("alice", action, **parameters).code == code
    assert len(cloud.oned.calls) - before <= HANDFUL


@pytest.mark.parametrize(
    ("action", "name", "more"),
    [
        ("DescribeImages", "ImageIds", {}),
        ("DescribeSnapshots", "SnapshotIds", {}),
        ("DescribeVolumes", "VolumeIds", {}),
        ("DescribeInstances", "InstanceIds", {}),
        ("StartInstances", "InstanceIds", {}),
        ("TerminateInstances", "InstanceIds", {}),
        ("DescribeKeyPairs", "KeyNames", {}),
        ("DescribeAddresses", "PublicIps", {}),
        ("DescribeAvailabilityZones", "ZoneNames", {}),
        ("DescribeRegions", "RegionNames", {}),
        ("CreateTags", "Resources", {"Tags": [{"Key": "a"}]}),
        ("DeleteTags", "Resources", {}),
    ],
)
def test_more_than_a_thousand_values_are_refused_without_a_call_to_oned(
    cloud: Cloud, action: str, name: str, more: dict[str, Any]
) -> None:
    call = cloud.call_as("alice")
    before = len(cloud.oned.calls)
    with pytest.raises(EC2Error) as caught:
        cloud.result(perform(call, action, {name: unknown("i", 1001), **more}))
    assert caught.value.code == "InvalidParameterValue"
    assert "cannot contain over 1000 values" in caught.value.message
    assert len(cloud.oned.calls) == before


def test_images_read_together_are_the_same_as_read_one_by_one(cloud: Cloud) -> None:
    """Others' too, where the caller may use them, and no others: in their order and each once."""
    shared = [cloud.oneadmin("one.image.allocate", f'NAME="s{n}"\nPATH="/p"\nEC2_AMI="YES"', 1) for n in range(6)]
    hidden = [cloud.oneadmin("one.image.allocate", f'NAME="h{n}"\nPATH="/p"\nEC2_AMI="YES"', 1) for n in range(2)]
    for number in shared:
        cloud.oneadmin("one.image.chmod", number, -1, -1, -1, -1, -1, -1, 1, -1, -1)
    own = [cloud.as_user("alice", "one.image.allocate", f'NAME="o{n}"\nPATH="/p"\nEC2_AMI="YES"', 1) for n in range(4)]
    cloud.wait(10)
    ids = [f"ami-{number:08d}" for number in (*own, *reversed(shared), own[0])]
    before = len(cloud.oned.calls)
    many = cloud.run("alice", "DescribeImages", ImageIds=ids)["Images"]
    assert len(cloud.oned.calls) - before <= HANDFUL
    one_by_one = [cloud.run("alice", "DescribeImages", ImageIds=[each])["Images"][0] for each in ids[:-1]]
    assert many == sorted(one_by_one, key=lambda each: str(each["ImageId"]))
    for number in hidden:
        refusal = cloud.refusal("alice", "DescribeImages", ImageIds=[*ids, f"ami-{number:08d}"])
        assert (refusal.code, f"ami-{number:08d}" in refusal.message) == ("InvalidAMIID.NotFound", True)


class Watched:
    """oned that is told how many calls are made at once."""

    def __init__(self, one: IOpenNebula) -> None:
        self._one = one
        self.now = self.most = 0

    async def call(self, user: str | None, method: str, *args: object) -> Any:
        """Make a call (`IOpenNebula.call`)."""
        return await self._counted(self._one.call(user, method, *args))

    async def document(self, user: str | None, method: str, *args: object) -> Any:
        """Make a call (`IOpenNebula.document`)."""
        return await self._counted(self._one.document(user, method, *args))

    async def _counted(self, work: Any) -> Any:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            return await work
        finally:
            self.now -= 1


def test_a_request_makes_few_concurrent_calls() -> None:
    cloud = Cloud(vms=40)

    def delays() -> Any:
        while True:
            yield 0.01

    watched = Watched(DelayedOned(cloud.backend, cloud.clock, delays()))
    cloud.backend = watched  # type: ignore[assignment]
    ended = cloud.run("alice", "TerminateInstances", InstanceIds=[f"i-{number:08d}" for number in range(40)])
    assert len(ended["TerminatingInstances"]) == 40
    assert watched.most == CALLS_OF_A_REQUEST


def test_the_error_for_many_ids_names_the_first_of_them(cloud: Cloud) -> None:
    ids = unknown("i", 1000)
    message = cloud.refusal("alice", "DescribeInstances", InstanceIds=ids).message
    named = message.partition("'")[2].rpartition("'")[0].split(", ")
    assert named == ids[: len(named)]
    assert 1 < len(named) <= 100
    assert message.endswith("' do not exist")
