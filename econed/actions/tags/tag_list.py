"""The list of all tags (EC2 API Reference, DescribeTags).

In the order of what they are on: AMIs, snapshots, volumes, elastic IPs, instances with the disks that are theirs alone,
key pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, NotRequired, TypedDict, TypeVar

from econed.actions.action import Parts, action
from econed.actions.addresses.store import address_store
from econed.actions.disk_images.finding import image_sets, images_by_id, matching_ids
from econed.actions.disk_images.volume_facts import is_volume, snapshot_tags
from econed.actions.filters import Filters, field
from econed.actions.images.view import is_ami
from econed.actions.inputs import Filter
from econed.actions.keys.store import ID_PREFIX, own_key_pairs
from econed.actions.listing import Page, in_parts, set_of
from econed.actions.machines.finding import listed_machine_ids, machine_sets
from econed.actions.paging import Listing, Paging, Position
from econed.actions.tagging import tags_of
from econed.actions.volumes.finding import disk_volumes
from econed.actions.volumes.snapshot_view import is_listed_snapshot
from econed.ids import ALLOCATION, IMAGE, INSTANCE, SNAPSHOT, VOLUME, Kind, allocation_id, machine_and_part
from econed.opennebula.documents import Image, VirtualMachine

if TYPE_CHECKING:
    from types_boto3_ec2.literals import ResourceTypeType
    from types_boto3_ec2.type_defs import TagDescriptionTypeDef, TagTypeDef

    from econed.actions.call import Call
    from econed.actions.listing import Read, Sets

_D = TypeVar("_D")
_KEY_PAIR = ID_PREFIX.removesuffix("-")
_SNAPSHOTS, _VOLUMES = f"{IMAGE.prefix}-{SNAPSHOT.prefix}", f"{IMAGE.prefix}-{VOLUME.prefix}"
"""Where snapshots and volumes stand in the list of tags: behind the AMIs, with which they are read."""

_STANDS_AT = {SNAPSHOT.prefix: _SNAPSHOTS, VOLUME.prefix: _VOLUMES}
_LAST = "\U0010ffff"
"""Behind all keys."""

_LISTING = Listing("tags", (str, int, str))

_FILTERS = Filters(
    MappingProxyType(
        {
            "key": field("Key"),
            "resource-id": field("ResourceId"),
            "resource-type": field("ResourceType"),
            "value": field("Value"),
        }
    ),
    tagged=lambda key: lambda tag: [tag["Value"]] if tag["Key"] == key else [],
)


class DescribeTagsResult(TypedDict):
    """EC2 DescribeTagsResult."""

    Tags: list[TagDescriptionTypeDef]
    NextToken: NotRequired[str]


@action()
async def describe_tags(
    call: Call,
    *,
    filters: Sequence[Filter] = (),
    max_results: int | None = None,
    next_token: str | None = None,
) -> Parts[DescribeTagsResult]:
    """List the tags of what the caller may see, and of their own key pairs and elastic IPs."""
    selection = _FILTERS.selection(filters, call.budget)
    paging = Paging.of(_LISTING, max_results, next_token)

    async def shown(tag: TagDescriptionTypeDef) -> TagDescriptionTypeDef | None:
        return tag if await selection.matches(tag) else None

    return in_parts("Tags", _described(call, filters, paging.after), shown, Page(_position, paging))


async def _described(call: Call, filters: Sequence[Filter], after: Position | None) -> Sets[TagDescriptionTypeDef]:
    """Yield what reads the tags of all resources in the order of `_position`, from the resource of `after` on.

    Only those are read from oned that the filters on resource id and type leave.
    """
    types = _FILTERS.values_of("resource-type", filters)
    named = _FILTERS.values_of("resource-id", filters)
    prefix, number, _ = after or ("", 0, "")

    def is_wanted(kind: str, *resource_types: str) -> bool:
        return (types is None or any(each in types for each in resource_types)) and str(prefix) <= kind

    if is_wanted(_VOLUMES, "image", "snapshot", "volume"):
        async with aclosing(_on_images(call, named)) as sets:
            async for read in sets:
                yield read
    if is_wanted(ALLOCATION.prefix, "elastic-ip") and (named is None or any(map(ALLOCATION.is_id, named))):
        yield partial(_on_addresses, call)
    if is_wanted(INSTANCE.prefix, "instance", "volume"):
        ended = types is None or "instance" in types
        listed = await listed_machine_ids(call, ended=ended) if named is None else _machine_numbers(named)
        rest = [each for each in listed if prefix != INSTANCE.prefix or each >= int(number)]
        async with aclosing(machine_sets(call, rest)) as machines:
            async for read_machines in machines:
                yield partial(_tags_on, [_on_machine], read_machines)
    if is_wanted(_KEY_PAIR, "key-pair") and (named is None or any(each.startswith(ID_PREFIX) for each in named)):
        yield partial(_on_key_pairs, call)


async def _on_images(call: Call, named: Iterable[str] | None) -> Sets[TagDescriptionTypeDef]:
    """Yield what reads the tags of images: those of few at once, of many those of one kind after the other."""
    if named is None:
        ids, few = await matching_ids(call, lambda _: True)
    else:
        numbers = {number for kind in (IMAGE, SNAPSHOT, VOLUME) for number in _numbers(kind, named)}
        ids, few = [], list(await images_by_id(call, sorted(numbers)))
    if ids and not few:
        for tags_of_kind in _TAGS_ON_IMAGES:
            async with aclosing(image_sets(call, ids)) as sets:
                async for read in sets:
                    yield partial(_tags_on, [tags_of_kind], read)
        return
    async with aclosing(set_of(few)) as sets:
        async for read in sets:
            yield partial(_tags_on, _TAGS_ON_IMAGES, read)


async def _tags_on(
    tags_of_kinds: Iterable[Callable[[_D], Iterable[TagDescriptionTypeDef]]], read: Read[_D]
) -> list[TagDescriptionTypeDef]:
    return [tag for document in await read() for tags_of_kind in tags_of_kinds for tag in tags_of_kind(document)]


def _ami_tags(image: Image) -> list[TagDescriptionTypeDef]:
    return _descriptions(IMAGE.format(image.id), "image", tags_of(image.template)) if is_ami(image) else []


def _snapshot_tags(image: Image) -> list[TagDescriptionTypeDef]:
    return (
        _descriptions(SNAPSHOT.format(image.id), "snapshot", snapshot_tags(image)) if is_listed_snapshot(image) else []
    )


def _volume_tags(image: Image) -> list[TagDescriptionTypeDef]:
    return _descriptions(VOLUME.format(image.id), "volume", tags_of(image.template)) if is_volume(image) else []


def _machine_numbers(named: Iterable[str]) -> tuple[int, ...]:
    """Return the machines that are named, or of which a disk is."""
    parts = (machine_and_part(VOLUME.prefix, text) for text in named)
    return tuple(sorted({*_numbers(INSTANCE, named), *(part[0] for part in parts if part is not None)}))


def _on_machine(machine: VirtualMachine) -> Iterator[TagDescriptionTypeDef]:
    """Yield the tags that a machine keeps: its own, and those of its disks."""
    yield from _descriptions(INSTANCE.format(machine.id), "instance", tags_of(machine.user_template))
    for volume in disk_volumes(machine):
        yield from _descriptions(volume.id, "volume", volume.tags)


async def _on_key_pairs(call: Call) -> list[TagDescriptionTypeDef]:
    _, pairs = await own_key_pairs(call)
    return [tag for pair in pairs.values() for tag in _descriptions(pair.id, "key-pair", pair.tags)]


async def _on_addresses(call: Call) -> list[TagDescriptionTypeDef]:
    """Return the tags of the caller's elastic IPs."""
    if call.settings.elasticips_vnet_id is None:
        return []
    pool = await address_store(call).read_pool()
    own = [address for address in pool.addresses.values() if address.uid == call.caller.id]
    return [tag for each in own for tag in _descriptions(allocation_id(each.ip), "elastic-ip", pool.tags(each))]


