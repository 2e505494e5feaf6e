"""The life of a machine on the clock: which action is taken in which state, and what follows it when."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from econed.opennebula.states import LcmState, VmState
from econed.sandbox.cloud import Cloud
from econed.sandbox.machines.deployment import Deployment
from econed.sandbox.machines.devices import drop_disk, drop_nic
from econed.sandbox.machines.security_rules import leave_groups
from econed.sandbox.objects.history import HistoryAction
from econed.sandbox.objects.users import User
from econed.sandbox.objects.virtual_machines import VirtualMachine
from econed.sandbox.refusals import wrong_state

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

_AT_REST = (VmState.SUSPENDED, VmState.POWEROFF, VmState.STOPPED, VmState.UNDEPLOYED)
_UNPLACED = (VmState.INIT, VmState.PENDING, VmState.HOLD, VmState.CLONING, VmState.CLONING_FAILURE)
_UP = (LcmState.RUNNING, LcmState.UNKNOWN)


class Lifecycle:
    """Carries machines from state to state, as oned's dispatch and life cycle managers do."""

    def __init__(self, cloud: Cloud, deployment: Deployment) -> None:
        self._cloud = cloud
        self._deployment = deployment

    def act(self, machine: VirtualMachine, action: str, by: User) -> None:
        """Perform an action of `one.vm.action`; refuses (2048) what the state does not allow."""
        if action not in _ACTIONS:
            raise wrong_state(f'Action "{action}" is not supported')
        kind, hard = action.removesuffix("-hard"), action.endswith("-hard")
        handlers: dict[str, Callable[[VirtualMachine, bool, User], bool]] = {
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
        if not handlers[kind](machine, hard, by):
            raise _unavailable(machine, action)
        if machine.state is VmState.ACTIVE and kind not in ("reboot", "resume", "resched", "unresched"):
            failed = machine.lcm_state.is_failure or machine.lcm_state is LcmState.CLEANUP_DELETE
            machine.record(action=HistoryAction.DELETE if failed else _ACTIONS[action], by=(by.id, by.gid))

    def _is_up(self, machine: VirtualMachine) -> bool:
        return machine.state is VmState.ACTIVE and machine.lcm_state in _UP

    def _queue(self, machine: VirtualMachine, step: Callable[[VirtualMachine], None]) -> bool:
        machine.epoch += 1
        self._cloud.step(machine, self._cloud.delays.queue, step)
        return True

    def _power_off(self, machine: VirtualMachine, hard: bool, _by: User) -> bool:
        return self._is_up(machine) and self._queue(machine, self._shut_down_to_power_off)

    def _shut_down_to_power_off(self, machine: VirtualMachine) -> None:
        machine.enter(VmState.ACTIVE, LcmState.SHUTDOWN_POWEROFF)
        self._cloud.step(machine, self._cloud.delays.shutdown, self._powered_off)

    def found_off(self, machine: VirtualMachine) -> None:
        """Take note that a running machine was shut down from inside, as oned's monitoring does."""
        machine.record(action=HistoryAction.MONITOR, by=(-1, -1))
        self._shut_down_to_power_off(machine)

    def _powered_off(self, machine: VirtualMachine) -> None:
        machine.stop_running(self._cloud.now())
        machine.enter(VmState.POWEROFF)
        self._cloud.recharge(machine)

    def _suspend(self, machine: VirtualMachine, _hard: bool, _by: User) -> bool:
        return self._is_up(machine) and self._queue(machine, self._save)

    def _save(self, machine: VirtualMachine) -> None:
        machine.enter(VmState.ACTIVE, LcmState.SAVE_SUSPEND)
        self._cloud.step(machine, self._cloud.delays.shutdown, self._suspended)

    def _suspended(self, machine: VirtualMachine) -> None:
        machine.stop_running(self._cloud.now())
        machine.enter(VmState.SUSPENDED)
        self._cloud.recharge(machine)

    def _leave_host(
        self, state: VmState, shutting: LcmState, epilog: LcmState, machine: VirtualMachine, hard: bool, by: User
    ) -> bool:
        allowed = VmState.POWEROFF if state is VmState.UNDEPLOYED else VmState.SUSPENDED
        if not self._is_up(machine) and machine.state is not allowed:
            return False
        at_rest = machine.state is allowed
        if at_rest:
            name = "stop" if state is VmState.STOPPED else "undeploy-hard" if hard else "undeploy"
            machine.record(action=_ACTIONS[name], by=(by.id, by.gid))

        def gone(_: VirtualMachine) -> None:
            self._off_host(machine, at_rest=at_rest)
            machine.enter(state)
            self._cloud.recharge(machine)

        def put_away(_: VirtualMachine) -> None:
            machine.enter(VmState.ACTIVE, epilog)
            self._cloud.step(machine, self._cloud.delays.epilog, gone)

        def shut(_: VirtualMachine) -> None:
            machine.enter(VmState.ACTIVE, shutting)
            self._cloud.step(machine, self._cloud.delays.shutdown, put_away)

        return self._queue(machine, shut)

    def _off_host(self, machine: VirtualMachine, *, at_rest: bool = False) -> None:
        """Close the record of a machine's host; `at_rest` says that it has come to rest before."""
        now, record = self._cloud.now(), machine.history[-1]
        end = record.running[1] or (0 if at_rest else now)
        machine.record(ended=now, running=(record.running[0], end))
        if machine.lcm_state is not LcmState.CLEANUP_DELETE:
            machine.record(epilog=(now, now))
        machine.freeze()
        host = self._cloud.hosts.find(record.host)
        if host is not None:
            host.give_back(machine.id, machine.cpu, machine.memory)
        self._deployment.reconsider()

    def _reboot(self, machine: VirtualMachine, _hard: bool, _by: User) -> bool:
        return machine.state is VmState.ACTIVE and machine.lcm_state is LcmState.RUNNING

    def _reschedule(self, machine: VirtualMachine, _hard: bool, _by: User) -> bool:
        return self._is_up(machine) or machine.state is VmState.POWEROFF

    def _hold(self, machine: VirtualMachine, _hard: bool, _by: User) -> bool:
        if machine.state is not VmState.PENDING:
            return False
        machine.epoch += 1
        machine.enter(VmState.HOLD)
        self._cloud.recharge(machine)
        return True

    def _release(self, machine: VirtualMachine, _hard: bool, _by: User) -> bool:
        if machine.state is not VmState.HOLD:
            return False
        machine.enter(VmState.PENDING)
        self._cloud.recharge(machine)
        self._deployment.schedule(machine)
        return True

    def _resume(self, machine: VirtualMachine, _hard: bool, by: User) -> bool:
        if machine.state in (VmState.STOPPED, VmState.UNDEPLOYED):
            machine.epoch += 1
            machine.enter(VmState.PENDING)
            self._cloud.recharge(machine)
            self._deployment.schedule(machine)
            return True
        if machine.state in (VmState.POWEROFF, VmState.SUSPENDED):
            return self._queue(machine, partial(self._deployment.boot_again, by))
        return machine.state is VmState.ACTIVE and machine.lcm_state is LcmState.UNKNOWN

    def _terminate(self, machine: VirtualMachine, hard: bool, by: User) -> bool:
        if machine.state in _UNPLACED:
            machine.epoch += 1
            self._done(machine)
        elif machine.state in _AT_REST:
            machine.record(action=HistoryAction.TERMINATE, by=(by.id, by.gid))
            self._queue(machine, partial(self._epilog, at_rest=True))
        elif machine.state is VmState.ACTIVE:
            self._terminate_active(machine, hard)
        return True

    def _terminate_active(self, machine: VirtualMachine, hard: bool) -> None:
        if machine.lcm_state in _UP or (hard and machine.modern and machine.lcm_state is LcmState.SHUTDOWN):
            self._queue(machine, partial(self._shut_down, LcmState.CANCEL if hard else LcmState.SHUTDOWN))
        elif machine.lcm_state.is_failure:
            if machine.modern:
                machine.epoch += 1
                self._clean_up(machine)
            else:
                self._queue(machine, self._clean_up)
        else:
            hint = f"Could not terminate VM {machine.id}, wrong state {machine.state_name}."
            raise wrong_state(f'Error performing action "{"terminate-hard" if hard else "terminate"}": {hint}')

    def _shut_down(self, how: LcmState, machine: VirtualMachine) -> None:
        machine.enter(VmState.ACTIVE, how)
        self._cloud.step(machine, self._cloud.delays.shutdown, self._epilog)

    def _epilog(self, machine: VirtualMachine, at_rest: bool = False) -> None:
        machine.enter(VmState.ACTIVE, LcmState.EPILOG)
        self._cloud.step(machine, self._cloud.delays.epilog, partial(self._done, at_rest=at_rest))

    def _clean_up(self, machine: VirtualMachine) -> None:
        machine.record(action=HistoryAction.DELETE)
        machine.enter(VmState.ACTIVE, LcmState.CLEANUP_DELETE)
        self._cloud.step(machine, self._cloud.delays.epilog, self._done)

    def _done(self, machine: VirtualMachine, at_rest: bool = False) -> None:
        self._deployment.forget(machine)
        if machine.history and not machine.history[-1].ended:
            self._off_host(machine, at_rest=at_rest)
        for nic in machine.nics:
            drop_nic(self._cloud, machine, nic, keep=True)
        for disk in machine.disks:
            drop_disk(self._cloud, machine, disk, keep=True)
        leave_groups(self._cloud, machine)
        machine.lock = None
        machine.ended = self._cloud.now()
        machine.enter(VmState.DONE)
        self._cloud.recharge(machine)
        machine.freeze()

    # -- recovery ---------------------------------------------------------------------------------------------------

    def recover(self, machine: VirtualMachine, operation: int) -> None:
        """Perform `one.vm.recover`: 0 fail, 1 succeed, 2 retry what failed, 3 delete."""
        failed = machine.state is VmState.ACTIVE and machine.lcm_state.is_failure
        delete, retry, succeed = 3, 2, 1
        if operation == delete and machine.state is not VmState.DONE:
            machine.epoch += 1
            self._done(machine)
        elif operation in (retry, succeed) and failed:
            machine.epoch += 1
            self._deployment.boot(machine)
        else:
            raise wrong_state(f"Recover action is not available for state {machine.state_name}")


def _unavailable(machine: VirtualMachine, action: str) -> Exception:
    reason = f"This action is not available for state {machine.state_name}"
    return wrong_state(f'Error performing action "{action}": {reason}')
