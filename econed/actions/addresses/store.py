"""Access to the network of elastic IPs, for requests and chores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from econed.actions.addresses.records import Address, Pool
from econed.actions.shared_result import SharedResult
from econed.errors import EC2Error, OpenNebulaCode, OpenNebulaRefusal
from econed.ids import ALLOCATION, allocated_ip
from econed.opennebula.session import Session
from econed.opennebula.template import template

if TYPE_CHECKING:
    from ipaddress import IPv4Address

    from econed.actions.call import Call


@dataclass(frozen=True)
class AddressStore:
    """The network of elastic IPs, in serveradmin's session: it belongs to no user.

    `shared_pool` has the pool of the last document without leases.
    """

    session: Session
    network_id: int
    clock: IReactorTime
    shared_pool: SharedResult = field(default_factory=SharedResult)
    log: Logger = field(default_factory=partial(Logger, namespace="econed.addresses"))

    @property
    def now(self) -> float:
        """The time, in seconds since the epoch."""
        return self.clock.seconds()

    async def read_pool(self) -> Pool:
        """Return the pool as it is now."""
        return Pool(await self.session.network(self.network_id))

    async def read_allocated(self) -> Pool:
        """Return the pool for its allocated addresses and their tags, without leases if these do not decide that.

        Which of the addresses that only the Ruby server recorded are allocated depends on their leases.
        """
        pool = self.shared_pool.of(await self.session.network_without_leases(self.network_id), Pool)
        return await self.read_pool() if pool.has_legacy_entries else pool

    async def write(self, *texts: str) -> None:
        """Append attributes to the network, all in one step."""
        await self.session.network_update(self.network_id, template(*texts))

    async def hold(self, ip: IPv4Address) -> bool:
        """Lease an address; False if it is leased already."""
        try:
            await self.session.network_hold(self.network_id, ip)
        except OpenNebulaRefusal as refusal:
            if refusal.code != OpenNebulaCode.INTERNAL:
                raise
            return False
        return True

    async def release(self, ip: IPv4Address) -> None:
        """Release the lease of an address."""
        await self.session.network_release(self.network_id, ip)

    async def text(self) -> str:
        """Return the network's document as oned returns it."""
        return await self.session.network_text(self.network_id)

    async def pause(self, seconds: float) -> None:
        """Wait for some seconds."""
        await deferLater(self.clock, seconds)


def address_store(call: Call) -> AddressStore:
    """Return the network of elastic IPs; raises `EC2Error` UnsupportedOperation if none is configured."""
    if call.settings.elasticips_vnet_id is None:
        raise EC2Error("UnsupportedOperation", "There are no elastic IP addresses in this cloud.")
    return AddressStore(call.serveradmin, call.settings.elasticips_vnet_id, call.clock, call.memory.elastic_addresses)


def own_address(call: Call, pool: Pool, ip: IPv4Address) -> Address | None:
    """Return an address if it is an elastic IP of the caller."""
    address = pool.addresses.get(ip)
    is_own = address is not None and address.uid == call.caller.id and not address.is_auto_assigned
    return address if is_own else None


async def own_addresses_by_id(call: Call, allocation_ids: Sequence[str]) -> tuple[Pool | None, tuple[Address, ...]]:
    """Return the caller's addresses with these allocation ids, and the pool that they are from (None without ids).

    Raises `EC2Error` InvalidAllocationID.Malformed or .NotFound.
    """
    ids_by_ip = {allocated_ip(allocation_id): allocation_id for allocation_id in allocation_ids}
    if not ids_by_ip:
        return None, ()
    pool = await address_store(call).read_pool()
    addresses = {ip: own_address(call, pool, ip) for ip in ids_by_ip}
    if missing := [ids_by_ip[ip] for ip, address in addresses.items() if address is None]:
        raise ALLOCATION.not_found(*missing)
    return pool, tuple(address for address in addresses.values() if address is not None)
