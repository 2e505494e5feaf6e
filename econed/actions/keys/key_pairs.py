"""Key pairs (EC2 API Reference, CreateKeyPair, ImportKeyPair, DescribeKeyPairs, DeleteKeyPair)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, NotRequired, TypedDict

from econed.actions.action import action
from econed.actions.filters import Filters, field, tag_filters
from econed.actions.inputs import Filter, TagSpecification, check_text
from econed.actions.keys.public_keys import KeyType, generate_key, parse_public_key
from econed.actions.keys.store import (
    KeyPair,
    add_key_pair,
    key_pair_not_found,
    own_key_pairs,
    removal_text,
    user_for_new_key_pair,
)
from econed.actions.tagging import specified_tags
from econed.actions.timestamps import timestamp
from econed.errors import EC2Error

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import KeyPairInfoTypeDef, TagTypeDef

    from econed.actions.call import Call
    from econed.opennebula.documents import UserDocument

_MAX_NAME = 255
"""Maximum length of a name in characters (EC2 API Reference, CreateKeyPair)."""

_FILTERS = Filters(
    MappingProxyType(
        {
            "fingerprint": field("KeyFingerprint"),
            "key-name": field("KeyName"),
            "key-pair-id": field("KeyPairId"),
            **tag_filters(),
        }
    )
)


class ImportKeyPairResult(TypedDict):
    """EC2 ImportKeyPairResult."""

    KeyPairId: str
    KeyName: str
    KeyFingerprint: str
    Tags: NotRequired[list[TagTypeDef]]


class DescribeKeyPairsResult(TypedDict):
    """EC2 DescribeKeyPairsResult."""

    KeyPairs: list[KeyPairInfoTypeDef]


class DeleteKeyPairResult(TypedDict):
    """EC2 DeleteKeyPairResult."""

    Return: bool
    KeyPairId: NotRequired[str]


class CreateKeyPairResult(ImportKeyPairResult):
    """EC2 CreateKeyPairResult."""

    KeyMaterial: str


@action(as_is={"KeyFormat": "pem"})
async def create_key_pair(
    call: Call, *, key_name: str, key_type: KeyType = "rsa", tag_specifications: Sequence[TagSpecification] = ()
) -> CreateKeyPairResult:
    """Create a key pair; the private key is in the response only. Its name becomes the comment of the public key."""
    tags = specified_tags(tag_specifications, "key-pair")["key-pair"]
    check_text("KeyName", key_name, _MAX_NAME)
    user = await user_for_new_key_pair(call, key_name)
    key = await call.in_thread(lambda: generate_key(key_type, key_name))
    pair = await add_key_pair(call, user, key_name, key.public, tags)
    return {**_identity(pair), "KeyMaterial": key.private_pem}


@action()
async def import_key_pair(
    call: Call, *, key_name: str, public_key_material: bytes, tag_specifications: Sequence[TagSpecification] = ()
) -> ImportKeyPairResult:
    """Store a public key of the caller, with its comment."""
    tags = specified_tags(tag_specifications, "key-pair")["key-pair"]
    check_text("KeyName", key_name, _MAX_NAME)
    key = parse_public_key(public_key_material)
    user = await user_for_new_key_pair(call, key_name)
    return _identity(await add_key_pair(call, user, key_name, key, tags))


@action()
async def describe_key_pairs(
    call: Call,
    *,
    key_names: Sequence[str] = (),
    key_pair_ids: Sequence[str] = (),
    include_public_key: bool = False,
    filters: Sequence[Filter] = (),
) -> DescribeKeyPairsResult:
    """List the caller's key pairs, sorted by name.

    Raises `EC2Error` InvalidKeyPair.NotFound for a name or an id that they do not have.
    """
    selection = _FILTERS.selection(filters, call.budget)
    _, pairs = await own_key_pairs(call)
    existing_ids = {pair.id for pair in pairs.values()}
    names, ids = frozenset(key_names), frozenset(key_pair_ids)
    for name in key_names:
        if name not in pairs:
            raise key_pair_not_found(name)
    for key_pair_id in key_pair_ids:
        if key_pair_id not in existing_ids:
            raise key_pair_not_found(key_pair_id)
    infos = (
        _info(pair, include_public_key)
        for pair in pairs.values()
        if (pair.name in names or not names) and (pair.id in ids or not ids)
    )
    return {"KeyPairs": await selection.matching(infos)}


@action()
async def delete_key_pair(call: Call, *, key_name: str = "", key_pair_id: str = "") -> DeleteKeyPairResult:
    """Delete a key pair; it is no error if it does not exist. Instances with the key keep it."""
    if not key_name and not key_pair_id:
        raise EC2Error("MissingParameter", "The request must contain the parameter KeyName or KeyPairId")
    if key_name and key_pair_id:
        raise EC2Error("InvalidParameterCombination", "KeyName and KeyPairId cannot be given together.")
    user, pairs = await own_key_pairs(call)
    for pair in pairs.values():
        if key_pair_id == pair.id or key_name == pair.name:
            text = await call.in_thread(partial(removal_text, user, pair))
            await call.session.user_update(user.id, text)
            return {"Return": True, "KeyPairId": pair.id}
    return {"Return": True}


async def find_key_pair(call: Call, name: str) -> tuple[UserDocument, KeyPair]:
    """Return the caller's document and their key pair with this name; raises `EC2Error` InvalidKeyPair.NotFound."""
    user, pairs = await own_key_pairs(call)
    if name not in pairs:
        raise key_pair_not_found(name)
    return user, pairs[name]


def _identity(pair: KeyPair) -> ImportKeyPairResult:
    identity: ImportKeyPairResult = {
        "KeyPairId": pair.id,
        "KeyName": pair.name,
        "KeyFingerprint": pair.fingerprint,
    }
    if pair.tags:
        identity["Tags"] = list(pair.tags)
    return identity


def _info(pair: KeyPair, with_public_key: bool) -> KeyPairInfoTypeDef:
    info: KeyPairInfoTypeDef = {
        "KeyPairId": pair.id,
        "KeyName": pair.name,
        "KeyType": pair.type,
        "KeyFingerprint": pair.fingerprint,
        "Tags": list(pair.tags),
    }
    if pair.created is not None:
        info["CreateTime"] = timestamp(pair.created)
    if with_public_key:
        info["PublicKey"] = pair.public_key
    return info
