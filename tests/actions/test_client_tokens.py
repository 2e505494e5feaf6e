"""ClientToken in every action: a repeated call returns the same resource, a different call is a mismatch."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.python.failure import Failure

from econed.catalogue import all_actions
from econed.errors import EC2Error
from tests.actions.volumes.test_volumes import ZONE, begin, image, snapshot, volume
from tests.support.cloud import Cloud
from tests.support.delayed_oned import DelayedOned, DyingOned

pytestmark = pytest.mark.slow

UBUNTU = "ami-00000000"
ALL = -2
COPY: dict[str, Any] = {"SourceImageId": UBUNTU, "SourceRegion": "OpenNebula"}
CALLS: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    "CopyImage": ({"Name": "copy", **COPY}, {"Description": "another"}, 128),
    "CreateVolume": ({"AvailabilityZone": ZONE, "Size": 1}, {"Size": 2}, 64),
    "RunInstances": ({"ImageId": UBUNTU, "MinCount": 1, "MaxCount": 1}, {"InstanceType": "m1.large"}, 64),
}
"""By action: the parameters of a call, those of a different call, and the maximum length of a token."""


def id_of(response: dict[str, Any]) -> str:
    """Return the id of the resource that a call created."""
    return str(response.get("ImageId") or response.get("VolumeId") or response["Instances"][0]["InstanceId"])


def counts(cloud: Cloud) -> tuple[int, ...]:
    """Return how many AMIs, volumes that are images, and instances alice has."""
    images = cloud.run("alice", "DescribeImages", Owners=["self"])["Images"]
    machines = cloud.run("alice", "DescribeInstances")["Reservations"]
    volumes = [volume for volume in cloud.run("alice", "DescribeVolumes")["Volumes"] if not volume["Attachments"]]
    return len(images), len(volumes), len(machines)


def test_every_action_with_a_client_token_is_tested_here() -> None:
    assert set(CALLS) == {action.name for action in all_actions() if "ClientToken" in action.accepts.of}


@pytest.mark.parametrize("action", CALLS)
def test_the_same_call_returns_the_same_resource_and_another_call_is_a_mismatch(cloud: Cloud, action: str) -> None:
    parameters, other, max_length = CALLS[action]
    token = "t" * max_length
    first = id_of(cloud.run("alice", action, **parameters, ClientToken=token))
    cloud.wait(10)
    before = counts(cloud)
    assert id_of(cloud.run("alice", action, **parameters, ClientToken=token)) == first
    refusal = cloud.refusal("alice", action, **{**parameters, **other}, ClientToken=token)
    assert refusal.code == "IdempotentParameterMismatch"
    assert counts(cloud) == before
    assert id_of(cloud.run("bob", action, **parameters, ClientToken=token)) != first


@pytest.mark.parametrize("action", CALLS)
def test_a_token_that_amazon_or_oned_does_not_accept_is_refused(action: str) -> None:
    cloud = Cloud()
    parameters, _, max_length = CALLS[action]
    for token in ("t" * (max_length + 1), "tökén", "a\\", " a", "a\tb]]>"):
        refusal = cloud.refusal("alice", action, **parameters, ClientToken=token)
        assert (refusal.code, "clientToken" in refusal.message, token) == ("InvalidParameterValue", True, token)
    assert cloud.changes == []


@pytest.mark.parametrize("action", ["CreateVolume", "RunInstances"])
def test_an_empty_token_is_ignored(action: str) -> None:
    cloud = Cloud()
    parameters = CALLS[action][0]
    assert len({id_of(cloud.run("alice", action, **parameters, ClientToken="")) for _ in range(2)}) == 2


def test_another_source_with_the_token_of_a_copy_is_a_mismatch(cloud: Cloud) -> None:
    first = id_of(cloud.run("alice", "CopyImage", Name="copy", **COPY, ClientToken="token"))
    cloud.wait(10)
    second = id_of(cloud.run("alice", "CopyImage", Name="second", **COPY))
    cloud.wait(10)
    for name, source in (("copy", second), ("other", UBUNTU), ("other", second), ("other", first)):
        refusal = cloud.refusal(
            "alice", "CopyImage", Name=name, SourceImageId=source, SourceRegion="OpenNebula", ClientToken="token"
        )
        assert refusal.code == "IdempotentParameterMismatch"
    assert counts(cloud)[0] == 2


DELAYS = st.lists(st.floats(0.0, 2.0), min_size=6, max_size=20)


def run_at_once(cloud: Cloud, *calls: tuple[list[float], dict[str, Any]]) -> list[Any]:
    """Call CopyImage in two processes, with the same token by default, each with its own delays; return the results."""
    ended = [
        begin(
            cloud,
            DelayedOned(cloud.backend, cloud.clock, cycle(delays)),
            "CopyImage",
            **{**COPY, "ClientToken": "token", **parameters},
        )
        for delays, parameters in calls
    ]
    cloud.clock.pump([0.1] * 1500)
    return [result.value if isinstance(result, Failure) else result for (result,) in ended]


@settings(max_examples=30, deadline=None)
@given(DELAYS, DELAYS)
def test_two_processes_with_the_same_token_create_one_copy(delays: list[float], other_delays: list[float]) -> None:
    cloud = Cloud()
    first, second = run_at_once(cloud, (delays, {"Name": "copy"}), (other_delays, {"Name": "copy"}))
    assert first == second
    assert counts(cloud)[0] == 1


@settings(max_examples=60, deadline=None)
@given(DELAYS, DELAYS, st.sampled_from([{"Name": "another"}, {"Name": "copy", "Description": "another"}]))
def test_at_most_one_of_two_different_copies_with_the_same_token_is_created(
    delays: list[float], other_delays: list[float], other: dict[str, Any]
) -> None:
    cloud = Cloud()
    results = run_at_once(cloud, (delays, {"Name": "copy"}), (other_delays, other))
    errors = [result for result in results if isinstance(result, EC2Error)]
    assert errors
    assert {error.code for error in errors} == {"IdempotentParameterMismatch"}
    assert counts(cloud)[0] == 2 - len(errors)


@settings(max_examples=60, deadline=None)
@given(DELAYS, DELAYS, st.sampled_from(["another", ""]))
def test_one_of_two_copies_with_the_same_name_and_different_tokens_is_created(
    delays: list[float], other_delays: list[float], token: str
) -> None:
    """SDKs give each call its own token: one call never returns the resource of another."""
    cloud = Cloud()
    results = run_at_once(cloud, (delays, {"Name": "copy"}), (other_delays, {"Name": "copy", "ClientToken": token}))
    errors = [result for result in results if isinstance(result, EC2Error)]
    assert [error.code for error in errors] == ["InvalidAMIName.Duplicate"]
    assert counts(cloud)[0] == 1


@pytest.mark.parametrize("step", range(10))
def test_another_copy_with_the_token_of_an_interrupted_one_is_a_mismatch(step: int) -> None:
    """As soon as the first call has changed something; the same call continues from there."""
    cloud = Cloud()
    parameters: dict[str, Any] = {"Name": "copy", **COPY, "ClientToken": "token"}
    begin(cloud, DyingOned(cloud.backend, step, after=True), "CopyImage", **parameters)
    has_changed_something = counts(cloud)[0] or "EC2_NEW_IMAGE" in cloud.as_user("alice", "one.user.info", -1)
    assert has_changed_something or step < 5
    if has_changed_something:
        refusal = cloud.refusal("alice", "CopyImage", **parameters, Description="another")
        assert refusal.code == "IdempotentParameterMismatch"
    cloud.run("alice", "CopyImage", **parameters)
    assert counts(cloud)[0] == 1


def interrupted() -> tuple[Cloud, dict[str, Any], str]:
    """Return a cloud in which CreateVolume was interrupted after the copy, its parameters, and another snapshot."""
    for step in range(20):
        cloud = Cloud()
        of = volume(cloud)
        first, second = snapshot(cloud, of), snapshot(cloud, of)
        before = cloud.oneadmin("one.imagepool.info", ALL, -1, -1).count("<IMAGE>")
        parameters = {"AvailabilityZone": ZONE, "SnapshotId": first, "ClientToken": "token"}
        begin(cloud, DyingOned(cloud.backend, step, after=True), "CreateVolume", **parameters)
        if cloud.oneadmin("one.imagepool.info", ALL, -1, -1).count("<IMAGE>") > before:
            cloud.wait(60)
            return cloud, parameters, second
    raise AssertionError("no copy was made")


def test_an_interrupted_volume_is_not_finished_by_a_different_call() -> None:
    """It would have the content of the first call, and the attributes of the other."""
    cloud, parameters, other = interrupted()
    for different in (
        {**parameters, "SnapshotId": other},
        {"AvailabilityZone": ZONE, "Size": 1, "ClientToken": "token"},
    ):
        assert cloud.refusal("alice", "CreateVolume", **different).code == "IdempotentParameterMismatch"
    assert cloud.run("alice", "CreateVolume", **parameters)["SnapshotId"] == parameters["SnapshotId"]
    assert counts(cloud)[1] == 2


def test_a_copy_has_neither_token_nor_digest_nor_other_attributes_of_the_original_alone(cloud: Cloud) -> None:
    """For every kind of copy: of a volume, a snapshot, an AMI and its snapshot."""
    first = volume(cloud, ClientToken="token", VolumeType="gp2")
    copied = id_of(cloud.run("alice", "CopyImage", Name="copy", **COPY, ClientToken="token"))
    cloud.wait(10)
    for original in (first[4:], copied[4:]):
        cloud.as_user("alice", "one.image.update", int(original), 'EC2_TO_COME="x"\nEBS_TO_COME="x"', 1)
    of_volume, of_ami = snapshot(cloud, first), f"snap-{copied[4:]}"
    again = id_of(cloud.run("alice", "CopyImage", Name="again", SourceImageId=copied, SourceRegion="OpenNebula"))
    cloud.wait(10)
    copies = [of_volume, again, *(volume(cloud, SnapshotId=source) for source in (of_volume, of_ami))]
    for source in (of_volume, of_ami):
        response = cloud.run("alice", "CopySnapshot", SourceSnapshotId=source, SourceRegion="OpenNebula")
        copies.append(str(response["SnapshotId"]))
        cloud.wait(10)
    for copy in copies:
        names = set(image(cloud, copy).template.names())
        assert not names & {"EC2_CLIENT_TOKEN", "EC2_REQUEST_DIGEST", "EC2_TO_COME", "EBS_TO_COME"}, copy


def test_an_unfinished_copy_of_a_snapshot_shows_nothing_of_the_original(cloud: Cloud) -> None:
    """It has all attributes of a snapshot from the beginning: those of its original."""
    tags = [{"ResourceType": "snapshot", "Tags": [{"Key": "a", "Value": "b"}]}]
    snapshot_id = snapshot(cloud, volume(cloud), Description="mine", TagSpecifications=tags)
    cloud.as_user("alice", "one.image.clone", int(snapshot_id[5:]), f"ec2-snap-{'1' * 32}")
    snapshots = cloud.run("alice", "DescribeSnapshots")["Snapshots"]
    (copy,) = [described for described in snapshots if described["SnapshotId"] != snapshot_id]
    assert (copy["State"], copy["Description"], "Tags" in copy) == ("pending", "", False)
