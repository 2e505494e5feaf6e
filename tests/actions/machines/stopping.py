"""Running and stopping instances in all ways, and reading the times that they show."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from econed.actions.machines.stop_times import StopTimeRecorder
from tests.support.cloud import Cloud

AMI = "ami-00000000"
REASON = re.compile(r"User initiated \((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) GMT\)")
"""The pattern with which Cloud Custodian finds the date."""


def run(cloud: Cloud, **extra: Any) -> str:
    """Run an instance, wait until it runs, and return its id."""
    result = cloud.run("alice", "RunInstances", ImageId=AMI, MinCount=1, MaxCount=1, **extra)
    settle(cloud)
    return str(result["Instances"][0]["InstanceId"])


def settle(cloud: Cloud, seconds: int = 30) -> None:
    """Wait until all operations in progress are complete."""
    cloud.clock.pump([1] * seconds)


def describe(cloud: Cloud, instance: str, user: str = "alice") -> dict[str, Any]:
    """Return an instance as in the result of DescribeInstances."""
    (reservation,) = cloud.run(user, "DescribeInstances", InstanceIds=[instance])["Reservations"]
    return dict(reservation["Instances"][0])


def launch_time(cloud: Cloud, instance: str) -> int:
    """Return the LaunchTime, in seconds since the epoch."""
    return int(describe(cloud, instance)["LaunchTime"].timestamp())


def stop_time(cloud: Cloud, instance: str) -> int:
    """Return the time in StateTransitionReason, in seconds since the epoch."""
    match = REASON.fullmatch(describe(cloud, instance)["StateTransitionReason"])
    assert match is not None
    return int(datetime.strptime(match[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp())


def now(cloud: Cloud) -> int:
    """Return the time, in seconds since the epoch."""
    return int(cloud.clock.seconds())


def act(cloud: Cloud, action: str, instance: str, user: str = "alice") -> None:
    """Request an action from OpenNebula directly, as Sunstone does."""
    cloud.as_user(user, "one.vm.action", action, int(instance[2:]))


def stop(cloud: Cloud, how: str, instance: str) -> None:
    """Stop an instance in one of the `WAYS`."""
    match how:
        case "StopInstances":
            cloud.run("alice", how, InstanceIds=[instance])
        case "inside":
            cloud.oned.shut_down_inside(int(instance[2:]))
        case _:
            act(cloud, how, instance)


WAYS = ["StopInstances", "inside", "poweroff", "poweroff-hard", "suspend", "stop", "undeploy", "undeploy-hard"]


def reconcile(cloud: Cloud, recorder: StopTimeRecorder) -> None:
    """Examine the stopped machines, as in one round of the reconciler."""
    cloud.result(recorder.round({cloud.user(name).id: name for name in ("alice", "bob")}))
