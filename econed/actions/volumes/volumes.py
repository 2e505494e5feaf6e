"""Volumes: persistent images in OpenNebula (EC2 API Reference, CreateVolume, DescribeVolumes, DeleteVolume, …)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict, TypeVar

from econed.actions.action import Parts, action
from econed.actions.client_tokens import ClientToken
from econed.actions.disk_images.deleting import delete_image
from econed.actions.disk_images.lookup import images_by_id, matching_images
from econed.actions.disk_images.volume_facts import (
    AVAILABILITY_ZONE,
    SOURCE_SNAPSHOT,
    VOLUME_TYPE,
    is_being_copied,
    is_volume,
    volume_name,
)
from econed.actions.filters import Selection
from econed.actions.inputs import Filter, TagSpecification
from econed.actions.listing import Page, in_parts
from econed.actions.machines.listed import listed_machine_sets
from econed.actions.machines.lookup import is_instance
from econed.actions.paging import Listing, Paging
from econed.actions.regions.zones import availability_zones
from econed.actions.tagging import specified_tags
from econed.actions.tasks import TaskGroup
from econed.actions.volumes.creating import (
    VolumePlan,
    check_completed,
    checked_size,
    checked_type,
    make_volume,
    make_volume_once,
)
from econed.actions.volumes.lookup import (
    ImageVolume,
    Volume,
    disk_volumes,
    find_volumes,
    volumes_by_id,
    with_attachments,
)
from econed.actions.volumes.snapshot_view import snapshots_by_id
from econed.actions.volumes.view import (
    MODIFICATION_FILTERS,
    STATUS_FILTERS,
    VOLUME_FILTERS,
    Zones,
    attachments_view,
    modification_view,
    status_view,
    volume_state,
    volume_view,
)
from econed.actions.watch import watch_caller
from econed.errors import EC2Error
from econed.ids import INSTANCE, SNAPSHOT, VOLUME, machine_and_part
from econed.opennebula.documents import Right
from econed.opennebula.states import ImageState

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import (
        AttributeBooleanValueTypeDef,
        ProductCodeTypeDef,
        VolumeModificationTypeDef,
        VolumeStatusItemTypeDef,
        VolumeTypeDef,
    )

    from econed.actions.call import Call
    from econed.actions.sets import Read, Sets
    from econed.opennebula.documents import Image, VirtualMachine


_VOLUMES = Listing("volumes", (int, int, int))
_STATUS = Listing("volume-status", (int, int, int))
_MODIFICATIONS = Listing("volume-modifications", (int, int, int))
_T = TypeVar("_T")

_ATTRIBUTES = ("autoEnableIO", "productCodes")
_DELETABLE = frozenset({ImageState.READY, ImageState.ERROR, ImageState.DISABLED})


class DescribeVolumesResult(TypedDict):
    """EC2 DescribeVolumesResult."""

    Volumes: list[VolumeTypeDef]
    NextToken: NotRequired[str]


class DescribeVolumeStatusResult(TypedDict):
    """EC2 DescribeVolumeStatusResult."""

    VolumeStatuses: list[VolumeStatusItemTypeDef]
    NextToken: NotRequired[str]


class DescribeVolumesModificationsResult(TypedDict):
    """EC2 DescribeVolumesModificationsResult."""

    VolumesModifications: list[VolumeModificationTypeDef]
    NextToken: NotRequired[str]


class DescribeVolumeAttributeResult(TypedDict):
    """EC2 DescribeVolumeAttributeResult."""

    VolumeId: str
    AutoEnableIO: NotRequired[AttributeBooleanValueTypeDef]
    ProductCodes: NotRequired[list[ProductCodeTypeDef]]


@action(as_is={"Encrypted": False, "MultiAttachEnabled": False})
async def create_volume(
    call: Call,
    *,
    availability_zone: str = "",
    availability_zone_id: str = "",
    size: int | None = None,
    snapshot_id: str | None = None,
    volume_type: str = "",
    tag_specifications: Sequence[TagSpecification] = (),
    client_token: str | None = None,
) -> VolumeTypeDef:
    """Create a volume, empty or from a snapshot (EC2 CreateVolume; a persistent DATABLOCK in OpenNebula).

    The VolumeType is only stored and returned: OpenNebula does not implement it. A repeated call with the same
    ClientToken returns the same volume, as long as the volume exists.
    """
    async with TaskGroup() as tasks:
        cluster_id = tasks.start(_cluster_of_zone(call, availability_zone, availability_zone_id))
        snapshots = tasks.start(snapshots_by_id(call, [] if snapshot_id is None else [snapshot_id]))
        user = tasks.start(call.session.current_user())
    snapshot = next(iter(snapshots.result), None)
    if snapshot is not None:
        check_completed(snapshot)
    facts = {AVAILABILITY_ZONE: str(cluster_id.result)}
    if snapshot is not None:
        facts[SOURCE_SNAPSHOT] = SNAPSHOT.format(snapshot.id)
    if volume_type:
        facts[VOLUME_TYPE] = checked_type(volume_type)
    token = ClientToken.of(call, client_token)
    if token is not None:
        facts |= token.facts
    plan = VolumePlan(
        name=volume_name(None if token is None else token.text),
        size=checked_size(size, snapshot),
        snapshot=snapshot,
        facts=facts,
        tags=specified_tags(tag_specifications, "volume")["volume"],
    )
    await watch_caller(call, user.result)
    image_id = await (make_volume(call, plan) if token is None else make_volume_once(call, plan, token))
    (volume,) = await volumes_by_id(call, [VOLUME.format(image_id)])
    return {"Tags": [], **volume_view(volume, await Zones.of(call, [volume]))}


@action(ignores=("IncludeManagedResources",))
async def describe_volumes(
    call: Call,
    *,
    volume_ids: Sequence[str] = (),
    filters: Sequence[Filter] = (),
    max_results: int | None = None,
    next_token: str | None = None,
) -> Parts[DescribeVolumesResult]:
    """List volumes, including the non-persistent disks of instances (EC2 DescribeVolumes)."""
    selection = VOLUME_FILTERS.selection(filters, call.budget)
    paging = Paging.of(_VOLUMES, max_results, next_token, minimum=1, ids=volume_ids)

    return await _list("Volumes", call, volume_ids, filters, paging, _with_zones(call, volume_view), selection)


@action(ignores=("IncludeManagedResources",))
async def describe_volume_status(
    call: Call,
    *,
    volume_ids: Sequence[str] = (),
    filters: Sequence[Filter] = (),
    max_results: int | None = None,
    next_token: str | None = None,
) -> Parts[DescribeVolumeStatusResult]:
    """List the status of volumes (EC2 DescribeVolumeStatus): ok unless the image is being created or in error."""
    selection = STATUS_FILTERS.selection(filters, call.budget)
    paging = Paging.of(_STATUS, max_results, next_token, minimum=1, ids=volume_ids)

    return await _list("VolumeStatuses", call, volume_ids, (), paging, _with_zones(call, status_view), selection)


@action(ignores=("IncludeManagedResources",))
async def describe_volumes_modifications(
    call: Call,
    *,
    volume_ids: Sequence[str] = (),
    filters: Sequence[Filter] = (),
    max_results: int | None = None,
    next_token: str | None = None,
) -> Parts[DescribeVolumesModificationsResult]:
    """List the last modification of each volume that has been modified (EC2 DescribeVolumesModifications)."""
    selection = MODIFICATION_FILTERS.selection(filters, call.budget)
    paging = Paging.of(_MODIFICATIONS, max_results, next_token, minimum=1, ids=volume_ids)

    async def view(volume: Volume) -> VolumeModificationTypeDef | None:
        return modification_view(volume)

    return await _list("VolumesModifications", call, volume_ids, (), paging, view, selection)


@action()
async def describe_volume_attribute(call: Call, *, volume_id: str, attribute: str) -> DescribeVolumeAttributeResult:
    """Show an attribute of a volume (EC2 DescribeVolumeAttribute); autoEnableIO is always false."""
    (volume,) = await volumes_by_id(call, [volume_id])
    if attribute not in _ATTRIBUTES:
        raise EC2Error("InvalidParameterValue", f"Value ({attribute}) for parameter attribute is invalid.")
    if attribute == "productCodes":
        return {"VolumeId": volume.id, "ProductCodes": []}
    return {"VolumeId": volume.id, "AutoEnableIO": {"Value": False}}


@action()
async def delete_volume(call: Call, *, volume_id: str) -> None:
    """Delete a volume that is not attached (EC2 DeleteVolume); nothing changes if it is being deleted already.

    If it is being copied to a snapshot, its image is deleted when oned has finished. Raises `EC2Error` VolumeInUse, or
    IncorrectState for a volume that is still being created.
    """
    (volume,) = await volumes_by_id(call, [volume_id])
    if not isinstance(volume, ImageVolume) or volume.attachment is not None or volume.image.vm_ids or volume.pending:
        raise _in_use(volume)
    if volume_state(volume) == "deleting":
        return
    image = volume.image
    if image.state not in _DELETABLE and not is_being_copied(image):
        raise EC2Error(
            "IncorrectState", f"The volume '{volume.id}' is '{volume_state(volume)}' and cannot be deleted now."
        )
    await call.change_all(Right.MANAGE, [image], lambda image: _delete(call, volume, image))


async def _delete(call: Call, volume: Volume, image: Image) -> None:
    if not await delete_image(call, image):  # a machine uses it now
        raise _in_use(volume)


def _in_use(volume: Volume) -> EC2Error:
    where = "".join(f" to {attachment['InstanceId']}" for attachment in attachments_view(volume))
    return EC2Error("VolumeInUse", f"Volume {volume.id} is currently attached{where}")


async def _list(
    member: str,
    call: Call,
    volume_ids: Sequence[str],
    filters: Sequence[Filter],
    paging: Paging,
    view: Callable[[Volume], Awaitable[_T | None]],
    selection: Selection,
) -> Parts[Any]:
    """Yield the views of the volumes that match as the list `member`, omitting volumes whose view is None."""

    async def matching_view(volume: Volume) -> _T | None:
        item = await view(volume)
        return item if await selection.matches(item) else None

    page = Page[Volume](lambda volume: volume.position, paging)
    return in_parts(member, _volume_sets(call, volume_ids, filters, paging), matching_view, page)


def _with_zones(call: Call, view: Callable[[Volume, Zones], _T]) -> Callable[[Volume], Awaitable[_T]]:
    """Return `view` with the zones, which are read for the first volume that is listed."""
    zones = _ZonesReader(call)

    async def view_with_zones(volume: Volume) -> _T:
        return view(volume, await zones.zones_for(volume))

    return view_with_zones


class _ZonesReader:
    """Reads the zones of volumes when the first volume that needs them is listed."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._zones: Zones | None = None

    async def zones_for(self, volume: Volume) -> Zones:
        """Return the zones, with the datastores if they are needed for this volume."""
        if self._zones is None or not self._zones.suffice_for(volume):
            self._zones = await Zones.of(self._call, [volume])
        return self._zones


