"""Adding and removing tags (EC2 API Reference, CreateTags, DeleteTags).

Instances, AMIs, volumes, snapshots, key pairs and elastic IPs can be tagged.
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
from econed.actions.images.lookup import amis_by_id
from econed.actions.inputs import Tag
from econed.actions.keys.store import ID_PREFIX, KeyPair, key_pair_tag_prefix, key_pairs_by_id
from econed.actions.machines.lookup import find_machines
from econed.actions.object_limits import MAX_ON_ADDRESS_NETWORK, MAX_ON_IMAGE, MAX_ON_MACHINE, MAX_ON_USER, check_size
from econed.actions.pacing import ITEM_COST
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
from econed.actions.tasks import TaskGroup
from econed.actions.volumes.lookup import Attachment, DiskVolume, ImageVolume, volumes_by_id
from econed.actions.volumes.snapshot_view import snapshots_by_id
from econed.errors import EC2Error
from econed.ids import ALLOCATION, IMAGE, INSTANCE, SNAPSHOT, VOLUME
from econed.opennebula.documents import Image, OwnedView, Right, VirtualMachine
from econed.opennebula.template import template

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import TagTypeDef

    from econed.actions.addresses.records import Address, Pool
    from econed.actions.call import Call
    from econed.opennebula.documents import Attributes

_KEY_PAIR = ID_PREFIX.removesuffix("-")
_UNTAGGABLE = (
    ids.SECURITY_GROUP,
    ids.SUBNET,
    ids.NETWORK_INTERFACE,
    ids.RESERVATION,
    ids.ASSOCIATION,
)
_KINDS = {kind.prefix: kind for kind in (INSTANCE, IMAGE, VOLUME, SNAPSHOT, ALLOCATION, ids.KEY_PAIR, *_UNTAGGABLE)}


@dataclass(frozen=True)
class _ResourceTags:
    """The present tags of a resource, the prefix of their attributes, and the keys of the Ruby server's tags."""

    present: Iterable[TagTypeDef]
    prefix: str = PREFIX
    legacy: frozenset[str] = frozenset()

    @classmethod
    def of_object(cls, attributes: Attributes) -> _ResourceTags:
        """Return the tags of a resource that is an OpenNebula object with these attributes."""
        return cls(tags_of(attributes), legacy=legacy_keys(attributes))


_TextFor: TypeAlias = Callable[[_ResourceTags], str]
"""Returns the template text of a change of a resource's tags."""


@dataclass(frozen=True)
class _TaggedMachine:
    """A machine whose attributes change: for its own tags if it `is_tagged`, and for those of `disks`."""

    machine: VirtualMachine
    is_tagged: bool = False
    disks: list[Attachment] = dataclass_field(default_factory=list)

    def resource_tags(self) -> Iterator[_ResourceTags]:
        """Yield the tags of each resource whose tags are stored there."""
        if self.is_tagged:
            yield _ResourceTags.of_object(self.machine.user_template)
        for attachment in self.disks:
            yield _ResourceTags(attachment.own_tags, disk_tag_prefix(attachment.disk.disk_id))


@dataclass(frozen=True)
class _TaggedImage:
    """An image whose attributes change: for the tags of its AMI or volume (`is_tagged`), of its snapshot, or both."""

    image: Image
    is_tagged: bool
    is_snapshot: bool

    def resource_tags(self) -> Iterator[_ResourceTags]:
        """Yield the tags of each resource whose tags are stored there."""
        if self.is_tagged or not is_ami_snapshot(self.image):
            yield _ResourceTags.of_object(self.image.template)
        if self.is_snapshot and is_ami_snapshot(self.image):
            yield _ResourceTags(snapshot_tags(self.image), SNAPSHOT_TAG_PREFIX)


