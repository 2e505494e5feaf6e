"""Key pairs, stored on the OpenNebula user: public keys only, one attribute each.

A key pair is `EC2_KEYPAIR_<hex of name>=[NAME, FINGERPRINT, PUBLIC_KEY, TYPE, CREATED]`, added by one atomic append and
removed by another. Key pairs of the Ruby server, EC2_KEYPAIRS (base64 of JSON, by name), are read too; they are removed
by an empty attribute in the new form, which hides them. Tags are separate attributes.

Of two concurrent requests that create the same key pair, at most one may succeed, because the private key of the other
would be useless. oned has no operation "add unless present". So each request first adds a claim, an attribute of its
own, then reads the user, and fails if it finds another claim or the key pair. The request whose claim is second finds
the claim of the first, or the key pair that replaced it in the same update: both may fail, but at most one succeeds.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from econed.actions.keys.public_keys import KeyType, PublicKey, key_type_of
from econed.actions.object_limits import MAX_ON_USER, check_size
from econed.actions.tagging import tag_text, tags_under, untag_text
from econed.errors import EC2Error, OpenNebulaRefusal
from econed.opennebula.attributes import Attributes, Value
from econed.opennebula.template import attribute, decode_member, encode_member, hex_name, removal, template, vector
from econed.opennebula.values import epoch_seconds

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import TagTypeDef

    from econed.actions.call import Call
    from econed.opennebula.documents import UserDocument, Vector

CLAIM_LIFETIME = 600
"""Seconds after which a claim is considered abandoned, because its process died."""

_MAX_OWN_CLAIM_AGE = CLAIM_LIFETIME // 2
"""Seconds after which a request no longer relies on its own claim: the update that follows needs time, too."""

_CLAIM_REMOVAL_AGE = 24 * 3600
"""Seconds after which an abandoned claim is removed: no two clocks differ by that much."""

_KEY_PREFIX = "EC2_KEYPAIR_"
_CLAIM_PREFIX = "EC2_KEYCLAIM_"
_TAG_PREFIX = "EC2_KEYTAG_"
_RUBY_KEY_PAIRS = "EC2_KEYPAIRS"
MAX_KEY_PAIRS = 5000
"""Maximum number of key pairs of one user (EC2 API Reference, CreateKeyPair: "up to 5,000 key pairs per Region")."""

ID_PREFIX = "key-"
_ID_DIGITS = 17


@dataclass(frozen=True)
class KeyPair:
    """A key pair of a user.

    `public_key` is a line of authorized_keys; `created` is in seconds since the epoch, None for the Ruby server's.
    """

    id: str
    name: str
    type: KeyType
    public_key: str
    fingerprint: str
    created: int | None
    tags: tuple[TagTypeDef, ...]


async def own_key_pairs(call: Call) -> tuple[UserDocument, dict[str, KeyPair]]:
    """Return the caller's document, and their key pairs by name, sorted by name."""
    user = await call.session.current_user()
    return user, await call.in_thread(lambda: key_pairs(user))


def key_pairs(user: UserDocument) -> dict[str, KeyPair]:
    """Return the key pairs of a user by name, sorted by name.

    For thousands of key pairs this takes some tenths of a second: `own_key_pairs` does it in a thread.
    """
    attributes = user.template
    entries = {hex_name(_KEY_PREFIX, name): (name, entry) for name, entry in _ruby_key_pairs(attributes)}
    tags: dict[str, list[tuple[str, Value]]] = {}
    for attribute_name, value in attributes:
        if attribute_name.startswith(_TAG_PREFIX):
            tags.setdefault(attribute_name[: len(_TAG_PREFIX) + _ID_DIGITS + 1], []).append((attribute_name, value))
        elif attribute_name.startswith(_KEY_PREFIX):
            entries.pop(attribute_name, None)
            entry = attributes.vector(attribute_name)
            if (name := decode_member(entry, "NAME")) is not None:
                entries[attribute_name] = (name, entry)
    return {
        name: _key_pair(user.id, name, entry, tags.get(key_pair_tag_prefix(user.id, name), ()))
        for name, entry in sorted(entries.values(), key=lambda name_and_entry: name_and_entry[0])
    }