async def _volume_sets(
    call: Call, volume_ids: Sequence[str], filters: Sequence[Filter], paging: Paging
) -> Sets[Volume]:
    """Yield functions that read the volumes selected by the ids, or else by the filters, in order of `position`.

    Only machines whose disks may be among them are read: the instances that a filter names, the machines that use the
    images, and those whose non-persistent disks may match.
    """
    if volume_ids:
        yield partial(volumes_by_id, call, volume_ids)
        return
    filter_ids = VOLUME_FILTERS.values_of("volume-id", filters)
    if filter_ids is not None:
        yield partial(_existing_volumes, call, _valid_ids(filter_ids))
        return
    instance_ids = VOLUME_FILTERS.values_of("attachment.instance-id", filters)
    if instance_ids is not None:
        yield partial(_volumes_of, call, [INSTANCE.parse(text) for text in instance_ids if INSTANCE.is_id(text)])
        return
    async with aclosing(matching_images(call, lambda image: is_volume(image) and _is_after(paging, image))) as sets:
        async for read in sets:
            yield partial(_read_with_attachments, call, read)
    if _may_match_disk_volumes(filters):
        first_id = paging.after[1] if paging.after is not None and paging.after[0] == 1 else 0
        async with aclosing(listed_machine_sets(call, ended=False, first=int(first_id))) as machines:
            async for read_machines in machines:
                yield partial(_read_disk_volumes, read_machines)


