"""Rules by their ids (EC2 API Reference, DescribeSecurityGroupRules, ModifySecurityGroupRules), and descriptions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, NotRequired, TypedDict

from econed.actions.action import action
from econed.actions.filters import Filters, field, tag_filters
from econed.actions.inputs import Filter
from econed.actions.paging import Listing, Paging
from econed.actions.security_groups.authorize import check_rule_ids, duplicate, named_rules
from econed.actions.security_groups.permissions import (
    IpPermission,
    RuleRequest,
    checked_description,
    requested_rule,
    requested_rules,
)
from econed.actions.security_groups.records import GroupRules, Record
from econed.actions.security_groups.store import change_rules, find_group_to_change
from econed.actions.security_groups.view import rule_view
from econed.errors import EC2Error
from econed.ids import SECURITY_GROUP, SECURITY_GROUP_RULE

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import SecurityGroupRuleTypeDef

    from econed.actions.call import Call

_LISTING = Listing("security-group-rules", (int, str))

_FILTERS = Filters(
    MappingProxyType(
        {
            "group-id": field("GroupId"),
            "security-group-rule-id": field("SecurityGroupRuleId"),
            **tag_filters(),
        }
    )
)


class RuleUpdate(TypedDict, total=False):
    """A rule, and what it is to become (EC2 SecurityGroupRuleUpdate)."""

    SecurityGroupRuleId: str
    SecurityGroupRule: RuleRequest


class RuleDescription(TypedDict, total=False):
    """A rule, and its new description (EC2 SecurityGroupRuleDescription)."""

    SecurityGroupRuleId: str
    Description: str


class DescribeSecurityGroupRulesResult(TypedDict):
    """EC2 DescribeSecurityGroupRulesResult."""

    SecurityGroupRules: list[SecurityGroupRuleTypeDef]
    NextToken: NotRequired[str]


class ChangeResult(TypedDict):
    """The results of EC2's ModifySecurityGroupRules and UpdateSecurityGroupRuleDescriptions…."""

    Return: bool


@action()
async def describe_security_group_rules(
    call: Call,
    *,
    security_group_rule_ids: Sequence[str] = (),
    filters: Sequence[Filter] = (),
    max_results: int | None = None,
    next_token: str | None = None,
) -> DescribeSecurityGroupRulesResult:
    """List the rules of the groups that the caller may use, group after group.

    Raises `EC2Error` InvalidSecurityGroupRuleId.Malformed or InvalidSecurityGroupRuleId.NotFound.
    """
    selection = _FILTERS.selection(filters, call.budget)
    paging = Paging.of(_LISTING, max_results, next_token, ids=security_group_rule_ids)
    check_rule_ids(security_group_rule_ids)
    group_ids = _FILTERS.values_of("group-id", filters)
    requested = frozenset(security_group_rule_ids)
    views: list[SecurityGroupRuleTypeDef] = []
    found: set[str] = set()
    for group in await call.session.security_groups():
        if group_ids is not None and SECURITY_GROUP.format(group.id) not in group_ids and not requested:
            continue
        await call.budget.spend(len(group.template))
        rules = GroupRules(group)
        records = [record for record in rules.records.values() if not requested or record.id in requested]
        found.update(record.id for record in records)
        views += await selection.matching(rule_view(rules, record) for record in records)
    missing = [text for text in security_group_rule_ids if text not in found]
    if missing:
        raise SECURITY_GROUP_RULE.not_found(*missing)
    page, token = paging.page(views, _position)
    return {"SecurityGroupRules": page, **token}


