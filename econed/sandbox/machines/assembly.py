"""How a machine is made of a template: what oned's `VirtualMachine::insert` does."""

from __future__ import annotations

import math
import uuid

from econed.opennebula.states import VmState
from econed.sandbox.cloud import Cloud
from econed.sandbox.machines.context import fill_context
from econed.sandbox.machines.deployment import Deployment
from econed.sandbox.machines.devices import (
    Asked,
    add_disk,
    add_nic,
    assign_target,
    authorize,
    free_target,
    resolve,
    undo,
)
from econed.sandbox.objects.base import check_name
from econed.sandbox.objects.images import Image
from econed.sandbox.objects.networks import is_automatic
from econed.sandbox.objects.users import User
from econed.sandbox.objects.virtual_machines import VirtualMachine
from econed.sandbox.quotas import Charge
from econed.sandbox.refusals import Refused, not_allocated
from econed.sandbox.template import Template, Vector

_MACHINE_ATTRIBUTES = frozenset(
    (
        *("CPU", "VCPU", "VCPU_MAX", "MEMORY", "MEMORY_MAX", "MEMORY_SLOTS", "MEMORY_RESIZE_MODE", "OS", "FEATURES"),
        *("GRAPHICS", "VIDEO", "INPUT", "RAW", "PCI", "TOPOLOGY", "NUMA_NODE", "CPU_MODEL", "VMGROUP", "NIC_DEFAULT"),
        *("TEMPLATE_ID", "CLONING_TEMPLATE_ID", "CPU_COST", "MEMORY_COST", "DISK_COST", "EMULATOR", "NIC_ALIAS"),
        *("SUBMIT_ON_HOLD", "VROUTER_ID", "TPM", "SCHED_ACTION", "SNAPSHOT", "SPICE_OPTIONS"),
    )
)
_FAILED = "Error allocating a new virtual machine template. "


