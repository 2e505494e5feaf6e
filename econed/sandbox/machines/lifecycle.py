"""The actions on machines: the states that allow them, and the states that follow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from econed.opennebula.states import LcmState, VmState
from econed.sandbox.cloud import Cloud
from econed.sandbox.machines.affinity import leave_vm_group
from econed.sandbox.machines.deployment import Deployment
from econed.sandbox.machines.devices import release_disk
from econed.sandbox.machines.nics import release_nic
from econed.sandbox.machines.security_rules import leave_groups
from econed.sandbox.objects.history import HistoryAction
from econed.sandbox.objects.users import User
from econed.sandbox.objects.virtual_machines import VirtualMachine
from econed.sandbox.refusals import Refused, wrong_state

_ACTIONS = {
    "undeploy": HistoryAction.UNDEPLOY,
    "undeploy-hard": HistoryAction.UNDEPLOY_HARD,
    "hold": HistoryAction.HOLD,
    "release": HistoryAction.RELEASE,
    "stop": HistoryAction.STOP,
    "suspend": HistoryAction.SUSPEND,
    "resume": HistoryAction.RESUME,
    "reboot": HistoryAction.REBOOT,
    "reboot-hard": HistoryAction.REBOOT_HARD,
    "resched": HistoryAction.RESCHED,
    "unresched": HistoryAction.UNRESCHED,
    "poweroff": HistoryAction.POWEROFF,
    "poweroff-hard": HistoryAction.POWEROFF_HARD,
    "terminate": HistoryAction.TERMINATE,
    "terminate-hard": HistoryAction.TERMINATE_HARD,
}
"""The actions that `one.vm.action` takes, by name."""

_STOPPED_STATES = (VmState.SUSPENDED, VmState.POWEROFF, VmState.STOPPED, VmState.UNDEPLOYED)
_UNDEPLOYED_STATES = (VmState.INIT, VmState.PENDING, VmState.HOLD, VmState.CLONING, VmState.CLONING_FAILURE)
_UP_STATES = (LcmState.RUNNING, LcmState.UNKNOWN)
_SUCCESS_RECOVERY, _RETRY_RECOVERY, _DELETE_RECOVERY = 1, 2, 3

_Handler = Callable[[VirtualMachine, bool, User], bool]
"""Begins an action, given whether it is a -hard action and its caller; False if the state does not allow it."""


class Lifecycle:
    """Performs actions on machines, as oned's dispatch and life cycle managers do."""

    def __init__(self, cloud: Cloud, deployment: Deployment) -> None:
        self._cloud = cloud
        self._deployment = deployment

    def perform(self, machine: VirtualMachine, action: str, caller: User) -> None:
        """Perform an action of `one.vm.action`; refuses (2048) if the state does not allow it."""
        if action not in _ACTIONS:
            raise wrong_state(f'Action "{action}" is not supported')
        kind, is_hard = action.removesuffix("-hard"), action.endswith("-hard")
        handlers: dict[str, _Handler] = {
            "terminate": self._terminate,
            "poweroff": self._power_off,
            "reboot": self._reboot,
            "resume": self._resume,
            "hold": self._hold,
            "release": self._release,
            "stop": partial(self._leave_host, VmState.STOPPED, LcmState.SAVE_STOP, LcmState.EPILOG_STOP),
            "undeploy": partial(
                self._leave_host, VmState.UNDEPLOYED, LcmState.SHUTDOWN_UNDEPLOY, LcmState.EPILOG_UNDEPLOY
            ),
            "suspend": self._suspend,
            "resched": self._reschedule,
            "unresched": self._reschedule,
        }
        if not handlers[kind](machine, is_hard, caller):
            raise _not_available(machine, action)
        if machine.state is VmState.ACTIVE and kind not in ("reboot", "resume", "resched", "unresched"):
            is_cleanup = machine.lcm_state.is_failure or machine.lcm_state is LcmState.CLEANUP_DELETE
            recorded = HistoryAction.DELETE if is_cleanup else _ACTIONS[action]
            machine.update_record(action=recorded, by=(caller.id, caller.gid))

    def _is_up(self, machine: VirtualMachine) -> bool:
        return machine.state is VmState.ACTIVE and machine.lcm_state in _UP_STATES

    def _queue(self, machine: VirtualMachine, step: Callable[[VirtualMachine], None]) -> bool:
        machine.epoch += 1
        self._cloud.continue_later(machine, self._cloud.delays.queue, step)
        return True

    def _power_off(self, machine: VirtualMachine, _is_hard: bool, _caller: User) -> bool:
        return self._is_up(machine) and self._queue(machine, self._shut_down_to_power_off)

    def _shut_down_to_power_off(self, machine: VirtualMachine) -> None:
        machine.set_state(VmState.ACTIVE, LcmState.SHUTDOWN_POWEROFF)
        self._cloud.continue_later(machine, self._cloud.delays.shutdown, self._powered_off)

    def shut_down_inside(self, machine: VirtualMachine) -> None:
        """Power off a running machine whose guest has shut down, as oned does when its monitoring detects that."""
        machine.update_record(action=HistoryAction.MONITOR, by=(-1, -1))
        self._shut_down_to_power_off(machine)

    def _powered_off(self, machine: VirtualMachine) -> None:
        machine.stop_running(self._cloud.now())
        machine.set_state(VmState.POWEROFF)
        self._cloud.recount_usage(machine)

    def _suspend(self, machine: VirtualMachine, _is_hard: bool, _caller: User) -> bool:
        return self._is_up(machine) and self._queue(machine, self._save)

    def _save(self, machine: VirtualMachine) -> None:
        machine.set_state(VmState.ACTIVE, LcmState.SAVE_SUSPEND)
        self._cloud.continue_later(machine, self._cloud.delays.shutdown, self._suspended)

    def _suspended(self, machine: VirtualMachine) -> None:
        machine.stop_running(self._cloud.now())
        machine.set_state(VmState.SUSPENDED)
        self._cloud.recount_usage(machine)

    def _leave_host(
        self,
        final_state: VmState,
        shutdown: LcmState,
        epilog: LcmState,
        machine: VirtualMachine,
        is_hard: bool,
        caller: User,
    ) -> bool:
        """Take a machine off its host: stop or undeploy it, through the LCM_STATEs `shutdown` and `epilog`."""
        allowed = VmState.POWEROFF if final_state is VmState.UNDEPLOYED else VmState.SUSPENDED
        if not self._is_up(machine) and machine.state is not allowed:
            return False
        was_running = machine.state is not allowed
        if not was_running:
            undeploy = HistoryAction.UNDEPLOY_HARD if is_hard else HistoryAction.UNDEPLOY
            action = HistoryAction.STOP if final_state is VmState.STOPPED else undeploy
            machine.update_record(action=action, by=(caller.id, caller.gid))

        def finish(_: VirtualMachine) -> None:
            self._remove_from_host(machine, was_running=was_running)
            machine.set_state(final_state)
            self._cloud.recount_usage(machine)

        def begin_epilog(_: VirtualMachine) -> None:
            machine.set_state(VmState.ACTIVE, epilog)
            self._cloud.continue_later(machine, self._cloud.delays.epilog, finish)

        def shut_down(_: VirtualMachine) -> None:
            machine.set_state(VmState.ACTIVE, shutdown)
            self._cloud.continue_later(machine, self._cloud.delays.shutdown, begin_epilog)

        return self._queue(machine, shut_down)

    def _remove_from_host(self, machine: VirtualMachine, *, was_running: bool = True) -> None:
        """Release the capacity of a machine on its host and close its history record.

        `was_running` says whether it was running until now, so that the end of its running time is now.
        """
        now, record = self._cloud.now(), machine.history[-1]
        end = record.running[1] or (now if was_running else 0)
        machine.update_record(ended=now, running=(record.running[0], end))
        if machine.lcm_state is not LcmState.CLEANUP_DELETE:
            machine.update_record(epilog=(now, now))
        machine.save_for_accounting()
        host = self._cloud.hosts.find(record.host_id)
        if host is not None:
            host.remove_machine(machine.id, machine.cpu, machine.memory)
        self._deployment.reconsider()

    def _reboot(self, machine: VirtualMachine, _is_hard: bool, _caller: User) -> bool:
        return machine.state is VmState.ACTIVE and machine.lcm_state is LcmState.RUNNING

    def _reschedule(self, machine: VirtualMachine, _is_hard: bool, _caller: User) -> bool:
        return self._is_up(machine) or machine.state is VmState.POWEROFF

    def _hold(self, machine: VirtualMachine, _is_hard: bool, _caller: User) -> bool:
        if machine.state is not VmState.PENDING:
            return False
        machine.epoch += 1
        machine.set_state(VmState.HOLD)
        self._cloud.recount_usage(machine)
        return True

    def _release(self, machine: VirtualMachine, _is_hard: bool, _caller: User) -> bool:
        if machine.state is not VmState.HOLD:
            return False
        machine.set_state(VmState.PENDING)
        self._cloud.recount_usage(machine)
        self._deployment.schedule(machine)
        return True

    def _resume(self, machine: VirtualMachine, _is_hard: bool, caller: User) -> bool:
        """Boot or schedule a machine again; its owner's quotas are checked before its state, and count it at once.

        5.12 checks all limits of machines, not only those of running ones.
        """
        running = machine.running_charge()
        others = {} if machine.is_v7 else {"VMS": 0.0, "CPU": 0.0, "MEMORY": 0.0, "SYSTEM_DISK_SIZE": 0.0}
        checked = replace(running, amounts={**others, **running.amounts})
        exceeded = self._cloud.exceeded_quota(machine.uid, machine.gid, [checked])
        if exceeded:
            raise wrong_state(exceeded)
        if machine.state in _STOPPED_STATES:
            machine.charges = [*machine.charges, running]
            self._cloud.count_usage(machine.uid, machine.gid, [running])
        if machine.state in (VmState.STOPPED, VmState.UNDEPLOYED):
            machine.epoch += 1
            machine.set_state(VmState.PENDING)
            self._cloud.recount_usage(machine)
            self._deployment.schedule(machine)
            return True
        if machine.state in (VmState.POWEROFF, VmState.SUSPENDED):
            return self._queue(machine, partial(self._deployment.boot_again, caller))
        return machine.state is VmState.ACTIVE and machine.lcm_state is LcmState.UNKNOWN

    def _terminate(self, machine: VirtualMachine, is_hard: bool, caller: User) -> bool:
        if machine.state in _UNDEPLOYED_STATES:
            machine.epoch += 1
            self._finish_termination(machine)
        elif machine.state in _STOPPED_STATES:
            machine.update_record(action=HistoryAction.TERMINATE, by=(caller.id, caller.gid))
            self._queue(machine, partial(self._epilog, was_running=False))
        elif machine.state is VmState.ACTIVE:
            self._terminate_active(machine, is_hard)
        return True

    def _terminate_active(self, machine: VirtualMachine, is_hard: bool) -> None:
        if machine.lcm_state in _UP_STATES or (is_hard and machine.is_v7 and machine.lcm_state is LcmState.SHUTDOWN):
            self._queue(machine, partial(self._shut_down, LcmState.CANCEL if is_hard else LcmState.SHUTDOWN))
        elif machine.lcm_state.is_failure:
            if machine.is_v7:
                machine.epoch += 1
                self._clean_up(machine)
            else:
                self._queue(machine, self._clean_up)
        else:
            reason = f"Could not terminate VM {machine.id}, wrong state {machine.state_name}."
            raise wrong_state(f'Error performing action "{"terminate-hard" if is_hard else "terminate"}": {reason}')

    def _shut_down(self, lcm_state: LcmState, machine: VirtualMachine) -> None:
        machine.set_state(VmState.ACTIVE, lcm_state)
        self._cloud.continue_later(machine, self._cloud.delays.shutdown, self._epilog)

    def _epilog(self, machine: VirtualMachine, was_running: bool = True) -> None:
        machine.set_state(VmState.ACTIVE, LcmState.EPILOG)
        finish = partial(self._finish_termination, was_running=was_running)
        self._cloud.continue_later(machine, self._cloud.delays.epilog, finish)

    def _clean_up(self, machine: VirtualMachine) -> None:
        machine.update_record(action=HistoryAction.DELETE)
        machine.set_state(VmState.ACTIVE, LcmState.CLEANUP_DELETE)
        self._cloud.continue_later(machine, self._cloud.delays.epilog, self._finish_termination)

    def _finish_termination(self, machine: VirtualMachine, was_running: bool = True) -> None:
        self._deployment.forget(machine)
        if machine.history and not machine.history[-1].ended:
            self._remove_from_host(machine, was_running=was_running)
        for nic in (*machine.nics, *machine.aliases):
            release_nic(self._cloud, machine, nic, keep=True)
        for disk in machine.disks:
            release_disk(self._cloud, machine, disk, keep=True)
        leave_groups(self._cloud, machine)
        leave_vm_group(self._cloud, machine)
        machine.lock = None
        machine.ended = self._cloud.now()
        machine.set_state(VmState.DONE)
        self._cloud.recount_usage(machine)
        machine.save_for_accounting()

    def recover(self, machine: VirtualMachine, operation: int) -> None:
        """Perform an operation of `one.vm.recover`: 1 success, 2 retry, 3 delete; the sandbox refuses 0, failure."""
        is_failed = machine.state is VmState.ACTIVE and machine.lcm_state.is_failure
        if operation == _DELETE_RECOVERY and machine.state is not VmState.DONE:
            machine.epoch += 1
            self._finish_termination(machine)
        elif operation in (_RETRY_RECOVERY, _SUCCESS_RECOVERY) and is_failed:
            machine.epoch += 1
            self._deployment.boot(machine)
        else:
            raise wrong_state(f"Recover action is not available for state {machine.state_name}")


def _not_available(machine: VirtualMachine, action: str) -> Refused:
    reason = f"This action is not available for state {machine.state_name}"
    return wrong_state(f'Error performing action "{action}": {reason}')
