"""Attaching, detaching and resizing volumes (EC2 API Reference, AttachVolume, DetachVolume, ModifyVolume).

oned attaches and detaches disks of machines that are running or powered off, one disk at a time; econed waits for a
machine that is busy with another disk. The client's parameters of an attachment are stored on the disk, by the same
call that attaches it.
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
from econed.actions.machines.lookup import find_settled_machines
from econed.actions.machines.rights import check_may_manage
from econed.actions.machines.state import InstanceState, is_busy, state_of
from econed.actions.machines.times import preserve_times
from econed.actions.tasks import TaskGroup
from econed.actions.volumes.creating import MAX_SIZE, checked_type
from econed.actions.volumes.lookup import (
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
_ATTACHABLE_IMAGE_STATES = frozenset({ImageState.READY, ImageState.USED, ImageState.CLONE})
_REMOVE_PENDING = removal(TO_ATTACH)
_ATTACHABLE_INSTANCE_STATES = frozenset({InstanceState.RUNNING, InstanceState.STOPPED})


class ModifyVolumeResult(TypedDict):
    """EC2 ModifyVolumeResult."""

    VolumeModification: VolumeModificationTypeDef


@action()
async def attach_volume(call: Call, *, volume_id: str, instance_id: str, device: str) -> VolumeAttachmentTypeDef:
    """Attach a volume to an instance (EC2 AttachVolume; OpenNebula attach).

    A repeated call, whose response may have been lost, returns the existing attachment. If oned is copying the volume
    for a snapshot, the attachment is deferred: it is recorded on the image and carried out here if the copy finishes
    soon, else by the chore (`econed.actions.volumes.chores`).

    Raises `EC2Error` VolumeInUse, IncorrectState, InvalidVolume.ZoneMismatch, and InvalidParameterValue for a device
    that is invalid or in use.
    """
    async with TaskGroup() as tasks:
        volumes = tasks.start(volumes_by_id(call, [volume_id]))
        machines = tasks.start(find_settled_machines(call, [instance_id], timeout=SETTLE_TIMEOUT))
    (volume,), (machine,) = volumes.result, machines.result
    if _is_attached_or_pending(volume, machine, device):
        return attachments_view(volume)[0]
    image = _checked_image(volume)
    if state_of(machine) not in _ATTACHABLE_INSTANCE_STATES:
        raise _not_running(machine)
    cluster_id = whole_number(image.template.text(AVAILABILITY_ZONE))
    if cluster_id is not None and machine.cluster_id not in (None, cluster_id):
        raise EC2Error(
            "InvalidVolume.ZoneMismatch",
            f"The volume '{volume.id}' is not in the same availability zone as instance "
            f"'{INSTANCE.format(machine.id)}'",
        )
    check_device_is_free(machine, device)

    async def attach(_: OwnedView) -> None:
        if is_being_copied(image) or not await _attach(call, image, machine, device):
            await _defer_attachment(call, image, machine, device)

    await call.change_all(Right.MANAGE, [machine], attach)
    (volume,) = await volumes_by_id(call, [volume_id])
    if volume.pending is not None:
        return attachments_view(volume)[0]
    if volume.attachment is None:  # the hypervisor refused it, and oned has detached it again
        raise EC2Error("IncorrectState", f"The volume '{volume.id}' could not be attached.")
    return _attached_view(volume, "attaching")


# oned cannot be forced to detach a disk.
@action(ignores=("Force",))
async def detach_volume(
    call: Call, *, volume_id: str, instance_id: str | None = None, device: str | None = None
) -> VolumeAttachmentTypeDef:
    """Detach a volume from the instance it is attached to (EC2 DetachVolume; OpenNebula detach).

    InstanceId and Device, if given, must name that instance and device. Raises `EC2Error` IncorrectState,
    InvalidAttachment.NotFound, and OperationNotPermitted for a root device or a non-persistent disk.
    """
    if instance_id is not None:
        INSTANCE.parse(instance_id)
    (volume,) = await volumes_by_id(call, [volume_id])
    if isinstance(volume, ImageVolume) and _is_pending(volume, instance_id, device):
        view: VolumeAttachmentTypeDef = {**attachments_view(volume)[0], "State": "detaching"}
        await call.change_all(
            Right.MANAGE, [volume.image], lambda image: call.session.image_update(image.id, _REMOVE_PENDING)
        )
        return view
    attachment = _checked_attachment(volume, instance_id, device)
    machine = await settled_machine(call, attachment.machine.id)
    if isinstance(volume, DiskVolume) or (attachment.is_root and state_of(machine) is not InstanceState.STOPPED):
        raise _not_permitted(volume, attachment)
    if is_busy(attachment.machine.state, attachment.machine.lcm_state):  # the volume may have been detached meanwhile
        (volume,) = await volumes_by_id(call, [volume_id])
        attachment = _checked_attachment(volume, instance_id, device)
    if attachment.is_detaching:
        return _attached_view(volume)
    if state_of(machine) not in _ATTACHABLE_INSTANCE_STATES:
        raise _not_running(machine)

    async def detach(_: OwnedView) -> None:
        try:
            await call.session.disk_detach(attachment.machine.id, attachment.disk.disk_id)
        except OpenNebulaRefusal as refusal:
            if refusal.code != OpenNebulaCode.ACTION:
                raise
            raise _not_running(attachment.machine) from refusal
        await preserve_times(call.session, attachment.machine)

    await call.change_all(Right.MANAGE, [attachment.machine], detach)
    return _attached_view(volume, "detaching")


@action(as_is={"MultiAttachEnabled": False})
async def modify_volume(
    call: Call, *, volume_id: str, size: int | None = None, volume_type: str = ""
) -> ModifyVolumeResult:
    """Enlarge an attached volume, or store another VolumeType (EC2 ModifyVolume; OpenNebula diskresize).

    Raises `EC2Error` UnsupportedOperation if a volume that is to be enlarged is not attached: OpenNebula only resizes
    disks of machines, not images.
    """
    if size is None and not volume_type:
        raise EC2Error("MissingParameter", "The request must contain the parameter Size or VolumeType")
    (volume,) = await volumes_by_id(call, [volume_id])
    new_type = checked_type(volume_type) if volume_type else ""
    new_size = volume.size if size is None else size
    _check_growth(volume, new_size)
    attachment = volume.attachment
    if new_size > volume.size:
        if attachment is None:
            raise EC2Error(
                "UnsupportedOperation",
                f"The volume '{volume.id}' can only be enlarged while it is attached to an instance.",
            )
        machine = await settled_machine(call, attachment.machine.id)
        if state_of(machine) not in _ATTACHABLE_INSTANCE_STATES:
            raise _not_running(machine)
    text = modification_text(volume, new_size, new_type, call.now)
    if isinstance(volume, ImageVolume):
        await call.change_all(Right.MANAGE, [volume.image], lambda image: call.session.image_update(image.id, text))
    else:
        if new_type:
            raise EC2Error("UnsupportedOperation", "The type of a disk that belongs to an instance cannot be changed.")
        await call.change_all(
            Right.MANAGE, [volume.attachment.machine], lambda machine: call.session.vm_update(machine.id, text)
        )
    if attachment is not None and new_size > volume.size:

        async def grow(machine: VirtualMachine) -> None:
            await _grow(call, attachment, new_size)
            await preserve_times(call.session, machine)

        await call.change_all(Right.MANAGE, [machine], grow)
    (modified_volume,) = await volumes_by_id(call, [volume_id])
    modification = modification_view(modified_volume)
    assert modification is not None  # noqa: S101  it has just been recorded
    if modification["ModificationState"] != "completed":  # oned has accepted it: it cannot have failed yet
        modification = {**modification, "ModificationState": "modifying"}
    return {"VolumeModification": modification}


async def _grow(call: Call, attachment: Attachment, size: int) -> None:
    try:
        await call.session.disk_resize(attachment.machine.id, attachment.disk.disk_id, size * _MB_PER_GIB)
    except OpenNebulaRefusal as refusal:
        if refusal.code == OpenNebulaCode.ACTION:
            raise _not_running(attachment.machine) from refusal
        raise


async def _attach(call: Call, image: Image, machine: VirtualMachine, device: str) -> bool:
    """Attach a volume; return False if nothing was done because oned is, or was until just now, copying it."""
    try:
        # A copy of a non-persistent snapshot could not be made persistent before oned had finished it.
        if not image.is_persistent:
            await call.session.image_persistent(image.id, True)
        await call.session.disk_attach(machine.id, disk_text(machine, image.id, device, call.now))
    except OpenNebulaRefusal as refusal:
        if refusal.code not in (OpenNebulaCode.ACTION, OpenNebulaCode.INTERNAL):
            raise
        # The image, the device or the machine has changed since it was read.
        (volume,) = await volumes_by_id(call, [VOLUME.format(image.id)])
        if _is_attached(volume, machine, device):
            return True
        if not is_being_copied(_checked_image(volume, allows_pending=True)):
            (current,) = await call.session.vms([machine.id]) or (machine,)
            check_device_is_free(current, device)
            if state_of(current) not in _ATTACHABLE_INSTANCE_STATES:
                raise _not_running(current) from refusal
        return False
    await preserve_times(call.session, machine)
    return True


async def _defer_attachment(call: Call, image: Image, machine: VirtualMachine, device: str) -> None:
    """Attach a volume that oned is copying when the copy is finished, or leave it to the chore if that takes long.

    Raises `EC2Error` IncorrectState for a volume of another user, which the caller's chore would not find, and for a
    volume that others may write: they could have it attached to any machine of its owner. Raises `OpenNebulaRefusal`
    if the caller may not manage the machine.
    """
    if image.uid != call.caller.id or is_writable_by_others(image):
        raise EC2Error("IncorrectState", f"{VOLUME.format(image.id)} is not 'available'.")
    await check_may_manage(call.session, machine)
    await watch_caller(call)
    await call.session.image_update(image.id, PendingAttachment(machine.id, device, call.now).text)
    deadline = call.clock.seconds() + SETTLE_TIMEOUT
    while True:
        await call.pause(INTERVAL)
        image = await call.session.image(image.id)
        if PendingAttachment.from_image(image) is None:  # another process has carried it out or cancelled it
            return
        is_overdue = call.clock.seconds() >= deadline
        if is_being_copied(image):
            if is_overdue:
                return
            continue
        machine = await settled_machine(call, machine.id)
        try:
            if await _attach(call, image, machine, device):
                break
            if is_overdue:
                raise _not_running(machine)
        except (EC2Error, OpenNebulaRefusal):
            await call.session.image_update(image.id, _REMOVE_PENDING)
            raise
    await call.session.image_update(image.id, _REMOVE_PENDING)


def _checked_image(volume: Volume, *, allows_pending: bool = False) -> Image:
    if isinstance(volume, DiskVolume) or volume.attachment is not None or volume.image.vm_ids:
        where = f" to {INSTANCE.format(volume.attachment.machine.id)}" if volume.attachment is not None else ""
        raise EC2Error("VolumeInUse", f"{volume.id} is already attached{where or ' to an instance'}")
    if volume.pending is not None and not allows_pending:
        raise EC2Error(
            "VolumeInUse", f"{volume.id} is already attached to {INSTANCE.format(volume.pending.machine_id)}"
        )
    if volume.image.state not in _ATTACHABLE_IMAGE_STATES or volume_state(volume) not in ("available", "in-use"):
        raise EC2Error("IncorrectState", f"{volume.id} is not 'available'.")
    return volume.image


def _checked_attachment(volume: Volume, instance_id: str | None, device: str | None) -> Attachment:
    attachment = volume.attachment
    if attachment is None and volume.pending is not None:
        raise _no_such_attachment(volume, instance_id or INSTANCE.format(volume.pending.machine_id), device)
    if attachment is None:
        raise EC2Error("IncorrectState", f"Volume '{volume.id}' is in the '{volume_state(volume)}' state.")
    matches_instance = instance_id is None or INSTANCE.parse(instance_id) == attachment.machine.id
    if not matches_instance or (device is not None and not _is_at(attachment, device)):
        raise _no_such_attachment(volume, instance_id or INSTANCE.format(attachment.machine.id), device)
    return attachment


def _is_at(attachment: Attachment, device: str) -> bool:
    return Device.parse(device) == device_of(attachment.disk)


def _is_pending(volume: Volume, instance_id: str | None, device: str | None) -> bool:
    """Whether a volume has a deferred attachment, to this instance and device if they are given."""
    pending = volume.pending
    return (
        pending is not None
        and (instance_id is None or INSTANCE.parse(instance_id) == pending.machine_id)
        and (device is None or Device.find(device) == Device.find(pending.device))
    )


def _is_attached_or_pending(volume: Volume, machine: VirtualMachine, device: str) -> bool:
    return _is_pending(volume, INSTANCE.format(machine.id), device) or _is_attached(volume, machine, device)


def _is_attached(volume: Volume, machine: VirtualMachine, device: str) -> bool:
    attachment = volume.attachment
    return (
        attachment is not None
        and not attachment.is_detaching
        and attachment.machine.id == machine.id
        and attachment.disk.text(DEVICE) != ""
        and device_of(attachment.disk) == Device.find(device)
    )


def _check_growth(volume: Volume, size: int) -> None:
    if size > MAX_SIZE:
        raise EC2Error("InvalidParameterValue", f"Volume of size {size}GiB is invalid, it must be 1 to {MAX_SIZE}GiB.")
    if size < volume.size:
        raise EC2Error(
            "InvalidParameterValue",
            f"New size cannot be smaller than existing size, {volume.id} has {volume.size}GiB.",
        )


def _attached_view(volume: Volume, status: VolumeAttachmentStateType | None = None) -> VolumeAttachmentTypeDef:
    assert volume.attachment is not None  # noqa: S101  callers have checked
    view = attachment_view(volume, volume.attachment)
    return {**view, "State": status} if status else view


def _not_running(machine: VirtualMachine) -> EC2Error:
    return EC2Error(
        "IncorrectState",
        f"Instance '{INSTANCE.format(machine.id)}' is not 'running' or 'stopped', or is busy: try again later.",
    )


def _no_such_attachment(volume: Volume, instance_id: str, device: str | None) -> EC2Error:
    at_device = "" if device is None else f" as device '{device}'"
    return EC2Error(
        "InvalidAttachment.NotFound",
        f"The volume '{volume.id}' is not attached to instance '{instance_id}'{at_device}.",
    )


def _not_permitted(volume: Volume, attachment: Attachment) -> EC2Error:
    relation = "is the root device of" if attachment.is_root else "belongs to"
    instance_id = INSTANCE.format(attachment.machine.id)
    return EC2Error(
        "OperationNotPermitted",
        f"The volume '{volume.id}' {relation} instance '{instance_id}' and cannot be detached.",
    )
