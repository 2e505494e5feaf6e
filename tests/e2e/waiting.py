"""Waiting with the waiters of the SDKs, polling more often."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from botocore.exceptions import ClientError

from tests.support.clients import refusal
from tests.support.furnished_cloud import MAX_WAIT
from tests.support.processes import until

_EVERY = 0.2

QUICK = 1.0
"""Seconds between two rounds of a reconciler, in tests that wait for its work."""


def wait(ec2: Any, waiter: str, instance_ids: Sequence[str]) -> None:
    """Wait for instances by one of boto3's waiters (`instance_running`, …)."""
    wait_for(ec2, waiter, InstanceIds=list(instance_ids))


def wait_for(ec2: Any, waiter: str, **parameters: Any) -> None:
    """Wait for the objects of these parameters with one of boto3's waiters (`volume_available`, …)."""
    config = {"Delay": _EVERY, "MaxAttempts": int(MAX_WAIT / _EVERY)}
    ec2.get_waiter(waiter).wait(**parameters, WaiterConfig=config)


def attached(ec2: Any, volume_id: str) -> dict[str, Any]:
    """Wait until a volume is attached and its instance is ready for the next change of disks; return the volume."""

    def attached_volume() -> dict[str, Any] | None:
        (volume,) = ec2.describe_volumes(VolumeIds=[volume_id])["Volumes"]
        return volume if [attachment["State"] for attachment in volume["Attachments"]] == ["attached"] else None

    volume = until(attached_volume, f"{volume_id} to be attached", MAX_WAIT)
    assert volume is not None
    return volume


def described(ec2: Any, *instance_ids: str) -> list[dict[str, Any]]:
    """Return instances by DescribeInstances, in the order of these ids."""
    instances_by_id = {
        instance["InstanceId"]: instance
        for reservation in ec2.describe_instances(InstanceIds=list(instance_ids))["Reservations"]
        for instance in reservation["Instances"]
    }
    return [instances_by_id[instance_id] for instance_id in instance_ids]


def known(ec2: Any) -> Any:
    """Return a client once econed accepts its user, which takes a few seconds after the user was created."""

    def is_known() -> bool:
        try:
            ec2.describe_key_pairs()
        except ClientError as error:
            if refusal(error)[0] == "AuthFailure":
                return False
            raise
        return True

    until(is_known, "econed to know the user", MAX_WAIT)
    return ec2
