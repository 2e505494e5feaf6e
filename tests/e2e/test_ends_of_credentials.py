"""What ends credentials of each kind, as docs/credentials.md lists it, and what does not; many requests at once."""

from __future__ import annotations

import os
import pwd
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
import yaml
from botocore.exceptions import ClientError

from tests.e2e.every_credential import signing, with_access_key, with_role, with_session, with_token
from tests.e2e.waiting import known
from tests.support.clients import boto, refusal
from tests.support.econed_process import Econed, Person
from tests.support.furnished_cloud import MAX_WAIT, FurnishedCloud
from tests.support.processes import until
from tests.support.running import command, finished

AT_ONCE = 50
MAX_LOGIN_TOKENS = 2
"""How many login tokens econed may have made behind all of a user's temporary credentials of one group."""

REFUSALS = frozenset({"AuthFailure", "RequestExpired", "ExpiredToken", "InvalidClientTokenId"})


@dataclass(frozen=True)
class Scene:
    """A user who signs with their password, econed, and the name of a second group of the user's."""

    cloud: FurnishedCloud
    url: str
    user: Person
    group: str

    def iam(self) -> Any:
        """Return the user's client of IAM."""
        return boto(self.user, self.url, service="iam")

    def administer(self, *arguments: str) -> None:
        """Run a command of `econe-server keys` with the configuration of econed."""
        config = self.cloud.directory / "keys.conf"
        config.write_text(yaml.safe_dump({"one_xmlrpc": self.cloud.url}), "utf-8")
        account = pwd.getpwuid(os.geteuid()).pw_name
        environment = {**os.environ, "ONE_CIPHER_AUTH": str(self.cloud.auth_file)}
        words = command("server", "--config", str(config), "--user", account, "keys", *arguments)
        process = finished(words, self.cloud.directory, environment)
        assert process.returncode == 0, process.stdout + process.stderr

    def has_ended(self, signer: Person) -> bool:
        """Whether econed refuses a request with these credentials."""
        try:
            boto(signer, self.url).describe_key_pairs()
        except ClientError as error:
            assert refusal(error)[0] in REFUSALS, error
            return True
        return False


@pytest.fixture
def scene(cloud: FurnishedCloud, lenient_econed: Econed) -> Scene:
    """A new user, whom econed knows."""
    user, group = cloud.member("ending")
    return Scene(cloud, lenient_econed.url, signing("password", user, lenient_econed.url, group), group)


def change_password(scene: Scene, signer: Person) -> None:
    """The user has another password."""
    scene.cloud.admin("one.user.passwd", signer.id, secrets.token_hex(8))


def disable(scene: Scene, signer: Person) -> None:
    """An administrator disables the user, which OpenNebula 5.12 cannot do."""
    if not scene.cloud.is_modern:
        pytest.skip("this version cannot disable users")
    scene.cloud.admin("one.user.enable", signer.id, False)


def remove_token(scene: Scene, signer: Person) -> None:
    """The user removes the login token with which they sign."""
    scene.user.oned("one.user.login", scene.user.name, signer.secret, 0, -1)


def remove_all_tokens(scene: Scene, signer: Person) -> None:
    """The user removes all login tokens (`oneuser token-delete-all`)."""
    scene.user.oned("one.user.login", scene.user.name, "", 0, -1)


def only_key(scene: Scene) -> str:
    """Return the id of the user's only access key."""
    (key,) = scene.iam().list_access_keys()["AccessKeyMetadata"]
    return str(key["AccessKeyId"])


def deactivate_key(scene: Scene, signer: Person) -> None:
    """The user makes their access key inactive."""
    scene.iam().update_access_key(AccessKeyId=only_key(scene), Status="Inactive")


def delete_key(scene: Scene, signer: Person) -> None:
    """The user deletes their access key."""
    scene.iam().delete_access_key(AccessKeyId=only_key(scene))


def leave_group(scene: Scene, signer: Person) -> None:
    """An administrator takes the user out of the group of the role."""
    groups = scene.cloud.admin.document("one.grouppool.info").findall("GROUP")
    (group,) = [int(str(each.findtext("ID"))) for each in groups if each.findtext("NAME") == scene.group]
    scene.cloud.admin("one.user.delgroup", signer.id, group)


def by_password(scene: Scene) -> Person:
    """Return the user with the password as OpenNebula stores it."""
    return scene.user


def by_token(scene: Scene) -> Person:
    """Return the user with a login token."""
    return with_token(scene.user)


def by_key(scene: Scene) -> Person:
    """Return the user with an access key."""
    return with_access_key(scene.user, scene.url)


def by_session(scene: Scene) -> Person:
    """Return the user with temporary credentials that were requested with the password."""
    return with_session(scene.user, scene.url)


def by_session_of_token(scene: Scene) -> Person:
    """Return the user with temporary credentials that were requested with a login token."""
    token = with_token(scene.user)
    known(boto(token, scene.url))
    return with_session(token, scene.url)


def by_session_of_key(scene: Scene) -> Person:
    """Return the user with temporary credentials that were requested with an access key."""
    key = with_access_key(scene.user, scene.url)
    known(boto(key, scene.url))
    return with_session(key, scene.url)


def by_role(scene: Scene) -> Person:
    """Return the user with temporary credentials of a role, which is the second group."""
    return with_role(scene.user, scene.url, scene.group)


