"""Finishing what requests for elastic IPs left by half, and ending associations with what is not there any more.

The addresses of all users stand on one network, which serveradmin alone may change: one look at it in a round is enough
for everybody, and finds also what no request was there for, such as a machine that was ended in Sunstone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from twisted.logger import Logger

from econed.actions.addresses.claims import Busy, Claim, alone
from econed.actions.addresses.links import Leader
from econed.actions.addresses.pool import PATIENCE, give_back
from econed.actions.addresses.records import LinkState, Pool
from econed.actions.addresses.store import AddressStore
from econed.actions.addresses.view import leads_nowhere
from econed.errors import EC2Error, OpenNebulaError
from econed.opennebula.session import Session

if TYPE_CHECKING:
    from ipaddress import IPv4Address

    from twisted.internet.interfaces import IReactorTime

    from econed.interfaces import IOpenNebula, IScripts
    from econed.opennebula.documents import OnRead, VirtualMachine

LIVELY = 60
"""Seconds for which a claim is not looked into: the request that made it will most likely come to its end by itself."""

_TIME = 60.0
"""Seconds that the scripts for one address may take together; there is no client who waits."""


@dataclass(frozen=True)
class AddressKeeper:
    """Looks after the elastic IPs of all users."""

    oned: IOpenNebula
    network_id: int
    scripts: IScripts
    clock: IReactorTime
    on_read: OnRead | None = None
    log: Logger = field(default_factory=partial(Logger, namespace="econed.addresses"))

    @property
    def store(self) -> AddressStore:
        """The network of elastic IPs."""
        return AddressStore(Session(self.oned, None, self.on_read), self.network_id, self.clock, self.log)

    async def report(self) -> None:
        """Say in the log which ranges of the network are of no use. Raises `OpenNebulaError`."""
        pool = await self.store.read_pool()
        for each in pool.odd_ranges:
            self.log.warn(
                "network {network} (elasticips_vnet_id): address range {range} is of SIZE {size} and type {type}; no "
                "elastic IP is taken from it, each needs an IPv4 range of its own with SIZE 1",
                network=self.network_id,
                range=each.ar_id,
                size=each.size,
                type=each.type,
            )

    async def round(self, names: Mapping[int, str]) -> None:
        """Look once at all addresses; `names` are those of all users by their ids.

        What fails for one address is logged, and does not keep the others.
        """
        pool = await self.store.read_pool()
        over = await self._leading_nowhere(pool, names)
        now = self.store.now
        lively = {note.ip for note in pool.claims if now - note.time < LIVELY}
        left_over = {note.ip for note in pool.claims} | {
            address.ip
            for address in pool.addresses.values()
            if address.ip in over or (address.link is not None and address.link.state is not LinkState.ON)
        }
        for ip in pool.ips:
            if ip in left_over - lively:
                await self._tend(ip, names)

    async def _leading_nowhere(self, pool: Pool, names: Mapping[int, str]) -> set[IPv4Address]:
        """Return the addresses whose associations are over; each machine is looked for in the owner's session."""
        found = set()
        for uid, name in names.items():
            linked = {each.link.vm_id: each.ip for each in pool.of(uid) if each.link is not None}
            if linked:
                seen = await Session(self.oned, name, self.on_read).vms(tuple(linked))
                linked_to = ((each, _by_id(seen, each.link.vm_id)) for each in pool.of(uid) if each.link is not None)
                found |= {each.ip for each, machine in linked_to if leads_nowhere(each, machine)}
        return found

    async def _tend(self, ip: IPv4Address, names: Mapping[int, str]) -> None:
        try:
            await alone(Claim(self.store, ip, None), PATIENCE, lambda claim, pool: self._settle(claim, pool, names))
        except Busy:
            self.log.debug("{ip} is being changed by a request", ip=ip)
        except (EC2Error, OpenNebulaError) as error:
            self.log.warn("what is left to do for the elastic IP {ip} waits: {error}", ip=ip, error=str(error))

    async def _settle(self, claim: Claim, pool: Pool, names: Mapping[int, str]) -> None:
        """Alone with an address: finish what is written down of it."""
        address = claim.address
        if address is None:
            if pool.is_held(claim.ip) and claim.left_by:
                self.log.info("giving {ip} back, which a request held and never gave to anybody", ip=claim.ip)
                await give_back(claim)
            else:
                await claim.conclude()
            return
        name = names.get(address.uid)
        if address.link is not None and name is not None:
            owner = Session(self.oned, name, self.on_read)
            machine = _by_id(await owner.vms([address.link.vm_id]), address.link.vm_id)
            if leads_nowhere(address, machine) or address.link.state is not LinkState.ON:
                self.log.info("{ip} leads to machine {vm} no more", ip=claim.ip, vm=address.link.vm_id)
                address = await Leader(self.scripts, owner, claim.store.now + _TIME).lead_away(claim, address)
        await claim.conclude(address.text())


def _by_id(machines: Sequence[VirtualMachine], number: int) -> VirtualMachine | None:
    return next((machine for machine in machines if machine.id == number), None)
