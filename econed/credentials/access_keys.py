"""Access keys of users, as they are kept in OpenNebula.

An access key is `EC2_ACCESS_KEY_<id>=[ID, SEALED]` on its user, which is added once and never changed. SEALED is JSON
of the secret and the time of creation, sealed with the ids of the user and the key as the binding: copied to another
user or under another id it cannot be opened. If it was sealed again, with a new sealing key, `EC2_KEY_SEALED_<id>=[ID,
SEALED]` counts instead. A key that is not Active has a mark, `EC2_KEY_STATE_<id>=[ID, STATE, TIME]`. Both are separate
so that nothing can bring a removed key back: a change that comes after the removal leaves an attribute without a key.

A key that is being created is Pending. It becomes Active when the mark is removed, so a process that dies before that
leaves a key that nobody can use.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from econed.credentials.key_ids import has_form_of_long_term_id
from econed.opennebula.template import removal, template, vector
from econed.opennebula.values import epoch_seconds
from econed.sealing import NotSealed, Sealer
from econed.user import KeyState, StoredKey

if TYPE_CHECKING:
    from econed.opennebula.attributes import Vector
    from econed.opennebula.documents import UserDocument

MAX_ACCESS_KEYS: Final = 5
"""Access keys that a user may have; Amazon's are two."""

MAX_READ: Final = 16
"""Access keys of a user that are read: a user may write what looks like others."""

MAX_SEALED: Final = 1024
"""Characters of a sealed key that are read; those of econed are shorter."""

_KEY_PREFIX = "EC2_ACCESS_KEY_"
_STATE_PREFIX = "EC2_KEY_STATE_"
_RESEALED_PREFIX = "EC2_KEY_SEALED_"
_PURPOSE = "access-key"


@dataclass(frozen=True)
class AccessKey:
    """An access key that econed has made; `created` is in seconds since the epoch."""

    id: str
    user_id: int
    secret: str = field(repr=False)
    created: int

    def sealed(self, sealer: Sealer) -> str:
        """Return the secret and the time, sealed."""
        text = json.dumps({"secret": self.secret, "created": self.created})
        return sealer.seal(_PURPOSE, _binding(self.user_id, self.id), text.encode())

    def text(self, sealer: Sealer) -> str:
        """Return the template text that adds the key to its user, Pending since its creation."""
        key = vector(_KEY_PREFIX + self.id, {"ID": self.id, "SEALED": self.sealed(sealer)})
        return template(state_text(self.id, KeyState.PENDING, self.created), key)


def stored_keys(user: UserDocument) -> tuple[StoredKey, ...]:
    """Return the access keys on a user, at most `MAX_READ`, in the order of their ids."""
    sealed: dict[str, str] = {}
    for name, value in user.attributes_named(_KEY_PREFIX, MAX_READ):
        key_id = name.removeprefix(_KEY_PREFIX)
        if has_form_of_long_term_id(key_id) and not isinstance(value, str):
            sealed.setdefault(key_id, value.get("SEALED", "")[:MAX_SEALED])
    marks = user.attributes_with(
        *(prefix + key_id for key_id in sealed for prefix in (_STATE_PREFIX, _RESEALED_PREFIX))
    )
    for key_id in sealed:
        sealed[key_id] = marks.vector(_RESEALED_PREFIX + key_id).get("SEALED", sealed[key_id])[:MAX_SEALED]
    return tuple(_stored(key_id, sealed[key_id], marks.vector(_STATE_PREFIX + key_id)) for key_id in sorted(sealed))


def opened(sealer: Sealer, user_id: int, stored: StoredKey) -> AccessKey | None:
    """Return an access key of a user; None if it is not one that econed has made for them."""
    try:
        content = json.loads(sealer.open(_PURPOSE, _binding(user_id, stored.id), stored.sealed))
    except NotSealed:
        return None
    return AccessKey(stored.id, user_id, content["secret"], content["created"])


def state_text(key_id: str, state: KeyState, now: int) -> str:
    """Return the template text that sets the state of an access key on its user."""
    name = _STATE_PREFIX + key_id
    if state is KeyState.ACTIVE:
        return removal(name)
    return vector(name, {"ID": key_id, "STATE": state.value, "TIME": str(now)})


def resealed_text(sealer: Sealer, key: AccessKey) -> str:
    """Return the template text that replaces what is sealed of an access key by the same, sealed with the first key."""
    return vector(_RESEALED_PREFIX + key.id, {"ID": key.id, "SEALED": key.sealed(sealer)})


def removal_text(key_id: str) -> str:
    """Return the template text that removes an access key from its user."""
    return template(*(removal(prefix + key_id) for prefix in (_KEY_PREFIX, _STATE_PREFIX, _RESEALED_PREFIX)))


def _stored(key_id: str, sealed: str, mark: Vector) -> StoredKey:
    if not mark:
        return StoredKey(key_id, sealed)
    state = KeyState.PENDING if mark.get("STATE") == KeyState.PENDING.value else KeyState.INACTIVE
    return StoredKey(key_id, sealed, state, epoch_seconds(mark.get("TIME", "")))


def _binding(user_id: int, key_id: str) -> str:
    return f"{user_id}/{key_id}"
