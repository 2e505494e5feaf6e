"""Elastic IPs (EC2 API Reference, "Elastic IP addresses"): addresses of one OpenNebula network.

Old clients name an address by PublicIp, newer ones by AllocationId and AssociationId: both are taken, of either it is
enough to give one. What is not the caller's is the same NotFound as what does not exist.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NotRequired, TypedDict, TypeVar

from econed.actions.action import action
from econed.actions.addresses.claims import Busy, Claim, alone
from econed.actions.addresses.links import Leader, Target, is_leased
from econed.actions.addresses.pool import PATIENCE, Wish, allocate, release
from econed.actions.addresses.records import Address, Pool
from econed.actions.addresses.store import AddressStore, address_store, own_address
from econed.actions.addresses.view import ADDRESS_FILTERS, DOMAIN, leads_nowhere, linked_machines, shown_address
from econed.actions.inputs import Filter, TagSpecification
from econed.actions.machines.finding import find_machines, is_instance
from econed.actions.machines.state import InstanceState, state_of
from econed.actions.paging import Listing, Paging
from econed.actions.regions.regions import own_region
from econed.actions.tagging import specified_tags
from econed.errors import EC2Error
from econed.ids import (
    ALLOCATION,
    INSTANCE,
    NETWORK_INTERFACE,
    allocated_ip,
    allocation_id,
    association,
    association_id,
    machine_and_part,
)
from econed.opennebula.documents import Right
from econed.opennebula.template import removal
from econed.opennebula.values import ipv4

if TYPE_CHECKING:
    from types_boto3_ec2.literals import DomainTypeType
    from types_boto3_ec2.type_defs import AddressAttributeTypeDef, AddressTypeDef

    from econed.actions.call import Call
    from econed.opennebula.documents import Nic, VirtualMachine

_T = TypeVar("_T")

_TIME = 45.0
"""Seconds in which a request comes to its end, scripts and all: SDKs wait for 60."""

_ATTRIBUTES = Listing("addresses-attribute", (str,))
_TO_BE_ASSOCIATED = frozenset(InstanceState) - {InstanceState.SHUTTING_DOWN, InstanceState.TERMINATED}

_WRITE_CHECK = "EC2_ADDRESS_CHECK"
"""An attribute that no machine has; taking it away changes nothing, and oned says whether the caller might."""


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
    """Give the caller an elastic IP, or the one of the pool that Address names (EC2 AllocateAddress).

    Domain may be `standard`, as old clients ask for it; every address is of the domain `vpc`.
    """
    if domain not in (DOMAIN, "standard", ""):
        raise EC2Error("InvalidParameterValue", f"Invalid value '{domain}' for domain.")
    wanted = ipv4(address)
    if address and wanted is None:
        raise _no_address("Address", address)
    tags = specified_tags(tag_specifications, "elastic-ip")["elastic-ip"]
    wish = Wish(call.caller.id, call.settings.elastic_ips_per_user, wanted, tags)
    store, region = address_store(call), await own_region(call)
    given = await allocate(store, wish)
    return {
        "PublicIp": str(given.ip),
        "AllocationId": allocation_id(given.ip),
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
    """List the caller's elastic IPs (EC2 DescribeAddresses; the list does not come in pages)."""
    store, region = address_store(call), await own_region(call)
    border_groups = ADDRESS_FILTERS.with_values("network-border-group", lambda _: region.names)
    selection = border_groups.selection(filters, call.budget)
    pool = await store.read_pool()
    listed = _listed(call, pool, public_ips, allocation_ids)
    seen = {machine.id: machine for machine in await call.session.vms(linked_machines(listed))}
    shown = (shown_address(address, pool, seen, region.name) for address in listed)
    return {"Addresses": await selection.matching(shown)}


