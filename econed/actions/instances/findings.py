"""Machines that RunInstances left over (for `econe-server doctor`)."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial

from econed.actions.findings import Examination, Finding
from econed.actions.instances.chores import HOLD_AGE
from econed.actions.machines.facts import DISCARDED, LAUNCH_INDEX
from econed.opennebula.pools import StateFilter
from econed.opennebula.session import Session
from econed.opennebula.states import VmState
from econed.opennebula.template import attribute


async def machines_left_over(examination: Examination) -> AsyncGenerator[Finding, None]:
    """Machines that RunInstances created and that never became instances."""
    async with aclosing(examination.machines(StateFilter.NOT_DONE)) as machines:
        async for machine in machines:
            facts = machine.user_template
            if LAUNCH_INDEX not in facts or machine.stime >= examination.now - HOLD_AGE:
                continue
            if DISCARDED in facts:
                problem = "was discarded by RunInstances but not terminated"
            elif machine.state is VmState.HOLD:
                problem = "was left on HOLD by an unfinished RunInstances"
            else:
                continue
            session = examination.session_of(machine.uid) or examination.serveradmin
            yield Finding(
                f"machine {machine.id} of {machine.uname} {problem}",
                "terminate it (terminate-hard)",
                partial(_terminate, session, machine.id),
            )


async def _terminate(session: Session, machine_id: int) -> None:
    await session.vm_update(machine_id, attribute(DISCARDED, "YES"))
    await session.vm_action("terminate-hard", machine_id)
