"""Work that outlives a request, and how any process finds it: a date on the user for whom something may be left to do.

What is to be done is written on the object that it concerns (docs/design.md, "Work after a request is recorded
first"). Reading the objects of all users just to find them would cost oned more than the users do; the date says whose
are worth reading.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from econed.opennebula.template import attribute, removal
from econed.opennebula.values import epoch_seconds

if TYPE_CHECKING:
    from econed.actions.call import Call
    from econed.opennebula.documents import UserDocument
    from econed.opennebula.session import Session

WATCHED_UNTIL = "EC2_WATCHED_UNTIL"
"""Attribute of a user: until when (epoch seconds) the reconciler looks through what is his."""

TERMINATING_SINCE = "EC2_TERMINATING_SINCE"
"""Attribute of a user: when (epoch seconds) a machine of his was last told to end that oned did not take at once."""

_FRESH = 300
"""Seconds for which the date of TERMINATING_SINCE is not written again."""

SPAN = 24 * 3600
"""Seconds for which a user is watched after something was left to do."""


def watched_until(user: UserDocument) -> int | None:
    """Return until when a user is to be watched; None if nothing was ever left to do, or all of it is done."""
    return epoch_seconds(user.attribute(WATCHED_UNTIL))


async def watch(session: Session, user: UserDocument, now: int) -> None:
    """Have a user watched from now on; written only when the date that stands there comes near."""
    until = watched_until(user)
    if until is None or until - now < SPAN // 2:
        await session.user_update(user.id, attribute(WATCHED_UNTIL, str(now + SPAN)))


async def watch_caller(call: Call) -> None:
    """Have the caller watched, before something is begun that may be left to do.

    Not in a dry run, which has yet to say whether it would be begun at all.
    """
    if not call.dry_run:
        await watch(call.session, await call.session.current_user(), call.now)


async def unwatch(session: Session, user: UserDocument) -> None:
    """Have a user watched no more."""
    await session.user_update(user.id, removal(WATCHED_UNTIL))


def terminating_since(user: UserDocument) -> int | None:
    """Return since when a user may have machines that are to end as soon as oned takes them; None if he has none."""
    return epoch_seconds(user.attribute(TERMINATING_SINCE))


async def watch_termination(session: Session, user: UserDocument, now: int) -> None:
    """Have a user watched who is about to have a machine that is to end as soon as oned takes it."""
    since = terminating_since(user)
    if since is None or since < now - _FRESH:
        await session.user_update(user.id, attribute(TERMINATING_SINCE, str(now)))
    await watch(session, user, now)


async def unwatch_termination(session: Session, user: UserDocument, now: int) -> None:
    """Take the date away after a look that found no such machine, unless one may have come since."""
    since = terminating_since(user)
    if since is not None and since < now - 2 * _FRESH:
        await session.user_update(user.id, removal(TERMINATING_SINCE))
