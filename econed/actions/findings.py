"""What `econe-server doctor` looks for: what a finder is given, and how it says what it found and how to mend it.

A finder knows one kind of thing that is not as it should be, stands beside the actions that it concerns, and is listed
in `econed.catalogue`. Its docstring's first line is what people are shown of it. Mending happens in the session of the
user to whom the thing belongs, and doing it twice does no harm: another process may be at the same.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from econed.opennebula.session import VISIBLE, Session

if TYPE_CHECKING:
    from econed.interfaces import IOpenNebula
    from econed.opennebula.documents import UserDocument, VirtualMachine
    from econed.settings import Settings


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be.

    `what` is it in words, with the names under which OpenNebula's own commands know it. `mend` puts it right and
    `remedy` says how; both are None where only a person can.
    """

    what: str
    remedy: str | None = None
    mend: Callable[[], Awaitable[None]] | None = None


@dataclass(frozen=True)
class Examination:
    """A cloud as a finder looks at it.

    `users` are all users, `now` the time in seconds since the epoch. `serveradmin` sees everything and is for looking.
    """

    one: IOpenNebula
    settings: Settings
    now: int
    users: tuple[UserDocument, ...]

    @property
    def serveradmin(self) -> Session:
        """Return serveradmin's own session."""
        return Session(self.one, None)

    def session_of(self, user_id: int) -> Session | None:
        """Return the session of a user, in which what is his is mended; None if there is no such user any more."""
        return next((Session(self.one, user.name) for user in self.users if user.id == user_id), None)

    async def machines(self, state: int, owner: int = VISIBLE) -> AsyncGenerator[VirtualMachine, None]:
        """Yield the machines of all users in a state, or `session.NOT_DONE`, with all their attributes."""
        session = self.serveradmin
        async with aclosing(session.vm_sets(await session.vm_ids(owner, state))) as sets:
            async for each in sets:
                for machine in each:
                    yield machine


Finder = Callable[[Examination], AsyncIterator[Finding]]


async def examine(examination: Examination, finder: Finder) -> list[Finding]:
    """Return all that a finder finds."""
    return [finding async for finding in finder(examination)]
