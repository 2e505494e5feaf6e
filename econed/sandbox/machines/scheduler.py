"""The scheduler: chooses the host with the fewest machines of those that have capacity and meet the requirements."""

from __future__ import annotations

import time

from econed.sandbox.cloud import Cloud
from econed.sandbox.machines.affinity import is_allowed_by_vm_group
from econed.sandbox.machines.requirements import InvalidExpression, is_satisfied
from econed.sandbox.objects.infrastructure import Host, HostState
from econed.sandbox.objects.virtual_machines import VirtualMachine


class PlacementFailed(Exception):
    """There is no suitable host or network; the message is the reason for USER_TEMPLATE/SCHED_MESSAGE."""


def _host_attributes(cloud: Cloud, host: Host) -> dict[str, str]:
    own = {name: value for name, value in host.template if isinstance(value, str)}
    cluster = cloud.clusters.get(host.cluster_id)
    return {
        **own,
        "ID": str(host.id),
        "NAME": host.name,
        "HOSTNAME": host.name,
        "CLUSTER_ID": str(cluster.id),
        "CLUSTER": cluster.name,
        "FREE_CPU": str(host.cpu - host.used_cpu),
        "FREE_MEM": str(host.memory - host.used_memory),
        "RUNNING_VMS": str(len(host.vm_ids)),
    }


def _meets_requirements(cloud: Cloud, machine: VirtualMachine, host: Host) -> bool:
    attributes = _host_attributes(cloud, host)
    requirements = (
        machine.user_template.get("SCHED_REQUIREMENTS"),
        machine.template.get("AUTOMATIC_REQUIREMENTS"),
    )
    try:
        return all(is_satisfied(expression, attributes) for expression in requirements)
    except InvalidExpression:
        return False


def choose_host(cloud: Cloud, machine: VirtualMachine) -> Host:
    """Return the host for a machine; raises `PlacementFailed`."""
    enabled = [host for host in cloud.hosts if host.state is HostState.MONITORED]
    matching = [host for host in enabled if _meets_requirements(cloud, machine, host)]
    if not matching:
        reason = "No hosts meet SCHED_REQUIREMENTS" if enabled else "No hosts enabled to run VMs"
        raise PlacementFailed(f"[HOST] {reason}")
    suitable = [host for host in matching if is_allowed_by_vm_group(cloud, machine, host)]
    if not suitable:
        ids = ",".join(str(host.id) for host in matching)
        raise PlacementFailed(f"[HOST] Cannot fulfill affinity constraints on hosts: {ids}")
    with_capacity = [host for host in suitable if host.has_capacity(machine.cpu, machine.memory)]
    if not with_capacity:
        missing = "memory" if any(host.has_capacity(machine.cpu, 0) for host in suitable) else "CPU"
        raise PlacementFailed(f"[HOST] Not enough {missing} on hosts: {','.join(str(host.id) for host in suitable)}")
    return min(with_capacity, key=lambda host: (len(host.vm_ids), -host.id))


def with_timestamp(cloud: Cloud, text: str) -> str:
    """Return a message with the time before it, as oned writes SCHED_MESSAGE and ERROR."""
    timestamp = time.strftime("%a %b %d %H:%M:%S %Y", time.gmtime(cloud.clock.seconds()))
    return f"{timestamp}: {text}"
