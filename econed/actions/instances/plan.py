"""What a RunInstances call comes to in OpenNebula: the template text for a machine of an instance type and an AMI."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from econed.actions.instances.block_devices import NONE, BlockDevices
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
from econed.actions.object_limits import MAX_ON_MACHINE, check_size
from econed.actions.tagging import disk_tag_prefix, tag_text, too_many_tags
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
    from econed.opennebula.documents import Image

MAX_COUNT = 1000
"""Instances that one call can ask for."""

MAX_VOLUMES = 1000
"""Volumes that one call can have made for all its instances together."""

_NAME = re.compile(r"[\w.:@() -]{1,128}")


@dataclass(frozen=True)
class LaunchPlan:
    """A RunInstances call with everything it names looked up and checked.

    `public_key` is such that CONTEXT keeps it, `user_data` is base64, as the client sent it. `cluster_ids` are the
    clusters it is kept to, by the zone it asks for and by the configuration.
    """

    instance_type: InstanceType
    image: Image
    least: int
    most: int
    token: ClientToken | None = None
    key_name: str | None = None
    public_key: str | None = None
    user_data: str | None = None
    tags: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    zone: int | None = None
    cluster_ids: tuple[int, ...] = ()
    terminates_on_shutdown: bool = False
    devices: BlockDevices = NONE


def machine_text(plan: LaunchPlan, index: int, reservation: str | None, disks: Iterable[str] = ()) -> str:
    """Return what goes over the instance type when the `index`th machine of a plan is made; `disks` are its volumes.

    A DISK that is sent replaces all disks of the type and a CONTEXT the whole CONTEXT, so what the type has of them is
    sent along as it is; NICs, capacity and restricted attributes are not sent and stay.
    """
    facts = {IMAGE_ID: IMAGE.format(plan.image.id), LAUNCH_INDEX: str(index)}
    if reservation is not None:
        facts[RESERVATION] = reservation
    if plan.token is not None:
        facts |= {**plan.token.facts, LAUNCH_COUNT: str(plan.most)}
    if plan.zone is not None:
        facts[AVAILABILITY_ZONE] = str(plan.zone)
    if plan.terminates_on_shutdown:
        facts[SHUTDOWN_BEHAVIOR] = TERMINATE
    of_type = plan.devices.without_left_out(plan.instance_type.other_disks(plan.image))
    return template(
        vector("DISK", {**plan.instance_type.root_disk(plan.image), **plan.devices.root}),
        render(of_type),
        *disks,
        *(attribute(name, value) for name, value in facts.items()),
        _context(plan),
        _requirements(plan),
        _tags(plan),
    )


def check_tags(plan: LaunchPlan) -> None:
    """Raise `EC2Error` TagLimitExceeded for more tags, on an instance and its disks, than a machine may keep."""
    check_size(Attributes(), _tags(plan), MAX_ON_MACHINE, too_many_tags())


def _tags(plan: LaunchPlan) -> str:
    disks = ("root", *plan.devices.without_left_out(plan.instance_type.other_disks(plan.image)))
    return template(
        tag_text(plan.tags),
        *(tag_text(plan.devices.tags, disk_tag_prefix(disk_id)) for disk_id, _ in enumerate(disks)),
    )


def machine_name(plan: LaunchPlan) -> str:
    """Return the name of the machines: their tag Name where it makes a name, else empty, and oned finds one."""
    name = plan.tags.get("Name", "")
    return name if _NAME.fullmatch(name) else ""


def for_context(public_key: str) -> str:
    """Return a public key that OpenNebula keeps in CONTEXT as it is: the comment is no part of the key."""
    return public_key if is_storable_in_context(public_key) else " ".join(public_key.split()[:2])


def _context(plan: LaunchPlan) -> str:
    """Return the CONTEXT: key and user data as the Ruby server wrote them, and as the context packages read them."""
    added: dict[str, str] = {}
    if plan.key_name is not None and plan.public_key is not None:
        added |= {PUBLIC_KEY: plan.public_key, "SSH_PUBLIC_KEY": plan.public_key}
        added |= encode_member(KEY_NAME, plan.key_name, in_context=True)
    if plan.user_data is not None:
        added |= {USER_DATA: plan.user_data, "USER_DATA": plan.user_data, "USER_DATA_ENCODING": "base64"}
    return context(plan.instance_type.attributes.vector("CONTEXT"), added) if added else ""


def _requirements(plan: LaunchPlan) -> str:
    """Return where the machine may run: where its template says, and in all of the clusters it is kept to."""
    if not plan.cluster_ids:
        return ""
    own = plan.instance_type.attributes.text("SCHED_REQUIREMENTS")
    parts = [f"({own})"] if own else []
    parts += [f"CLUSTER_ID = {number}" for number in plan.cluster_ids]
    return attribute("SCHED_REQUIREMENTS", " & ".join(parts))
