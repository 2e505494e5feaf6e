"""Allocating addresses of the pool and releasing them, each under a claim (`econed.actions.addresses.claims`).

To allocate an address: claim it, read the pool, hold the address, record its owner. Whether the address is free is
decided by `hold`, an atomic step of oned that also excludes any other use of the network's addresses. To release an
address: claim it, read the pool, remove the record, release the lease. A process that dies leaves one of these:

- only a claim: it is dead after a while, and the next request removes it;
- a lease without an owner, and the claim: the next request for the address takes it or releases it;
- a record (the append that adds it removes the claim): the address is allocated, with or without a response.

An address that is held and has no claim was held by an administrator, and is not changed.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from econed.actions.addresses.claims import POLL_INTERVAL, Busy, Claim, Observer, exclusively
from econed.actions.addresses.records import Address, ClaimRecord, Pool, allocation_text
from econed.actions.addresses.store import AddressStore
from econed.actions.object_limits import MAX_ON_ADDRESS_NETWORK, check_size
from econed.actions.tagging import tag_text, too_many_tags
from econed.errors import EC2Error
from econed.opennebula.template import removal

MAX_WAIT = 20.0
"""Seconds that a request waits for other requests' changes; by then it knows which claims are dead."""


@dataclass(frozen=True)
class AllocationRequest:
    """A request for an address with tags, for the user `uid`, who may have `limit` addresses.

    `ip` is the address that the request names, None if it takes any. `associate` associates an address that is assigned
    to an instance, under the claim under which it is allocated, and so records it; None for an elastic IP.
    """

    uid: int
    limit: int
    ip: IPv4Address | None
    tags: Mapping[str, str]
    associate: Callable[[Claim, Address], Awaitable[Address]] | None = None

    def check(self, pool: Pool, count: int = 1) -> None:
        """Raise the `EC2Error` for what the pool does not have, and AddressLimitExceeded or TagLimitExceeded.

        `count` is how many addresses such requests are to allocate.
        """
        if not pool.ips:
            raise EC2Error("UnsupportedOperation", "There are no elastic IP addresses in this cloud.")
        if len(pool.of(self.uid)) + count > self.limit:
            raise limit_exceeded()
        self.check_size(pool)
        if self.ip is not None and (self.ip not in pool.ips or not _may_be_free(pool, self.ip)):
            raise EC2Error("InvalidAddress.NotFound", f"The address '{self.ip}' is not available.")
        if sum(_may_be_free(pool, ip) for ip in pool.ips) < count:
            raise exhausted()

    def check_size(self, pool: Pool) -> None:
        """Raise `EC2Error` TagLimitExceeded if the user's attributes on the network would become too large."""
        check_size(pool.attributes_of(self.uid), tag_text(self.tags), MAX_ON_ADDRESS_NETWORK, too_many_tags())


@dataclass
class _Search:
    """The search for an address: the claims of others that were seen, and the addresses that were tried."""

    store: AddressStore
    request: AllocationRequest
    deadline: float
    observer: Observer
    tried: set[IPv4Address] = field(default_factory=set)

    @property
    def has_timed_out(self) -> bool:
        return self.store.now >= self.deadline

    def candidate(self, pool: Pool) -> tuple[IPv4Address, bool] | None:
        """Return an address to try, and whether it was tried or is claimed by another request; None if none is free."""
        requested = pool.ips if self.request.ip is None else (self.request.ip,)
        possible = [ip for ip in requested if _may_be_free(pool, ip)]
        claimed = {claim.ip for claim in self.observer.live_claims(pool.claims)}
        unclaimed = [ip for ip in possible if ip not in claimed]
        if untried := [ip for ip in unclaimed if ip not in self.tried]:
            return (untried[0] if not self.tried else secrets.choice(untried)), False
        return (secrets.choice(unclaimed or possible), True) if possible else None


async def allocate(store: AddressStore, request: AllocationRequest) -> Address:
    """Allocate an address.

    Raises `EC2Error` AddressLimitExceeded, InsufficientAddressCapacity, or InvalidAddress.NotFound if the address that
    the request names is not available.
    """
    search = _Search(store, request, store.now + MAX_WAIT, Observer(store))
    while True:
        pool = await store.read_pool()
        request.check(pool)
        candidate = search.candidate(pool)
        if candidate is None:
            raise exhausted()
        if search.has_timed_out:
            raise EC2Error("RequestLimitExceeded", "Other requests are allocating addresses. Try again.", 503)
        ip, is_contended = candidate
        if is_contended:
            await store.pause(POLL_INTERVAL)
        search.tried.add(ip)
        address = await _try_to_allocate(search, ip)
        if address is not None:
            return address


