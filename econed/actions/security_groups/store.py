"""Changing the rules of a group, so that RULE holds them when the change is answered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from econed.actions.object_limits import MAX_ON_GROUP, check_size
from econed.actions.security_groups.lookup import find_group, visible_groups
from econed.actions.security_groups.records import GroupRules, Record, tag_prefix
from econed.actions.security_groups.rules import TrafficRule, not_opened
from econed.actions.tagging import tag_text, too_many_tags
from econed.actions.tasks import TaskGroup
from econed.actions.watch import watch_caller
from econed.errors import EC2Error
from econed.ids import SECURITY_GROUP
from econed.opennebula.documents import Right
from econed.opennebula.template import template

if TYPE_CHECKING:
    from econed.actions.call import Call
    from econed.opennebula.documents import SecurityGroup, UserDocument

MAX_RULES: Final = 60
"""Rules of a group in each direction (EC2, "Amazon VPC quotas")."""

_MAX_ATTEMPTS: Final = 10
"""Times that RULE is written for one request; more only where requests for the group never pause."""

_PAUSE: Final = 0.2
"""Seconds between two attempts."""

_MAX_READS: Final = 20
"""Times that a group is read to see whether another request has changed it so that a change becomes possible."""

_READ_PAUSE: Final = 0.5
"""Seconds between two of these reads."""


@dataclass(frozen=True)
class GroupToChange:
    """A group whose rules a request changes, and the document of the caller, who is watched meanwhile."""

    group: SecurityGroup
    caller: UserDocument


async def find_group_to_change(call: Call, group_id: str, name: str) -> GroupToChange:
    """Return the group that a request names, as `find_group` does."""
    async with TaskGroup() as tasks:
        group = tasks.start(find_group(call, group_id, name))
        caller = tasks.start(call.session.current_user())
    return GroupToChange(group.result, caller.result)


Change = Callable[[GroupRules], Mapping[str, Record]]
"""Returns the rules that a group is to have, by id; raises `EC2Error` where the request cannot be carried out."""


async def change_rules(
    call: Call, target: GroupToChange, change: Change, tags_of_new: Mapping[str, str] | None = None
) -> tuple[GroupRules, Mapping[str, Record]]:
    """Change the rules of a group; return the rules before and after, by id, once RULE holds them.

    `tags_of_new` are the tags of the rules that are new. Raises what `change` raises, before anything is changed;
    `EC2Error` RulesPerSecurityGroupLimitExceeded, TagLimitExceeded, or UnsupportedOperation for a rule for ::/0 without
    the one for 0.0.0.0/0; RequestLimitExceeded, after which SDKs retry, if other requests keep changing the group.
    """
    before, records = await _possible(call, target.group, change)
    group = before.group
    new = [record for record in records.values() if record.id not in before.records]
    tags = template(*(tag_text(tags_of_new or {}, tag_prefix(record.id)) for record in new))
    text = before.text(records.values(), tags)
    check_size(group.template, text, MAX_ON_GROUP, too_many_tags())
    await watch_caller(call, target.caller)
    await call.change_all(Right.MANAGE, [group], lambda group: call.session.security_group_update(group.id, text))
    await _settle(call, group)
    return before, records


async def _possible(call: Call, group: SecurityGroup, change: Change) -> tuple[GroupRules, Mapping[str, Record]]:
    """Return the rules of a group before and after a change that OpenNebula can carry out.

    Where a rule for ::/0 would be without the one for 0.0.0.0/0, another request for the latter may be in progress:
    Terraform adds and removes both at once, in two requests. This waits for it for some seconds.
    """
    reads = 1 if call.dry_run else _MAX_READS
    while True:
        before = GroupRules(group)
        records = change(before)
        _check_count(before, records)
        alone = sorted(not_opened([record.rule for record in records.values()]), key=lambda rule: rule.key)
        if not alone:
            return before, records
        reads -= 1
        if not reads:
            raise _without_ipv4(alone[0])
        await call.pause(_READ_PAUSE)
        group = await _current(call, group)


def _without_ipv4(rule: TrafficRule) -> EC2Error:
    return EC2Error(
        "UnsupportedOperation",
        "A rule of OpenNebula for all IPv6 addresses is for all IPv4 addresses too, so a rule for ::/0 needs one "
        f"for 0.0.0.0/0 with the same protocol and ports ({rule.text}). Add both together; remove both together, "
        "or the one for ::/0 first.",
    )


async def _settle(call: Call, group: SecurityGroup) -> None:
    """Write RULE until it holds the rules that the records say; another request may have overwritten it."""
    for _ in range(_MAX_ATTEMPTS):
        rules = GroupRules(await _current(call, group))
        if rules.is_settled:
            return
        await call.session.security_group_update(group.id, rules.text(rules.records.values()))
        await call.pause(_PAUSE)
    raise EC2Error("RequestLimitExceeded", "Other requests keep changing this security group. Try again.", 503)


async def _current(call: Call, group: SecurityGroup) -> SecurityGroup:
    """Read a group again."""
    current = await visible_groups(call, [group.id])
    if not current:
        raise SECURITY_GROUP.not_found(SECURITY_GROUP.format(group.id))
    return current[0]


def _check_count(before: GroupRules, after: Mapping[str, Record]) -> None:
    for is_egress in (False, True):
        count = _count(after.values(), is_egress)
        if count > max(MAX_RULES, _count(before.records.values(), is_egress)):
            raise EC2Error(
                "RulesPerSecurityGroupLimitExceeded",
                f"The maximum number of rules per security group has been reached: {MAX_RULES} in each direction.",
            )


def _count(records: Iterable[Record], is_egress: bool) -> int:
    return sum(record.rule.is_egress == is_egress for record in records)
