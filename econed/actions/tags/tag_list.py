"""The list of all tags (EC2 API Reference, DescribeTags).

Ordered by resource: AMIs, snapshots, volumes that are images, elastic IPs, instances with their network interfaces and
their disks that are volumes, key pairs, placement groups, security groups with their rules, subnets, VPCs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, NotRequired, TypedDict, TypeVar

from econed.actions.action import Parts, action
from econed.actions.addresses.store import address_store
from econed.actions.disk_images.lookup import image_sets, images_by_id, matching_ids
from econed.actions.disk_images.volume_facts import is_volume, snapshot_tags
from econed.actions.filters import Filters, field
from econed.actions.images.view import is_ami
from econed.actions.inputs import Filter
from econed.actions.keys.store import ID_PREFIX, own_key_pairs
from econed.actions.listing import Page, in_parts, set_of
from econed.actions.machines.interface_facts import tagged_interfaces
from econed.actions.machines.listed import listed_machine_sets
from econed.actions.machines.lookup import machine_sets
from econed.actions.networks.lookup import read_networks
from econed.actions.paging import Listing, Paging, Position
from econed.actions.placement_groups.lookup import placement_groups
from econed.actions.security_groups.records import GroupRules
from econed.actions.tagging import tags_of
from econed.actions.volumes.lookup import disk_volumes
from econed.actions.volumes.snapshot_view import is_listed_snapshot
from econed.ids import (
    ALLOCATION,
    IMAGE,
    INSTANCE,
    NETWORK_INTERFACE,
    PLACEMENT_GROUP,
    SECURITY_GROUP,
    SECURITY_GROUP_RULE,
    SNAPSHOT,
    SUBNET,
    VOLUME,
    VPC,
    Kind,
    allocation_id,
    machine_and_part,
    machine_of_interface,
)
from econed.opennebula.documents import Image, VirtualMachine

if TYPE_CHECKING:
    from types_boto3_ec2.literals import ResourceTypeType
    from types_boto3_ec2.type_defs import TagDescriptionTypeDef, TagTypeDef

    from econed.actions.call import Call
    from econed.actions.sets import Read, Sets

_D = TypeVar("_D")
_KEY_PAIR = ID_PREFIX.removesuffix("-")
_HEXADECIMAL = (_KEY_PAIR, SECURITY_GROUP_RULE.prefix)
_SNAPSHOT_SORT_KEY, _VOLUME_SORT_KEY = f"{IMAGE.prefix}-{SNAPSHOT.prefix}", f"{IMAGE.prefix}-{VOLUME.prefix}"
"""The sort keys of snapshots and volumes: after the AMIs, with which they are read."""

_SORT_KEYS = {SNAPSHOT.prefix: _SNAPSHOT_SORT_KEY, VOLUME.prefix: _VOLUME_SORT_KEY}
TAG_COST = 20
"""Units of work (`econed.actions.pacing`) that it takes to read a tag of a document."""

_AFTER_ALL_KEYS = "\U0010ffff"
"""Sorts after all tag keys."""

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
    """List the tags of all resources that the caller may see, and of their own key pairs and elastic IPs."""
    selection = _FILTERS.selection(filters, call.budget)
    paging = Paging.of(_LISTING, max_results, next_token)

    async def view(tag: TagDescriptionTypeDef) -> TagDescriptionTypeDef | None:
        return tag if await selection.matches(tag) else None

    return in_parts("Tags", _sets(call, filters, paging.after), view, Page(_position, paging))


async def _sets(call: Call, filters: Sequence[Filter], after: Position | None) -> Sets[TagDescriptionTypeDef]:
    """Yield the sets of tags of all resources in the order of `_position`, from the resource of `after` on.

    Only resources that match the filters on resource id and type are read from oned.
    """
    types = _FILTERS.values_of("resource-type", filters)
    resource_ids = _FILTERS.values_of("resource-id", filters)
    prefix, opennebula_id, _ = after or ("", 0, "")

    def is_listed(sort_key: str, *resource_types: str) -> bool:
        has_type = types is None or any(resource_type in types for resource_type in resource_types)
        return has_type and str(prefix) <= sort_key

    if is_listed(_VOLUME_SORT_KEY, "image", "snapshot", "volume"):
        async with aclosing(_image_tags(call, resource_ids)) as sets:
            async for read in sets:
                yield read
    if is_listed(ALLOCATION.prefix, "elastic-ip") and (
        resource_ids is None or any(map(ALLOCATION.is_id, resource_ids))
    ):
        yield partial(_address_tags, call)
    if is_listed(INSTANCE.prefix, "instance", "network-interface", "volume"):
        ended = types is None or "instance" in types
        first = int(opennebula_id) if prefix == INSTANCE.prefix else 0
        async with aclosing(_machine_sets(call, resource_ids, first, ended=ended)) as machine_reads:
            async for read_machines in machine_reads:
                yield partial(_read_tags, call, [_machine_tags], read_machines)
    if is_listed(_KEY_PAIR, "key-pair") and (
        resource_ids is None or any(text.startswith(ID_PREFIX) for text in resource_ids)
    ):
        yield partial(_key_pair_tags, call)
    if is_listed(PLACEMENT_GROUP.prefix, "placement-group") and (
        resource_ids is None or any(map(PLACEMENT_GROUP.is_id, resource_ids))
    ):
        yield partial(_placement_group_tags, call)
    if is_listed(SECURITY_GROUP_RULE.prefix, "security-group", "security-group-rule") and (
        resource_ids is None or any(text.startswith(("sg-", "sgr-")) for text in resource_ids)
    ):
        yield partial(_group_tags, call)
    if is_listed(VPC.prefix, "subnet", "vpc") and (
        resource_ids is None or any(SUBNET.is_id(text) or VPC.is_id(text) for text in resource_ids)
    ):
        yield partial(_network_tags, call)


def _machine_sets(call: Call, resource_ids: Iterable[str] | None, first: int, *, ended: bool) -> Sets[VirtualMachine]:
    """Return readers of the machines with these resource ids (None: all), from the id `first` on."""
    if resource_ids is None:
        return listed_machine_sets(call, ended=ended, first=first)
    return machine_sets(call, [id_ for id_ in _machine_ids(resource_ids) if id_ >= first])


async def _image_tags(call: Call, resource_ids: Iterable[str] | None) -> Sets[TagDescriptionTypeDef]:
    """Yield the sets of tags of images: all kinds together if the images fit in one set, else kind after kind."""
    if resource_ids is None:
        ids, images = await matching_ids(call, lambda _: True)
    else:
        named_ids = {id_ for kind in (IMAGE, SNAPSHOT, VOLUME) for id_ in _opennebula_ids(kind, resource_ids)}
        ids, images = [], list(await images_by_id(call, sorted(named_ids)))
    if ids and not images:
        for tags_of_kind in _IMAGE_TAG_FUNCTIONS:
            async with aclosing(image_sets(call, ids)) as sets:
                async for read in sets:
                    yield partial(_read_tags, call, [tags_of_kind], read)
        return
    async with aclosing(set_of(images)) as sets:
        async for read in sets:
            yield partial(_read_tags, call, _IMAGE_TAG_FUNCTIONS, read)


async def _read_tags(
    call: Call, tags_of_kinds: Iterable[Callable[[_D], Iterable[TagDescriptionTypeDef]]], read: Read[_D]
) -> list[TagDescriptionTypeDef]:
    tags: list[TagDescriptionTypeDef] = []
    for document in await read():
        count = len(tags)
        for tags_of_kind in tags_of_kinds:
            tags += tags_of_kind(document)
        await call.budget.spend(TAG_COST * (len(tags) - count))
    return tags


def _ami_tags(image: Image) -> list[TagDescriptionTypeDef]:
    return _descriptions(IMAGE.format(image.id), "image", tags_of(image.template)) if is_ami(image) else []


def _snapshot_tags(image: Image) -> list[TagDescriptionTypeDef]:
    return (
        _descriptions(SNAPSHOT.format(image.id), "snapshot", snapshot_tags(image)) if is_listed_snapshot(image) else []
    )


def _volume_tags(image: Image) -> list[TagDescriptionTypeDef]:
    return _descriptions(VOLUME.format(image.id), "volume", tags_of(image.template)) if is_volume(image) else []


def _machine_ids(resource_ids: Iterable[str]) -> tuple[int, ...]:
    """Return the ids of the machines that `resource_ids` name, directly or by one of their disks or interfaces."""
    parts = (machine_and_part(VOLUME.prefix, text) for text in resource_ids)
    of_interfaces = map(machine_of_interface, filter(NETWORK_INTERFACE.is_well_formed, resource_ids))
    ids = {*_opennebula_ids(INSTANCE, resource_ids), *(part[0] for part in parts if part is not None)}
    return tuple(sorted(ids.union(id_ for id_ in of_interfaces if id_ is not None)))


def _machine_tags(machine: VirtualMachine) -> Iterator[TagDescriptionTypeDef]:
    """Yield the tags that a machine keeps: its own, and those of its interfaces and of its disks that are volumes."""
    yield from _descriptions(INSTANCE.format(machine.id), "instance", tags_of(machine.user_template))
    for interface, tags in tagged_interfaces(machine):
        yield from _descriptions(interface.id, "network-interface", tags)
    for volume in disk_volumes(machine):
        yield from _descriptions(volume.id, "volume", volume.tags)


async def _key_pair_tags(call: Call) -> list[TagDescriptionTypeDef]:
    _, pairs = await own_key_pairs(call)
    return [tag for pair in pairs.values() for tag in _descriptions(pair.id, "key-pair", pair.tags)]


async def _group_tags(call: Call) -> list[TagDescriptionTypeDef]:
    """Return the tags of security groups and of their rules."""
    tags: list[TagDescriptionTypeDef] = []
    for group in await call.session.security_groups():
        await call.budget.spend(len(group.template))
        rules = GroupRules(group)
        tags += _descriptions(SECURITY_GROUP.format(group.id), "security-group", tags_of(group.template))
        for record in rules.records.values():
            tags += _descriptions(record.id, "security-group-rule", rules.tags(record))
    return tags


async def _placement_group_tags(call: Call) -> list[TagDescriptionTypeDef]:
    tags: list[TagDescriptionTypeDef] = []
    for group in await placement_groups(call):
        tags += _descriptions(group.id, "placement-group", found := tags_of(group.group.template))
        await call.budget.spend(TAG_COST * len(found))
    return tags


async def _network_tags(call: Call) -> list[TagDescriptionTypeDef]:
    """Return the tags of subnets and VPCs."""
    networks = await read_networks(call)
    tags: list[TagDescriptionTypeDef] = []
    for subnet in networks.subnets:
        tags += _descriptions(subnet.id, "subnet", found := tags_of(subnet.network.template))
        await call.budget.spend(TAG_COST * len(found))
    for vpc in networks.vpcs.values():
        if vpc.network is not None:
            tags += _descriptions(vpc.id, "vpc", found := tags_of(vpc.network.template))
            await call.budget.spend(TAG_COST * len(found))
    return tags


async def _address_tags(call: Call) -> list[TagDescriptionTypeDef]:
    """Return the tags of the caller's elastic IPs."""
    if call.settings.elasticips_vnet_id is None:
        return []
    pool = await address_store(call).read_allocated()
    return [
        tag
        for address in pool.of(call.caller.id)
        for tag in _descriptions(allocation_id(address.ip), "elastic-ip", pool.tags(address))
    ]


