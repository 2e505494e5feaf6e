"""Which attributes of an image keep which facts of volumes and snapshots; and their names.

A volume is a persistent image with EBS_VOLUME="YES", a snapshot one with EBS_SNAPSHOT="YES", as the Ruby server made
them. A copy inherits all attributes of what it was made from, and oned has no call that copies and marks in one step.
So the *name* says what a copy is to be from its first moment on: it counts as that and nothing else until its marks
agree, and whoever comes next can put them right (`finishing_text`, and the chore in `econed.actions.volumes.chores`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING
from uuid import uuid4

from econed.actions.disk_images.ami_facts import IS_AMI, description_text
from econed.actions.machines.devices import Device
from econed.actions.tagging import PREFIX, legacy_keys, tag_text, tags_of, tags_under, untag_text
from econed.opennebula.states import ImageState
from econed.opennebula.template import attribute, hex_name, removal, template, vector
from econed.opennebula.values import epoch_seconds, whole_number
from econed.opennebula.views import Right

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import TagTypeDef

    from econed.opennebula.documents import Image

IS_VOLUME = "EBS_VOLUME"
IS_SNAPSHOT = "EBS_SNAPSHOT"
ATTACHMENT_HINT = "EBS"
"""[INSTANCE_ID, DEVICE, ATTACH_TIME] of an attached volume, from the Ruby server. The machine's disks are the truth."""

AVAILABILITY_ZONE = "EC2_AVAILABILITY_ZONE"
"""The cluster a volume was made for, by its OpenNebula id."""
VOLUME_TYPE = "EC2_VOLUME_TYPE"
"""The VolumeType a volume was asked for with, which clients want to read again; on a disk too."""
SOURCE_SNAPSHOT = "EC2_SNAPSHOT_ID"
"""The snapshot a volume was made from, by its EC2 id."""
SOURCE_VOLUME = "EBS_SNAPSHOT_VOLUME"
"""The volume a snapshot was made of, by its EC2 id."""
MODIFICATION = "EC2_VOLUME_MODIFICATION"
"""[ORIGINAL_SIZE, TARGET_SIZE, TIME] of the last ModifyVolume: GiB and seconds since the epoch."""
LAUNCHED_AT = "EC2_LAUNCHED_AT"
"""When (epoch seconds) RunInstances made a volume for a machine that has yet to be released with it."""
DELETE_WITH = "EC2_DELETE_WITH"
"""The machine, by its OpenNebula id, after whose end a volume is to go, if that machine ends with it."""

IS_AMI_SNAPSHOT = "EC2_SNAPSHOT_OF_AMI"
"""YES on a snapshot whose image is, or was, an AMI too: its tags are attributes of their own beside the AMI's."""
SNAPSHOT_TAG_PREFIX = "EC2_SNAPSHOT_TAG_"
"""How the attributes of the tags of such a snapshot begin."""
MARKED_IMAGE_ID = "EC2_IMAGE_ID"
"""The OpenNebula id of the image that was marked as what its name says. A copy has that of its original at first."""

TO_DELETE = "EC2_TO_DELETE"
"""YES on a volume or a snapshot that is deleted as soon as oned has copied it: to everybody it is gone already."""
TO_ATTACH = "EC2_TO_ATTACH"
"""[VMID, DEVICE, TIME]: the machine to which a volume is attached as soon as oned has copied it."""

_VOLUME_NAME = re.compile(r"ec2-vol-[0-9a-f]{32}")
_SNAPSHOT_NAME = re.compile(r"ec2-snap-[0-9a-f]{32}")
_OURS = ("EC2_", "EBS")
"""How the attributes begin by which econed, or the Ruby server, knows an image."""

_NOTHING: Mapping[str, str] = MappingProxyType({})
_UNKNOWN_VOLUME = "vol-ffffffff"


def volume_name(token: str | None = None) -> str:
    """Return the name of a new volume: one that no other has, or that which belongs to a client token."""
    return f"ec2-vol-{uuid4().hex if token is None else hashlib.sha256(token.encode()).hexdigest()[:32]}"


def snapshot_name() -> str:
    """Return the name of a new snapshot."""
    return f"ec2-snap-{uuid4().hex}"


def is_reserved(name: str) -> bool:
    """Whether an image of this name would be taken for a volume or a snapshot."""
    return any(pattern.fullmatch(name) for pattern in (_VOLUME_NAME, _SNAPSHOT_NAME))


def is_volume(image: Image) -> bool:
    """Whether an image is a volume: by its name or its mark, or because a machine uses it itself just now."""
    if _VOLUME_NAME.fullmatch(image.name):
        return True
    if _SNAPSHOT_NAME.fullmatch(image.name):
        return False
    return _says(image, IS_VOLUME) or (image.is_persistent and bool(image.vm_ids))


