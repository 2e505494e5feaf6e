"""The calls on virtual machines that neither plug devices nor list pools."""

from __future__ import annotations

from econed.opennebula.states import LcmState, VmState
from econed.sandbox.calls.declaration import serves
from econed.sandbox.cloud import Cloud
from econed.sandbox.machines.assembly import Assembly
from econed.sandbox.machines.context import fill_context
from econed.sandbox.machines.deployment import Deployment
from econed.sandbox.machines.hot_plug import plug
from econed.sandbox.machines.lifecycle import Lifecycle
from econed.sandbox.machines.restrictions import demand_unrestricted, vm_restricted
from econed.sandbox.objects.base import Kind, Right, demand_name
from econed.sandbox.objects.history import HistoryAction
from econed.sandbox.objects.users import User
from econed.sandbox.objects.virtual_machines import VirtualMachine
from econed.sandbox.refusals import internal, wrong_state
from econed.sandbox.template import Template

_CONFIGURABLE = ("OS", "FEATURES", "INPUT", "GRAPHICS", "VIDEO", "RAW", "CPU_MODEL")
_UNCONFIGURABLE = (VmState.INIT, VmState.DONE, VmState.SUSPENDED, VmState.STOPPED)
_ADMIN_ACTIONS = ("resched", "unresched")


