"""When an instance was last launched and when it was stopped: from oned's history records, supplemented by notes.

oned begins a new record (HISTORY) at each start, but also when a disk or an interface is attached or detached and when
a machine migrates; pool replies contain the last record only. Therefore every action of econed that causes a record
without a start notes the times of the record before it. oned before 6.0 records no time when a machine is powered off
or suspended: the reconciler notes when it first found the machine in that state. A note names a record and is valid for
the records up to that one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from econed.opennebula.states import VmState
from econed.opennebula.template import template, vector
from econed.opennebula.values import epoch_seconds, whole_number

if TYPE_CHECKING:
    from econed.opennebula.documents import VirtualMachine
    from econed.opennebula.session import Session

LAUNCHED = "EC2_LAUNCHED"
"""On a machine, as is the next: [RECORD, TIME], when it was last launched, in seconds since the epoch."""

STOPPED = "EC2_STOPPED"
"""When it was powered off or suspended."""


def launch_time(machine: VirtualMachine) -> int:
    """Return when a machine was last launched: when it was created, or last started after a stop."""
    record = machine.last_record
    if record is None or record.sequence == 0:
        return machine.stime
    noted_time = _noted_time(machine, LAUNCHED, record.sequence)
    if noted_time is not None:
        return noted_time
    if not record.pstime and record.rstime > record.stime:  # a live migration: the guest continued to run
        return _noted_time(machine, LAUNCHED) or machine.stime
    return record.rstime or record.stime


def stop_time(machine: VirtualMachine) -> int | None:
    """Return when a stopped machine was stopped; None if that is not known (yet)."""
    record = machine.last_record
    if record is None:
        return None
    return _noted_time(machine, STOPPED, record.sequence) or record.retime or record.etime or None


def termination_time(machine: VirtualMachine) -> int | None:
    """Return when a machine ended or, before that, when its termination began; None if oned has recorded neither."""
    if machine.state is VmState.DONE:
        return machine.etime or None
    return (machine.last_record.estime or None) if machine.last_record is not None else None


async def preserve_times(session: Session, before: VirtualMachine) -> None:
    """Note the times of a machine for which oned has just begun a record without a start.

    `before` is the machine as read before that record.
    """
    record = before.last_record
    if record is None:
        return
    next_sequence = record.sequence + 1
    notes = [_note(LAUNCHED, next_sequence, launch_time(before))]
    stopped_at = stop_time(before)
    if stopped_at is not None and before.state is not VmState.ACTIVE:
        notes.append(_note(STOPPED, next_sequence, stopped_at))
    await session.vm_update(before.id, template(*notes))


async def preserve_launch_time(session: Session, before: VirtualMachine) -> None:
    """Note the launch time of a machine that is to be started again after a stop that its user did not request.

    Such a stop is needed to save an image of its disk; to EC2 it is a reboot (EC2 API Reference, CreateImage).
    """
    if before.last_record is not None:
        await session.vm_update(before.id, _note(LAUNCHED, before.last_record.sequence + 1, launch_time(before)))


def stop_note(machine: VirtualMachine, now: int) -> str:
    """Return the template text that notes `now` as a machine's stop time; empty if its stop time is known."""
    record = machine.last_record
    if record is None or stop_time(machine) is not None:
        return ""
    return _note(STOPPED, record.sequence, now)


def _note(name: str, record: int, time: int) -> str:
    return vector(name, {"RECORD": str(record), "TIME": str(time)})


def _noted_time(machine: VirtualMachine, name: str, record: int = 0) -> int | None:
    """Return the time in a note that is valid for a record; None if there is no such note or its time is impossible."""
    note = machine.user_template.vector(name)
    last_valid_record, time = whole_number(note.get("RECORD", "")), epoch_seconds(note.get("TIME", ""))
    if last_valid_record is None or time is None or last_valid_record < record or time < machine.stime:
        return None
    return time
