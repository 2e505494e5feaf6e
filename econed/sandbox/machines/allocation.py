"""Allocation of machines from templates (oned: `VirtualMachine::insert`)."""

from __future__ import annotations

import math
import uuid

from econed.opennebula.states import VmState
from econed.sandbox.cloud import Cloud
from econed.sandbox.machines.affinity import authorize_vm_group, join_vm_group
from econed.sandbox.machines.configuration import derive_configuration
from econed.sandbox.machines.context import fill_context
from econed.sandbox.machines.deployment import Deployment
from econed.sandbox.machines.devices import (
    RequestedDevices,
    add_disk,
    assign_target,
    authorize,
    free_target,
    release_devices,
    resolve,
)
from econed.sandbox.machines.nics import add_alias, add_nic
from econed.sandbox.objects.base import name_error
from econed.sandbox.objects.images import Image
from econed.sandbox.objects.networks import is_automatic
from econed.sandbox.objects.users import User
from econed.sandbox.objects.virtual_machines import VirtualMachine
from econed.sandbox.quotas import Charge, capacity_amounts
from econed.sandbox.refusals import Refused, not_allocated
from econed.sandbox.template import Template, Vector

_MACHINE_ATTRIBUTES = frozenset(
    (
        *("CPU", "VCPU", "VCPU_MAX", "MEMORY", "MEMORY_MAX", "MEMORY_SLOTS", "MEMORY_RESIZE_MODE", "OS", "FEATURES"),
        *("GRAPHICS", "VIDEO", "INPUT", "RAW", "PCI", "TOPOLOGY", "NUMA_NODE", "CPU_MODEL", "VMGROUP", "NIC_DEFAULT"),
        *("TEMPLATE_ID", "CLONING_TEMPLATE_ID", "CPU_COST", "MEMORY_COST", "DISK_COST", "EMULATOR"),
        *("SUBMIT_ON_HOLD", "VROUTER_ID", "TPM", "SCHED_ACTION", "SNAPSHOT", "SPICE_OPTIONS"),
    )
)
_FAILED = "Error allocating a new virtual machine template. "


