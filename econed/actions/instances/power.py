"""Starting, stopping, rebooting and terminating instances (EC2 API Reference, "Instance lifecycle")."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypedDict

from econed.actions.action import action
from econed.actions.call import Call
from econed.actions.instances.capacity import quota_exceeded
from econed.actions.machines.facts import TERMINATING
from econed.actions.machines.lookup import find_settled_machines
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

_TRANSITION_TIMEOUT = 15
"""Seconds to wait for the end of a transitional state: a disk is being attached, or the machine is booting."""

_VISIBILITY_TIMEOUT = 2.0
"""Seconds to wait until oned reports a change that it has accepted."""

_VISIBILITY_INTERVAL = 0.1
"""Seconds between two reads while waiting for that."""


@dataclass(frozen=True)
class _Change:
    """A change of an instance's state: the states that allow it, and those in which there is nothing to do."""

    vm_action: str
    """The action of one.vm.action."""

    allowed_from: frozenset[InstanceState]
    already_in: frozenset[InstanceState]
    past_participle: str
    reported_state: InstanceState
    """The current state in the response."""

    protection: str = ""
    """The EC2 attribute that protects an instance from the change; an OpenNebula lock has its effect here."""


_START = _Change(
    vm_action="resume",
    allowed_from=frozenset({InstanceState.STOPPED}),
    already_in=frozenset({InstanceState.RUNNING, InstanceState.PENDING}),
    past_participle="started",
    reported_state=InstanceState.PENDING,
)
_STOP = _Change(
    vm_action="poweroff",
    allowed_from=frozenset({InstanceState.RUNNING}),
    already_in=frozenset({InstanceState.STOPPED, InstanceState.STOPPING}),
    past_participle="stopped",
    reported_state=InstanceState.STOPPING,
    protection="disableApiStop",
)
_FORCED_STOP = _Change(
    vm_action="poweroff-hard",
    allowed_from=frozenset({InstanceState.RUNNING, InstanceState.STOPPING}),
    already_in=frozenset({InstanceState.STOPPED}),
    past_participle="stopped",
    reported_state=InstanceState.STOPPING,
    protection="disableApiStop",
)
_REBOOT = _Change(
    vm_action="reboot",
    allowed_from=frozenset({InstanceState.RUNNING}),
    already_in=frozenset(),
    past_participle="rebooted",
    reported_state=InstanceState.RUNNING,
)
_TERMINATE = _Change(
    vm_action="terminate-hard",
    allowed_from=frozenset(InstanceState) - {InstanceState.SHUTTING_DOWN, InstanceState.TERMINATED},
    already_in=frozenset({InstanceState.SHUTTING_DOWN, InstanceState.TERMINATED}),
    past_participle="terminated",
    reported_state=InstanceState.SHUTTING_DOWN,
    protection="disableApiTermination",
)

_ChangeOne = Callable[[Call, _Change, VirtualMachine], Coroutine[Any, Any, None]]
_NO_INSTANCES = {"InstanceIds": ("InvalidParameterCombination", "No instances specified")}
_PROTECTING_LOCKS = frozenset({LockLevel.USE, LockLevel.MANAGE, LockLevel.ALL})


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
    """Stop instances, with a shutdown of the guest unless Force or SkipOsShutdown is given (EC2 StopInstances).

    In OpenNebula that is poweroff or poweroff-hard.
    """
    if force or skip_os_shutdown:
        return {"StoppingInstances": await _carry_out(call, _FORCED_STOP, instance_ids)}
    return {"StoppingInstances": await _carry_out(call, _STOP, instance_ids)}


@action(missing=_NO_INSTANCES)
async def reboot_instances(call: Call, *, instance_ids: Sequence[str]) -> None:
    """Ask the guests to reboot (EC2 RebootInstances; OpenNebula reboot)."""
    await _carry_out(call, _REBOOT, instance_ids)


@action(ignores=("Force", "SkipOsShutdown"), missing=_NO_INSTANCES)
async def terminate_instances(call: Call, *, instance_ids: Sequence[str]) -> TerminateInstancesResult:
    """Terminate instances (EC2 TerminateInstances; OpenNebula terminate-hard).

    It is always the hard form: the soft one waits for the guest, and a guest that ignores the request continues to run.
    An instance that is being deployed is terminated once it has booted, by the reconciler if that takes long.
    """
    return {"TerminatingInstances": await _carry_out(call, _TERMINATE, instance_ids, _terminate)}


