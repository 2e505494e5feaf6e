"""GetCallerIdentity, and what STS and IAM refuse, by boto3 and the AWS CLI."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.clients import aws, boto, refusal, v2
from tests.support.econed_process import Econed, Person


def test_the_identity_has_the_account_that_owns_the_callers_resources(
    econed: Econed, alice: Person, ec2: Any, launch: Any
) -> None:
    (instance,) = launch()
    (reservation,) = ec2.describe_instances(InstanceIds=[instance["InstanceId"]])["Reservations"]
    identity = boto(alice, econed.url, service="sts").get_caller_identity()
    assert identity["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert identity["Account"] == reservation["OwnerId"] == f"{alice.id:012d}"
    assert identity["Arn"] == f"arn:aws:iam::{alice.id:012d}:user/{alice.name}"
    assert identity["UserId"].startswith("AIDA")


def test_the_aws_cli_shows_the_identity(econed: Econed, alice: Person, tmp_path: Path) -> None:
    completed = aws(alice, econed.url, "get-caller-identity", service="sts", directory=tmp_path)
    assert completed.returncode == 0, completed.stderr
    assert json.loads(completed.stdout)["Account"] == f"{alice.id:012d}"


def test_a_request_with_signature_version_2_is_for_the_service_of_its_version(econed: Econed, alice: Person) -> None:
    response = v2(alice, econed.url, "GetCallerIdentity", {"Version": "2011-06-15"})
    assert response.status == 200
    assert response.texts("GetCallerIdentityResult", "Account") == [f"{alice.id:012d}"]


@pytest.mark.parametrize(
    ("service", "action"),
    [("sts", "GetDelegatedAccessToken"), ("sts", "DescribeInstances"), ("iam", "ListRoles"), ("ec2", "ListUsers")],
)
def test_what_a_service_does_not_have_is_an_invalid_action(
    econed: Econed, alice: Person, service: str, action: str
) -> None:
    versions = {"sts": "2011-06-15", "iam": "2010-05-08", "ec2": "2016-11-15"}
    response = v2(alice, econed.url, action, {"Version": versions[service]})
    assert response.status == 400
    assert [element.text for element in response.xml.iter("{*}Code")] == ["InvalidAction"]


def test_boto3_reads_the_errors_of_iam(econed: Econed, alice: Person) -> None:
    with pytest.raises(ClientError) as raised:
        boto(alice, econed.url, service="iam").list_roles()
    assert refusal(raised.value) == ("InvalidAction", 400)
    assert raised.value.response["Error"]["Message"] == "Could not find operation ListRoles for version 2010-05-08"


@pytest.mark.parametrize("service", ["sts", "iam"])
def test_a_wrong_secret_is_an_invalid_token(econed: Econed, alice: Person, service: str) -> None:
    client = boto(replace(alice, secret="wrong"), econed.url, service=service)
    with pytest.raises(ClientError) as raised:
        client.get_caller_identity() if service == "sts" else client.get_user()
    assert refusal(raised.value) == ("InvalidClientTokenId", 403)