def key_pair_id(user_id: int, name: str) -> str:
    """Return the KeyPairId of a user's key pair, which is derived from its name and not stored."""
    return ID_PREFIX + hashlib.sha256(f"{user_id}:{name}".encode()).hexdigest()[:_ID_DIGITS]


async def key_pairs_by_id(call: Call, ids: Sequence[str]) -> tuple[KeyPair, ...]:
    """Return the caller's key pairs with these ids, each once; raises `EC2Error` InvalidKeyPair.NotFound."""
    if not ids:
        return ()
    _, pairs = await own_key_pairs(call)
    by_id = {pair.id: pair for pair in pairs.values()}
    for key_id in ids:
        if key_id not in by_id:
            raise key_pair_not_found(key_id)
    return tuple(by_id[key_id] for key_id in dict.fromkeys(ids))


def key_pair_not_found(name_or_id: str) -> EC2Error:
    """Return the error for a key pair that the caller does not have."""
    return EC2Error("InvalidKeyPair.NotFound", f"The key pair '{name_or_id}' does not exist")


async def user_for_new_key_pair(call: Call, name: str, added: str = "") -> UserDocument:
    """Return the caller's document, once it is checked that they may have a new key pair with this name.

    `added` is the template text of the new key pair. Raises `EC2Error` InvalidKeyPair.Duplicate or
    KeyPairLimitExceeded.
    """
    user, pairs = await own_key_pairs(call)
    if name in pairs:
        raise EC2Error("InvalidKeyPair.Duplicate", f"The keypair '{name}' already exists.")
    if len(pairs) >= MAX_KEY_PAIRS:
        raise _too_many_key_pairs()
    await call.in_thread(lambda: check_size(user.template, added, MAX_ON_USER, _too_many_key_pairs()))
    return user


async def add_key_pair(call: Call, user: UserDocument, name: str, key: PublicKey, tags: Mapping[str, str]) -> KeyPair:
    """Add a key pair to the caller, and return it once it is certain that no other request has created the same.

    Raises `EC2Error` InvalidKeyPair.Duplicate, KeyPairLimitExceeded if the maximum size of a user's data is reached, or
    RequestLimitExceeded, after which SDKs retry, if another request for this name is in progress.
    """
    created = call.now
    added = template(_text(name, key, created), tag_text(tags, key_pair_tag_prefix(user.id, name)))
    await call.in_thread(lambda: check_size(user.template, added, MAX_ON_USER, _too_many_key_pairs()))
    claim = _CLAIM_PREFIX + secrets.token_hex(8).upper()
    await call.session.user_update(user.id, vector(claim, {**encode_member("NAME", name), "TIME": str(created)}))
    try:
        current = await user_for_new_key_pair(call, name, added)
        if _has_other_claim(call, current.template, name, claim) or call.now - created > _MAX_OWN_CLAIM_AGE:
            raise _claimed()
        stale_tags = {tag["Key"] for tag in _tags(current, name)} - tags.keys()
        await call.session.user_update(
            user.id,
            template(
                added,
                untag_text(stale_tags, key_pair_tag_prefix(user.id, name)),
                removal(claim),
                *map(removal, _abandoned_claims(call, current.template)),
            ),
        )
    except (EC2Error, OpenNebulaRefusal):
        await call.session.user_update(user.id, removal(claim))
        raise
    return KeyPair(
        id=key_pair_id(user.id, name),
        name=name,
        type=key.type,
        public_key=key.line,
        fingerprint=key.fingerprint,
        created=created,
        tags=tuple({"Key": tag_key, "Value": value} for tag_key, value in sorted(tags.items())),
    )


