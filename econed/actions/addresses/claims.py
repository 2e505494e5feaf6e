"""Being alone with an elastic IP: claims, by which requests keep out of each other's way across processes.

oned holds an address for one of two, but whatever else is done to an address takes several calls: to release it,
its record goes first and then its lease; to associate it, a script runs between two records. So a request first makes a
claim, an attribute of its own on the network, by one atomic append; then it looks, and goes on once no other claim on
the address stands. Of two, whoever appended second sees the claim of the first in its look: two are never alone. Where
both see each other, the one whose claim has the lower name stays and waits, the other takes its claim back and waits.

A process that dies leaves its claim. A living one makes its claim anew (`_BEAT`) every few seconds, so a claim that
somebody has seen unchanged for `LEASE` seconds by his own clock is dead and counts no more: no two clocks are compared,
but for claims older than `STALE`, which are dead at once. In return nobody changes anything under a claim that is not
fresh: he makes it anew first, and the rest of `LEASE` is for the call on its way. If he was silent for all of it, he
looks again, and gives up if another has come (`Claim.assure`).

A dead claim also tells what happened. An address that is held and has no owner is an administrator's own business,
unless a dead claim is on it: then a request of ours died between the lease and the record, and whoever comes next may
take the address, or give it back. So a claim is taken away only together with the record of what was done, or by
somebody who has done nothing; if it is not known whether something was done, it is left (`Claim.leave`).
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from econed.actions.addresses.records import Address, ClaimNote, Pool, claim_name, claim_text
from econed.actions.addresses.store import AddressStore
from econed.errors import EC2Error, OpenNebulaError
from econed.opennebula.template import removal

LEASE = 15.0
"""Seconds after which a claim that was not made anew is taken to be left over from a process that died."""

STALE = 600
"""Seconds by the clock after which a claim is dead whoever sees it, however the clocks of two machines differ."""

_BEAT = LEASE / 3
"""Seconds after which a claim is made anew while a script runs."""

_FRESH = LEASE * 0.6
"""Seconds for which something may be changed under a claim."""

_EVERY = 0.5
"""Seconds between two looks at the claim of another."""

_T = TypeVar("_T")


class Busy(EC2Error):
    """Another request is changing the address."""

    def __init__(self, ip: IPv4Address) -> None:
        super().__init__("IncorrectState", f"Another request is changing the address '{ip}'. Try again.")


@dataclass
class Observer:
    """Somebody who looks at the claims of others, and remembers since when each has stood as it stands."""

    store: AddressStore
    _seen: dict[str, tuple[ClaimNote, float]] = field(default_factory=dict)

    def living(self, claims: Iterable[ClaimNote]) -> list[ClaimNote]:
        """Return those of the claims, all of one look, that may belong to a process that lives."""
        now = self.store.now
        found = []
        for note in claims:
            seen, since = self._seen.get(note.name, (None, now))
            self._seen[note.name] = (note, since if seen == note else now)
            if now - self._seen[note.name][1] < LEASE and now - note.time < STALE:
                found.append(note)
        return found


@dataclass
class Claim:
    """A claim on an address. `uid` is the user whose request it is, `allocates` whether it is to become his.

    Once one is alone, `left_by` names the claims of the dead, and `address` is what is recorded of the address.
    """

    store: AddressStore
    ip: IPv4Address
    uid: int | None
    allocates: bool = False
    nonce: int = field(default_factory=lambda: secrets.randbits(64))
    left_by: frozenset[str] = frozenset()
    address: Address | None = None
    _stands: bool = False
    _is_left: bool = False
    _may_be_lost: bool = False
    _made: float = 0.0
    _beats: int = 0

    @property
    def name(self) -> str:
        """The attribute that it is."""
        return claim_name(self.ip, f"{self.nonce:016X}")

    async def enter(self, patience: float, observer: Observer, *, gives_way: bool = False) -> Pool:
        """Return the pool as it is once one is alone with the address.

        Raises `Busy` when that takes more than `patience` seconds, or, with `gives_way`, as soon as another who has the
        better claim is seen. `observer` knows what was seen of the claims of others before.
        """
        until = self.store.now + patience
        while True:
            if not self._stands or not self._is_fresh:
                await self._make()
            pool = await self.store.read_pool()
            rivals = [note for note in pool.claims_on(self.ip) if note.name != self.name]
            living = observer.living(rivals)
            if not living and self._is_fresh:
                self.left_by = frozenset(note.name for note in rivals)
                self.address = pool.addresses.get(self.ip)
                self._may_be_lost = False
                return pool
            yields = bool(living) and min(note.name for note in living) < self.name
            if yields or self.store.now >= until:
                await self.withdraw()
            if self.store.now >= until or (yields and gives_way):
                raise Busy(self.ip)
            if yields:
                await self._wait_for_others(observer, until)
            else:
                await self.store.pause(_EVERY)

    async def _wait_for_others(self, observer: Observer, until: float) -> None:
        """Wait, with no claim of one's own, until no other is seen to be alive."""
        while self.store.now < until:
            await self.store.pause(_EVERY * (1 + self.nonce / 2**64))  # out of step with the others who wait
            if not observer.living((await self.store.read_pool()).claims_on(self.ip)):
                return

    @property
    def _is_fresh(self) -> bool:
        return self.store.now - self._made <= _FRESH

    async def _make(self) -> None:
        self._beats += 1
        before, made = self._made, self.store.now
        note = ClaimNote(self.name, self.ip, self.uid, self.allocates, int(made), str(self._beats))
        self._stands = True
        await self.store.write(claim_text(note))
        self._made = made
        if self.store.now - before >= LEASE:
            self._may_be_lost = True

    async def during(self, work: Awaitable[_T]) -> _T:
        """Wait for something that takes its time, making the claim anew meanwhile.

        What is on its way is waited for: arriving late, it would bring a claim back that has been taken away.
        """
        beat = LoopingCall(self._make_again)
        beat.clock = self.store.clock
        silent = beat.start(_BEAT, now=False)
        try:
            result = await work
        except Exception:
            beat.stop()
            await silent
            raise
        beat.stop()
        await silent
        return result

    def _make_again(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._beat())

    async def _beat(self) -> None:
        try:
            await self._make()
        except OpenNebulaError as error:  # what follows looks again before it changes anything
            self.store.log.warn("a claim on {ip} could not be made anew: {error}", ip=self.ip, error=str(error))

    async def assure(self) -> None:
        """Make sure that one is still alone; raises `Busy` where another may have taken this process for dead.

        If the claim was made anew often enough, nobody has: who else has a claim waits.
        """
        if not self._is_fresh:
            await self._make()
        if not self._may_be_lost:
            return
        pool = await self.store.read_pool()
        others = {note.name for note in pool.claims_on(self.ip)} - {self.name} - self.left_by
        if others or not self._is_fresh or pool.addresses.get(self.ip) != self.address:
            raise Busy(self.ip)
        self._may_be_lost = False

    async def record(self, address: Address) -> None:
        """Write down what has become of the address, the claim standing."""
        await self.assure()
        await self.store.write(address.text())
        self.address = address

    async def vacate(self, pool: Pool) -> None:
        """Write down that the address is nobody's, the claim standing."""
        await self.assure()
        await self.store.write(pool.vacancy_text(self.ip))
        self.address = None

    async def conclude(self, *texts: str) -> None:
        """Write down what was done, and in the same step take away the claim and those of the dead."""
        await self.assure()
        gone = [self.name, *self.left_by]
        self.leave()
        await self.store.write(*texts, *map(removal, gone))

    async def withdraw(self) -> None:
        """Take the claim back, nothing having been done."""
        if self._stands and not self._is_left:
            self._stands = False
            await self.store.write(removal(self.name))

    def leave(self) -> None:
        """Let the claim stand from here on, as the mark of something that may have been done by half."""
        self._is_left = True


async def alone(
    claim: Claim,
    patience: float,
    act: Callable[[Claim, Pool], Awaitable[_T]],
    *,
    observer: Observer | None = None,
    gives_way: bool = False,
) -> _T:
    """Do something alone with an address, as `Claim.enter` says; raises `Busy` and what `act` raises.

    The claim is gone afterwards, unless `act` has left it.
    """
    try:
        pool = await claim.enter(patience, observer or Observer(claim.store), gives_way=gives_way)
        result = await act(claim, pool)
    except Exception:
        with suppress(OpenNebulaError):
            await claim.withdraw()
        raise
    await claim.withdraw()
    return result
