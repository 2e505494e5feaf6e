"""Mutual exclusion for changes to one elastic IP, across processes.

oned lets only one of two requests hold an address, but every other change of an address takes several calls: to release
it, first the record is removed and then the lease; to associate it, a script runs between two records. So a request
first makes a claim, an attribute of its own on the network, by one atomic append. Then it reads the network, and
proceeds once there is no other claim on the address. Of two requests, the one that appended second sees the claim of
the first when it reads, so the two never proceed together. If each sees the claim of the other, the request whose claim
has the lower name keeps it and waits; the other removes its claim and waits.

A process that dies leaves its claim. A process that is alive renews its claim every few seconds (`_RENEWAL_INTERVAL`),
so a claim that another process has seen unchanged for `LEASE` seconds by its own clock is dead and is ignored. No two
clocks are compared, except for claims older than `STALE`, which are dead at once. Therefore nothing is changed under a
claim that is not fresh: the claim is renewed first, and the rest of `LEASE` is for the call in flight. If a claim was
not renewed for all of `LEASE`, its process reads the network again, and gives up if there is another claim
(`Claim.check_still_held`).

A dead claim also shows what happened. An address that is held and has no owner is an administrator's, unless a dead
claim is on it: then a process died between the lease and the record, and the next request may take the address or
release it. So a claim is removed only together with the record of what was done, or by a request that has done nothing;
if it is not known whether something was done, the claim is left on the network (`Claim.abandon`).
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from ipaddress import IPv4Address
from itertools import count
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from econed.actions.addresses.records import Address, ClaimRecord, Pool, claim_name, claim_text
from econed.actions.addresses.store import AddressStore
from econed.errors import EC2Error, OpenNebulaError
from econed.opennebula.template import removal

LEASE = 15.0
"""Seconds after which a claim that was not renewed counts as left by a process that died."""

STALE = 600
"""Seconds since its time after which a claim is dead for every process, however much their clocks differ."""

_RENEWAL_INTERVAL = LEASE / 3
"""Seconds between renewals of a claim while a script runs."""

_FRESH = LEASE * 0.6
"""Seconds after its renewal for which changes may be made under a claim."""

POLL_INTERVAL = 0.5
"""Seconds between two reads of the claims of others."""

_T = TypeVar("_T")


class Busy(EC2Error):
    """Another request is changing the address."""

    def __init__(self, ip: IPv4Address) -> None:
        super().__init__("IncorrectState", f"Another request is changing the address '{ip}'. Try again.")


@dataclass
class Observer:
    """The claims of others that one request has seen, and since when each is unchanged."""

    store: AddressStore
    _seen: dict[str, tuple[ClaimRecord, float]] = field(default_factory=dict)

    def live_claims(self, claims: Iterable[ClaimRecord]) -> list[ClaimRecord]:
        """Return those of the claims, all from one read, whose processes may be alive."""
        now = self.store.now
        live_claims = []
        for claim in claims:
            seen, since = self._seen.get(claim.name, (None, now))
            self._seen[claim.name] = (claim, since if seen == claim else now)
            if now - self._seen[claim.name][1] < LEASE and now - claim.time < STALE:
                live_claims.append(claim)
        return live_claims


@dataclass(frozen=True)
class _Posted:
    """The state of a claim that is on the network, as far as its own process knows.

    `renewed_at` is when the last write of it that succeeded began. It `is_in_doubt` if it was not renewed for `LEASE`
    seconds: another process may have ignored it since. If it `is_abandoned`, only a record of what was done removes it.
    """

    renewed_at: float = -math.inf
    is_in_doubt: bool = False
    is_abandoned: bool = False

    def is_fresh(self, now: float) -> bool:
        """Whether changes may be made under it."""
        return now - self.renewed_at <= _FRESH

    def renewed(self, began: float, ended: float) -> _Posted:
        """Return the state after a write that succeeded."""
        is_late = ended - self.renewed_at >= LEASE
        return replace(self, renewed_at=began, is_in_doubt=self.is_in_doubt or is_late)


@dataclass
class Claim:
    """A claim on an address. `uid` is the user of the request, `allocates` whether the address is to become theirs.

    Once the claim is acquired, `dead_claims` names the claims of processes that died, and `address` is the address
    as recorded. `_posted` is None while the claim is not on the network.
    """

    store: AddressStore
    ip: IPv4Address
    uid: int | None
    allocates: bool = False
    nonce: int = field(default_factory=lambda: secrets.randbits(64))
    dead_claims: frozenset[str] = frozenset()
    address: Address | None = None
    _posted: _Posted | None = None
    _beats: Iterator[int] = field(default_factory=partial(count, 1))

    @property
    def name(self) -> str:
        """The attribute that records it."""
        return claim_name(self.ip, f"{self.nonce:016X}")

    async def acquire(self, timeout: float, observer: Observer, *, fails_if_outranked: bool = False) -> Pool:
        """Return the pool as it is once there is no other live claim on the address.

        Raises `Busy` after `timeout` seconds, or, with `fails_if_outranked`, as soon as a live claim with a lower name
        is seen. `observer` has the claims of others that were seen before.
        """
        deadline = self.store.now + timeout
        while True:
            if not self._is_fresh:
                await self._renew()
            pool = await self.store.read_pool()
            others = [claim for claim in pool.claims_on(self.ip) if claim.name != self.name]
            rivals = observer.live_claims(others)
            if self._posted is not None and self._is_fresh and not rivals:
                self.dead_claims = frozenset(claim.name for claim in others)
                self.address = pool.addresses.get(self.ip)
                self._posted = replace(self._posted, is_in_doubt=False)
                return pool
            is_outranked = bool(rivals) and min(claim.name for claim in rivals) < self.name
            if is_outranked or self.store.now >= deadline:
                await self.release()
            if self.store.now >= deadline or (is_outranked and fails_if_outranked):
                raise Busy(self.ip)
            if is_outranked:
                await self._wait_for_rivals(observer, deadline)
            else:
                await self.store.pause(POLL_INTERVAL)

    async def _wait_for_rivals(self, observer: Observer, deadline: float) -> None:
        """Wait, without a claim, until there is no live claim on the address."""
        while self.store.now < deadline:
            await self.store.pause(POLL_INTERVAL * (1 + self.nonce / 2**64))  # not in step with other waiting requests
            if not observer.live_claims((await self.store.read_pool()).claims_on(self.ip)):
                return

    @property
    def _is_fresh(self) -> bool:
        return self._posted is not None and self._posted.is_fresh(self.store.now)

    async def _renew(self) -> None:
        """Write the claim; if that fails, the claim may be on the network nevertheless."""
        began = self.store.now
        record = ClaimRecord(self.name, self.ip, self.uid, self.allocates, int(began), str(next(self._beats)))
        self._posted = self._posted or _Posted()
        await self.store.write(claim_text(record))
        if self._posted is not None:
            self._posted = self._posted.renewed(began, self.store.now)

    async def keep_renewed(self, work: Awaitable[_T]) -> _T:
        """Await long-running work, and renew the claim meanwhile.

        A renewal in flight is awaited too: if it arrived late, it would restore a claim that has been removed.
        """
        renewals = LoopingCall(self._renew_in_background)
        renewals.clock = self.store.clock
        ended = renewals.start(_RENEWAL_INTERVAL, now=False)
        try:
            result = await work
        except Exception:
            renewals.stop()
            await ended
            raise
        renewals.stop()
        await ended
        return result

    def _renew_in_background(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._try_to_renew())

    async def _try_to_renew(self) -> None:
        try:
            await self._renew()
        except OpenNebulaError as error:  # the next change checks the claim before it is made
            self.store.log.warn("renewing a claim on {ip}: {error}", ip=self.ip, error=str(error))

    async def check_still_held(self) -> None:
        """Renew the claim if it is not fresh; raises `Busy` if another process may have ignored it meanwhile.

        If the claim was renewed in time, no process has: every other request for the address waits.
        """
        if not self._is_fresh:
            await self._renew()
        if self._posted is None or not self._posted.is_in_doubt:
            return
        pool = await self.store.read_pool()
        others = {claim.name for claim in pool.claims_on(self.ip)} - {self.name} - self.dead_claims
        if others or not self._is_fresh or pool.addresses.get(self.ip) != self.address:
            raise Busy(self.ip)
        self._posted = replace(self._posted, is_in_doubt=False)

    async def record(self, address: Address) -> None:
        """Record a change of the address, and keep the claim."""
        await self.check_still_held()
        await self.store.write(address.text())
        self.address = address

    async def record_free(self, pool: Pool) -> None:
        """Record that the address is not allocated, and keep the claim."""
        await self.check_still_held()
        await self.store.write(pool.release_text(self.ip))
        self.address = None

    async def commit_and_release(self, *texts: str) -> None:
        """Record what was done, and in the same step remove this claim and those of processes that died."""
        await self.check_still_held()
        claims = [self.name, *self.dead_claims]
        self.abandon()
        await self.store.write(*texts, *map(removal, claims))

    async def release(self) -> None:
        """Remove the claim, unless it is abandoned; nothing was done."""
        if self._posted is not None and not self._posted.is_abandoned:
            self._posted = None
            await self.store.write(removal(self.name))

    def abandon(self) -> None:
        """Leave the claim on the network from now on: it marks a change that may be incomplete."""
        self._posted = replace(self._posted or _Posted(), is_abandoned=True)


async def exclusively(
    claim: Claim,
    timeout: float,
    change: Callable[[Claim, Pool], Awaitable[_T]],
    *,
    observer: Observer | None = None,
    fails_if_outranked: bool = False,
) -> _T:
    """Change an address under a claim (`Claim.acquire`); raises `Busy` and what `change` raises.

    The claim is released afterwards, unless `change` has abandoned it.
    """
    try:
        pool = await claim.acquire(timeout, observer or Observer(claim.store), fails_if_outranked=fails_if_outranked)
        result = await change(claim, pool)
    except Exception:
        with suppress(OpenNebulaError):
            await claim.release()
        raise
    await claim.release()
    return result
