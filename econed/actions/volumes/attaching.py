"""Attaching, detaching and growing volumes (EC2 API Reference, AttachVolume, DetachVolume, ModifyVolume).

oned plugs disks in and out of machines that run or are powered off, one at a time; a machine that is busy so is waited
for. What the client said of an attachment goes with the disk itself, in the one call that makes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from econed.actions.action import action
from econed.actions.disk_images.volume_facts import (
    AVAILABILITY_ZONE,
    TO_ATTACH,
    PendingAttachment,
    is_being_copied,
    is_writable_by_others,
)
from econed.actions.machines.devices import Device, check_device_is_free, device_of, disk_text
from econed.actions.machines.facts import DEVICE
from econed.actions.machines.finding import find_settled_machines
from econed.actions.machines.state import InstanceState, state_of
from econed.actions.machines.times import preserve_times
from econed.actions.volumes.creating import MAX_SIZE, checked_type
from econed.actions.volumes.finding import (
    SETTLE_TIMEOUT,
    Attachment,
    DiskVolume,
    ImageVolume,
    Volume,
    settled_machine,
    volumes_by_id,
)
from econed.actions.volumes.view import (
    attachment_view,
    attachments_view,
    modification_text,
    modification_view,
    volume_state,
)
from econed.actions.waiting import INTERVAL
from econed.actions.watch import watch_caller
from econed.errors import EC2Error, OpenNebulaCode, OpenNebulaRefusal
from econed.ids import INSTANCE, VOLUME
from econed.opennebula.documents import OwnedView, Right
from econed.opennebula.states import ImageState
from econed.opennebula.template import removal
from econed.opennebula.values import whole_number

if TYPE_CHECKING:
    from types_boto3_ec2.literals import VolumeAttachmentStateType
    from types_boto3_ec2.type_defs import VolumeAttachmentTypeDef, VolumeModificationTypeDef

    from econed.actions.call import Call
    from econed.opennebula.documents import Image, VirtualMachine

_MB_PER_GIB = 1024
_ATTACHABLE = frozenset({ImageState.READY, ImageState.USED, ImageState.CLONE})
_NOT_PENDING = removal(TO_ATTACH)
_PLUGGABLE = frozenset({InstanceState.RUNNING, InstanceState.STOPPED})


class ModifyVolumeResult(TypedDict):
    """EC2 ModifyVolumeResult."""

    VolumeModification: VolumeModificationTypeDef


@action()
async def attach_volume(call: Call, *, volume_id: str, instance_id: str, device: str) -> VolumeAttachmentTypeDef:
    """Attach a volume to an instance (EC2 AttachVolume; OpenNebula attach).

    The same call again, whose answer may have been lost, finds its attachment and gives it. A volume that oned is
    copying, for a snapshot, is attached after that: it is marked, and attached here if that is soon, else by the chore
    (`econed.actions.volumes.chores`).

    Raises `EC2Error` VolumeInUse, IncorrectState, InvalidVolume.ZoneMismatch, and InvalidParameterValue for a device
    that is in use or is none.
    """
    (volume,) = await volumes_by_id(call, [volume_id])
    (machine,) = await find_settled_machines(call, [instance_id], timeout=SETTLE_TIMEOUT)
    if _is_the_same(volume, machine, device):
        return attachments_view(volume)[0]
    image = _demand_available(volume)
    if state_of(machine) not in _PLUGGABLE:
        raise _not_running(machine)
    asked = whole_number(image.template.text(AVAILABILITY_ZONE))
    if asked is not None and machine.cluster_id not in (None, asked):
        raise EC2Error(
            "InvalidVolume.ZoneMismatch",
            f"The volume '{volume.id}' is not in the same availability zone as instance "
            f"'{INSTANCE.format(machine.id)}'",
        )
    check_device_is_free(machine, device)

    async def attach(_: OwnedView) -> None:
        if is_being_copied(image) or not await _attach(call, image, machine, device):
            await _attach_later(call, image, machine, device)

    await call.change_all(Right.MANAGE, [machine], attach)
    (volume,) = await volumes_by_id(call, [volume_id])
    if volume.pending is not None:
        return attachments_view(volume)[0]
    if volume.attachment is None:  # oned let go of it again already: the hypervisor would not take it
        raise EC2Error("IncorrectState", f"The volume '{volume.id}' could not be attached.")
    return _attached_view(volume, "attaching")


# A disk is plugged out by oned, or not: there is no way to force it.
@action(ignores=("Force",))
async def detach_volume(
    call: Call, *, volume_id: str, instance_id: str | None = None, device: str | None = None
) -> VolumeAttachmentTypeDef:
    """Detach a volume from the instance it is attached to (EC2 DetachVolume; OpenNebula detach).

    InstanceId and Device, where given, must name that instance and device. Raises `EC2Error` IncorrectState,
    InvalidAttachment.NotFound, and OperationNotPermitted for what an instance boots from.
    """
    if instance_id is not None:
        INSTANCE.parse(instance_id)
    (volume,) = await volumes_by_id(call, [volume_id])
    if isinstance(volume, ImageVolume) and _is_pending(volume, instance_id, device):
        shown: VolumeAttachmentTypeDef = {**attachments_view(volume)[0], "State": "detaching"}
        await call.change_all(
            Right.MANAGE, [volume.image], lambda each: call.session.image_update(each.id, _NOT_PENDING)
        )
        return shown
    attached = _demand_attached(volume, instance_id, device)
    machine = await settled_machine(call, attached.machine.id)
    if isinstance(volume, DiskVolume) or (attached.is_root and state_of(machine) is not InstanceState.STOPPED):
        raise _not_permitted(volume, attached)
    (volume,) = await volumes_by_id(call, [volume_id])
    attached = _demand_attached(volume, instance_id, device)
    if attached.is_detaching:
        return _attached_view(volume)
    if state_of(machine) not in _PLUGGABLE:
        raise _not_running(machine)

    async def detach(_: OwnedView) -> None:
        try:
            await call.session.disk_detach(attached.machine.id, attached.disk.disk_id)
        except OpenNebulaRefusal as refusal:
            if refusal.code != OpenNebulaCode.ACTION:
                raise
            raise _not_running(attached.machine) from refusal
        await preserve_times(call.session, attached.machine)

    await call.change_all(Right.MANAGE, [attached.machine], detach)
    return _attached_view(volume, "detaching")


@action(as_is={"MultiAttachEnabled": False})
async def modify_volume(
    call: Call, *, volume_id: str, size: int | None = None, volume_type: str = ""
) -> ModifyVolumeResult:
    """Have an attached volume grow, or note another VolumeType (EC2 ModifyVolume; OpenNebula diskresize).

    Raises `EC2Error` UnsupportedOperation for a volume that is to grow while no machine has it: OpenNebula has disks
    grow, not images.
    """
    if size is None and not volume_type:
        raise EC2Error("MissingParameter", "The request must contain the parameter Size or VolumeType")
    (volume,) = await volumes_by_id(call, [volume_id])
    kind = checked_type(volume_type) if volume_type else ""
    wanted = volume.size if size is None else size
    _demand_growth(volume, wanted)
    attached = volume.attachment
    if wanted > volume.size:
        if attached is None:
            raise EC2Error(
                "UnsupportedOperation", f"The volume '{volume.id}' can only grow while it is attached to an instance."
            )
        machine = await settled_machine(call, attached.machine.id)
        if state_of(machine) not in _PLUGGABLE:
            raise _not_running(machine)
    text = modification_text(volume, wanted, kind, call.now)
    if isinstance(volume, ImageVolume):
        await call.change_all(Right.MANAGE, [volume.image], lambda each: call.session.image_update(each.id, text))
    else:
        if kind:
            raise EC2Error("UnsupportedOperation", "The type of a disk that belongs to an instance cannot be changed.")
        await call.change_all(
            Right.MANAGE, [volume.attachment.machine], lambda each: call.session.vm_update(each.id, text)
        )
    if attached is not None and wanted > volume.size:

        async def grow(now: VirtualMachine) -> None:
            await _grow(call, attached, wanted)
            await preserve_times(call.session, now)

        await call.change_all(Right.MANAGE, [machine], grow)
    (changed,) = await volumes_by_id(call, [volume_id])
    shown = modification_view(changed)
    assert shown is not None  # noqa: S101  it has just been noted
    if shown["ModificationState"] != "completed":  # oned has taken it on: a failure would show later
        shown = {**shown, "ModificationState": "modifying"}
    return {"VolumeModification": shown}


async def _grow(call: Call, attached: Attachment, size: int) -> None:
    try:
        await call.session.disk_resize(attached.machine.id, attached.disk.disk_id, size * _MB_PER_GIB)
    except OpenNebulaRefusal as refusal:
        if refusal.code == OpenNebulaCode.ACTION:
            raise _not_running(attached.machine) from refusal
        raise


async def _attach(call: Call, image: Image, machine: VirtualMachine, given: str) -> bool:
    """Attach a volume; False, and nothing is done, if oned copies it, or did a moment ago."""
    try:
        # A copy of a snapshot that was not persistent; oned did not let it be changed until it was there.
        if not image.is_persistent:
            await call.session.image_persistent(image.id, True)
        await call.session.disk_attach(machine.id, disk_text(machine, image.id, given, call.now))
    except OpenNebulaRefusal as refusal:
        if refusal.code not in (OpenNebulaCode.ACTION, OpenNebulaCode.INTERNAL):
            raise
        # Something has changed since it was looked at: the image, the device or the machine.
        (volume,) = await volumes_by_id(call, [VOLUME.format(image.id)])
        if _is_attached(volume, machine, given):
            return True
        if not is_being_copied(_demand_available(volume, is_expected=True)):
            (now,) = await call.session.vms([machine.id]) or (machine,)
            check_device_is_free(now, given)
            if state_of(now) not in _PLUGGABLE:
                raise _not_running(now) from refusal
        return False
    await preserve_times(call.session, machine)
    return True


async def _attach_later(call: Call, image: Image, machine: VirtualMachine, given: str) -> None:
    """Have a volume attached that oned is copying: at the end of that, if it is soon, else by the chore.

    Raises `EC2Error` IncorrectState for another user's, which the chore would not look for in the caller's name, and
    for one that others may mark, whose mark would attach it to any machine of the owner's.
    """
    if image.uid != call.caller.id or is_writable_by_others(image):
        raise EC2Error("IncorrectState", f"{VOLUME.format(image.id)} is not 'available'.")
    await watch_caller(call)
    await call.session.image_update(image.id, PendingAttachment(machine.id, given, call.now).text)
    until = call.clock.seconds() + SETTLE_TIMEOUT
    while True:
        await call.pause(INTERVAL)
        image = await call.session.image(image.id)
        if PendingAttachment.from_image(image) is None:  # carried out, or taken back, by another process
            return
        is_over = call.clock.seconds() >= until
        if is_being_copied(image):
            if is_over:
                return
            continue
        machine = await settled_machine(call, machine.id)
        try:
            if await _attach(call, image, machine, given):
                break
            if is_over:
                raise _not_running(machine)
        except (EC2Error, OpenNebulaRefusal):
            await call.session.image_update(image.id, _NOT_PENDING)
            raise
    await call.session.image_update(image.id, _NOT_PENDING)


def _demand_available(volume: Volume, *, is_expected: bool = False) -> Image:
    if isinstance(volume, DiskVolume) or volume.attachment is not None or volume.image.vm_ids:
        where = f" to {INSTANCE.format(volume.attachment.machine.id)}" if volume.attachment is not None else ""
        raise EC2Error("VolumeInUse", f"{volume.id} is already attached{where or ' to an instance'}")
    if volume.pending is not None and not is_expected:
        raise EC2Error(
            "VolumeInUse", f"{volume.id} is already attached to {INSTANCE.format(volume.pending.machine_id)}"
        )
    if volume.image.state not in _ATTACHABLE or volume_state(volume) not in ("available", "in-use"):
        raise EC2Error("IncorrectState", f"{volume.id} is not 'available'.")
    return volume.image


def _demand_attached(volume: Volume, instance_id: str | None, given: str | None) -> Attachment:
    attached = volume.attachment
    if attached is None and volume.pending is not None:
        raise _no_such_attachment(volume, instance_id or INSTANCE.format(volume.pending.machine_id), given)
    if attached is None:
        raise EC2Error("IncorrectState", f"Volume '{volume.id}' is in the '{volume_state(volume)}' state.")
    is_meant = instance_id is None or INSTANCE.parse(instance_id) == attached.machine.id
    if not is_meant or (given is not None and not _is_at(attached, given)):
        raise _no_such_attachment(volume, instance_id or INSTANCE.format(attached.machine.id), given)
    return attached


def _is_at(attached: Attachment, given: str) -> bool:
    return Device.parse(given) == device_of(attached.disk)


def _is_pending(volume: Volume, instance_id: str | None, given: str | None) -> bool:
    """Whether a volume is about to be attached to an instance, at a device, where these are named."""
    pending = volume.pending
    return (
        pending is not None
        and (instance_id is None or INSTANCE.parse(instance_id) == pending.machine_id)
        and (given is None or Device.find(given) == Device.find(pending.device))
    )


def _is_the_same(volume: Volume, machine: VirtualMachine, given: str) -> bool:
    return _is_pending(volume, INSTANCE.format(machine.id), given) or _is_attached(volume, machine, given)


def _is_attached(volume: Volume, machine: VirtualMachine, given: str) -> bool:
    attached = volume.attachment
    return (
        attached is not None
        and not attached.is_detaching
        and attached.machine.id == machine.id
        and attached.disk.text(DEVICE) != ""
        and device_of(attached.disk) == Device.find(given)
    )


def _demand_growth(volume: Volume, size: int) -> None:
    if size > MAX_SIZE:
        raise EC2Error("InvalidParameterValue", f"Volume of size {size}GiB is invalid, it must be 1 to {MAX_SIZE}GiB.")
    if size < volume.size:
        raise EC2Error(
            "InvalidParameterValue",
            f"New size cannot be smaller than existing size, {volume.id} has {volume.size}GiB.",
        )


def _attached_view(volume: Volume, status: VolumeAttachmentStateType | None = None) -> VolumeAttachmentTypeDef:
    assert volume.attachment is not None  # noqa: S101  callers have looked
    view = attachment_view(volume, volume.attachment)
    return {**view, "State": status} if status else view


def _not_running(machine: VirtualMachine) -> EC2Error:
    return EC2Error(
        "IncorrectState",
        f"Instance '{INSTANCE.format(machine.id)}' is not 'running' or 'stopped', or is busy: try again later.",
    )


def _no_such_attachment(volume: Volume, instance_id: str, device: str | None) -> EC2Error:
    at = "" if device is None else f" as device '{device}'"
    return EC2Error(
        "InvalidAttachment.NotFound", f"The volume '{volume.id}' is not attached to instance '{instance_id}'{at}."
    )


def _not_permitted(volume: Volume, attached: Attachment) -> EC2Error:
    what = "is the root device of" if attached.is_root else "belongs to"
    return EC2Error(
        "OperationNotPermitted",
        f"The volume '{volume.id}' {what} instance '{INSTANCE.format(attached.machine.id)}' and cannot be detached.",
    )