class Assembly:
    """Makes machines: rights, quotas, name, addresses, images, context; all of it or nothing."""

    def __init__(self, cloud: Cloud, deployment: Deployment) -> None:
        self._cloud = cloud
        self._deployment = deployment

    def make(
        self,
        caller: User,
        template: Template,
        name: str,
        *,
        on_hold: bool,
        start: bool = True,
        numbered_images: bool = True,
    ) -> VirtualMachine:
        """Make a machine of `template` (which is used up) and start it, or leave it on HOLD.

        With `start=False` it is left PENDING, and whoever asked brings it further. `numbered_images` is `authorize`'s.
        """
        cloud = self._cloud
        stored = template.stored()
        if stored is None:
            raise not_allocated(f"{_FAILED}Error transforming the VM to XML.")
        template = stored
        asked = resolve(cloud, caller, template.vectors("DISK"), template.vectors("NIC"))
        authorize(cloud, caller, asked, numbered_images=numbered_images)
        _check_capacity(template)
        charges = self._charges(template, asked, on_hold=on_hold)
        cloud.charge(caller, caller.gid, charges)
        try:
            machine = self._built(caller, template, name, asked, on_hold=on_hold)
        except Refused as problem:
            cloud.count(caller.id, caller.gid, charges, -1)
            text = problem.text if problem.text.startswith(_FAILED) else _FAILED + problem.text
            raise not_allocated(text) from problem
        machine.charges = charges
        cloud.vms.put(machine)
        if start:
            self._start(machine)
        return machine

    def _charges(self, template: Template, asked: Asked, *, on_hold: bool) -> list[Charge]:
        cpu, memory = float(template.get("CPU")), float(template.get("MEMORY"))
        amounts = {"VMS": 1.0, "CPU": cpu, "MEMORY": memory}
        if self._cloud.version.modern or not on_hold:
            amounts.update(RUNNING_VMS=1.0, RUNNING_CPU=cpu, RUNNING_MEMORY=memory)
        amounts["SYSTEM_DISK_SIZE"] = float(sum(_space(*pair) for pair in asked.disks))
        charges = [Charge("VM", "", amounts)]
        leases: dict[int, int] = {}
        for _, network in asked.nics:
            if network is not None:
                leases[network.id] = leases.get(network.id, 0) + 1
        charges += [Charge("NETWORK", str(number), {"LEASES": count}) for number, count in leases.items()]
        charges += [Charge("IMAGE", str(image.id), {"RVMS": 1}) for _, image in asked.disks if image is not None]
        return charges

    def _built(self, caller: User, template: Template, name: str, asked: Asked, *, on_hold: bool) -> VirtualMachine:
        cloud = self._cloud
        reason = check_name(name) if name else ""
        if reason:
            raise not_allocated(reason)
        number = cloud.vms.take_id()
        machine = VirtualMachine(number, caller.id, caller.gid, caller.name, caller.gname, name)
        machine.modern, machine.on_hold, machine.started = cloud.version.modern, on_hold, cloud.now()
        machine.name = name or f"{template.get('TEMPLATE_NAME', 'one')}-{number}"
        try:
            self._fill(machine, template, asked)
        except Refused:
            undo(cloud, machine)
            cloud.vms.give_back_id(number)
            raise
        return machine

    def _fill(self, machine: VirtualMachine, template: Template, asked: Asked) -> None:
        cloud = self._cloud
        for name in ("TEMPLATE_NAME", "NAME", "DISK", "NIC"):
            template.pop(name)
        contexts = template.pop("CONTEXT")
        for name, value in template:
            (machine.template if name in _MACHINE_ATTRIBUTES else machine.user_template).add(name, value)
        for nic, network in asked.nics:
            if network is not None and is_automatic(nic):  # its network is the scheduler's to choose: no lease yet
                clusters = ",".join(str(each) for each in sorted(network.clusters))
                add_nic(cloud, machine, {**nic, "CLUSTER_ID": clusters}, None)
            else:
                add_nic(cloud, machine, nic, network)
        for order, (disk, image) in enumerate(asked.disks):
            try:
                add_disk(cloud, machine, disk, image)
            except Refused as problem:
                raise not_allocated(f"DISK {order}: {problem.text}") from problem
        self._derive(machine)
        given = [disk["TARGET"] for disk in machine.disks if disk.get("TARGET")]
        if len(set(given)) < len(given):
            raise not_allocated("Two disks have defined the same target.")
        for disk in machine.disks:
            assign_target(machine, disk)
        if contexts and isinstance(contexts[0], dict) and contexts[0]:
            self._contextualize(machine, contexts[0])

    def _contextualize(self, machine: VirtualMachine, asked: dict[str, str]) -> None:
        machine.context_asked = dict(asked)
        machine.context = {"DISK_ID": str(machine.next_disk)}
        machine.context["TARGET"] = asked.get("TARGET") or free_target(machine, asked.get("DEV_PREFIX", "hd"))
        machine.next_disk += 1
        fill_context(machine, self._cloud)

    def _derive(self, machine: VirtualMachine) -> None:
        template = machine.template
        template.replace("VMID", str(machine.id))
        if machine.on_hold:
            template.replace("SUBMIT_ON_HOLD", "YES")
        if machine.modern:
            systems = template.vectors("OS")
            template.replace("OS", {**(systems[0] if systems else {}), "UUID": str(uuid.uuid4())})
        clusters = self._clusters(machine)
        where = " | ".join(f"CLUSTER_ID = {number}" for number in clusters)
        cloudy = "" if machine.modern else " & !(PUBLIC_CLOUD = YES)"
        requirements = f"({where}){cloudy} & !(PIN_POLICY = PINNED)"
        template.replace("AUTOMATIC_REQUIREMENTS", requirements)
        inside = " | ".join(f'"CLUSTERS/ID" @> {number}' for number in clusters)
        template.replace("AUTOMATIC_DS_REQUIREMENTS", f"({inside})")
        template.replace("AUTOMATIC_NIC_REQUIREMENTS", f"({inside})")

    def _clusters(self, machine: VirtualMachine) -> list[int]:
        common = {cluster.id for cluster in self._cloud.clusters}
        disks = [disk for disk in machine.disks if "IMAGE_ID" in disk]
        for vector in (*disks, *machine.leased_nics):
            if vector.get("CLUSTER_ID"):
                common &= {int(number) for number in vector["CLUSTER_ID"].split(",")}
        if not common:
            raise not_allocated("Incompatible clusters for the machine's disks and NICs.")
        return sorted(common)

    def _start(self, machine: VirtualMachine) -> None:
        machine.when_images_ready = self._deployment.images_ready
        images = [self._cloud.images.get(int(d["IMAGE_ID"])) for d in machine.disks if "IMAGE_ID" in d]
        if any(image.state.is_being_written for image in images):
            machine.enter(VmState.CLONING)
        else:
            self._deployment.submit(machine)


def _space(disk: Vector, image: Image | None) -> int:
    if image is not None and image.persistent:
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
