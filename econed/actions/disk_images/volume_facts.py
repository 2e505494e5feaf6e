"""The names and attributes of images that store facts about volumes and snapshots.

A volume is a persistent image with EBS_VOLUME="YES", a snapshot an image with EBS_SNAPSHOT="YES", as the Ruby server
created them. A copy inherits all attributes of its original, and oned has no call that both copies and marks. The
*name* of a copy therefore says whether it is a volume or a snapshot from the moment it exists, and takes precedence
until its marks agree. Any process can correct the marks (`finishing_text`, and the chore in
`econed.actions.volumes.chores`).
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
"""[INSTANCE_ID, DEVICE, ATTACH_TIME] of an attached volume, from the Ruby server. The machine's disks override it."""

AVAILABILITY_ZONE = "EC2_AVAILABILITY_ZONE"
"""The OpenNebula id of the cluster a volume was created for."""
VOLUME_TYPE = "EC2_VOLUME_TYPE"
"""The VolumeType requested for a volume, which clients expect to read back; also on a disk."""
SOURCE_SNAPSHOT = "EC2_SNAPSHOT_ID"
"""The EC2 id of the snapshot a volume was created from."""
SOURCE_VOLUME = "EBS_SNAPSHOT_VOLUME"
"""The EC2 id of the volume a snapshot was created from."""
MODIFICATION = "EC2_VOLUME_MODIFICATION"
"""[ORIGINAL_SIZE, TARGET_SIZE, TIME] of the last ModifyVolume: GiB and seconds since the epoch."""
LAUNCHED_AT = "EC2_LAUNCHED_AT"
"""When (epoch seconds) RunInstances created a volume for a machine that is still on HOLD."""
DELETE_WITH = "EC2_DELETE_WITH"
"""The OpenNebula id of the machine with which a volume is deleted, if it is still attached when the machine ends."""

IS_AMI_SNAPSHOT = "EC2_SNAPSHOT_OF_AMI"
"""YES on a snapshot whose image is, or was, also an AMI: its tags are stored apart from the AMI's."""
SNAPSHOT_TAG_PREFIX = "EC2_SNAPSHOT_TAG_"
"""Prefix of the attributes that store the tags of such a snapshot."""
MARKED_IMAGE_ID = "EC2_IMAGE_ID"
"""The OpenNebula id of the image that the marks are for. A copy that is not marked yet has the id of its original."""

TO_DELETE = "EC2_TO_DELETE"
"""YES on a volume or a snapshot that is deleted as soon as oned has copied it, and that econed no longer shows."""
TO_ATTACH = "EC2_TO_ATTACH"
"""[VMID, DEVICE, TIME] of the machine to which a volume is attached as soon as oned has copied it."""

_VOLUME_NAME = re.compile(r"ec2-vol-[0-9a-f]{32}")
_SNAPSHOT_NAME = re.compile(r"ec2-snap-[0-9a-f]{32}")
_OWN_PREFIXES = ("EC2_", "EBS")
"""Prefixes of the attributes that econed and the Ruby server write on images."""

_NO_TAGS: Mapping[str, str] = MappingProxyType({})
_UNKNOWN_VOLUME = "vol-ffffffff"


def volume_name(token: str | None = None) -> str:
    """Return the name of a new volume: a random one, or the one derived from a client token."""
    return f"ec2-vol-{uuid4().hex if token is None else hashlib.sha256(token.encode()).hexdigest()[:32]}"


def snapshot_name() -> str:
    """Return the name of a new snapshot."""
    return f"ec2-snap-{uuid4().hex}"


def is_reserved(name: str) -> bool:
    """Whether the name makes an image a volume or a snapshot."""
    return any(pattern.fullmatch(name) for pattern in (_VOLUME_NAME, _SNAPSHOT_NAME))


def is_volume(image: Image) -> bool:
    """Whether an image is a volume: by its name or its mark, or because it is persistent and in use by a machine."""
    if _VOLUME_NAME.fullmatch(image.name):
        return True
    if _SNAPSHOT_NAME.fullmatch(image.name):
        return False
    return _has_mark(image, IS_VOLUME) or (image.is_persistent and bool(image.vm_ids))


def is_snapshot(image: Image) -> bool:
    """Whether an image is a snapshot, by its name or its mark."""
    if _SNAPSHOT_NAME.fullmatch(image.name):
        return True
    return _has_mark(image, IS_SNAPSHOT) and not _VOLUME_NAME.fullmatch(image.name)


