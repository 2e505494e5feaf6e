"""Creating access keys on users in OpenNebula, with at most `MAX_ACCESS_KEYS` for each.

oned has no operation "add unless there are five". So a request adds its key as Pending, and makes it Active once it has
read the user with five keys at most, its own among them. Of requests that add a key at the same time, each that is not
the first finds the others, so none exceeds the limit. If there are too many, those of the Pending keys with the lowest
ids stay: the other requests remove their keys and fail, for which the first wait. A process that dies leaves a Pending
key, which counts until the next request removes it, `PENDING_LIFETIME` seconds later or more.

On a slave zone of a federation oned sends changes to the master and reads its own copy. A key is only returned to the
client once it can be read here as Active.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from econed.actions.waiting import wait_until
from econed.credentials.access_keys import MAX_ACCESS_KEYS, AccessKey, removal_text, state_text, stored_keys
from econed.credentials.key_ids import new_key_id, new_secret
from econed.errors import EC2Error, OpenNebulaRefusal
from econed.opennebula.template import template
from econed.user import KeyState, StoredKey

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from econed.actions.call import Call
    from econed.opennebula.documents import UserDocument

PENDING_LIFETIME = 60
"""Seconds after which a Pending key is considered abandoned, because its process died."""

REPLICATION_TIMEOUT = 10.0
"""Seconds for which a request waits, twice, until its change can be read and other requests have removed their keys."""


async def add_access_key(call: Call, user: UserDocument) -> AccessKey:
    """Add an access key to a user, and return it once it can be used.

    Raises `EC2Error` LimitExceeded, or EntityTemporarilyUnmodifiable if a change cannot be read in time; then the key
    is removed.
    """
    key = AccessKey(new_key_id(call.sealer, user.id), user.id, new_secret(), call.now)
    present = stored_keys(user)
    abandoned = [each.id for each in present if _is_abandoned(each, call.now)]
    _check_count(len(present) - len(abandoned) + 1)
    await call.session.user_update(user.id, template(key.text(call.sealer), *map(removal_text, abandoned)))
    try:
        keys = await _read_until(call, key, KeyState.PENDING, lambda keys: _is_decided(key, keys))
        _check_count(len(keys))
        await call.session.user_update(user.id, state_text(key.id, KeyState.ACTIVE, call.now))
        await _read_until(call, key, KeyState.ACTIVE)
    except (EC2Error, OpenNebulaRefusal):
        await call.session.user_update(user.id, removal_text(key.id))
        raise
    return key


def _is_abandoned(key: StoredKey, now: int) -> bool:
    is_old = key.marked_at is None or now - key.marked_at >= PENDING_LIFETIME
    return key.state is KeyState.PENDING and is_old


def _is_decided(key: AccessKey, keys: Sequence[StoredKey]) -> bool:
    """Whether a Pending key is one of `MAX_ACCESS_KEYS`, or is not even without the Pending ones that have to go."""
    before = sum(each.state is not KeyState.PENDING or each.id < key.id for each in keys)
    return len(keys) <= MAX_ACCESS_KEYS or before >= MAX_ACCESS_KEYS


async def _read_until(
    call: Call, key: AccessKey, state: KeyState, is_done: Callable[[Sequence[StoredKey]], bool] = lambda keys: True
) -> Sequence[StoredKey]:
    """Return the keys of the key's user, once it can be read in a state and they are done, or after a while.

    Raises `EC2Error` EntityTemporarilyUnmodifiable if the key cannot be read in that state.
    """

    async def read() -> Sequence[StoredKey]:
        return stored_keys(await call.session.user_by_id(key.user_id))

    def is_there(keys: Sequence[StoredKey]) -> bool:
        return any(each.id == key.id and each.state is state for each in keys)

    keys = await wait_until(call, lambda keys: is_there(keys) and is_done(keys), read, timeout=REPLICATION_TIMEOUT)
    if not is_there(keys):
        raise EC2Error(
            "EntityTemporarilyUnmodifiable", "The user cannot be modified at the moment. Try again later.", 409
        )
    return keys


def _check_count(count: int) -> None:
    if count > MAX_ACCESS_KEYS:
        raise EC2Error("LimitExceeded", f"Cannot exceed quota for AccessKeysPerUser: {MAX_ACCESS_KEYS}", 409)
