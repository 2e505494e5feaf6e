"""Where a machine is placed: its availability zone, which is a cluster."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
    return next((clusters[cluster_id] for cluster_id in _candidates(machine) if cluster_id in clusters), "")


def _candidates(machine: VirtualMachine) -> Iterator[int]:
    """Yield the ids of the clusters in which a machine may be placed, the most likely first."""
    if (current := machine.cluster_id) is not None:
        yield current
    if (requested := whole_number(machine.user_template.text(AVAILABILITY_ZONE))) is not None:
        yield requested
    if machine.disks:
        yield from machine.disks[0].cluster_ids
