"""Whether security groups protect what is in a network: OpenNebula may add groups, and not every driver filters."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from econed.ids import SECURITY_GROUP

if TYPE_CHECKING:
    from econed.opennebula.documents import VirtualNetwork


def why_unprotected(
    network: VirtualNetwork, group_ids: Collection[int], filtering_drivers: Collection[str]
) -> str | None:
    """Return why a NIC in a network has not only the rules of these groups; None if it has.

    oned joins the groups of a network to those of each NIC in it, and a rule of any of them allows traffic.
    """
    if network.driver not in filtering_drivers:
        return f"its driver '{network.driver}' does not filter traffic (filtering_drivers)"
    added = sorted({*network.security_group_ids}.difference(group_ids))
    if added:
        names = ", ".join(map(SECURITY_GROUP.format, added))
        return f"OpenNebula adds its own security groups {names} to those of each interface"
    return None
