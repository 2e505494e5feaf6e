"""Template, VPCs and subnets of the tests."""

from __future__ import annotations

from typing import Any

from tests.support.cloud import Cloud

TEMPLATE_TEXT = 'VN_MAD="vxlan"\nPHYDEV="eth0"\nEC2_VPC="YES"'


def template(cloud: Cloud, name: str = "vpc", text: str = TEMPLATE_TEXT, *, shared: bool = True) -> int:
    """Create a network template of oneadmin, which everybody may USE if it is `shared`."""
    template_id = int(cloud.oneadmin("one.vntemplate.allocate", f'NAME="{name}"\n{text}'))
    if shared:
        cloud.oneadmin("one.vntemplate.chmod", template_id, -1, -1, -1, -1, -1, -1, 1, -1, -1)
    return template_id


def with_template(cloud: Cloud) -> Cloud:
    """Return the cloud with a template for VPCs."""
    template(cloud)
    return cloud


def create_vpc(cloud: Cloud, cidr: str = "10.9.0.0/16", user: str = "alice", **parameters: Any) -> str:
    """Create a VPC, and return its id."""
    return str(cloud.run(user, "CreateVpc", CidrBlock=cidr, **parameters)["Vpc"]["VpcId"])


def create_subnet(cloud: Cloud, vpc_id: str, cidr: str = "10.9.1.0/24", user: str = "alice", **parameters: Any) -> str:
    """Create a subnet, and return its id."""
    return str(cloud.run(user, "CreateSubnet", VpcId=vpc_id, CidrBlock=cidr, **parameters)["Subnet"]["SubnetId"])


def number(resource_id: str) -> int:
    """Return the OpenNebula id in an EC2 id."""
    return int(resource_id.partition("-")[2])


def tags(resource_type: str, **tags: str) -> list[dict[str, Any]]:
    """Return a TagSpecification."""
    return [{"ResourceType": resource_type, "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}]
