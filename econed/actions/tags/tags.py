"""Tags put on all that can be tagged here, and taken off (EC2 API Reference, CreateTags, DeleteTags).

That is: instances, AMIs, volumes, snapshots, key pairs and elastic IPs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import TYPE_CHECKING, TypeAlias

from econed import ids
from econed.actions.action import action
from econed.actions.addresses.store import address_store, own_addresses_by_id
from econed.actions.disk_images.volume_facts import SNAPSHOT_TAG_PREFIX, is_ami_snapshot, snapshot_tags
from econed.actions.images.finding import amis_by_id
from econed.actions.inputs import Tag
from econed.actions.keys.store import ID_PREFIX, KeyPair, key_pair_tag_prefix, key_pairs_by_id
from econed.actions.machines.finding import find_machines
from econed.actions.object_limits import MAX_OF_ADDRESSES, MAX_ON_IMAGE, MAX_ON_MACHINE, MAX_ON_USER, check_size
from econed.actions.pacing import ITEM
from econed.actions.tagging import (
    PREFIX,
    check_tag_count,
    disk_tag_prefix,
    legacy_keys,
    tag_text,
    tags_of,
    too_many_tags,
    untag_text,
    validated_tags,
)
from econed.actions.volumes.finding import Attachment, DiskVolume, ImageVolume, volumes_by_id
from econed.actions.volumes.snapshot_view import snapshots_by_id
from econed.errors import EC2Error
from econed.ids import ALLOCATION, IMAGE, INSTANCE, SNAPSHOT, VOLUME
from econed.opennebula.documents import Image, OwnedView, Right, VirtualMachine
from econed.opennebula.template import template
from econed.slots import CALLS_OF_A_REQUEST, Slots

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import TagTypeDef

    from econed.actions.addresses.records import Address, Pool
    from econed.actions.call import Call
    from econed.opennebula.documents import Attributes

_KEY_PAIR = ID_PREFIX.removesuffix("-")
_NOT_TAGGED_HERE = (
    ids.SECURITY_GROUP,
    ids.SUBNET,
    ids.NETWORK_INTERFACE,
    ids.RESERVATION,
    ids.ASSOCIATION,
)
_KINDS = {
    kind.prefix: kind for kind in (INSTANCE, IMAGE, VOLUME, SNAPSHOT, ALLOCATION, ids.KEY_PAIR, *_NOT_TAGGED_HERE)
}


@dataclass(frozen=True)
class _Tagged:
    """A resource's tags that are there, the prefix of their attributes, and the keys that the Ruby server put there."""

    present: Iterable[TagTypeDef]
    prefix: str = PREFIX
    older: frozenset[str] = frozenset()

    @classmethod
    def itself(cls, attributes: Attributes) -> _Tagged:
        """Return the tags of what is an object in OpenNebula, with these attributes."""
        return cls(tags_of(attributes), older=legacy_keys(attributes))


_Text: TypeAlias = Callable[[_Tagged], str]
"""Gives the template text of a change of a resource's tags."""


@dataclass(frozen=True)
class _OnMachine:
    """A machine that keeps tags: its own if it `is_tagged` itself, and those of `disks` that belong to it alone."""

    machine: VirtualMachine
    is_tagged: bool = False
    disks: list[Attachment] = dataclass_field(default_factory=list)

    def tagged(self) -> Iterator[_Tagged]:
        """Yield what is tagged there."""
        if self.is_tagged:
            yield _Tagged.itself(self.machine.user_template)
        for each in self.disks:
            yield _Tagged(each.own_tags, disk_tag_prefix(each.disk.disk_id))


@dataclass(frozen=True)
class _OnImage:
    """An image that keeps tags: of the AMI or volume that it is (`is_tagged`), of a snapshot, or of both."""

    image: Image
    is_tagged: bool
    is_snapshot: bool

    def tagged(self) -> Iterator[_Tagged]:
        """Yield what is tagged there."""
        if self.is_tagged or not is_ami_snapshot(self.image):
            yield _Tagged.itself(self.image.template)
        if self.is_snapshot and is_ami_snapshot(self.image):
            yield _Tagged(snapshot_tags(self.image), SNAPSHOT_TAG_PREFIX)


