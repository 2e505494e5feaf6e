"""Key pairs as they are kept on the user: public keys only, one attribute each.

A key pair is `EC2_KEYPAIR_<hex of name>=[NAME, FINGERPRINT, PUBLIC_KEY, TYPE, CREATED]`, put there by one atomic
append and taken away by another. Key pairs of the Ruby server, EC2_KEYPAIRS (base64 of JSON, by name), are read too,
and removed by laying an empty attribute of the new form over them. Tags are attributes of their own beside it.

Of two requests that make the same key pair at once, one at most may succeed: the private key of the other would be
worth nothing. oned has no "add if it is not there". So each announces itself by an attribute of its own, looks, and
withdraws if it sees another announcement or the key pair itself. Who announces second sees the announcement of the
first, or the key pair that took its place in one and the same update: both may lose, two never win.
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

from econed.actions.keys.public_keys import KeyType, PublicKey, type_of
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
"""Seconds after which an announcement is taken to be left over from a process that died."""

_CLAIM_USABLE = CLAIM_LIFETIME // 2
"""Seconds after which one does not rely on one's own any more: the update that follows needs time to arrive, too."""

_CLAIM_FORGOTTEN = 24 * 3600
"""Seconds after which one that was left over is cleared away: no two clocks differ by that much."""

_KEY = "EC2_KEYPAIR_"
_CLAIM = "EC2_KEYCLAIM_"
_TAG = "EC2_KEYTAG_"
_OF_THE_RUBY_SERVER = "EC2_KEYPAIRS"
MAX_KEY_PAIRS = 5000
"""Key pairs of one user (EC2 API Reference, CreateKeyPair: "up to 5,000 key pairs per Region")."""

ID_PREFIX = "key-"
_ID_DIGITS = 17


@dataclass(frozen=True)
class KeyPair:
    """A key pair of a user.

    `public_key` is a line of authorized_keys, `created` in seconds since the epoch: None where the Ruby server made it.
    """

    id: str
    name: str
    type: KeyType
    public_key: str
    fingerprint: str
    created: int | None
    tags: tuple[TagTypeDef, ...]


async def own_key_pairs(call: Call) -> tuple[UserDocument, dict[str, KeyPair]]:
    """Return the caller, and their key pairs by name, in the order of their names."""
    user = await call.session.current_user()
    return user, await call.in_thread(lambda: key_pairs(user))


def key_pairs(user: UserDocument) -> dict[str, KeyPair]:
    """Return the key pairs of a user by name, in the order of their names.

    For the thousands that a user may have it takes some tenths of a second: `own_key_pairs` does it in a thread.
    """
    attributes = user.template
    kept = {hex_name(_KEY, name): (name, entry) for name, entry in _of_the_ruby_server(attributes)}
    tagged: dict[str, list[tuple[str, Value]]] = {}
    for attribute_name, value in attributes:
        if attribute_name.startswith(_TAG):
            tagged.setdefault(attribute_name[: len(_TAG) + _ID_DIGITS + 1], []).append((attribute_name, value))
        elif attribute_name.startswith(_KEY):
            kept.pop(attribute_name, None)
            entry = attributes.vector(attribute_name)
            if (name := decode_member(entry, "NAME")) is not None:
                kept[attribute_name] = (name, entry)
    return {
        name: _key_pair(user.id, name, entry, tagged.get(tag_prefix(user.id, name), ()))
        for name, entry in sorted(kept.values(), key=lambda each: each[0])
    }


def key_pair_id(user_id: int, name: str) -> str:
    """Return the KeyPairId of a user's key pair. It follows from its name: nothing has to be kept for it."""
    return ID_PREFIX + hashlib.sha256(f"{user_id}:{name}".encode()).hexdigest()[:_ID_DIGITS]


async def key_pairs_by_id(call: Call, ids: Sequence[str]) -> tuple[KeyPair, ...]:
    """Return the caller's key pairs with these ids, each once; raises `EC2Error` InvalidKeyPair.NotFound."""
    if not ids:
        return ()
    _, pairs = await own_key_pairs(call)
    by_id = {pair.id: pair for pair in pairs.values()}
    for each in ids:
        if each not in by_id:
            raise not_found(each)
    return tuple(by_id[each] for each in dict.fromkeys(ids))


def not_found(what: str) -> EC2Error:
    """Return the error for a key pair, by name or id, that the caller has not."""
    return EC2Error("InvalidKeyPair.NotFound", f"The key pair '{what}' does not exist")


async def user_without(call: Call, name: str, added: str = "") -> UserDocument:
    """Return the caller, who may have one more key pair, of this name, which is the template text `added`.

    Raises `EC2Error` InvalidKeyPair.Duplicate or KeyPairLimitExceeded.
    """
    user, pairs = await own_key_pairs(call)
    if name in pairs:
        raise EC2Error("InvalidKeyPair.Duplicate", f"The keypair '{name}' already exists.")
    if len(pairs) >= MAX_KEY_PAIRS:
        raise _too_many()
    await call.in_thread(lambda: check_size(user.template, added, MAX_ON_USER, _too_many()))
    return user


