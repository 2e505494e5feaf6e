"""Finders of `econe-server doctor`: the cloud that they examine, and the findings that they report.

A finder looks for one kind of inconsistency. It is a function beside the actions that it concerns, listed in
`econed.catalogue`, and `doctor` prints the first line of its docstring. Repairs are made in the session of the user who
owns the object, and may be made twice, because another process may do the same.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from econed.opennebula.pools import OwnerFilter, StateFilter
from econed.opennebula.session import Session

if TYPE_CHECKING:
    from econed.config.settings import Settings
    from econed.interfaces import IOpenNebula
    from econed.opennebula.documents import UserDocument, VirtualMachine
    from econed.opennebula.states import VmState


@dataclass(frozen=True)
class Finding:
    """One inconsistency.

    `what` describes it, with the names that OpenNebula's own commands use. `repair` repairs it and `remedy` says how;
    both are None if only an administrator can.
    """

    what: str
    remedy: str | None = None
    repair: Callable[[], Awaitable[None]] | None = None


@dataclass(frozen=True)
class Examination:
    """The cloud that a finder examines.

    `users` are the names of all users by id, None if a user's document cannot be read. `now` is in seconds
    since the epoch. `serveradmin` may see everything, and is only for reading.
    """

    oned: IOpenNebula
    settings: Settings
    now: int
    users: Mapping[int, str | None]

    @property
    def serveradmin(self) -> Session:
        """Return serveradmin's own session."""
        return Session(self.oned, None)

    def session_of(self, user_id: int) -> Session | None:
        """Return the session of a user, for repairs of what they own; None if their name is not known."""
        name = self.users.get(user_id)
        return None if name is None else Session(self.oned, name)

    async def machines(
        self, state: VmState | StateFilter, owner: int = OwnerFilter.VISIBLE
    ) -> AsyncGenerator[VirtualMachine, None]:
        """Yield the machines of all users in a state, or `StateFilter.NOT_DONE`, with all their attributes."""
        session = self.serveradmin
        async with aclosing(session.vm_sets(await session.vm_ids(owner, state))) as sets:
            async for machines in sets:
                for machine in machines:
                    yield machine


Finder = Callable[[Examination], AsyncIterator[Finding]]


async def examine(examination: Examination, finder: Finder) -> list[Finding]:
    """Return all findings of a finder."""
    return [finding async for finding in finder(examination)]


async def all_users(session: Session) -> dict[int, str | None]:
    """Return the names of all users by id, in the form of `Examination.users`.

    Each user is read alone, as the daemon does after the first time: in the pool of all users it would find a document
    that is too long only if all together are.
    """
    names: dict[int, str | None] = {}

    async def visit(user: UserDocument) -> None:
        names[user.id] = user.name

    await session.visit_each_user(visit, lambda user_id: names.update({user_id: None}))
    return names


async def users_left_out(examination: Examination) -> AsyncIterator[Finding]:
    """Users whose document econed cannot read: they cannot use EC2."""
    for user_id, name in examination.users.items():
        if name is None:
            yield Finding(f"the document of user {user_id} is too long or malformed; see oneuser show {user_id}")
