"""What administrators see of the access keys of users."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from econed.credentials.access_keys import opened, stored_keys
from econed.credentials.revocations import Revocations
from econed.opennebula.documents import UserDocument
from econed.sealing import Sealer
from econed.user import KeyState

_DAY = 86_400


@dataclass(frozen=True)
class KeyFacts:
    """An access key on a user.

    `created` is in seconds since the epoch, None if no sealing key opens what OpenNebula has for the key: then it
    cannot be used. `is_disabled`: an administrator has disabled it, whatever its state.
    """

    id: str
    user_name: str
    state: KeyState
    created: int | None
    is_disabled: bool

    @property
    def state_text(self) -> str:
        """Return the state in one word."""
        if self.created is None:
            return "unreadable"
        return "disabled" if self.is_disabled else self.state.value


def days_between(then: float | None, now: float) -> int | None:
    """Return the whole days between two times in seconds since the epoch; None if the first is unknown or endless."""
    return None if then is None or math.isinf(then) else max(int(now - then), 0) // _DAY


def keys_of(user: UserDocument, sealer: Sealer, revocations: Revocations) -> Iterator[KeyFacts]:
    """Yield the access keys on a user, in the order of their ids."""
    for stored in stored_keys(user):
        key = opened(sealer, user.id, stored)
        created = None if key is None else key.created
        is_disabled = created is not None and revocations.revokes(stored.id, user.id, created)
        yield KeyFacts(stored.id, user.name, stored.state, created, is_disabled)