@dataclass(frozen=True)
class _Resources:
    """The resources that a request names."""

    machines: Sequence[VirtualMachine]
    images: Sequence[Image]
    """AMIs, and volumes that are images."""

    snapshots: Sequence[Image]
    key_pairs: Sequence[KeyPair]
    disks: Sequence[Attachment] = ()
    """Volumes that are disks without an image of their own; the machine keeps their tags."""

    pool: Pool | None = None
    addresses: Sequence[Address] = ()
    """The caller's elastic IPs; their network, `pool`, keeps their tags."""

    def tags(self) -> Iterator[Iterable[TagTypeDef]]:
        """Yield the tags of each resource."""
        yield from (tags_of(machine.user_template) for machine in self.machines)
        yield from (tags_of(image.template) for image in self.images)
        yield from map(snapshot_tags, self.snapshots)
        yield from (pair.tags for pair in self.key_pairs)
        yield from (attachment.own_tags for attachment in self.disks)
        if self.pool is not None:
            yield from map(self.pool.tags, self.addresses)

    def tagged_images(self) -> dict[int, _TaggedImage]:
        """Return the images that keep tags of these resources, by id."""
        images = {image.id: image for image in self.images}
        snapshots = {image.id: image for image in self.snapshots}
        return {
            image_id: _TaggedImage(image, is_tagged=image_id in images, is_snapshot=image_id in snapshots)
            for image_id, image in {**images, **snapshots}.items()
        }

    def tagged_machines(self) -> list[_TaggedMachine]:
        """Return the machines that keep tags of these resources, each once."""
        tagged_machines = {machine.id: _TaggedMachine(machine, is_tagged=True) for machine in self.machines}
        for attachment in self.disks:
            machine = attachment.machine
            tagged_machines.setdefault(machine.id, _TaggedMachine(machine)).disks.append(attachment)
        return list(tagged_machines.values())


@action()
async def create_tags(call: Call, *, resources: Sequence[str], tags: Sequence[Tag]) -> None:
    """Add tags to resources; a tag with the same key is replaced (EC2 CreateTags)."""
    added = validated_tags(tags)
    tagged_resources = await _find(call, resources)
    for present in tagged_resources.tags():
        await call.budget.spend(ITEM_COST)
        check_tag_count(present, added)
    await _check_sizes(call, tagged_resources, added)
    await _change(call, tagged_resources, lambda resource_tags: tag_text(added, resource_tags.prefix))


@action()
async def delete_tags(call: Call, *, resources: Sequence[str], tags: Sequence[Tag] | None = None) -> None:
    """Remove tags from resources (EC2 DeleteTags): by key, or by key and value, which may be empty; without Tags, all.

    A tag that does not exist is no error.
    """
    if any(not tag.get("Key") for tag in tags or ()):
        raise EC2Error("InvalidParameterValue", "Tag keys cannot be empty.")

    values_by_key = None if tags is None else _values_by_key(tags)

    def is_named(tag: TagTypeDef) -> bool:
        if values_by_key is None:
            return True
        values = values_by_key.get(tag["Key"], set())
        return values is None or tag["Value"] in values

    def untag_text_for(resource_tags: _ResourceTags) -> str:
        return untag_text(
            (tag["Key"] for tag in resource_tags.present if is_named(tag)),
            resource_tags.prefix,
            legacy=resource_tags.legacy,
        )

    await _change(call, await _find(call, resources), untag_text_for)


async def _find(call: Call, resource_ids: Sequence[str]) -> _Resources:
    """Return the resources with these ids.

    Raises `EC2Error` …NotFound, or InvalidID for a text that is not an id (EC2, error codes of CreateTags).
    """
    by_prefix: dict[str, list[str]] = {
        prefix: []
        for prefix in (INSTANCE.prefix, IMAGE.prefix, VOLUME.prefix, SNAPSHOT.prefix, ALLOCATION.prefix, _KEY_PAIR)
    }
    for text in resource_ids:
        kind = _KINDS.get(text.partition("-")[0])
        if kind is None or not kind.is_well_formed(text):
            raise EC2Error("InvalidID", f"The ID '{text}' is not valid")
        by_prefix.setdefault(kind.prefix, []).append(text)
    for kind in _UNTAGGABLE:
        if kind.prefix in by_prefix:
            raise kind.not_found(*by_prefix[kind.prefix])
    async with TaskGroup() as tasks:
        amis = tasks.start(amis_by_id(call, by_prefix[IMAGE.prefix]))
        volumes = tasks.start(volumes_by_id(call, by_prefix[VOLUME.prefix]))
        pool_and_addresses = tasks.start(own_addresses_by_id(call, by_prefix[ALLOCATION.prefix]))
        machines = tasks.start(find_machines(call, by_prefix[INSTANCE.prefix]))
        snapshots = tasks.start(snapshots_by_id(call, by_prefix[SNAPSHOT.prefix]))
        key_pairs = tasks.start(key_pairs_by_id(call, by_prefix[_KEY_PAIR]))
    images_of_volumes = [volume.image for volume in volumes.result if isinstance(volume, ImageVolume)]
    pool, addresses = pool_and_addresses.result
    return _Resources(
        pool=pool,
        addresses=addresses,
        machines=machines.result,
        images=tuple({image.id: image for image in (*amis.result, *images_of_volumes)}.values()),
        snapshots=snapshots.result,
        key_pairs=key_pairs.result,
        disks=[volume.attachment for volume in volumes.result if isinstance(volume, DiskVolume)],
    )


