"""Elastic IPs (EC2 API Reference, "Elastic IP addresses"): addresses of one OpenNebula network.

Old clients name an address by PublicIp, newer ones by AllocationId and AssociationId; either is enough. An address that
is not the caller's gives the same NotFound as one that does not exist.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, NotRequired, TypedDict, TypeVar

from econed.actions.action import action
from econed.actions.addresses.associations import Associator, Target, is_leased
from econed.actions.addresses.claims import Busy, Claim, exclusively
from econed.actions.addresses.pool import MAX_WAIT, AllocationRequest, allocate, conclude, release
from econed.actions.addresses.records import Address, LinkedAddress, Pool
from econed.actions.addresses.store import AddressStore, address_store, own_address
from econed.actions.addresses.view import (
    ADDRESS_FILTERS,
    DOMAIN,
    address_view,
    associated_machine_ids,
    has_association_ended,
)
from econed.actions.inputs import Filter, TagSpecification
from econed.actions.machines.interfaces import find_interfaces
from econed.actions.machines.lookup import find_machines
from econed.actions.machines.rights import check_may_manage
from econed.actions.machines.state import InstanceState, state_of
from econed.actions.paging import Listing, Paging
from econed.actions.regions.regions import own_region
from econed.actions.tagging import specified_tags
from econed.actions.tasks import TaskGroup
from econed.errors import EC2Error
from econed.ids import (
    ALLOCATION,
    INSTANCE,
    allocated_ip,
    allocation_id,
    association,
    association_id,
)
from econed.opennebula.documents import Right
from econed.opennebula.values import ipv4

if TYPE_CHECKING:
    from types_boto3_ec2.literals import DomainTypeType
    from types_boto3_ec2.type_defs import AddressAttributeTypeDef, AddressTypeDef

    from econed.actions.call import Call
    from econed.opennebula.documents import VirtualMachine

_T = TypeVar("_T")

_MAX_DURATION = 45.0
"""Seconds that a request may take, its scripts included: SDKs wait for 60."""

_ATTRIBUTES = Listing("addresses-attribute", (str,))
_ASSOCIABLE_STATES = frozenset(InstanceState) - {InstanceState.SHUTTING_DOWN, InstanceState.TERMINATED}


class AllocateAddressResult(TypedDict):
    """EC2 AllocateAddressResult."""

    PublicIp: str
    AllocationId: str
    Domain: DomainTypeType
    PublicIpv4Pool: str
    NetworkBorderGroup: str


class DescribeAddressesResult(TypedDict):
    """EC2 DescribeAddressesResult."""

    Addresses: list[AddressTypeDef]


class DescribeAddressesAttributeResult(TypedDict):
    """EC2 DescribeAddressesAttributeResult."""

    Addresses: list[AddressAttributeTypeDef]
    NextToken: NotRequired[str]


class AssociateAddressResult(TypedDict):
    """EC2 AssociateAddressResult."""

    AssociationId: str


@action(as_is={"PublicIpv4Pool": "amazon"})
async def allocate_address(
    call: Call, *, domain: str = DOMAIN, address: str = "", tag_specifications: Sequence[TagSpecification] = ()
) -> AllocateAddressResult:
    """Allocate an elastic IP to the caller, either any or the one that Address names (EC2 AllocateAddress).

    Domain may be `standard`, for old clients; the domain of every address is `vpc`.
    """
    if domain not in (DOMAIN, "standard", ""):
        raise EC2Error("InvalidParameterValue", f"Invalid value '{domain}' for domain.")
    ip = ipv4(address)
    if address and ip is None:
        raise _not_an_address("Address", address)
    tags = specified_tags(tag_specifications, "elastic-ip")["elastic-ip"]
    request = AllocationRequest(call.caller.id, call.settings.elastic_ips_per_user, ip, tags)
    store, region = address_store(call), await own_region(call)
    allocated = await allocate(store, request)
    return {
        "PublicIp": str(allocated.ip),
        "AllocationId": allocation_id(allocated.ip),
        "Domain": DOMAIN,
        "PublicIpv4Pool": "amazon",
        "NetworkBorderGroup": region.name,
    }


@action()
async def describe_addresses(
    call: Call,
    *,
    public_ips: Sequence[str] = (),
    allocation_ids: Sequence[str] = (),
    filters: Sequence[Filter] = (),
) -> DescribeAddressesResult:
    """List the caller's elastic IPs (EC2 DescribeAddresses, which has no pages)."""
    store = address_store(call)
    async with TaskGroup() as tasks:
        reading_region, reading_pool = tasks.start(own_region(call)), tasks.start(store.read_allocated())
    region, pool = reading_region.result, reading_pool.result
    address_filters = ADDRESS_FILTERS.with_values("network-border-group", lambda _: region.names)
    selection = address_filters.selection(filters, call.budget)
    addresses = _requested_addresses(call, pool, public_ips, allocation_ids)
    machines = {machine.id: machine for machine in await call.session.vms(associated_machine_ids(addresses))}
    views = (address_view(address, pool, machines, region.name) for address in addresses)
    return {"Addresses": await selection.matching(views)}


