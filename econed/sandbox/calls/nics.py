"""The calls that attach NICs to machines and detach them."""

from __future__ import annotations

from econed.opennebula.states import LcmState
from econed.sandbox.calls.declaration import serves
from econed.sandbox.cloud import Cloud
from econed.sandbox.machines.context import fill_context
from econed.sandbox.machines.devices import authorize, resolve
from econed.sandbox.machines.hot_plug import is_pluggable, plug, record_change
from econed.sandbox.machines.nics import add_alias, add_nic, release_nic
from econed.sandbox.machines.restrictions import check_restricted_attributes
from econed.sandbox.objects.base import Right
from econed.sandbox.objects.history import HistoryAction
from econed.sandbox.objects.users import User
from econed.sandbox.objects.virtual_machines import VirtualMachine
from econed.sandbox.quotas import Charge
from econed.sandbox.refusals import wrong_state


class NicCalls:
    """`one.vm.attachnic`, `one.vm.detachnic`."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    def _managed(self, caller: User, vm_id: int) -> VirtualMachine:
        return self._cloud.get_authorized(caller, Right.MANAGE, self._cloud.vms, vm_id)

    @serves("one.vm.attachnic", int, str)
    def attach_nic(self, caller: User, vm_id: int, text: str) -> int:
        """Attach the first NIC of a text, or its first alias if it has no NIC."""
        cloud = self._cloud
        machine = self._managed(caller, vm_id)
        template = cloud.parse(text)
        check_restricted_attributes(cloud.version, caller, template)
        devices = resolve(cloud, caller, nics=template.vectors("NIC")[:1], aliases=template.vectors("NIC_ALIAS")[:1])
        authorize(cloud, caller, devices)
        if not is_pluggable(machine):
            raise wrong_state(f"Could not add a new NIC to VM {vm_id}, wrong state {machine.state_name}.")
        if not devices.nics and not devices.aliases:
            raise wrong_state("Wrong format or missing NIC/NIC_ALIAS attribute")
        is_alias = not devices.nics
        requested, network = (*devices.nics, *devices.aliases)[0]
        if network is not None:
            charge = Charge("NETWORK", str(network.id), {"LEASES": 1})
            cloud.charge(caller, machine.gid, [charge], uid=machine.uid)
            cloud.count_usage(machine.uid, machine.gid, [charge], -1)
        nic = add_alias(machine, requested, network) if is_alias else add_nic(cloud, machine, requested, network)
        nic["ATTACH"] = "YES"
        fill_context(cloud, machine)
        record_change(cloud, machine, caller, HistoryAction.ALIAS_ATTACH if is_alias else HistoryAction.NIC_ATTACH)
        cloud.recount_usage(machine)

        def attached() -> None:
            nic.pop("ATTACH", None)

        plug(self._cloud, machine, LcmState.HOTPLUG_NIC, LcmState.HOTPLUG_NIC_POWEROFF, attached)
        return vm_id

    @serves("one.vm.detachnic", int, int)
    def detach_nic(self, caller: User, vm_id: int, nic_id: int) -> int:
        """Detach a NIC with its aliases, or an alias, and release the addresses."""
        machine = self._managed(caller, vm_id)
        if not is_pluggable(machine):
            raise wrong_state(f"Could not detach NIC from VM {vm_id}, wrong state {machine.state_name}.")
        nic = machine.nic(nic_id)
        if nic is None:
            raise wrong_state(f"Could not detach NIC with NIC_ID {nic_id}, it does not exist.")
        nic["ATTACH"] = "YES"
        is_alias = nic in machine.aliases
        action = HistoryAction.ALIAS_DETACH if is_alias else HistoryAction.NIC_DETACH
        record_change(self._cloud, machine, caller, action)

        def detached() -> None:
            release_nic(self._cloud, machine, nic)
            fill_context(self._cloud, machine)
            self._cloud.recount_usage(machine)

        plug(self._cloud, machine, LcmState.HOTPLUG_NIC, LcmState.HOTPLUG_NIC_POWEROFF, detached)
        return vm_id
