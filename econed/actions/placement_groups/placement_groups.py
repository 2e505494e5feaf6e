"""Placement groups (EC2 API Reference, CreatePlacementGroup, DescribePlacementGroups, DeletePlacementGroup)."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, TypedDict

from econed.actions.action import action
from econed.actions.filters import Filters, field, tag_filters
from econed.actions.inputs import Filter, TagSpecification, check_text
from econed.actions.placement_groups.lookup import (
    POLICIES,
    PlacementGroup,
    find_placement_group,
    named,
    placement_groups,
    with_ids,
)
from econed.actions.regions.regions import own_region
from econed.actions.tagging import specified_tags, tag_text, tags_of
from econed.actions.tasks import TaskGroup
from econed.errors import EC2Error, NotStorable, OpenNebulaCode, OpenNebulaRefusal
from econed.ids import PLACEMENT_GROUP, account_id
from econed.opennebula.documents import Right
from econed.opennebula.template import attribute, template, vector

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import PlacementGroupTypeDef

    from econed.actions.call import Call
    from econed.opennebula.documents import VmGroup

MAX_GROUPS = 500
"""Placement groups of one user (EC2 User Guide, "Placement groups": 500 per account in each Region)."""

_MAX_NAME = 128
"""Characters of a name in OpenNebula; EC2 allows 255."""

_ROLE = "instances"
"""The name of the only role of a new group."""

_FILTERS = Filters(
    MappingProxyType(
        {
            "group-arn": field("GroupArn"),
            "group-id": field("GroupId"),
            "group-name": field("GroupName"),
            "spread-level": field("SpreadLevel"),
            "state": field("State"),
            "strategy": field("Strategy"),
            **tag_filters(),
        }
    )
)


class CreatePlacementGroupResult(TypedDict):
    """EC2 CreatePlacementGroupResult."""

    PlacementGroup: PlacementGroupTypeDef


class DescribePlacementGroupsResult(TypedDict):
    """EC2 DescribePlacementGroupsResult."""

    PlacementGroups: list[PlacementGroupTypeDef]


@action(as_is={"SpreadLevel": "host"})
async def create_placement_group(
    call: Call,
    *,
    group_name: str,
    strategy: Literal["cluster", "spread", "partition", "precision-time"] = "cluster",
    tag_specifications: Sequence[TagSpecification] = (),
) -> CreatePlacementGroupResult:
    """Create a placement group: `cluster` keeps its instances on one host, `spread` each on another (one.vmgroup).

    Raises `EC2Error` InvalidPlacementGroup.Duplicate or PlacementGroupLimitExceeded.
    """
    check_text("GroupName", group_name, _MAX_NAME)
    if not group_name.strip() or group_name != group_name.strip():
        raise EC2Error("InvalidParameterValue", f"Value ({group_name}) for parameter groupName is invalid.")
    if strategy != "cluster" and strategy != "spread":
        raise EC2Error("UnsupportedOperation", f"The strategy '{strategy}' is not supported by this cloud.")
    tags = specified_tags(tag_specifications, "placement-group")["placement-group"]
    own = [group for group in await placement_groups(call) if group.group.uid == call.caller.id]
    if group_name in {group.name for group in own}:
        raise _duplicate(group_name)
    if len(own) >= MAX_GROUPS:
        raise EC2Error("PlacementGroupLimitExceeded", f"The maximum of {MAX_GROUPS} placement groups has been reached.")
    try:
        role = {"NAME": _ROLE, "POLICY": POLICIES[strategy]}
        text = template(attribute("NAME", group_name), vector("ROLE", role), tag_text(tags))
        group_id = await call.session.vm_group_allocate(text)
    except NotStorable as error:
        raise _invalid_name(group_name) from error
    except OpenNebulaRefusal as refusal:
        if refusal.code != OpenNebulaCode.INTERNAL:
            raise
        # The name is taken: also by a VM group that is no placement group, or by one that was made meanwhile.
        is_taken = group_name in {group.name for group in await call.session.vm_groups() if group.uid == call.caller.id}
        raise (_duplicate if is_taken else _invalid_name)(group_name) from refusal
    region = await own_region(call)
    created = await find_placement_group(call, "", PLACEMENT_GROUP.format(group_id))
    return {"PlacementGroup": _view(created, region.name)}


@action()
async def describe_placement_groups(
    call: Call,
    *,
    group_names: Sequence[str] = (),
    group_ids: Sequence[str] = (),
    filters: Sequence[Filter] = (),
) -> DescribePlacementGroupsResult:
    """List the placement groups that the caller may use (EC2 DescribePlacementGroups, which has no pages)."""
    selection = _FILTERS.selection(filters, call.budget)
    async with TaskGroup() as reads:
        reading_groups, reading_region = reads.start(placement_groups(call)), reads.start(own_region(call))
    groups: Sequence[PlacementGroup] = reading_groups.result
    if group_ids or group_names:
        chosen = {group.group.id: group for group in (*with_ids(groups, group_ids), *named(call, groups, group_names))}
        groups = [*chosen.values()]
    region = reading_region.result.name
    return {"PlacementGroups": await selection.matching(_view(group, region) for group in groups)}


@action()
async def delete_placement_group(call: Call, *, group_name: str) -> None:
    """Delete a placement group (EC2 DeletePlacementGroup); OpenNebula would delete one that instances are in, too."""
    group = await find_placement_group(call, group_name)
    if group.vm_ids:
        raise EC2Error(
            "InvalidPlacementGroup.InUse", f"The placement group '{group_name}' is in use and may not be deleted."
        )

    async def delete(target: VmGroup) -> None:
        await call.session.vm_group_delete(target.id)

    await call.change_all(Right.MANAGE, [group.group], delete)


def _view(group: PlacementGroup, region: str) -> PlacementGroupTypeDef:
    view: PlacementGroupTypeDef = {
        "GroupName": group.name,
        "GroupId": group.id,
        "GroupArn": f"arn:aws:ec2:{region}:{account_id(group.group.uid)}:placement-group/{group.name}",
        "State": "available",
        "Strategy": group.strategy,
    }
    if group.strategy == "spread":
        view["SpreadLevel"] = "host"
    if tags := tags_of(group.group.template):
        view["Tags"] = tags
    return view


def _duplicate(name: str) -> EC2Error:
    return EC2Error("InvalidPlacementGroup.Duplicate", f"The placement group '{name}' already exists.")


def _invalid_name(name: str) -> EC2Error:
    return EC2Error("InvalidParameterValue", f"OpenNebula does not accept the name '{name}' for a placement group.")