@action()
async def describe_addresses_attribute(
    call: Call,
    *,
    allocation_ids: Sequence[str] = (),
    attribute: Literal["domain-name"] = "domain-name",
    max_results: int | None = None,
    next_token: str | None = None,
) -> DescribeAddressesAttributeResult:
    """List the caller's elastic IPs without reverse DNS names, which are not stored here."""
    paging = Paging.of(_ATTRIBUTES, max_results, next_token, minimum=1, ids=allocation_ids)
    addresses = _requested_addresses(call, await address_store(call).read_allocated(), (), allocation_ids)
    page, token = paging.page((allocation_id(address.ip) for address in addresses), lambda text: (text,))
    attributes: list[AddressAttributeTypeDef] = [
        {"PublicIp": str(allocated_ip(text)), "AllocationId": text} for text in page
    ]
    return {"Addresses": attributes, **token}


@action()
async def associate_address(
    call: Call,
    *,
    allocation_id: str = "",
    public_ip: str = "",
    instance_id: str = "",
    network_interface_id: str = "",
    private_ip_address: str = "",
    allow_reassociation: bool = True,
) -> AssociateAddressResult:
    """Associate an elastic IP with an instance by running the administrator's script (EC2 AssociateAddress).

    With AllowReassociation false, the action fails if the address is associated with another instance, or if another
    of the caller's addresses is associated with the same private address; otherwise these associations end. A public IP
    that was assigned to the private address is released. Raises
    `EC2Error` IncorrectState if a script fails, or another request has changed the address.
    """
    deadline = call.clock.seconds() + _MAX_DURATION
    store = address_store(call)

    async def read_address() -> tuple[Pool, Address]:
        pool = await store.read_pool()
        return pool, _named_address(call, pool, allocation_id, public_ip)

    async with TaskGroup() as tasks:
        reading_address = tasks.start(read_address())
        reading_target = tasks.start(_target(call, instance_id, network_interface_id, private_ip_address))
    pool, address = reading_address.result
    machine, target = reading_target.result
    if isinstance(address, LinkedAddress) and _is_associated_with(address, target):
        return _result(address)
    conflicting = [
        other for other in pool.addresses.values() if other.ip != address.ip and _is_associated_with(other, target)
    ]
    elastic = [other for other in conflicting if not other.is_auto_assigned]
    if not allow_reassociation and (elastic or address.reported_association is not None):
        raise _already_associated(address if address.reported_association is not None else elastic[0])
    if any(other.uid != call.caller.id for other in conflicting):
        raise _already_associated(conflicting[0])

    await call.change_all(Right.MANAGE, [machine], partial(check_may_manage, call.session))
    changes = _Changes(store, Associator(call.scripts, call.session, deadline), deadline)
    for other in conflicting:
        await changes.exclusively(other, changes.disassociate)

    async def associate(claim: Claim, _: Pool) -> LinkedAddress:
        return await changes.associator.associate(claim, address, target)

    return _result(await changes.exclusively(address, associate))


@action()
async def disassociate_address(call: Call, *, association_id: str = "", public_ip: str = "") -> None:
    """Disassociate an elastic IP from its instance by running the administrator's script (EC2 DisassociateAddress)."""
    deadline = call.clock.seconds() + _MAX_DURATION
    store = address_store(call)
    pool = await store.read_pool()
    if association_id and public_ip:
        raise _not_both("AssociationId", "PublicIp")
    address = _by_association(call, pool, association_id) if association_id else _by_ip(call, pool, public_ip)
    if address.reported_association is None:
        raise EC2Error("InvalidAssociationID.NotFound", f"The address '{address.ip}' is not associated.")
    changes = _Changes(store, Associator(call.scripts, call.session, deadline), deadline)
    await changes.exclusively(address, changes.disassociate)


# NetworkBorderGroup only repeats where the address is.
@action(ignores=("NetworkBorderGroup",))
async def release_address(call: Call, *, allocation_id: str = "", public_ip: str = "") -> None:
    """Release an elastic IP (EC2 ReleaseAddress); an address that is associated with an instance is in use."""
    deadline = call.clock.seconds() + _MAX_DURATION
    store = address_store(call)
    pool = await store.read_pool()
    address = _named_address(call, pool, allocation_id, public_ip)
    if (reported := address.reported_association) is not None:
        machines = {machine.id: machine for machine in await call.session.vms([reported.machine_id])}
        if not has_association_ended(reported, machines.get(reported.machine_id)):
            raise EC2Error("InvalidIPAddress.InUse", f"Address {address.ip} is in use.")
    changes = _Changes(store, Associator(call.scripts, call.session, deadline), deadline)

    async def disassociate_and_release(claim: Claim, pool: Pool) -> None:
        if isinstance(address, LinkedAddress):
            await changes.associator.disassociate(claim, address)
        await release(claim, pool)

    await changes.exclusively(address, disassociate_and_release)


