"""Finding security groups by id or by name, and what is stored of them beside their rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from econed.actions.by_id import find_by_ids
from econed.actions.security_groups.names import ec2_name, opennebula_name
from econed.errors import EC2Error
from econed.ids import DEFAULT_VPC_NUMBER, SECURITY_GROUP, VPC
from econed.opennebula.pools import OwnerFilter
from econed.opennebula.security_groups import DEFAULT_SECURITY_GROUP
from econed.opennebula.template import attribute, decode_member, encode_member, member_names, template
from econed.opennebula.values import whole_number

if TYPE_CHECKING:
    from collections.abc import Iterable

    from econed.actions.call import Call
    from econed.actions.networks.lookup import Vpc
    from econed.opennebula.documents import SecurityGroup

MAX_GROUPS: Final = 2500
"""Security groups of one user (EC2, "Amazon VPC quotas")."""

DEFAULT_NAME: Final = "default"
"""The name of the group that every VPC has, which no other group may have."""

_NAME = "EC2_GROUP_NAME"
_DESCRIPTION = "EC2_DESCRIPTION"
_VPC = "EC2_VPC_ID"


def facts_text(name: str, description: str, vpc_number: int) -> str:
    """Return the template text with the name of a new group, its description, and its VPC."""
    unique_name = opennebula_name(name, vpc_number)
    facts = {**encode_member(_DESCRIPTION, description)}
    if unique_name != name:
        facts |= encode_member(_NAME, name)
    if vpc_number != DEFAULT_VPC_NUMBER:
        facts[_VPC] = str(vpc_number)
    return template(attribute("NAME", unique_name), *(attribute(key, value) for key, value in facts.items()))


def group_name(group: SecurityGroup) -> str:
    """Return the name of a group in EC2: that of OpenNebula if it was renamed there."""
    name = _fact(group, _NAME)
    is_current = name is not None and opennebula_name(name, vpc_number_of(group)) == group.name
    return name if name is not None and is_current else ec2_name(group.name)


def group_description(group: SecurityGroup) -> str:
    """Return the description of a group; of one that was made in OpenNebula, OpenNebula's."""
    description = _fact(group, _DESCRIPTION)
    return group.template.text("DESCRIPTION") if description is None else description


def vpc_number_of(group: SecurityGroup) -> int:
    """Return the number of the VPC of a group (`econed.ids.VPC`)."""
    number = whole_number(group.template.text(_VPC))
    return DEFAULT_VPC_NUMBER if number is None else number


def vpc_id_of(group: SecurityGroup) -> str:
    """Return the EC2 id of the VPC of a group."""
    return VPC.format(vpc_number_of(group))


def is_default_group(group: SecurityGroup) -> bool:
    """Whether a group is that of a VPC of a user which instances without groups get."""
    number = vpc_number_of(group)
    return number != DEFAULT_VPC_NUMBER and group.name == opennebula_name(DEFAULT_NAME, number)


async def visible_groups(call: Call, group_ids: Sequence[int]) -> tuple[SecurityGroup, ...]:
    """Return the groups with these OpenNebula ids that the caller may USE."""
    groups = await call.session.security_groups(OwnerFilter.VISIBLE, min(group_ids), max(group_ids))
    return tuple(group for group in groups if group.id in frozenset(group_ids))


async def find_groups(
    call: Call, ids: Sequence[str], names: Sequence[str] = (), vpc: Vpc | None = None
) -> tuple[SecurityGroup, ...]:
    """Return the groups that the caller may USE with these EC2 ids, then those with these names, each once.

    Names are those of groups of `vpc`; None: of the default VPC. Raises `EC2Error` InvalidGroupId.Malformed or
    InvalidGroup.NotFound.
    """
    named = await find_by_ids(SECURITY_GROUP, ids, lambda ids: visible_groups(call, ids))
    groups = {group.id: group for group in named}
    if names:
        number = DEFAULT_VPC_NUMBER if vpc is None else vpc.number
        by_name = _by_name(call, await call.session.security_groups(), number)
        for name in names:
            if name not in by_name:
                raise group_not_found(name)
            groups.setdefault(by_name[name].id, by_name[name])
    return tuple(groups.values())


async def find_group(call: Call, group_id: str, name: str) -> SecurityGroup:
    """Return the group that a request names by its id or, in the default VPC, by its name; raises as `find_groups`.

    Also `EC2Error` MissingParameter or InvalidParameterCombination.
    """
    if not group_id and not name:
        raise EC2Error("MissingParameter", "The request must contain the parameter groupId or groupName")
    if group_id and name:
        raise EC2Error(
            "InvalidParameterCombination", "The parameter GroupName cannot be used with the parameter GroupId"
        )
    (group,) = await find_groups(call, [group_id] if group_id else [], [name] if name else [])
    return group


def group_not_found(name: str) -> EC2Error:
    """Return the error for a name that no group has which the caller may USE."""
    return EC2Error("InvalidGroup.NotFound", f"The security group '{name}' does not exist")


def _by_name(call: Call, groups: Iterable[SecurityGroup], vpc_number: int) -> Mapping[str, SecurityGroup]:
    """Return the groups of a VPC by name; of several that have the name, `default` of OpenNebula, then the caller's."""
    by_name: dict[str, SecurityGroup] = {}

    def rank(group: SecurityGroup) -> tuple[bool, bool, int]:
        return group.id != DEFAULT_SECURITY_GROUP, group.uid != call.caller.id, group.id

    for group in sorted(groups, key=rank):
        if vpc_number_of(group) == vpc_number:
            by_name.setdefault(group_name(group), group)
    return by_name


def _fact(group: SecurityGroup, name: str) -> str | None:
    stored = {key: group.template.text(key) for key in member_names(name) if key in group.template}
    return decode_member(stored, name)
