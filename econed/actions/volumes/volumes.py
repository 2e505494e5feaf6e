"""Volumes: persistent images of OpenNebula (EC2 API Reference, CreateVolume, DescribeVolumes, DeleteVolume, …)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict, TypeVar

from econed.actions.action import Parts, action
from econed.actions.client_tokens import ClientToken
from econed.actions.disk_images.deleting import delete_image
from econed.actions.disk_images.finding import images_by_id, matching_images
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
from econed.actions.machines.finding import is_instance, listed_machine_ids, machine_sets
from econed.actions.paging import Listing, Paging
from econed.actions.regions.zones import availability_zones
from econed.actions.tagging import specified_tags
from econed.actions.volumes.creating import (
    VolumePlan,
    check_completed,
    checked_size,
    checked_type,
    make_volume,
    make_volume_once,
)
from econed.actions.volumes.finding import ImageVolume, Volume, find_volumes, own_disks, volumes_by_id, with_attachments
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
    from econed.actions.listing import Read, Sets
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
    """Make a volume, empty or from a snapshot (EC2 CreateVolume; OpenNebula a persistent DATABLOCK).

    The VolumeType is noted and told again; what it promises, OpenNebula does not. With a ClientToken the same call
    again gives the same volume, as long as there is that volume.
    """
    zone = await _zone(call, availability_zone, availability_zone_id)
    snapshot = (await snapshots_by_id(call, [snapshot_id]))[0] if snapshot_id is not None else None
    if snapshot is not None:
        check_completed(snapshot)
    facts = {AVAILABILITY_ZONE: str(zone)}
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
    await watch_caller(call)
    number = await (make_volume(call, plan) if token is None else make_volume_once(call, plan, token))
    (made,) = await volumes_by_id(call, [VOLUME.format(number)])
    return {"Tags": [], **volume_view(made, await Zones.of(call, [made]))}


@action(ignores=("IncludeManagedResources",))
async def describe_volumes(
    call: Call,
    *,
    volume_ids: Sequence[str] = (),
    filters: Sequence[Filter] = (),
    max_results: int | None = None,
    next_token: str | None = None,
) -> Parts[DescribeVolumesResult]:
    """List volumes, also the disks that belong to instances alone (EC2 DescribeVolumes)."""
    selection = VOLUME_FILTERS.selection(filters, call.budget)
    paging = Paging.of(_VOLUMES, max_results, next_token, least=1, ids=volume_ids)

    return await _listed("Volumes", call, volume_ids, filters, paging, volume_view, selection)


@action(ignores=("IncludeManagedResources",))
async def describe_volume_status(
    call: Call,
    *,
    volume_ids: Sequence[str] = (),
    filters: Sequence[Filter] = (),
    max_results: int | None = None,
    next_token: str | None = None,
) -> Parts[DescribeVolumeStatusResult]:
    """List the status of volumes (EC2 DescribeVolumeStatus): ok, but where OpenNebula has an image in error."""
    selection = STATUS_FILTERS.selection(filters, call.budget)
    paging = Paging.of(_STATUS, max_results, next_token, least=1, ids=volume_ids)

    return await _listed("VolumeStatuses", call, volume_ids, (), paging, status_view, selection)


@action(ignores=("IncludeManagedResources",))
async def describe_volumes_modifications(
    call: Call,
    *,
    volume_ids: Sequence[str] = (),
    filters: Sequence[Filter] = (),
    max_results: int | None = None,
    next_token: str | None = None,
) -> Parts[DescribeVolumesModificationsResult]:
    """List the last modification of each volume that was ever modified (EC2 DescribeVolumesModifications)."""
    selection = MODIFICATION_FILTERS.selection(filters, call.budget)
    paging = Paging.of(_MODIFICATIONS, max_results, next_token, least=1, ids=volume_ids)

    def view(volume: Volume, _: Zones) -> VolumeModificationTypeDef | None:
        return modification_view(volume)

    return await _listed("VolumesModifications", call, volume_ids, (), paging, view, selection)


@action()
async def describe_volume_attribute(call: Call, *, volume_id: str, attribute: str) -> DescribeVolumeAttributeResult:
    """Show an attribute of a volume (EC2 DescribeVolumeAttribute): input and output are never held back here."""
    (found,) = await volumes_by_id(call, [volume_id])
    if attribute not in _ATTRIBUTES:
        raise EC2Error("InvalidParameterValue", f"Value ({attribute}) for parameter attribute is invalid.")
    if attribute == "productCodes":
        return {"VolumeId": found.id, "ProductCodes": []}
    return {"VolumeId": found.id, "AutoEnableIO": {"Value": False}}


@action()
async def delete_volume(call: Call, *, volume_id: str) -> None:
    """Delete a volume that is not attached (EC2 DeleteVolume); one that is being deleted already is as good as that.

    One of which a snapshot is being made is deleted when oned has made it. Raises `EC2Error` VolumeInUse, or
    IncorrectState for one that is not made yet.
    """
    (found,) = await volumes_by_id(call, [volume_id])
    if not isinstance(found, ImageVolume) or found.attachment is not None or found.image.vm_ids or found.pending:
        raise _in_use(found)
    if volume_state(found) == "deleting":
        return
    image = found.image
    if image.state not in _DELETABLE and not is_being_copied(image):
        raise EC2Error(
            "IncorrectState", f"The volume '{found.id}' is '{volume_state(found)}' and cannot be deleted now."
        )
    await call.change_all(Right.MANAGE, [image], lambda each: _delete(call, found, each))


async def _delete(call: Call, found: Volume, image: Image) -> None:
    if not await delete_image(call, image):  # a machine took hold of it meanwhile
        raise _in_use(found)


def _in_use(volume: Volume) -> EC2Error:
    where = "".join(f" to {each['InstanceId']}" for each in attachments_view(volume))
    return EC2Error("VolumeInUse", f"Volume {volume.id} is currently attached{where}")


async def _listed(
    member: str,
    call: Call,
    volume_ids: Sequence[str],
    filters: Sequence[Filter],
    paging: Paging,
    view: Callable[[Volume, Zones], _T | None],
    selection: Selection,
) -> Parts[Any]:
    """Return the views of the volumes that match as a list, `member`; one of which there is no view is not shown."""
    where = _Where(call)

    async def shown(volume: Volume) -> _T | None:
        item = view(volume, await where.zones(volume))
        return item if await selection.matches(item) else None

    page = Page[Volume](lambda volume: volume.position, paging)
    return in_parts(member, _sets(call, volume_ids, filters, paging), shown, page)


class _Where:
    """The zones of volumes, read when a volume is shown for which they are needed."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._zones: Zones | None = None

    async def zones(self, volume: Volume) -> Zones:
        """Return the zones, as far as they say where this volume is."""
        if self._zones is None or not self._zones.suffice_for(volume):
            self._zones = await Zones.of(self._call, [volume])
        return self._zones


