"""Making the machines of a RunInstances call, once, however often and wherever the call is made.

Every machine is made on HOLD and carries the call's client token, a digest of the call and its number of instances.
Then one's own machines are read, newest first, in all states, back to the tokens' lifetime. The instances of the call
are the lowest ids among those with the token, as many as the call is to have. oned gives ids in order, so once there
are that many no later machine can be among them: all processes see the same. What a process made beyond them it marks
and ends; then the instances are released. A call that comes again finds them and finishes what is missing.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

from econed.actions.call import gather
from econed.actions.chores import change_unless_done
from econed.actions.client_tokens import REQUEST_DIGEST, ClientToken
from econed.actions.findings import Examination, Finding
from econed.actions.instances.block_devices import make_volumes, take_back
from econed.actions.instances.capacity import shortage
from econed.actions.instances.plan import LaunchPlan, machine_name, machine_text
from econed.actions.instances.view import reservation_of
from econed.actions.machines.facts import (
    DISCARDED,
    LAUNCH_COUNT,
    LAUNCH_INDEX,
    RESERVATION,
    TO_RELEASE,
)
from econed.actions.pacing import ITEM
from econed.actions.volumes.chores import assign_volumes
from econed.actions.waiting import wait_until
from econed.errors import EC2Error, NotStorable, OpenNebulaError, OpenNebulaRefusal
from econed.ids import reservation_id
from econed.opennebula.pools import OwnerFilter, StateFilter
from econed.opennebula.session import Session
from econed.opennebula.states import VmState
from econed.opennebula.template import attribute, template
from econed.opennebula.values import whole_number
from econed.slots import CALLS_OF_A_REQUEST, Slots

if TYPE_CHECKING:
    from econed.actions.call import Call
    from econed.actions.chores import ChoreRun
    from econed.opennebula.documents import VirtualMachine

TOKEN_LIFETIME = 24 * 3600
"""Seconds for which a client token is remembered: by the machines that carry it, so nothing piles up."""

HOLD_AGE = 600
"""Seconds after which a machine that was left on HOLD belongs to no request any more, and is ended."""

_PATIENCE = 15
"""Seconds to wait for volumes that are made with their machines."""

_PAGE = 100
_ROUNDS = 4


@dataclass(frozen=True)
class _Made:
    """What came of making machines: the ids of those that exist, in order, and what kept others from it."""

    ids: tuple[int, ...]
    error: OpenNebulaError | EC2Error | None


@dataclass(frozen=True)
class _Known:
    """What is known of a client token: the machines of its call, lowest id first, and up to which id was looked.

    A token belongs to the call that made the lowest id with it. What another call made with it is not that call's, and
    its maker takes it back.
    """

    machines: tuple[VirtualMachine, ...]
    newest: int

    @classmethod
    def of(cls, found: Mapping[int, VirtualMachine], newest: int) -> _Known:
        """Return what is known from the machines that carry a token, by id."""
        machines = [found[number] for number in sorted(found)]
        return cls(tuple(machine for machine in machines if _digest(machine) == _digest(machines[0])), newest)

    @property
    def digest(self) -> str:
        """What the call asked for; empty if nobody knows."""
        return _digest(self.machines[0]) if self.machines else ""

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(machine.id for machine in self.machines)

    @property
    def first(self) -> VirtualMachine | None:
        return self.machines[0] if self.machines else None

    def wanted(self, plan: LaunchPlan) -> int:
        """How many instances the call has: the word of its first machine counts, which its owner can change, too."""
        said = self.machines[0].user_template.text(LAUNCH_COUNT) if self.machines else ""
        return whole_number(said, largest=plan.most) or plan.most


async def launch(call: Call, plan: LaunchPlan) -> tuple[VirtualMachine, ...]:
    """Return the machines of a call: between `plan.least` and `plan.most`, or none and an error.

    Raises `EC2Error` IdempotentParameterMismatch where the token was used for another call,
    IdempotentInstanceTerminated where all instances of the call have ended, and what `shortage` says where oned does
    not make enough of them. The token of a launch that failed so is free: what was made no longer carries it.
    """
    if plan.token is not None:
        return await _launch_once(call, plan, plan.token)
    made = await _make(call, plan, plan.most, _Known((), -1))
    if len(made.ids) < plan.least:
        reason = await shortage(call, plan, made.error)
        await discard(call.session, made.ids)
        raise reason
    return await _released(call, await call.session.vms(made.ids))


async def _launch_once(call: Call, plan: LaunchPlan, token: ClientToken) -> tuple[VirtualMachine, ...]:
    known = await _look(call, token, back_to=lambda machine: machine.stime < call.now - TOKEN_LIFETIME)
    ours: set[int] = set()
    error: OpenNebulaError | EC2Error | None = None
    for _ in range(_ROUNDS):
        try:
            token.check_same_call(known.digest)
        except EC2Error:
            await discard(call.session, ours)
            raise
        wanted = known.wanted(plan)
        if len(known.machines) >= wanted:
            await discard(call.session, ours - {*known.ids[:wanted]})
            return await _concluded(call, known.machines[:wanted])
        if error is None:
            made = await _make(call, plan, wanted - len(known.machines), known)
            ours, error = ours | {*made.ids}, made.error
        else:
            await _settle_for_fewer(call, plan, known, ours, error)
        known = await _look_again(call, token, known)
    await discard(call.session, ours)
    raise EC2Error("IncorrectState", "Another request with the same client token is being carried out.")


async def _settle_for_fewer(
    call: Call, plan: LaunchPlan, known: _Known, ours: Iterable[int], error: OpenNebulaError | EC2Error
) -> None:
    """Make what there is the whole call, if it is enough; otherwise take back what was made and give up."""
    if not isinstance(error, (OpenNebulaRefusal, EC2Error)):
        raise error  # it may have been done: the client's next try finds out
    if len(known.machines) < plan.least:
        reason = await shortage(call, plan, error)
        await discard(call.session, ours)
        raise reason
    await call.session.vm_update(known.ids[0], attribute(LAUNCH_COUNT, str(len(known.machines))))


async def _look(call: Call, token: ClientToken, *, back_to: Callable[[VirtualMachine], bool]) -> _Known:
    """Read one's own machines in all states, newest first, until one is far enough back.

    Nothing leaves this list, and what comes, comes in front: pages by offset can show one twice but miss none.
    """
    found: dict[int, VirtualMachine] = {}
    newest = -1
    for offset in count(0, _PAGE):
        page = await call.session.vm_page(_PAGE, offset, owner=OwnerFilter.MINE, state=StateFilter.ANY)
        newest = max([newest, *(machine.id for machine in page)])
        found |= {machine.id: machine for machine in page if _carries(machine, token) and not back_to(machine)}
        if len(page) < _PAGE or any(back_to(machine) for machine in page):
            break
    return _Known.of(found, newest)


async def _look_again(call: Call, token: ClientToken, known: _Known) -> _Known:
    """Read what was known again, and what has come since."""
    since = await _look(call, token, back_to=lambda machine: machine.id <= known.newest)
    again = [machine for machine in await call.session.vms(known.ids) if _carries(machine, token)]
    found = {machine.id: machine for machine in (*again, *since.machines)}
    return _Known.of(found, since.newest)


async def _make(call: Call, plan: LaunchPlan, number: int, known: _Known) -> _Made:
    """Make so many machines on HOLD, beside those known. A call's first is made alone: the others bear its number."""
    start = len(known.machines)
    if known.first is not None:
        return await _instantiate(call, plan, range(start, start + number), reservation_of(known.first))
    first = await _instantiate(call, plan, range(1), None)
    if first.error is not None:
        return first
    others = await _instantiate(call, plan, range(1, number), reservation_id(first.ids[0]))
    return _Made((*first.ids, *others.ids), others.error)


