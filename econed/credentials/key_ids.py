"""Ids of access keys, in Amazon's form: `AKIA` or, of temporary credentials, `ASIA`, and 16 characters; their secrets.

The characters are base32 of the OpenNebula id of the user (4 bytes), 4 random bytes and a checksum (2 bytes), which
only econed's processes can make. So the user of a key is known from its id, and an id that econed has not made is
recognized without asking oned.
"""

from __future__ import annotations

import base64
import hmac
import os
import re
import secrets
import string
from typing import Final

from econed.opennebula.values import MAX_ID
from econed.sealing import Sealer

LONG_TERM: Final = "AKIA"
TEMPORARY: Final = "ASIA"

KEY_ID_PURPOSE: Final = "access-key-id"
"""The purpose of the digests of which the checksums are made: ids are valid longer than sealing keys are used."""

_FORM = re.compile(r"(AKIA|ASIA)([A-Z2-7]{16})", re.ASCII)
_NUMBER_SIZE = 4
_CHECKSUM_SIZE = 2
_SECRET_LENGTH = 40
_SECRET_CHARACTERS = string.ascii_letters + string.digits
"""Amazon's secrets also have `+` and `/`; without them a secret is never taken for a path where a log hides secrets."""


def new_key_id(sealer: Sealer, user_id: int) -> str:
    """Return a new id for an access key of a user."""
    return _new(sealer, LONG_TERM, user_id)


def new_temporary_id(sealer: Sealer, user_id: int) -> str:
    """Return a new id for temporary credentials of a user."""
    return _new(sealer, TEMPORARY, user_id)


def new_secret() -> str:
    """Return a new secret of Amazon's form."""
    return "".join(secrets.choice(_SECRET_CHARACTERS) for _ in range(_SECRET_LENGTH))


def has_form_of_key_id(text: str) -> bool:
    """Whether a text could be an id of either kind, with this or any other sealing key."""
    return _FORM.fullmatch(text) is not None


def has_form_of_long_term_id(text: str) -> bool:
    """Whether a text could be the id of an access key, with this or any other sealing key."""
    return text.startswith(LONG_TERM) and has_form_of_key_id(text)


def is_long_term_id(sealer: Sealer, text: str) -> bool:
    """Whether a text is the id of an access key, made with one of the sealing keys or a retired one."""
    return text.startswith(LONG_TERM) and user_id_of_key(sealer, text) is not None


def is_temporary_id(sealer: Sealer, text: str) -> bool:
    """Whether a text is the id of temporary credentials, made with one of the sealing keys or a retired one."""
    return text.startswith(TEMPORARY) and user_id_of_key(sealer, text) is not None


def user_id_of_key(sealer: Sealer, text: str) -> int | None:
    """Return the OpenNebula id of the user in an id of either kind; None for a text that econed has not made."""
    match = _FORM.fullmatch(text)
    if match is None:
        return None
    content = base64.b32decode(match[2])
    body, checksum = content[:-_CHECKSUM_SIZE], content[-_CHECKSUM_SIZE:]
    valid = [digest[:_CHECKSUM_SIZE] for digest in sealer.digests(KEY_ID_PURPOSE, match[1] + body.hex())]
    if not any(hmac.compare_digest(checksum, each) for each in valid):
        return None
    user_id = int.from_bytes(body[:_NUMBER_SIZE], "big")
    return user_id if user_id <= MAX_ID else None


def _new(sealer: Sealer, kind: str, user_id: int) -> str:
    body = user_id.to_bytes(_NUMBER_SIZE, "big") + os.urandom(_NUMBER_SIZE)
    checksum = sealer.digest(KEY_ID_PURPOSE, kind + body.hex())[:_CHECKSUM_SIZE]
    return kind + base64.b32encode(body + checksum).decode("ascii")
