"""Work that outlives requests: the context of a chore, and how it reports that work may be left to do.

A chore finishes one kind of work that requests begin and cannot wait for (docs/design.md, "Work after a request is
recorded first"). The work is recorded on OpenNebula's objects, so any process can do it, and doing it twice is
harmless. Chores are listed in `econed.catalogue` and run by `econed.reconciler`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from econed.errors import OpenNebulaCode, OpenNebulaRefusal
from econed.opennebula.pools import OwnerFilter, StateFilter

if TYPE_CHECKING:
    from econed.opennebula.documents import UserDocument, VirtualMachine
    from econed.opennebula.session import Session
    from econed.opennebula.states import VmState


@dataclass
class ChoreRun:
    """One run of the chores for one user; `now` is in seconds since the epoch.

    Everything is done in `session`, the user's own. When the user's watch expires the run is thorough: each chore then
    looks for everything that it may ever have to finish, and calls `keep_watching` if there is anything. If no chore
    does, the user is no longer watched.
    """

    session: Session
    user: UserDocument
    now: int
    is_thorough: bool
    log: Logger
    keeps_watching: bool = field(default=False, init=False)

    def keep_watching(self) -> None:
        """Report that work may be left to do later."""
        self.keeps_watching = True

    async def machines(
        self, state: VmState | StateFilter, owner: int = OwnerFilter.MINE
    ) -> AsyncGenerator[VirtualMachine, None]:
        """Yield the machines in a state, or `StateFilter.NOT_DONE`, with all their attributes."""
        async with aclosing(self.session.vm_sets(await self.session.vm_ids(owner, state))) as sets:
            async for machines in sets:
                for machine in machines:
                    yield machine


Chore = Callable[[ChoreRun], Awaitable[None]]


async def change_unless_done(change: Coroutine[Any, Any, None]) -> None:
    """Make a change, and ignore the refusal of oned if another process has made it already; not that of a quota."""
    try:
        await change
    except OpenNebulaRefusal as refusal:
        if refusal.is_quota or refusal.code not in (OpenNebulaCode.ACTION, OpenNebulaCode.NO_EXISTS):
            raise
