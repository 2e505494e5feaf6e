"""Requests with many ids: limits on the ids, and on the calls to oned."""

from __future__ import annotations

from typing import Any

import pytest

from econed.calls.turns import MAX_CHANGES
from econed.errors import EC2Error
from econed.interfaces import IOpenNebula
from econed.user import Login
from tests.support.cloud import Cloud, perform
from tests.support.delayed_oned import DelayedOned

MAX_CALLS = 6


def unknown(prefix: str, count: int, first: int = 10_000) -> list[str]:
    """Return ids of no object."""
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
    assert len(cloud.oned.calls) - before <= MAX_CALLS


@pytest.mark.parametrize(
    ("action", "name", "others"),
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
    cloud: Cloud, action: str, name: str, others: dict[str, Any]
) -> None:
    call = cloud.call_as("alice")
    before = len(cloud.oned.calls)
    with pytest.raises(EC2Error) as caught:
        cloud.result(perform(call, action, {name: unknown("i", 1001), **others}))
    assert caught.value.code == "InvalidParameterValue"
    assert "cannot contain over 1000 values" in caught.value.message
    assert len(cloud.oned.calls) == before


def test_images_read_together_are_the_same_as_read_one_by_one(cloud: Cloud) -> None:
    """Also images of others that the caller may use, and only those, ordered and each once."""
    shared = [cloud.oneadmin("one.image.allocate", f'NAME="s{n}"\nPATH="/p"\nEC2_AMI="YES"', 1) for n in range(6)]
    hidden = [cloud.oneadmin("one.image.allocate", f'NAME="h{n}"\nPATH="/p"\nEC2_AMI="YES"', 1) for n in range(2)]
    for image_id in shared:
        cloud.oneadmin("one.image.chmod", image_id, -1, -1, -1, -1, -1, -1, 1, -1, -1)
    own = [cloud.as_user("alice", "one.image.allocate", f'NAME="o{n}"\nPATH="/p"\nEC2_AMI="YES"', 1) for n in range(4)]
    cloud.wait(10)
    ids = [f"ami-{image_id:08d}" for image_id in (*own, *reversed(shared), own[0])]
    before = len(cloud.oned.calls)
    together = cloud.run("alice", "DescribeImages", ImageIds=ids)["Images"]
    assert len(cloud.oned.calls) - before <= MAX_CALLS
    one_by_one = [cloud.run("alice", "DescribeImages", ImageIds=[image_id])["Images"][0] for image_id in ids[:-1]]
    assert together == sorted(one_by_one, key=lambda image: str(image["ImageId"]))
    for hidden_id in hidden:
        refusal = cloud.refusal("alice", "DescribeImages", ImageIds=[*ids, f"ami-{hidden_id:08d}"])
        assert (refusal.code, f"ami-{hidden_id:08d}" in refusal.message) == ("InvalidAMIID.NotFound", True)


class CountedOned:
    """oned that counts the calls in flight."""

    def __init__(self, oned: IOpenNebula) -> None:
        self._oned = oned
        self.in_flight = self.max_in_flight = 0

    async def call(self, user: Login, method: str, *args: object) -> Any:
        """Make a call (`IOpenNebula.call`)."""
        return await self._count(self._oned.call(user, method, *args))

    async def document(self, user: Login, method: str, *args: object, **options: Any) -> Any:
        """Make a call (`IOpenNebula.document`)."""
        return await self._count(self._oned.document(user, method, *args, **options))

    async def _count(self, work: Any) -> Any:
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            return await work
        finally:
            self.in_flight -= 1


def test_a_request_makes_few_concurrent_calls() -> None:
    cloud = Cloud(vms=40)

    def delays() -> Any:
        while True:
            yield 0.01

    counted = CountedOned(DelayedOned(cloud.backend, cloud.clock, delays()))
    cloud.backend = counted  # type: ignore[assignment]
    response = cloud.run("alice", "TerminateInstances", InstanceIds=[f"i-{number:08d}" for number in range(40)])
    assert len(response["TerminatingInstances"]) == 40
    assert counted.max_in_flight == MAX_CHANGES


def test_the_error_for_many_ids_names_the_first_of_them(cloud: Cloud) -> None:
    ids = unknown("i", 1000)
    message = cloud.refusal("alice", "DescribeInstances", InstanceIds=ids).message
    named_ids = message.partition("'")[2].rpartition("'")[0].split(", ")
    assert named_ids == ids[: len(named_ids)]
    assert 1 < len(named_ids) <= 100
    assert message.endswith("' do not exist")
