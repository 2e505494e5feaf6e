"""Sealed texts: what opens them, and that nothing else does."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from econed.sealing import KEY_SIZE, NotSealed, Sealer, derived_key

KEYS = st.binary(min_size=KEY_SIZE, max_size=KEY_SIZE)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SEALER = Sealer((bytes(KEY_SIZE),))


def opens(sealer: Sealer, purpose: str, binding: str, sealed: str) -> bool:
    """Whether a text can be opened."""
    try:
        sealer.open(purpose, binding, sealed)
    except NotSealed:
        return False
    return True


@given(KEYS, NAMES, NAMES, st.binary(max_size=300))
def test_a_sealed_text_opens_with_key_purpose_and_binding(key: bytes, purpose: str, binding: str, text: bytes) -> None:
    sealed = Sealer((key,)).seal(purpose, binding, text)
    assert Sealer((key,)).open(purpose, binding, sealed) == text
    assert sealed.replace("-", "a").replace("_", "a").isalnum()


@given(NAMES, NAMES, NAMES, NAMES)
def test_a_sealed_text_opens_for_no_other_purpose_and_with_no_other_binding(
    purpose: str, binding: str, other_purpose: str, other_binding: str
) -> None:
    """Nor is it enough that purpose and binding, put together, are the same text."""
    sealed = SEALER.seal(purpose, binding, b"text")
    is_same = (purpose, binding) == (other_purpose, other_binding)
    assert opens(SEALER, other_purpose, other_binding, sealed) is is_same
    assert not opens(SEALER, purpose + "x", binding, sealed)
    assert not opens(SEALER, purpose, binding + "x", sealed)
    if binding:
        assert not opens(SEALER, purpose + binding[0], binding[1:], sealed)


@given(KEYS, KEYS)
def test_a_sealed_text_opens_with_no_other_key(key: bytes, other: bytes) -> None:
    assert opens(Sealer((other,)), "keys", "3", Sealer((key,)).seal("keys", "3", b"text")) is (key == other)


@given(st.binary(max_size=40), st.data())
def test_a_changed_bit_or_a_truncated_text_never_opens(text: bytes, data: st.DataObject) -> None:
    sealed = SEALER.seal("keys", "3", text)
    content = bytearray(base64.urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4)))
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    content[bit // 8] ^= 1 << bit % 8
    changed = base64.urlsafe_b64encode(content).decode().rstrip("=")
    assert not opens(SEALER, "keys", "3", changed)
    assert not opens(SEALER, "keys", "3", sealed[: data.draw(st.integers(0, len(sealed) - 1))])


@given(st.integers(0, 2), st.data())
def test_a_text_has_no_second_spelling(length: int, data: st.DataObject) -> None:
    """Not even a character whose change leaves the decoded bytes as they are."""
    sealed = SEALER.seal("keys", "3", bytes(length))
    place = data.draw(st.integers(0, len(sealed) - 1))
    letter = data.draw(st.sampled_from("ABCDabcd0123-_=+/ \n"))
    changed = f"{sealed[:place]}{letter}{sealed[place + 1 :]}"
    assert opens(SEALER, "keys", "3", changed) is (changed == sealed)
    for other in (f"{sealed}=", f"{sealed}==", f"{sealed}\n", f" {sealed}", f"{sealed[:3]}\n{sealed[3:]}"):
        assert not opens(SEALER, "keys", "3", other)


@given(st.text(max_size=200))
def test_any_other_text_is_not_sealed(text: str) -> None:
    assert not opens(SEALER, "keys", "3", text)


def test_the_same_text_is_sealed_differently_each_time() -> None:
    assert len({SEALER.seal("keys", "3", b"text") for _ in range(100)}) == 100


def test_the_first_key_seals_and_all_open() -> None:
    """So a new key can be put before the old one, and later the old one removed."""
    old, new = bytes([1] * KEY_SIZE), bytes([2] * KEY_SIZE)
    before, renewed, after = Sealer((old,)), Sealer((new, old)), Sealer((new,))
    sealed = before.seal("keys", "3", b"text")
    assert renewed.open("keys", "3", sealed) == b"text"
    again = renewed.seal("keys", "3", b"text")
    assert after.open("keys", "3", again) == b"text"
    assert not opens(after, "keys", "3", sealed)
    assert not opens(before, "keys", "3", again)


def test_only_texts_sealed_with_the_first_key_are_the_newest() -> None:
    old, new = bytes([1] * KEY_SIZE), bytes([2] * KEY_SIZE)
    renewed = Sealer((new, old))
    assert renewed.is_newest(renewed.seal("keys", "3", b"text"))
    assert not renewed.is_newest(Sealer((old,)).seal("keys", "3", b"text"))
    assert not renewed.is_newest("no sealed text")


def test_a_digest_depends_on_key_purpose_and_text() -> None:
    old, new = Sealer((bytes([1] * KEY_SIZE),)), Sealer((bytes([2] * KEY_SIZE),))
    both = Sealer((bytes([2] * KEY_SIZE), bytes([1] * KEY_SIZE)))
    digests = {each.digest(purpose, text) for each in (old, new) for purpose in "ab" for text in ("x", "y")}
    assert len(digests) == 8
    assert both.digest("a", "x") == new.digest("a", "x")
    assert both.digests("a", "x") == (new.digest("a", "x"), old.digest("a", "x"))


def test_a_key_derived_from_a_secret_is_always_the_same() -> None:
    """All processes derive it; a change of this value would make everything unreadable that is sealed."""
    assert derived_key(b"secret").hex() == "0314642314d843b9eb9726898178fc70b3b83a9dad5d1b30738c641f39c3ae02"
    assert derived_key(b"secret") != derived_key(b"secrets")


def test_keys_of_another_size_are_refused_and_none_is_shown() -> None:
    with pytest.raises(ValueError, match="expected keys of 32 bytes") as caught:
        Sealer((b"short",))
    assert "short" not in str(caught.value)
    with pytest.raises(ValueError, match="expected keys"):
        Sealer(())
    assert "AAAA" not in repr(Sealer((b"A" * KEY_SIZE,)))
