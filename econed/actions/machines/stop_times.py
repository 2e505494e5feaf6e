"""Noting when machines were powered off or suspended, on an oned that records no time for that (before 6.0).

However that came about: by EC2, by Sunstone, by the guest. Tools that look for instances which have been stopped for
long need the time; the note is later than the stop by a round of the reconciler at most, never earlier.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from twisted.logger import Logger

from econed.actions.machines.times import noted_stop
from econed.errors import InvalidReply, OpenNebulaRefusal
from econed.opennebula.pools import OwnerFilter
from econed.opennebula.session import Session
from econed.opennebula.states import VmState
from econed.opennebula.values import whole_number

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from econed.interfaces import IOpenNebula
    from econed.opennebula.documents import OnRead

_UNTIMED: Final = (VmState.POWEROFF, VmState.SUSPENDED)
_RECORDED_SINCE: Final = 6
"""The first version of OpenNebula that records these times by itself."""


class StopTimes:
    """Notes the stops of all users' machines, each in its owner's session."""

    def __init__(
        self, one: IOpenNebula, clock: IReactorTime, on_read: OnRead | None = None, log: Logger | None = None
    ) -> None:
        self._one = one
        self._clock = clock
        self._on_read = on_read
        self._log = log or Logger(namespace="econed.reconciler")
        self._is_needed: bool | None = None
        self._seen: Mapping[int, int] = {}
        """The records of the machines that have been looked at, by their ids: they need not be read again."""

    async def round(self, names: Mapping[int, str]) -> None:
        """Look once at all machines that are off; `names` are those of all users by their ids.

        Raises `OpenNebulaError`; a stop that oned does not let be noted is logged, and does not keep the others.
        """
        session = Session(self._one, None, self._on_read)
        if self._is_needed is None:
            major = whole_number((await session.version()).partition(".")[0])
            if major is None:
                raise InvalidReply("one.system.version", "no version")
            self._is_needed = major < _RECORDED_SINCE
        if not self._is_needed:
            return
        off = {}
        for state in _UNTIMED:
            for machine in await session.vms_in_short_form(OwnerFilter.VISIBLE, state):
                if machine.last_record is not None:
                    off[machine.id] = machine.last_record.sequence
        unseen = [number for number, record in off.items() if self._seen.get(number) != record]
        left_out = set(unseen)
        async with aclosing(session.vm_sets(unseen)) as sets:
            async for machines in sets:
                for machine in machines:
                    left_out.discard(machine.id)
                    text = noted_stop(machine, int(self._clock.seconds())) if machine.state in _UNTIMED else ""
                    if text and machine.uid in names:
                        await self._write(machine.id, names[machine.uid], text)
        self._seen = {number: record for number, record in off.items() if number not in left_out}

    async def _write(self, number: int, owner: str, text: str) -> None:
        try:
            await Session(self._one, owner, self._on_read).vm_update(number, text)
        except OpenNebulaRefusal as refusal:
            self._log.warn("the stop of machine {id} is not noted: {refusal}", id=number, refusal=str(refusal))
