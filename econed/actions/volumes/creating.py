"""Making volumes: empty ones by one call of oned's, those from a snapshot by a copy and its marks; once for a token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from econed.actions.client_tokens import REQUEST_DIGEST, ClientToken, mismatch
from econed.actions.disk_images.volume_facts import (
    IS_VOLUME,
    MARKED_IMAGE_ID,
    finishing_text,
    is_marked_deleted,
    is_unfinished,
    volume_name,
)
from econed.actions.tagging import tag_text
from econed.errors import EC2Error, OpenNebulaCode, OpenNebulaRefusal
from econed.ids import SNAPSHOT
from econed.opennebula.pools import OwnerFilter
from econed.opennebula.states import ImageState
from econed.opennebula.template import attribute, template

if TYPE_CHECKING:
    from econed.actions.call import Call
    from econed.opennebula.documents import Image


MAX_SIZE = 16384
"""GiB of the largest volume (EC2 User Guide, "Amazon EBS volume types")."""

_MB_PER_GIB = 1024
_ROUNDS = 20
_PAUSE = 0.5
"""Seconds between two looks at a volume that another process is making with the same token."""

_ABANDONED = 5
"""Seconds after which a copy without its marks was left by a process that died: they come right behind it."""

_TAKEN = frozenset({OpenNebulaCode.ALLOCATE, OpenNebulaCode.INTERNAL})
_COPYABLE = frozenset({ImageState.READY, ImageState.USED, ImageState.CLONE})


@dataclass(frozen=True)
class VolumePlan:
    """A volume that is to be made, everything about it looked up and checked: `size` in GiB, `facts` as attributes."""

    name: str
    size: int
    snapshot: Image | None
    facts: Mapping[str, str]
    tags: Mapping[str, str]


def checked_size(size: int | None, snapshot: Image | None) -> int:
    """Return the size of a new volume in GiB: as asked for, else as large as the snapshot.

    Raises `EC2Error` MissingParameter without either, InvalidParameterValue, and UnsupportedOperation for a volume
    larger than its snapshot: OpenNebula copies an image as it is, and cannot make it grow before a machine has it.
    """
    if snapshot is None and size is None:
        raise EC2Error("MissingParameter", "The request must contain the parameter size or snapshotId")
    if size is not None and not 1 <= size <= MAX_SIZE:
        raise EC2Error("InvalidParameterValue", f"Volume of size {size}GiB is invalid, it must be 1 to {MAX_SIZE}GiB.")
    if snapshot is None:
        return size or 1
    least = -(-snapshot.size // _MB_PER_GIB)
    if size is not None and size < least:
        raise EC2Error(
            "InvalidParameterValue",
            f"Volume of size {size}GiB is smaller than snapshot '{SNAPSHOT.format(snapshot.id)}', "
            f"expect size >= {least}GiB",
        )
    if size is not None and size > least:
        raise EC2Error(
            "UnsupportedOperation",
            f"A volume from the snapshot '{SNAPSHOT.format(snapshot.id)}' has its size, {least}GiB, at first: "
            "attach it and use ModifyVolume to have it grow.",
        )
    return least


def check_completed(snapshot: Image) -> None:
    """Raise `EC2Error` IncorrectState for a snapshot that is not complete."""
    if snapshot.state not in _COPYABLE or is_unfinished(snapshot):
        raise EC2Error("IncorrectState", f"Snapshot is not in the completed state: {SNAPSHOT.format(snapshot.id)}")


async def make_volume(call: Call, plan: VolumePlan) -> int:
    """Make a volume and return its image's id at once. Raises `EC2Error` VolumeLimitExceeded by oned's quota."""
    try:
        if plan.snapshot is None:
            return await call.session.image_allocate(_text(call, plan), call.settings.datastore_id)
        number = await call.session.image_clone(plan.snapshot.id, plan.name)
    except OpenNebulaRefusal as refusal:
        if refusal.is_quota:
            raise EC2Error("VolumeLimitExceeded", "Your quota does not allow for another volume.") from refusal
        raise
    await _finish(call, plan, number)
    return number


async def make_volume_once(call: Call, plan: VolumePlan, token: ClientToken) -> int:
    """Make a volume whose name belongs to a client token, or return the one that was made with it.

    oned refuses a second image of a name, so however many processes try, one makes it; it is found by its name. The
    token is free again when the volume has been deleted. Raises `EC2Error` IdempotentParameterMismatch.
    """
    refused: OpenNebulaRefusal | None = None
    for _ in range(_ROUNDS):
        try:
            return await make_volume(call, plan)
        except OpenNebulaRefusal as refusal:
            if refusal.code not in _TAKEN:
                raise
            refused = refusal
        there = next((each for each in await call.session.images(OwnerFilter.MINE) if each.name == plan.name), None)
        if there is None and refused.code == OpenNebulaCode.INTERNAL:
            raise refused
        if there is not None and is_marked_deleted(there):
            await call.session.image_rename(there.id, volume_name())
            continue
        if there is not None and there.state is not ImageState.DELETE and not is_unfinished(there):
            token.check_same_call(there.template.text(REQUEST_DIGEST))
            return there.id
        if there is not None and there.state is not ImageState.DELETE and _is_abandoned(call, there):
            if not _is_copy_of(there, plan.snapshot):
                raise mismatch()
            await _finish(call, plan, there.id)
            return there.id
        await call.pause(_PAUSE)
    assert refused is not None  # noqa: S101  there was a round
    raise refused


def _is_abandoned(call: Call, image: Image) -> bool:
    return image.regtime < call.now - _ABANDONED


def _is_copy_of(image: Image, snapshot: Image | None) -> bool:
    """Whether a copy without its marks may be one of this snapshot: those that we made say so on every copy."""
    return snapshot is not None and image.template.text(MARKED_IMAGE_ID) in ("", str(snapshot.id))


async def _finish(call: Call, plan: VolumePlan, number: int) -> None:
    await call.session.image_update(
        number, finishing_text(await call.session.image(number), plan.facts, tags=plan.tags)
    )


def _text(call: Call, plan: VolumePlan) -> str:
    # FSTYPE is the file system up to 5.12, FS since.
    file_system = call.settings.ebs_fstype
    wanted = {
        "NAME": plan.name,
        "TYPE": "DATABLOCK",
        "SIZE": str(plan.size * _MB_PER_GIB),
        "FSTYPE": file_system,
        "FS": file_system,
        "PERSISTENT": "YES",
        IS_VOLUME: "YES",
        **plan.facts,
    }
    return template(*(attribute(name, value) for name, value in wanted.items()), tag_text(plan.tags))


def checked_type(volume_type: str) -> str:
    """Return a VolumeType that is one; raises `EC2Error` InvalidParameterValue."""
    if volume_type not in _TYPES:
        raise EC2Error("InvalidParameterValue", f"Invalid volume type '{volume_type}'")
    return volume_type


_TYPES = frozenset({"standard", "io1", "io2", "gp2", "gp3", "sc1", "st1"})
