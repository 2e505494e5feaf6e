"""Where a machine is placed: its availability zone, which is a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from econed.actions.machines.facts import AVAILABILITY_ZONE
from econed.opennebula.values import whole_number

if TYPE_CHECKING:
    from econed.opennebula.documents import VirtualMachine


def availability_zone_of(machine: VirtualMachine, clusters: Mapping[int, str]) -> str:
    """Return the name of a machine's availability zone; empty if it is none of `clusters`, the cluster names by id.

    That is the machine's current cluster, else the requested one, else the first from which its first disk is
    accessible.
    """
    requested = whole_number(machine.user_template.text(AVAILABILITY_ZONE))
    candidates = [machine.cluster_id, requested, *_accessible_clusters(machine)]
    return next(
        (clusters[cluster_id] for cluster_id in candidates if cluster_id is not None and cluster_id in clusters), ""
    )


def _accessible_clusters(machine: VirtualMachine) -> tuple[int, ...]:
    """Return the ids of the clusters from which the machine's first disk is accessible."""
    return machine.disks[0].cluster_ids if machine.disks else ()