async def _sets(call: Call, volume_ids: Sequence[str], filters: Sequence[Filter], paging: Paging) -> Sets[Volume]:
    """Yield what reads the volumes that the ids, or else the filters, leave, in the order of their `position`.

    Machines are read only as far as their disks can be among them: for a filter that names instances those, for the
    volumes that are images the ones that use them.
    """
    if volume_ids:
        yield partial(volumes_by_id, call, volume_ids)
        return
    named = VOLUME_FILTERS.values_of("volume-id", filters)
    if named is not None:
        yield partial(_found, call, _ids(named))
        return
    instances = VOLUME_FILTERS.values_of("attachment.instance-id", filters)
    if instances is not None:
        yield partial(_attached, call, [INSTANCE.parse(each) for each in instances if INSTANCE.is_id(each)])
        return
    async with aclosing(matching_images(call, lambda each: is_volume(each) and _is_behind(paging, each))) as sets:
        async for read in sets:
            yield partial(_with_attachments, call, read)
    if _can_be_own_disks(filters):
        first = paging.after[1] if paging.after is not None and paging.after[0] == 1 else 0
        ids = [each for each in await listed_machine_ids(call, ended=False) if each >= int(first)]
        async with aclosing(machine_sets(call, ids)) as machines:
            async for read_machines in machines:
                yield partial(_own_disks, read_machines)


async def _found(call: Call, volume_ids: Sequence[str]) -> list[Volume]:
    return list((await find_volumes(call, volume_ids)).values())


async def _attached(call: Call, machine_ids: Sequence[int]) -> list[Volume]:
    """Return the volumes of machines: images that are attached to them, and the disks that are theirs alone."""
    machines = [machine for machine in await call.session.vms(sorted(machine_ids)) if is_instance(call, machine)]
    numbers = {disk.image_id for machine in machines for disk in machine.disks if disk.is_persistent}
    found = await images_by_id(call, sorted(each for each in numbers if each is not None))
    attached = await with_attachments(call, [image for image in found if is_volume(image)])
    return [*attached, *(volume for machine in machines for volume in own_disks(machine))]


async def _with_attachments(call: Call, read: Read[Image]) -> list[Volume]:
    return [*await with_attachments(call, list(await read()))]


async def _own_disks(read: Read[VirtualMachine]) -> list[Volume]:
    return [volume for machine in await read() for volume in own_disks(machine)]


def _can_be_own_disks(filters: Sequence[Filter]) -> bool:
    """Whether the filters can let a disk through that belongs to a machine alone: in use, of no snapshot."""
    if VOLUME_FILTERS.values_of("snapshot-id", filters) is not None:
        return False
    states = VOLUME_FILTERS.values_of("status", filters)
    return states is None or "in-use" in states


def _is_behind(paging: Paging, image: Image) -> bool:
    return paging.after is None or (0, image.id, 0) > paging.after


def _ids(texts: Iterable[str]) -> list[str]:
    """Return those texts that are ids of volumes: a filter may name anything."""
    return [text for text in sorted(texts) if is_volume_id(text)]


def is_volume_id(text: str) -> bool:
    """Whether a text is an id of a volume, of either kind."""
    return VOLUME.is_id(text) or machine_and_part(VOLUME.prefix, text) is not None


async def _zone(call: Call, name: str, zone_id: str) -> int:
    """Return the cluster that is the zone a volume is asked for in; raises `EC2Error` InvalidZone.NotFound."""
    if not name and not zone_id:
        raise EC2Error("MissingParameter", "The request must contain the parameter AvailabilityZone")
    for number, zone_name in (await availability_zones(call)).items():
        if name in ("", zone_name) and zone_id in ("", f"cluster-{number}"):
            return number
    raise EC2Error("InvalidZone.NotFound", f"The zone '{name or zone_id}' does not exist.")
