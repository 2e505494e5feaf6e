"""Tags on instances, AMIs and key pairs (EC2 API Reference, CreateTags, DeleteTags, DescribeTags)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from econed import ids
from econed.actions.action import action
from econed.actions.filters import Filters, field, literally
from econed.actions.image_view import is_ami
from econed.actions.images import amis, images
from econed.actions.inputs import Filter, Tag
from econed.actions.key_store import ID_PREFIX, KeyPair, key_pairs, key_pairs_by_id, tag_prefix
from econed.actions.machines import listed_ids, machines, shown_sets
from econed.actions.paging import Listing, Paging, Position
from econed.actions.tagging import PREFIX, checked, limited, tag_text, tags_of, untag_text
from econed.errors import EC2Error
from econed.ids import IMAGE, INSTANCE, Kind
from econed.opennebula.documents import Image, OwnedView, Right, VirtualMachine
from econed.opennebula.template import template

if TYPE_CHECKING:
    from types_boto3_ec2.literals import ResourceTypeType
    from types_boto3_ec2.type_defs import TagDescriptionTypeDef, TagTypeDef

    from econed.actions.call import Call

_KEY_PAIR = ID_PREFIX.removesuffix("-")
_NOT_TAGGED_HERE = {
    kind.prefix: kind for kind in (ids.VOLUME, ids.SNAPSHOT, ids.SECURITY_GROUP, ids.SUBNET, ids.NETWORK_INTERFACE)
}
_LISTING = Listing("tags", (str, int, str))

_FILTERS = Filters(
    MappingProxyType(
        {
            "key": field("Key"),
            "resource-id": field("ResourceId"),
            "resource-type": field("ResourceType"),
            "value": field("Value"),
        }
    )
)

_Text: TypeAlias = Callable[[Iterable["TagTypeDef"], str], str]
"""Gives the template text of a change from the tags that are there and the prefix of their attributes."""


@dataclass(frozen=True)
class _Resources:
    """What a change of tags is about, all of it found."""

    machines: Sequence[VirtualMachine]
    images: Sequence[Image]
    key_pairs: Sequence[KeyPair]

    def tags(self) -> Iterator[Iterable[TagTypeDef]]:
        """Yield the tags of each resource."""
        yield from (tags_of(machine.user_template) for machine in self.machines)
        yield from (tags_of(image.template) for image in self.images)
        yield from (pair.tags for pair in self.key_pairs)


@action()
async def create_tags(call: Call, *, resources: Sequence[str], tags: Sequence[Tag]) -> None:
    """Put tags on resources; a tag whose key is there already gets the new value."""
    added = checked(tags)
    found = await _find(call, resources)
    for present in found.tags():
        limited(present, added)
    await _change(call, found, lambda _, prefix: tag_text(added, prefix))


@action()
async def delete_tags(call: Call, *, resources: Sequence[str], tags: Sequence[Tag] | None = None) -> None:
    """Take tags off resources: those of a key, or of a key and value, the empty one included; without Tags, all.

    What is not there is as good as taken off.
    """
    if any(not tag.get("Key") for tag in tags or ()):
        raise EC2Error("InvalidParameterValue", "Tag keys cannot be empty.")

    def is_meant(tag: TagTypeDef) -> bool:
        return tags is None or any(
            each["Key"] == tag["Key"] and each.get("Value", tag["Value"]) == tag["Value"] for each in tags
        )

    await _change(
        call,
        await _find(call, resources),
        lambda present, prefix: untag_text((tag["Key"] for tag in present if is_meant(tag)), prefix),
    )


@action()
async def describe_tags(
    call: Call,
    *,
    filters: Sequence[Filter] = (),
    max_results: int | None = None,
    next_token: str | None = None,
) -> dict[str, Any]:
    """List the tags of the instances and AMIs that the caller may see, and of his key pairs."""
    wanted = [each for given in filters for each in _spelled_out(given)]
    matches = _FILTERS.matcher(wanted)
    paging = Paging.of(_LISTING, max_results, next_token)
    found: list[TagDescriptionTypeDef] = []
    async with aclosing(_described(call, wanted, paging.after)) as sets:
        async for each in sets:
            found = paging.rest([*found, *filter(matches, each)], _position)
            if paging.limit is not None and len(found) > paging.limit:
                break
    page, last = paging.page(found, _position)
    return {"Tags": page, **last}


async def _find(call: Call, resource_ids: Sequence[str]) -> _Resources:
    """Return the resources with these ids.

    Raises `EC2Error` …NotFound or ….Malformed, InvalidID for a text that is no id of any kind.
    """
    of_kind: dict[str, list[str]] = {INSTANCE.prefix: [], IMAGE.prefix: [], _KEY_PAIR: []}
    for text in resource_ids:
        prefix, _, rest = text.partition("-")
        if prefix in of_kind:
            of_kind[prefix].append(text)
        elif prefix in _NOT_TAGGED_HERE:
            kind = _NOT_TAGGED_HERE[prefix]
            raise kind.not_found(text) if rest.isdecimal() else kind.malformed(text)
        else:
            raise EC2Error("InvalidID", f"The ID '{text}' is not valid")
    return _Resources(
        machines=await machines(call, of_kind[INSTANCE.prefix]),
        images=await amis(call, of_kind[IMAGE.prefix]),
        key_pairs=await key_pairs_by_id(call, of_kind[_KEY_PAIR]),
    )


async def _change(call: Call, found: _Resources, text: _Text) -> None:
    """Give every resource the attributes that `text` says; one that it says nothing of is left alone."""

    async def change(thing: OwnedView) -> None:
        if isinstance(thing, VirtualMachine) and (changed := text(tags_of(thing.user_template), PREFIX)):
            await call.one.vm_update(thing.id, changed)
        elif isinstance(thing, Image) and (changed := text(tags_of(thing.template), PREFIX)):
            await call.one.image_update(thing.id, changed)

    await call.change_all(Right.MANAGE, (*found.machines, *found.images), change)
    on_user = template(*(text(pair.tags, tag_prefix(call.caller.id, pair.name)) for pair in found.key_pairs))
    if on_user:
        await call.one.user_update(call.caller.id, on_user)


def _spelled_out(given: Filter) -> Iterator[Filter]:
    """Yield the filters on key and value that a filter `tag:KEY` is here, where an item is one tag."""
    name = given.get("Name", "")
    if name.startswith("tag:"):
        yield {"Name": "key", "Values": [literally(name.removeprefix("tag:"))]}
        given = {**given, "Name": "value"}
    yield given


async def _described(
    call: Call, filters: Sequence[Filter], after: Position | None
) -> AsyncGenerator[list[TagDescriptionTypeDef], None]:
    """Yield the tags of all resources in the order of `_position`, from the resource of `after` on.

    Only those are read from oned that the filters on resource id and type leave.
    """
    types = _FILTERS.values_of("resource-type", filters)
    named = _FILTERS.values_of("resource-id", filters)
    prefix, number, _ = after or ("", 0, "")

    def is_wanted(kind: str, resource_type: str) -> bool:
        return (types is None or resource_type in types) and str(prefix) <= kind

    if is_wanted(IMAGE.prefix, "image"):
        pool = await call.one.images() if named is None else await images(call, _numbers(IMAGE, named))
        for image in sorted(filter(is_ami, pool), key=lambda each: each.id):
            yield _descriptions(IMAGE.format(image.id), "image", tags_of(image.template))
    if is_wanted(INSTANCE.prefix, "instance"):
        listed = await listed_ids(call) if named is None else _numbers(INSTANCE, named)
        rest = [each for each in listed if prefix != INSTANCE.prefix or each >= int(number)]
        async with aclosing(shown_sets(call, rest)) as sets:
            async for each in sets:
                yield [
                    tag
                    for machine in each
                    for tag in _descriptions(INSTANCE.format(machine.id), "instance", tags_of(machine.user_template))
                ]
    if is_wanted(_KEY_PAIR, "key-pair") and (named is None or any(each.startswith(ID_PREFIX) for each in named)):
        for pair in sorted(key_pairs(await call.one.myself()).values(), key=lambda each: each.id):
            yield _descriptions(pair.id, "key-pair", pair.tags)


def _descriptions(
    resource_id: str, resource_type: ResourceTypeType, tags: Iterable[TagTypeDef]
) -> list[TagDescriptionTypeDef]:
    return [
        {"ResourceId": resource_id, "ResourceType": resource_type, "Key": tag["Key"], "Value": tag["Value"]}
        for tag in tags
    ]


def _position(tag: TagDescriptionTypeDef) -> tuple[str, int, str]:
    """Return where a tag stands in the list: by kind, then by number, which ids of ten digits need, then by key."""
    prefix, _, number = tag["ResourceId"].partition("-")
    return prefix, int(number, 16 if prefix == _KEY_PAIR else 10), tag["Key"]


def _numbers(kind: Kind, texts: Iterable[str]) -> tuple[int, ...]:
    """Return the OpenNebula ids in those texts that are ids of this kind: a filter may name anything."""
    return tuple(sorted({int(text.partition("-")[2]) for text in texts if kind.is_id(text)}))
