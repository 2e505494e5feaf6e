"""The resources that CreateTags and DeleteTags name, and the objects of OpenNebula that keep their tags.

An object may keep the tags of several resources: a machine those of its disks that are volumes and of its network
interfaces, an image those of its snapshot. Key pairs are kept on the user, elastic IPs on their network.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from econed import ids
from econed.actions.addresses.store import own_addresses_by_id
from econed.actions.disk_images.volume_facts import SNAPSHOT_TAG_PREFIX, is_ami_snapshot, snapshot_tags
from econed.actions.images.lookup import amis_by_id
from econed.actions.keys.store import ID_PREFIX, KeyPair, key_pairs_by_id
from econed.actions.machines.interface_facts import interface_tags
from econed.actions.machines.interface_facts import tag_prefix as interface_tag_prefix
from econed.actions.machines.interfaces import Interface, find_interfaces
from econed.actions.machines.lookup import find_machines
from econed.actions.networks.lookup import find_networks
from econed.actions.object_limits import (
    MAX_ON_GROUP,
    MAX_ON_IMAGE,
    MAX_ON_MACHINE,
    MAX_ON_NETWORK,
    MAX_ON_VM_GROUP,
)
from econed.actions.placement_groups.lookup import PlacementGroup, find_changeable_groups, tags_are_fixed
from econed.actions.security_groups.lookup import find_groups
from econed.actions.security_groups.records import GroupRules, tag_prefix
from econed.actions.tagging import PREFIX, disk_tag_prefix, legacy_keys, tags_of, tags_under
from econed.actions.tasks import TaskGroup
from econed.actions.volumes.lookup import Attachment, ImageVolume, volumes_by_id
from econed.actions.volumes.snapshot_view import snapshots_by_id
from econed.errors import EC2Error, OpenNebulaCode, OpenNebulaRefusal
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
)

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import TagTypeDef

    from econed.actions.addresses.records import Address, Pool
    from econed.actions.call import Call
    from econed.opennebula.documents import (
        Attributes,
        Image,
        OwnedView,
        SecurityGroup,
        VirtualMachine,
        VirtualNetwork,
        VmGroup,
    )
    from econed.opennebula.session import Session

_KEY_PAIR = ID_PREFIX.removesuffix("-")
_TAGGABLE = (
    INSTANCE,
    IMAGE,
    VOLUME,
    SNAPSHOT,
    ALLOCATION,
    SUBNET,
    VPC,
    NETWORK_INTERFACE,
    PLACEMENT_GROUP,
    SECURITY_GROUP,
    SECURITY_GROUP_RULE,
    ids.KEY_PAIR,
)
_UNTAGGABLE = (
    ids.RESERVATION,
    ids.ASSOCIATION,
)
_KINDS = {kind.prefix: kind for kind in (*_TAGGABLE, *_UNTAGGABLE)}


@dataclass(frozen=True)
class ResourceTags:
    """The present tags of a resource, the prefix of their attributes, and the keys of the Ruby server's tags."""

    present: Iterable[TagTypeDef]
    prefix: str = PREFIX
    legacy: frozenset[str] = frozenset()

    @classmethod
    def of_object(cls, attributes: Attributes) -> ResourceTags:
        """Return the tags of a resource that is an OpenNebula object with these attributes."""
        return cls(tags_of(attributes), legacy=legacy_keys(attributes))


class TaggedObject(Protocol):
    """An object whose attributes change, and how."""

    @property
    def view(self) -> OwnedView:
        """Its document."""

    @property
    def attributes(self) -> Attributes:
        """The attributes among which the tags are."""

    @property
    def max_bytes(self) -> int:
        """How many bytes of attributes econed writes on it (`econed.actions.object_limits`)."""

    def resource_tags(self) -> Iterator[ResourceTags]:
        """Yield the tags of each resource whose tags are stored there."""

    def append(self, session: Session, text: str) -> Awaitable[None]:
        """Append attributes."""


