"""Key pairs (EC2 API Reference, CreateKeyPair, ImportKeyPair, DescribeKeyPairs, DeleteKeyPair)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, NotRequired, TypedDict

from econed.actions.action import action
from econed.actions.filters import Filters, field, tag_filters
from econed.actions.inputs import Filter, TagSpecification, check_text
from econed.actions.keys.public_keys import KeyType, generate, imported
from econed.actions.keys.store import KeyPair, add, not_found, own_key_pairs, removal_text, user_without
from econed.actions.tagging import specified_tags
from econed.actions.timestamps import timestamp
from econed.errors import EC2Error

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import KeyPairInfoTypeDef, TagTypeDef

    from econed.actions.call import Call

_MAX_NAME = 255

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
    """Make a key pair; the private key is in the answer and nowhere else. Its name is the comment of the public key."""
    tags = specified_tags(tag_specifications, "key-pair")["key-pair"]
    check_text("KeyName", key_name, _MAX_NAME)
    user = await user_without(call, key_name)
    key = await call.in_thread(lambda: generate(key_type, key_name))
    pair = await add(call, user, key_name, key.public, tags)
    return {**_identity(pair), "KeyMaterial": key.private_text}


@action()
async def import_key_pair(
    call: Call, *, key_name: str, public_key_material: bytes, tag_specifications: Sequence[TagSpecification] = ()
) -> ImportKeyPairResult:
    """Keep a public key that the caller brings, with its comment."""
    tags = specified_tags(tag_specifications, "key-pair")["key-pair"]
    check_text("KeyName", key_name, _MAX_NAME)
    key = imported(public_key_material)
    user = await user_without(call, key_name)
    return _identity(await add(call, user, key_name, key, tags))


@action()
async def describe_key_pairs(
    call: Call,
    *,
    key_names: Sequence[str] = (),
    key_pair_ids: Sequence[str] = (),
    include_public_key: bool = False,
    filters: Sequence[Filter] = (),
) -> DescribeKeyPairsResult:
    """List the caller's key pairs, by name.

    Raises `EC2Error` InvalidKeyPair.NotFound for a name or an id that he has not.
    """
    selection = _FILTERS.selection(filters, call.budget)
    _, pairs = await own_key_pairs(call)
    ids = {pair.id for pair in pairs.values()}
    names, wanted = frozenset(key_names), frozenset(key_pair_ids)
    for name in key_names:
        if name not in pairs:
            raise not_found(name)
    for key_pair_id in key_pair_ids:
        if key_pair_id not in ids:
            raise not_found(key_pair_id)
    shown = (
        _info(pair, include_public_key)
        for pair in pairs.values()
        if (pair.name in names or not names) and (pair.id in wanted or not wanted)
    )
    return {"KeyPairs": await selection.matching(shown)}


@action()
async def delete_key_pair(call: Call, *, key_name: str = "", key_pair_id: str = "") -> DeleteKeyPairResult:
    """Remove a key pair; one that does not exist is as good as removed. Instances that have the key keep it."""
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


async def key_pair(call: Call, name: str) -> KeyPair:
    """Return the caller's key pair of this name; raises `EC2Error` InvalidKeyPair.NotFound."""
    _, pairs = await own_key_pairs(call)
    if name not in pairs:
        raise not_found(name)
    return pairs[name]


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
