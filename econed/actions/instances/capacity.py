"""What a client is told when oned makes fewer machines than a launch needs.

oned gives a machine its addresses when it makes it, and its host later. So a launch can fail for want of addresses, and
never for want of hosts: a machine that no host can take is made, and stays PENDING.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from econed.errors import EC2Error, OpenNebulaCode, OpenNebulaError, OpenNebulaRefusal

if TYPE_CHECKING:
    from econed.actions.call import Call
    from econed.actions.instances.plan import LaunchPlan
    from econed.opennebula.attributes import Vector
    from econed.opennebula.networks import VirtualNetwork


async def shortage(call: Call, plan: LaunchPlan, error: OpenNebulaError | EC2Error | None) -> Exception:
    """Return what ends a launch of which oned refused machines; call it before those that were made are taken back.

    InstanceLimitExceeded for a quota. InsufficientInstanceCapacity, a 500 as Amazon's, only where a network of the
    instance type has no address left and is large enough: that passes, and SDKs try again. Otherwise `error` itself.
    """
    if isinstance(error, OpenNebulaRefusal):
        if error.is_quota:
            return EC2Error("InstanceLimitExceeded", "Your quota does not allow for so many instances.")
        if error.code == OpenNebulaCode.ALLOCATE and await _lacks_addresses(call, plan):
            return EC2Error(
                "InsufficientInstanceCapacity", "There are not enough free addresses for an instance of this type.", 500
            )
    return error or EC2Error("InternalError", "An internal error has occurred.", 500)


async def _lacks_addresses(call: Call, plan: LaunchPlan) -> bool:
    """Whether a network gives fewer addresses now than one machine of this type takes, but has enough in all.

    An interface that asks for an address of its own is not counted: another one would not do.
    """
    interfaces = [nic for nic in plan.instance_type.attributes.vectors("NIC") if "IP" not in nic]
    if not interfaces:
        return False
    networks = await call.session.networks()
    wanted = Counter(network.id for nic in interfaces for network in _networks_of(call, nic, networks))
    return any(
        network.free < wanted[network.id] and network.size >= wanted[network.id] * plan.least
        for network in networks
        if network.id in wanted
    )


def _networks_of(call: Call, nic: Vector, networks: tuple[VirtualNetwork, ...]) -> Iterator[VirtualNetwork]:
    """Yield the network that a NIC names: by number, or by name and owner (OpenNebula, NIC in a VM template)."""
    for network in networks:
        if "NETWORK_ID" in nic:
            is_named = nic["NETWORK_ID"] == str(network.id)
        elif "NETWORK_UID" in nic:
            is_named = (nic.get("NETWORK"), nic["NETWORK_UID"]) == (network.name, str(network.uid))
        else:
            owner = nic.get("NETWORK_UNAME", call.caller.name)
            is_named = (nic.get("NETWORK"), owner) == (network.name, network.uname)
        if is_named:
            yield network