async def _try_to_allocate(search: _Search, ip: IPv4Address) -> Address | None:
    """Allocate this address; None if another request changes it or has taken it."""
    store, request = search.store, search.request
    claim = Claim(store, ip, request.uid, allocates=True)
    allocation = secrets.token_hex(4).upper()
    address = Address(ip, request.uid, allocation, is_auto_assigned=request.associate is not None)

    async def take(claim: Claim, pool: Pool) -> Address | None:
        pool = await _within_limit(search, claim, pool)
        if not await _hold(claim, pool):
            return None
        if request.associate is not None:
            return await request.associate(claim, address)
        await claim.commit_and_release(allocation_text(address, request.tags))
        return address

    try:
        timeout = max(search.deadline - store.now, 0)
        return await exclusively(claim, timeout, take, observer=search.observer, fails_if_outranked=True)
    except Busy:
        await store.pause(POLL_INTERVAL / 2)
        return None


async def _within_limit(search: _Search, claim: Claim, pool: Pool) -> Pool:
    """Return the pool once it is certain that the user does not exceed their limit with this address.

    Addresses that other requests of the user are about to get count too: each request sees the record or the claim of
    every request before it. If these are too many, wait for their outcome. Raises `EC2Error` AddressLimitExceeded.
    """
    request = search.request
    while True:
        request.check_size(pool)
        remaining = request.limit - len(pool.of(request.uid))
        live_claims = search.observer.live_claims(pool.claims)
        competing = [other for other in live_claims if _competes(other, claim, request, pool)]
        if remaining <= 0 or (len(competing) >= remaining and search.has_timed_out):
            raise limit_exceeded()
        if len(competing) < remaining:
            return pool
        if min(other.name for other in competing) < claim.name:
            raise Busy(claim.ip)  # the search tries again when the others have ended
        await search.store.pause(POLL_INTERVAL)
        await claim.check_still_held()
        pool = await search.store.read_pool()


def _competes(other: ClaimRecord, claim: Claim, request: AllocationRequest, pool: Pool) -> bool:
    return other.allocates and other.uid == request.uid and other.name != claim.name and other.ip not in pool.addresses


async def _hold(claim: Claim, pool: Pool) -> bool:
    """Lease an address that is not allocated, or take over the lease of a dead process; False if neither is possible.

    The claim is abandoned, since a lease without a record needs it.
    """
    ip = claim.ip
    if ip in pool.addresses:
        return False
    if pool.is_leased(ip):
        return pool.is_held(ip) and bool(claim.dead_claims)
    if pool.has_legacy_owner(ip):
        await claim.record_free(pool)
    await claim.check_still_held()
    claim.abandon()
    if await claim.store.hold(ip):
        return True
    await claim.store.write(removal(claim.name))
    return False


def _may_be_free(pool: Pool, ip: IPv4Address) -> bool:
    """Whether an address is not allocated, and is not leased, or only held for a request that may not have finished."""
    return ip not in pool.addresses and (not pool.is_leased(ip) or (pool.is_held(ip) and bool(pool.claims_on(ip))))


async def release(claim: Claim, pool: Pool) -> None:
    """Release an address: remove its record, then its lease."""
    await claim.record_free(pool)
    await release_lease(claim)


async def conclude(claim: Claim, pool: Pool, address: Address) -> None:
    """Record an address whose association has ended: as allocated, or free if it was assigned to the instance."""
    if address.is_auto_assigned:
        await release(claim, pool)
    else:
        await claim.commit_and_release(address.text())


async def release_lease(claim: Claim) -> None:
    """Release the lease of an address that is not allocated; the claim is removed once that is certain."""
    await claim.check_still_held()
    claim.abandon()
    await claim.store.release(claim.ip)
    await claim.store.write(*map(removal, (claim.name, *claim.dead_claims)))


def limit_exceeded() -> EC2Error:
    """Return the error for a user who has as many addresses as they may have."""
    return EC2Error("AddressLimitExceeded", "The maximum number of addresses has been reached.")


def exhausted() -> EC2Error:
    """Return the error for a pool without free addresses: status 500, as Amazon's, since a retry may succeed."""
    return EC2Error("InsufficientAddressCapacity", "Insufficient capacity.", 500)
