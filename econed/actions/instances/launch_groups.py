"""The security groups of the interfaces of a launch, and whether they protect them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from twisted.logger import Logger

from econed.actions.networks.protection import why_unprotected
from econed.actions.security_groups.lookup import DEFAULT_NAME, find_groups, is_default_group, vpc_number_of
from econed.errors import EC2Error
from econed.ids import SECURITY_GROUP
from econed.opennebula.security_groups import DEFAULT_SECURITY_GROUP

if TYPE_CHECKING:
    from econed.actions.call import Call
    from econed.actions.networks.lookup import Subnet
    from econed.config.settings import Settings
    from econed.opennebula.documents import SecurityGroup

MAX_PER_INTERFACE = 5
"""Security groups of one interface (EC2, "Amazon VPC quotas")."""


@dataclass(frozen=True)
class GroupNames:
    """The security groups that a request names, for all interfaces or for one: EC2 ids, and names."""

    ids: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, ids: Iterable[str], names: Iterable[str] = ()) -> GroupNames:
        """Return those of the texts that are not empty, each once.

        Raises `EC2Error` SecurityGroupsPerInterfaceLimitExceeded if there are too many.
        """
        named = cls(tuple(dict.fromkeys(filter(None, ids))), tuple(dict.fromkeys(filter(None, names))))
        if len(named.ids) + len(named.names) > MAX_PER_INTERFACE:
            raise too_many_groups()
        return named

    def __bool__(self) -> bool:
        return bool(self.ids or self.names)


NO_GROUPS = GroupNames()


async def groups_by_names(
    call: Call, requested: Iterable[GroupNames]
) -> Mapping[GroupNames, tuple[SecurityGroup, ...]]:
    """Return the groups that the caller may USE, by how they are named; raises the errors of `find_groups`."""
    distinct = [names for names in dict.fromkeys(requested) if names]
    if not distinct:
        return {}
    if len(distinct) == 1:
        (only,) = distinct
        return {only: await find_groups(call, only.ids, only.names)}
    ids = [text for names in distinct for text in names.ids]
    by_id = {group.id: group for group in await find_groups(call, ids)}
    return {names: tuple(by_id[SECURITY_GROUP.parse(text)] for text in names.ids) for names in distinct}


@dataclass(frozen=True)
class DefaultGroups:
    """The default security groups of VPCs of users, by the number of the VPC: those of instances without groups."""

    by_vpc: Mapping[int, SecurityGroup]

    def of(self, subnet: Subnet | None) -> tuple[int, ...]:
        """Return the OpenNebula ids of the groups of an interface in a subnet for which no group is named.

        None in the default VPC, whose networks have groups of their own, and where `subnet` is None. Raises `EC2Error`
        InvalidGroup.NotFound in a VPC without default group: a NIC without any group would not be filtered.
        """
        if subnet is None or subnet.vpc.is_default:
            return ()
        group = self.by_vpc.get(subnet.vpc.number)
        if group is None:
            raise EC2Error(
                "InvalidGroup.NotFound",
                f"The security group '{DEFAULT_NAME}' does not exist in VPC '{subnet.vpc.id}': specify security groups",
            )
        return (group.id,)


async def default_groups(call: Call, subnets: Iterable[Subnet | None]) -> DefaultGroups:
    """Return the default groups of the VPCs of subnets; nothing is read for subnets of the default VPC only.

    The group is the one that the owner of the VPC has: others may share groups that look like it.
    """
    vpcs = [subnet.vpc for subnet in subnets if subnet is not None]
    owners = {vpc.number: vpc.network.uid for vpc in vpcs if vpc.network is not None}
    groups = await call.session.security_groups() if owners else ()
    found = {
        number: group
        for group in groups
        if is_default_group(group) and owners.get(number := vpc_number_of(group)) == group.uid
    }
    return DefaultGroups(found)


@dataclass(frozen=True)
class Protection:
    """Checks that security groups protect the instances of one user, as the settings say."""

    settings: Settings
    user: str
    log: Logger = field(default_factory=partial(Logger, namespace="econed.networks"))

    def check(self, groups: Sequence[SecurityGroup], subnet: Subnet | None, *, are_only: bool = False) -> None:
        """Check that groups are of the VPC of a subnet, and protect what is in it.

        If they `are_only` groups of an interface, those of its network are not added to them.

        Raises `EC2Error` InvalidParameter for a group of another VPC and, unless `network_security_group` is warn,
        InvalidParameterCombination if traffic may pass that none of the groups allows. `subnet` is None if OpenNebula
        chooses the network later.
        """
        group_ids = {group.id for group in groups}
        if subnet is None:
            if DEFAULT_SECURITY_GROUP not in group_ids:
                self._refuse_or_warn("OpenNebula chooses the network of the instance later: specify SubnetId")
            return
        for group in groups:
            if vpc_number_of(group) != subnet.vpc.number:
                group_id = SECURITY_GROUP.format(group.id)
                raise EC2Error(
                    "InvalidParameter",
                    f"Security group {group_id} and subnet {subnet.id} belong to different networks.",
                )
        all_ids = group_ids.union(subnet.network.security_group_ids) if are_only else group_ids
        is_open = DEFAULT_SECURITY_GROUP in group_ids
        reason = None if is_open else why_unprotected(subnet.network, all_ids, self.settings.filtering_drivers)
        if reason is not None:
            self._refuse_or_warn(
                f"the security groups do not protect an instance in {subnet.id}: {reason}. Choose another subnet; an "
                "administrator of the cloud can change this one"
            )

    def check_aliases(self, groups: Iterable[SecurityGroup], has_aliases: bool) -> None:
        """Check that no alias gets around groups: those of its NIC do not filter what is sent to the alias.

        Raises `EC2Error` InvalidParameterCombination unless `network_security_group` is warn.
        """
        if has_aliases and DEFAULT_SECURITY_GROUP not in {group.id for group in groups}:
            self._refuse_or_warn(
                "the security groups do not protect an instance with NIC_ALIAS: OpenNebula does not apply them to what "
                "is sent to the address of an alias. Choose another instance type"
            )

    def _refuse_or_warn(self, reason: str) -> None:
        if self.settings.network_security_group == "refuse":
            raise EC2Error("InvalidParameterCombination", f"{reason[:1].upper()}{reason[1:]}.")
        self.log.warn("{user}: {reason}, and network_security_group is warn", user=self.user, reason=reason)


def too_many_groups() -> EC2Error:
    """Return the error for an interface with too many security groups."""
    return EC2Error(
        "SecurityGroupsPerInterfaceLimitExceeded",
        f"The maximum number of security groups per interface has been reached. ({MAX_PER_INTERFACE})",
    )
