"""Access keys that an administrator has ended, whatever stands on their users.

They are recorded on serveradmin, which users cannot change: a key by `EC2_REVOKED_KEY_<id>=[ID]`, all keys and
temporary credentials of a user that were made up to a moment by `EC2_REVOKED_BEFORE_<user id>=[USER_ID, TIME]`. A copy
of the attribute of a key, written back by its user, is of no use then.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Protocol

from twisted.internet.interfaces import IReactorTime

from econed.cached_lookup import CachedLookup
from econed.opennebula.template import removal, vector
from econed.opennebula.values import epoch_seconds, whole_number

if TYPE_CHECKING:
    from econed.opennebula.documents import UserDocument
    from econed.opennebula.read_session import ReadSession

MAX_REVOKED_KEYS: Final = 2000
"""Keys that may be revoked one by one: all processes read them every few seconds, with serveradmin."""

MAX_AGE: Final = 3.0
"""Seconds after which a revocation holds at the latest: those for which a user is cached."""

_KEY_PREFIX = "EC2_REVOKED_KEY_"
_BEFORE_PREFIX = "EC2_REVOKED_BEFORE_"


@dataclass(frozen=True)
class Revocations:
    """What is revoked: keys by their ids, and by the ids of users the time up to which everything is.

    Times are in seconds since the epoch. A time is infinite where what stands in OpenNebula is not a time.
    """

    keys: frozenset[str] = frozenset()
    before: Mapping[int, float] = field(default_factory=lambda: MappingProxyType({}))

    def revokes(self, key_id: str, user_id: int, created: float) -> bool:
        """Whether a key of a user, or temporary credentials, made at `created`, do not count any longer."""
        return key_id in self.keys or created <= self.before.get(user_id, -math.inf)


class ReadsRevocations(Protocol):
    """Knows what is revoked; tests have others than `RevocationList`."""

    async def current(self) -> Revocations:
        """Return the revocations, at most `MAX_AGE` seconds old; raises as `IOpenNebula` does."""


class RevocationList:
    """The revocations, read from oned in serveradmin's own session, and cached for `MAX_AGE` seconds."""

    def __init__(self, serveradmin: ReadSession, clock: IReactorTime) -> None:
        self._serveradmin = serveradmin
        self._lookup = CachedLookup(clock, self._read)

    async def current(self) -> Revocations:
        """Return the revocations; raises as `IOpenNebula` does."""
        return await self._lookup.get(MAX_AGE)

    async def _read(self) -> Revocations:
        return revocations(await self._serveradmin.current_user())


def revocations(serveradmin: UserDocument) -> Revocations:
    """Return the revocations on serveradmin."""
    attributes = serveradmin.template
    keys = (name.removeprefix(_KEY_PREFIX) for name in attributes.names_starting_with(_KEY_PREFIX))
    before = {}
    for name in attributes.names_starting_with(_BEFORE_PREFIX):
        user_id = whole_number(name.removeprefix(_BEFORE_PREFIX))
        if user_id is not None:
            time = epoch_seconds(attributes.vector(name).get("TIME", ""))
            before[user_id] = math.inf if time is None else float(time)
    return Revocations(frozenset(keys), MappingProxyType(before))


def key_revocation_text(key_id: str) -> str:
    """Return the template text that revokes an access key, for serveradmin."""
    return vector(_KEY_PREFIX + key_id, {"ID": key_id})


def key_reinstatement_text(key_id: str) -> str:
    """Return the template text that ends the revocation of an access key."""
    return removal(_KEY_PREFIX + key_id)


def user_revocation_text(user_id: int, time: int) -> str:
    """Return the template text that revokes all that a user has made up to `time`, in seconds since the epoch."""
    return vector(f"{_BEFORE_PREFIX}{user_id}", {"USER_ID": str(user_id), "TIME": str(time)})


def user_reinstatement_text(user_id: int) -> str:
    """Return the template text that ends the revocation of what a user has made."""
    return removal(f"{_BEFORE_PREFIX}{user_id}")
