"""Security groups of alice, through EC2 and as OpenNebula has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lxml import etree
from twisted.logger import Logger

from econed.catalogue import all_chores
from econed.opennebula.documents import SecurityGroup
from econed.reconciler import Reconciler
from tests.support.cloud import Cloud

ALL_OUT = "egress -1 -1 -1 0.0.0.0/0"
"""The rule of a new group, in the form of `rules`."""


def create(cloud: Cloud, name: str = "web", **parameters: Any) -> str:
    """Create a group of alice and return its id."""
    created = cloud.run("alice", "CreateSecurityGroup", GroupName=name, Description="of a test", **parameters)
    return str(created["GroupId"])


def tcp(port: int, *blocks: str) -> dict[str, Any]:
    """Return the IpPermission for a TCP port, from 10.0.0.0/8 unless `blocks` are given."""
    blocks = blocks or ("10.0.0.0/8",)
    return {
        "IpProtocol": "tcp",
        "FromPort": port,
        "ToPort": port,
        "IpRanges": [{"CidrIp": block} for block in blocks if ":" not in block],
        "Ipv6Ranges": [{"CidrIpv6": block} for block in blocks if ":" in block],
    }


def authorize(cloud: Cloud, group: str, *permissions: Mapping[str, Any]) -> list[str]:
    """Allow incoming traffic, and return the ids of the rules."""
    result = cloud.run("alice", "AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=list(permissions))
    return [rule["SecurityGroupRuleId"] for rule in result["SecurityGroupRules"]]


def rules_by_id(cloud: Cloud, group: str, user: str = "alice") -> dict[str, str]:
    """Return the rules of a group as text, by id."""
    filters = [{"Name": "group-id", "Values": [group]}]
    listed = cloud.run(user, "DescribeSecurityGroupRules", Filters=filters)["SecurityGroupRules"]
    return {rule["SecurityGroupRuleId"]: _text(rule) for rule in listed}


def rules(cloud: Cloud, group: str) -> list[str]:
    """Return the rules of a group as text, sorted."""
    return sorted(rules_by_id(cloud, group).values())


def _text(rule: Mapping[str, Any]) -> str:
    direction = "egress" if rule["IsEgress"] else "ingress"
    block = rule.get("CidrIpv4") or rule["CidrIpv6"]
    return f"{direction} {rule['IpProtocol']} {rule['FromPort']} {rule['ToPort']} {block}"


def document(cloud: Cloud, group: str) -> SecurityGroup:
    """Return the group as oned has it."""
    return SecurityGroup(etree.fromstring(cloud.oneadmin("one.secgroup.info", int(group[3:]), False)))


def open_ports(cloud: Cloud, group: str) -> list[str]:
    """Return the RANGEs of the group's RULEs for incoming traffic, sorted."""
    return sorted(
        rule.get("RANGE", "") for rule in document(cloud, group).rules if rule["RULE_TYPE"].lower() == "inbound"
    )


def write_rules(cloud: Cloud, group: str, texts: Sequence[str], mode: int = 1) -> None:
    """Replace the RULEs of a group, as a user of OpenNebula does; with mode 0 all other attributes are lost."""
    text = "\n".join(f"RULE=[{text}]" for text in texts)
    cloud.as_user("alice", "one.secgroup.update", int(group[3:]), text, mode)


def inbound(port: int | str, source: str = 'IP="10.0.0.0",SIZE="16777216"') -> str:
    """Return a RULE for a TCP port, without its name."""
    return f'PROTOCOL="TCP",RULE_TYPE="inbound",RANGE="{port}",{source}'


OUTBOUND = 'PROTOCOL="ALL",RULE_TYPE="outbound"'


def reconcile(cloud: Cloud) -> None:
    """Let the reconciler make a round."""
    cloud.result(Reconciler(cloud.backend, cloud.clock, all_chores(), Logger("test")).round())