@dataclass(frozen=True)
class _Resources:
    """What a change of tags is about, all of it found."""

    machines: Sequence[VirtualMachine]
    images: Sequence[Image]
    """AMIs, and volumes that are images."""

    snapshots: Sequence[Image]
    key_pairs: Sequence[KeyPair]
    disks: Sequence[Attachment] = ()
    """Volumes that are disks of a machine alone; the machine keeps their tags."""

    pool: Pool | None = None
    addresses: Sequence[Address] = ()
    """Elastic IPs of the caller's; the network of them all, `pool`, keeps their tags."""

    def tags(self) -> Iterator[Iterable[TagTypeDef]]:
        """Yield the tags of each resource."""
        yield from (tags_of(machine.user_template) for machine in self.machines)
        yield from (tags_of(image.template) for image in self.images)
        yield from map(snapshot_tags, self.snapshots)
        yield from (pair.tags for pair in self.key_pairs)
        yield from (each.own_tags for each in self.disks)
        if self.pool is not None:
            yield from map(self.pool.tags, self.addresses)

    def on_images(self) -> dict[int, _OnImage]:
        """Return the images that tags are kept on, by number, with what is tagged there."""
        itself = {image.id: image for image in self.images}
        snapshots = {image.id: image for image in self.snapshots}
        return {
            number: _OnImage(image, is_tagged=number in itself, is_snapshot=number in snapshots)
            for number, image in {**itself, **snapshots}.items()
        }

    def on_machines(self) -> list[_OnMachine]:
        """Return the machines that tags are kept on, each once, with what is tagged there."""
        found = {machine.id: _OnMachine(machine, is_tagged=True) for machine in self.machines}
        for each in self.disks:
            found.setdefault(each.machine.id, _OnMachine(each.machine)).disks.append(each)
        return list(found.values())


@action()
async def create_tags(call: Call, *, resources: Sequence[str], tags: Sequence[Tag]) -> None:
    """Put tags on resources; a tag whose key is there already gets the new value."""
    added = validated_tags(tags)
    found = await _find(call, resources)
    for present in found.tags():
        await call.budget.spend(ITEM)
        check_tag_count(present, added)
    await _check_sizes(call, found, added)
    await _change(call, found, lambda tagged: tag_text(added, tagged.prefix))


@action()
async def delete_tags(call: Call, *, resources: Sequence[str], tags: Sequence[Tag] | None = None) -> None:
    """Take tags off resources: those of a key, or of a key and value, the empty one included; without Tags, all.

    What is not there is as good as taken off.
    """
    if any(not tag.get("Key") for tag in tags or ()):
        raise EC2Error("InvalidParameterValue", "Tag keys cannot be empty.")

    meant = None if tags is None else _values_by_key(tags)

    def is_meant(tag: TagTypeDef) -> bool:
        if meant is None:
            return True
        values = meant.get(tag["Key"], set())
        return values is None or tag["Value"] in values

    def untagged(tagged: _Tagged) -> str:
        return untag_text((tag["Key"] for tag in tagged.present if is_meant(tag)), tagged.prefix, older=tagged.older)

    await _change(call, await _find(call, resources), untagged)


async def _find(call: Call, resource_ids: Sequence[str]) -> _Resources:
    """Return the resources with these ids.

    Raises `EC2Error` …NotFound, InvalidID for a text that is no id of any kind (EC2, error codes of CreateTags).
    """
    of_kind: dict[str, list[str]] = {
        prefix: []
        for prefix in (INSTANCE.prefix, IMAGE.prefix, VOLUME.prefix, SNAPSHOT.prefix, ALLOCATION.prefix, _KEY_PAIR)
    }
    for text in resource_ids:
        kind = _KINDS.get(text.partition("-")[0])
        if kind is None or not kind.is_well_formed(text):
            raise EC2Error("InvalidID", f"The ID '{text}' is not valid")
        of_kind.setdefault(kind.prefix, []).append(text)
    for kind in _NOT_TAGGED_HERE:
        if kind.prefix in of_kind:
            raise kind.not_found(*of_kind[kind.prefix])
    marked = await amis_by_id(call, of_kind[IMAGE.prefix])
    found = await volumes_by_id(call, of_kind[VOLUME.prefix])
    of_volumes = [volume.image for volume in found if isinstance(volume, ImageVolume)]
    pool, addresses = await own_addresses_by_id(call, of_kind[ALLOCATION.prefix])
    return _Resources(
        pool=pool,
        addresses=addresses,
        machines=await find_machines(call, of_kind[INSTANCE.prefix]),
        images=tuple({image.id: image for image in (*marked, *of_volumes)}.values()),
        snapshots=await snapshots_by_id(call, of_kind[SNAPSHOT.prefix]),
        key_pairs=await key_pairs_by_id(call, of_kind[_KEY_PAIR]),
        disks=[volume.attachment for volume in found if isinstance(volume, DiskVolume)],
    )