@dataclass(frozen=True)
class TaggedMachine:
    """A machine whose attributes change: for its own tags if it `is_tagged`, and those of `disks` and `interfaces`."""

    view: VirtualMachine
    is_tagged: bool = False
    disks: list[Attachment] = field(default_factory=list)
    interfaces: list[Interface] = field(default_factory=list)
    max_bytes: int = MAX_ON_MACHINE

    @property
    def attributes(self) -> Attributes:
        """The attributes among which the tags are."""
        return self.view.user_template

    def resource_tags(self) -> Iterator[ResourceTags]:
        """Yield the tags of each resource whose tags are stored there."""
        if self.is_tagged:
            yield ResourceTags.of_object(self.attributes)
        for attachment in self.disks:
            yield ResourceTags(attachment.own_tags, disk_tag_prefix(attachment.disk.disk_id))
        for interface in self.interfaces:
            machine, nic = interface.machine, interface.nic
            yield ResourceTags(interface_tags(machine, nic), interface_tag_prefix(machine, nic))

    def append(self, session: Session, text: str) -> Awaitable[None]:
        """Append attributes."""
        return session.vm_update(self.view.id, text)


@dataclass(frozen=True)
class TaggedImage:
    """An image whose attributes change: for the tags of its AMI or volume (`is_tagged`), of its snapshot, or both."""

    view: Image
    is_tagged: bool
    is_snapshot: bool
    max_bytes: int = MAX_ON_IMAGE

    @property
    def attributes(self) -> Attributes:
        """The attributes among which the tags are."""
        return self.view.template

    def resource_tags(self) -> Iterator[ResourceTags]:
        """Yield the tags of each resource whose tags are stored there."""
        if self.is_tagged or not is_ami_snapshot(self.view):
            yield ResourceTags.of_object(self.attributes)
        if self.is_snapshot and is_ami_snapshot(self.view):
            yield ResourceTags(snapshot_tags(self.view), SNAPSHOT_TAG_PREFIX)

    def append(self, session: Session, text: str) -> Awaitable[None]:
        """Append attributes."""
        return session.image_update(self.view.id, text)


@dataclass(frozen=True)
class TaggedNetwork:
    """A network that is a subnet or a VPC."""

    view: VirtualNetwork
    max_bytes: int = MAX_ON_NETWORK

    @property
    def attributes(self) -> Attributes:
        """The attributes among which the tags are."""
        return self.view.template

    def resource_tags(self) -> Iterator[ResourceTags]:
        """Yield its tags."""
        yield ResourceTags(tags_of(self.attributes))

    def append(self, session: Session, text: str) -> Awaitable[None]:
        """Append attributes."""
        return session.network_update(self.view.id, text)


@dataclass(frozen=True)
class TaggedGroup:
    """A security group whose attributes change: for its own tags if it `is_tagged`, and for those of rules by id."""

    view: SecurityGroup
    is_tagged: bool
    rule_ids: Sequence[str]
    max_bytes: int = MAX_ON_GROUP

    @property
    def attributes(self) -> Attributes:
        """The attributes among which the tags are."""
        return self.view.template

    def resource_tags(self) -> Iterator[ResourceTags]:
        """Yield the tags of each resource whose tags are stored there."""
        if self.is_tagged:
            yield ResourceTags(tags_of(self.attributes))
        for prefix in map(tag_prefix, self.rule_ids):
            yield ResourceTags(tags_under(self.attributes, prefix), prefix)

    def append(self, session: Session, text: str) -> Awaitable[None]:
        """Append attributes."""
        return session.security_group_update(self.view.id, text)


@dataclass(frozen=True)
class TaggedPlacementGroup:
    """A placement group. oned changes nothing of its VM group while machines are in it."""

    group: PlacementGroup
    max_bytes: int = MAX_ON_VM_GROUP

    @property
    def view(self) -> VmGroup:
        """Its document."""
        return self.group.group

    @property
    def attributes(self) -> Attributes:
        """The attributes among which the tags are."""
        return self.view.template

    def resource_tags(self) -> Iterator[ResourceTags]:
        """Yield its tags."""
        yield ResourceTags(tags_of(self.attributes))

    async def append(self, session: Session, text: str) -> None:
        """Append attributes; raises `EC2Error` IncorrectState if an instance is in the group by now."""
        try:
            await session.vm_group_update(self.view.id, text)
        except OpenNebulaRefusal as refusal:
            if refusal.code != OpenNebulaCode.INTERNAL:
                raise
            raise tags_are_fixed(self.group) from refusal


