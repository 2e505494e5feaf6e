"""Temporary credentials with boto3: what they may do, and the login tokens behind them."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.e2e.waiting import wait_for
from tests.support.clients import boto, refusal
from tests.support.econed_process import Econed, Person
from tests.support.furnished_cloud import FurnishedCloud
from tests.support.processes import until

ENDED = 10
"""Seconds within which ended credentials must be refused."""


@dataclass(frozen=True)
class Carla:
    """A user whose primary group is `dev`, and who is also in the group of the cloud."""

    cloud: FurnishedCloud
    person: Person
    dev: int

    @property
    def role(self) -> str:
        """The ARN of the group of the cloud."""
        return f"arn:aws:iam::{self.person.id:012d}:role/{self.cloud.prefix}"

    def login_tokens(self) -> list[tuple[str, int]]:
        """Return the texts and the groups of the login tokens in oned."""
        document = self.cloud.admin.document("one.user.info", self.person.id, False)
        return [
            (token.findtext("TOKEN") or "", int(token.findtext("EGID") or "")) for token in document.iter("LOGIN_TOKEN")
        ]


@pytest.fixture(scope="module")
def carla(cloud: FurnishedCloud) -> Carla:
    """A user who signs with the hash of a password."""
    dev = cloud.second_group()
    password = secrets.token_hex(8)
    person = cloud.person_of("core", "carla", password, [dev, cloud.group])
    return Carla(cloud, replace(person, secret=hashlib.sha256(password.encode()).hexdigest()), dev)


@pytest.fixture(scope="module")
def econed(cloud: FurnishedCloud) -> Econed:
    """An econed that does not limit wrong signatures: these tests wait for credentials to be refused."""
    return cloud.econed(settings={"failed_signatures": False})


@pytest.fixture
def sts(carla: Carla, econed: Econed) -> Any:
    """The user's client of STS, which signs with the hash of the password."""
    return boto(carla.person, econed.url, service="sts")


@pytest.fixture(autouse=True)
def _no_token_remains(request: pytest.FixtureRequest) -> Iterator[None]:
    """Remove all login tokens: seconds 0 without a text."""
    yield
    if "carla" in request.fixturenames:
        person = request.getfixturevalue("carla").person
        person.oned("one.user.login", person.name, "", 0, -1)


def client_with(credentials: Mapping[str, Any], econed: Econed, service: str = "ec2") -> Any:
    """Return a client that signs with temporary credentials."""
    return boto3.Session(region_name="us-east-1").client(
        service,
        endpoint_url=econed.url,
        aws_access_key_id=credentials["AccessKeyId"],
        aws_secret_access_key=credentials["SecretAccessKey"],
        aws_session_token=credentials["SessionToken"],
        config=Config(retries={"max_attempts": 0}),
    )


def is_accepted(client: Any) -> bool:
    """Whether econed takes the credentials of a client."""
    try:
        client.describe_regions()
    except ClientError as error:
        assert refusal(error) == ("AuthFailure", 401)
        return False
    return True


def launch(client: Any, cloud: FurnishedCloud) -> str:
    """Launch an instance and return its id."""
    image, kind = f"ami-{cloud.ami:08d}", cloud.instance_type
    launched = client.run_instances(ImageId=image, InstanceType=kind, MinCount=1, MaxCount=1)
    return str(launched["Instances"][0]["InstanceId"])


def test_an_instance_of_a_role_has_its_group(carla: Carla, sts: Any, econed: Econed) -> None:
    """What only another of the user's groups may see is NotFound, while the user sees it without a role."""
    cloud = carla.cloud
    assumed = sts.assume_role(RoleArn=carla.role, RoleSessionName="terraform")
    in_role = client_with(assumed["Credentials"], econed)
    as_user = client_with(sts.get_session_token()["Credentials"], econed)
    instance = launch(in_role, cloud)
    assert int(cloud.vm(int(instance.removeprefix("i-"))).findtext("GID") or "") == cloud.group
    wait_for(in_role, "instance_running", InstanceIds=[instance])

    hidden = cloud.image(f"{cloud.prefix}-of-dev", 'EC2_AMI="YES"')
    cloud.admin("one.image.chown", hidden, -1, carla.dev)
    cloud.admin("one.image.chmod", hidden, 1, 1, 0, 1, 0, 0, 0, 0, 0)
    named = {"ImageIds": [f"ami-{hidden:08d}"]}
    with pytest.raises(ClientError) as refused:
        in_role.describe_images(**named)
    assert refusal(refused.value) == ("InvalidAMIID.NotFound", 400)
    assert len(as_user.describe_images(**named)["Images"]) == 1
    as_user.terminate_instances(InstanceIds=[instance])


def test_the_identity_of_a_role_names_group_and_session(carla: Carla, sts: Any, econed: Econed) -> None:
    assumed = sts.assume_role(RoleArn=carla.role, RoleSessionName="terraform")
    identity = client_with(assumed["Credentials"], econed, "sts").get_caller_identity()
    assert identity["Arn"] == assumed["AssumedRoleUser"]["Arn"]
    assert identity["UserId"] == assumed["AssumedRoleUser"]["AssumedRoleId"]
    assert identity["Account"] == f"{carla.person.id:012d}"


def test_the_account_of_temporary_credentials_is_in_their_id(carla: Carla, sts: Any, econed: Econed) -> None:
    key_id = sts.get_session_token()["Credentials"]["AccessKeyId"]
    assert sts.get_access_key_info(AccessKeyId=key_id)["Account"] == f"{carla.person.id:012d}"


def test_removing_the_login_token_in_opennebula_ends_credentials_within_seconds(
    carla: Carla, sts: Any, econed: Econed
) -> None:
    """New ones do not revive them."""
    client = client_with(sts.get_session_token()["Credentials"], econed)
    assert is_accepted(client)
    ((text, _),) = carla.login_tokens()
    carla.person.oned("one.user.login", carla.person.name, text, 0, -1)
    until(lambda: not is_accepted(client), "the credentials to be refused", ENDED)
    assert is_accepted(client_with(sts.get_session_token()["Credentials"], econed))
    assert not is_accepted(client)


def test_an_eleventh_login_token_is_refused_and_none_of_the_user_is_touched(carla: Carla, sts: Any) -> None:
    for number in range(10):
        carla.person.oned("one.user.login", carla.person.name, f"token-{number}", 3600, -1)
    before = carla.login_tokens()
    with pytest.raises(ClientError) as refused:
        sts.get_session_token()
    assert refusal(refused.value) == ("LimitExceeded", 409)
    assert carla.login_tokens() == before