async def _check_sizes(call: Call, found: _Resources, added: Mapping[str, str]) -> None:
    """Raise `EC2Error` TagLimitExceeded if an object would keep more than it may with these tags on all resources."""
    for on_machine in found.on_machines():
        await call.budget.spend(ITEM)
        text = template(*(tag_text(added, each.prefix) for each in on_machine.tagged()))
        check_size(on_machine.machine.user_template, text, MAX_ON_MACHINE, too_many_tags())
    for on_image in found.on_images().values():
        await call.budget.spend(ITEM)
        text = template(*(tag_text(added, each.prefix) for each in on_image.tagged()))
        check_size(on_image.image.template, text, MAX_ON_IMAGE, too_many_tags())
    if found.key_pairs:
        user = await call.session.current_user()
        text = template(*(tag_text(added, key_pair_tag_prefix(call.caller.id, pair.name)) for pair in found.key_pairs))
        await call.in_thread(lambda: check_size(user.template, text, MAX_ON_USER, too_many_tags()))
    if found.pool is not None:
        text = template(*(tag_text(added, each.tag_prefix) for each in found.addresses))
        check_size(found.pool.kept_for(call.caller.id), text, MAX_OF_ADDRESSES, too_many_tags())


def _values_by_key(tags: Sequence[Tag]) -> Mapping[str, set[str] | None]:
    """Return the values that DeleteTags names for each key; None for any value."""
    found: dict[str, set[str] | None] = {}
    for tag in tags:
        if "Value" not in tag:
            found[tag["Key"]] = None
        elif (values := found.setdefault(tag["Key"], set())) is not None:
            values.add(tag["Value"])
    return found


async def _change(call: Call, found: _Resources, text: _Text) -> None:
    """Give every resource the attributes that `text` says; one that it says nothing of is left alone.

    The text of a resource, which may be long, is made when it is sent: those of a thousand are not in memory together.
    """
    on_machines = {each.machine.id: each for each in found.on_machines()}
    images = found.on_images()
    turns = Slots(CALLS_OF_A_REQUEST)

    async def change(thing: OwnedView) -> None:
        async with turns:
            await call.budget.spend(ITEM)
            if isinstance(thing, VirtualMachine):
                if changed := template(*map(text, on_machines[thing.id].tagged())):
                    await call.session.vm_update(thing.id, changed)
            elif isinstance(thing, Image) and (changed := template(*map(text, images[thing.id].tagged()))):
                await call.session.image_update(thing.id, changed)

    owned = (*(each.machine for each in on_machines.values()), *(each.image for each in images.values()))
    await call.change_all(Right.MANAGE, owned, change)
    on_user = await _texts(
        call, text, (_Tagged(pair.tags, key_pair_tag_prefix(call.caller.id, pair.name)) for pair in found.key_pairs)
    )
    if on_user:
        await call.session.user_update(call.caller.id, on_user)
    if found.pool is not None:
        pool = found.pool
        on_pool = await _texts(call, text, (_Tagged(pool.tags(each), each.tag_prefix) for each in found.addresses))
        if on_pool:
            await address_store(call).write(on_pool)


async def _texts(call: Call, text: _Text, resources: Iterable[_Tagged]) -> str:
    """Return the attributes of resources that are kept on one object."""
    texts = []
    for each in resources:
        await call.budget.spend(ITEM)
        texts.append(text(each))
    return template(*texts)