async def _instantiate(call: Call, plan: LaunchPlan, indexes: Iterable[int], reservation: str | None) -> _Made:
    """Make machines of a plan. What oned is sent for one, which may be long, is put together when it is sent."""
    name = machine_name(plan)
    made: list[int] = []
    errors: list[OpenNebulaError | EC2Error] = []
    turns = Slots(CALLS_OF_A_REQUEST)

    async def one(index: int) -> None:
        volumes: tuple[int, ...] = ()
        try:
            async with turns:
                volumes = await make_volumes(call, plan.devices, plan.zone)
                await call.budget.spend(ITEM)
                text = machine_text(plan, index, reservation, plan.devices.disks(volumes, call.now))
                made.append(await plan.instance_type.make(call.session, name, text))
        except (OpenNebulaError, EC2Error, NotStorable) as error:
            errors.append(_not_kept() if isinstance(error, NotStorable) else error)
            await take_back(call, volumes)

    await gather(one(index) for index in indexes)
    return _Made(tuple(sorted(made)), errors[0] if errors else None)


async def _concluded(call: Call, machines: Sequence[VirtualMachine]) -> tuple[VirtualMachine, ...]:
    """Number the machines of a call through, whoever made them, and let those go that are still held."""
    if all(machine.state is VmState.DONE for machine in machines):
        raise EC2Error(
            "IdempotentInstanceTerminated",
            "The client token was used in a request whose instances have been terminated.",
        )
    reservation = reservation_of(machines[0])

    async def number(index: int, machine: VirtualMachine) -> None:
        facts = machine.user_template
        if facts.text(LAUNCH_INDEX) == str(index) and reservation_of(machine) == reservation:
            return
        text = template(attribute(LAUNCH_INDEX, str(index)), attribute(RESERVATION, reservation))
        await call.session.vm_update(machine.id, text)

    await gather(number(index, machine) for index, machine in enumerate(machines))
    return await _released(call, machines)


