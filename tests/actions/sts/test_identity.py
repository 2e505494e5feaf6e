"""GetCallerIdentity."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from econed.credentials.identities import user_unique_id
from econed.user import Credential, CredentialKind, LoginToken
from tests.support.cloud import Cloud, perform


def identity(cloud: Cloud, credential: Credential, token: LoginToken | None = None) -> dict[str, Any]:
    """Return the identity of alice with a credential, and as the login token behind it lets her act."""
    call = cloud.call_as("alice")
    caller = call.caller if token is None else call.caller.within(token)
    return cloud.result(perform(replace(call, caller=caller, credential=credential), "GetCallerIdentity", {}))


def test_the_account_is_the_owner_of_the_callers_resources() -> None:
    cloud = Cloud(vms=1)
    alice = cloud.user("alice")
    (reservation,) = cloud.run("alice", "DescribeInstances")["Reservations"]
    assert cloud.run("alice", "GetCallerIdentity") == {
        "UserId": user_unique_id(alice.id),
        "Account": reservation["OwnerId"],
        "Arn": f"arn:aws:iam::{alice.id:012d}:user/alice",
    }


@pytest.mark.parametrize("kind", [kind for kind in CredentialKind if kind is not CredentialKind.TEMPORARY])
def test_it_is_the_same_with_every_long_term_credential(kind: CredentialKind) -> None:
    cloud = Cloud()
    assert identity(cloud, Credential(kind, "key", "origin")) == cloud.run("alice", "GetCallerIdentity")


def test_a_login_token_with_a_group_and_temporary_credentials_without_a_role_are_the_user() -> None:
    cloud = Cloud()
    token = LoginToken("token", None, 1)
    for kind in (CredentialKind.LOGIN_TOKEN, CredentialKind.TEMPORARY):
        assert identity(cloud, Credential(kind, "key", "origin"), token) == cloud.run("alice", "GetCallerIdentity")


def test_who_has_assumed_a_role_is_that_role_in_their_own_account() -> None:
    cloud = Cloud()
    credential = Credential(CredentialKind.TEMPORARY, "ASIA", "origin", 1.0, session_name="laptop", role="staff")
    found = identity(cloud, credential, LoginToken("token", None, 101))
    account = f"{cloud.user('alice').id:012d}"
    assert found["Account"] == account
    assert found["Arn"] == f"arn:aws:sts::{account}:assumed-role/staff/laptop"
    assert found["UserId"].startswith("AROA")
    assert found["UserId"].endswith(":laptop")


def test_no_call_to_oned_is_made() -> None:
    cloud = Cloud()
    call = cloud.call_as("alice")
    cloud.oned.calls.clear()
    cloud.result(perform(call, "GetCallerIdentity", {}))
    assert not cloud.oned.calls
