"""The objects that the benchmarks need in OpenNebula: found by name, or created."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from benchmarks.oned import OnedClient, user_session
from tests.support.processes import until

NAME = "bench"
"""The name of the group, the first user, the network and the image."""

OTHER_USER = "bench-other"
INSTANCE_TYPE = "bench.small"

_ELASTIC = "bench-elastic"
_ELASTIC_ADDRESSES = 24
_CREATE = ("21429400000000", "8")
"""The rights that `onegroup create` gives a group."""

_USE_FOR_GROUP = (1, 1, 0, 1, 0, 0, 0, 0, 0)
_READY = "1"
_TIMEOUT = 120.0
_ALL = (-2, -1, -1)


@dataclass(frozen=True)
class User:
    """A user: `name` is the access key, `secret` the secret key; `oned` calls oned as econed does for them."""

    name: str
    id: int
    secret: str
    oned: OnedClient


@dataclass(frozen=True)
class Furniture:
    """What is in a cloud for the benchmarks. Numbers are OpenNebula ids."""

    version: str
    admin: OnedClient
    user: User
    other: User
    template: int
    image: int
    host: int
    elastic_network: int


def furnish(url: str, oneadmin: str, credentials: str) -> Furniture:
    """Find or create the objects in an oned; `credentials` are those of the server's account."""
    admin = OnedClient(url, lambda: oneadmin)
    version = str(admin("one.system.version").value)
    is_modern = int(version.partition(".")[0]) >= 6
    find = partial(_find_or_create, admin)
    group = find("group", (), NAME, partial(_create_group, admin))
    network = find("vn", _ALL, NAME, partial(_create_network, admin, group))
    elastic = find("vn", _ALL, _ELASTIC, partial(_create_elastic_network, admin))
    for each in (network, elastic) if is_modern else ():
        _await_ready(admin, "vn", each)
    template = find("template", _ALL, INSTANCE_TYPE, partial(_create_template, admin, group, network))
    image = find("image", _ALL, NAME, partial(_create_image, admin, group))
    _await_image(admin, image)
    users = []
    for name in (NAME, OTHER_USER):
        user = find("user", (), name, partial(_create_user, admin, group, name))
        secret = str(admin("one.user.info", user, False).document.findtext("PASSWORD"))
        session = user_session(credentials, name, is_modern=is_modern)
        users.append(User(name, user, secret, OnedClient(url, session)))
    host = int(str(admin("one.hostpool.info").document.findtext("HOST/ID")))
    return Furniture(version, admin, users[0], users[1], template, image, host, elastic)


def _find_or_create(
    admin: OnedClient, kind: str, arguments: tuple[int, ...], name: str, create: Callable[[], int]
) -> int:
    pool = admin(f"one.{kind}pool.info", *arguments).document
    for element in pool:
        if element.findtext("NAME") == name:
            return int(str(element.findtext("ID")))
    return create()


def _create_group(admin: OnedClient) -> int:
    group = admin("one.group.allocate", NAME).number
    _ = admin("one.acl.addrule", f"{0x200000000 | group:x}", *_CREATE).value
    return group


def _create_network(admin: OnedClient, group: int) -> int:
    text = f'NAME="{NAME}"\nVN_MAD="dummy"\nBRIDGE="{NAME}"\nNETWORK_ADDRESS="10.88.0.0"\nNETWORK_MASK="255.255.0.0"\n'
    text += 'GATEWAY="10.88.0.1"\nDNS="10.88.0.2"\nAR=[TYPE="IP4",IP="10.88.0.10",SIZE="65000"]'
    network = admin("one.vn.allocate", text, -1).number
    _await_ready(admin, "vn", network)
    _share(admin, "vn", network, group)
    return network


def _create_elastic_network(admin: OnedClient) -> int:
    ranges = "\n".join(f'AR=[TYPE="IP4",IP="203.0.113.{n}",SIZE="1"]' for n in range(1, _ELASTIC_ADDRESSES + 1))
    return admin("one.vn.allocate", f'NAME="{_ELASTIC}"\nVN_MAD="dummy"\nBRIDGE="none"\n{ranges}', -1).number


def _create_template(admin: OnedClient, group: int, network: int) -> int:
    text = f'NAME="{INSTANCE_TYPE}"\nEC2_INSTANCE_TYPE="{INSTANCE_TYPE}"\nCPU="0.1"\nVCPU="2"\nMEMORY="64"\n'
    text += f'NIC=[NETWORK_ID="{network}"]\nCONTEXT=[NETWORK="YES",TARGET="hdb"]'
    template = admin("one.template.allocate", text).number
    _share(admin, "template", template, group, False)
    return template


def _create_image(admin: OnedClient, group: int) -> int:
    text = f'NAME="{NAME}"\nTYPE="OS"\nPATH="/etc/hostname"\nSIZE="10"\nEC2_AMI="YES"'
    image = admin("one.image.allocate", text, 1).number
    _share(admin, "image", image, group)
    return image


def _create_user(admin: OnedClient, group: int, name: str) -> int:
    return admin("one.user.allocate", name, secrets.token_hex(16), "core", [group]).number


def _share(admin: OnedClient, kind: str, object_id: int, group: int, *extra: bool) -> None:
    _ = admin(f"one.{kind}.chown", object_id, -1, group).value
    _ = admin(f"one.{kind}.chmod", object_id, *_USE_FOR_GROUP, *extra).value


def _await_ready(admin: OnedClient, kind: str, object_id: int) -> None:
    def state() -> str:
        return admin(f"one.{kind}.info", object_id, False).document.findtext("STATE") or _READY  # 5.12: no STATE

    until(lambda: state() == _READY, f"{kind} {object_id} to be ready", _TIMEOUT)


def _await_image(admin: OnedClient, image: int) -> None:
    def is_usable() -> bool:
        return admin("one.image.info", image, False).document.findtext("STATE") in ("1", "2")

    until(is_usable, f"image {image} to be ready", _TIMEOUT)