async def _existing_volumes(call: Call, volume_ids: Sequence[str]) -> list[Volume]:
    return list((await find_volumes(call, volume_ids)).values())


async def _volumes_of(call: Call, machine_ids: Sequence[int]) -> list[Volume]:
    """Return the volumes of machines: the images attached to them, and their non-persistent disks."""
    machines = [machine for machine in await call.session.vms(sorted(machine_ids)) if is_instance(call, machine)]
    image_ids = {disk.image_id for machine in machines for disk in machine.disks if disk.is_persistent}
    images = await images_by_id(call, sorted(image_id for image_id in image_ids if image_id is not None))
    image_volumes = await with_attachments(call, [image for image in images if is_volume(image)])
    return [*image_volumes, *(volume for machine in machines for volume in disk_volumes(machine))]


async def _read_with_attachments(call: Call, read: Read[Image]) -> list[Volume]:
    return [*await with_attachments(call, list(await read()))]


async def _read_disk_volumes(read: Read[VirtualMachine]) -> list[Volume]:
    return [volume for machine in await read() for volume in disk_volumes(machine)]


def _may_match_disk_volumes(filters: Sequence[Filter]) -> bool:
    """Whether the filters may match non-persistent disks: these are in use, and not created from a snapshot."""
    if VOLUME_FILTERS.values_of("snapshot-id", filters) is not None:
        return False
    states = VOLUME_FILTERS.values_of("status", filters)
    return states is None or "in-use" in states


def _is_after(paging: Paging, image: Image) -> bool:
    return paging.after is None or (0, image.id, 0) > paging.after


def _valid_ids(texts: Iterable[str]) -> list[str]:
    """Return the texts that are volume ids: a filter may contain any text."""
    return [text for text in sorted(texts) if is_volume_id(text)]


def is_volume_id(text: str) -> bool:
    """Whether a text is a volume id, of an image or of a non-persistent disk."""
    return VOLUME.is_id(text) or machine_and_part(VOLUME.prefix, text) is not None


async def _cluster_of_zone(call: Call, name: str, zone_id: str) -> int:
    """Return the id of the cluster that is an availability zone; raises `EC2Error` InvalidZone.NotFound."""
    if not name and not zone_id:
        raise EC2Error("MissingParameter", "The request must contain the parameter AvailabilityZone")
    for cluster_id, zone_name in (await availability_zones(call)).items():
        if name in ("", zone_name) and zone_id in ("", f"cluster-{cluster_id}"):
            return cluster_id
    raise EC2Error("InvalidZone.NotFound", f"The zone '{name or zone_id}' does not exist.")