@dataclass(frozen=True)
class Resources:
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

    networks: Sequence[VirtualNetwork] = ()
    """Subnets and VPCs."""

    groups: Sequence[TaggedGroup] = ()
    """Security groups, and their rules."""

    interfaces: Sequence[Interface] = ()
    """Network interfaces; the machine keeps their tags."""

    placement_groups: Sequence[PlacementGroup] = ()

    def tags(self) -> Iterator[Iterable[TagTypeDef]]:
        """Yield the tags of each resource."""
        yield from (tags_of(machine.user_template) for machine in self.machines)
        yield from (tags_of(image.template) for image in self.images)
        yield from map(snapshot_tags, self.snapshots)
        yield from (pair.tags for pair in self.key_pairs)
        yield from (attachment.own_tags for attachment in self.disks)
        yield from (tags_of(network.template) for network in self.networks)
        yield from (interface_tags(interface.machine, interface.nic) for interface in self.interfaces)
        yield from (tags_of(group.group.template) for group in self.placement_groups)
        yield from (resource.present for group in self.groups for resource in group.resource_tags())
        if self.pool is not None:
            yield from map(self.pool.tags, self.addresses)

    def objects(self) -> list[TaggedObject]:
        """Return the machines, images, networks and groups (of both kinds) that keep these tags, each once."""
        networks = map(TaggedNetwork, self.networks)
        placement_groups = map(TaggedPlacementGroup, self.placement_groups)
        return [*self._tagged_machines(), *self._tagged_images(), *networks, *self.groups, *placement_groups]

    def _tagged_machines(self) -> Iterable[TaggedMachine]:
        tagged_machines = {machine.id: TaggedMachine(machine, is_tagged=True) for machine in self.machines}
        for attachment in self.disks:
            machine = attachment.machine
            tagged_machines.setdefault(machine.id, TaggedMachine(machine)).disks.append(attachment)
        for interface in self.interfaces:
            machine = interface.machine
            tagged_machines.setdefault(machine.id, TaggedMachine(machine)).interfaces.append(interface)
        return tagged_machines.values()

    def _tagged_images(self) -> Iterator[TaggedImage]:
        images = {image.id: image for image in self.images}
        snapshots = {image.id: image for image in self.snapshots}
        for image_id, image in {**images, **snapshots}.items():
            yield TaggedImage(image, is_tagged=image_id in images, is_snapshot=image_id in snapshots)


async def find_resources(call: Call, resource_ids: Sequence[str]) -> Resources:
    """Return the resources with these ids.

    Raises `EC2Error` …NotFound, or InvalidID for a text that is not an id (EC2, error codes of CreateTags), and
    UnsupportedOperation for the default VPC, which is no object that could keep tags, and IncorrectState for a
    placement group that instances are in.
    """
    by_prefix: dict[str, list[str]] = {kind.prefix: [] for kind in _TAGGABLE}
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
        groups = tasks.start(
            _tagged_groups(call, by_prefix[SECURITY_GROUP.prefix], by_prefix[SECURITY_GROUP_RULE.prefix])
        )
        interfaces = tasks.start(find_interfaces(call, by_prefix[NETWORK_INTERFACE.prefix]))
        placement_groups = tasks.start(find_changeable_groups(call, by_prefix[PLACEMENT_GROUP.prefix]))
        networks = tasks.start(find_networks(call, by_prefix[SUBNET.prefix], by_prefix[VPC.prefix]))
    volumes_found = volumes.result
    images_of_volumes = [volume.image for volume in volumes_found if isinstance(volume, ImageVolume)]
    pool, addresses = pool_and_addresses.result
    return Resources(
        pool=pool,
        addresses=addresses,
        machines=machines.result,
        images=tuple({image.id: image for image in (*amis.result, *images_of_volumes)}.values()),
        snapshots=snapshots.result,
        key_pairs=key_pairs.result,
        disks=[volume.attachment for volume in volumes_found if not isinstance(volume, ImageVolume)],
        networks=networks.result,
        groups=groups.result,
        interfaces=interfaces.result,
        placement_groups=placement_groups.result,
    )


async def _tagged_groups(call: Call, group_ids: Sequence[str], rule_ids: Sequence[str]) -> Sequence[TaggedGroup]:
    """Return the groups with these ids, and those of the rules with these ids, each once."""
    named = {group.id: group for group in await find_groups(call, group_ids)}
    groups = dict(named)
    rules_of: dict[int, list[str]] = {}
    missing = set(rule_ids)
    for group in await call.session.security_groups() if rule_ids else ():
        await call.budget.spend(len(group.template))
        if found := missing & GroupRules(group).records.keys():
            groups.setdefault(group.id, group)
            rules_of[group.id] = sorted(found)
            missing -= found
    if missing:
        raise SECURITY_GROUP_RULE.not_found(*(text for text in rule_ids if text in missing))
    return [TaggedGroup(group, id_ in named, rules_of.get(id_, ())) for id_, group in groups.items()]
