"""Allocation of users and groups, with the permissions and ACL rules that oned gives them."""

from __future__ import annotations

import hashlib
import secrets

from econed.sandbox.cloud import Cloud
from econed.sandbox.objects.base import Kind, Permissions, Right
from econed.sandbox.objects.users import Group, User
from econed.sandbox.rights import ALL, GROUP, INDIVIDUAL

_NO_BITS = "000"


def new_user(cloud: Cloud, name: str, password: str, driver: str, gids: list[int]) -> User:
    """Add a user to the first and the other groups of `gids`; `password` is stored as it is."""
    group = cloud.groups.get(gids[0])
    user = User(
        cloud.users.allocate_id(),
        0,
        group.id,
        "",
        group.name,
        name,
        permissions=Permissions.from_octal(_NO_BITS),
        password=password,
        driver=driver,
        gids=sorted(set(gids)),
    )
    user.uid = user.id
    user.permissions.bits[:2] = 1, 1
    user.template.replace("TOKEN_PASSWORD", secrets.token_hex(32))
    cloud.users.add(user)
    for gid in user.gids:
        cloud.groups.get(gid).user_ids.add(user.id)
    return user


def new_group(cloud: Cloud, name: str) -> Group:
    """Add a group, and the ACL rules of `one.group.allocate` for hosts, networks and datastores of the zone."""
    group = Group(cloud.groups.allocate_id(), 0, 0, "", "", name, permissions=Permissions.from_octal(_NO_BITS))
    group.gid = group.id
    group.permissions.bits[3] = 1
    cloud.groups.add(group)
    for kind, right in ((Kind.HOST, Right.MANAGE), (Kind.NET, Right.USE), (Kind.DATASTORE, Right.USE)):
        cloud.rights.add(GROUP | group.id, kind.bit | ALL, right, INDIVIDUAL | 0)
    return group


def stored_password(driver: str, password: str) -> str:
    """Return a password as oned stores it: its SHA-256 for the driver core, as it is for all others."""
    return sha256(password) if driver == "core" else password


def sha256(password: str) -> str:
    """Return the hash that oned stores for driver core, and for serveradmin, whom it creates when it first starts."""
    return hashlib.sha256(password.encode()).hexdigest()