async def add(call: Call, user: UserDocument, name: str, key: PublicKey, tags: Mapping[str, str]) -> KeyPair:
    """Put a key pair on the caller, and return it once it is certain that no other request did the same.

    Raises `EC2Error` InvalidKeyPair.Duplicate, KeyPairLimitExceeded where the caller has as much as may be kept on a
    user, or, where another request for this name is on its way, RequestLimitExceeded, after which the SDKs try again by
    themselves.
    """
    announced = call.now
    added = template(_text(name, key, announced), tag_text(tags, tag_prefix(user.id, name)))
    await call.in_thread(lambda: check_size(user.template, added, MAX_ON_USER, _too_many()))
    claim = _CLAIM + secrets.token_hex(8).upper()
    await call.session.user_update(user.id, vector(claim, {**encode_member("NAME", name), "TIME": str(announced)}))
    try:
        seen = await user_without(call, name, added)
        if _others(call, seen.template, name, claim) or call.now - announced > _CLAIM_USABLE:
            raise _under_way()
        stale = {tag["Key"] for tag in _tags(seen, name)} - tags.keys()
        await call.session.user_update(
            user.id,
            template(
                added,
                untag_text(stale, tag_prefix(user.id, name)),
                removal(claim),
                *map(removal, _forgotten(call, seen.template)),
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
        created=announced,
        tags=tuple({"Key": each, "Value": value} for each, value in sorted(tags.items())),
    )


def removal_text(user: UserDocument, pair: KeyPair) -> str:
    """Return the template text that removes a key pair from its user, with its tags."""
    name, tags = hex_name(_KEY, pair.name), (tag["Key"] for tag in pair.tags)
    is_older = any(older == pair.name for older, _ in _of_the_ruby_server(user.template))
    gone = attribute(name, "") if is_older else removal(name)
    return template(gone, untag_text(tags, tag_prefix(user.id, pair.name)))


def tag_prefix(user_id: int, name: str) -> str:
    """Return how the attributes begin that hold the tags of a key pair; short, whatever its name."""
    return f"{_TAG}{key_pair_id(user_id, name).removeprefix(ID_PREFIX).upper()}_"


def _tags(user: UserDocument, name: str) -> list[TagTypeDef]:
    return tags_under(user.template, tag_prefix(user.id, name))


def _text(name: str, key: PublicKey, created: int) -> str:
    return vector(
        hex_name(_KEY, name),
        {
            **encode_member("NAME", name),
            **encode_member("PUBLIC_KEY", key.line),
            "FINGERPRINT": key.fingerprint,
            "TYPE": key.type,
            "CREATED": str(created),
        },
    )


def _key_pair(user_id: int, name: str, entry: Vector, tagged: Iterable[tuple[str, Value]]) -> KeyPair:
    public_key = decode_member(entry, "PUBLIC_KEY") or ""
    return KeyPair(
        id=key_pair_id(user_id, name),
        name=name,
        type=type_of(public_key),
        public_key=public_key,
        fingerprint=entry.get("FINGERPRINT", ""),
        created=epoch_seconds(entry.get("CREATED", "")),
        tags=tuple(tags_under(Attributes(tagged), tag_prefix(user_id, name))),
    )


def _of_the_ruby_server(attributes: Attributes) -> Iterator[tuple[str, Vector]]:
    """Yield the names that the Ruby server kept, with entries like our own; nothing where something else is kept."""
    try:
        kept = json.loads(base64.b64decode(attributes.text(_OF_THE_RUBY_SERVER)))
    except (binascii.Error, ValueError, RecursionError):
        return
    for name, entry in kept.items() if isinstance(kept, dict) else ():
        if isinstance(entry, dict):
            key, fingerprint = entry.get("public_key"), entry.get("fingerprint")
            if isinstance(key, str) and isinstance(fingerprint, str):
                yield name, {"PUBLIC_KEY": key, "FINGERPRINT": fingerprint}


def _forgotten(call: Call, attributes: Attributes) -> Iterator[str]:
    """Yield the announcements, for whatever key pair, that nobody can be relying on any more."""
    for name in attributes.names():
        if name.startswith(_CLAIM):
            time = epoch_seconds(attributes.vector(name).get("TIME", ""))
            if time is not None and call.now - time > _CLAIM_FORGOTTEN:
                yield name


def _others(call: Call, attributes: Attributes, name: str, own: str) -> bool:
    """Whether there are announcements for a key pair beside one's own that are not too old."""
    for other in attributes.names():
        if other.startswith(_CLAIM) and other != own:
            claim = attributes.vector(other)
            time = epoch_seconds(claim.get("TIME", ""))
            is_live = time is not None and call.now - time < CLAIM_LIFETIME
            if is_live and decode_member(claim, "NAME") == name:
                return True
    return False


def _too_many() -> EC2Error:
    return EC2Error("KeyPairLimitExceeded", f"The maximum of {MAX_KEY_PAIRS} key pairs has been reached.")


def _under_way() -> EC2Error:
    return EC2Error("RequestLimitExceeded", "Another request is making this key pair. Try again.", 503)
