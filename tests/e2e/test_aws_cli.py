"""The aws cli as people use it: waiters, pages and errors. Each run takes a second, so there are few."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.waiting import attached, wait, wait_for
from tests.support.clients import aws
from tests.support.econed_process import Econed, Person
from tests.support.furnished_cloud import FurnishedCloud

Aws = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def cli(second_econed: Econed, alice: Person, tmp_path: Path) -> Aws:
    """Run `aws ec2` as alice."""
    return lambda *arguments: aws(alice, second_econed.url, *arguments, directory=tmp_path)


def _json(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_aws_cli_runs_waits_for_and_terminates_an_instance(cloud: FurnishedCloud, ec2: Any, cli: Aws) -> None:
    """run-instances, wait instance-running, describe-instances with filters, terminate, wait instance-terminated."""
    tags = "ResourceType=instance,Tags=[{Key=by,Value=cli}]"
    image, kind = f"ami-{cloud.ami:08d}", cloud.instance_type
    arguments = ("run-instances", "--image-id", image, "--instance-type", kind, "--tag-specifications", tags)
    dry = cli(*arguments, "--dry-run")
    assert (dry.returncode, dry.stdout) == (255, "")
    assert "(DryRunOperation) when calling the RunInstances operation" in dry.stderr

    (made,) = _json(cli(*arguments))["Instances"]
    ids = [made["InstanceId"]]
    wait(ec2, "instance_running", ids)
    waited = cli("wait", "instance-running", "--instance-ids", *ids)
    assert (waited.returncode, waited.stderr) == (0, "")
    filters = (
        "Name=tag:by,Values=c?i",
        f"Name=instance-id,Values={ids[0]},i-99999999",
        "Name=instance-state-code,Values=16",
    )
    query = "Reservations[].Instances[].[InstanceId,ImageId]"
    assert _json(cli("describe-instances", "--filters", *filters, "--query", query)) == [[ids[0], image]]
    _json(cli("terminate-instances", "--instance-ids", *ids))
    wait(ec2, "instance_terminated", ids)
    waited = cli("wait", "instance-terminated", "--instance-ids", *ids)
    assert (waited.returncode, waited.stderr) == (0, "")


def test_the_aws_cli_attaches_a_volume_and_allocates_an_address(
    cloud: FurnishedCloud, ec2: Any, cli: Aws, launch: Any
) -> None:
    """create-volume, attach-volume, detach-volume, delete-volume with its waiters; allocate- and release-address."""
    (launched,) = launch()
    instance = launched["InstanceId"]
    wait(ec2, "instance_running", [instance])
    arguments = ("--availability-zone", cloud.zone, "--size", "1", "--volume-type", "gp3")
    volume = _json(cli("create-volume", *arguments))["VolumeId"]
    wait_for(ec2, "volume_available", VolumeIds=[volume])
    named = ("--volume-id", volume)
    answer = _json(cli("attach-volume", *named, "--instance-id", instance, "--device", "/dev/sdf"))
    assert (answer["State"], answer["Device"]) == ("attaching", "/dev/sdf")
    attached(ec2, volume)
    waited = cli("wait", "volume-in-use", "--volume-ids", volume)
    assert (waited.returncode, waited.stderr) == (0, "")
    assert _json(cli("detach-volume", *named))["State"] == "detaching"
    wait_for(ec2, "volume_available", VolumeIds=[volume])
    deleted = cli("delete-volume", *named)
    assert (deleted.returncode, deleted.stderr) == (0, "")
    wait_for(ec2, "volume_deleted", VolumeIds=[volume])

    address = _json(cli("allocate-address"))
    assert address["PublicIp"] in cloud.held_addresses(cloud.elastic_ips)
    released = cli("release-address", "--allocation-id", address["AllocationId"])
    assert (released.returncode, released.stderr) == (0, "")
    assert address["PublicIp"] not in cloud.held_addresses(cloud.elastic_ips)


def test_the_aws_cli_reads_a_list_in_pages(ec2: Any, cli: Aws, launch: Any) -> None:
    """--page-size makes responses smaller and shows all of them; --max-items stops, and its token continues."""
    made = launch(count=7, TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "pages", "Value": "x"}]}])
    expected = sorted(each["InstanceId"] for each in made)
    arguments = (
        "describe-instances",
        "--filters",
        "Name=tag-key,Values=pages",
        "Name=instance-id,Values=" + ",".join(expected),
    )

    def ids(answer: Any) -> list[str]:
        return [each["InstanceId"] for reservation in answer["Reservations"] for each in reservation["Instances"]]

    assert ids(_json(cli(*arguments, "--page-size", "5"))) == expected
    first = _json(cli("describe-tags", "--filters", "Name=key,Values=pages", "--max-items", "5", "--page-size", "5"))
    token = first["NextToken"]
    rest = _json(
        cli("describe-tags", "--filters", "Name=key,Values=pages", "--starting-token", token, "--page-size", "5")
    )
    assert [each["ResourceId"] for each in (*first["Tags"], *rest["Tags"])] == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("describe-instances", "--instance-ids", "i-02000000000"),
            "An error occurred (InvalidInstanceID.Malformed) when calling the DescribeInstances operation",
        ),
        (
            ("stop-instances", "--instance-ids", "i-2000000000"),
            "An error occurred (InvalidInstanceID.NotFound) when calling the StopInstances operation: "
            "The instance ID 'i-2000000000' does not exist",
        ),
        (
            ("create-vpc", "--cidr-block", "10.0.0.0/16"),
            "An error occurred (InvalidAction) when calling the CreateVpc operation: "
            "The action CreateVpc is not valid for this web service.",
        ),
    ],
    ids=["malformed id", "unknown id", "unknown action"],
)
def test_the_aws_cli_shows_errors(cli: Aws, arguments: tuple[str, ...], message: str) -> None:
    """An error of the service is exit status 255 with EC2's code and message, without retries."""
    done = cli(*arguments)
    assert done.returncode == 255
    assert message in done.stderr
    assert done.stdout == ""
