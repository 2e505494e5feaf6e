"""Whether a new network of a user would be theirs alone: oned's access control lists may open it to others.

Every group has the rule `NET/* USE` from its creation: its users may USE every network, those of other users too. They
could then put machines into a VPC, or reserve its addresses. Permission bits do not prevent this, so a VPC is not made
as long as there is such a rule. oned does not apply rules for several networks to reservations, which subnets are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from econed.errors import EC2Error
from econed.opennebula.access import ADMINISTRATORS, ONEADMIN, Group, Operation, Resource, Rule

if TYPE_CHECKING:
    from collections.abc import Sequence

_OPENING = frozenset({Operation.USE, Operation.MANAGE, Operation.ADMIN})


@dataclass(frozen=True)
class NewNetwork:
    """What rules can be about that does not name a network by its id: its owner, group, clusters, and zone."""

    owner_id: int
    group_id: int
    cluster_ids: Collection[int]
    zone_id: int


def opening_rule(network: NewNetwork, rules: Iterable[Rule], groups: Iterable[Group]) -> Rule | None:
    """Return the rule by which others than its owner may use a new network; None if nobody may.

    Others are not oneadmin, members of oneadmin's group, and the administrators of the owner's group, who have rights
    on all objects of the group by OpenNebula's own rules. A rule for a group counts even if the owner is its only
    member.
    """
    insiders = {network.owner_id, ONEADMIN}
    for group in groups:
        if group.id == ADMINISTRATORS:
            insiders.update(group.user_ids)
        if group.id == network.group_id:
            insiders.update(group.admin_ids)
    for rule in rules:
        is_about_it = rule.is_for_zone(network.zone_id) and rule.covers(
            Resource.NET, None, network.group_id, network.cluster_ids
        )
        if is_about_it and rule.operations & _OPENING and rule.is_for_others(insiders):
            return rule
    return None


def check_private(network: NewNetwork, rules: Sequence[Rule], groups: Sequence[Group]) -> None:
    """Raise `EC2Error` UnsupportedOperation, with the way out, if others may use a new network."""
    rule = opening_rule(network, rules, groups)
    if rule is not None:
        raise EC2Error(
            "UnsupportedOperation",
            f"The VPC would not be private: {reason(rule)}. {WAY_OUT.format(rule.id)}",
        )


def reason(rule: Rule) -> str:
    """Return what a rule does, for messages."""
    return f"OpenNebula's rule {rule.id} ({rule.text}) lets others use networks that do not belong to them"


WAY_OUT = (
    "An administrator shares the networks that users need, for example with 'onevnet chmod NETWORK 644', and then "
    "removes the rule with 'oneacl delete {}'."
)