def is_snapshot(image: Image) -> bool:
    """Whether an image is a snapshot, by its name or its mark."""
    if _SNAPSHOT_NAME.fullmatch(image.name):
        return True
    return _says(image, IS_SNAPSHOT) and not _VOLUME_NAME.fullmatch(image.name)


def is_unfinished(image: Image) -> bool:
    """Whether an image is a copy that still has the attributes of what it was made from."""
    if not is_reserved(image.name):
        return False
    wanted, other = (IS_VOLUME, IS_SNAPSHOT) if is_volume(image) else (IS_SNAPSHOT, IS_VOLUME)
    is_marked = _says(image, wanted) and not _says(image, other)
    return not is_marked or image.template.text(MARKED_IMAGE_ID) not in ("", str(image.id))


def inherited_attributes(image: Image, kept: Container[str]) -> list[str]:
    """Return the attributes by which a copy, or what will be one, says of itself what is true of its original only.

    `kept` are those that the copy is to have.
    """
    return [name for name in image.template.names() if name.startswith(_OURS) and name not in kept]


def finishing_text(
    image: Image, facts: Mapping[str, str], description: str = "", tags: Mapping[str, str] = _NOTHING
) -> str:
    """Return the template text that makes a copy what its name says, with these facts, and removes what it inherited.

    It is one append, so it is done or not done. Doing it once more changes nothing.
    """
    marks = {IS_VOLUME: "YES", IS_SNAPSHOT: "NO"} if is_volume(image) else {IS_VOLUME: "NO", IS_SNAPSHOT: "YES"}
    wanted = {IS_AMI: "NO", MARKED_IMAGE_ID: str(image.id), **marks, **facts}
    return template(
        *(attribute(name, value) for name, value in wanted.items()),
        *map(removal, inherited_attributes(image, {*wanted, *(hex_name(PREFIX, key) for key in tags)})),
        description_text(description),
        tag_text(tags),
    )


def is_marked_deleted(image: Image) -> bool:
    """Whether an image was deleted while oned was copying it."""
    return _says(image, TO_DELETE)


def is_being_copied(image: Image) -> bool:
    """Whether oned is copying an image that no machine uses: it can neither be attached nor deleted then."""
    return image.state is ImageState.CLONE or (image.state is ImageState.USED and not image.vm_ids)


def is_writable_by_others(image: Image) -> bool:
    """Whether the permission bits of an image let others than its owner write attributes on it.

    What is then marked on it says nothing of what may be done to the owner's other things.
    """
    return Right.MANAGE in image.permissions.group | image.permissions.other


@dataclass(frozen=True)
class PendingAttachment:
    """A volume is to be attached: since `time` (epoch seconds), at a `device` as the client named it."""

    machine_id: int
    device: str
    time: int

    @classmethod
    def on(cls, image: Image) -> PendingAttachment | None:
        """Return the attachment that an image is marked with; None if there is none, or others may have written it."""
        if is_writable_by_others(image):
            return None
        members = image.template.vector(TO_ATTACH)
        machine_id, time = whole_number(members.get("VMID", "")), epoch_seconds(members.get("TIME", ""))
        device = members.get("DEVICE", "")
        if machine_id is None or time is None or Device.find(device) is None:
            return None
        return cls(machine_id, device, time)

    @property
    def text(self) -> str:
        """The template text that keeps it on the volume's image."""
        members = {"VMID": str(self.machine_id), "DEVICE": self.device, "TIME": str(self.time)}
        return vector(TO_ATTACH, members)


def is_ami_snapshot(image: Image) -> bool:
    """Whether the image of a snapshot is, or was, an AMI too."""
    return _says(image, IS_AMI_SNAPSHOT)


def snapshot_tags(image: Image) -> list[TagTypeDef]:
    """Return the tags of a snapshot, by key."""
    return tags_under(image.template, SNAPSHOT_TAG_PREFIX) if is_ami_snapshot(image) else tags_of(image.template)


def separate_tags_text(image: Image, ami_tags: Container[str]) -> str:
    """Return the template text that keeps a snapshot's tags apart from those of the AMI that its image becomes too.

    `ami_tags` are the keys of the AMI's. Empty for what is no snapshot, or is kept apart already.
    """
    if not is_snapshot(image) or is_ami_snapshot(image):
        return ""
    tags = {tag["Key"]: tag["Value"] for tag in tags_of(image.template)}
    gone = untag_text((key for key in tags if key not in ami_tags), older=legacy_keys(image.template))
    return template(attribute(IS_AMI_SNAPSHOT, "YES"), tag_text(tags, SNAPSHOT_TAG_PREFIX), gone)


def source_volume_id(image: Image) -> str:
    """Return the id of the volume a snapshot was made of; as on Amazon `vol-ffffffff`, where nobody noted it."""
    return image.template.text(SOURCE_VOLUME) or _UNKNOWN_VOLUME


def _says(image: Image, mark: str) -> bool:
    return image.template.text(mark).upper() == "YES"
