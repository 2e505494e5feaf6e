"""Ids of access keys: which are econed's, and whose."""

from __future__ import annotations

import base64
import re

from hypothesis import given
from hypothesis import strategies as st

from econed.credentials.key_ids import (
    has_form_of_long_term_id,
    is_long_term_id,
    is_temporary_id,
    new_key_id,
    new_secret,
    new_temporary_id,
    user_id_of_key,
)
from econed.opennebula.values import MAX_ID
from econed.sealing import KEY_SIZE, Sealer
from econed.telemetry.log_lines import redacted

SEALER = Sealer((bytes(KEY_SIZE),))


@given(st.integers(0, MAX_ID))
def test_an_id_has_amazons_form_and_the_number_of_its_user(user_id: int) -> None:
    key_id, temporary = new_key_id(SEALER, user_id), new_temporary_id(SEALER, user_id)
    assert re.fullmatch(r"AKIA[A-Z2-7]{16}", key_id)
    assert re.fullmatch(r"ASIA[A-Z2-7]{16}", temporary)
    assert user_id_of_key(SEALER, key_id) == user_id_of_key(SEALER, temporary) == user_id
    assert (is_long_term_id(SEALER, key_id), is_temporary_id(SEALER, key_id)) == (True, False)
    assert (is_long_term_id(SEALER, temporary), is_temporary_id(SEALER, temporary)) == (False, True)
    assert has_form_of_long_term_id(key_id)
    assert not has_form_of_long_term_id(temporary)


def test_an_id_of_one_kind_is_none_of_the_other_kind() -> None:
    """The checksum covers the kind."""
    swapped = [new_key_id(SEALER, 3).replace("AKIA", "ASIA", 1) for _ in range(20)]
    assert [user_id_of_key(SEALER, key_id) for key_id in swapped].count(None) >= 19


def test_ids_of_one_user_differ() -> None:
    assert len({new_key_id(SEALER, 3) for _ in range(1000)}) == 1000


def test_an_id_with_any_other_character_is_not_one_of_econeds() -> None:
    """A checksum of two bytes lets one of 65,536 through."""
    key_id = new_key_id(SEALER, 3)
    changed = [
        f"{key_id[:place]}{letter}{key_id[place + 1 :]}"
        for place in range(4, len(key_id))
        for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
        if letter != key_id[place]
    ]
    assert sum(user_id_of_key(SEALER, text) is not None for text in changed) <= 1


@given(st.text(max_size=40))
def test_another_text_is_not_an_id(text: str) -> None:
    assert user_id_of_key(SEALER, text) is None


def test_texts_that_look_like_ids_are_not_ids() -> None:
    key_id = new_key_id(SEALER, 3)
    for text in (key_id.lower(), key_id[:-1], f"{key_id}A", f"{key_id}\n", f" {key_id}", f"AKIA{'0' * 16}", "alice"):
        assert user_id_of_key(SEALER, text) is None


def test_an_id_made_with_an_older_key_is_still_known_and_one_made_with_another_is_not() -> None:
    old, new = bytes([1] * KEY_SIZE), bytes([2] * KEY_SIZE)
    key_id = new_key_id(Sealer((old,)), 3)
    assert user_id_of_key(Sealer((new, old)), key_id) == 3
    assert user_id_of_key(Sealer((new,)), key_id) is None
    assert user_id_of_key(Sealer((new,)), new_key_id(Sealer((new, old)), 3)) == 3


def test_an_id_beyond_oneds_numbers_is_not_one() -> None:
    body = (2**31).to_bytes(4, "big") + bytes(4)
    checksum = SEALER.digest("access-key-id", "AKIA" + body.hex())[:2]
    assert user_id_of_key(SEALER, "AKIA" + base64.b32encode(body + checksum).decode()) is None


def test_a_secret_has_forty_characters_and_is_hidden_in_logs() -> None:
    """A client may be configured with it in place of its id."""
    secrets = {new_secret() for _ in range(100)}
    assert len(secrets) == 100
    assert {redacted(f"key {secret}, and more") for secret in secrets} == {"key [redacted], and more"}
    assert all(re.fullmatch(r"[A-Za-z0-9]{40}", secret) for secret in secrets)
