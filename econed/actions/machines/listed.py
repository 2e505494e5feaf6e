"""Listing all machines of a session: by ranges of ids, with the machines that ended recently.

oned's pages shift when machines are created or end between two calls, ranges of ids do not: each machine is in exactly
one of them. What the process knows (`econed.actions.known_machines`) divides the ids into ranges of about the same
number of machines, and names those that may have ended. Every document is read for the request itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from econed.actions.known_machines import KnownMachines
from econed.actions.machines.lookup import ended_visible_since, is_instance
from econed.actions.pacing import ITEM_COST
from econed.actions.tasks import TaskGroup
from econed.opennebula.documents import VirtualMachine
from econed.opennebula.pools import OwnerFilter, StateFilter
from econed.opennebula.states import VmState

if TYPE_CHECKING:
    from econed.actions.call import Call
    from econed.actions.sets import Sets
    from econed.opennebula.unchanged_machines import Known, MachineParser

RANGE_SIZE: Final = 256
"""How many machines a range has: 512 take no less processor time, and 20 MB more memory (measured)."""

NEWEST_ENDED_COUNT: Final = 200
"""How many of the newest ended machines are checked for machines that never ran on a host."""

_MAX_CLOCK_SKEW: Final = 300
"""Seconds by which oned's clock may be ahead of this one, for machines that end while their list is read."""

_KNOWN_COST: Final = 20
"""Units of work (`econed.actions.pacing`) that a machine costs that is known."""


class _HasId(Protocol):
    @property
    def id(self) -> int: ...


_M = TypeVar("_M", bound=_HasId)
_K = TypeVar("_K", bound="Known")


def listed_machine_sets(
    call: Call, *, ended: bool = True, owner: int = OwnerFilter.VISIBLE, first: int = 0, expected: int | None = None
) -> Sets[VirtualMachine]:
    """Yield readers of all machines that are instances to the caller, with ids from `first` on, lowest first.

    These are all machines that are not DONE and, with `ended`, those that ended recently. `owner` is an `OwnerFilter`
    or a user's id. `expected` is how many machines will be read, if not all. A reader is called before the next is
    requested.
    """
    lists_ended = ended and call.settings.describe_with_terminated_instances
    return _MachineList(call, owner, lists_ended, call.session.vm_range).sets(first, expected)


def listed_or_remembered_sets(
    call: Call,
    parser: MachineParser[_K],
    *,
    ended: bool = True,
    owner: int = OwnerFilter.VISIBLE,
    first: int = 0,
    expected: int | None = None,
) -> Sets[VirtualMachine | _K]:
    """Yield readers as `listed_machine_sets`; of machines that have not changed they return what `parser` knows.

    Only machines that are not DONE and are instances may be known.
    """
    lists_ended = ended and call.settings.describe_with_terminated_instances
    read_alive = partial(call.session.vm_range_known, parser)
    return _MachineList(call, owner, lists_ended, read_alive).sets(first, expected)


