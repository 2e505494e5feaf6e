"""Networks of the tests of subnets and VPCs."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

from econed.sandbox.demo_cloud import elastic_ips
from econed.sandbox.objects.base import Kind
from tests.support.cloud import Cloud

PRIVATE_SUBNET = "subnet-00000000"
"""The private network of a new `Cloud`."""


def without_rule(cloud: Cloud) -> Cloud:
    """Return the cloud without the rules that let all users of a group USE all networks (`NET/* USE`)."""
    for rule in cloud.oned.cloud.rights.rules():
        if rule.resource & Kind.NET.bit:
            cloud.oneadmin("one.acl.delrule", rule.id)
    return cloud


def network(
    cloud: Cloud, name: str, text: str, *, ip: str = "10.1.0.16", size: int = 16, cluster: int = 0, shared: bool = True
) -> int:
    """Create a network of oneadmin with a range of addresses, which everybody may USE if it is `shared`."""
    range_text = f'AR=[TYPE="IP4",IP="{ip}",SIZE="{size}"]'
    head = f'NAME="{name}"\nVN_MAD="dummy"\nBRIDGE="br-{name}"'
    network_id = int(cloud.oneadmin("one.vn.allocate", f"{head}\n{text}\n{range_text}", cluster))
    cloud.wait(2)
    if shared:
        cloud.oneadmin("one.vn.chmod", network_id, -1, -1, -1, -1, -1, -1, 1, -1, -1)
    return network_id


def vpc(cloud: Cloud, name: str = "vpc", *, block: str = "10.9.0.0", size: int = 65536, shared: bool = True) -> int:
    """Create a network of oneadmin that is marked as a VPC, with a range from the beginning of its block."""
    mask = IPv4Address(2**32 - size)
    text = f'EC2_VPC="YES"\nNETWORK_ADDRESS="{block}"\nNETWORK_MASK="{mask}"\nGATEWAY="{IPv4Address(block) + 1}"'
    return network(cloud, name, text, ip=block, size=size, shared=shared)


def reservation(cloud: Cloud, user: str, parent: int, name: str, ip: str, size: int = 256) -> int:
    """Reserve addresses of a network for a user, and return the id of the reservation."""
    text = f'NAME="{name}"\nSIZE="{size}"\nAR_ID="0"\nIP="{ip}"'
    network_id = int(cloud.as_user(user, "one.vn.reserve", parent, text))
    cloud.wait(2)
    return network_id


def with_elastic_ips(cloud: Cloud) -> Cloud:
    """Return the cloud with its network of elastic IPs configured, which everybody may USE."""
    network_id = elastic_ips(cloud.oned)
    cloud.oneadmin("one.vn.chmod", network_id, -1, -1, -1, -1, -1, -1, 1, -1, -1)
    cloud.settings = replace(cloud.settings, elasticips_vnet_id=network_id)
    return cloud
