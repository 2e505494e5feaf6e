"""Limits for real clients: their largest requests succeed, and throttled clients retry."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.clients import EC2Response, boto, refusal, v2
from tests.support.econed_process import Econed, Person, twistd
from tests.support.furnished_cloud import FurnishedCloud
from tests.support.processes import Process

USER_DATA = bytes(range(256)) * 64
"""16 KiB, EC2's limit, of bytes that become longest in base64 and percent-encoding."""

THOUSAND = 1000
"""The maximum of resources in a CreateTags, and of ids in a DescribeInstances."""


def _ids(count: int) -> dict[str, str]:
    return {f"InstanceId.{index}": f"i-{index + 500_000:08d}" for index in range(1, count + 1)}


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_thousand_ids_are_looked_up(econed: Econed, alice: Person, method: str) -> None:
    """The query has 27 KiB."""
    response = v2(alice, econed.url, "DescribeInstances", _ids(THOUSAND), method=method)
    assert (response.status, response.code) == (400, "InvalidInstanceID.NotFound")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_largest_user_data_reaches_the_machine(
    cloud: FurnishedCloud, econed: Econed, alice: Person, ec2: Any, method: str
) -> None:
    """It is complete even if it was sent in a query."""
    parameters = {
        "ImageId": f"ami-{cloud.ami:08d}",
        "InstanceType": cloud.instance_type,
        "MinCount": "1",
        "MaxCount": "1",
        "UserData": base64.b64encode(USER_DATA).decode(),
    }
    response = v2(alice, econed.url, "RunInstances", parameters, method=method)
    assert response.status == 200, response.body
    (instance,) = _texts(response, "instanceId")
    try:
        encoded = cloud.vm(int(instance[2:])).findtext("TEMPLATE/CONTEXT/EC2_USER_DATA")
        assert encoded is not None
        assert base64.b64decode(encoded) == USER_DATA
    finally:
        ec2.terminate_instances(InstanceIds=[instance])


def test_a_call_with_a_thousand_resources_is_not_too_long(econed: Econed, alice: Person) -> None:
    """The call has fifty tags and 1,100 parameters; the error concerns the first resource."""
    ids = {f"ResourceId.{index}": f"i-{index + 500_000:08d}" for index in range(1, THOUSAND + 1)}
    tags = {f"Tag.{index}.{part}": f"{part} {index} " + "ü" * 100 for index in range(1, 51) for part in _PARTS}
    response = v2(alice, econed.url, "CreateTags", {**ids, **tags}, method="POST")
    assert response.status == 400
    assert response.code.startswith("InvalidInstanceID"), response.body


_PARTS = ("Key", "Value")


def _texts(response: EC2Response, name: str) -> list[str]:
    return response.texts("instancesSet", "item", name)


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[str]:
    """The URL of an econed whose users may make two requests at once, and one a second."""
    configuration = tmp_path / "econe.conf"
    configuration.write_text(":rate_limit: 1\n:rate_burst: 2\n:failed_signatures: 3\n:drain_timeout: 0\n", "ascii")
    arguments = ["-n", "--pidfile=", "econe", "--sandbox", "--sandbox-user", "ida:a secret"]
    arguments += ["--config", str(configuration), "--listen", "tcp:0:interface=127.0.0.1"]
    daemon = Process("econed", [twistd(), *arguments], tmp_path)
    try:
        yield f"http://127.0.0.1:{daemon.await_output(r'EC2Site starting on ([0-9]+)')}/"
    finally:
        daemon.stop()


def test_boto3_waits_and_retries_at_a_rate_limit(limited: str) -> None:
    """It uses its standard mode, as most programs do; a client without retries gets the error."""
    ida = Person("ida", 2, "a secret", None)  # type: ignore[arg-type]
    patient = boto(ida, limited, retries={"mode": "standard", "total_max_attempts": 10})
    responses = [patient.describe_regions()["ResponseMetadata"] for _ in range(5)]
    assert [metadata["HTTPStatusCode"] for metadata in responses] == [200] * 5
    assert sum(metadata["RetryAttempts"] for metadata in responses) >= 1
    with pytest.raises(ClientError) as caught:
        _ask_often(boto(ida, limited))
    assert refusal(caught.value) == ("RequestLimitExceeded", 503)


def _ask_often(ec2: Any) -> None:
    for _ in range(10):
        ec2.describe_regions()


def test_an_address_that_guesses_secrets_is_refused(limited: str) -> None:
    """After three wrong signatures a valid signature from the same address is refused, too."""
    guessing = boto(Person("ida", 2, "guessed", None), limited)  # type: ignore[arg-type]
    codes = []
    for _ in range(4):
        with pytest.raises(ClientError) as caught:
            guessing.describe_regions()
        codes.append(refusal(caught.value))
    assert codes == [("AuthFailure", 401)] * 3 + [("RequestLimitExceeded", 503)]
    with pytest.raises(ClientError) as caught:
        boto(Person("ida", 2, "a secret", None), limited).describe_regions()  # type: ignore[arg-type]
    assert refusal(caught.value) == ("RequestLimitExceeded", 503)