@action()
async def describe_addresses_attribute(
    call: Call,
    *,
    allocation_ids: Sequence[str] = (),
    attribute: Literal["domain-name"] = "domain-name",
    max_results: int | None = None,
    next_token: str | None = None,
) -> DescribeAddressesAttributeResult:
    """List the caller's elastic IPs with the names that their reverse DNS has: none, nothing here keeps any."""
    paging = Paging.of(_ATTRIBUTES, max_results, next_token, least=1, ids=allocation_ids)
    listed = _listed(call, await address_store(call).read_pool(), (), allocation_ids)
    page, last = paging.page((allocation_id(address.ip) for address in listed), lambda each: (each,))
    attributes: list[AddressAttributeTypeDef] = [
        {"PublicIp": str(allocated_ip(each)), "AllocationId": each} for each in page
    ]
    return {"Addresses": attributes, **last}


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
    """Lead an elastic IP to an instance, by the administrator's script (EC2 AssociateAddress).

    With AllowReassociation false it fails where the address leads to another instance, or another of the caller's
    addresses to the same private one; otherwise these associations end. Raises `EC2Error` IncorrectState where a script
    does not do its work, or another request got there first.
    """
    until = call.clock.seconds() + _TIME
    store = address_store(call)
    pool = await store.read_pool()
    address = _one_address(call, pool, allocation_id, public_ip)
    machine, target = await _target(call, instance_id, network_interface_id, private_ip_address)
    if (link := address.association) is not None and link.leads_to(target.vm_id, target.private_ip):
        return _associated(address)
    in_the_way = [
        each
        for each in pool.addresses.values()
        if each.ip != address.ip
        and each.association is not None
        and each.association.leads_to(target.vm_id, target.private_ip)
    ]
    if not allow_reassociation and (in_the_way or address.association is not None):
        raise _already_associated(address if address.association is not None else in_the_way[0])
    if any(each.uid != call.caller.id for each in in_the_way):
        raise _already_associated(in_the_way[0])
    await call.change_all(Right.MANAGE, [machine], lambda each: call.session.vm_update(each.id, removal(_WRITE_CHECK)))
    work = _Work(store, Leader(call.scripts, call.session, until), until)
    for each in in_the_way:
        await work.alone_with(each, work.disconnect)

    async def connect(claim: Claim, _: Pool) -> Address:
        return await work.leader.connect(claim, address, target)

    return _associated(await work.alone_with(address, connect))


@action()
async def disassociate_address(call: Call, *, association_id: str = "", public_ip: str = "") -> None:
    """Lead an elastic IP nowhere any more, by the administrator's script (EC2 DisassociateAddress)."""
    until = call.clock.seconds() + _TIME
    store = address_store(call)
    pool = await store.read_pool()
    if association_id and public_ip:
        raise _not_both("AssociationId", "PublicIp")
    address = _of_association(call, pool, association_id) if association_id else _of_ip(call, pool, public_ip)
    if address.association is None:
        raise EC2Error("InvalidAssociationID.NotFound", f"The address '{address.ip}' is not associated.")
    work = _Work(store, Leader(call.scripts, call.session, until), until)
    await work.alone_with(address, work.disconnect)


# NetworkBorderGroup only repeats where the address is.
@action(ignores=("NetworkBorderGroup",))
async def release_address(call: Call, *, allocation_id: str = "", public_ip: str = "") -> None:
    """Give an elastic IP back (EC2 ReleaseAddress); as long as it leads to an instance, it is in use."""
    until = call.clock.seconds() + _TIME
    store = address_store(call)
    pool = await store.read_pool()
    address = _one_address(call, pool, allocation_id, public_ip)
    if (link := address.association) is not None:
        found = {machine.id: machine for machine in await call.session.vms([link.vm_id])}
        if not leads_nowhere(address, found.get(link.vm_id)):
            raise EC2Error("InvalidIPAddress.InUse", f"Address {address.ip} is in use.")
    work = _Work(store, Leader(call.scripts, call.session, until), until)

    async def take_back(claim: Claim, pool: Pool) -> None:
        if address.link is not None:
            await work.leader.lead_away(claim, address)
        await release(claim, pool)

    await work.alone_with(address, take_back)


@dataclass(frozen=True)
class _Work:
    """What a request does to addresses, each alone, until its time is over (seconds since the epoch)."""

    store: AddressStore
    leader: Leader
    until: float

    async def alone_with(self, address: Address, act: Callable[[Claim, Pool], Awaitable[_T]]) -> _T:
        """Do something alone with an address that is still as it was read.

        Raises `EC2Error` IncorrectState where another request has changed it, or is changing it.
        """

        async def if_unchanged(claim: Claim, pool: Pool) -> _T:
            if claim.address != address:
                raise Busy(address.ip)
            return await act(claim, pool)

        patience = max(min(PATIENCE, self.until - self.store.now), 0)
        return await alone(Claim(self.store, address.ip, address.uid), patience, if_unchanged)

    async def disconnect(self, claim: Claim, _: Pool) -> None:
        """Lead the address of a claim nowhere any more."""
        if claim.address is not None and claim.address.link is not None:
            away = await self.leader.lead_away(claim, claim.address)
            await claim.conclude(away.text())