async def _released(call: Call, machines: Sequence[VirtualMachine]) -> tuple[VirtualMachine, ...]:
    """Let machines go that are held; one that waits for its volumes yet is let go by the chore, if that takes long."""

    def have_volumes(found: Sequence[VirtualMachine]) -> bool:
        return not any(machine.state is VmState.CLONING for machine in found)

    read = partial(call.session.vms, [machine.id for machine in machines])
    machines = await wait_until(call, have_volumes, read, timeout=_PATIENCE, known=machines)
    for machine in machines:
        if machine.state is VmState.CLONING:
            await call.session.vm_update(machine.id, attribute(TO_RELEASE, "YES"))
    await gather(release(call.session, machine) for machine in machines if machine.state is VmState.HOLD)
    return await call.session.vms([machine.id for machine in machines])


async def release(session: Session, machine: VirtualMachine) -> None:
    """Let a machine go that is held, with the volumes that were made for it."""
    await assign_volumes(session, machine)
    await change_unless_done(session.vm_action("release", machine.id))


async def discard(session: Session, machine_ids: Iterable[int]) -> None:
    """Take machines back that were never instances: marked first, so that they are not seen to end, then ended."""

    async def one(machine_id: int) -> None:
        await session.vm_update(machine_id, attribute(DISCARDED, "YES"))
        await change_unless_done(session.vm_action("terminate-hard", machine_id))

    await gather(one(machine_id) for machine_id in machine_ids)


async def end_left_over(run: ChoreRun) -> None:
    """End the machines that a request left on HOLD and never came back for (a chore)."""
    async with aclosing(run.machines(VmState.HOLD)) as machines:
        async for machine in machines:
            facts = machine.user_template
            if LAUNCH_INDEX not in facts:
                continue
            if TO_RELEASE in facts and DISCARDED not in facts:
                await release(run.session, machine)
            elif DISCARDED in facts or machine.stime < run.now - HOLD_AGE:
                run.log.info("ending machine {id}, left on HOLD by a request that never came to its end", id=machine.id)
                await discard(run.session, [machine.id])
            else:
                run.keep_watching()


async def machines_left_over(examination: Examination) -> AsyncGenerator[Finding, None]:
    """Machines that RunInstances made and that never became instances."""
    async with aclosing(examination.machines(StateFilter.NOT_DONE)) as machines:
        async for machine in machines:
            facts = machine.user_template
            if LAUNCH_INDEX not in facts or machine.stime >= examination.now - HOLD_AGE:
                continue
            if DISCARDED in facts:
                what = "was taken back by RunInstances and is still alive"
            elif machine.state is VmState.HOLD:
                what = "was left on HOLD by a RunInstances that never came to its end"
            else:
                continue
            session = examination.session_of(machine.uid) or examination.serveradmin
            yield Finding(
                f"machine {machine.id} of {machine.uname} {what}",
                "end it (terminate-hard)",
                partial(_end, session, machine.id),
            )


async def _end(session: Session, machine_id: int) -> None:
    await session.vm_update(machine_id, attribute(DISCARDED, "YES"))
    await session.vm_action("terminate-hard", machine_id)


def _carries(machine: VirtualMachine, token: ClientToken) -> bool:
    return token.is_on(machine.user_template) and DISCARDED not in machine.user_template


def _not_kept() -> EC2Error:
    """Return the error for a machine that would hold a text, of its type or key pair, that oned does not keep."""
    return EC2Error(
        "InvalidParameterValue",
        "The instance type or the key pair holds a text that OpenNebula does not keep as it is.",
    )


def _digest(machine: VirtualMachine) -> str:
    return machine.user_template.text(REQUEST_DIGEST)
