"""The checks of `econe-server check` of access keys: those that are old, and those that no sealing key opens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

from econed.cli.key_facts import KeyFacts, days_between, keys_of
from econed.cli.survey import Row, Verdict
from econed.configtest import LoadedConfiguration
from econed.credentials.revocations import Revocations
from econed.opennebula.documents import UserDocument
from econed.user import KeyState

MAX_ROWS: Final = 20
"""Rows for access keys; of further ones only the number is shown."""


def key_rows(
    loaded: LoadedConfiguration, users: Iterable[UserDocument], revocations: Revocations, now: float
) -> Iterator[Row]:
    """Yield a row for each access key that its user should replace, and one with the number of all.

    None is BAD: users write what is there.
    """
    sealer = loaded.sealing_keys.sealer()
    keys = [key for user in users for key in keys_of(user, sealer, revocations)]
    notes = [(key, text) for key in keys if (text := _note(key, loaded.settings.max_key_age, now)) is not None]
    for key, text in islice(notes, MAX_ROWS):
        yield Row(Verdict.NOTE, f"key of {key.user_name}", f"{key.id} {text}")
    if len(notes) > MAX_ROWS:
        yield Row(Verdict.NOTE, "keys", f"{len(notes) - MAX_ROWS} others are like these: econe-server keys list")
    if keys:
        yield Row(Verdict.GOOD, "access keys", f"{len(keys)} keys of {len({key.user_name for key in keys})} users")


def _note(key: KeyFacts, max_age: int | None, now: float) -> str | None:
    if key.created is None:
        return "cannot be opened with any sealing key, and so not be used: its user should delete it"
    days = days_between(key.created, now)
    is_used = key.state is KeyState.ACTIVE and not key.is_disabled
    if is_used and max_age is not None and days is not None and days > max_age:
        return f"is {days} days old, max_key_age is {max_age}: its user should replace it"
    return None
