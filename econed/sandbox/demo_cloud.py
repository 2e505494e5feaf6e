"""The demo cloud: a sandbox with users, networks, instance types and images for EC2 clients."""

from __future__ import annotations

import re
from collections.abc import Sequence

from econed.sandbox.accounts import new_user
from econed.sandbox.objects.base import Kind, Right
from econed.sandbox.objects.infrastructure import DUMMY_CPU, DUMMY_MEMORY, HostState
from econed.sandbox.objects.users import User
from econed.sandbox.oned import Oned
from econed.sandbox.rights import ALL, GROUP, INDIVIDUAL
from econed.sandbox.template import parse

GROUP_NAME = "ec2"
PUBLIC_ADDRESSES = tuple(f"203.0.113.{number}" for number in range(10, 18))
_ELASTIC_IPS = "ElasticIPs"
_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_CERTIFICATE_SUBJECT = re.compile(r"/[A-Za-z]+=")
_PRIVATE_NETWORK = """NAME="private" VN_MAD="dummy" BRIDGE="br0" NETWORK_ADDRESS="10.0.0.0" NETWORK_MASK="255.255.0.0"
GATEWAY="10.0.0.1" DNS="10.0.0.2" AR=[TYPE="IP4",IP="10.0.0.10",SIZE="65000"]"""
_INSTANCE_TYPES = (("m1.small", "0.1", "", "128"), ("m1.large", "0.5", "2", "512"))
"""Name, CPU, VCPU and MEMORY."""
_KIB = 1024
_DUMMY_IMAGE_DATASTORE = 'DS_MAD="dummy"\nTM_MAD="dummy"\nTYPE="IMAGE_DS"'


class _Administrator:
    """Calls the sandbox as oneadmin and returns ids; a refusal is a `RuntimeError`."""

    def __init__(self, oned: Oned) -> None:
        self._oned = oned

    def __call__(self, method: str, *args: object) -> int:
        reply = self._oned.execute(method, self._oned.oneadmin, *args)
        if reply[0] is not True:
            raise RuntimeError(str(reply[1]))
        return int(str(reply[1]))


def populate(oned: Oned, *, users: Sequence[tuple[str, str]] = (), vms: int = 0) -> None:
    """Add the demo cloud to a new sandbox, with `vms` running machines of the first user.

    `users` are names with the secret keys of EC2 clients, which oned stores as PASSWORD: a hash for driver core, the
    subject of a certificate (/C=ES/CN=alice) for x509, any other text for driver public. The demo cloud has two hosts,
    the instance types m1.small and m1.large, a private network, a network `ElasticIPs` with a range for each address,
    an AMI, and an image that is not registered as an AMI.
    """
    call = _Administrator(oned)
    group_id = call("one.group.allocate", GROUP_NAME)
    _allow_creation(oned, group_id)
    owners = [_add_user(oned, group_id, *user) for user in users]
    _add_hosts(oned, call, vms)
    call("one.datastore.update", 0, 'TM_MAD="dummy"\nTYPE="SYSTEM_DS"', 1)
    call("one.datastore.update", 1, _DUMMY_IMAGE_DATASTORE, 1)
    private_network_id = call("one.vn.allocate", _PRIVATE_NETWORK, 0)
    ranges = "\n".join(f'AR=[IP="{address}",TYPE="IP4",SIZE="1"]' for address in PUBLIC_ADDRESSES)
    call("one.vn.allocate", f'NAME="{_ELASTIC_IPS}"\nVN_MAD="dummy"\nBRIDGE="br1"\n{ranges}', 0)
    for network in oned.cloud.networks:
        network.become_ready(is_v7=oned.cloud.version.is_v7)
    _share(call, "vn", private_network_id, group_id)
    for template_id in _add_templates(call, private_network_id):
        _share(call, "template", template_id, group_id)
    _add_images(oned, call, group_id)
    if owners and vms:
        _add_machines(oned, owners[0], vms)


