"""A checked RunInstances call, and the template text for its machines: from an instance type and an AMI."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from econed.actions.instances.block_devices import NO_BLOCK_DEVICES, BlockDevices
from econed.actions.instances.network_interfaces import LaunchInterface, nics_text
from econed.actions.machines.facts import (
    AVAILABILITY_ZONE,
    IMAGE_ID,
    KEY_NAME,
    LAUNCH_COUNT,
    LAUNCH_INDEX,
    PUBLIC_KEY,
    RESERVATION,
    SHUTDOWN_BEHAVIOR,
    TERMINATE,
    USER_DATA,
)
from econed.actions.machines.interface_facts import new_tag_prefix
from econed.actions.object_limits import MAX_ON_MACHINE, check_size
from econed.actions.tagging import disk_tag_prefix, tag_text, too_many_tags
from econed.errors import EC2Error
from econed.ids import IMAGE
from econed.opennebula.attributes import Attributes
from econed.opennebula.template import (
    attribute,
    context,
    encode_member,
    is_storable_in_context,
    render,
    template,
    vector,
)

if TYPE_CHECKING:
    from econed.actions.client_tokens import ClientToken
    from econed.actions.instances.types import InstanceType
    from econed.actions.placement_groups.lookup import PlacementGroup
    from econed.opennebula.documents import Image, Vector

MAX_COUNT = 1000
"""Maximum number of instances of one call."""

MAX_VOLUMES = 1000
"""Maximum number of volumes that one call creates for all its instances together."""

_MACHINE_NAME = re.compile(r"[\w.:@() -]{1,128}")


@dataclass(frozen=True)
class LaunchPlan:
    """A RunInstances call after all objects in it were found and all values checked.

    `public_key` is text that CONTEXT stores unchanged, `user_data` is base64. `zone_cluster_id` is the cluster that is
    the requested availability zone, `cluster_ids` are those to which the request and the configuration restrict it.
    """

    instance_type: InstanceType
    image: Image
    min_count: int
    max_count: int
    token: ClientToken | None = None
    key_name: str | None = None
    public_key: str | None = None
    user_data: str | None = None
    tags: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    zone_cluster_id: int | None = None
    cluster_ids: tuple[int, ...] = ()
    terminates_on_shutdown: bool = False
    devices: BlockDevices = NO_BLOCK_DEVICES
    interfaces: tuple[LaunchInterface, ...] = ()
    """Without any, the machines have the NICs of the instance type."""

    placement_group: PlacementGroup | None = None
    interface_tags: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """The tags of each interface, which are written before the machine is released: they need the interface's id."""

    has_public_ip: bool = False
    """Whether each machine gets a public IP, before it is released."""

    @property
    def nics(self) -> Sequence[Vector]:
        """The members of the NICs of each machine."""
        return tuple(each.members for each in self.interfaces) or self.instance_type.attributes.vectors("NIC")


def machine_text(plan: LaunchPlan, index: int, reservation: str | None, disks: Iterable[str] = ()) -> str:
    """Return the template text that is merged into the instance type for the `index`th machine of a plan.

    `disks` are its volumes. A DISK in this text replaces all disks of the type and a CONTEXT the whole CONTEXT, so
    those of the type are included unchanged; capacity and restricted attributes are not included and remain, and so
    are NICs if the plan has no interfaces.
    """
    facts = {IMAGE_ID: IMAGE.format(plan.image.id), LAUNCH_INDEX: str(index)}
    if reservation is not None:
        facts[RESERVATION] = reservation
    if plan.token is not None:
        facts |= {**plan.token.facts, LAUNCH_COUNT: str(plan.max_count)}
    if plan.zone_cluster_id is not None:
        facts[AVAILABILITY_ZONE] = str(plan.zone_cluster_id)
    if plan.terminates_on_shutdown:
        facts[SHUTDOWN_BEHAVIOR] = TERMINATE
    type_disks = plan.devices.without_excluded(plan.instance_type.other_disks(plan.image))
    return template(
        vector("DISK", {**plan.instance_type.root_disk(plan.image), **plan.devices.root}),
        render(type_disks),
        *disks,
        nics_text(plan.interfaces),
        vector("VMGROUP", plan.placement_group.members) if plan.placement_group is not None else "",
        *(attribute(name, value) for name, value in facts.items()),
        _context(plan),
        _requirements(plan),
        _tags(plan),
    )


def check_tags(plan: LaunchPlan) -> None:
    """Raise `EC2Error` TagLimitExceeded if the tags of an instance and its parts exceed what one machine may store."""
    of_interfaces = (tag_text(plan.interface_tags, new_tag_prefix(index)) for index, _ in enumerate(plan.nics))
    check_size(Attributes(), template(_tags(plan), *of_interfaces), MAX_ON_MACHINE, too_many_tags())


def check_interfaces(plan: LaunchPlan) -> None:
    """Check that the machines have all interfaces when they are created, if these get tags or a public IP.

    Raises `EC2Error` InvalidParameterCombination.
    """
    if not plan.interface_tags and not plan.has_public_ip:
        return
    if not plan.nics:
        raise EC2Error("InvalidParameterCombination", "The instance type has no network interface: specify SubnetId.")
    if any(nic.get("NETWORK_MODE", "").upper() == "AUTO" for nic in plan.nics):
        raise EC2Error(
            "InvalidParameterCombination",
            "OpenNebula chooses the network of the instance later, so its interface gets no tags and no public IP: "
            "specify SubnetId.",
        )


def _tags(plan: LaunchPlan) -> str:
    disks = ("root", *plan.devices.without_excluded(plan.instance_type.other_disks(plan.image)))
    return template(
        tag_text(plan.tags),
        *(tag_text(plan.devices.tags, disk_tag_prefix(disk_id)) for disk_id, _ in enumerate(disks)),
    )


def machine_name(plan: LaunchPlan) -> str:
    """Return the name of the machines: their tag Name if it is a valid name, else empty, and oned chooses one."""
    name = plan.tags.get("Name", "")
    return name if _MACHINE_NAME.fullmatch(name) else ""


def storable_public_key(public_key: str) -> str:
    """Return a public key that OpenNebula stores in CONTEXT unchanged, if need be without the comment."""
    return public_key if is_storable_in_context(public_key) else " ".join(public_key.split()[:2])


def _context(plan: LaunchPlan) -> str:
    """Return the CONTEXT, with key and user data in the Ruby server's members and in those of the context packages."""
    added: dict[str, str] = {}
    if plan.key_name is not None and plan.public_key is not None:
        added |= {PUBLIC_KEY: plan.public_key, "SSH_PUBLIC_KEY": plan.public_key}
        added |= encode_member(KEY_NAME, plan.key_name, in_context=True)
    if plan.user_data is not None:
        added |= {USER_DATA: plan.user_data, "USER_DATA": plan.user_data, "USER_DATA_ENCODING": "base64"}
    return context(plan.instance_type.attributes.vector("CONTEXT"), added) if added else ""


def _requirements(plan: LaunchPlan) -> str:
    """Return the SCHED_REQUIREMENTS: those of the template, joined with the clusters of the plan."""
    if not plan.cluster_ids:
        return ""
    type_requirements = plan.instance_type.attributes.text("SCHED_REQUIREMENTS")
    parts = [f"({type_requirements})"] if type_requirements else []
    parts += [f"CLUSTER_ID = {cluster_id}" for cluster_id in plan.cluster_ids]
    return attribute("SCHED_REQUIREMENTS", " & ".join(parts))