def _descriptions(
    resource_id: str, resource_type: ResourceTypeType, tags: Iterable[TagTypeDef]
) -> list[TagDescriptionTypeDef]:
    return [
        {"ResourceId": resource_id, "ResourceType": resource_type, "Key": tag["Key"], "Value": tag["Value"]}
        for tag in tags
    ]


def _position(tag: TagDescriptionTypeDef) -> tuple[str, int, str]:
    """Return where a tag stands in the list: by kind, then by number, which ids of ten digits need, then by key.

    Those of a disk of a machine come right behind the machine's own, with which they are kept.
    """
    prefix, _, number = tag["ResourceId"].partition("-")
    part = machine_and_part(VOLUME.prefix, tag["ResourceId"])
    if part is not None:
        return INSTANCE.prefix, part[0], f"{_LAST}{tag['ResourceId']} {tag['Key']}"
    return _STANDS_AT.get(prefix, prefix), int(number, 16 if prefix == _KEY_PAIR else 10), tag["Key"]


def _numbers(kind: Kind, texts: Iterable[str]) -> tuple[int, ...]:
    """Return the OpenNebula ids in those texts that are ids of this kind: a filter may name anything."""
    return tuple(sorted({int(text.partition("-")[2]) for text in texts if kind.is_id(text)}))


_TAGS_ON_IMAGES = (_ami_tags, _snapshot_tags, _volume_tags)
"""The tags of what an image is, in the order in which the kinds stand in the list."""
