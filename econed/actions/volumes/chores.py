"""The chore that finishes what requests left to do for volumes and snapshots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from econed.actions.chores import ChoreRun
from econed.actions.disk_images.volume_facts import (
    DELETE_WITH,
    IS_VOLUME,
    LAUNCHED_AT,
    TO_ATTACH,
    TO_DELETE,
    PendingAttachment,
    finishing_text,
    is_being_copied,
    is_marked_deleted,
    is_unfinished,
)
from econed.actions.machines.devices import disk_text
from econed.actions.machines.facts import DELETE_ON_TERMINATION
from econed.actions.machines.state import InstanceState, state_of
from econed.actions.machines.times import preserve_times
from econed.errors import OpenNebulaCode, OpenNebulaRefusal
from econed.opennebula.pools import OwnerFilter
from econed.opennebula.session import Session
from econed.opennebula.states import ImageState, VmState
from econed.opennebula.template import attribute, removal, template
from econed.opennebula.values import epoch_seconds, whole_number

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from econed.opennebula.documents import Disk, Image, VirtualMachine

COPY_AGE = 60
"""Seconds after which an unmarked copy counts as abandoned by a process that died."""

ORPHAN_AGE = 1800
"""Seconds after which a volume that RunInstances created and no machine uses counts as abandoned."""

PENDING_AGE = 3600
"""Seconds after which a deferred attachment is given up because the machine could not take the volume."""

_ATTACHABLE_STATES = frozenset({InstanceState.RUNNING, InstanceState.STOPPED})
_WRONG_STATE_CODES = frozenset({OpenNebulaCode.ACTION, OpenNebulaCode.INTERNAL, OpenNebulaCode.NO_EXISTS})
_DELETABLE = frozenset({ImageState.READY, ImageState.ERROR})


async def reconcile_volumes(run: ChoreRun) -> None:
    """Mark unmarked copies, make volumes persistent, and carry out deferred attachments and deletions.

    Attachments and deletions are deferred while oned copies the image. The chore also deletes volumes that RunInstances
    created for a machine that was never launched, and volumes that are to be deleted with their machine once it has
    ended for any reason.
    """
    images = [image for image in await run.session.images(OwnerFilter.MINE) if image.state is not ImageState.DELETE]
    machine_ids = {whole_number(image.template.text(DELETE_WITH)) for image in images}
    launched = [image for image in images if epoch_seconds(image.template.text(LAUNCHED_AT)) is not None]
    machine_ids |= {machine_id for image in launched for machine_id in image.vm_ids}
    pending_attachments = [PendingAttachment.from_image(image) for image in images]
    machine_ids |= {pending.machine_id for pending in pending_attachments if pending is not None}
    known_ids = sorted(machine_id for machine_id in machine_ids if machine_id is not None)
    machines = {machine.id: machine for machine in await run.session.vms(known_ids)}
    for image in images:
        if is_unfinished(image):
            await _finish(run, image)
            continue
        if is_marked_deleted(image):
            await _delete_marked(run, image)
            continue
        if image.template.text(IS_VOLUME) == "YES" and not image.is_persistent:
            await _make_persistent(run, image)
        elif (pending := PendingAttachment.from_image(image)) is not None:
            await _attach_pending(run, image, pending, machines.get(pending.machine_id))
        elif TO_ATTACH in image.template:
            await run.session.image_update(image.id, removal(TO_ATTACH))
        if epoch_seconds(image.template.text(LAUNCHED_AT)) is not None:
            await _reconcile_launched(run, image, machines)
        elif (machine_id := whole_number(image.template.text(DELETE_WITH))) is not None:
            await _delete_with_machine(run, image, machines.get(machine_id))


async def assign_volumes(session: Session, machine: VirtualMachine) -> None:
    """Record on the volumes created for a machine that they belong to it, before it is released from HOLD.

    From then on they are not deleted as orphans, but with the machine if that was requested.
    """
    for disk in machine.disks:
        if disk.is_persistent and disk.image_id is not None and disk.text(DELETE_ON_TERMINATION):
            await session.image_update(disk.image_id, _assignment_text(machine, disk))


async def _finish(run: ChoreRun, image: Image) -> None:
    if image.regtime > run.now - COPY_AGE:
        run.keep_watching()
        return
    run.log.info("marking image {id}: it is a copy that was left unmarked", id=image.id)
    await run.session.image_update(image.id, finishing_text(image, {}))
    run.keep_watching()


async def _make_persistent(run: ChoreRun, image: Image) -> None:
    """Make a copy of a non-persistent snapshot persistent, which oned accepts once the copy is finished."""
    run.keep_watching()
    if image.state is ImageState.READY:
        await _change_if_possible(run.session.image_persistent(image.id, True))


async def _delete_marked(run: ChoreRun, image: Image) -> None:
    if image.vm_ids:  # it was attached by a call that had read it before it was marked
        await run.session.image_update(image.id, removal(TO_DELETE))
        return
    run.keep_watching()
    if image.state in _DELETABLE:
        run.log.info("deleting image {id}: deletion was deferred while it was being copied", id=image.id)
        await _change_if_possible(run.session.image_delete(image.id))


async def _attach_pending(
    run: ChoreRun, image: Image, pending: PendingAttachment, machine: VirtualMachine | None
) -> None:
    """Attach a volume to a machine as soon as oned allows it, or give up after `PENDING_AGE` or when it ends."""
    if not image.vm_ids and is_being_copied(image):
        run.keep_watching()
        return
    if not image.vm_ids and machine is not None and machine.state is not VmState.DONE:
        if state_of(machine) in _ATTACHABLE_STATES and image.state is ImageState.READY:
            run.log.info(
                "attaching volume {id} to machine {vm}: it is no longer being copied", id=image.id, vm=machine.id
            )
            await _change_if_possible(_attach(run, image, pending, machine))
            image = await run.session.image(image.id)
        if not image.vm_ids and pending.time > run.now - PENDING_AGE:
            run.keep_watching()
            return
    await run.session.image_update(image.id, removal(TO_ATTACH))


async def _attach(run: ChoreRun, image: Image, pending: PendingAttachment, machine: VirtualMachine) -> None:
    await run.session.disk_attach(machine.id, disk_text(machine, image.id, pending.device, run.now))
    await preserve_times(run.session, machine)


async def _reconcile_launched(run: ChoreRun, image: Image, machines: dict[int, VirtualMachine]) -> None:
    run.keep_watching()
    machine = next((machines[machine_id] for machine_id in image.vm_ids if machine_id in machines), None)
    created_at = epoch_seconds(image.template.text(LAUNCHED_AT)) or 0
    if machine is not None:
        disk = _disk(machine, image)
        if disk is not None and machine.state not in (VmState.HOLD, VmState.CLONING):
            await run.session.image_update(image.id, _assignment_text(machine, disk))
    elif not image.vm_ids and image.state in _DELETABLE and created_at < run.now - ORPHAN_AGE:
        run.log.info("deleting volume {id}: the machine it was created for was never launched", id=image.id)
        await _change_if_possible(run.session.image_delete(image.id))


async def _delete_with_machine(run: ChoreRun, image: Image, machine: VirtualMachine | None) -> None:
    if machine is not None and machine.state is not VmState.DONE:
        run.keep_watching()
        return
    disk = _disk(machine, image) if machine is not None else None
    if disk is None or disk.text(DELETE_ON_TERMINATION) != "YES":  # it was detached before the machine ended
        await run.session.image_update(image.id, removal(DELETE_WITH))
        return
    run.keep_watching()
    if not image.vm_ids and image.state in _DELETABLE:
        run.log.info("deleting volume {id}: its machine {vm} has ended", id=image.id, vm=machine and machine.id)
        await _change_if_possible(run.session.image_delete(image.id))


def _assignment_text(machine: VirtualMachine, disk: Disk) -> str:
    is_deleted_with_machine = disk.text(DELETE_ON_TERMINATION) == "YES"
    delete_with = attribute(DELETE_WITH, str(machine.id)) if is_deleted_with_machine else removal(DELETE_WITH)
    return template(removal(LAUNCHED_AT), delete_with)


def _disk(machine: VirtualMachine, image: Image) -> Disk | None:
    return next((disk for disk in machine.disks if disk.is_persistent and disk.image_id == image.id), None)


async def _change_if_possible(change: Coroutine[object, object, None]) -> None:
    """Make a change; ignore a refusal because of the image's state or because another process has already made it."""
    try:
        await change
    except OpenNebulaRefusal as refusal:
        if refusal.code not in _WRONG_STATE_CODES:
            raise
