"""Noting when machines were powered off or suspended, for an oned that does not record these times (before 6.0).

Whatever caused the stop: EC2, Sunstone or the guest. Tools that look for instances stopped long ago need the time. The
noted time is at most one round of the reconciler later than the stop, never earlier.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from twisted.logger import Logger

from econed.actions.machines.times import stop_note
from econed.errors import InvalidReply, OpenNebulaRefusal
from econed.opennebula.pools import OwnerFilter
from econed.opennebula.session import Session
from econed.opennebula.states import VmState
from econed.opennebula.values import whole_number

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from econed.interfaces import IOpenNebula
    from econed.opennebula.documents import OnRead

_STATES_WITHOUT_TIME: Final = (VmState.POWEROFF, VmState.SUSPENDED)
_RECORDED_SINCE: Final = 6
"""The first major version of OpenNebula that records these times."""


class StopTimeRecorder:
    """Notes when machines were stopped, for all users, each in the session of its owner."""

    def __init__(self, oned: IOpenNebula, clock: IReactorTime, on_read: OnRead | None = None, *, log: Logger) -> None:
        self._oned = oned
        self._clock = clock
        self._on_read = on_read
        self._log = log
        self._is_needed: bool | None = None
        self._examined: Mapping[int, int] = {}
        """The last records of the machines examined so far, by machine id: they need not be read again."""

    async def round(self, user_names: Mapping[int, str]) -> None:
        """Examine all machines that are off; `user_names` are the names of all users by id.

        Raises `OpenNebulaError`; if oned refuses one note, that is logged, and the other machines are still examined.
        """
        session = Session(self._oned, None, self._on_read)
        if self._is_needed is None:
            major = whole_number((await session.version()).partition(".")[0])
            if major is None:
                raise InvalidReply("one.system.version", "no version")
            self._is_needed = major < _RECORDED_SINCE
        if not self._is_needed:
            return
        last_records: dict[int, int] = {}
        for state in _STATES_WITHOUT_TIME:
            for machine in await session.vms_in_short_form(OwnerFilter.VISIBLE, state):
                if machine.last_record is not None:
                    last_records[machine.id] = machine.last_record.sequence
        unexamined = [
            machine_id for machine_id, record in last_records.items() if self._examined.get(machine_id) != record
        ]
        unread = set(unexamined)
        async with aclosing(session.vm_sets(unexamined)) as sets:
            async for machines in sets:
                for machine in machines:
                    unread.discard(machine.id)
                    is_off = machine.state in _STATES_WITHOUT_TIME
                    note = stop_note(machine, int(self._clock.seconds())) if is_off else ""
                    if note and machine.uid in user_names:
                        await self._write(machine.id, user_names[machine.uid], note)
        self._examined = {machine_id: record for machine_id, record in last_records.items() if machine_id not in unread}

    async def _write(self, machine_id: int, owner_name: str, note: str) -> None:
        try:
            await Session(self._oned, owner_name, self._on_read).vm_update(machine_id, note)
        except OpenNebulaRefusal as refusal:
            self._log.warn("noting when machine {id} was stopped: {refusal}", id=machine_id, refusal=str(refusal))
