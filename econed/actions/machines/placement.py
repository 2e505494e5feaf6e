"""Where a machine is placed: its availability zone, which is a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from econed.actions.machines.facts import (
    ZONE,
)
from econed.opennebula.values import whole_number

if TYPE_CHECKING:
    from econed.opennebula.documents import VirtualMachine


def zone_name(machine: VirtualMachine, clusters: Mapping[int, str]) -> str:
    """Return the availability zone: the cluster it is on, else the one asked for, else one it can come to be on."""
    asked = whole_number(machine.user_template.text(ZONE))
    ids = [machine.cluster_id, asked, *_reachable(machine)]
    return next((clusters[number] for number in ids if number is not None and number in clusters), "")


def _reachable(machine: VirtualMachine) -> tuple[int, ...]:
    """Return the clusters from which the machine's first disk can be reached."""
    return machine.disks[0].cluster_ids if machine.disks else ()