class MachineAllocator:
    """Allocates machines: checks rights and quotas, acquires addresses and images, sets the context.

    An allocation that is refused leaves nothing.
    """

    def __init__(self, cloud: Cloud, deployment: Deployment) -> None:
        self._cloud = cloud
        self._deployment = deployment

    def allocate(
        self,
        caller: User,
        template: Template,
        name: str,
        *,
        on_hold: bool,
        start: bool = True,
        checks_image_ids: bool = True,
    ) -> VirtualMachine:
        """Allocate a machine of `template`, which is consumed, and submit it.

        With `start=False` it stays PENDING without being scheduled. For `checks_image_ids` see `authorize`.
        """
        cloud = self._cloud
        stored = template.stored()
        if stored is None:
            raise not_allocated(f"{_FAILED}Error transforming the VM to XML.")
        template = stored
        devices = resolve(
            cloud, caller, template.vectors("DISK"), template.vectors("NIC"), template.vectors("NIC_ALIAS")
        )
        authorize(cloud, caller, devices, checks_image_ids=checks_image_ids)
        authorize_vm_group(cloud, caller, template)
        _check_capacity(template)
        charges = self._charges(template, devices)
        cloud.charge(caller, caller.gid, charges)
        try:
            machine = self._create(caller, template, name, devices, on_hold=on_hold)
        except Refused as refusal:
            cloud.count_usage(caller.id, caller.gid, charges, -1)
            text = refusal.text if refusal.text.startswith(_FAILED) else _FAILED + refusal.text
            raise not_allocated(text) from refusal
        machine.charges = charges
        cloud.vms.add(machine)
        if start:
            self._start(machine)
        return machine

    def _charges(self, template: Template, devices: RequestedDevices) -> list[Charge]:
        """Return the usage of a new machine, in the order in which oned checks it."""
        leases: dict[int, int] = {}
        for _, network in (*devices.nics, *devices.aliases):
            if network is not None:
                leases[network.id] = leases.get(network.id, 0) + 1
        charges = [Charge("NETWORK", str(network_id), {"LEASES": count}) for network_id, count in leases.items()]
        cpu, memory = float(template.get("CPU")), float(template.get("MEMORY"))
        disk_size = float(sum(_system_disk_size(*pair) for pair in devices.disks))
        charges.append(Charge("VM", "", capacity_amounts(cpu, memory, disk_size, is_running=True)))
        charges += [Charge("IMAGE", str(image.id), {"RVMS": 1}) for _, image in devices.disks if image is not None]
        return charges

    def _create(
        self, caller: User, template: Template, name: str, devices: RequestedDevices, *, on_hold: bool
    ) -> VirtualMachine:
        cloud = self._cloud
        reason = name_error(name) if name else ""
        if reason:
            raise not_allocated(reason)
        vm_id = cloud.vms.allocate_id()
        machine = VirtualMachine(vm_id, caller.id, caller.gid, caller.name, caller.gname, name)
        machine.is_v7, machine.on_hold, machine.started = cloud.version.is_v7, on_hold, cloud.now()
        machine.name = name or f"{template.get('TEMPLATE_NAME', 'one')}-{vm_id}"
        try:
            self._fill(machine, template, devices)
            join_vm_group(cloud, caller, machine)
        except Refused:
            release_devices(cloud, machine)
            cloud.vms.release_id(vm_id)
            raise
        return machine

    def _fill(self, machine: VirtualMachine, template: Template, devices: RequestedDevices) -> None:
        for name in ("TEMPLATE_NAME", "NAME", "DISK", "NIC", "NIC_ALIAS"):
            template.pop(name)
        contexts = template.pop("CONTEXT")
        for name, value in template:
            (machine.template if name in _MACHINE_ATTRIBUTES else machine.user_template).add(name, value)
        self._add_devices(machine, devices)
        self._derive(machine)
        targets = [disk["TARGET"] for disk in machine.disks if disk.get("TARGET")]
        if len(set(targets)) < len(targets):
            raise not_allocated("Two disks have defined the same target.")
        for disk in machine.disks:
            assign_target(machine, disk)
        if contexts and isinstance(contexts[0], dict) and contexts[0]:
            self._add_context(machine, contexts[0])
        derive_configuration(machine)

    def _add_devices(self, machine: VirtualMachine, devices: RequestedDevices) -> None:
        cloud = self._cloud
        for nic, network in devices.nics:
            if network is not None and is_automatic(nic):  # the scheduler chooses its network later
                cluster_ids = ",".join(str(cluster_id) for cluster_id in sorted(network.cluster_ids))
                add_nic(cloud, machine, {**nic, "CLUSTER_ID": cluster_ids}, None)
            else:
                add_nic(cloud, machine, nic, network)
        for alias, network in devices.aliases:
            _check_alias(machine, alias)
            add_alias(machine, alias, network)
        for order, (disk, image) in enumerate(devices.disks):
            try:
                add_disk(cloud, machine, disk, image)
            except Refused as refusal:
                raise not_allocated(f"DISK {order}: {refusal.text}") from refusal

    def _add_context(self, machine: VirtualMachine, requested: dict[str, str]) -> None:
        machine.requested_context = dict(requested)
        machine.context = {"DISK_ID": str(machine.next_disk_id)}
        machine.context["TARGET"] = requested.get("TARGET") or free_target(machine, requested.get("DEV_PREFIX", "hd"))
        machine.next_disk_id += 1
        fill_context(self._cloud, machine)

    def _derive(self, machine: VirtualMachine) -> None:
        """Set the attributes that oned derives from the machine and its clusters."""
        template = machine.template
        template.replace("VMID", str(machine.id))
        if machine.on_hold:
            template.replace("SUBMIT_ON_HOLD", "YES")
        if machine.is_v7:
            systems = template.vectors("OS")
            template.replace("OS", {**(systems[0] if systems else {}), "UUID": str(uuid.uuid4())})
        requirements = [] if machine.is_v7 else ["!(PUBLIC_CLOUD = YES)"]
        requirements.append("!(PIN_POLICY = PINNED)")
        if machine.disks or machine.nics:
            self._limit_to_clusters(machine, requirements)
        template.replace("AUTOMATIC_REQUIREMENTS", " & ".join(requirements))

    def _limit_to_clusters(self, machine: VirtualMachine, requirements: list[str]) -> None:
        """Limit a machine to the clusters that all disks and NICs are in; without both it can run in every cluster."""
        template, cluster_ids = machine.template, self._common_clusters(machine)
        requirements.insert(0, f"({' | '.join(f'CLUSTER_ID = {cluster_id}' for cluster_id in cluster_ids)})")
        shares_cluster = " | ".join(f'"CLUSTERS/ID" @> {cluster_id}' for cluster_id in cluster_ids)
        template.replace("AUTOMATIC_DS_REQUIREMENTS", f"({shares_cluster})")
        template.replace("AUTOMATIC_NIC_REQUIREMENTS", f"({shares_cluster})")

    def _common_clusters(self, machine: VirtualMachine) -> list[int]:
        """Return the ids of the clusters that all disks and NICs are in."""
        common = {cluster.id for cluster in self._cloud.clusters}
        disks = [disk for disk in machine.disks if "IMAGE_ID" in disk]
        for device in (*disks, *machine.connected_nics):
            if device.get("CLUSTER_ID"):
                common &= {int(cluster_id) for cluster_id in device["CLUSTER_ID"].split(",")}
        if not common:
            raise not_allocated("Incompatible clusters for the machine's disks and NICs.")
        return sorted(common)

    def _start(self, machine: VirtualMachine) -> None:
        machine.on_images_ready = self._deployment.images_ready
        images = [self._cloud.images.get(int(disk["IMAGE_ID"])) for disk in machine.disks if "IMAGE_ID" in disk]
        if any(image.state.is_being_written for image in images):
            machine.set_state(VmState.CLONING)
        else:
            self._deployment.submit(machine)


def _check_alias(machine: VirtualMachine, alias: Vector) -> None:
    """Refuse an automatic alias, and an alias of a NIC that does not exist or is automatic."""
    if is_automatic(alias):
        raise not_allocated("Alias is incompatible with auto mode")
    name = alias.get("PARENT", "")
    if not any(nic["NAME"] == name and not is_automatic(nic) for nic in machine.nics):
        raise not_allocated(f"NIC named {name} not found for alias")


def _system_disk_size(disk: Vector, image: Image | None) -> int:
    """Return the space in MB that a disk takes in the system datastore: none if its image is persistent."""
    if image is not None and image.is_persistent:
        return 0
    size = disk.get("SIZE", "")
    return int(size) if size.isdigit() else image.size if image is not None else 0


def _check_capacity(template: Template) -> None:
    try:
        cpu, memory = float(template.get("CPU")), int(template.get("MEMORY"))
    except ValueError:
        cpu, memory = 0, 0
    if not 0 < cpu < math.inf:
        raise not_allocated(f"{_FAILED}CPU attribute must be a positive float or integer value.")
    if memory <= 0:
        raise not_allocated(f"{_FAILED}MEMORY attribute must be a positive integer value.")
    vcpu = template.get("VCPU")
    if vcpu and (not vcpu.isdigit() or int(vcpu) < 1):
        raise not_allocated(f"{_FAILED}VCPU attribute must be a positive integer value.")
