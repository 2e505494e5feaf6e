"""The AWS CLI: waiters, pages and errors. Each run takes a second, so there are few."""

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


def _json(completed: subprocess.CompletedProcess[str]) -> Any:
    assert completed.returncode == 0, completed.stderr
    return json.loads(completed.stdout)


def test_the_aws_cli_runs_waits_for_and_terminates_an_instance(cloud: FurnishedCloud, ec2: Any, cli: Aws) -> None:
    """run-instances, wait instance-running, describe-instances with filters, terminate, wait instance-terminated."""
    tags = "ResourceType=instance,Tags=[{Key=by,Value=cli}]"
    image, kind = f"ami-{cloud.ami:08d}", cloud.instance_type
    arguments = ("run-instances", "--image-id", image, "--instance-type", kind, "--tag-specifications", tags)
    dry = cli(*arguments, "--dry-run")
    assert (dry.returncode, dry.stdout) == (255, "")
    assert "(DryRunOperation) when calling the RunInstances operation" in dry.stderr

    (instance,) = _json(cli(*arguments))["Instances"]
    ids = [instance["InstanceId"]]
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
    volume_arguments = ("--volume-id", volume)
    response = _json(cli("attach-volume", *volume_arguments, "--instance-id", instance, "--device", "/dev/sdf"))
    assert (response["State"], response["Device"]) == ("attaching", "/dev/sdf")
    attached(ec2, volume)
    waited = cli("wait", "volume-in-use", "--volume-ids", volume)
    assert (waited.returncode, waited.stderr) == (0, "")
    assert _json(cli("detach-volume", *volume_arguments))["State"] == "detaching"
    wait_for(ec2, "volume_available", VolumeIds=[volume])
    deleted = cli("delete-volume", *volume_arguments)
    assert (deleted.returncode, deleted.stderr) == (0, "")
    wait_for(ec2, "volume_deleted", VolumeIds=[volume])

    address = _json(cli("allocate-address"))
    assert address["PublicIp"] in cloud.held_addresses(cloud.elastic_ips)
    released = cli("release-address", "--allocation-id", address["AllocationId"])
    assert (released.returncode, released.stderr) == (0, "")
    assert address["PublicIp"] not in cloud.held_addresses(cloud.elastic_ips)


def test_the_aws_cli_creates_a_group_and_waits_for_it_and_for_networks(
    cloud: FurnishedCloud, ec2: Any, cli: Aws
) -> None:
    """create-security-group, a rule in the short form, and waiters."""
    arguments = ("create-security-group", "--group-name", "by cli", "--description", "of a test")
    group = ("--group-id", _json(cli(*arguments))["GroupId"])
    waited = cli("wait", "security-group-exists", "--group-ids", group[1])
    assert (waited.returncode, waited.stderr) == (0, "")
    rule = ("--protocol", "tcp", "--port", "22", "--cidr", "192.0.2.0/24")
    (created,) = _json(cli("authorize-security-group-ingress", *group, *rule))["SecurityGroupRules"]
    assert (created["FromPort"], created["CidrIpv4"]) == (22, "192.0.2.0/24")
    ec2.delete_security_group(GroupId=group[1])
    waited = cli("wait", "vpc-available", "--filters", "Name=is-default,Values=true")
    assert (waited.returncode, waited.stderr) == (0, "")
    waited = cli("wait", "subnet-available", "--subnet-ids", f"subnet-{cloud.network:08d}")
    assert (waited.returncode, waited.stderr) == (0, "")


def test_the_aws_cli_reads_a_list_in_pages(ec2: Any, cli: Aws, launch: Any) -> None:
    """--page-size reads the whole list in small responses; --max-items ends early with a token for the rest."""
    instances = launch(
        count=7, TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "pages", "Value": "x"}]}]
    )
    expected = sorted(instance["InstanceId"] for instance in instances)
    arguments = (
        "describe-instances",
        "--filters",
        "Name=tag-key,Values=pages",
        "Name=instance-id,Values=" + ",".join(expected),
    )

    def ids(response: Any) -> list[str]:
        return [
            instance["InstanceId"] for reservation in response["Reservations"] for instance in reservation["Instances"]
        ]

    assert ids(_json(cli(*arguments, "--page-size", "5"))) == expected
    first_page = _json(
        cli("describe-tags", "--filters", "Name=key,Values=pages", "--max-items", "5", "--page-size", "5")
    )
    token = first_page["NextToken"]
    second_page = _json(
        cli("describe-tags", "--filters", "Name=key,Values=pages", "--starting-token", token, "--page-size", "5")
    )
    assert [tag["ResourceId"] for tag in (*first_page["Tags"], *second_page["Tags"])] == expected


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
            ("describe-ipams",),
            "An error occurred (UnsupportedOperation) when calling the DescribeIpams operation: "
            "DescribeIpams is not supported by this cloud.",
        ),
    ],
    ids=["malformed id", "unknown id", "action that econed does not have"],
)
def test_the_aws_cli_shows_errors_of_the_service(cli: Aws, arguments: tuple[str, ...], message: str) -> None:
    """The exit status is 255, and standard error has EC2's code and message; nothing is retried."""
    completed = cli(*arguments)
    assert completed.returncode == 255
    assert message in completed.stderr
    assert completed.stdout == ""
