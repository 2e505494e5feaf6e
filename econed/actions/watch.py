"""Watching users: a date on each user for whom work may be left to do, so that any process finds it.

The work itself is recorded on the object that it concerns (docs/design.md, "Work after a request is recorded first").
Reading the objects of all users to find it would cost oned more than reading the users; the date says whose objects to
read.
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
"""Attribute of a user: until when (epoch seconds) the reconciler reads their objects."""

TERMINATING_SINCE = "EC2_TERMINATING_SINCE"
"""Attribute of a user: when (epoch seconds) they last terminated a machine that oned did not terminate at once."""

_MIN_REWRITE_AGE = 300
"""Seconds for which TERMINATING_SINCE is not written again."""

SPAN = 24 * 3600
"""Seconds for which a user is watched after work was left to do."""


def watched_until(user: UserDocument) -> int | None:
    """Return until when a user is watched; None if no work was ever left to do, or all of it is done."""
    return epoch_seconds(user.attribute(WATCHED_UNTIL))


async def watch(session: Session, user: UserDocument, now: int) -> None:
    """Watch a user from now on; the date is written only if the present one is near."""
    until = watched_until(user)
    if until is None or until - now < SPAN // 2:
        await session.user_update(user.id, attribute(WATCHED_UNTIL, str(now + SPAN)))


async def watch_caller(call: Call, user: UserDocument | None = None) -> None:
    """Watch the caller, before work begins that may be left to do; not in a dry run, which does not begin it.

    `user` is their document, if the request has read it already.
    """
    if not call.dry_run:
        await watch(call.session, user or await call.session.current_user(), call.now)


async def unwatch(session: Session, user: UserDocument) -> None:
    """Stop watching a user."""
    await session.user_update(user.id, removal(WATCHED_UNTIL))


def terminating_since(user: UserDocument) -> int | None:
    """Return since when a user may have machines to terminate as soon as oned allows it; None if there are none."""
    return epoch_seconds(user.attribute(TERMINATING_SINCE))


async def watch_termination(session: Session, user: UserDocument, now: int) -> None:
    """Watch a user who is about to have a machine to terminate as soon as oned allows it."""
    since = terminating_since(user)
    if since is None or since < now - _MIN_REWRITE_AGE:
        await session.user_update(user.id, attribute(TERMINATING_SINCE, str(now)))
    await watch(session, user, now)


async def unwatch_termination(session: Session, user: UserDocument, now: int) -> None:
    """Remove the date after a search that found no such machine, unless one may have been added since."""
    since = terminating_since(user)
    if since is not None and since < now - 2 * _MIN_REWRITE_AGE:
        await session.user_update(user.id, removal(TERMINATING_SINCE))
