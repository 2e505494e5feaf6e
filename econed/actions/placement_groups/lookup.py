"""Which VM groups are placement groups, and finding them by name or id.

A VM group with a single role is one, if the role keeps its machines on one host or each on another. Other VM groups
say more than a placement group can.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from econed.errors import EC2Error
from econed.ids import PLACEMENT_GROUP

if TYPE_CHECKING:
    from econed.actions.call import Call
    from econed.opennebula.documents import VmGroup

Strategy = Literal["cluster", "spread"]

POLICIES: Final[Mapping[Strategy, str]] = MappingProxyType({"cluster": "AFFINED", "spread": "ANTI_AFFINED"})
"""The policy of the role for each strategy."""

_STRATEGIES = MappingProxyType({policy: strategy for strategy, policy in POLICIES.items()})


@dataclass(frozen=True)
class PlacementGroup:
    """A VM group as a placement group: `role` is the name of its only role."""

    group: VmGroup
    strategy: Strategy
    role: str
    vm_ids: tuple[int, ...]

    @property
    def name(self) -> str:
        """The name, which is unique among those of the owner."""
        return self.group.name

    @property
    def id(self) -> str:
        """The EC2 id."""
        return PLACEMENT_GROUP.format(self.group.id)

    @property
    def members(self) -> Mapping[str, str]:
        """The members of the VMGROUP of a machine in it; the name is only for those who read the machine."""
        return {"VMGROUP_ID": str(self.group.id), "VMGROUP_NAME": self.name, "ROLE": self.role}

    @classmethod
    def of(cls, group: VmGroup) -> PlacementGroup | None:
        """Return a VM group as a placement group; None if it is none."""
        roles = group.roles
        if len(roles) != 1 or (strategy := _STRATEGIES.get(roles[0].policy)) is None:
            return None
        return cls(group, strategy, roles[0].name, roles[0].vm_ids)


async def placement_groups(call: Call) -> tuple[PlacementGroup, ...]:
    """Return the placement groups that the caller may USE, lowest id first (one.vmgrouppool.info)."""
    groups = sorted(await call.session.vm_groups(), key=lambda group: group.id)
    return tuple(found for group in groups if (found := PlacementGroup.of(group)) is not None)


async def find_placement_group(call: Call, name: str, group_id: str = "") -> PlacementGroup:
    """Return the placement group with a name, the caller's own before others', or with an id.

    Raises `EC2Error` InvalidPlacementGroup.Unknown, or InvalidParameterCombination if both are given.
    """
    if name and group_id:
        raise EC2Error("InvalidParameterCombination", "GroupName and GroupId cannot be given together.")
    groups = await placement_groups(call)
    if group_id:
        (found,) = with_ids(groups, [group_id])
        return found
    return named(call, groups, [name])[0]


def named(call: Call, groups: Iterable[PlacementGroup], names: Sequence[str]) -> list[PlacementGroup]:
    """Return the groups with these names, in this order, each once; raises `EC2Error` InvalidPlacementGroup.Unknown."""
    by_name: dict[str, PlacementGroup] = {}
    for group in sorted(groups, key=lambda group: (group.group.uid != call.caller.id, group.group.id)):
        by_name.setdefault(group.name, group)
    for name in names:
        if name not in by_name:
            raise unknown(name)
    return [by_name[name] for name in dict.fromkeys(names)]


def with_ids(groups: Iterable[PlacementGroup], ids: Sequence[str]) -> list[PlacementGroup]:
    """Return the groups with these EC2 ids, in this order, each once.

    Raises `EC2Error` InvalidPlacementGroupId.Malformed or InvalidPlacementGroup.Unknown.
    """
    by_id = {group.group.id: group for group in groups}
    numbers = {PLACEMENT_GROUP.parse(text): text for text in ids}
    for number, text in numbers.items():
        if number not in by_id:
            raise PLACEMENT_GROUP.not_found(text)
    return [by_id[number] for number in numbers]


async def find_changeable_groups(call: Call, ids: Sequence[str]) -> list[PlacementGroup]:
    """Return the placement groups with these EC2 ids, whose tags can be changed.

    Raises the errors of `with_ids`, and `EC2Error` IncorrectState if instances are in one.
    """
    groups = with_ids(await placement_groups(call), ids) if ids else []
    for group in groups:
        if group.vm_ids:
            raise tags_are_fixed(group)
    return groups


def tags_are_fixed(group: PlacementGroup) -> EC2Error:
    """Return the error for a change of the tags of a group that instances are in."""
    return EC2Error(
        "IncorrectState",
        f"Instances are in the placement group '{group.id}': until they are terminated, OpenNebula does not change its "
        "tags.",
    )


def unknown(name: str) -> EC2Error:
    """Return the error for a name that no placement group has which the caller may USE."""
    return EC2Error("InvalidPlacementGroup.Unknown", f"The Placement Group '{name[:255]}' is unknown.")
