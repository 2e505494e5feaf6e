"""`aws sts` and `aws iam`, and profiles, endpoints and roles in the configuration of the AWS CLI, versions 1 and 2."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.every_credential import role_arn, signing
from tests.e2e.waiting import wait_for
from tests.support.clients import boto
from tests.support.configured_clients import aws_cli, keys, profile, run, variables
from tests.support.econed_process import Econed, Person
from tests.support.furnished_cloud import FurnishedCloud


@dataclass(frozen=True)
class AwsCli:
    """The AWS CLI at a path, with a home directory for its configuration."""

    path: str
    home: Path

    def configure(self, *profiles: str) -> None:
        """Write the profiles of `.aws/config`."""
        (self.home / ".aws").mkdir(exist_ok=True)
        (self.home / ".aws/config").write_text("\n".join(profiles), "utf-8")

    def __call__(self, *arguments: str, **environment: str) -> Any:
        """Run it, and return what it prints as JSON, None for nothing; it must succeed."""
        completed = run(self.path, arguments, self.home, environment)
        assert completed.returncode == 0, completed.stderr
        return json.loads(completed.stdout) if completed.stdout.strip() else None

    def refused(self, *arguments: str, **environment: str) -> str:
        """Run it, and return the error; it must fail."""
        completed = run(self.path, arguments, self.home, environment)
        assert completed.returncode != 0, completed.stdout
        return completed.stderr


@pytest.fixture(params=[1, 2], ids=["version 1", "version 2"])
def aws(request: pytest.FixtureRequest, tmp_path: Path) -> AwsCli:
    """The AWS CLI, without configuration."""
    return AwsCli(aws_cli(request.param), tmp_path)


@pytest.fixture
def new_user(cloud: FurnishedCloud, lenient_econed: Econed) -> Person:
    """A user without access keys."""
    return signing("password", cloud.person("new"), lenient_econed.url, cloud.prefix)


def test_the_cli_logs_in_with_credentials_of_every_kind_in_variables(
    aws: AwsCli, lenient_econed: Econed, cloud: FurnishedCloud, signer: Person
) -> None:
    """AWS_ENDPOINT_URL names the server of all services."""
    environment = variables(signer, lenient_econed.url)
    identity = aws("sts", "get-caller-identity", **environment)
    assert identity["Account"] == f"{signer.id:012d}"
    images = aws("ec2", "describe-images", "--image-ids", f"ami-{cloud.ami:08d}", **environment)["Images"]
    assert [image["ImageId"] for image in images] == [f"ami-{cloud.ami:08d}"]


def test_the_cli_logs_in_with_a_profile_of_every_kind(aws: AwsCli, lenient_econed: Econed, signer: Person) -> None:
    aws.configure(profile("cloud", lenient_econed.url, keys(signer)))
    assert aws("sts", "get-caller-identity", "--profile", "cloud")["Account"] == f"{signer.id:012d}"


def test_the_cli_manages_access_keys(aws: AwsCli, lenient_econed: Econed, new_user: Person) -> None:
    """Each answer is complete, and a key counts as its state says."""
    as_user = variables(new_user, lenient_econed.url)
    made = aws("iam", "create-access-key", **as_user)["AccessKey"]
    assert (made["UserName"], made["Status"], len(made["SecretAccessKey"])) == (new_user.name, "Active", 40)
    assert made["AccessKeyId"].startswith("AKIA")
    one = ("--access-key-id", made["AccessKeyId"])
    (listed,) = aws("iam", "list-access-keys", **as_user)["AccessKeyMetadata"]
    expected = {name: made[name] for name in ("UserName", "AccessKeyId", "Status", "CreateDate")}
    assert listed == expected

    by_key = {**as_user, "AWS_ACCESS_KEY_ID": made["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": made["SecretAccessKey"]}
    assert aws("sts", "get-caller-identity", **by_key)["Account"] == f"{new_user.id:012d}"
    used = aws("iam", "get-access-key-last-used", *one, **as_user)
    assert used["UserName"] == new_user.name
    assert aws("sts", "get-access-key-info", *one, **as_user)["Account"] == f"{new_user.id:012d}"
    assert "(AccessDenied)" in aws.refused("iam", "list-access-keys", **by_key)

    aws("iam", "update-access-key", *one, "--status", "Inactive", **as_user)
    assert aws("iam", "list-access-keys", **as_user)["AccessKeyMetadata"] == [{**listed, "Status": "Inactive"}]
    aws("iam", "update-access-key", *one, "--status", "Active", **as_user)
    aws("iam", "delete-access-key", *one, **as_user)
    assert aws("iam", "list-access-keys", **as_user)["AccessKeyMetadata"] == []
    assert "(NoSuchEntity)" in aws.refused("iam", "delete-access-key", *one, **as_user)


def test_the_cli_logs_in_with_a_session_that_it_has_requested(
    aws: AwsCli, lenient_econed: Econed, new_user: Person
) -> None:
    """For 15 minutes; without its session token it is invalid."""
    as_user = variables(new_user, lenient_econed.url)
    session = aws("sts", "get-session-token", "--duration-seconds", "900", **as_user)["Credentials"]
    without_token = {
        **as_user,
        "AWS_ACCESS_KEY_ID": session["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": session["SecretAccessKey"],
    }
    by_session = {**without_token, "AWS_SESSION_TOKEN": session["SessionToken"]}
    assert aws("sts", "get-caller-identity", **by_session)["Account"] == f"{new_user.id:012d}"
    assert "(InvalidClientTokenId)" in aws.refused("sts", "get-caller-identity", **without_token)
    assert "(AuthFailure)" in aws.refused("ec2", "describe-images", **without_token)


def test_the_cli_assumes_a_group_as_the_role_of_a_profile(
    aws: AwsCli, lenient_econed: Econed, cloud: FurnishedCloud, signer: Person
) -> None:
    """`role_arn` and `source_profile`; the endpoint is read from the profile with the role.

    As at Amazon, credentials of GetSessionToken may assume a role.
    """
    role = {"role_arn": role_arn(signer, cloud.prefix), "source_profile": "cloud", "role_session_name": "work"}
    aws.configure(profile("cloud", lenient_econed.url, keys(signer)), profile("group", lenient_econed.url, role))
    identity = aws("sts", "get-caller-identity", "--profile", "group")
    assert identity["Arn"] == f"arn:aws:sts::{signer.id:012d}:assumed-role/{cloud.prefix}/work"
    assert "Volumes" in aws("ec2", "describe-volumes", "--profile", "group")


def test_a_role_that_is_no_group_of_the_user_is_denied(aws: AwsCli, lenient_econed: Econed, alice: Person) -> None:
    role = {"role_arn": role_arn(alice, "oneadmin"), "source_profile": "cloud"}
    aws.configure(profile("cloud", lenient_econed.url, keys(alice)), profile("group", lenient_econed.url, role))
    error = aws.refused("ec2", "describe-instances", "--profile", "group")
    assert "(AccessDenied) when calling the AssumeRole operation" in error


def test_what_a_profile_with_a_role_makes_has_the_group_of_the_role(
    aws: AwsCli, lenient_econed: Econed, cloud: FurnishedCloud
) -> None:
    member, group = cloud.member("member")
    signing("password", member, lenient_econed.url, group)
    role = {"role_arn": role_arn(member, group), "source_profile": "cloud"}
    aws.configure(profile("cloud", lenient_econed.url, keys(member)), profile("group", lenient_econed.url, role))
    volume = ("--availability-zone", cloud.zone, "--size", "1")
    groups = {}
    for name in ("cloud", "group"):
        made = aws("ec2", "create-volume", *volume, "--profile", name)["VolumeId"]
        document = cloud.admin.document("one.image.info", int(made.removeprefix("vol-")), False)
        assert document.findtext("UNAME") == member.name
        groups[name] = document.findtext("GNAME")
        wait_for(boto(member, lenient_econed.url), "volume_available", VolumeIds=[made])
        aws("ec2", "delete-volume", "--volume-id", made, "--profile", name)
    assert groups == {"cloud": cloud.prefix, "group": group}
