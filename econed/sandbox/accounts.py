"""New users and groups, with what oned gives them."""

from __future__ import annotations

import hashlib
import secrets

from econed.sandbox.cloud import Cloud
from econed.sandbox.objects.base import Kind, Permissions, Right
from econed.sandbox.objects.users import Group, User
from econed.sandbox.rights import ALL, GROUP, INDIVIDUAL

_NO_BITS = "000"


def new_user(cloud: Cloud, name: str, password: str, driver: str, gids: list[int]) -> User:
    """Make a user whose PASSWORD is `password` as it is."""
    group = cloud.groups.get(gids[0])
    user = User(
        cloud.users.take_id(),
        0,
        group.id,
        "",
        group.name,
        name,
        permissions=Permissions.octal(_NO_BITS),
        password=password,
        driver=driver,
        gids=sorted(set(gids)),
    )
    user.uid = user.id
    user.permissions.bits[:2] = 1, 1
    user.template.replace("TOKEN_PASSWORD", secrets.token_hex(32))
    cloud.users.put(user)
    for gid in user.gids:
        cloud.groups.get(gid).members.add(user.id)
    return user


def new_group(cloud: Cloud, name: str) -> Group:
    """Make a group with the rules that `one.group.allocate` gives it: hosts, networks and datastores of the zone."""
    group = Group(cloud.groups.take_id(), 0, 0, "", "", name, permissions=Permissions.octal(_NO_BITS))
    group.gid = group.id
    group.permissions.bits[3] = 1
    cloud.groups.put(group)
    for kind, right in ((Kind.HOST, Right.MANAGE), (Kind.NET, Right.USE), (Kind.DATASTORE, Right.USE)):
        cloud.rights.add(GROUP | group.id, kind.bit | ALL, right, INDIVIDUAL | 0)
    return group


def kept_password(driver: str, password: str) -> str:
    """Return what oned keeps of a password: its SHA-256 for core and server drivers, else the text."""
    if driver == "core" or driver.startswith("server"):
        return hashlib.sha256(password.encode()).hexdigest()
    return password
