"""Access keys as they are kept on users, who may write any text there."""

from __future__ import annotations

import pytest
from lxml import etree

from econed.credentials.access_keys import (
    MAX_READ,
    AccessKey,
    opened,
    removal_text,
    state_text,
    stored_keys,
)
from econed.credentials.key_ids import new_key_id, new_secret
from econed.opennebula.documents import UserDocument
from econed.sealing import KEY_SIZE, Sealer
from econed.user import KeyState
from tests.support.cloud import Cloud

SEALER = Sealer((bytes(KEY_SIZE),))
ALICE, BOB = 3, 4


def new_key(user_id: int = ALICE, created: int = 1000) -> AccessKey:
    """Return a new access key."""
    return AccessKey(new_key_id(SEALER, user_id), user_id, new_secret(), created)


def document(**attributes: dict[str, str] | str) -> UserDocument:
    """Return a user's document with these attributes."""
    root = etree.Element("USER")
    template = etree.SubElement(root, "TEMPLATE")
    for name, value in attributes.items():
        attribute = etree.SubElement(template, name)
        if isinstance(value, str):
            attribute.text = value
        for member, text in value.items() if isinstance(value, dict) else ():
            etree.SubElement(attribute, member).text = text
    return UserDocument(root)


def stored(key: AccessKey) -> dict[str, dict[str, str]]:
    """Return the attribute of a key."""
    return {f"EC2_ACCESS_KEY_{key.id}": {"ID": key.id, "SEALED": key.sealed(SEALER)}}


def test_a_key_is_pending_until_its_mark_is_removed() -> None:
    """Oned stores and returns what is written."""
    cloud, key = Cloud(), new_key()
    user_id = cloud.user("alice").id

    def write(text: str) -> list[tuple[str, KeyState, int | None]]:
        call = cloud.call_as("alice")
        cloud.result(call.session.user_update(user_id, text))
        user = cloud.result(call.session.current_user())
        return [(each.id, each.state, each.marked_at) for each in stored_keys(user)]

    assert write(key.text(SEALER)) == [(key.id, KeyState.PENDING, 1000)]
    assert write(state_text(key.id, KeyState.ACTIVE, 1001)) == [(key.id, KeyState.ACTIVE, None)]
    assert write(state_text(key.id, KeyState.INACTIVE, 1002)) == [(key.id, KeyState.INACTIVE, 1002)]
    assert write(removal_text(key.id)) == []
    assert write(state_text(key.id, KeyState.ACTIVE, 1003)) == []
    assert write(state_text(key.id, KeyState.INACTIVE, 1004)) == []


def test_a_key_opens_for_its_user_under_its_id_only() -> None:
    key, other = new_key(), new_key()
    (own,) = stored_keys(document(**stored(key)))
    assert opened(SEALER, ALICE, own) == key
    assert opened(SEALER, BOB, own) is None
    (renamed,) = stored_keys(document(**{f"EC2_ACCESS_KEY_{other.id}": {"ID": other.id, "SEALED": own.sealed}}))
    assert opened(SEALER, ALICE, renamed) is None
    assert opened(Sealer((bytes([1] * KEY_SIZE),)), ALICE, own) is None


@pytest.mark.parametrize("sealed", ["", "x", "AAAA" * 500, "\u20ac", " "])
def test_any_other_text_is_a_key_that_cannot_be_opened(sealed: str) -> None:
    key = new_key()
    (own,) = stored_keys(document(**{f"EC2_ACCESS_KEY_{key.id}": {"ID": key.id, "SEALED": sealed}}))
    assert opened(SEALER, ALICE, own) is None
    assert len(own.sealed) <= 1024


def test_attributes_of_another_form_are_no_keys() -> None:
    user = document(
        EC2_ACCESS_KEY_="x",
        EC2_ACCESS_KEY_X={"ID": "X", "SEALED": "x"},
        EC2_ACCESS_KEY_AKIAAAAAAAAAAAAAAAAA="text",
        EC2_ACCESS_KEY_ASIAAAAAAAAAAAAAAAAA={"SEALED": "x"},
    )
    assert stored_keys(user) == ()
    assert stored_keys(document()) == ()


@pytest.mark.parametrize("mark", [{"STATE": "x"}, {"STATE": "Active"}, {"TIME": "never"}, {"STATE": "Inactive"}])
def test_a_mark_with_any_other_content_makes_a_key_inactive(mark: dict[str, str]) -> None:
    key = new_key()
    (own,) = stored_keys(document(**stored(key), **{f"EC2_KEY_STATE_{key.id}": mark}))
    assert (own.state, own.marked_at) == (KeyState.INACTIVE, None)


def test_of_many_attributes_a_few_are_read() -> None:
    attributes: dict[str, dict[str, str]] = {}
    for _ in range(100):
        attributes |= stored(new_key())
    assert len(stored_keys(document(**attributes))) == MAX_READ


def test_secrets_are_in_no_repr() -> None:
    key = new_key()
    (own,) = stored_keys(document(**stored(key)))
    assert key.secret not in repr(key)
    assert own.sealed not in repr(own)
