"""Security groups and their rules as EC2's structures."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from econed.actions.security_groups.lookup import group_description, group_name, vpc_id_of
from econed.actions.security_groups.records import GroupRules, Record
from econed.actions.security_groups.rules import WITH_PORTS, WITH_TYPES
from econed.actions.tagging import tags_of
from econed.ids import SECURITY_GROUP, account_id

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import (
        IpPermissionOutputTypeDef,
        IpRangeTypeDef,
        Ipv6RangeTypeDef,
        RevokedSecurityGroupRuleTypeDef,
        SecurityGroupRuleTypeDef,
        SecurityGroupTypeDef,
        TagTypeDef,
    )

    from econed.opennebula.documents import SecurityGroup


def group_view(rules: GroupRules) -> SecurityGroupTypeDef:
    """Return EC2's SecurityGroup."""
    group, records = rules.group, rules.records.values()
    return {
        "GroupId": SECURITY_GROUP.format(group.id),
        "GroupName": group_name(group),
        "Description": group_description(group),
        "OwnerId": account_id(group.uid),
        "VpcId": vpc_id_of(group),
        "IpPermissions": _permissions(record for record in records if not record.rule.is_egress),
        "IpPermissionsEgress": _permissions(record for record in records if record.rule.is_egress),
        "Tags": tags_of(group.template),
    }


def rule_view(rules: GroupRules, record: Record, tags: Iterable[TagTypeDef] | None = None) -> SecurityGroupRuleTypeDef:
    """Return EC2's SecurityGroupRule; `tags` are those of a rule that is new."""
    rule = record.rule
    view: SecurityGroupRuleTypeDef = {
        "SecurityGroupRuleId": record.id,
        "GroupId": SECURITY_GROUP.format(rules.group.id),
        "GroupOwnerId": account_id(rules.group.uid),
        "IsEgress": rule.is_egress,
        "IpProtocol": rule.protocol,
        "FromPort": rule.first,
        "ToPort": rule.last,
        "Tags": rules.tags(record) if tags is None else list(tags),
    }
    if rule.block.version == 4:
        view["CidrIpv4"] = str(rule.block)
    else:
        view["CidrIpv6"] = str(rule.block)
    if record.description:
        view["Description"] = record.description
    return view


def revoked_rule_view(group: SecurityGroup, record: Record) -> RevokedSecurityGroupRuleTypeDef:
    """Return EC2's RevokedSecurityGroupRule."""
    rule = record.rule
    view: RevokedSecurityGroupRuleTypeDef = {
        "SecurityGroupRuleId": record.id,
        "GroupId": SECURITY_GROUP.format(group.id),
        "IsEgress": rule.is_egress,
        "IpProtocol": rule.protocol,
        "FromPort": rule.first,
        "ToPort": rule.last,
    }
    if rule.block.version == 4:
        view["CidrIpv4"] = str(rule.block)
    else:
        view["CidrIpv6"] = str(rule.block)
    if record.description:
        view["Description"] = record.description
    return view


def _permissions(records: Iterable[Record]) -> list[IpPermissionOutputTypeDef]:
    """Return rules as EC2's IpPermissions: one for each protocol and ports, with all their blocks."""
    by_ports: dict[tuple[str, int, int], list[Record]] = {}
    for record in records:
        by_ports.setdefault((record.rule.protocol, record.rule.first, record.rule.last), []).append(record)
    return [_permission(*ports, of_ports) for ports, of_ports in by_ports.items()]


def _permission(protocol: str, first: int, last: int, records: Iterable[Record]) -> IpPermissionOutputTypeDef:
    ranges: list[IpRangeTypeDef] = []
    ipv6_ranges: list[Ipv6RangeTypeDef] = []
    for record in records:
        described: IpRangeTypeDef = {"Description": record.description} if record.description else {}
        if record.rule.block.version == 4:
            ranges.append({"CidrIp": str(record.rule.block), **described})
        else:
            ipv6_ranges.append({"CidrIpv6": str(record.rule.block), **described})  # type: ignore[typeddict-unknown-key]
    permission: IpPermissionOutputTypeDef = {
        "IpProtocol": protocol,
        "IpRanges": ranges,
        "Ipv6Ranges": ipv6_ranges,
        "UserIdGroupPairs": [],
        "PrefixListIds": [],
    }
    if protocol in WITH_PORTS | WITH_TYPES:
        permission |= {"FromPort": first, "ToPort": last}
    return permission
