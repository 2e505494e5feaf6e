"""Public IPs that instances are run with (EC2 API Reference, RunInstances, AssociatePublicIpAddress).

Such an address comes from the pool of elastic IPs and counts among those that its user may have, but is none of them:
it is in no list of addresses, and no request names it. It is allocated and associated under one claim, while the
machine is on HOLD: so it is on record with the machine from the beginning, and is released when the association ends,
because the machine has ended, or an elastic IP takes the place, or a process died before its script had succeeded. A
repeated launch completes what is unfinished.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from econed.actions.addresses.associations import Associator, Target, is_leased
from econed.actions.addresses.claims import Claim, exclusively
from econed.actions.addresses.pool import MAX_WAIT, AllocationRequest, allocate
from econed.actions.addresses.records import Address, AssociationState, LinkedAddress, Pool
from econed.actions.addresses.store import AddressStore, address_store
from econed.errors import EC2Error

if TYPE_CHECKING:
    from ipaddress import IPv4Address

    from econed.actions.call import Call
    from econed.opennebula.documents import VirtualMachine

_MAX_DURATION = 45.0
"""Seconds that the addresses of a launch may take, the scripts included: SDKs wait for 60."""


async def check_available(call: Call, count: int) -> None:
    """Check that so many instances of the caller can have public IPs.

    Raises `EC2Error` UnsupportedOperation without a pool, AddressLimitExceeded, or InsufficientAddressCapacity.
    """
    _request(call).check(await address_store(call).read_pool(), count)


async def assign_addresses(call: Call, machines: Iterable[VirtualMachine]) -> None:
    """Give each of these machines, which are not released yet, a public IP, unless it has one.

    It is associated with the first NIC. Raises `EC2Error` as AllocateAddress and AssociateAddress do.
    """
    store, deadline = address_store(call), call.clock.seconds() + _MAX_DURATION
    assignment = _Assignment(store, Associator(call.scripts, call.session, deadline), _request(call))
    pool = await store.read_pool()
    for machine in machines:
        target = await _target(call, machine)
        ip = assigned_ip(pool, machine.id)
        if ip is None or not await assignment.complete(ip, target):
            await assignment.assign(target)


def assigned_ip(pool: Pool, machine_id: int) -> IPv4Address | None:
    """Return the address that is assigned to a machine: the lowest, if two processes assigned one at once."""
    ips = (
        address.ip
        for address in pool.addresses.values()
        if isinstance(address, LinkedAddress)
        and address.is_auto_assigned
        and address.association.machine_id == machine_id
    )
    return min(ips, default=None)


def is_to_be_released(pool: Pool, address: Address) -> bool:
    """Whether an address was assigned to an instance that it is not associated with, or that has another."""
    if not address.is_auto_assigned:
        return False
    return not isinstance(address, LinkedAddress) or assigned_ip(pool, address.association.machine_id) != address.ip


@dataclass(frozen=True)
class _Assignment:
    """The assignment of addresses to the machines of one launch."""

    store: AddressStore
    associator: Associator
    request: AllocationRequest

    async def assign(self, target: Target) -> None:
        """Allocate an address and associate it."""

        async def associate(claim: Claim, address: Address) -> Address:
            return await self.associator.associate(claim, address, target)

        await allocate(self.store, replace(self.request, associate=associate))

    async def complete(self, ip: IPv4Address, target: Target) -> bool:
        """Complete the association of an address that is on record with the machine; False if it is not any more."""

        async def associate(claim: Claim, pool: Pool) -> bool:
            address = claim.address
            if not isinstance(address, LinkedAddress) or assigned_ip(pool, target.machine_id) != ip:
                return False
            if address.association.state is not AssociationState.ASSOCIATED:
                await self.associator.associate(claim, address, target)
            return True

        return await exclusively(Claim(self.store, ip, self.request.uid), MAX_WAIT, associate)


def _request(call: Call) -> AllocationRequest:
    return AllocationRequest(call.caller.id, call.settings.elastic_ips_per_user, None, {})


async def _target(call: Call, machine: VirtualMachine) -> Target:
    """Return the first NIC of a machine as the target of an association; raises `EC2Error` if it has no address."""
    nic = next(iter(machine.nics), None)
    if nic is None or nic.ip is None or not await is_leased(call.session, call.serveradmin, machine, nic):
        raise EC2Error(
            "InvalidParameterCombination",
            "A public IP address requires a network interface with a private IPv4 address on a network of the cloud.",
        )
    return Target(machine.id, nic.ip, nic.nic_id)