async def _target(
    call: Call, instance_id: str, network_interface_id: str, private_ip: str
) -> tuple[VirtualMachine, Target]:
    """Return the machine and the interface that an address is to lead to, which oned has given it."""
    if instance_id and network_interface_id:
        raise _not_both("InstanceId", "NetworkInterfaceId")
    if network_interface_id:
        machine, nics = await _of_interface(call, network_interface_id)
    elif instance_id:
        (machine,) = await find_machines(call, [instance_id])
        nics = machine.nics
    else:
        raise EC2Error("MissingParameter", "Either 'InstanceId' or 'NetworkInterfaceId' must be provided.")
    if state_of(machine) not in _TO_BE_ASSOCIATED:
        raise EC2Error(
            "IncorrectInstanceState",
            f"The instance '{INSTANCE.format(machine.id)}' is not in a state from which it can be associated.",
        )
    wanted = ipv4(private_ip)
    for nic in nics:
        if nic.ip is not None and (not private_ip or nic.ip == wanted):
            if await is_leased(call.session, call.serveradmin, machine, nic):
                return machine, Target(machine.id, nic.ip, nic.nic_id)
            break
    what = f"the private address '{private_ip}'" if private_ip else "a private IPv4 address"
    raise EC2Error("InvalidParameterValue", f"'{instance_id or network_interface_id}' does not have {what}.")


async def _of_interface(call: Call, text: str) -> tuple[VirtualMachine, tuple[Nic, ...]]:
    """Return the machine of an interface, and that interface; raises `EC2Error` InvalidNetworkInterfaceID.…."""
    place = machine_and_part(NETWORK_INTERFACE.prefix, text)
    if place is None:
        NETWORK_INTERFACE.opennebula_id(text)  # malformed?
        raise NETWORK_INTERFACE.not_found(text)
    number, part = place
    for machine in await call.session.vms([number]):
        nics = tuple(nic for nic in machine.nics if nic.nic_id == part)
        if nics and is_instance(call, machine):
            return machine, nics
    raise NETWORK_INTERFACE.not_found(text)


def _listed(call: Call, pool: Pool, public_ips: Sequence[str], allocation_ids: Sequence[str]) -> tuple[Address, ...]:
    """Return the caller's addresses that are named, or all; raises `EC2Error` for a name that is none of them."""
    by_ip = {_of_ip(call, pool, ip).ip for ip in public_ips}
    by_id = {_of_allocation(call, pool, each).ip for each in allocation_ids}
    return tuple(
        address
        for address in pool.of(call.caller.id)
        if (address.ip in by_ip or not by_ip) and (address.ip in by_id or not by_id)
    )


def _one_address(call: Call, pool: Pool, allocation: str, public_ip: str) -> Address:
    if allocation and public_ip:
        raise _not_both("AllocationId", "PublicIp")
    return _of_allocation(call, pool, allocation) if allocation else _of_ip(call, pool, public_ip)


def _of_allocation(call: Call, pool: Pool, text: str) -> Address:
    address = own_address(call, pool, allocated_ip(text))
    if address is None:
        raise ALLOCATION.not_found(text)
    return address


def _of_ip(call: Call, pool: Pool, text: str) -> Address:
    if not text:
        raise EC2Error("MissingParameter", "The request must name an address.")
    ip = ipv4(text)
    if ip is None:
        raise _no_address("PublicIp", text)
    address = own_address(call, pool, ip)
    if address is None:
        raise EC2Error("InvalidAddress.NotFound", f"Address '{text}' not found.")
    return address


def _of_association(call: Call, pool: Pool, text: str) -> Address:
    """Return the address with an association: this one, not one that it had before or has since."""
    ip, number = association(text)
    address = own_address(call, pool, ip)
    if address is None or address.association is None or address.association.number != number:
        raise EC2Error("InvalidAssociationID.NotFound", f"The association ID '{text}' does not exist")
    return address


def _associated(address: Address) -> AssociateAddressResult:
    assert address.link is not None  # noqa: S101 - that is what was done
    return {"AssociationId": association_id(address.ip, address.link.number)}


def _already_associated(address: Address) -> EC2Error:
    return EC2Error("Resource.AlreadyAssociated", f"The address '{address.ip}' is already associated.")


def _no_address(parameter: str, text: str) -> EC2Error:
    return EC2Error("InvalidParameterValue", f"Invalid value '{text}' for {parameter}. Not a valid IPv4 address")


def _not_both(one: str, other: str) -> EC2Error:
    return EC2Error("InvalidParameterCombination", f"{one} and {other} cannot be given together.")