def elastic_ips(oned: Oned) -> int:
    """Return the id of the network that `populate` added for elastic IPs."""
    return next(network.id for network in oned.cloud.networks if network.name == _ELASTIC_IPS)


def _allow_creation(oned: Oned, group_id: int) -> None:
    kinds = (Kind.VM, Kind.IMAGE, Kind.TEMPLATE, Kind.DOCUMENT, Kind.SECGROUP, Kind.VMGROUP)
    oned.cloud.rights.add(GROUP | group_id, sum(kind.bit for kind in kinds) | ALL, Right.CREATE, INDIVIDUAL)


def _add_user(oned: Oned, group_id: int, name: str, secret: str) -> User:
    if oned.cloud.find_user(name) is not None:
        raise ValueError(f"the sandbox has a user {name!r} already")
    driver = "core" if _HASH.fullmatch(secret) else "x509" if _CERTIFICATE_SUBJECT.match(secret) else "public"
    # oned accepts no space in a password; `oneuser` replaces those of a subject in the same way.
    password = secret.replace(" ", r"\20") if driver == "x509" else secret
    return new_user(oned.cloud, name, password, driver, [group_id])


def _add_hosts(oned: Oned, call: _Administrator, vms: int) -> None:
    for name in ("host-0", "host-1"):
        host = oned.cloud.hosts.get(call("one.host.allocate", name, "dummy", "dummy", 0))
        host.state = HostState.MONITORED
        host.cpu, host.memory = max(DUMMY_CPU, vms * 100), max(DUMMY_MEMORY, vms * _KIB * _KIB)


def _share(call: _Administrator, prefix: str, object_id: int, group_id: int) -> None:
    call(f"one.{prefix}.chown", object_id, -1, group_id)
    call(f"one.{prefix}.chmod", object_id, 1, 1, 0, 1, 0, 0, 0, 0, 0)


def _add_templates(call: _Administrator, network_id: int) -> list[int]:
    template_ids = []
    for name, cpu, vcpu, memory in _INSTANCE_TYPES:
        text = f'NAME="{name}"\nEC2_INSTANCE_TYPE="{name}"\nCPU="{cpu}"\nMEMORY="{memory}"\n'
        text += f'VCPU="{vcpu}"\n' if vcpu else ""
        text += f'NIC=[NETWORK_ID="{network_id}"]\nCONTEXT=[NETWORK="YES"]\n'
        template_ids.append(call("one.template.allocate", text))
    return template_ids


def _add_images(oned: Oned, call: _Administrator, group_id: int) -> None:
    text = 'TYPE="OS"\nPATH="/var/tmp/{0}.qcow2"\nNAME="{0}"\nDESCRIPTION="{1}"\n'
    registered = text.format("ubuntu-24.04", "Ubuntu 24.04 LTS") + 'EC2_AMI="YES"\n'
    unregistered = text.format("debian-13", "Debian 13, not registered as an AMI yet")
    for template in (registered, unregistered):
        image_id = call("one.image.allocate", template, 1)
        oned.images.copied(oned.cloud.images.get(image_id))
        _share(call, "image", image_id, group_id)


def _add_machines(oned: Oned, owner: User, count: int) -> None:
    vm_template = next(iter(oned.cloud.templates))
    image = next(iter(oned.cloud.images))
    template = vm_template.template.copy()
    template.merge(parse(f'DISK=[IMAGE_ID="{image.id}"]\nIMAGE_ID="ami-{image.id:08d}"'))
    template.replace("TEMPLATE_NAME", vm_template.name)
    template.replace("TEMPLATE_ID", str(vm_template.id))
    for index in range(count):
        machine_template = template.copy()
        machine_template.replace("EC2_RESERVATION_ID", f"r-{index:08d}")
        oned.deployment.run_immediately(
            oned.allocator.allocate(owner, machine_template, "", on_hold=False, start=False)
        )