async def _change_state(call: Call, change: _Change, machine: VirtualMachine) -> None:
    refusal = await _refusal(call, change, machine)
    if refusal is None:
        return
    # Its state has changed since it was read: to the intended state, or to a state that does not allow the change.
    # Before the state oned checks a quota, also if the instance has been started meanwhile.
    for current in await call.session.vms([machine.id]):
        if state_of(current) not in change.already_in:
            raise quota_exceeded(refusal) if refusal.is_quota else _incorrect_state(change, machine)


async def _terminate(call: Call, change: _Change, machine: VirtualMachine) -> None:
    """Terminate a machine now, or as soon as oned accepts it: in PROLOG and BOOT oned refuses."""

    async def attempt() -> bool:
        if await _refusal(call, change, machine) is None:
            return True
        (current,) = await call.session.vms([machine.id]) or (machine,)
        return state_of(current) in change.already_in

    if not await wait_until(call, bool, attempt, timeout=_TRANSITION_TIMEOUT):
        await watch_termination(call.session, await call.session.current_user(), call.now)
        await call.session.vm_update(machine.id, attribute(TERMINATING, "YES"))


async def _refusal(call: Call, change: _Change, machine: VirtualMachine) -> OpenNebulaRefusal | None:
    """Request a change from oned; return oned's refusal because of the machine's state, or of a quota."""
    try:
        await call.session.vm_action(change.vm_action, machine.id)
    except OpenNebulaRefusal as refusal:
        if refusal.code != OpenNebulaCode.ACTION:
            raise
        return refusal
    return None


async def _carry_out(
    call: Call, change: _Change, instance_ids: Sequence[str], change_one: _ChangeOne = _change_state
) -> list[InstanceStateChangeTypeDef]:
    """Change all instances that are not yet in the intended state, or none if one of them does not allow it."""
    machines = await find_settled_machines(call, instance_ids, timeout=_TRANSITION_TIMEOUT)
    for machine in machines:
        _check_allowed(change, machine)
    to_change = [machine for machine in machines if state_of(machine) not in change.already_in]
    await call.change_all(Right.MANAGE, to_change, lambda machine: change_one(call, change, machine))
    if change is not _REBOOT:  # which no state shows
        await _wait_until_visible(call, change, [machine.id for machine in to_change])
    return [_state_change(change, machine) for machine in machines]


async def _wait_until_visible(call: Call, change: _Change, machine_ids: Sequence[int]) -> None:
    """Wait until oned reports the new state of all machines, for a limited time.

    oned only queues some changes and reports the old state for a while: a client that reads the instances immediately
    must not see the old state.
    """

    def are_changed(machines: Sequence[VirtualMachine]) -> bool:
        return {change.reported_state, *change.already_in}.issuperset(map(state_of, machines))

    await wait_until(
        call,
        are_changed,
        partial(call.session.vms, machine_ids),
        timeout=_VISIBILITY_TIMEOUT,
        interval=_VISIBILITY_INTERVAL,
    )


def _state_change(change: _Change, before: VirtualMachine) -> InstanceStateChangeTypeDef:
    """Return the previous and the current state of an instance for the response.

    The current state is the transitional one, as on Amazon, even if the change is complete: libcloud accepts no other.
    """
    previous = state_of(before)
    return {
        "InstanceId": INSTANCE.format(before.id),
        "CurrentState": (previous if previous in change.already_in else change.reported_state).member,
        "PreviousState": previous.member,
    }


def is_protected(machine: VirtualMachine) -> bool:
    """Whether a lock in OpenNebula protects a machine from being stopped and terminated."""
    return machine.lock is not None and machine.lock.level in _PROTECTING_LOCKS


def _check_allowed(change: _Change, machine: VirtualMachine) -> None:
    state = state_of(machine)
    if state in change.already_in:
        return
    if state not in change.allowed_from:
        raise _incorrect_state(change, machine)
    if change.protection and is_protected(machine):
        raise EC2Error(
            "OperationNotPermitted",
            f"The instance '{INSTANCE.format(machine.id)}' may not be {change.past_participle}. "
            f"Modify its '{change.protection}' instance attribute and try again.",
        )


def _incorrect_state(change: _Change, machine: VirtualMachine) -> EC2Error:
    return EC2Error(
        "IncorrectInstanceState",
        f"The instance '{INSTANCE.format(machine.id)}' is not in a state from which "
        f"it can be {change.past_participle}.",
    )
