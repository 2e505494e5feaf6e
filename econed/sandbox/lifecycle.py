"""The life of a machine on the clock: which action is taken in which state, and what follows it when."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from econed.opennebula.states import ImageState, LcmState, VmState
from econed.sandbox.context import fill_context
from econed.sandbox.devices import choose_networks, deploy_disks, drop_disk, drop_nic, leave_groups
from econed.sandbox.refusals import Refused, wrong_state
from econed.sandbox.scheduler import Unplaced, choose, stamped
from econed.sandbox.vms import History, VirtualMachine

if TYPE_CHECKING:
    from econed.sandbox.state import Cloud
    from econed.sandbox.users import User

ACTIONS = {
    "undeploy": 5,
    "undeploy-hard": 6,
    "hold": 7,
    "release": 8,
    "stop": 9,
    "suspend": 10,
    "resume": 11,
    "reboot": 15,
    "reboot-hard": 16,
    "resched": 17,
    "unresched": 18,
    "poweroff": 19,
    "poweroff-hard": 20,
    "terminate": 27,
    "terminate-hard": 28,
}
"""oned's numbers of the actions that `one.vm.action` takes."""

_DELETE = 13
_MONITOR = 44
_AT_REST = (VmState.SUSPENDED, VmState.POWEROFF, VmState.STOPPED, VmState.UNDEPLOYED)
_UNPLACED = (VmState.INIT, VmState.PENDING, VmState.HOLD, VmState.CLONING, VmState.CLONING_FAILURE)
_UP = (LcmState.RUNNING, LcmState.UNKNOWN)


