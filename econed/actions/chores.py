"""Work that outlives requests: what a chore is given, and how it says that something may still be left to do.

A chore finishes one kind of thing that requests begin and cannot wait for (docs/design.md, "What outlives a request is
written down first"). What is to be done stands on OpenNebula's objects, so that any process can do it; doing it twice
does no harm. Chores are listed in `econed.catalogue` and run by `econed.reconciler`.
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
class Look:
    """One look after one user: his session, in which everything is done, and the time in seconds since the epoch.

    A `thorough` look comes when the user has been watched for his span; a chore then looks for everything that it
    may ever have to finish, and calls `keep` if there is anything. Nobody keeping, the user is watched no more.
    """

    session: Session
    user: UserDocument
    now: int
    thorough: bool
    log: Logger
    kept: bool = field(default=False, init=False)

    def keep(self) -> None:
        """Say that something may still be left to do later."""
        self.kept = True

    async def machines(
        self, state: VmState | StateFilter, owner: int = OwnerFilter.MINE
    ) -> AsyncGenerator[VirtualMachine, None]:
        """Yield the machines in a state, or `StateFilter.NOT_DONE`, with all their attributes."""
        async with aclosing(self.session.vm_sets(await self.session.vm_ids(owner, state))) as sets:
            async for each in sets:
                for machine in each:
                    yield machine


Chore = Callable[[Look], Awaitable[None]]


async def unless_moved_on(change: Coroutine[Any, Any, None]) -> None:
    """Make a change that another process may have made already."""
    try:
        await change
    except OpenNebulaRefusal as refusal:
        if refusal.code not in (OpenNebulaCode.ACTION, OpenNebulaCode.NO_EXISTS):
            raise
