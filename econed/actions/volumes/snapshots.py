"""Snapshots: copies of volumes, stored as images (EC2 API Reference, CreateSnapshot, DescribeSnapshots, …)."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from econed.actions.accounts import is_owned_by, owner_alias, resolve_account
from econed.actions.action import Parts, action
from econed.actions.disk_images.deleting import delete_image
from econed.actions.disk_images.lookup import matching_images
from econed.actions.disk_images.volume_facts import (
    SOURCE_VOLUME,
    finishing_text,
    snapshot_name,
    snapshot_tags,
    source_volume_id,
)
from econed.actions.images.view import is_ami, is_public
from econed.actions.inputs import Filter, TagSpecification, check_text
from econed.actions.listing import Page, in_parts, set_of
from econed.actions.machines.state import InstanceState, state_of
from econed.actions.paging import Listing, Paging
from econed.actions.regions.regions import own_region
from econed.actions.sharing import EVERYBODY, PermissionChanges, requested_sharing
from econed.actions.tagging import specified_tags
from econed.actions.tasks import TaskGroup
from econed.actions.volumes.creating import check_completed
from econed.actions.volumes.lookup import SETTLE_TIMEOUT, Attachment, settled_machine, volumes_by_id
from econed.actions.volumes.snapshot_view import SNAPSHOT_FILTERS, is_listed_snapshot, snapshot_view, snapshots_by_id
from econed.actions.volumes.view import volume_state
from econed.actions.waiting import wait_until
from econed.actions.watch import watch_caller
from econed.errors import EC2Error, OpenNebulaCode, OpenNebulaRefusal
from econed.ids import IMAGE, SNAPSHOT, account_id
from econed.opennebula.documents import OwnedView, Right
from econed.opennebula.pools import OwnerFilter
from econed.opennebula.states import ImageState

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import CreateVolumePermissionTypeDef, ProductCodeTypeDef, SnapshotTypeDef, TagTypeDef

    from econed.actions.call import Call
    from econed.actions.volumes.lookup import Volume
    from econed.opennebula.documents import Image

_LISTING = Listing("snapshots", (int,))
_MAX_DESCRIPTION = 255
_PERMISSION = "createVolumePermission"
_ATTRIBUTES = (_PERMISSION, "productCodes")
_STATES_FOR_DISK_SAVE = frozenset({InstanceState.RUNNING, InstanceState.STOPPED})
_COPYABLE = frozenset({ImageState.READY, ImageState.USED, ImageState.CLONE})


class _CannotCopyNow(EC2Error):
    """A volume cannot be copied in its present state."""

    def __init__(self, volume: Volume) -> None:
        super().__init__(
            "IncorrectState",
            f"The volume '{volume.id}' is '{volume_state(volume)}', or its instance is busy: "
            "a snapshot cannot be created now.",
        )


class CopySnapshotResult(TypedDict):
    """EC2 CopySnapshotResult."""

    SnapshotId: str
    Tags: NotRequired[list[TagTypeDef]]


class DescribeSnapshotsResult(TypedDict):
    """EC2 DescribeSnapshotsResult."""

    Snapshots: list[SnapshotTypeDef]
    NextToken: NotRequired[str]


class DescribeSnapshotAttributeResult(TypedDict):
    """EC2 DescribeSnapshotAttributeResult."""

    SnapshotId: str
    CreateVolumePermissions: NotRequired[list[CreateVolumePermissionTypeDef]]
    ProductCodes: NotRequired[list[ProductCodeTypeDef]]


@action(as_is={"Location": "regional"})
async def create_snapshot(
    call: Call, *, volume_id: str, description: str = "", tag_specifications: Sequence[TagSpecification] = ()
) -> SnapshotTypeDef:
    """Copy a volume to a snapshot (EC2 CreateSnapshot; OpenNebula disk save-as, or clone if it is not attached).

    Its name makes the copy a snapshot immediately; its marks are set directly afterwards. Raises `EC2Error`
    IncorrectState, SnapshotLimitExceeded.
    """
    check_text("Description", description, _MAX_DESCRIPTION)
    tags = specified_tags(tag_specifications, "snapshot")["snapshot"]
    async with TaskGroup() as tasks:
        copyable, user = tasks.start(_copyable_volume(call, volume_id)), tasks.start(call.session.current_user())
    volume = copyable.result
    await watch_caller(call, user.result)
    try:
        image_id = await _copy(call, volume)
    except _CannotCopyNow:
        current_volume = await _copyable_volume(call, volume_id)
        if (current_volume.attachment is None) == (volume.attachment is None):
            raise
        image_id = await _copy(call, current_volume)  # it has been attached or detached since it was read
    await _finish(call, image_id, {SOURCE_VOLUME: volume.id}, description, tags)
    return {"Tags": [], **snapshot_view(await call.session.image(image_id))}


# SDKs add a PresignedUrl, which is the URL of the source region, and DestinationRegion, which is part of it.
@action(ignores=("DestinationRegion", "PresignedUrl"), as_is={"Encrypted": False})
async def copy_snapshot(
    call: Call,
    *,
    source_snapshot_id: str,
    source_region: str,
    description: str = "",
    tag_specifications: Sequence[TagSpecification] = (),
) -> CopySnapshotResult:
    """Copy a snapshot within this region (EC2 CopySnapshot; OpenNebula clone). The caller owns the copy."""
    check_text("Description", description, _MAX_DESCRIPTION)
    tags = specified_tags(tag_specifications, "snapshot")["snapshot"]
    async with TaskGroup() as tasks:
        tasks.start(_check_region(call, source_region))
        snapshots = tasks.start(snapshots_by_id(call, [source_snapshot_id]))
        user = tasks.start(call.session.current_user())
    (source,) = snapshots.result
    check_completed(source)
    await watch_caller(call, user.result)
    image_id = await _within_quota(call.session.image_clone(source.id, snapshot_name()))
    await _finish(call, image_id, {SOURCE_VOLUME: source_volume_id(source)}, description, tags)
    result: CopySnapshotResult = {"SnapshotId": SNAPSHOT.format(image_id)}
    if copied_tags := snapshot_tags(await call.session.image(image_id)):
        result["Tags"] = copied_tags
    return result


async def _check_region(call: Call, source_region: str) -> None:
    region = await own_region(call)
    if source_region not in region:
        raise EC2Error("InvalidParameterValue", f"Snapshots can only be copied within the region {region.name}.")


@action()
async def describe_snapshots(
    call: Call,
    *,
    snapshot_ids: Sequence[str] = (),
    owner_ids: Sequence[str] = (),
    restorable_by_user_ids: Sequence[str] = (),
    filters: Sequence[Filter] = (),
    max_results: int | None = None,
    next_token: str | None = None,
) -> Parts[DescribeSnapshotsResult]:
    """List the snapshots that the caller may see (EC2 DescribeSnapshots)."""
    selection = SNAPSHOT_FILTERS.selection(filters, call.budget)
    paging = Paging.of(_LISTING, max_results, next_token, minimum=1, ids=snapshot_ids)
    owners = {resolve_account(call, owner) for owner in owner_ids}
    users = {user if user == EVERYBODY else resolve_account(call, user) for user in restorable_by_user_ids}

    def is_selected(image: Image) -> bool:
        is_owner_selected = not owners or is_owned_by(call, image.uid, owners)
        return is_owner_selected and (not users or _is_restorable(call, image, users))

    async def view(image: Image) -> SnapshotTypeDef | None:
        item = snapshot_view(image, owner_alias(call, image.uid))
        return item if await selection.matches(item) else None

    if snapshot_ids:
        sets = set_of([image for image in await snapshots_by_id(call, snapshot_ids) if is_selected(image)])
    else:
        owner = OwnerFilter.MINE if owners == {call.owner_id} else OwnerFilter.VISIBLE
        sets = matching_images(call, lambda image: is_listed_snapshot(image) and is_selected(image), owner)
    return in_parts("Snapshots", sets, view, Page(lambda image: (image.id,), paging))


@action()
async def delete_snapshot(call: Call, *, snapshot_id: str) -> None:
    """Delete a snapshot (EC2 DeleteSnapshot); raises `EC2Error` InvalidSnapshot.InUse if an AMI or an instance uses it.

    A snapshot that is being copied disappears immediately, and its image is deleted when oned has copied it.
    """
    (image,) = await snapshots_by_id(call, [snapshot_id])
    if is_ami(image):
        raise _in_use(snapshot_id, f"in use by {IMAGE.format(image.id)}")

    async def delete(image: Image) -> None:
        if not await delete_image(call, image):
            raise _in_use(snapshot_id, "in use by an instance")

    await call.change_all(Right.MANAGE, [image], delete)


@action()
async def modify_snapshot_attribute(
    call: Call,
    *,
    snapshot_id: str,
    attribute: str = _PERMISSION,
    create_volume_permission: PermissionChanges | None = None,
    operation_type: str = "",
    group_names: Sequence[str] = (),
    user_ids: Sequence[str] = (),
) -> None:
    """Share a snapshot with everybody, or stop sharing it (EC2 ModifySnapshotAttribute; OpenNebula's permission bits).

    Raises `EC2Error` as `requested_sharing` does if the snapshot cannot be shared as requested.
    """
    if attribute != _PERMISSION:
        raise EC2Error("InvalidParameterValue", f"The attribute {attribute} of a snapshot cannot be modified.")
    is_shared = await requested_sharing(call, create_volume_permission, operation_type, group_names, user_ids)
    if is_shared is None:
        raise EC2Error("MissingParameter", "The request must contain the parameter CreateVolumePermission")
    (image,) = await snapshots_by_id(call, [snapshot_id])
    await call.change_all(Right.MANAGE, [image], lambda image: call.session.image_share(image.id, is_shared))


@action()
async def describe_snapshot_attribute(
    call: Call, *, snapshot_id: str, attribute: str
) -> DescribeSnapshotAttributeResult:
    """Show whether a snapshot is shared (EC2 DescribeSnapshotAttribute)."""
    (image,) = await snapshots_by_id(call, [snapshot_id])
    if attribute not in _ATTRIBUTES:
        raise EC2Error("InvalidParameterValue", f"Value ({attribute}) for parameter attribute is invalid.")
    if attribute != _PERMISSION:
        return {"SnapshotId": SNAPSHOT.format(image.id), "ProductCodes": []}
    permissions: list[CreateVolumePermissionTypeDef] = [{"Group": EVERYBODY}] if is_public(image) else []
    return {"SnapshotId": SNAPSHOT.format(image.id), "CreateVolumePermissions": permissions}


async def _copyable_volume(call: Call, volume_id: str) -> Volume:
    """Return a volume once it can be copied; raises `EC2Error` IncorrectState if it cannot.

    If its image names a machine that does not have the disk, the volume was read while it was being attached or
    detached: it is read again.
    """

    async def read() -> Volume:
        (volume,) = await volumes_by_id(call, [volume_id])
        return volume

    def is_consistent(volume: Volume) -> bool:
        return volume.attachment is not None or not volume.image.vm_ids

    volume = await wait_until(call, is_consistent, read, timeout=SETTLE_TIMEOUT)
    if volume.attachment is not None:
        machine = await settled_machine(call, volume.attachment.machine.id)
        (volume,) = await volumes_by_id(call, [volume_id])
        if state_of(machine) not in _STATES_FOR_DISK_SAVE:
            raise _CannotCopyNow(volume)
    elif volume.image.state not in _COPYABLE or volume_state(volume) not in ("available", "in-use"):
        raise _CannotCopyNow(volume)
    return volume


async def _copy(call: Call, volume: Volume) -> int:
    """Have oned copy a volume under the name of a snapshot, and return the id of the image without waiting."""
    image_ids: list[int] = []

    async def copy(_: OwnedView) -> None:
        if volume.attachment is not None:
            image_ids.append(await _within_quota(_save_disk(call, volume, volume.attachment)))
        else:
            image_ids.append(await _within_quota(_clone(call, volume, volume.image)))

    source: OwnedView = volume.attachment.machine if volume.attachment is not None else volume.image
    right = Right.MANAGE if volume.attachment is not None else Right.USE
    await call.change_all(right, [source], copy)
    return image_ids[0]


async def _clone(call: Call, volume: Volume, image: Image) -> int:
    try:
        return await call.session.image_clone(image.id, snapshot_name())
    except OpenNebulaRefusal as refusal:
        if refusal.code in (OpenNebulaCode.ACTION, OpenNebulaCode.ALLOCATE):  # a machine uses it now
            raise _CannotCopyNow(volume) from refusal
        raise


async def _save_disk(call: Call, volume: Volume, attachment: Attachment) -> int:
    try:
        return await call.session.disk_save_as(
            attachment.machine.id, attachment.disk.disk_id, snapshot_name(), "DATABLOCK"
        )
    except OpenNebulaRefusal as refusal:
        # The machine is in the wrong state or saving another disk, or the disk has no image.
        if refusal.code in (OpenNebulaCode.ACTION, OpenNebulaCode.INTERNAL):
            raise _CannotCopyNow(volume) from refusal
        raise


async def _finish(
    call: Call, image_id: int, facts: Mapping[str, str], description: str, tags: Mapping[str, str]
) -> None:
    await call.session.image_update(
        image_id, finishing_text(await call.session.image(image_id), facts, description, tags)
    )


async def _within_quota(copying: Any) -> int:
    try:
        return int(await copying)
    except OpenNebulaRefusal as refusal:
        if refusal.is_quota:
            raise EC2Error("SnapshotLimitExceeded", "Your quota does not allow another snapshot.") from refusal
        raise


def _is_restorable(call: Call, image: Image, users: Container[str]) -> bool:
    """Whether RestorableByUserIds selects a snapshot for one of `users`."""
    if EVERYBODY in users and is_public(image):
        return True
    return account_id(image.uid) in users or call.owner_id in users


def _in_use(snapshot_id: str, usage: str) -> EC2Error:
    return EC2Error("InvalidSnapshot.InUse", f"The snapshot {snapshot_id} is currently {usage}")