def removal_text(user: UserDocument, pair: KeyPair) -> str:
    """Return the template text that removes a key pair from its user, with its tags."""
    name, tags = hex_name(_KEY_PREFIX, pair.name), (tag["Key"] for tag in pair.tags)
    is_of_ruby_server = any(ruby_name == pair.name for ruby_name, _ in _ruby_key_pairs(user.template))
    removed = attribute(name, "") if is_of_ruby_server else removal(name)
    return template(removed, untag_text(tags, key_pair_tag_prefix(user.id, pair.name)))


def key_pair_tag_prefix(user_id: int, name: str) -> str:
    """Return the prefix of the attributes with the tags of a key pair; its length does not depend on the name."""
    return f"{_TAG_PREFIX}{key_pair_id(user_id, name).removeprefix(ID_PREFIX).upper()}_"


def _tags(user: UserDocument, name: str) -> list[TagTypeDef]:
    return tags_under(user.template, key_pair_tag_prefix(user.id, name))


def _text(name: str, key: PublicKey, created: int) -> str:
    return vector(
        hex_name(_KEY_PREFIX, name),
        {
            **encode_member("NAME", name),
            **encode_member("PUBLIC_KEY", key.line),
            "FINGERPRINT": key.fingerprint,
            "TYPE": key.type,
            "CREATED": str(created),
        },
    )


def _key_pair(user_id: int, name: str, entry: Vector, tags: Iterable[tuple[str, Value]]) -> KeyPair:
    public_key = decode_member(entry, "PUBLIC_KEY") or ""
    return KeyPair(
        id=key_pair_id(user_id, name),
        name=name,
        type=key_type_of(public_key),
        public_key=public_key,
        fingerprint=entry.get("FINGERPRINT", ""),
        created=epoch_seconds(entry.get("CREATED", "")),
        tags=tuple(tags_under(Attributes(tags), key_pair_tag_prefix(user_id, name))),
    )


def _ruby_key_pairs(attributes: Attributes) -> Iterator[tuple[str, Vector]]:
    """Yield names and entries, in the new form, of the Ruby server's key pairs; none if the attribute is invalid."""
    try:
        by_name = json.loads(base64.b64decode(attributes.text(_RUBY_KEY_PAIRS)))
    except (binascii.Error, ValueError, RecursionError):
        return
    for name, entry in by_name.items() if isinstance(by_name, dict) else ():
        if isinstance(entry, dict):
            key, fingerprint = entry.get("public_key"), entry.get("fingerprint")
            if isinstance(key, str) and isinstance(fingerprint, str):
                yield name, {"PUBLIC_KEY": key, "FINGERPRINT": fingerprint}


def _abandoned_claims(call: Call, attributes: Attributes) -> Iterator[str]:
    """Yield the names of the claims, for all key pairs, that are old enough to be removed."""
    for name in attributes.names():
        if name.startswith(_CLAIM_PREFIX):
            time = epoch_seconds(attributes.vector(name).get("TIME", ""))
            if time is not None and call.now - time > _CLAIM_REMOVAL_AGE:
                yield name


def _has_other_claim(call: Call, attributes: Attributes, name: str, own_claim: str) -> bool:
    """Whether another request has a claim on a key pair that is not abandoned."""
    for attribute_name in attributes.names():
        if attribute_name.startswith(_CLAIM_PREFIX) and attribute_name != own_claim:
            claim = attributes.vector(attribute_name)
            time = epoch_seconds(claim.get("TIME", ""))
            is_live = time is not None and call.now - time < CLAIM_LIFETIME
            if is_live and decode_member(claim, "NAME") == name:
                return True
    return False


def _too_many_key_pairs() -> EC2Error:
    return EC2Error("KeyPairLimitExceeded", f"The maximum of {MAX_KEY_PAIRS} key pairs has been reached.")


def _claimed() -> EC2Error:
    return EC2Error("RequestLimitExceeded", "Another request is creating this key pair. Try again.", 503)
