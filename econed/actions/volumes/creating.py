"""Creating volumes: empty ones with one call to oned, those from a snapshot by copying and marking it.

With a client token a volume is created once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from econed.actions.client_tokens import ClientToken, mismatch
from econed.actions.disk_images.volume_facts import (
    IS_VOLUME,
    MARKED_IMAGE_ID,
    finishing_text,
    is_marked_deleted,
    is_unfinished,
    volume_name,
)
from econed.actions.tagging import tag_text
from econed.actions.waiting import INTERVAL
from econed.errors import EC2Error, OpenNebulaCode, OpenNebulaRefusal
from econed.ids import SNAPSHOT
from econed.opennebula.pools import OwnerFilter
from econed.opennebula.states import ImageState
from econed.opennebula.template import attribute, template

if TYPE_CHECKING:
    from econed.actions.call import Call
    from econed.opennebula.documents import Image


MAX_SIZE = 16384
"""Size of the largest volume in GiB (EC2 User Guide, "Amazon EBS volume types")."""

_MB_PER_GIB = 1024
_MAX_ATTEMPTS = 20

_UNMARKED_TIMEOUT = 5
"""Seconds after which an unmarked copy counts as abandoned by a process that died: copies are marked immediately."""

_TYPES = frozenset({"standard", "io1", "io2", "gp2", "gp3", "sc1", "st1"})
_NAME_TAKEN = frozenset({OpenNebulaCode.ALLOCATE, OpenNebulaCode.INTERNAL})
_COPYABLE = frozenset({ImageState.READY, ImageState.USED, ImageState.CLONE})


@dataclass(frozen=True)
class VolumePlan:
    """A volume to create, with everything looked up and checked: `size` in GiB, `facts` as attributes."""

    name: str
    size: int
    snapshot: Image | None
    facts: Mapping[str, str]
    tags: Mapping[str, str]


def checked_size(size: int | None, snapshot: Image | None) -> int:
    """Return the size of a new volume in GiB: the requested size, else that of the snapshot.

    Raises `EC2Error` MissingParameter without either, InvalidParameterValue, and UnsupportedOperation for a volume
    larger than its snapshot: OpenNebula can only resize disks of machines, not images.
    """
    if snapshot is None and size is None:
        raise EC2Error("MissingParameter", "The request must contain the parameter size or snapshotId")
    if size is not None and not 1 <= size <= MAX_SIZE:
        raise EC2Error("InvalidParameterValue", f"Volume of size {size}GiB is invalid, it must be 1 to {MAX_SIZE}GiB.")
    if snapshot is None:
        return size or 1
    snapshot_size = -(-snapshot.size // _MB_PER_GIB)
    if size is not None and size < snapshot_size:
        raise EC2Error(
            "InvalidParameterValue",
            f"Volume of size {size}GiB is smaller than snapshot '{SNAPSHOT.format(snapshot.id)}', "
            f"expect size >= {snapshot_size}GiB",
        )
    if size is not None and size > snapshot_size:
        raise EC2Error(
            "UnsupportedOperation",
            f"A volume from the snapshot '{SNAPSHOT.format(snapshot.id)}' is created with the snapshot's size, "
            f"{snapshot_size}GiB. To enlarge it, attach it and use ModifyVolume.",
        )
    return snapshot_size


def check_completed(snapshot: Image) -> None:
    """Raise `EC2Error` IncorrectState if a snapshot is not completed."""
    if snapshot.state not in _COPYABLE or is_unfinished(snapshot):
        raise EC2Error("IncorrectState", f"Snapshot is not in the completed state: {SNAPSHOT.format(snapshot.id)}")


async def make_volume(call: Call, plan: VolumePlan) -> int:
    """Create a volume and return the id of its image without waiting for oned to finish it.

    Raises `EC2Error` VolumeLimitExceeded if oned's quota is exceeded.
    """
    try:
        if plan.snapshot is None:
            return await call.session.image_allocate(_volume_text(call, plan), call.settings.datastore_id)
        image_id = await call.session.image_clone(plan.snapshot.id, plan.name)
    except OpenNebulaRefusal as refusal:
        if refusal.is_quota:
            raise EC2Error("VolumeLimitExceeded", "Your quota does not allow another volume.") from refusal
        raise
    await _finish(call, plan, image_id)
    return image_id


async def make_volume_once(call: Call, plan: VolumePlan, token: ClientToken) -> int:
    """Create a volume with a client token, or return the volume that was created with it.

    The volume's name is derived from the token. oned refuses a second image with the same name, so of any number of
    processes only one creates it, and the others find it by its name. The token can be used again when the volume has
    been deleted. Raises `EC2Error` IdempotentParameterMismatch.
    """
    last_refusal: OpenNebulaRefusal | None = None
    for _ in range(_MAX_ATTEMPTS):
        try:
            return await make_volume(call, plan)
        except OpenNebulaRefusal as refusal:
            if refusal.code not in _NAME_TAKEN:
                raise
            last_refusal = refusal
        existing = await _own_image(call, plan.name)
        if existing is None and last_refusal.code == OpenNebulaCode.INTERNAL:
            raise last_refusal
        if existing is not None and is_marked_deleted(existing):
            await call.session.image_rename(existing.id, volume_name())
            continue
        if existing is not None and existing.state is not ImageState.DELETE and not is_unfinished(existing):
            token.check_creator(existing.template)
            return existing.id
        if existing is not None and existing.state is not ImageState.DELETE and _is_abandoned(call, existing):
            if not _is_copy_of(existing, plan.snapshot):
                raise mismatch()
            await _finish(call, plan, existing.id)
            return existing.id
        await call.pause(INTERVAL)
    assert last_refusal is not None  # noqa: S101  there was an attempt
    raise last_refusal


async def _own_image(call: Call, name: str) -> Image | None:
    images = await call.session.images(OwnerFilter.MINE)
    return next((image for image in images if image.name == name), None)


def _is_abandoned(call: Call, image: Image) -> bool:
    return image.regtime < call.now - _UNMARKED_TIMEOUT


def _is_copy_of(image: Image, snapshot: Image | None) -> bool:
    """Whether an unmarked copy may be one of this snapshot: copies of snapshots that econed marked have their id."""
    return snapshot is not None and image.template.text(MARKED_IMAGE_ID) in ("", str(snapshot.id))


async def _finish(call: Call, plan: VolumePlan, image_id: int) -> None:
    await call.session.image_update(
        image_id, finishing_text(await call.session.image(image_id), plan.facts, tags=plan.tags)
    )


def _volume_text(call: Call, plan: VolumePlan) -> str:
    # OpenNebula up to 5.12 reads the file system from FSTYPE, later versions from FS.
    file_system = call.settings.ebs_fstype
    attributes = {
        "NAME": plan.name,
        "TYPE": "DATABLOCK",
        "SIZE": str(plan.size * _MB_PER_GIB),
        "FSTYPE": file_system,
        "FS": file_system,
        "PERSISTENT": "YES",
        IS_VOLUME: "YES",
        **plan.facts,
    }
    return template(*(attribute(name, value) for name, value in attributes.items()), tag_text(plan.tags))


def checked_type(volume_type: str) -> str:
    """Return a VolumeType; raises `EC2Error` InvalidParameterValue for an unknown type."""
    if volume_type not in _TYPES:
        raise EC2Error("InvalidParameterValue", f"Invalid volume type '{volume_type}'")
    return volume_type
