"""Temporary credentials that were requested with an access key: they end with it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from econed.credentials.revocations import key_revocation_text, user_revocation_text
from econed.errors import EC2Error
from econed.user import CredentialKind
from tests.actions.iam.support import create
from tests.actions.sts.requests import cloud_with_groups, password_of, role_keys, session_keys
from tests.support.cloud import Cloud
from tests.support.signing_in import Keys, Process

SERVERADMIN = 1


def access_key(cloud: Cloud) -> Keys:
    """Return a new access key of alice."""
    key = create(cloud)
    return Keys(key["AccessKeyId"], key["SecretAccessKey"])


def test_an_access_key_gets_credentials_of_the_user_and_of_roles() -> None:
    cloud = cloud_with_groups("research")
    key = access_key(cloud)
    for keys in (session_keys(cloud, key), role_keys(cloud, key, "research")):
        sender = Process(cloud).sender(keys)
        assert (sender.user.name, sender.credential.kind) == ("alice", CredentialKind.TEMPORARY)
        assert sender.credential.origin == f"key:{key.access_key}"


def _delete(cloud: Cloud, key: Keys) -> None:
    cloud.run("alice", "DeleteAccessKey", AccessKeyId=key.access_key)


def _disable(cloud: Cloud, key: Keys) -> None:
    cloud.run("alice", "UpdateAccessKey", AccessKeyId=key.access_key, Status="Inactive")


def _revoke_key(cloud: Cloud, key: Keys) -> None:
    cloud.oneadmin("one.user.update", SERVERADMIN, key_revocation_text(key.access_key), 1)


def _revoke_all(cloud: Cloud, key: Keys) -> None:
    text = user_revocation_text(cloud.user("alice").id, int(cloud.clock.seconds()))
    cloud.oneadmin("one.user.update", SERVERADMIN, text, 1)


@pytest.mark.parametrize("end", [_delete, _disable, _revoke_key, _revoke_all])
def test_credentials_end_with_the_access_key_that_requested_them(end: Callable[[Cloud, Keys], None]) -> None:
    """Within the seconds for which a process remembers users, though the process has seen them valid."""
    cloud = cloud_with_groups("research")
    key, process = access_key(cloud), Process(cloud)
    all_keys = (session_keys(cloud, key), role_keys(cloud, key, "research"))
    for keys in all_keys:
        assert process.sender(keys).user.name == "alice"
    end(cloud, key)
    cloud.clock.advance(3)
    for keys in all_keys:
        with pytest.raises(EC2Error, match="AuthFailure"):
            process.sender(keys)


def test_another_access_key_and_the_password_are_not_concerned() -> None:
    cloud = Cloud()
    key, other, process = access_key(cloud), access_key(cloud), Process(cloud)
    kept = (session_keys(cloud, other), session_keys(cloud, password_of(cloud, "alice")))
    _delete(cloud, key)
    cloud.clock.advance(3)
    for keys in kept:
        assert process.sender(keys).user.name == "alice"


def test_a_revocation_of_all_ends_credentials_requested_with_the_password_too() -> None:
    """New ones count."""
    cloud = Cloud()
    password, process = password_of(cloud, "alice"), Process(cloud)
    keys = session_keys(cloud, password)
    assert process.sender(keys).user.name == "alice"
    _revoke_all(cloud, keys)
    cloud.clock.advance(3)
    with pytest.raises(EC2Error, match="AuthFailure"):
        process.sender(keys)
    assert process.sender(session_keys(cloud, password)).user.name == "alice"


def test_a_new_password_does_not_end_an_access_key_but_the_login_tokens_behind_credentials() -> None:
    cloud = Cloud()
    key, process = access_key(cloud), Process(cloud)
    keys = session_keys(cloud, key)
    cloud.oneadmin("one.user.passwd", cloud.user("alice").id, "new")
    cloud.clock.advance(3)
    with pytest.raises(EC2Error, match="AuthFailure"):
        process.sender(keys)
    assert process.sender(session_keys(cloud, key)).user.name == "alice"