async def _check_sizes(call: Call, resources: _Resources, added: Mapping[str, str]) -> None:
    """Raise `EC2Error` TagLimitExceeded if an object would exceed its size limit with these tags on all resources."""
    for tagged_machine in resources.tagged_machines():
        await call.budget.spend(ITEM_COST)
        text = template(*(tag_text(added, resource_tags.prefix) for resource_tags in tagged_machine.resource_tags()))
        check_size(tagged_machine.machine.user_template, text, MAX_ON_MACHINE, too_many_tags())
    for tagged_image in resources.tagged_images().values():
        await call.budget.spend(ITEM_COST)
        text = template(*(tag_text(added, resource_tags.prefix) for resource_tags in tagged_image.resource_tags()))
        check_size(tagged_image.image.template, text, MAX_ON_IMAGE, too_many_tags())
    if resources.key_pairs:
        user = await call.session.current_user()
        text = template(
            *(tag_text(added, key_pair_tag_prefix(call.caller.id, pair.name)) for pair in resources.key_pairs)
        )
        await call.in_thread(lambda: check_size(user.template, text, MAX_ON_USER, too_many_tags()))
    if resources.pool is not None:
        text = template(*(tag_text(added, address.tag_prefix) for address in resources.addresses))
        check_size(resources.pool.attributes_of(call.caller.id), text, MAX_ON_ADDRESS_NETWORK, too_many_tags())


def _values_by_key(tags: Sequence[Tag]) -> Mapping[str, set[str] | None]:
    """Return the values that DeleteTags names for each key; None for any value."""
    by_key: dict[str, set[str] | None] = {}
    for tag in tags:
        if "Value" not in tag:
            by_key[tag["Key"]] = None
        elif (values := by_key.setdefault(tag["Key"], set())) is not None:
            values.add(tag["Value"])
    return by_key


async def _change(call: Call, resources: _Resources, text_for: _TextFor) -> None:
    """Append the attributes that `text_for` returns for each resource; an object without any is not changed.

    The text for an object, which may be long, is built when it is sent, so that only a few texts are in memory.
    """
    tagged_machines = {tagged_machine.machine.id: tagged_machine for tagged_machine in resources.tagged_machines()}
    tagged_images = resources.tagged_images()

    async def change(target: OwnedView) -> None:
        await call.budget.spend(ITEM_COST)
        if isinstance(target, VirtualMachine):
            if update := template(*map(text_for, tagged_machines[target.id].resource_tags())):
                await call.session.vm_update(target.id, update)
        elif isinstance(target, Image) and (
            update := template(*map(text_for, tagged_images[target.id].resource_tags()))
        ):
            await call.session.image_update(target.id, update)

    machines = (tagged_machine.machine for tagged_machine in tagged_machines.values())
    images = (tagged_image.image for tagged_image in tagged_images.values())
    await call.change_all(Right.MANAGE, (*machines, *images), change)
    user_text = await _texts(
        call,
        text_for,
        (_ResourceTags(pair.tags, key_pair_tag_prefix(call.caller.id, pair.name)) for pair in resources.key_pairs),
    )
    if user_text:
        await call.session.user_update(call.caller.id, user_text)
    if resources.pool is not None:
        pool = resources.pool
        pool_text = await _texts(
            call, text_for, (_ResourceTags(pool.tags(address), address.tag_prefix) for address in resources.addresses)
        )
        if pool_text:
            await address_store(call).write(pool_text)


async def _texts(call: Call, text_for: _TextFor, resources: Iterable[_ResourceTags]) -> str:
    """Return the attributes of resources whose tags are kept on the same object."""
    texts = []
    for resource_tags in resources:
        await call.budget.spend(ITEM_COST)
        texts.append(text_for(resource_tags))
    return template(*texts)
