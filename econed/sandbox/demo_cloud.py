"""The cloud that a newcomer finds in the sandbox."""

from __future__ import annotations

import re
from collections.abc import Sequence

from econed.sandbox.accounts import new_user
from econed.sandbox.objects.base import Kind, Right
from econed.sandbox.objects.infrastructure import DUMMY_CPU, DUMMY_MEMORY, HOST_MONITORED
from econed.sandbox.objects.users import User
from econed.sandbox.oned import Oned
from econed.sandbox.rights import ALL, GROUP, INDIVIDUAL
from econed.sandbox.template import Template, parse

GROUP_NAME = "ec2"
PUBLIC_ADDRESSES = tuple(f"203.0.113.{number}" for number in range(10, 18))
_ELASTIC_IPS = "ElasticIPs"
_HASHED = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SUBJECT = re.compile(r"/[A-Za-z]+=")
_PRIVATE = """NAME="private" VN_MAD="dummy" BRIDGE="br0" NETWORK_ADDRESS="10.0.0.0" NETWORK_MASK="255.255.0.0"
GATEWAY="10.0.0.1" DNS="10.0.0.2" AR=[TYPE="IP4",IP="10.0.0.10",SIZE="65000"]"""
_TYPES = (("m1.small", "0.1", "", "128"), ("m1.large", "0.5", "2", "512"))
_VMS_PER_RESERVATION = 1
_KIB = 1024
_READY_DISKS = 'DS_MAD="dummy"\nTM_MAD="dummy"\nTYPE="IMAGE_DS"'


class _Administrator:
    """oneadmin at work on a new cloud; a refusal is a mistake of ours."""

    def __init__(self, oned: Oned) -> None:
        self._oned = oned

    def __call__(self, method: str, *args: object) -> int:
        reply = self._oned.execute(method, self._oned.oneadmin, *args)
        if reply[0] is not True:
            raise RuntimeError(str(reply[1]))
        return int(str(reply[1]))


def populate(oned: Oned, *, users: Sequence[tuple[str, str]] = (), vms: int = 0) -> None:
    """Fill a fresh sandbox with what an EC2 user needs, and with `vms` running machines of the first user.

    `users` are names with the secret that their EC2 clients use, which is what oned keeps as PASSWORD: a hash for
    driver core, the subject of a certificate (/C=ES/CN=alice) for x509, any other text for driver public. There are
    two hosts, instance types m1.small and m1.large, a private network, a network `ElasticIPs` of single addresses, an
    AMI and an image that is not registered yet.
    """
    do = _Administrator(oned)
    group = do("one.group.allocate", GROUP_NAME)
    _let_create(oned, group)
    people = [_user(oned, group, *user) for user in users]
    _hosts(oned, do, vms)
    do("one.datastore.update", 0, 'TM_MAD="dummy"\nTYPE="SYSTEM_DS"', 1)
    do("one.datastore.update", 1, _READY_DISKS, 1)
    private = do("one.vn.allocate", _PRIVATE, 0)
    ranges = "\n".join(f'AR=[IP="{address}",TYPE="IP4",SIZE="1"]' for address in PUBLIC_ADDRESSES)
    do("one.vn.allocate", f'NAME="{_ELASTIC_IPS}"\nVN_MAD="dummy"\nBRIDGE="br1"\n{ranges}', 0)
    for network in oned.cloud.networks:
        network.become_ready(modern=oned.cloud.version.modern)
    _share(do, "vn", private, group)
    for template in _templates(do, private):
        _share(do, "template", template, group)
    _images(oned, do, group)
    if people and vms:
        _machines(oned, people[0], vms)


def elastic_ips(oned: Oned) -> int:
    """Return the id of the network that `populate` made for elastic IPs."""
    return next(network.id for network in oned.cloud.networks if network.name == _ELASTIC_IPS)


def _let_create(oned: Oned, group: int) -> None:
    kinds = (Kind.VM, Kind.IMAGE, Kind.TEMPLATE, Kind.DOCUMENT, Kind.SECGROUP, Kind.VMGROUP)
    oned.cloud.rights.add(GROUP | group, sum(kind.bit for kind in kinds) | ALL, Right.CREATE, INDIVIDUAL)


def _user(oned: Oned, group: int, name: str, secret: str) -> User:
    if oned.cloud.user_named(name) is not None:
        raise ValueError(f"the sandbox has a user {name!r} already")
    driver = "core" if _HASHED.fullmatch(secret) else "x509" if _SUBJECT.match(secret) else "public"
    # A blank in a subject is what `oneuser` makes of it: oned takes none.
    return new_user(oned.cloud, name, secret.replace(" ", r"\20") if driver == "x509" else secret, driver, [group])


def _hosts(oned: Oned, do: _Administrator, vms: int) -> None:
    for name in ("host-0", "host-1"):
        host = oned.cloud.hosts.get(do("one.host.allocate", name, "dummy", "dummy", 0))
        host.state = HOST_MONITORED
        host.cpu, host.memory = max(DUMMY_CPU, vms * 100), max(DUMMY_MEMORY, vms * _KIB * _KIB)


def _share(do: _Administrator, what: str, number: int, group: int) -> None:
    do(f"one.{what}.chown", number, -1, group)
    do(f"one.{what}.chmod", number, 1, 1, 0, 1, 0, 0, 0, 0, 0)


def _templates(do: _Administrator, network: int) -> list[int]:
    found = []
    for name, cpu, vcpu, memory in _TYPES:
        text = f'NAME="{name}"\nEC2_INSTANCE_TYPE="{name}"\nCPU="{cpu}"\nMEMORY="{memory}"\n'
        text += f'VCPU="{vcpu}"\n' if vcpu else ""
        text += f'NIC=[NETWORK_ID="{network}"]\nCONTEXT=[NETWORK="YES"]\n'
        found.append(do("one.template.allocate", text))
    return found


def _images(oned: Oned, do: _Administrator, group: int) -> None:
    described = 'TYPE="OS"\nPATH="/var/tmp/{0}.qcow2"\nNAME="{0}"\nDESCRIPTION="{1}"\n'
    registered = described.format("ubuntu-24.04", "Ubuntu 24.04 LTS") + 'EC2_AMI="YES"\n'
    plain = described.format("debian-13", "Debian 13, not registered as an AMI yet")
    for text in (registered, plain):
        number = do("one.image.allocate", text, 1)
        oned.images.copied(oned.cloud.images.get(number))
        _share(do, "image", number, group)


def _machines(oned: Oned, owner: User, count: int) -> None:
    held = next(iter(oned.cloud.templates))
    image = next(iter(oned.cloud.images))
    extra = parse(f'DISK=[IMAGE_ID="{image.id}"]\nIMAGE_ID="ami-{image.id:08d}"')
    base = held.template.copy()
    base.merge(extra)
    base.replace("TEMPLATE_NAME", held.name)
    base.replace("TEMPLATE_ID", str(held.id))
    for number in range(count):
        wanted: Template = base.copy()
        wanted.replace("EC2_RESERVATION_ID", f"r-{number // _VMS_PER_RESERVATION:08d}")
        oned.deployment.run_at_once(oned.assembly.make(owner, wanted, "", on_hold=False, start=False))
