"""Allocating addresses of the pool and releasing them, each under a claim (`econed.actions.addresses.claims`).

To give one out: claim it, look, hold its lease, record its owner. Whether it is free `hold` decides, in one step inside
oned, also for whatever else takes addresses of the network. To take one back: claim it, look, make the record nobody's,
release the lease. What a process that dies leaves, by where it dies:

- a claim alone: dead after a while, and taken away by whoever is next;
- a lease without an owner, and the claim: whoever is next with the address takes it, or gives it back;
- a record and the claim, which go and come in one append: the address is given out as was told.

An address that is held and bears no claim is an administrator's, and left alone.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from econed.actions.addresses.claims import Busy, Claim, Observer, alone
from econed.actions.addresses.records import Address, ClaimNote, Pool, recorded_text
from econed.actions.addresses.store import AddressStore
from econed.actions.object_limits import MAX_OF_ADDRESSES, check_size
from econed.actions.tagging import tag_text, too_many_tags
from econed.errors import EC2Error
from econed.opennebula.template import removal

PATIENCE = 20.0
"""Seconds that a request waits for those who are busy with what it needs; the dead among them are known by then."""

_EVERY = 0.5


@dataclass(frozen=True)
class Wish:
    """What is asked for: an address for the user `uid`, who is to have `limit` at most, with tags.

    `ip` is the one address that will do, None where any will.
    """

    uid: int
    limit: int
    ip: IPv4Address | None
    tags: Mapping[str, str]

    def check(self, pool: Pool) -> None:
        """Raise `EC2Error` for what cannot be had: AddressLimitExceeded, …, TagLimitExceeded where too much is kept."""
        if not pool.ips:
            raise EC2Error("UnsupportedOperation", "There are no elastic IP addresses in this cloud.")
        if len(pool.of(self.uid)) >= self.limit:
            raise limit_exceeded()
        check_size(pool.kept_for(self.uid), tag_text(self.tags), MAX_OF_ADDRESSES, too_many_tags())
        if self.ip is not None and (self.ip not in pool.ips or not _may_be_free(pool, self.ip)):
            raise EC2Error("InvalidAddress.NotFound", f"The address '{self.ip}' is not available.")
        if not any(_may_be_free(pool, ip) for ip in pool.ips):
            raise exhausted()


@dataclass
class _Search:
    """The search for an address: the claims of others that were seen, and the addresses that were not to be had."""

    store: AddressStore
    wish: Wish
    until: float
    observer: Observer
    tried: set[IPv4Address] = field(default_factory=set)

    @property
    def is_over(self) -> bool:
        return self.store.now >= self.until

    def candidate(self, pool: Pool) -> tuple[IPv4Address, bool] | None:
        """Return an address to try, and whether others are known to be busy with it; None if there is none."""
        wanted = pool.ips if self.wish.ip is None else (self.wish.ip,)
        possible = [ip for ip in wanted if _may_be_free(pool, ip)]
        busy = {note.ip for note in self.observer.living(pool.claims)}
        quiet = [ip for ip in possible if ip not in busy]
        if fresh := [ip for ip in quiet if ip not in self.tried]:
            return (fresh[0] if not self.tried else secrets.choice(fresh)), False
        return (secrets.choice(quiet or possible), True) if possible else None


async def allocate(store: AddressStore, wish: Wish) -> Address:
    """Give an address out.

    Raises `EC2Error` AddressLimitExceeded, InsufficientAddressCapacity, or InvalidAddress.NotFound for an `ip` that is
    not to be had.
    """
    search = _Search(store, wish, store.now + PATIENCE, Observer(store))
    while True:
        pool = await store.read_pool()
        wish.check(pool)
        found = search.candidate(pool)
        if found is None:
            raise exhausted()
        if search.is_over:
            raise EC2Error("RequestLimitExceeded", "Other requests are taking addresses. Try again.", 503)
        ip, is_contended = found
        if is_contended:
            await store.pause(_EVERY)
        search.tried.add(ip)
        address = await _try(search, ip)
        if address is not None:
            return address


async def _try(search: _Search, ip: IPv4Address) -> Address | None:
    """Give one address out; None if somebody else is busy with it, or has it."""
    store, wish = search.store, search.wish
    claim = Claim(store, ip, wish.uid, allocates=True)
    address = Address(ip, wish.uid, secrets.token_hex(4).upper(), None)

    async def take(claim: Claim, pool: Pool) -> Address | None:
        pool = await _within_limit(search, claim, pool)
        if not await _held(claim, pool):
            return None
        await claim.conclude(recorded_text(address, wish.tags))
        return address

    try:
        patience = max(search.until - store.now, 0)
        return await alone(claim, patience, take, observer=search.observer, gives_way=True)
    except Busy:
        await store.pause(_EVERY / 2)
        return None


async def _within_limit(search: _Search, claim: Claim, pool: Pool) -> Pool:
    """Return the pool once it is certain that the user has not too many with this one.

    What other requests of his are about to get counts too: each sees the record or the claim of every other that was
    before it. Where that is too much, wait for what becomes of them. Raises `EC2Error` AddressLimitExceeded.
    """
    wish = search.wish
    while True:
        check_size(pool.kept_for(wish.uid), tag_text(wish.tags), MAX_OF_ADDRESSES, too_many_tags())
        wish_left = wish.limit - len(pool.of(wish.uid))
        others = [note for note in search.observer.living(pool.claims) if _competes(note, claim, wish, pool)]
        if wish_left <= 0 or (len(others) >= wish_left and search.is_over):
            raise limit_exceeded()
        if len(others) < wish_left:
            return pool
        if min(note.name for note in others) < claim.name:
            raise Busy(claim.ip)  # to come back when the others are done
        await search.store.pause(_EVERY)
        await claim.assure()
        pool = await search.store.read_pool()


def _competes(note: ClaimNote, claim: Claim, wish: Wish, pool: Pool) -> bool:
    return note.allocates and note.uid == wish.uid and note.name != claim.name and note.ip not in pool.addresses


async def _held(claim: Claim, pool: Pool) -> bool:
    """Make the lease of an address ours, and nobody else's address; False if it is not to be had."""
    ip = claim.ip
    if ip in pool.addresses:
        return False
    if pool.is_taken(ip):
        return pool.is_held(ip) and bool(claim.left_by)
    if pool.has_old_claimant(ip):
        await claim.vacate(pool)
    await claim.assure()
    claim.leave()
    if await claim.store.hold(ip):
        return True
    await claim.store.write(removal(claim.name))
    return False


def _may_be_free(pool: Pool, ip: IPv4Address) -> bool:
    """Whether an address is nobody's, and free, or held only because a request of ours has not come to its end."""
    return ip not in pool.addresses and (not pool.is_taken(ip) or (pool.is_held(ip) and bool(pool.claims_on(ip))))


async def release(claim: Claim, pool: Pool) -> None:
    """Take an address back, alone with it: it is nobody's, and free."""
    await claim.vacate(pool)
    await give_back(claim)


async def give_back(claim: Claim) -> None:
    """Release the lease of an address that is nobody's; the claim stands until that is certain."""
    await claim.assure()
    claim.leave()
    await claim.store.release(claim.ip)
    await claim.store.write(*map(removal, (claim.name, *claim.left_by)))


def limit_exceeded() -> EC2Error:
    """Return the error for a user who has as many addresses as he may."""
    return EC2Error("AddressLimitExceeded", "The maximum number of addresses has been reached.")


def exhausted() -> EC2Error:
    """Return the error for a pool with no address left: a 500 as Amazon's, since it passes when one is released."""
    return EC2Error("InsufficientAddressCapacity", "Insufficient capacity.", 500)
