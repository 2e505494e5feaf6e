"""Changes to a machine that is RUNNING or in POWEROFF."""

from __future__ import annotations

from collections.abc import Callable

from econed.opennebula.states import LcmState, VmState
from econed.sandbox.cloud import Cloud
from econed.sandbox.objects.history import HistoryAction
from econed.sandbox.objects.users import User
from econed.sandbox.objects.virtual_machines import VirtualMachine

_COUNTED_AS_POWERED_OFF = frozenset(
    {
        *(LcmState.HOTPLUG_PROLOG_POWEROFF, LcmState.HOTPLUG_EPILOG_POWEROFF, LcmState.DISK_RESIZE_POWEROFF),
        *(LcmState.DISK_SNAPSHOT_POWEROFF, LcmState.DISK_SNAPSHOT_REVERT_POWEROFF),
        LcmState.DISK_SNAPSHOT_DELETE_POWEROFF,
    }
)
"""Changes to a disk of a machine in POWEROFF after which 5.12 counts it as no longer running in the quotas again.

So the quotas become too small, even less than 0 (oned: `DispatchManager::poweroff_success_action`; measured).
"""


def is_pluggable(machine: VirtualMachine) -> bool:
    """Whether devices of the machine can be changed in its state."""
    running = machine.state is VmState.ACTIVE and machine.lcm_state is LcmState.RUNNING
    return running or machine.state is VmState.POWEROFF


def record_change(cloud: Cloud, machine: VirtualMachine, caller: User, action: HistoryAction) -> None:
    """Close the machine's history record with `action` and open the next record."""
    if not machine.history:
        return
    record, now = machine.history[-1], cloud.now()
    is_powered_off = machine.state is VmState.POWEROFF
    running = (record.running[0], record.running[1] or now)
    machine.update_record(ended=now, running=running, action=action, by=(caller.id, caller.gid))
    machine.save_for_accounting()
    machine.next_record(now, record.action if is_powered_off else HistoryAction.NONE)
    if is_powered_off and machine.is_v7:
        machine.update_record(running=(now, now))


def plug(
    cloud: Cloud,
    machine: VirtualMachine,
    running: LcmState,
    powered_off: LcmState,
    finish: Callable[[], None] | None = None,
) -> None:
    """Set the LCM_STATE `running` or `powered_off` for the delay of a hot-plug, then call `finish`.

    Which of the two depends on the machine's state before, to which it returns.
    """
    state_before = machine.state
    machine.epoch += 1
    machine.set_state(VmState.ACTIVE, running if state_before is VmState.ACTIVE else powered_off)

    def plugged(_: VirtualMachine) -> None:
        machine.set_state(state_before, LcmState.RUNNING if state_before is VmState.ACTIVE else LcmState.LCM_INIT)
        if finish is not None:
            finish()
        if not machine.is_v7 and state_before is VmState.POWEROFF and powered_off in _COUNTED_AS_POWERED_OFF:
            cloud.count_usage(machine.uid, machine.gid, [machine.running_charge()], -1)
        machine.invalidate()

    cloud.continue_later(machine, cloud.delays.hotplug, plugged)