class Lifecycle:
    """Carries machines from state to state, as oned's dispatch and life cycle managers do."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._waiting: set[int] = set()
        self.fail_next_deployment = False

    # -- from being made to running ---------------------------------------------------------------------------------

    def submit(self, machine: VirtualMachine) -> None:
        """Let a new machine wait for the scheduler, or on HOLD."""
        machine.enter(VmState.HOLD if machine.on_hold else VmState.PENDING)
        if not machine.on_hold:
            self._schedule(machine)

    def images_ready(self, machine: VirtualMachine) -> None:
        """Go on with a machine whose images were being copied; fail it where one could not be."""
        found = (self._cloud.images.find(int(disk["IMAGE_ID"])) for disk in machine.disks if "IMAGE_ID" in disk)
        states = {image.state for image in found if image is not None}
        if ImageState.ERROR in states:
            machine.enter(VmState.CLONING_FAILURE)
        elif not any(state.is_being_written for state in states):
            self._refill(machine)
            self.submit(machine)

    def _refill(self, machine: VirtualMachine) -> None:
        for disk in machine.disks:
            image = self._cloud.images.find(int(disk["IMAGE_ID"])) if "IMAGE_ID" in disk else None
            if image is not None:
                disk.update(SOURCE=image.source, IMAGE_STATE=str(int(image.state)))

    def _after(self, machine: VirtualMachine, delay: float, step: Callable[[VirtualMachine], None]) -> None:
        epoch = machine.epoch

        def go_on() -> None:
            if machine.epoch == epoch:
                step(machine)

        self._cloud.later(delay, go_on)

    def _schedule(self, machine: VirtualMachine) -> None:
        self._after(machine, self._cloud.delays.schedule, self._place)

    def reconsider(self) -> None:
        """Look again at the machines that no host could take."""
        for number in sorted(self._waiting):
            machine = self._cloud.vms.find(number)
            if machine is not None and machine.state is VmState.PENDING:
                self._schedule(machine)

    def _place(self, machine: VirtualMachine) -> None:
        if machine.state is not VmState.PENDING:
            return
        try:
            host = choose(self._cloud, machine)
            self._choose_networks(machine)
        except Unplaced as reason:
            self._waiting.add(machine.id)
            machine.user_template.replace("SCHED_MESSAGE", stamped(self._cloud, str(reason)))
            machine.changed()
            return
        self._waiting.discard(machine.id)
        machine.user_template.pop("SCHED_MESSAGE")
        self.deploy(machine, host.id)

    def _choose_networks(self, machine: VirtualMachine) -> None:
        if not machine.without_network:
            return
        try:
            choose_networks(self._cloud, machine)
        except Refused as refusal:
            raise Unplaced(f"[NIC] {refusal.text}") from refusal
        fill_context(machine, self._cloud)
        machine.recharge(self._cloud)

    def deploy(self, machine: VirtualMachine, host_id: int) -> None:
        """Put a machine on a host and begin its prolog."""
        host, now = self._cloud.hosts.get(host_id), self._cloud.now()
        host.take(machine.id, machine.cpu, machine.memory)
        fresh = History(len(machine.history), host.id, host.name, host.cluster, now, prolog=(now, 0))
        machine.history.append(fresh)
        machine.enter(VmState.ACTIVE, LcmState.PROLOG)
        machine.freeze()
        self._after(machine, self._cloud.delays.prolog, self._boot)

    def _boot(self, machine: VirtualMachine) -> None:
        now = self._cloud.now()
        machine.record(prolog=(machine.history[-1].prolog[0], now), running=(now, 0))
        machine.template.replace("TM_MAD_SYSTEM", self._cloud.datastores.get(0).template.get("TM_MAD"))
        deploy_disks(self._cloud, machine, machine.disks)
        machine.enter(VmState.ACTIVE, LcmState.BOOT)
        self._after(machine, self._cloud.delays.boot, self._booted)

    def _booted(self, machine: VirtualMachine) -> None:
        deploy_id = f"{machine.history[-1].host_name}:{machine.name}:dummy"
        if self.fail_next_deployment:
            self.fail_next_deployment = False
            machine.user_template.replace("ERROR", stamped(self._cloud, f"DEPLOY: {deploy_id}"))
            self._came_to_rest(machine)
            machine.enter(VmState.ACTIVE, LcmState.BOOT_FAILURE)
            return
        machine.deploy_id = deploy_id
        if machine.history[-1].action == ACTIONS["resume"]:
            machine.record(action=0, by=(-1, -1))
        machine.enter(VmState.ACTIVE, LcmState.RUNNING)

    def run_at_once(self, machine: VirtualMachine) -> None:
        """Let a machine that has just been made run, without the time that it takes; for clouds that begin full."""
        machine.epoch += 1
        host, now = choose(self._cloud, machine), self._cloud.now()
        host.take(machine.id, machine.cpu, machine.memory)
        machine.history.append(History(0, host.id, host.name, host.cluster, now, prolog=(now, now), running=(now, 0)))
        machine.freeze()
        machine.template.replace("TM_MAD_SYSTEM", self._cloud.datastores.get(0).template.get("TM_MAD"))
        deploy_disks(self._cloud, machine, machine.disks)
        self._booted(machine)

    def plug(self, machine: VirtualMachine, running: LcmState, at_rest: LcmState, then: Callable[[], None]) -> None:
        """Keep a machine in a hot-plug state for a moment, in `running` or `at_rest`; `then` it is as before."""
        before = machine.state
        machine.epoch += 1
        machine.enter(VmState.ACTIVE, running if before is VmState.ACTIVE else at_rest)

        def done(_: VirtualMachine) -> None:
            machine.enter(before, LcmState.RUNNING if before is VmState.ACTIVE else LcmState.LCM_INIT)
            then()
            machine.changed()

        self._after(machine, self._cloud.delays.hotplug, done)

    # -- actions ----------------------------------------------------------------------------------------------------

    def act(self, machine: VirtualMachine, action: str, by: User) -> None:
        """Perform an action of `one.vm.action`; refuses (2048) what the state does not allow."""
        if action not in ACTIONS:
            raise wrong_state(f'Action "{action}" is not supported')
        kind, hard = action.removesuffix("-hard"), action.endswith("-hard")
        handlers: dict[str, Callable[[VirtualMachine, bool, User], bool]] = {
            "terminate": self._terminate,
            "poweroff": partial(self._power_off),
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
            machine.record(action=_DELETE if failed else ACTIONS[action], by=(by.id, by.gid))

    def _is_up(self, machine: VirtualMachine) -> bool:
        return machine.state is VmState.ACTIVE and machine.lcm_state in _UP

    def _queue(self, machine: VirtualMachine, step: Callable[[VirtualMachine], None]) -> bool:
        machine.epoch += 1
        self._after(machine, self._cloud.delays.queue, step)
        return True

    def _power_off(self, machine: VirtualMachine, hard: bool, _by: User) -> bool:
        return self._is_up(machine) and self._queue(machine, self._shut_down_to_power_off)

    def _shut_down_to_power_off(self, machine: VirtualMachine) -> None:
        machine.enter(VmState.ACTIVE, LcmState.SHUTDOWN_POWEROFF)
        self._after(machine, self._cloud.delays.shutdown, self._powered_off)

    def found_off(self, machine: VirtualMachine) -> None:
        """Take note that a running machine was shut down from inside, as oned's monitoring does."""
        machine.record(action=_MONITOR, by=(-1, -1))
        self._shut_down_to_power_off(machine)

    def _powered_off(self, machine: VirtualMachine) -> None:
        self._came_to_rest(machine)
        machine.enter(VmState.POWEROFF)
        machine.recharge(self._cloud)

    def _came_to_rest(self, machine: VirtualMachine) -> None:
        """Record when a machine stopped running on its host, which oned does from 6.0 on."""
        if machine.modern:
            machine.record(running=(machine.history[-1].running[0], self._cloud.now()))

    def _suspend(self, machine: VirtualMachine, _hard: bool, _by: User) -> bool:
        return self._is_up(machine) and self._queue(machine, self._save)

    def _save(self, machine: VirtualMachine) -> None:
        machine.enter(VmState.ACTIVE, LcmState.SAVE_SUSPEND)
        self._after(machine, self._cloud.delays.shutdown, self._suspended)

    def _suspended(self, machine: VirtualMachine) -> None:
        self._came_to_rest(machine)
        machine.enter(VmState.SUSPENDED)
        machine.recharge(self._cloud)

    def _leave_host(
        self, state: VmState, shutting: LcmState, epilog: LcmState, machine: VirtualMachine, hard: bool, by: User
    ) -> bool:
        allowed = VmState.POWEROFF if state is VmState.UNDEPLOYED else VmState.SUSPENDED
        if not self._is_up(machine) and machine.state is not allowed:
            return False
        at_rest = machine.state is allowed
        if at_rest:
            name = "stop" if state is VmState.STOPPED else "undeploy-hard" if hard else "undeploy"
            machine.record(action=ACTIONS[name], by=(by.id, by.gid))

        def gone(_: VirtualMachine) -> None:
            self._off_host(machine, at_rest=at_rest)
            machine.enter(state)
            machine.recharge(self._cloud)

        def put_away(_: VirtualMachine) -> None:
            machine.enter(VmState.ACTIVE, epilog)
            self._after(machine, self._cloud.delays.epilog, gone)

        def shut(_: VirtualMachine) -> None:
            machine.enter(VmState.ACTIVE, shutting)
            self._after(machine, self._cloud.delays.shutdown, put_away)

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
        self.reconsider()

    def _reboot(self, machine: VirtualMachine, _hard: bool, _by: User) -> bool:
        return machine.state is VmState.ACTIVE and machine.lcm_state is LcmState.RUNNING

    def _reschedule(self, machine: VirtualMachine, _hard: bool, _by: User) -> bool:
        return self._is_up(machine) or machine.state is VmState.POWEROFF

    def _hold(self, machine: VirtualMachine, _hard: bool, _by: User) -> bool:
        if machine.state is not VmState.PENDING:
            return False
        machine.epoch += 1
        machine.enter(VmState.HOLD)
        machine.recharge(self._cloud)
        return True

    def _release(self, machine: VirtualMachine, _hard: bool, _by: User) -> bool:
        if machine.state is not VmState.HOLD:
            return False
        machine.enter(VmState.PENDING)
        machine.recharge(self._cloud)
        self._schedule(machine)
        return True

    def _resume(self, machine: VirtualMachine, _hard: bool, by: User) -> bool:
        if machine.state in (VmState.STOPPED, VmState.UNDEPLOYED):
            machine.epoch += 1
            machine.enter(VmState.PENDING)
            machine.recharge(self._cloud)
            self._schedule(machine)
            return True
        if machine.state in (VmState.POWEROFF, VmState.SUSPENDED):
            return self._queue(machine, partial(self._boot_again, by))
        return machine.state is VmState.ACTIVE and machine.lcm_state is LcmState.UNKNOWN

    def _boot_again(self, by: User, machine: VirtualMachine) -> None:
        now, (began, end) = self._cloud.now(), machine.history[-1].running
        machine.record(ended=now, running=(began, end or now))
        machine.freeze()
        self.next_record(machine)
        machine.record(action=ACTIONS["resume"], by=(by.id, by.gid))
        again = LcmState.BOOT_POWEROFF if machine.state is VmState.POWEROFF else LcmState.BOOT_SUSPENDED
        machine.enter(VmState.ACTIVE, again)
        machine.recharge(self._cloud)
        self._after(machine, self._cloud.delays.boot, self._booted)

    def next_record(self, machine: VirtualMachine, action: int = 0) -> None:
        """Open a history record on the same host, as after a hot-plug or a start."""
        now, last = self._cloud.now(), machine.history[-1]
        fresh = History(len(machine.history), last.host, last.host_name, last.cluster, now, running=(now, 0))
        machine.history.append(fresh)
        machine.record(action=action)
        machine.freeze()

    def _terminate(self, machine: VirtualMachine, hard: bool, by: User) -> bool:
        if machine.state in _UNPLACED:
            machine.epoch += 1
            self._done(machine)
        elif machine.state in _AT_REST:
            machine.record(action=ACTIONS["terminate"], by=(by.id, by.gid))
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
        self._after(machine, self._cloud.delays.shutdown, self._epilog)

    def _epilog(self, machine: VirtualMachine, at_rest: bool = False) -> None:
        machine.enter(VmState.ACTIVE, LcmState.EPILOG)
        self._after(machine, self._cloud.delays.epilog, partial(self._done, at_rest=at_rest))

    def _clean_up(self, machine: VirtualMachine) -> None:
        machine.record(action=_DELETE)
        machine.enter(VmState.ACTIVE, LcmState.CLEANUP_DELETE)
        self._after(machine, self._cloud.delays.epilog, self._done)

    def _done(self, machine: VirtualMachine, at_rest: bool = False) -> None:
        self._waiting.discard(machine.id)
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
        machine.recharge(self._cloud)
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
            self._boot(machine)
        else:
            raise wrong_state(f"Recover action is not available for state {machine.state_name}")


def _unavailable(machine: VirtualMachine, action: str) -> Exception:
    reason = f"This action is not available for state {machine.state_name}"
    return wrong_state(f'Error performing action "{action}": {reason}')
