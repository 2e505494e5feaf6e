"""Who may call IAM, with which credentials, and for whom."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from econed.config.settings import Settings
from econed.services import IAM
from econed.user import CredentialKind, LoginToken
from tests.actions.iam.support import ACTIONS, create, document, listed, refusal, with_credential
from tests.support.cloud import Cloud, dispatcher, perform

each_action = pytest.mark.parametrize(("action", "parameters"), ACTIONS.items())


def test_these_are_all_actions_of_iam() -> None:
    assert {name for service, name in dispatcher().routes if service is IAM} == set(ACTIONS)


@each_action
def test_temporary_credentials_and_tokens_of_a_group_may_call_nothing(action: str, parameters: dict[str, Any]) -> None:
    """Not even to read; no call to oned is made for them."""
    cloud = Cloud()
    call = cloud.call_as("alice")
    within = replace(call, caller=call.caller.within(LoginToken("secret", None, call.caller.gid)))
    refused = {
        "temporary credentials may not call IAM": with_credential(call, CredentialKind.TEMPORARY),
        "login tokens of a group may not call IAM": with_credential(within, CredentialKind.LOGIN_TOKEN),
        "access keys may not call IAM here": with_credential(call, CredentialKind.ACCESS_KEY),
    }
    calls = len(cloud.oned.calls)
    for reason, each in refused.items():
        error = refusal(cloud, each, action, **parameters)
        assert (error.code, error.status) == ("AccessDenied", 403)
        user = f"arn:aws:iam::{call.owner_id}:user/alice"
        assert error.message == f"User: {user} is not authorized to perform: iam:{action} because {reason}"
    assert len(cloud.oned.calls) == calls


@pytest.mark.parametrize("kind", [CredentialKind.PASSWORD, CredentialKind.LOGIN_TOKEN])
def test_a_password_and_a_token_without_a_group_may_create_keys(kind: CredentialKind) -> None:
    cloud = Cloud()
    cloud.result(perform(with_credential(cloud.call_as("alice"), kind), "CreateAccessKey", {}))
    assert len(listed(cloud)) == 1


def test_an_access_key_may_call_iam_if_the_administrator_allows_it() -> None:
    cloud = Cloud(settings=Settings(keys_may_make_keys=True))
    call = with_credential(cloud.call_as("alice"), CredentialKind.ACCESS_KEY)
    cloud.result(perform(call, "CreateAccessKey", {}))
    assert len(listed(cloud)) == 1
    temporary = with_credential(cloud.call_as("alice"), CredentialKind.TEMPORARY)
    assert refusal(cloud, temporary, "CreateAccessKey").code == "AccessDenied"


def test_a_user_may_name_themselves() -> None:
    cloud = Cloud()
    key_id = create(cloud, UserName="alice")["AccessKeyId"]
    assert listed(cloud, UserName="alice") == {key_id: "Active"}
    cloud.run("alice", "UpdateAccessKey", AccessKeyId=key_id, Status="Inactive", UserName="alice")
    cloud.run("alice", "DeleteAccessKey", AccessKeyId=key_id, UserName="alice")
    assert cloud.run("alice", "GetUser", UserName="alice") == cloud.run("alice", "GetUser")


@each_action
@pytest.mark.parametrize("name", ["bob", "nobody"])
def test_another_user_cannot_be_named_whether_or_not_there_is_one(
    action: str, parameters: dict[str, Any], name: str
) -> None:
    """Nor does the error for an access key show whether it exists."""
    cloud = Cloud()
    key_id = create(cloud, "bob")["AccessKeyId"]
    parameters = {**parameters, "AccessKeyId": key_id} if "AccessKeyId" in parameters else parameters
    if action in ("GetAccessKeyLastUsed", "ListUsers"):
        named, resource = dict[str, Any](), "access keys of other users"
    else:
        named, resource = {"UserName": name}, f"user {name}"
    if action == "ListUsers":
        assert [user["UserName"] for user in cloud.run("alice", action)["Users"]] == ["alice"]
        return
    error = cloud.refusal("alice", action, **parameters, **named)
    assert (error.code, error.status) == ("AccessDenied", 403)
    user = f"arn:aws:iam::{cloud.call_as('alice').owner_id}:user/alice"
    assert error.message == f"User: {user} is not authorized to perform: iam:{action} on resource: {resource}"
    assert listed(cloud, "bob") == {key_id: "Active"}


def test_a_key_of_another_user_is_not_found_without_their_name() -> None:
    cloud = Cloud()
    key_id = create(cloud, "bob")["AccessKeyId"]
    changes: dict[str, dict[str, Any]] = {"DeleteAccessKey": {}, "UpdateAccessKey": {"Status": "Inactive"}}
    for action, parameters in changes.items():
        assert cloud.refusal("alice", action, AccessKeyId=key_id, **parameters).code == "NoSuchEntity"
    assert listed(cloud, "bob") == {key_id: "Active"}


def test_an_administrator_manages_the_keys_of_all_users() -> None:
    cloud = Cloud()
    key = create(cloud, "oneadmin", UserName="alice")
    key_id = key["AccessKeyId"]
    assert key["UserName"] == "alice"
    assert listed(cloud) == listed(cloud, "oneadmin", UserName="alice") == {key_id: "Active"}
    assert listed(cloud, "oneadmin") == {}
    assert cloud.run("oneadmin", "GetAccessKeyLastUsed", AccessKeyId=key_id)["UserName"] == "alice"
    cloud.run("oneadmin", "UpdateAccessKey", AccessKeyId=key_id, Status="Inactive", UserName="alice")
    assert listed(cloud) == {key_id: "Inactive"}
    cloud.run("oneadmin", "DeleteAccessKey", AccessKeyId=key_id, UserName="alice")
    assert listed(cloud) == {}


def test_an_administrator_who_names_nobody_gets_amazons_error() -> None:
    cloud = Cloud()
    for action in ("CreateAccessKey", "ListAccessKeys", "GetUser"):
        error = cloud.refusal("oneadmin", action, UserName="nobody")
        assert (error.code, error.status) == ("NoSuchEntity", 404)
        assert error.message == "The user with name nobody cannot be found."


def test_an_account_of_opennebulas_servers_has_no_keys() -> None:
    """With a key of serveradmin one could sign as the account with which econed acts for all users."""
    cloud = Cloud()
    error = cloud.refusal("oneadmin", "CreateAccessKey", UserName="serveradmin")
    assert (error.code, error.status) == ("AccessDenied", 403)
    assert listed(cloud, "oneadmin", UserName="serveradmin") == {}


def test_where_certificates_authenticate_no_key_is_created() -> None:
    cloud = Cloud(settings=Settings(auth="x509"))
    call = with_credential(cloud.call_as("alice"), CredentialKind.CERTIFICATE)
    error = refusal(cloud, call, "CreateAccessKey")
    assert (error.code, error.status) == ("AccessDenied", 403)
    assert cloud.result(perform(call, "ListAccessKeys", {}))["AccessKeyMetadata"] == []


def test_a_user_has_an_arn_and_an_id_and_no_time_of_creation() -> None:
    cloud = Cloud()
    user = cloud.run("alice", "GetUser")["User"]
    user_id = document(cloud).id
    assert user.pop("UserId").startswith("AIDA")
    assert user == {"UserName": "alice", "Path": "/", "Arn": f"arn:aws:iam::{user_id:012d}:user/alice"}
    assert cloud.run("oneadmin", "GetUser", UserName="alice") == cloud.run("alice", "GetUser")


def test_an_administrator_lists_all_users_in_pages() -> None:
    cloud = Cloud()
    users = cloud.run("oneadmin", "ListUsers")["Users"]
    assert {"oneadmin", "serveradmin", "alice", "bob"} <= {user["UserName"] for user in users}
    found: list[Any] = []
    marker: dict[str, Any] = {}
    while True:
        response = cloud.run("oneadmin", "ListUsers", MaxItems=1, **marker)
        found += response["Users"]
        assert len(response["Users"]) == 1
        if not response["IsTruncated"]:
            break
        marker = {"Marker": response["Marker"]}
    assert found == users
    assert cloud.run("oneadmin", "ListUsers", PathPrefix="/") == cloud.run("oneadmin", "ListUsers")
    assert cloud.run("oneadmin", "ListUsers", PathPrefix="/division/")["Users"] == []
