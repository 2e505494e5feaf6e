"""Adding and removing rules (EC2 API Reference, AuthorizeSecurityGroup…, RevokeSecurityGroup…)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, NotRequired, TypedDict

from econed.actions.action import action
from econed.actions.inputs import TagSpecification
from econed.actions.security_groups.permissions import (
    FlatPermission,
    IpPermission,
    requested_permissions,
    requested_rules,
)
from econed.actions.security_groups.records import GroupRules, Record
from econed.actions.security_groups.rules import TrafficRule
from econed.actions.security_groups.store import change_rules, find_group_to_change
from econed.actions.security_groups.view import revoked_rule_view, rule_view
from econed.actions.tagging import specified_tags
from econed.errors import EC2Error
from econed.ids import SECURITY_GROUP_RULE

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import RevokedSecurityGroupRuleTypeDef, SecurityGroupRuleTypeDef, TagTypeDef

    from econed.actions.call import Call


class AuthorizeResult(TypedDict):
    """EC2 AuthorizeSecurityGroupIngressResult, AuthorizeSecurityGroupEgressResult."""

    Return: bool
    SecurityGroupRules: list[SecurityGroupRuleTypeDef]


class RevokeResult(TypedDict):
    """EC2 RevokeSecurityGroupIngressResult, RevokeSecurityGroupEgressResult."""

    Return: bool
    RevokedSecurityGroupRules: NotRequired[list[RevokedSecurityGroupRuleTypeDef]]


@action()
async def authorize_security_group_ingress(
    call: Call,
    *,
    group_id: str = "",
    group_name: str = "",
    ip_permissions: Sequence[IpPermission] = (),
    ip_protocol: str | None = None,
    from_port: int | None = None,
    to_port: int | None = None,
    cidr_ip: str | None = None,
    source_security_group_name: str | None = None,
    source_security_group_owner_id: str | None = None,
    tag_specifications: Sequence[TagSpecification] = (),
) -> AuthorizeResult:
    """Allow traffic to the instances of a group (EC2 AuthorizeSecurityGroupIngress)."""
    flat = FlatPermission(
        ip_protocol, from_port, to_port, cidr_ip, source_security_group_name, source_security_group_owner_id
    )
    permissions = requested_permissions(ip_permissions, flat)
    return await _authorize(call, (group_id, group_name), permissions, tag_specifications, is_egress=False)


@action()
async def authorize_security_group_egress(
    call: Call,
    *,
    group_id: str,
    ip_permissions: Sequence[IpPermission] = (),
    ip_protocol: str | None = None,
    from_port: int | None = None,
    to_port: int | None = None,
    cidr_ip: str | None = None,
    source_security_group_name: str | None = None,
    source_security_group_owner_id: str | None = None,
    tag_specifications: Sequence[TagSpecification] = (),
) -> AuthorizeResult:
    """Allow traffic from the instances of a group (EC2 AuthorizeSecurityGroupEgress)."""
    flat = FlatPermission(
        ip_protocol, from_port, to_port, cidr_ip, source_security_group_name, source_security_group_owner_id
    )
    permissions = requested_permissions(ip_permissions, flat)
    return await _authorize(call, (group_id, ""), permissions, tag_specifications, is_egress=True)


@action()
async def revoke_security_group_ingress(
    call: Call,
    *,
    group_id: str = "",
    group_name: str = "",
    ip_permissions: Sequence[IpPermission] = (),
    security_group_rule_ids: Sequence[str] = (),
    ip_protocol: str | None = None,
    from_port: int | None = None,
    to_port: int | None = None,
    cidr_ip: str | None = None,
    source_security_group_name: str | None = None,
    source_security_group_owner_id: str | None = None,
) -> RevokeResult:
    """Remove rules for traffic to the instances of a group (EC2 RevokeSecurityGroupIngress)."""
    flat = FlatPermission(
        ip_protocol, from_port, to_port, cidr_ip, source_security_group_name, source_security_group_owner_id
    )
    permissions = requested_permissions(ip_permissions, flat)
    return await _revoke(call, (group_id, group_name), permissions, security_group_rule_ids, is_egress=False)


@action()
async def revoke_security_group_egress(
    call: Call,
    *,
    group_id: str,
    ip_permissions: Sequence[IpPermission] = (),
    security_group_rule_ids: Sequence[str] = (),
    ip_protocol: str | None = None,
    from_port: int | None = None,
    to_port: int | None = None,
    cidr_ip: str | None = None,
    source_security_group_name: str | None = None,
    source_security_group_owner_id: str | None = None,
) -> RevokeResult:
    """Remove rules for traffic from the instances of a group (EC2 RevokeSecurityGroupEgress)."""
    flat = FlatPermission(
        ip_protocol, from_port, to_port, cidr_ip, source_security_group_name, source_security_group_owner_id
    )
    permissions = requested_permissions(ip_permissions, flat)
    return await _revoke(call, (group_id, ""), permissions, security_group_rule_ids, is_egress=True)


async def _authorize(
    call: Call,
    id_and_name: tuple[str, str],
    permissions: Sequence[IpPermission],
    tag_specifications: Sequence[TagSpecification],
    *,
    is_egress: bool,
) -> AuthorizeResult:
    """Add rules to a group, all of them or none.

    Raises the errors of `find_group`, `requested_rules` and `change_rules`, and `EC2Error` InvalidPermission.Duplicate.
    """
    tags = specified_tags(tag_specifications, "security-group-rule")["security-group-rule"]
    rules = requested_rules(permissions, is_egress=is_egress)
    if not rules:
        raise EC2Error("MissingParameter", "The request must contain the parameter IpPermissions")
    target = await find_group_to_change(call, *id_and_name)

    def with_rules(before: GroupRules) -> Mapping[str, Record]:
        records = dict(before.records)
        present = {record.rule for record in records.values()}
        for rule, description in rules.items():
            if rule in present:
                raise duplicate(rule)
            id_ = before.new_id(rule, records)
            records[id_] = Record(id_, rule, description or "")
        return records

    before, after = await change_rules(call, target, with_rules, tags)
    new = [record for id_, record in after.items() if id_ not in before.records]
    tag_list: list[TagTypeDef] = [{"Key": key, "Value": value} for key, value in sorted(tags.items())]
    return {"Return": True, "SecurityGroupRules": [rule_view(before, record, tag_list) for record in new]}


async def _revoke(
    call: Call,
    id_and_name: tuple[str, str],
    permissions: Sequence[IpPermission],
    rule_ids: Sequence[str],
    *,
    is_egress: bool,
) -> RevokeResult:
    """Remove rules from a group, all of them or none; descriptions do not matter.

    Raises the errors of `find_group`, `requested_rules`, `change_rules` and `named_rules`.
    """
    if bool(permissions) == bool(rule_ids):
        raise EC2Error(
            *("MissingParameter", "Either 'ipPermissions' or 'securityGroupRuleIds' should be provided.")
            if not permissions
            else ("InvalidParameterCombination", "'ipPermissions' and 'securityGroupRuleIds' cannot be given together.")
        )
    rules = requested_rules(permissions, is_egress=is_egress)
    check_rule_ids(rule_ids)
    target = await find_group_to_change(call, *id_and_name)

    def without_rules(before: GroupRules) -> Mapping[str, Record]:
        removed = named_rules(before, rules, rule_ids, is_egress=is_egress)
        return {id_: record for id_, record in before.records.items() if id_ not in removed}

    before, after = await change_rules(call, target, without_rules)
    revoked = [record for id_, record in before.records.items() if id_ not in after]
    return {
        "Return": True,
        "RevokedSecurityGroupRules": [revoked_rule_view(target.group, record) for record in revoked],
    }


def check_rule_ids(rule_ids: Sequence[str]) -> None:
    """Raise `EC2Error` InvalidSecurityGroupRuleId.Malformed for a text that is not the id of a rule."""
    for text in rule_ids:
        if not SECURITY_GROUP_RULE.is_well_formed(text):
            raise SECURITY_GROUP_RULE.malformed(text)


def named_rules(
    group_rules: GroupRules, rules: Collection[TrafficRule], rule_ids: Sequence[str], *, is_egress: bool
) -> Mapping[str, Record]:
    """Return the rules of a group in one direction that a request names, by their properties or by their ids.

    Raises `EC2Error` InvalidPermission.NotFound or InvalidSecurityGroupRuleId.NotFound.
    """
    records = {id_: record for id_, record in group_rules.records.items() if record.rule.is_egress == is_egress}
    missing = [text for text in rule_ids if text not in records]
    if missing:
        raise SECURITY_GROUP_RULE.not_found(*missing)
    present = {record.rule for record in records.values()}
    if any(rule not in present for rule in rules):
        raise EC2Error("InvalidPermission.NotFound", "The specified rule does not exist in this security group.")
    ids = frozenset(rule_ids)
    return {id_: record for id_, record in records.items() if id_ in ids or record.rule in rules}


def duplicate(rule: TrafficRule) -> EC2Error:
    """Return the error for a rule that a group has already."""
    ports = "ALL" if rule.first == rule.last == -1 else f"from port: {rule.first}, to port: {rule.last}"
    return EC2Error(
        "InvalidPermission.Duplicate",
        f'the specified rule "peer: {rule.block}, {rule.protocol.upper()}, {ports}, ALLOW" already exists',
    )
