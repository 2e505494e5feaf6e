"""Deployment of machines: scheduling, prolog and boot, from PENDING to RUNNING."""

from __future__ import annotations

from econed.opennebula.states import ImageState, LcmState, VmState
from econed.sandbox.cloud import Cloud
from econed.sandbox.machines.configuration import derive_configuration
from econed.sandbox.machines.context import fill_context
from econed.sandbox.machines.devices import place_disks
from econed.sandbox.machines.nics import choose_networks
from econed.sandbox.machines.scheduler import PlacementFailed, choose_host, with_timestamp
from econed.sandbox.objects.history import HistoryAction, HistoryRecord
from econed.sandbox.objects.users import User
from econed.sandbox.objects.virtual_machines import VirtualMachine
from econed.sandbox.refusals import Refused


class Deployment:
    """Schedules machines and boots them on their hosts, as oned's dispatch manager does.

    With `fail_next` the next boot fails.
    """

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._unplaced: set[int] = set()
        self.fail_next = False

    def submit(self, machine: VirtualMachine) -> None:
        """Schedule a new machine, or put it on HOLD."""
        machine.set_state(VmState.HOLD if machine.on_hold else VmState.PENDING)
        if not machine.on_hold:
            self.schedule(machine)

    def images_ready(self, machine: VirtualMachine) -> None:
        """Submit a machine in CLONING when all its images have been copied, or fail it if one could not be."""
        images = (self._cloud.images.find(int(disk["IMAGE_ID"])) for disk in machine.disks if "IMAGE_ID" in disk)
        states = {image.state for image in images if image is not None}
        if ImageState.ERROR in states:
            machine.set_state(VmState.CLONING_FAILURE)
        elif not any(state.is_being_written for state in states):
            self._update_disks(machine)
            self.submit(machine)

    def _update_disks(self, machine: VirtualMachine) -> None:
        for disk in machine.disks:
            image = self._cloud.images.find(int(disk["IMAGE_ID"])) if "IMAGE_ID" in disk else None
            if image is not None:
                disk.update(SOURCE=image.source, IMAGE_STATE=str(int(image.state)))

    def schedule(self, machine: VirtualMachine) -> None:
        """Let the scheduler find a host for a PENDING machine."""
        self._cloud.continue_later(machine, self._cloud.delays.schedule, self._place)

    def reconsider(self) -> None:
        """Schedule the machines again for which no host was found."""
        for machine_id in sorted(self._unplaced):
            machine = self._cloud.vms.find(machine_id)
            if machine is not None and machine.state is VmState.PENDING:
                self.schedule(machine)

    def forget(self, machine: VirtualMachine) -> None:
        """Stop looking for a host for a machine."""
        self._unplaced.discard(machine.id)

    def _place(self, machine: VirtualMachine) -> None:
        if machine.state is not VmState.PENDING:
            return
        try:
            host = choose_host(self._cloud, machine)
            self._choose_networks(machine)
        except PlacementFailed as reason:
            self._unplaced.add(machine.id)
            machine.user_template.replace("SCHED_MESSAGE", with_timestamp(self._cloud, str(reason)))
            machine.invalidate()
            return
        self.forget(machine)
        machine.user_template.pop("SCHED_MESSAGE")
        self.deploy(machine, host.id)

    def _choose_networks(self, machine: VirtualMachine) -> None:
        if not machine.nic_ids_without_network:
            return
        try:
            choose_networks(self._cloud, machine)
        except Refused as refusal:
            raise PlacementFailed(f"[NIC] {refusal.text}") from refusal
        fill_context(self._cloud, machine)
        self._cloud.recount_usage(machine)

    def deploy(self, machine: VirtualMachine, host_id: int) -> None:
        """Put a machine on a host and begin its prolog."""
        host, now = self._cloud.hosts.get(host_id), self._cloud.now()
        host.add_machine(machine.id, machine.cpu, machine.memory)
        record = HistoryRecord(len(machine.history), host.id, host.name, host.cluster_id, now, prolog=(now, 0))
        machine.history.append(record)
        derive_configuration(machine)
        machine.set_state(VmState.ACTIVE, LcmState.PROLOG)
        machine.save_for_accounting()
        self._cloud.continue_later(machine, self._cloud.delays.prolog, self.boot)

    def boot(self, machine: VirtualMachine) -> None:
        """End the prolog of a machine and boot it."""
        now = self._cloud.now()
        machine.update_record(prolog=(machine.history[-1].prolog[0], now), running=(now, 0))
        self._prepare_disks(machine)
        machine.set_state(VmState.ACTIVE, LcmState.BOOT)
        self._cloud.continue_later(machine, self._cloud.delays.boot, self._booted)

    def _prepare_disks(self, machine: VirtualMachine) -> None:
        machine.template.replace("TM_MAD_SYSTEM", self._cloud.datastores.get(0).template.get("TM_MAD"))
        place_disks(self._cloud, machine, machine.disks)

    def _booted(self, machine: VirtualMachine) -> None:
        deploy_id = f"{machine.history[-1].host_name}:{machine.name}:dummy".split()[0]
        if self.fail_next:
            self.fail_next = False
            machine.user_template.replace("ERROR", with_timestamp(self._cloud, f"DEPLOY: {deploy_id}"))
            machine.stop_running(self._cloud.now())
            machine.set_state(VmState.ACTIVE, LcmState.BOOT_FAILURE)
            return
        machine.deploy_id = deploy_id
        if machine.history[-1].action is HistoryAction.RESUME:
            machine.update_record(action=HistoryAction.NONE, by=(-1, -1))
        machine.set_state(VmState.ACTIVE, LcmState.RUNNING)

    def boot_again(self, caller: User, machine: VirtualMachine) -> None:
        """Boot a machine in POWEROFF or SUSPENDED on the host where it is."""
        now, (started, ended) = self._cloud.now(), machine.history[-1].running
        machine.update_record(ended=now, running=(started, ended or now))
        machine.save_for_accounting()
        machine.next_record(now)
        machine.update_record(action=HistoryAction.RESUME, by=(caller.id, caller.gid))
        lcm_state = LcmState.BOOT_POWEROFF if machine.state is VmState.POWEROFF else LcmState.BOOT_SUSPENDED
        machine.set_state(VmState.ACTIVE, lcm_state)
        self._cloud.recount_usage(machine)
        self._cloud.continue_later(machine, self._cloud.delays.boot, self._booted)

    def run_immediately(self, machine: VirtualMachine) -> None:
        """Set a new machine RUNNING without any delay, to begin with a populated cloud."""
        machine.epoch += 1
        host, now = choose_host(self._cloud, machine), self._cloud.now()
        host.add_machine(machine.id, machine.cpu, machine.memory)
        record = HistoryRecord(0, host.id, host.name, host.cluster_id, now, prolog=(now, now), running=(now, 0))
        machine.history.append(record)
        machine.save_for_accounting()
        self._prepare_disks(machine)
        self._booted(machine)