def is_unfinished(image: Image) -> bool:
    """Whether an image is a copy that still has the attributes of its original."""
    if not is_reserved(image.name):
        return False
    own_mark, other_mark = (IS_VOLUME, IS_SNAPSHOT) if is_volume(image) else (IS_SNAPSHOT, IS_VOLUME)
    is_marked = _has_mark(image, own_mark) and not _has_mark(image, other_mark)
    return not is_marked or image.template.text(MARKED_IMAGE_ID) not in ("", str(image.id))


def inherited_attributes(image: Image, retained: Container[str]) -> list[str]:
    """Return the attributes of an original, or its copy, that do not apply to the copy, except those in `retained`."""
    return [name for name in image.template.names() if name.startswith(_OWN_PREFIXES) and name not in retained]


def finishing_text(
    image: Image, facts: Mapping[str, str], description: str = "", tags: Mapping[str, str] = _NO_TAGS
) -> str:
    """Return the template text that marks a copy as what its name says, adds facts and removes what it inherited.

    It is applied by one append, so either completely or not at all, and applying it again changes nothing.
    """
    marks = {IS_VOLUME: "YES", IS_SNAPSHOT: "NO"} if is_volume(image) else {IS_VOLUME: "NO", IS_SNAPSHOT: "YES"}
    attributes = {IS_AMI: "NO", MARKED_IMAGE_ID: str(image.id), **marks, **facts}
    return template(
        *(attribute(name, value) for name, value in attributes.items()),
        *map(removal, inherited_attributes(image, {*attributes, *(hex_name(PREFIX, key) for key in tags)})),
        description_text(description),
        tag_text(tags),
    )


def is_marked_deleted(image: Image) -> bool:
    """Whether an image is to be deleted as soon as oned has copied it."""
    return _has_mark(image, TO_DELETE)


def is_being_copied(image: Image) -> bool:
    """Whether oned is copying an image that no machine uses; it can then be neither attached nor deleted."""
    return image.state is ImageState.CLONE or (image.state is ImageState.USED and not image.vm_ids)


def is_writable_by_others(image: Image) -> bool:
    """Whether the permission bits let users other than the owner write attributes of an image.

    Its marks must then not authorize changes to the owner's other objects.
    """
    return Right.MANAGE in image.permissions.group | image.permissions.other


@dataclass(frozen=True)
class PendingAttachment:
    """A deferred attachment: requested at `time` (epoch seconds), at a `device` as the client named it."""

    machine_id: int
    device: str
    time: int

    @classmethod
    def from_image(cls, image: Image) -> PendingAttachment | None:
        """Return the deferred attachment stored on an image; None if there is none or others could have written it."""
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
        """The template text that stores it on the volume's image."""
        members = {"VMID": str(self.machine_id), "DEVICE": self.device, "TIME": str(self.time)}
        return vector(TO_ATTACH, members)


def is_ami_snapshot(image: Image) -> bool:
    """Whether the image of a snapshot is, or was, also an AMI."""
    return _has_mark(image, IS_AMI_SNAPSHOT)


def snapshot_tags(image: Image) -> list[TagTypeDef]:
    """Return the tags of a snapshot, sorted by key."""
    return tags_under(image.template, SNAPSHOT_TAG_PREFIX) if is_ami_snapshot(image) else tags_of(image.template)


def separate_tags_text(image: Image, ami_tags: Container[str]) -> str:
    """Return the template text that stores a snapshot's tags apart from those of the AMI that its image also becomes.

    `ami_tags` are the keys of the AMI's tags. Empty if the image is no snapshot, or its tags are stored apart already.
    """
    if not is_snapshot(image) or is_ami_snapshot(image):
        return ""
    tags = {tag["Key"]: tag["Value"] for tag in tags_of(image.template)}
    removed_tags = untag_text((key for key in tags if key not in ami_tags), legacy=legacy_keys(image.template))
    return template(attribute(IS_AMI_SNAPSHOT, "YES"), tag_text(tags, SNAPSHOT_TAG_PREFIX), removed_tags)


def source_volume_id(image: Image) -> str:
    """Return the id of the volume a snapshot was created from; `vol-ffffffff`, as on Amazon, if that is unknown."""
    return image.template.text(SOURCE_VOLUME) or _UNKNOWN_VOLUME


def _has_mark(image: Image, mark: str) -> bool:
    return image.template.text(mark).upper() == "YES"