@dataclass(frozen=True)
class _Changes:
    """The changes that a request makes to addresses, each under a claim, until `deadline` (seconds since the epoch)."""

    store: AddressStore
    associator: Associator
    deadline: float

    async def exclusively(self, address: Address, change: Callable[[Claim, Pool], Awaitable[_T]]) -> _T:
        """Change an address that is still as it was read, under a claim.

        Raises `EC2Error` IncorrectState if another request has changed it, or is changing it.
        """

        async def change_if_unchanged(claim: Claim, pool: Pool) -> _T:
            if claim.address != address:
                raise Busy(address.ip)
            return await change(claim, pool)

        timeout = max(min(MAX_WAIT, self.deadline - self.store.now), 0)
        return await exclusively(Claim(self.store, address.ip, address.uid), timeout, change_if_unchanged)

    async def disassociate(self, claim: Claim, pool: Pool) -> None:
        """End the association of the address of a claim, if it has one."""
        if isinstance(claim.address, LinkedAddress):
            disassociated = await self.associator.disassociate(claim, claim.address)
            await conclude(claim, pool, disassociated)


async def _target(
    call: Call, instance_id: str, network_interface_id: str, private_ip: str
) -> tuple[VirtualMachine, Target]:
    """Return the machine and the interface to associate, whose private address is leased to it."""
    if instance_id and network_interface_id:
        raise _not_both("InstanceId", "NetworkInterfaceId")
    if network_interface_id:
        (interface,) = await find_interfaces(call, [network_interface_id])
        machine, nics = interface.machine, [interface.nic]
    elif instance_id:
        (machine,) = await find_machines(call, [instance_id])
        nics = list(machine.nics)
    else:
        raise EC2Error("MissingParameter", "Either 'InstanceId' or 'NetworkInterfaceId' must be provided.")
    if state_of(machine) not in _ASSOCIABLE_STATES:
        raise EC2Error(
            "IncorrectInstanceState",
            f"The instance '{INSTANCE.format(machine.id)}' is not in a state from which it can be associated.",
        )
    ip = ipv4(private_ip)
    for nic in nics:
        if nic.ip is not None and (not private_ip or nic.ip == ip):
            if await is_leased(call.session, call.serveradmin, machine, nic):
                return machine, Target(machine.id, nic.ip, nic.nic_id)
            break
    missing = f"the private address '{private_ip}'" if private_ip else "a private IPv4 address"
    raise EC2Error(
        "InvalidParameterValue",
        f"'{instance_id or network_interface_id}' does not have {missing} on a network of the cloud.",
    )


def _requested_addresses(
    call: Call, pool: Pool, public_ips: Sequence[str], allocation_ids: Sequence[str]
) -> tuple[Address, ...]:
    """Return the caller's addresses that a request names, or all; raises `EC2Error` if one is not the caller's."""
    by_ip = {_by_ip(call, pool, ip).ip for ip in public_ips}
    by_id = {_by_allocation(call, pool, text).ip for text in allocation_ids}
    return tuple(
        address
        for address in pool.elastic_of(call.caller.id)
        if (address.ip in by_ip or not by_ip) and (address.ip in by_id or not by_id)
    )


def _named_address(call: Call, pool: Pool, allocation: str, public_ip: str) -> Address:
    if allocation and public_ip:
        raise _not_both("AllocationId", "PublicIp")
    return _by_allocation(call, pool, allocation) if allocation else _by_ip(call, pool, public_ip)


def _by_allocation(call: Call, pool: Pool, text: str) -> Address:
    address = own_address(call, pool, allocated_ip(text))
    if address is None:
        raise ALLOCATION.not_found(text)
    return address


def _by_ip(call: Call, pool: Pool, text: str) -> Address:
    if not text:
        raise EC2Error("MissingParameter", "The request must name an address.")
    ip = ipv4(text)
    if ip is None:
        raise _not_an_address("PublicIp", text)
    address = own_address(call, pool, ip)
    if address is None:
        raise EC2Error("InvalidAddress.NotFound", f"Address '{text}' not found.")
    return address


def _by_association(call: Call, pool: Pool, text: str) -> Address:
    """Return the address that has this association now, not an earlier or a later one."""
    ip, number = association(text)
    address = own_address(call, pool, ip)
    reported = None if address is None else address.reported_association
    if address is None or reported is None or reported.number != number:
        raise EC2Error("InvalidAssociationID.NotFound", f"The association ID '{text}' does not exist")
    return address


def _is_associated_with(address: Address, target: Target) -> bool:
    reported = address.reported_association
    return reported is not None and reported.is_with(target.machine_id, target.private_ip)


def _result(address: LinkedAddress) -> AssociateAddressResult:
    return {"AssociationId": association_id(address.ip, address.association.number)}


def _already_associated(address: Address) -> EC2Error:
    return EC2Error("Resource.AlreadyAssociated", f"The address '{address.ip}' is already associated.")


def _not_an_address(parameter: str, text: str) -> EC2Error:
    return EC2Error("InvalidParameterValue", f"Invalid value '{text}' for {parameter}. Not a valid IPv4 address")


def _not_both(parameter: str, other: str) -> EC2Error:
    return EC2Error("InvalidParameterCombination", f"{parameter} and {other} cannot be given together.")
