"""The chore that finishes what requests left to do for security groups."""

from __future__ import annotations

from typing import TYPE_CHECKING

from econed.actions.chores import change_unless_done
from econed.actions.security_groups.records import unsettled
from econed.opennebula.pools import OwnerFilter

if TYPE_CHECKING:
    from econed.actions.chores import ChoreRun


async def settle_groups(run: ChoreRun) -> None:
    """Write RULE where it does not hold the rules of the user's groups: a process died, or others wrote it."""
    for rules in unsettled(await run.session.security_groups(OwnerFilter.MINE)):
        text = rules.text(rules.records.values())
        await change_unless_done(run.session.security_group_update(rules.group.id, text))
