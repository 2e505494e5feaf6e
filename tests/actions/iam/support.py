"""Shared by the tests of IAM: access keys of users in a sandbox."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from econed.actions.call import Call
from econed.credentials.access_keys import stored_keys
from econed.errors import EC2Error
from econed.opennebula.documents import UserDocument
from econed.user import Credential, CredentialKind, StoredKey
from tests.support.cloud import Cloud, perform

ACTIONS = {
    "CreateAccessKey": {},
    "ListAccessKeys": {},
    "UpdateAccessKey": {"AccessKeyId": "AKIAAAAAAAAAAAAAAAAA", "Status": "Active"},
    "DeleteAccessKey": {"AccessKeyId": "AKIAAAAAAAAAAAAAAAAA"},
    "GetAccessKeyLastUsed": {"AccessKeyId": "AKIAAAAAAAAAAAAAAAAA"},
    "GetUser": {},
    "ListUsers": {},
}
"""Parameters of each action of IAM."""


def create(cloud: Cloud, user: str = "alice", **parameters: Any) -> dict[str, Any]:
    """Create an access key and return it."""
    key: dict[str, Any] = cloud.run(user, "CreateAccessKey", **parameters)["AccessKey"]
    return key


def listed(cloud: Cloud, user: str = "alice", **parameters: Any) -> dict[str, str]:
    """Return the states of the access keys of a user, as they are listed, by id."""
    keys = cloud.run(user, "ListAccessKeys", **parameters)["AccessKeyMetadata"]
    return {key["AccessKeyId"]: key["Status"] for key in keys}


def document(cloud: Cloud, user: str = "alice") -> UserDocument:
    """Return a user's document."""
    return cloud.result(cloud.call_as(user).session.current_user())


def stored(cloud: Cloud, user: str = "alice") -> tuple[StoredKey, ...]:
    """Return the access keys on a user."""
    return stored_keys(document(cloud, user))


def attributes(cloud: Cloud, user: str = "alice") -> list[str]:
    """Return the names of the attributes that econed has written on a user."""
    return [name for name in document(cloud, user).template.names() if name.startswith("EC2_")]


def with_credential(call: Call, kind: CredentialKind) -> Call:
    """Return a call that another kind of credential authenticates."""
    return replace(call, credential=Credential(kind, "key", f"{kind.value}:0123456789abcdef"))


def refusal(cloud: Cloud, call: Call, action: str, **parameters: Any) -> EC2Error:
    """Return the error of a call that must fail."""
    try:
        response = cloud.result(perform(call, action, parameters))
    except EC2Error as error:
        return error
    raise AssertionError(f"{action} did not fail: {response}")
