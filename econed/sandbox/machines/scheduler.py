"""Where machines are put: the host with the fewest machines on which they fit and that they ask for."""

from __future__ import annotations

import time

from econed.sandbox.cloud import Cloud
from econed.sandbox.machines.requirements import Unreadable, satisfied
from econed.sandbox.objects.infrastructure import HOST_MONITORED, Host
from econed.sandbox.objects.virtual_machines import VirtualMachine


class Unplaced(Exception):
    """No host can take the machine; the text is the reason, for USER_TEMPLATE/SCHED_MESSAGE."""


def _facts(cloud: Cloud, host: Host) -> dict[str, str]:
    own = {name: value for name, value in host.template if isinstance(value, str)}
    cluster = cloud.clusters.get(host.cluster)
    return {
        **own,
        "ID": str(host.id),
        "NAME": host.name,
        "HOSTNAME": host.name,
        "CLUSTER_ID": str(cluster.id),
        "CLUSTER": cluster.name,
        "FREE_CPU": str(host.cpu - host.used_cpu),
        "FREE_MEM": str(host.memory - host.used_memory),
        "RUNNING_VMS": str(len(host.vms)),
    }


def _meets(cloud: Cloud, machine: VirtualMachine, host: Host) -> bool:
    facts = _facts(cloud, host)
    asked = machine.user_template.get("SCHED_REQUIREMENTS"), machine.template.get("AUTOMATIC_REQUIREMENTS")
    try:
        return all(satisfied(expression, facts) for expression in asked)
    except Unreadable:
        return False


def choose(cloud: Cloud, machine: VirtualMachine) -> Host:
    """Return the host for a machine; raises `Unplaced`."""
    awake = [host for host in cloud.hosts if host.state == HOST_MONITORED]
    wanted = [host for host in awake if _meets(cloud, machine, host)]
    if not wanted:
        raise Unplaced("[HOST] No hosts meet SCHED_REQUIREMENTS" if awake else "[HOST] No hosts enabled to run VMs")
    fitting = [host for host in wanted if host.holds(machine.cpu, machine.memory)]
    if not fitting:
        short = "CPU" if not any(host.holds(machine.cpu, 0) for host in wanted) else "memory"
        raise Unplaced(f"[HOST] Not enough {short} on hosts: {','.join(str(host.id) for host in wanted)}")
    return min(fitting, key=lambda host: (len(host.vms), -host.id))


def stamped(cloud: Cloud, text: str) -> str:
    """Return a message with the time before it, as oned puts it into SCHED_MESSAGE and ERROR."""
    moment = time.strftime("%a %b %d %H:%M:%S %Y", time.gmtime(cloud.clock.seconds()))
    return f"{moment}: {text}"