ENDS: Sequence[tuple[Callable[[Scene], Person], Callable[[Scene, Person], None]]] = (
    (by_password, change_password),
    (by_password, disable),
    (by_token, remove_token),
    (by_token, remove_all_tokens),
    (by_token, change_password),
    (by_token, disable),
    (by_key, deactivate_key),
    (by_key, delete_key),
    (by_key, disable),
    (by_session, change_password),
    (by_session, remove_all_tokens),
    (by_session, disable),
    (by_session_of_token, remove_all_tokens),
    (by_session_of_key, deactivate_key),
    (by_session_of_key, delete_key),
    (by_session_of_key, change_password),
    (by_role, leave_group),
    (by_role, change_password),
)
"""Credentials, and what ends them."""


def _name(function: Callable[..., object]) -> str:
    return function.__name__.replace("_", " ")


@pytest.mark.parametrize(("sign", "end"), ENDS, ids=_name)
def test_credentials_are_refused_after_what_ends_them(
    scene: Scene, sign: Callable[[Scene], Person], end: Callable[[Scene, Person], None]
) -> None:
    signer = sign(scene)
    known(boto(signer, scene.url))
    end(scene, signer)
    until(lambda: scene.has_ended(signer), "the credentials to be refused", MAX_WAIT, every=0.5)


def test_an_access_key_outlives_a_change_of_the_password(scene: Scene) -> None:
    """So it has to be ended by itself."""
    key = by_key(scene)
    known(boto(key, scene.url))
    change_password(scene, key)
    until(lambda: scene.has_ended(scene.user), "the password to be refused", MAX_WAIT, every=0.5)
    assert not scene.has_ended(key)


def test_an_administrator_ends_and_restores_keys_whatever_their_user_does(scene: Scene) -> None:
    """At the end nothing is left on serveradmin."""
    key, session = by_key(scene), by_session(scene)
    own = ["--of", scene.user.name]
    steps: Sequence[tuple[Sequence[str], bool, bool]] = (
        (["disable", key.name], True, False),
        (["enable", key.name], False, False),
        (["disable", session.name], False, True),
        (["enable", session.name], False, False),
        (["disable", *own], True, True),
        (["enable", *own], False, False),
        (["delete", key.name], True, False),
        (["enable", key.name], True, False),
    )
    for words, key_has_ended, session_has_ended in steps:
        scene.administer(*words)
        if words == ["disable", key.name]:
            scene.iam().update_access_key(AccessKeyId=key.name, Status="Inactive")
            scene.iam().update_access_key(AccessKeyId=key.name, Status="Active")
        expected = (key_has_ended, session_has_ended)
        until(
            partial(lambda wanted: (scene.has_ended(key), scene.has_ended(session)) == wanted, expected),
            f"the end, or not, of key and session: {expected} after {words}",
            MAX_WAIT,
            every=0.5,
        )


def test_a_key_that_is_made_active_again_counts_again(scene: Scene) -> None:
    key = by_key(scene)
    known(boto(key, scene.url))
    deactivate_key(scene, key)
    until(lambda: scene.has_ended(key), "the key to be refused", MAX_WAIT, every=0.5)
    scene.iam().update_access_key(AccessKeyId=key.name, Status="Active")
    known(boto(key, scene.url))


def test_credentials_of_different_origins_cannot_be_mixed(scene: Scene, alice: Person) -> None:
    """The id of one with the secret or the session token of another, also of the same user."""
    key, other_key = by_key(scene), by_key(scene)
    session, other_session = by_session(scene), by_session(scene)
    anothers = with_session(alice, scene.url)
    mixed = (
        replace(key, secret=other_key.secret),
        replace(key, secret=scene.user.secret),
        replace(key, session_token=session.session_token),
        replace(session, secret=other_session.secret),
        replace(session, session_token=other_session.session_token),
        replace(session, session_token=anothers.session_token),
        replace(session, session_token=None),
        replace(scene.user, session_token=session.session_token),
        replace(scene.user, secret=key.secret),
        replace(scene.user, name=alice.name),
    )
    assert [scene.has_ended(each) for each in mixed] == [True] * len(mixed)
    assert not any(scene.has_ended(each) for each in (key, other_key, session, other_session))


def test_fifty_requests_for_temporary_credentials_at_once_give_fifty_that_work(
    scene: Scene, second_econed: Econed
) -> None:
    """Sent to two processes; behind all of them is one login token, or two."""
    known(boto(scene.user, second_econed.url))
    urls = [scene.url, second_econed.url]
    clients = [boto(scene.user, urls[number % 2], service="sts") for number in range(AT_ONCE)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        results = list(pool.map(lambda client: client.get_session_token()["Credentials"], clients))
    assert len({made["AccessKeyId"] for made in results}) == AT_ONCE
    for number, made in enumerate(results):
        signer = replace(
            scene.user,
            name=made["AccessKeyId"],
            secret=made["SecretAccessKey"],
            session_token=made["SessionToken"],
        )
        identity = boto(signer, urls[(number + 1) % 2], service="sts").get_caller_identity()
        assert identity["Account"] == f"{scene.user.id:012d}"
    tokens = scene.cloud.admin.document("one.user.info", scene.user.id).findall("LOGIN_TOKEN")
    assert 1 <= len(tokens) <= MAX_LOGIN_TOKENS
