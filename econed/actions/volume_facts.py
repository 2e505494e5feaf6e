"""Which attributes of an image keep which facts of volumes and snapshots; and their names.

A volume is a persistent image with EBS_VOLUME="YES", a snapshot one with EBS_SNAPSHOT="YES", as the Ruby server made
them. A copy inherits all attributes of what it was made from, and oned has no call that copies and marks in one step.
So the *name* says what a copy is to be from its first moment on: it counts as that and nothing else until its marks
agree, and whoever comes next can put them right (`finished`, and the chore in `volume_chores`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING
from uuid import uuid4

from econed.actions.image_view import MARK, NAME, description_text
from econed.actions.tagging import PREFIX, tag_text
from econed.opennebula.template import attribute, hex_name, removal, template

if TYPE_CHECKING:
    from econed.opennebula.documents import Image

IS_VOLUME = "EBS_VOLUME"
IS_SNAPSHOT = "EBS_SNAPSHOT"
HINT = "EBS"
"""[INSTANCE_ID, DEVICE, ATTACH_TIME] of an attached volume, from the Ruby server. The machine's disks are the truth."""

ZONE = "EC2_AVAILABILITY_ZONE"
"""The cluster a volume was made for, by its OpenNebula id."""
VOLUME_TYPE = "EC2_VOLUME_TYPE"
"""The VolumeType a volume was asked for with, which clients want to read again; on a disk too."""
FROM_SNAPSHOT = "EC2_SNAPSHOT_ID"
"""The snapshot a volume was made from, by its EC2 id."""
OF_VOLUME = "EBS_SNAPSHOT_VOLUME"
"""The volume a snapshot was made of, by its EC2 id."""
REQUEST_DIGEST = "EC2_REQUEST_DIGEST"
"""What a CreateVolume call with a client token asked for, as a SHA-256."""
MODIFICATION = "EC2_VOLUME_MODIFICATION"
"""[ORIGINAL_SIZE, TARGET_SIZE, TIME] of the last ModifyVolume: GiB and seconds since the epoch."""
LAUNCHED_AT = "EC2_LAUNCHED_AT"
"""When (epoch seconds) RunInstances made a volume for a machine that has yet to be released with it."""
DELETE_WITH = "EC2_DELETE_WITH"
"""The machine, by its OpenNebula id, after whose end a volume is to go, if that machine ends with it."""

_VOLUME_NAME = re.compile(r"ec2-vol-[0-9a-f]{32}")
_SNAPSHOT_NAME = re.compile(r"ec2-snap-[0-9a-f]{32}")
_INHERITED = (
    *(HINT, ZONE, VOLUME_TYPE, FROM_SNAPSHOT, OF_VOLUME, REQUEST_DIGEST, MODIFICATION, LAUNCHED_AT, DELETE_WITH),
    *("EC2_TAGS", NAME),
)
_NOTHING: Mapping[str, str] = MappingProxyType({})
_UNKNOWN_VOLUME = "vol-ffffffff"


def volume_name(token: str | None = None) -> str:
    """Return the name of a new volume: one that no other has, or that which belongs to a client token."""
    return f"ec2-vol-{uuid4().hex if token is None else hashlib.sha256(token.encode()).hexdigest()[:32]}"


def snapshot_name() -> str:
    """Return the name of a new snapshot."""
    return f"ec2-snap-{uuid4().hex}"


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
    if _VOLUME_NAME.fullmatch(image.name):
        return not _says(image, IS_VOLUME) or _says(image, IS_SNAPSHOT)
    return _SNAPSHOT_NAME.fullmatch(image.name) is not None and (
        not _says(image, IS_SNAPSHOT) or _says(image, IS_VOLUME)
    )


def finished(image: Image, facts: Mapping[str, str], description: str = "", tags: Mapping[str, str] = _NOTHING) -> str:
    """Return the template text that makes a copy what its name says, with these facts, and takes off what it inherited.

    It is one append, so it is done or not done. Doing it once more changes nothing.
    """
    marks = {IS_VOLUME: "YES", IS_SNAPSHOT: "NO"} if is_volume(image) else {IS_VOLUME: "NO", IS_SNAPSHOT: "YES"}
    wanted = {MARK: "NO", **marks, **facts}
    given = tag_text(tags)
    kept = {*wanted, *(hex_name(PREFIX, key) for key in tags)}
    present = [name for name in image.template.names() if name.startswith(PREFIX)]
    gone = [name for name in (*_INHERITED, *present) if name not in kept]
    return template(
        *(attribute(name, value) for name, value in wanted.items()),
        *map(removal, gone),
        description_text(description),
        given,
    )


def snapshot_of(image: Image) -> str:
    """Return the id of the volume a snapshot was made of; as on Amazon `vol-ffffffff`, where nobody noted it."""
    return image.template.text(OF_VOLUME) or _UNKNOWN_VOLUME


def number(text: str) -> int | None:
    """Return the whole number that an attribute holds; None if it holds none."""
    return int(text) if text.isascii() and text.isdigit() else None


def _says(image: Image, mark: str) -> bool:
    return image.template.text(mark).upper() == "YES"
