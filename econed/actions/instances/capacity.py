"""The error of a launch for which oned created too few machines.

oned assigns a machine's addresses when it creates the machine, and its host later. So a launch can fail for lack of
addresses, but never for lack of hosts: a machine for which no host has capacity is created and stays PENDING.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from econed.actions.instances.network_interfaces import no_free_addresses
from econed.actions.networks.lookup import DELETED
from econed.errors import EC2Error, OpenNebulaCode, OpenNebulaError, OpenNebulaRefusal
from econed.ids import SUBNET
from econed.opennebula.networks import NetworksOfNics

if TYPE_CHECKING:
    from econed.actions.call import Call
    from econed.actions.instances.plan import LaunchPlan


async def launch_error(call: Call, plan: LaunchPlan, error: OpenNebulaError | EC2Error | None) -> Exception:
    """Return the exception for a launch if oned refused some machines; call it before the others are discarded.

    InstanceLimitExceeded for a quota. InsufficientInstanceCapacity, a 500 as on Amazon, only if a network of the
    instance type has too few free addresses but is large enough in all: that is temporary, and SDKs retry. Otherwise
    `error` itself.
    """
    if isinstance(error, OpenNebulaRefusal):
        if error.is_quota:
            return quota_exceeded(error)
        if error.code == OpenNebulaCode.ALLOCATE and (refusal := await _address_refusal(call, plan)) is not None:
            return refusal
        if error.code == OpenNebulaCode.ALLOCATE and await _lacks_addresses(call, plan):
            message = "There are not enough free addresses for an instance of this type."
            return _caused(error, EC2Error("InsufficientInstanceCapacity", message, 500))
    return error or EC2Error("InternalError", "An internal error has occurred.", 500)


def quota_exceeded(refusal: OpenNebulaRefusal) -> EC2Error:
    """Return the error for a quota that allows no further running instances."""
    return _caused(refusal, EC2Error("InstanceLimitExceeded", "Your quota does not allow for so many instances."))


def _caused(refusal: OpenNebulaRefusal, error: EC2Error) -> EC2Error:
    """Return an error with the refusal that caused it, which the log quotes: which quota, which network."""
    error.__cause__ = refusal
    return error


async def _address_refusal(call: Call, plan: LaunchPlan) -> EC2Error | None:
    """Return the error for the subnets of the request: one is gone, has too few free addresses, or its address is used.

    The address is in its subnet, as was checked before. oned has one code for all causes, so the leases of the network
    are read, as serveradmin: users see those of their own machines only. None if the cause is another.
    """
    ids = {interface.subnet.network.id for interface in plan.interfaces if interface.subnet is not None}
    networks = {network.id: network for network in await call.session.networks()} if ids else {}
    for network_id in sorted(ids):
        network = networks.get(network_id)
        if network is None or network.state in DELETED:
            return SUBNET.not_found(SUBNET.format(network_id))
        if network.free < plan.min_count:
            return no_free_addresses(SUBNET.format(network_id))
    for interface in plan.interfaces:
        if interface.ip is not None and interface.subnet is not None:
            with_leases = await call.serveradmin.network(interface.subnet.network.id)
            if with_leases.is_leased(interface.ip):
                return EC2Error("InvalidIPAddress.InUse", f"Address {interface.ip} is in use.")
    return None


async def _lacks_addresses(call: Call, plan: LaunchPlan) -> bool:
    """Whether a network has fewer free addresses than one machine of this type needs, but enough addresses in all.

    An interface that requests a specific address is not counted: no other address would do.
    """
    nics = [interface.members for interface in plan.interfaces] or plan.instance_type.attributes.vectors("NIC")
    interfaces = [nic for nic in nics if "IP" not in nic]
    if not interfaces:
        return False
    networks = await call.session.networks()
    networks_of_nics = NetworksOfNics(networks)
    named = (networks_of_nics.of(nic, call.caller.name) for nic in interfaces)
    needed = Counter(network.id for network in named if network is not None)
    return any(
        network.free < needed[network.id] and network.size >= needed[network.id] * plan.min_count
        for network in networks
        if network.id in needed
    )
