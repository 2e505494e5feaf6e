"""Requests for temporary credentials, with whatever credentials, and the groups that are roles."""

from __future__ import annotations

from typing import Any

from econed.actions.sts.temporary import assume_role, get_session_token
from tests.support.cloud import Cloud
from tests.support.signing_in import Keys, Process

HOUR, DAY = 3600, 86_400


def cloud_with_groups(*names: str) -> Cloud:
    """Return a cloud in which alice is also in these groups, whose users may create machines."""
    cloud = Cloud()
    alice = cloud.user("alice").id
    for name in names:
        group = cloud.oneadmin("one.group.allocate", name)
        cloud.oneadmin("one.user.addgroup", alice, group)
    return cloud


def group_id(cloud: Cloud, name: str) -> int:
    """Return the id of a group."""
    return next(group.id for group in cloud.result(cloud.call_as("oneadmin").session.groups()) if group.name == name)


def password_of(cloud: Cloud, name: str) -> Keys:
    """Return the keys of a user who signs with the password as oned stores it."""
    return Keys(name, cloud.user(name).secret)


def session_keys(cloud: Cloud, keys: Keys, **parameters: Any) -> Keys:
    """Return the keys of GetSessionToken, called with others."""
    call = cloud.call_of(Process(cloud).sender(keys))
    return Keys.of(cloud.result(get_session_token(call, **parameters))["Credentials"])


def role_arn(cloud: Cloud, group: str, user: str = "alice") -> str:
    """Return the ARN of a group as a role of a user."""
    return f"arn:aws:iam::{cloud.user(user).id:012d}:role/{group}"


def role_keys(cloud: Cloud, keys: Keys, group: str, **parameters: Any) -> Keys:
    """Return the keys of AssumeRole, called by alice with others."""
    call = cloud.call_of(Process(cloud).sender(keys))
    result = cloud.result(assume_role(call, role_arn=role_arn(cloud, group), role_session_name="session", **parameters))
    return Keys.of(result["Credentials"])


def end_of(cloud: Cloud, keys: Keys) -> float | None:
    """Return when temporary credentials end, in seconds from now."""
    expires = Process(cloud).sender(keys).credential.expires
    return None if expires is None else expires - cloud.clock.seconds()
