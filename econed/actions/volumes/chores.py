"""What is left to do for volumes and snapshots when their requests are over (a chore)."""

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
"""Seconds after which a copy that has no marks yet was left by a process that died."""

ORPHAN_AGE = 1800
"""Seconds after which a volume that RunInstances made, and no machine has, was left by a process that died."""

PENDING_AGE = 3600
"""Seconds after which a volume is not attached any more that a machine could not take since."""

_PLUGGABLE = frozenset({InstanceState.RUNNING, InstanceState.STOPPED})
_NOT_IN_STATE = frozenset({OpenNebulaCode.ACTION, OpenNebulaCode.INTERNAL, OpenNebulaCode.NO_EXISTS})
_REMOVABLE = frozenset({ImageState.READY, ImageState.ERROR})


async def reconcile_volumes(run: ChoreRun) -> None:
    """Mark copies that were left unmarked, make volumes persistent that are not, attach and delete what was to be.

    Volumes go that RunInstances made for a machine that never came to be, and those of machines that have ended,
    however they did, if these were to take them along. What oned was copying when it was to be attached or deleted is
    so when oned lets it.
    """
    mine = [image for image in await run.session.images(OwnerFilter.MINE) if image.state is not ImageState.DELETE]
    wanted = {whole_number(image.template.text(DELETE_WITH)) for image in mine}
    launched = [image for image in mine if epoch_seconds(image.template.text(LAUNCHED_AT)) is not None]
    wanted |= {machine_id for image in launched for machine_id in image.vm_ids}
    wanted |= {pending.machine_id for image in mine if (pending := PendingAttachment.from_image(image)) is not None}
    machines = {each.id: each for each in await run.session.vms(sorted(each for each in wanted if each is not None))}
    for image in mine:
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
            await _look_after_launched(run, image, machines)
        elif (machine := whole_number(image.template.text(DELETE_WITH))) is not None:
            await _delete_with(run, image, machines.get(machine))


async def assign_volumes(session: Session, machine: VirtualMachine) -> None:
    """Note on the volumes that were made for a machine that they are its own, before it is released.

    From then on they go with it, or stay as they were asked to: they are no left-overs any more.
    """
    for disk in machine.disks:
        if disk.is_persistent and disk.image_id is not None and disk.text(DELETE_ON_TERMINATION):
            await session.image_update(disk.image_id, _given(machine, disk))


async def _finish(run: ChoreRun, image: Image) -> None:
    if image.regtime > run.now - COPY_AGE:
        run.keep_watching()
        return
    run.log.info("image {id} is a copy that was never marked as what it is", id=image.id)
    await run.session.image_update(image.id, finishing_text(image, {}))
    run.keep_watching()


async def _make_persistent(run: ChoreRun, image: Image) -> None:
    """Make a copy of a snapshot that was not persistent a volume in full; oned does it once the copy is there."""
    run.keep_watching()
    if image.state is ImageState.READY:
        await _if_it_may(run.session.image_persistent(image.id, True))


async def _delete_marked(run: ChoreRun, image: Image) -> None:
    if image.vm_ids:  # it was attached after all, by a call that had looked at it before
        await run.session.image_update(image.id, removal(TO_DELETE))
        return
    run.keep_watching()
    if image.state in _REMOVABLE:
        run.log.info("deleting image {id}, which was being copied when it was to be deleted", id=image.id)
        await _if_it_may(run.session.image_delete(image.id))


async def _attach_pending(
    run: ChoreRun, image: Image, pending: PendingAttachment, machine: VirtualMachine | None
) -> None:
    """Attach a volume to a machine; what oned does not do while the machine lasts is given up after a while."""
    if not image.vm_ids and is_being_copied(image):
        run.keep_watching()
        return
    if not image.vm_ids and machine is not None and machine.state is not VmState.DONE:
        if state_of(machine) in _PLUGGABLE and image.state is ImageState.READY:
            run.log.info(
                "attaching volume {id} to machine {vm}: it is not being copied any more", id=image.id, vm=machine.id
            )
            await _if_it_may(_attach(run, image, pending, machine))
            image = await run.session.image(image.id)
        if not image.vm_ids and pending.time > run.now - PENDING_AGE:
            run.keep_watching()
            return
    await run.session.image_update(image.id, removal(TO_ATTACH))


async def _attach(run: ChoreRun, image: Image, pending: PendingAttachment, machine: VirtualMachine) -> None:
    await run.session.disk_attach(machine.id, disk_text(machine, image.id, pending.device, run.now))
    await preserve_times(run.session, machine)


async def _look_after_launched(run: ChoreRun, image: Image, machines: dict[int, VirtualMachine]) -> None:
    run.keep_watching()
    users = [machines[each] for each in image.vm_ids if each in machines]
    made = epoch_seconds(image.template.text(LAUNCHED_AT)) or 0
    if users:
        disk = _disk(users[0], image)
        if disk is not None and users[0].state not in (VmState.HOLD, VmState.CLONING):
            await run.session.image_update(image.id, _given(users[0], disk))
    elif not image.vm_ids and image.state in _REMOVABLE and made < run.now - ORPHAN_AGE:
        run.log.info("deleting volume {id}, made for a machine that never came to be", id=image.id)
        await _if_it_may(run.session.image_delete(image.id))


async def _delete_with(run: ChoreRun, image: Image, machine: VirtualMachine | None) -> None:
    if machine is not None and machine.state is not VmState.DONE:
        run.keep_watching()
        return
    disk = _disk(machine, image) if machine is not None else None
    if disk is None or disk.text(DELETE_ON_TERMINATION) != "YES":  # it was detached before
        await run.session.image_update(image.id, removal(DELETE_WITH))
        return
    run.keep_watching()
    if not image.vm_ids and image.state in _REMOVABLE:
        run.log.info("deleting volume {id}, which goes with its machine {vm}", id=image.id, vm=machine and machine.id)
        await _if_it_may(run.session.image_delete(image.id))


def _given(machine: VirtualMachine, disk: Disk) -> str:
    goes = disk.text(DELETE_ON_TERMINATION) == "YES"
    return template(removal(LAUNCHED_AT), attribute(DELETE_WITH, str(machine.id)) if goes else removal(DELETE_WITH))


def _disk(machine: VirtualMachine, image: Image) -> Disk | None:
    return next((disk for disk in machine.disks if disk.is_persistent and disk.image_id == image.id), None)


async def _if_it_may(change: Coroutine[object, object, None]) -> None:
    """Make a change that the state of the image may not allow yet, or that another process has made."""
    try:
        await change
    except OpenNebulaRefusal as refusal:
        if refusal.code not in _NOT_IN_STATE:
            raise
