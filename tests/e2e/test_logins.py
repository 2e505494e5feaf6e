"""Users log in with credentials of every kind, by boto3 and by clients that sign with Version 2."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from libcloud.compute.drivers.ec2 import EC2NodeDriver

from tests.e2e.waiting import wait
from tests.support.clients import boto, v2
from tests.support.econed_process import Econed, Person
from tests.support.furnished_cloud import MAX_WAIT, FurnishedCloud


def test_boto3_shows_whose_credentials_these_are(lenient_econed: Econed, cloud: FurnishedCloud, signer: Person) -> None:
    identity = boto(signer, lenient_econed.url, service="sts").get_caller_identity()
    assert identity["Account"] == f"{signer.id:012d}"
    assert identity["Arn"] in {
        f"arn:aws:iam::{signer.id:012d}:user/{user_name(cloud, signer)}",
        f"arn:aws:sts::{signer.id:012d}:assumed-role/{cloud.prefix}/tests",
    }


def test_boto3_runs_and_terminates_an_instance_of_the_user_with_credentials_of_every_kind(
    lenient_econed: Econed, cloud: FurnishedCloud, signer: Person
) -> None:
    client = boto(signer, lenient_econed.url)
    with launched(client, cloud) as instance:
        wait(client, "instance_running", [instance])
        machine = cloud.vm(int(instance.removeprefix("i-")))
        assert machine.findtext("UNAME") == user_name(cloud, signer)
        assert machine.findtext("GNAME") == cloud.prefix
    wait(client, "instance_terminated", [instance])


def test_a_presigned_url_is_valid_with_credentials_of_every_kind(lenient_econed: Econed, signer: Person) -> None:
    """Those of temporary credentials have the session token in the query."""
    url = boto(signer, lenient_econed.url).generate_presigned_url("describe_images", HttpMethod="GET")
    assert ("X-Amz-Security-Token=" in url) == (signer.session_token is not None)
    with urlopen(url, timeout=MAX_WAIT) as response:
        assert response.status == 200


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_clients_with_signature_version_2_log_in_with_credentials_of_every_kind(
    cloud: FurnishedCloud, lenient_econed: Econed, signer: Person, method: str
) -> None:
    """As boto 2 does, with SecurityToken for temporary credentials."""
    response = v2(signer, lenient_econed.url, "DescribeImages", method=method)
    assert response.status == 200
    assert f"ami-{cloud.ami:08d}" in response.texts("imagesSet", "item", "imageId")


@pytest.mark.parametrize("version", ["2", "4"])
def test_libcloud_logs_in_with_credentials_of_every_kind(
    cloud: FurnishedCloud, lenient_econed: Econed, signer: Person, version: str
) -> None:
    url = urlsplit(lenient_econed.url)
    driver: Any = EC2NodeDriver(  # type: ignore[no-untyped-call]
        signer.name,
        signer.secret,
        token=signer.session_token,
        secure=False,
        host=url.hostname,
        port=url.port,
        signature_version=version,
    )
    assert f"ami-{cloud.ami:08d}" in {image.id for image in driver.list_images()}


def user_name(cloud: FurnishedCloud, person: Person) -> str:
    """Return the name of a user in OpenNebula."""
    return str(cloud.admin.document("one.user.info", person.id).findtext("NAME"))


@contextmanager
def launched(client: Any, cloud: FurnishedCloud) -> Iterator[str]:
    """Yield the id of a new instance, which is terminated at the end."""
    reservation = client.run_instances(
        ImageId=f"ami-{cloud.ami:08d}", InstanceType=cloud.instance_type, MinCount=1, MaxCount=1
    )
    instance = reservation["Instances"][0]["InstanceId"]
    try:
        yield instance
    finally:
        client.terminate_instances(InstanceIds=[instance])
