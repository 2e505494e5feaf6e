"""What `econe-server doctor` looks for: what a finder is given, and how it says what it found and how to mend it.

A finder knows one kind of thing that is not as it should be, stands beside the actions that it concerns, and is listed
in `econed.catalogue`. Its docstring's first line is what people are shown of it. Mending happens in the session of the
user to whom the thing belongs, and doing it twice does no harm: another process may be at the same.
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
    """One thing that is not as it should be.

    `what` is it in words, with the names under which OpenNebula's own commands know it. `repair` puts it right and
    `remedy` says how; both are None where only a person can.
    """

    what: str
    remedy: str | None = None
    repair: Callable[[], Awaitable[None]] | None = None


@dataclass(frozen=True)
class Examination:
    """A cloud as a finder looks at it.

    `users` are the names of all users by their ids, None where a user's document is too long to be read. `now` is the
    time in seconds since the epoch. `serveradmin` sees everything and is for looking.
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
        """Return the session of a user, in which what is theirs is mended; None if their name is not known."""
        name = self.users.get(user_id)
        return None if name is None else Session(self.oned, name)

    async def machines(
        self, state: VmState | StateFilter, owner: int = OwnerFilter.VISIBLE
    ) -> AsyncGenerator[VirtualMachine, None]:
        """Yield the machines of all users in a state, or `StateFilter.NOT_DONE`, with all their attributes."""
        session = self.serveradmin
        async with aclosing(session.vm_sets(await session.vm_ids(owner, state))) as sets:
            async for each in sets:
                for machine in each:
                    yield machine


Finder = Callable[[Examination], AsyncIterator[Finding]]


async def examine(examination: Examination, finder: Finder) -> list[Finding]:
    """Return all that a finder finds."""
    return [finding async for finding in finder(examination)]


async def all_users(session: Session) -> dict[int, str | None]:
    """Return all users as `Examination.users` has them."""
    found: dict[int, str | None] = {}

    async def visit(user: UserDocument) -> None:
        found[user.id] = user.name

    await session.visit_users(visit, lambda user_id: found.update({user_id: None}))
    return found


async def users_left_out(examination: Examination) -> AsyncIterator[Finding]:
    """Users whose document is too long for econed to read: they cannot use EC2."""
    for user_id, name in examination.users.items():
        if name is None:
            yield Finding(f"the document of user {user_id} is too long to be read; see oneuser show {user_id}")
