"""Login tokens as secret keys, with boto3: for users of every driver, and for one of a user's groups."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.e2e.waiting import wait_for
from tests.support.clients import boto, refusal
from tests.support.econed_process import Econed, Person
from tests.support.furnished_cloud import MAX_WAIT, FurnishedCloud
from tests.support.processes import until

_HOUR = 3600
_NO_GROUP = -1

DRIVERS = [("core", "a-password"), ("ldap", "-"), ("ssh", "sshkey"), ("x509", "/C=ES/CN={}"), ("saml", "samlid")]
"""Drivers, and the password with which an administrator creates a user; `{}` is the name of the user."""


@dataclass(frozen=True)
class Lena:
    """A user whose primary group is `dev`, and who is also in the group of the cloud."""

    cloud: FurnishedCloud
    person: Person
    dev: int

    def token(self, group: int = _NO_GROUP, text: str = "", seconds: int = _HOUR) -> str:
        """Create a login token, or renew or remove the one with a text, in the user's session."""
        return str(self.person.oned("one.user.login", self.person.name, text, seconds, group))

    def by(self, secret: str) -> Person:
        """Return the user with a secret key."""
        return replace(self.person, secret=secret)


@pytest.fixture(scope="module", params=DRIVERS, ids=[driver for driver, _ in DRIVERS])
def lena(request: pytest.FixtureRequest, cloud: FurnishedCloud) -> Lena:
    """A user of each driver."""
    driver, password = request.param
    dev = cloud.second_group()
    return Lena(cloud, cloud.person_of(driver, f"lena-{driver}", password, [dev, cloud.group]), dev)


@pytest.fixture(scope="module")
def econed(cloud: FurnishedCloud) -> Econed:
    """An econed that does not limit wrong signatures: these tests wait for tokens to be accepted and refused."""
    return cloud.econed(settings={"failed_signatures": False})


@pytest.fixture
def client(lena: Lena, econed: Econed) -> Any:
    """A client that signs with a token without a group."""
    return boto(lena.by(lena.token()), econed.url)


@pytest.fixture
def client_in_group(lena: Lena, econed: Econed) -> Any:
    """A client that signs with a token for the group of the cloud."""
    return boto(lena.by(lena.token(lena.cloud.group)), econed.url)


@pytest.fixture(autouse=True)
def _no_token_remains(request: pytest.FixtureRequest) -> Iterator[None]:
    """Oned allows ten: seconds 0 without a text removes all."""
    yield
    if "lena" in request.fixturenames:
        request.getfixturevalue("lena").token(seconds=0)


def _launch(client: Any, cloud: FurnishedCloud) -> str:
    image, kind = f"ami-{cloud.ami:08d}", cloud.instance_type
    launched = client.run_instances(ImageId=image, InstanceType=kind, MinCount=1, MaxCount=1)
    return str(launched["Instances"][0]["InstanceId"])


def _group_of(cloud: FurnishedCloud, instance: str) -> int:
    return int(cloud.vm(int(instance.removeprefix("i-"))).findtext("GID") or "")


def test_a_user_of_any_driver_logs_in_by_token(lena: Lena, econed: Econed) -> None:
    """As soon as it exists, or within seconds if other signatures failed just before."""
    for group in (_NO_GROUP, lena.cloud.group):
        client = boto(lena.by(lena.token(group)), econed.url)
        until(lambda client=client: _is_accepted(client), "the token to be accepted", MAX_WAIT)  # type: ignore[misc]


def test_what_stands_in_password_is_a_secret_key_of_the_driver_core_alone(lena: Lena, econed: Econed) -> None:
    """Neither what the administrator gave, nor what oned stores."""
    document = lena.cloud.admin.document("one.user.info", lena.person.id, False)
    stored = document.findtext("PASSWORD") or ""
    assert stored
    client = boto(lena.by(stored), econed.url)
    if document.findtext("AUTH_DRIVER") == "core":
        until(lambda: _is_accepted(client), "the password to be accepted", MAX_WAIT)
    else:
        assert not _is_accepted(client)


def test_a_removed_token_is_refused_within_seconds(lena: Lena, econed: Econed) -> None:
    token = lena.token()
    client = boto(lena.by(token), econed.url)
    until(lambda: _is_accepted(client), "the token to be accepted", MAX_WAIT)
    lena.token(text=token, seconds=0)
    until(lambda: not _is_accepted(client), "the token to be refused", 10)


@pytest.mark.parametrize("lena", DRIVERS[1:2], ids=["ldap"], indirect=True)
def test_a_token_with_a_group_makes_and_sees_what_is_of_that_group(
    lena: Lena, client: Any, client_in_group: Any
) -> None:
    """Its machines have that group; what only another of the user's groups may see is NotFound."""
    cloud = lena.cloud
    until(lambda: _is_accepted(client) and _is_accepted(client_in_group), "the tokens to be accepted", MAX_WAIT)
    in_group, without = _launch(client_in_group, cloud), _launch(client, cloud)
    assert (_group_of(cloud, in_group), _group_of(cloud, without)) == (cloud.group, lena.dev)
    machine = cloud.admin.make("one.vm.allocate", f'NAME="{cloud.prefix}-dev"\nCPU="0.1"\nMEMORY="64"', True)
    try:
        cloud.admin("one.vm.chown", machine, -1, lena.dev)
        cloud.admin("one.vm.chmod", machine, 1, 1, 0, 1, 0, 0, 0, 0, 0)
        shared = f"i-{machine:08d}"
        assert client.describe_instances(InstanceIds=[shared])["Reservations"]
        with pytest.raises(ClientError) as raised:
            client_in_group.describe_instances(InstanceIds=[shared])
        assert refusal(raised.value) == ("InvalidInstanceID.NotFound", 400)
    finally:
        cloud.admin("one.vm.action", "terminate-hard", machine)
    client.terminate_instances(InstanceIds=[in_group, without])
    wait_for(client, "instance_terminated", InstanceIds=[in_group, without])


def test_tokens_may_be_excluded(cloud: FurnishedCloud) -> None:
    """`secret_keys` in econe.conf names the kinds that count."""
    econed = cloud.econed(settings={"secret_keys": ["password"]})
    token = str(cloud.alice.oned("one.user.login", cloud.alice.name, "", _HOUR, _NO_GROUP))
    assert not _is_accepted(boto(replace(cloud.alice, secret=token), econed.url))
    assert _is_accepted(boto(cloud.alice, econed.url))


def _is_accepted(client: Any) -> bool:
    """Whether the signatures of a client are accepted."""
    try:
        client.describe_key_pairs()
    except ClientError as error:
        assert refusal(error) == ("AuthFailure", 401)
        return False
    return True