@dataclass(frozen=True)
class _MachineList(Generic[_M]):
    """One list of machines while it is read. `read_alive` reads those that are not DONE, as `ReadSession.vm_range`."""

    call: Call
    owner: int
    ended: bool
    read_alive: Callable[[int, int, int, StateFilter], Awaitable[Sequence[_M]]]

    async def sets(self, first: int, expected: int | None) -> Sets[VirtualMachine | _M]:
        """Yield the readers of the ranges of ids. The last one also looks for machines that are newer."""
        known, is_current = await self._known()
        size = RANGE_SIZE if expected is None else min(expected, RANGE_SIZE)
        while first <= known.last_id or not is_current:
            last = known.end_of_range(first, size, ended=self.ended)
            if last < known.last_id or is_current:
                yield partial(self._read_range, known, first, last)
            else:
                is_current = True
                yield partial(self._read_last_range, known, first, last)
            first = max(first, last + 1)
            size = min(2 * size, RANGE_SIZE)

    async def _known(self) -> tuple[KnownMachines, bool]:
        """Return which machines are known, and whether these are all that exist now."""
        call = self.call
        known = call.memory.known_machines.get(call.session_key, self.owner)
        if known is not None and known.is_usable(call.now, self._ended_since):
            return known, False
        known = await self._read_ids()
        call.memory.known_machines.remember(call.session_key, self.owner, known)
        return known, True

    @property
    def _ended_since(self) -> int | None:
        return ended_visible_since(self.call) if self.ended else None

    async def _read_ids(self) -> KnownMachines:
        """Read which machines there are, without any knowledge.

        The cost does not grow with the number of all machines that ever ended: accounting lists machines that were on
        a host recently, at any age; a machine that ended without having been on a host is in no accounting record, but
        among the newest of the ended machines. The highest id is read first and the ended machines last, so that a
        machine that is created or ends meanwhile is not missed.
        """
        session, now, since = self.call.session, self.call.now, self._ended_since
        highest = await session.highest_vm_id(self.owner)
        alive = frozenset(await session.vm_ids(self.owner, StateFilter.NOT_DONE))
        if since is None:
            return KnownMachines(alive, (), highest=highest, looked_at=now, ended_since=now + _MAX_CLOCK_SKEW)
        async with TaskGroup() as reads:
            on_a_host = reads.start(session.vm_ids_since(since, self.owner))
            newest_ended = reads.start(self._newest_ended())
        ended = {*on_a_host.result, *newest_ended.result}.difference(alive)
        return KnownMachines(alive, ended, highest=highest, looked_at=now, ended_since=since)

    async def _newest_ended(self) -> Iterable[int]:
        machines = await self.call.session.newest_vms(NEWEST_ENDED_COUNT, self.owner, VmState.DONE)
        instances = await self.call.budget.filtered(machines, partial(is_instance, self.call))
        return [machine.id for machine in instances]

    async def _read_last_range(self, known: KnownMachines, first: int, last: int) -> list[VirtualMachine | _M]:
        """Read a range, and at the same time which machines were created since the last list."""
        async with TaskGroup() as reads:
            machines = reads.start(self._read_range(known, first, last))
            reads.start(self._add_newer(known))
        return machines.result

    async def _add_newer(self, known: KnownMachines) -> None:
        now = self.call.now
        newer = await self.call.session.vms_in_short_form(self.owner, StateFilter.ANY, known.highest + 1)
        alive = [machine.id for machine in newer if machine.state is not VmState.DONE]
        ended = [machine.id for machine in newer if machine.state is VmState.DONE]
        known.add_newer(alive, ended, looked_at=now)
        self.call.memory.known_machines.remember(self.call.session_key, self.owner, known)

    async def _read_range(self, known: KnownMachines, first: int, last: int) -> list[VirtualMachine | _M]:
        """Return the machines of a range that are instances; of the ended ones, those that can be known to have."""
        if first > last:
            return []
        session = self.call.session
        ended_ids = tuple(known.ended_between(first, last)) if self.ended else ()
        async with TaskGroup() as reads:
            alive = reads.start(self._alive(first, last))
            known_ended = reads.start(session.vms(ended_ids))
        by_id: dict[int, VirtualMachine | _M] = alive.result
        missing = known.replace_alive(first, last, by_id)
        if self.ended:
            ended = (*known_ended.result, *await session.vms(missing))
            self._forget_expired(known, {*ended_ids, *missing}, ended)
            by_id |= {
                machine.id: machine for machine in ended if machine.state is VmState.DONE or machine.id not in by_id
            }
        return [by_id[machine_id] for machine_id in sorted(by_id) if await self._is_listed(by_id[machine_id])]

    async def _alive(self, first: int, last: int) -> dict[int, VirtualMachine | _M]:
        by_id: dict[int, VirtualMachine | _M] = {}
        for machine in await self.read_alive(first, last, self.owner, StateFilter.NOT_DONE):
            await self.call.budget.spend(ITEM_COST if isinstance(machine, VirtualMachine) else _KNOWN_COST)
            by_id[machine.id] = machine
        return by_id

    async def _is_listed(self, machine: VirtualMachine | _M) -> bool:
        if not isinstance(machine, VirtualMachine):
            return True
        await self.call.budget.spend(ITEM_COST)
        return is_instance(self.call, machine)

    def _forget_expired(self, known: KnownMachines, ids: set[int], machines: Iterable[VirtualMachine]) -> None:
        """Forget which of the machines with these ids, now read, no longer have to be known as ended."""
        since = ended_visible_since(self.call)
        recent = {machine.id for machine in machines if machine.state is VmState.DONE and machine.etime > since}
        alive = [machine.id for machine in machines if machine.state is not VmState.DONE]
        known.forget(ids - recent, alive=alive, ended_since=since)
