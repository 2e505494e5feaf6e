"""Starting, stopping, rebooting and ending instances (EC2 API Reference, "Instance lifecycle")."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypedDict

from econed.actions.action import action
from econed.actions.call import Call
from econed.actions.machines.facts import TERMINATING
from econed.actions.machines.finding import find_settled_machines
from econed.actions.machines.state import InstanceState, state_of
from econed.actions.waiting import wait_until
from econed.actions.watch import watch_termination
from econed.errors import EC2Error, OpenNebulaCode, OpenNebulaRefusal
from econed.ids import INSTANCE
from econed.opennebula.documents import Right, VirtualMachine
from econed.opennebula.states import LockLevel
from econed.opennebula.template import attribute

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import InstanceStateChangeTypeDef

_PATIENCE = 15
"""Seconds to wait for a machine to come out of a passing state: a disk is being attached, or it is booting."""

_SHOWN_WITHIN = 2.0
"""Seconds within which a change that oned has taken shows."""

_SOON = 0.1
"""Seconds between two looks for that."""


@dataclass(frozen=True)
class _Change:
    """What an action makes of an instance: from which states it can be done, and in which it is done already."""

    one_action: str
    onto: frozenset[InstanceState]
    done: frozenset[InstanceState]
    participle: str
    leads_to: InstanceState
    """What an instance is said to be from then on."""

    protection: str = ""
    """The EC2 attribute by which an instance is kept from it; an OpenNebula lock is what that attribute is here."""


_START = _Change(
    one_action="resume",
    onto=frozenset({InstanceState.STOPPED}),
    done=frozenset({InstanceState.RUNNING, InstanceState.PENDING}),
    participle="started",
    leads_to=InstanceState.PENDING,
)
_STOP = _Change(
    one_action="poweroff",
    onto=frozenset({InstanceState.RUNNING}),
    done=frozenset({InstanceState.STOPPED, InstanceState.STOPPING}),
    participle="stopped",
    leads_to=InstanceState.STOPPING,
    protection="disableApiStop",
)
_FORCED_STOP = _Change(
    one_action="poweroff-hard",
    onto=frozenset({InstanceState.RUNNING, InstanceState.STOPPING}),
    done=frozenset({InstanceState.STOPPED}),
    participle="stopped",
    leads_to=InstanceState.STOPPING,
    protection="disableApiStop",
)
_REBOOT = _Change(
    one_action="reboot",
    onto=frozenset({InstanceState.RUNNING}),
    done=frozenset(),
    participle="rebooted",
    leads_to=InstanceState.RUNNING,
)
_TERMINATE = _Change(
    one_action="terminate-hard",
    onto=frozenset(InstanceState) - {InstanceState.SHUTTING_DOWN, InstanceState.TERMINATED},
    done=frozenset({InstanceState.SHUTTING_DOWN, InstanceState.TERMINATED}),
    participle="terminated",
    leads_to=InstanceState.SHUTTING_DOWN,
    protection="disableApiTermination",
)

_Act = Callable[[Call, _Change, VirtualMachine], Coroutine[Any, Any, None]]
_NO_INSTANCES = {"InstanceIds": ("InvalidParameterCombination", "No instances specified")}
_PROTECTING = frozenset({LockLevel.USE, LockLevel.MANAGE, LockLevel.ALL})


class StartInstancesResult(TypedDict):
    """EC2 StartInstancesResult."""

    StartingInstances: list[InstanceStateChangeTypeDef]


class StopInstancesResult(TypedDict):
    """EC2 StopInstancesResult."""

    StoppingInstances: list[InstanceStateChangeTypeDef]


class TerminateInstancesResult(TypedDict):
    """EC2 TerminateInstancesResult."""

    TerminatingInstances: list[InstanceStateChangeTypeDef]


@action(ignores=("AdditionalInfo",), missing=_NO_INSTANCES)
async def start_instances(call: Call, *, instance_ids: Sequence[str]) -> StartInstancesResult:
    """Start stopped instances (EC2 StartInstances; OpenNebula resume)."""
    return {"StartingInstances": await _carry_out(call, _START, instance_ids)}


@action(as_is={"Hibernate": False}, missing=_NO_INSTANCES)
async def stop_instances(
    call: Call, *, instance_ids: Sequence[str], force: bool = False, skip_os_shutdown: bool = False
) -> StopInstancesResult:
    """Power instances off, softly unless Force or SkipOsShutdown is given (EC2 StopInstances; OpenNebula poweroff)."""
    if force or skip_os_shutdown:
        return {"StoppingInstances": await _carry_out(call, _FORCED_STOP, instance_ids)}
    return {"StoppingInstances": await _carry_out(call, _STOP, instance_ids)}


@action(missing=_NO_INSTANCES)
async def reboot_instances(call: Call, *, instance_ids: Sequence[str]) -> None:
    """Ask the guests to reboot (EC2 RebootInstances; OpenNebula reboot)."""
    await _carry_out(call, _REBOOT, instance_ids)


@action(ignores=("Force", "SkipOsShutdown"), missing=_NO_INSTANCES)
async def terminate_instances(call: Call, *, instance_ids: Sequence[str]) -> TerminateInstancesResult:
    """End instances for good (EC2 TerminateInstances; OpenNebula terminate-hard).

    It is always the hard form: a soft one waits for the guest, and a guest that does not listen goes on running. A
    machine that is being deployed ends when it has booted, by the reconciler if that takes long.
    """
    return {"TerminatingInstances": await _carry_out(call, _TERMINATE, instance_ids, _end)}


async def _act(call: Call, change: _Change, machine: VirtualMachine) -> None:
    if await _taken(call, change, machine):
        return
    # It has moved on since it was read: to where it was to go, or to where it cannot.
    for now in await call.session.vms([machine.id]):
        if state_of(now) not in change.done:
            raise _incorrect_state(change, machine)


async def _end(call: Call, change: _Change, machine: VirtualMachine) -> None:
    """End a machine now, or as soon as oned takes it: from PROLOG and BOOT it does not."""

    async def attempt() -> bool:
        if await _taken(call, change, machine):
            return True
        (now,) = await call.session.vms([machine.id]) or (machine,)
        return state_of(now) in change.done

    if not await wait_until(call, bool, attempt, timeout=_PATIENCE):
        await watch_termination(call.session, await call.session.current_user(), call.now)
        await call.session.vm_update(machine.id, attribute(TERMINATING, "YES"))


async def _taken(call: Call, change: _Change, machine: VirtualMachine) -> bool:
    """Have oned do it; False if the machine is in no state in which it does."""
    try:
        await call.session.vm_action(change.one_action, machine.id)
    except OpenNebulaRefusal as refusal:
        if refusal.code != OpenNebulaCode.ACTION:
            raise
        return False
    return True


async def _carry_out(
    call: Call, change: _Change, instance_ids: Sequence[str], act: _Act = _act
) -> list[InstanceStateChangeTypeDef]:
    """Do to all instances what is not done yet, or to none if one of them does not allow it."""
    before = await find_settled_machines(call, instance_ids, timeout=_PATIENCE)
    for machine in before:
        _check(change, machine)
    to_change = [machine for machine in before if state_of(machine) not in change.done]
    await call.change_all(Right.MANAGE, to_change, lambda machine: act(call, change, machine))
    await _shown(call, change, [machine.id for machine in to_change])
    return [_state_change(change, machine) for machine in before]


async def _shown(call: Call, change: _Change, changed: Sequence[int]) -> None:
    """Wait until the change shows in all machines, or a moment longer.

    Of some changes oned only takes note, and shows the old state for a while: a client that looks again at once must
    not find that nothing has happened.
    """

    def are_shown(machines: Sequence[VirtualMachine]) -> bool:
        return {change.leads_to, *change.done}.issuperset(map(state_of, machines))

    await wait_until(call, are_shown, partial(call.session.vms, changed), timeout=_SHOWN_WITHIN, interval=_SOON)


def _state_change(change: _Change, before: VirtualMachine) -> InstanceStateChangeTypeDef:
    """Return from where to where an instance goes.

    It is on its way, as on Amazon, even if it has come there by now: libcloud takes nothing else for success.
    """
    previous = state_of(before)
    return {
        "InstanceId": INSTANCE.format(before.id),
        "CurrentState": (previous if previous in change.done else change.leads_to).member,
        "PreviousState": previous.member,
    }


def _check(change: _Change, machine: VirtualMachine) -> None:
    state = state_of(machine)
    if state in change.done:
        return
    if state not in change.onto:
        raise _incorrect_state(change, machine)
    if change.protection and machine.lock is not None and machine.lock.level in _PROTECTING:
        raise EC2Error(
            "OperationNotPermitted",
            f"The instance '{INSTANCE.format(machine.id)}' may not be {change.participle}. "
            f"Modify its '{change.protection}' instance attribute and try again.",
        )


def _incorrect_state(change: _Change, machine: VirtualMachine) -> EC2Error:
    return EC2Error(
        "IncorrectInstanceState",
        f"The instance '{INSTANCE.format(machine.id)}' is not in a state from which it can be {change.participle}.",
    )