class VmCalls:
    """`one.vm.*`, as far as it is about the machine as a whole."""

    def __init__(self, cloud: Cloud, deployment: Deployment, lifecycle: Lifecycle, assembly: Assembly) -> None:
        self._cloud = cloud
        self._deployment = deployment
        self._lifecycle = lifecycle
        self._assembly = assembly

    def _vm(self, caller: User, number: int, right: Right = Right.MANAGE) -> VirtualMachine:
        return self._cloud.demand(caller, right, self._cloud.vms, number)

    @serves("one.vm.allocate", str, optional=(bool,))
    def allocate(self, caller: User, text: str, on_hold: bool = False) -> int:
        """Make a machine without a template of the pool."""
        template = self._cloud.read(text)
        demand_unrestricted(self._cloud.version, caller, template)
        self._cloud.rights.demand(caller, Right.CREATE, Kind.VM, None)
        template.pop("TEMPLATE_NAME")
        return self._assembly.make(caller, template, template.get("NAME"), on_hold=on_hold).id

    @serves("one.vm.info", int, optional=(bool,))
    def info(self, caller: User, number: int, _decrypt: bool = False) -> str:
        """Show a machine."""
        return self._cloud.demand(caller, Right.USE, self._cloud.vms, number, locks=False).info_xml()

    @serves("one.vm.action", str, int)
    def action(self, caller: User, action: str, number: int) -> int:
        """Do what `Lifecycle.act` does."""
        machine = self._vm(caller, number, Right.ADMIN if action in _ADMIN_ACTIONS else Right.MANAGE)
        self._lifecycle.act(machine, action, caller)
        return number

    @serves("one.vm.update", int, str, optional=(int,))
    def update(self, caller: User, number: int, text: str, append: int = 0) -> int:
        """Replace a machine's user attributes (0), or merge into them (1)."""
        machine = self._vm(caller, number)
        restricted = vm_restricted(self._cloud.version)
        machine.user_template = self._cloud.updated(caller, machine.user_template, text, append, restricted)
        machine.changed()
        self._deployment.reconsider()
        return number

    @serves("one.vm.rename", int, str)
    def rename(self, caller: User, number: int, name: str) -> int:
        """Rename a machine; names of machines need not be unique."""
        machine = self._vm(caller, number)
        machine.name = demand_name(name)
        machine.changed()
        return number

    @serves("one.vm.resize", int, str, bool)
    def resize(self, caller: User, number: int, text: str, _enforce: bool) -> int:
        """Change CPU, MEMORY and VCPU of a machine that does not run; the dummy driver cannot while it runs."""
        machine = self._vm(caller, number)
        template = self._cloud.read(text)
        demand_unrestricted(self._cloud.version, caller, template)
        wanted = _capacity(template)
        if machine.state is VmState.ACTIVE and machine.lcm_state is LcmState.RUNNING and machine.modern:
            raise wrong_state("Hotplug resize not supported by driver dummy")
        if machine.state not in (VmState.POWEROFF, VmState.UNDEPLOYED, VmState.PENDING, VmState.HOLD, VmState.INIT):
            raise wrong_state(f"Cannot resize a VM in state {machine.state_name}")
        host = self._cloud.hosts.find(machine.history[-1].host) if machine.history else None
        on_host = host is not None and machine.id in host.vms
        if host is not None and on_host:
            host.give_back(machine.id, machine.cpu, machine.memory)
        for name, value in wanted.items():
            machine.template.replace(name, value)
        if host is not None and on_host:
            host.take(machine.id, machine.cpu, machine.memory)
        machine.changed()
        self._cloud.recharge(machine)
        self._close_record(machine, caller)
        return number

    def _close_record(self, machine: VirtualMachine, caller: User) -> None:
        if machine.modern and machine.state is VmState.POWEROFF and machine.history:
            before, now = machine.history[-1], self._cloud.now()
            machine.record(action=HistoryAction.RESIZE, by=(caller.id, caller.gid), ended=now)
            machine.next_record(now, before.action)
            machine.record(running=(now, now))

    @serves("one.vm.updateconf", int, str, optional=(int,))
    def updateconf(self, caller: User, number: int, text: str, append: int = 0) -> int:
        """Change OS, FEATURES, INPUT, GRAPHICS, RAW and CONTEXT: vectors are replaced (0) or, in 7.x, merged (1)."""
        machine = self._vm(caller, number)
        if machine.state in _UNCONFIGURABLE or (
            machine.state is VmState.ACTIVE and machine.lcm_state is not LcmState.RUNNING
        ):
            raise internal(f"configuration cannot be updated in state {machine.state_name}")
        template = self._cloud.read(text)
        demand_unrestricted(self._cloud.version, caller, template)
        merging = machine.modern and append == 1
        for name in _CONFIGURABLE:
            self._replace_vector(machine.template, template, name, append=merging)
        contexts = template.vectors("CONTEXT")
        if contexts:
            if machine.context is None:
                raise internal("Virtual machine does not have context, cannot add a new one.")
            kept = machine.context_asked
            machine.context_asked = {**kept, **contexts[0]} if merging else contexts[0]
            fill_context(machine, self._cloud)
        machine.changed()
        if machine.state is VmState.ACTIVE:
            plug(self._cloud, machine, LcmState.HOTPLUG, LcmState.HOTPLUG, machine.changed)
        return number

    @staticmethod
    def _replace_vector(held: Template, sent: Template, name: str, *, append: bool) -> None:
        vectors = sent.vectors(name)
        if vectors:
            before = held.vectors(name)
            held.replace(name, {**(before[0] if before and append else {}), **vectors[0]})

    @serves("one.vm.recover", int, int)
    def recover(self, caller: User, number: int, operation: int) -> int:
        """Do what `Lifecycle.recover` does; it wants ADMIN rights."""
        self._lifecycle.recover(self._vm(caller, number, Right.ADMIN), operation)
        return number

    @serves("one.vm.deploy", int, int, optional=(bool, int, str))
    def deploy(self, caller: User, number: int, host: int, *_further: object) -> int:
        """Put a PENDING or HOLD machine on a host."""
        machine = self._vm(caller, number, Right.ADMIN)
        self._cloud.demand(caller, Right.MANAGE, self._cloud.hosts, host)
        if machine.state not in (VmState.PENDING, VmState.HOLD):
            raise wrong_state("Deploy action is not available for state " + machine.state_name)
        machine.epoch += 1
        self._deployment.deploy(machine, host)
        return number


def _capacity(template: Template) -> dict[str, str]:
    wanted = {name: template.get(name) for name in ("CPU", "MEMORY", "VCPU") if template.get(name)}
    for name, value in wanted.items():
        try:
            positive = float(value) > 0 if name == "CPU" else int(value) > 0
        except ValueError:
            positive = False
        if not positive:
            raise internal(f"{name} must be a positive number")
    return wanted
