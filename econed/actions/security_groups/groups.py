"""Security groups (EC2 API Reference, CreateSecurityGroup, DescribeSecurityGroups, DeleteSecurityGroup)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, NotRequired, TypedDict

from econed.actions.action import action
from econed.actions.filters import Filters, Values, field, tag_filters
from econed.actions.inputs import Filter, TagSpecification
from econed.actions.networks.lookup import DEFAULT_VPC, find_vpc
from econed.actions.paging import Listing, Paging
from econed.actions.security_groups.lookup import (
    DEFAULT_NAME,
    MAX_GROUPS,
    facts_text,
    find_group,
    find_groups,
    is_default_group,
)
from econed.actions.security_groups.names import opennebula_name
from econed.actions.security_groups.records import GroupRules
from econed.actions.security_groups.rules import ALL_PROTOCOLS, ANY, ANY_IPV4, TrafficRule, written
from econed.actions.security_groups.view import group_view
from econed.actions.tagging import specified_tags, tag_text
from econed.errors import EC2Error, OpenNebulaCode, OpenNebulaRefusal
from econed.ids import SECURITY_GROUP
from econed.opennebula.attributes import Attributes
from econed.opennebula.documents import Right
from econed.opennebula.pools import OwnerFilter
from econed.opennebula.security_groups import DEFAULT_SECURITY_GROUP
from econed.opennebula.template import render, template

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import SecurityGroupTypeDef, TagTypeDef

    from econed.actions.call import Call
    from econed.actions.networks.lookup import Vpc
    from econed.opennebula.documents import SecurityGroup

_MAX_TEXT = 255
"""Characters of a name or a description (EC2 API Reference, CreateSecurityGroup)."""

_TEXT = re.compile(r"[A-Za-z0-9 ._\-:/()#,@\[\]+=&;{}!$*]+", re.ASCII)
_ALLOWED_OUT = TrafficRule(True, ALL_PROTOCOLS, ANY, ANY, ANY_IPV4)
"""The rule that EC2 gives a new group: all traffic out."""

_LISTING = Listing("security-groups", (int,))


def _permission_filters(prefix: str, member: str) -> dict[str, Values]:
    return {
        f"{prefix}ip-permission.cidr": field(member, "IpRanges", "CidrIp"),
        f"{prefix}ip-permission.from-port": field(member, "FromPort"),
        f"{prefix}ip-permission.group-id": field(member, "UserIdGroupPairs", "GroupId"),
        f"{prefix}ip-permission.group-name": field(member, "UserIdGroupPairs", "GroupName"),
        f"{prefix}ip-permission.ipv6-cidr": field(member, "Ipv6Ranges", "CidrIpv6"),
        f"{prefix}ip-permission.prefix-list-id": field(member, "PrefixListIds", "PrefixListId"),
        f"{prefix}ip-permission.protocol": field(member, "IpProtocol"),
        f"{prefix}ip-permission.to-port": field(member, "ToPort"),
        f"{prefix}ip-permission.user-id": field(member, "UserIdGroupPairs", "UserId"),
    }


_FILTERS = Filters(
    MappingProxyType(
        {
            "description": field("Description"),
            "group-id": field("GroupId"),
            "group-name": field("GroupName"),
            "owner-id": field("OwnerId"),
            "vpc-id": field("VpcId"),
            **_permission_filters("", "IpPermissions"),
            **_permission_filters("egress.", "IpPermissionsEgress"),
            **tag_filters(),
        }
    )
)


class CreateSecurityGroupResult(TypedDict):
    """EC2 CreateSecurityGroupResult."""

    GroupId: str
    Tags: NotRequired[list[TagTypeDef]]


class DescribeSecurityGroupsResult(TypedDict):
    """EC2 DescribeSecurityGroupsResult."""

    SecurityGroups: list[SecurityGroupTypeDef]
    NextToken: NotRequired[str]


class DeleteSecurityGroupResult(TypedDict):
    """EC2 DeleteSecurityGroupResult."""

    Return: bool
    GroupId: str


@action()
async def create_security_group(
    call: Call,
    *,
    group_name: str,
    description: str,
    vpc_id: str = "",
    tag_specifications: Sequence[TagSpecification] = (),
) -> CreateSecurityGroupResult:
    """Create a group that allows all traffic out and none in.

    Raises `EC2Error` InvalidGroup.Duplicate for a name that the caller's groups in the VPC have,
    SecurityGroupLimitExceeded, and the errors of `find_vpc`.
    """
    tags = specified_tags(tag_specifications, "security-group")["security-group"]
    _check_texts(group_name, description)
    vpc = await find_vpc(call, vpc_id) if vpc_id else DEFAULT_VPC
    await _check_new(call, group_name, vpc)
    rules = render(Attributes(("RULE", rule) for rule in written([_ALLOWED_OUT])))
    text = template(facts_text(group_name, description, vpc.number), rules, tag_text(tags))
    try:
        group_id = await call.session.security_group_allocate(text)
    except OpenNebulaRefusal as refusal:
        if refusal.code == OpenNebulaCode.INTERNAL:
            await _check_new(call, group_name, vpc)
        raise
    result: CreateSecurityGroupResult = {"GroupId": SECURITY_GROUP.format(group_id)}
    if tags:
        result["Tags"] = [{"Key": key, "Value": value} for key, value in sorted(tags.items())]
    return result


@action()
async def describe_security_groups(
    call: Call,
    *,
    group_ids: Sequence[str] = (),
    group_names: Sequence[str] = (),
    filters: Sequence[Filter] = (),
    max_results: int | None = None,
    next_token: str | None = None,
) -> DescribeSecurityGroupsResult:
    """List the groups that the caller may use, lowest id first (EC2 DescribeSecurityGroups)."""
    selection = _FILTERS.selection(filters, call.budget)
    paging = Paging.of(_LISTING, max_results, next_token, ids=[*group_ids, *group_names])
    if group_ids or group_names:
        groups = await find_groups(call, group_ids, group_names)
    else:
        groups = await call.session.security_groups()
    views: list[SecurityGroupTypeDef] = []
    for group in groups:
        await call.budget.spend(len(group.template))
        view = group_view(GroupRules(group))
        if await selection.matches(view):
            views.append(view)
    page, token = paging.page(views, _position)
    return {"SecurityGroups": page, **token}


@action()
async def delete_security_group(call: Call, *, group_id: str = "", group_name: str = "") -> DeleteSecurityGroupResult:
    """Delete a group; raises `EC2Error` DependencyViolation while an instance has it, CannotDelete for `default`."""
    group = await find_group(call, group_id, group_name)
    text = SECURITY_GROUP.format(group.id)
    if group.id == DEFAULT_SECURITY_GROUP or is_default_group(group):
        raise EC2Error(
            "CannotDelete", f'the specified group: "{text}" name: "{DEFAULT_NAME}" cannot be deleted by a user'
        )

    async def delete(group: SecurityGroup) -> None:
        try:
            await call.session.security_group_delete(group.id)
        except OpenNebulaRefusal as refusal:
            if refusal.code == OpenNebulaCode.ACTION:
                raise _in_use(text) from refusal
            if refusal.code == OpenNebulaCode.NO_EXISTS:
                raise SECURITY_GROUP.not_found(text) from refusal
            raise

    if group.vm_ids and group.allows(call.caller.id, call.caller.groups, Right.MANAGE):
        raise _in_use(text)
    await call.change_all(Right.MANAGE, [group], delete)
    return {"Return": True, "GroupId": text}


def _check_texts(name: str, description: str) -> None:
    for parameter, text in (("GroupName", name), ("GroupDescription", description)):
        if len(text) > _MAX_TEXT or not _TEXT.fullmatch(text):
            raise EC2Error(
                "InvalidParameterValue",
                f"Value for parameter {parameter} is invalid. It must have 1 to {_MAX_TEXT} characters of "
                "'a-z, A-Z, 0-9, spaces, and ._-:/()#,@[]+=&;{}!$*'.",
            )
    if name.lower().startswith(f"{SECURITY_GROUP.prefix}-"):
        raise EC2Error("InvalidParameterValue", 'Invalid value for parameter GroupName: it must not start with "sg-".')
    if name.lower() == DEFAULT_NAME:
        raise EC2Error("InvalidGroup.Reserved", f"Cannot use reserved security group name: {DEFAULT_NAME}")


async def _check_new(call: Call, name: str, vpc: Vpc) -> None:
    """Raise `EC2Error` if the caller may have no more groups, or has one with this name in the VPC."""
    own = await call.session.security_groups(OwnerFilter.MINE)
    unique_name = opennebula_name(name, vpc.number)
    for group in own:
        if group.name == unique_name:
            raise EC2Error("InvalidGroup.Duplicate", f"The security group '{name}' already exists for VPC '{vpc.id}'")
    if len(own) >= MAX_GROUPS:
        raise EC2Error(
            "SecurityGroupLimitExceeded", f"The maximum number of security groups has been reached: {MAX_GROUPS}."
        )


def _in_use(text: str) -> EC2Error:
    return EC2Error("DependencyViolation", f"resource {text} has a dependent object")


def _position(view: SecurityGroupTypeDef) -> tuple[int]:
    return (SECURITY_GROUP.parse(view["GroupId"]),)