def _descriptions(
    resource_id: str, resource_type: ResourceTypeType, tags: Iterable[TagTypeDef]
) -> list[TagDescriptionTypeDef]:
    return [
        {"ResourceId": resource_id, "ResourceType": resource_type, "Key": tag["Key"], "Value": tag["Value"]}
        for tag in tags
    ]


def _position(tag: TagDescriptionTypeDef) -> tuple[str, int, str]:
    """Return the position of a tag: kind, id as an integer (an id may have ten digits), key.

    The tags of a machine's interfaces and disks come after the machine's own, with which they are kept.
    """
    prefix, _, digits = tag["ResourceId"].partition("-")
    machine_id = _machine_of_part(tag["ResourceId"])
    if machine_id is not None:
        return INSTANCE.prefix, machine_id, f"{_AFTER_ALL_KEYS}{tag['ResourceId']} {tag['Key']}"
    return _SORT_KEYS.get(prefix, prefix), int(digits, 16 if prefix in _HEXADECIMAL else 10), tag["Key"]


def _machine_of_part(resource_id: str) -> int | None:
    """Return the machine of an interface or of a disk without an image; None for another resource."""
    if resource_id.startswith(f"{NETWORK_INTERFACE.prefix}-"):
        return machine_of_interface(resource_id)
    part = machine_and_part(VOLUME.prefix, resource_id)
    return None if part is None else part[0]


def _opennebula_ids(kind: Kind, texts: Iterable[str]) -> tuple[int, ...]:
    """Return the OpenNebula ids of those texts that are ids of this kind: the value of a filter may be any text."""
    return tuple(sorted({int(text.partition("-")[2]) for text in texts if kind.is_id(text)}))


_IMAGE_TAG_FUNCTIONS = (_ami_tags, _snapshot_tags, _volume_tags)
"""The functions for the tags of an image, in the order of the list."""