@action()
async def modify_security_group_rules(
    call: Call, *, group_id: str, security_group_rules: Sequence[RuleUpdate]
) -> ChangeResult:
    """Change the protocol, ports, addresses or description of rules, all of them or none; each keeps its id.

    Raises the errors of `find_group`, `requested_rule` and `change_rules`, InvalidSecurityGroupRuleId.NotFound, and
    InvalidPermission.Duplicate.
    """
    ids = [update.get("SecurityGroupRuleId", "") for update in security_group_rules]
    check_rule_ids(ids)
    if not ids or len(set(ids)) < len(ids):
        raise EC2Error("InvalidParameterValue", "SecurityGroupRules must name at least one rule, and each only once.")
    requests = {id_: update.get("SecurityGroupRule", {}) for id_, update in zip(ids, security_group_rules, strict=True)}
    for request in requests.values():
        requested_rule(request, is_egress=False)
    target = await find_group_to_change(call, group_id, "")

    def modified(before: GroupRules) -> Mapping[str, Record]:
        missing = [id_ for id_ in ids if id_ not in before.records]
        if missing:
            raise SECURITY_GROUP_RULE.not_found(*missing)
        records = dict(before.records)
        for id_, request in requests.items():
            rule, description = requested_rule(request, is_egress=records[id_].rule.is_egress)
            records[id_] = Record(id_, rule, description)
        counts = Counter(record.rule for record in records.values())
        for id_ in ids:
            if counts[records[id_].rule] > 1:
                raise duplicate(records[id_].rule)
        return records

    await change_rules(call, target, modified)
    return {"Return": True}


@action()
async def update_security_group_rule_descriptions_ingress(
    call: Call,
    *,
    group_id: str = "",
    group_name: str = "",
    ip_permissions: Sequence[IpPermission] = (),
    security_group_rule_descriptions: Sequence[RuleDescription] = (),
) -> ChangeResult:
    """Change the descriptions of rules for traffic to the instances of a group."""
    id_and_name = (group_id, group_name)
    return await _describe(call, id_and_name, ip_permissions, security_group_rule_descriptions, is_egress=False)


@action()
async def update_security_group_rule_descriptions_egress(
    call: Call,
    *,
    group_id: str = "",
    group_name: str = "",
    ip_permissions: Sequence[IpPermission] = (),
    security_group_rule_descriptions: Sequence[RuleDescription] = (),
) -> ChangeResult:
    """Change the descriptions of rules for traffic from the instances of a group."""
    id_and_name = (group_id, group_name)
    return await _describe(call, id_and_name, ip_permissions, security_group_rule_descriptions, is_egress=True)


async def _describe(
    call: Call,
    id_and_name: tuple[str, str],
    permissions: Sequence[IpPermission],
    descriptions: Sequence[RuleDescription],
    *,
    is_egress: bool,
) -> ChangeResult:
    """Change the descriptions of rules, all of them or none; a rule without one in the request has none afterwards.

    Raises the errors of `find_group`, `requested_rules`, `named_rules` and `change_rules`.
    """
    if bool(permissions) == bool(descriptions):
        raise EC2Error(
            *("MissingParameter", "Either 'ipPermissions' or 'securityGroupRuleDescriptions' should be provided.")
            if not permissions
            else (
                "InvalidParameterCombination",
                "'ipPermissions' and 'securityGroupRuleDescriptions' cannot be given together.",
            )
        )
    by_rule = requested_rules(permissions, is_egress=is_egress)
    by_id = {
        description.get("SecurityGroupRuleId", ""): checked_description(description.get("Description", ""))
        for description in descriptions
    }
    check_rule_ids(list(by_id))
    target = await find_group_to_change(call, *id_and_name)

    def described(before: GroupRules) -> Mapping[str, Record]:
        named = named_rules(before, by_rule, list(by_id), is_egress=is_egress)
        changed = {
            id_: replace(record, description=by_id.get(id_) or by_rule.get(record.rule) or "")
            for id_, record in named.items()
        }
        return {**before.records, **changed}

    await change_rules(call, target, described)
    return {"Return": True}


def _position(view: SecurityGroupRuleTypeDef) -> tuple[int, str]:
    return SECURITY_GROUP.parse(view["GroupId"]), view["SecurityGroupRuleId"]
