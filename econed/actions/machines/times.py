"""When an instance was launched last and when it was stopped: by oned's records, and by notes where these do not tell.

oned begins a new record (HISTORY) at each start, but also when a disk or an interface is attached or detached, and when
a machine migrates; pools give the last record alone. Whatever in econed begins a record that is no start therefore
notes what the record before it said. oned before 6.0 records no time when a machine is powered off or suspended: the
reconciler notes when it first saw that. A note counts for the records up to the one that it names.
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
"""On a machine, as is the next: [RECORD, TIME], when it was launched last, in seconds since the epoch."""

STOPPED = "EC2_STOPPED"
"""When it was powered off or suspended."""


def launched(machine: VirtualMachine) -> int:
    """Return when a machine was last launched: when it was made, or when it was started again after a stop."""
    last = machine.last_record
    if last is None or last.sequence == 0:
        return machine.stime
    noted = _noted(machine, LAUNCHED, last.sequence)
    if noted is not None:
        return noted
    if not last.pstime and last.rstime > last.stime:  # a live migration: the guest went on running
        return _noted(machine, LAUNCHED) or machine.stime
    return last.rstime or last.stime


def stopped(machine: VirtualMachine) -> int | None:
    """Return when a machine that is stopped was stopped; None if that is not known (yet)."""
    last = machine.last_record
    if last is None:
        return None
    return _noted(machine, STOPPED, last.sequence) or last.retime or last.etime or None


def ended(machine: VirtualMachine) -> int | None:
    """Return when a machine ended, or began to end as far as oned's records tell; None if they do not."""
    if machine.state is VmState.DONE:
        return machine.etime or None
    return (machine.last_record.estime or None) if machine.last_record is not None else None


async def keep_times(session: Session, before: VirtualMachine) -> None:
    """Keep the times of a machine for which oned has just begun a record that is no start; `before` is how it was."""
    last = before.last_record
    if last is None:
        return
    following = last.sequence + 1
    notes = [_note(LAUNCHED, following, launched(before))]
    when = stopped(before)
    if when is not None and before.state is not VmState.ACTIVE:
        notes.append(_note(STOPPED, following, when))
    await session.vm_update(before.id, template(*notes))


async def keep_launch(session: Session, before: VirtualMachine) -> None:
    """Keep when a machine was launched, which is about to be started again after a stop that its user did not ask for.

    As for an image of its disk: to EC2 that is a reboot (EC2 API Reference, CreateImage).
    """
    if before.last_record is not None:
        await session.vm_update(before.id, _note(LAUNCHED, before.last_record.sequence + 1, launched(before)))


def noted_stop(machine: VirtualMachine, now: int) -> str:
    """Return the note, as template text, that a machine was seen to be stopped; empty if its stop is known."""
    last = machine.last_record
    if last is None or stopped(machine) is not None:
        return ""
    return _note(STOPPED, last.sequence, now)


def _note(name: str, record: int, time: int) -> str:
    return vector(name, {"RECORD": str(record), "TIME": str(time)})


def _noted(machine: VirtualMachine, name: str, record: int = 0) -> int | None:
    """Return the time of a note that counts for a record; None if there is none, or it can be no such time."""
    note = machine.user_template.vector(name)
    of, time = whole_number(note.get("RECORD", "")), epoch_seconds(note.get("TIME", ""))
    if of is None or time is None or of < record or time < machine.stime:
        return None
    return time
