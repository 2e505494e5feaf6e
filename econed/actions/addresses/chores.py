"""Finishing changes of elastic IPs that requests left unfinished, and ending associations with machines that are gone.

A public IP that was assigned to an instance is released when its association ends.

The addresses of all users are on one network, which only serveradmin may change. So each round reads it once for all
users, and also finds what no request caused, such as a machine that was terminated in Sunstone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from twisted.logger import Logger

from econed.actions.addresses.associations import Associator
from econed.actions.addresses.auto_assigned import is_to_be_released
from econed.actions.addresses.claims import Busy, Claim, exclusively
from econed.actions.addresses.pool import MAX_WAIT, conclude, release_lease
from econed.actions.addresses.records import Address, AssociationState, LinkedAddress, Pool
from econed.actions.addresses.store import AddressStore
from econed.actions.addresses.view import has_association_ended
from econed.errors import EC2Error, OpenNebulaError
from econed.opennebula.session import Session

if TYPE_CHECKING:
    from ipaddress import IPv4Address

    from twisted.internet.interfaces import IReactorTime

    from econed.interfaces import IOpenNebula, IScripts
    from econed.opennebula.documents import OnRead

MIN_CLAIM_AGE = 60
"""Seconds before which a claim is not examined: the request that made it will most likely finish."""

_MAX_SCRIPT_SECONDS = 60.0
"""Seconds that the scripts for one address may take together; no client waits for them."""


@dataclass(frozen=True)
class AddressReconciler:
    """Finishes what is left unfinished on the elastic IPs of all users."""

    oned: IOpenNebula
    network_id: int
    scripts: IScripts
    clock: IReactorTime
    on_read: OnRead | None = None
    log: Logger = field(default_factory=partial(Logger, namespace="econed.addresses"))

    @property
    def store(self) -> AddressStore:
        """The network of elastic IPs."""
        return AddressStore(Session(self.oned, None, self.on_read), self.network_id, self.clock, log=self.log)

    async def report(self) -> None:
        """Log the address ranges of the network that cannot be used. Raises `OpenNebulaError`."""
        pool = await self.store.read_pool()
        for range_ in pool.unusable_ranges:
            self.log.warn(
                "network {network} (elasticips_vnet_id): address range {range} is of SIZE {size} and type {type}; no "
                "elastic IP is allocated from it: each needs an IPv4 range of its own with SIZE 1",
                network=self.network_id,
                range=range_.ar_id,
                size=range_.size,
                type=range_.type,
            )

    async def round(self, names: Mapping[int, str]) -> None:
        """Reconcile all addresses once; `names` are the names of all users by id.

        A failure for one address is logged, and the others are still reconciled.
        """
        pool = await self.store.read_pool()
        ended = await self._ended_associations(pool, names)
        now = self.store.now
        recently_claimed = {claim.ip for claim in pool.claims if now - claim.time < MIN_CLAIM_AGE}
        unfinished = {claim.ip for claim in pool.claims} | {
            address.ip
            for address in pool.addresses.values()
            if address.ip in ended or is_to_be_released(pool, address) or _is_unfinished(address)
        }
        for ip in pool.ips:
            if ip in unfinished - recently_claimed:
                await self._finish(ip, names)

    async def _ended_associations(self, pool: Pool, names: Mapping[int, str]) -> set[IPv4Address]:
        """Return the addresses whose associations have ended; machines are read in the session of the owner."""
        ended: set[IPv4Address] = set()
        for uid, name in names.items():
            addresses = [address for address in pool.of(uid) if isinstance(address, LinkedAddress)]
            machine_ids = dict.fromkeys(address.association.machine_id for address in addresses)
            if machine_ids:
                session = Session(self.oned, name, self.on_read)
                machines = {machine.id: machine for machine in await session.vms(tuple(machine_ids))}
                ended |= {
                    address.ip
                    for address in addresses
                    if has_association_ended(address.association, machines.get(address.association.machine_id))
                }
        return ended

    async def _finish(self, ip: IPv4Address, names: Mapping[int, str]) -> None:
        async def finish(claim: Claim, pool: Pool) -> None:
            await self._finish_claimed(claim, pool, names)

        try:
            await exclusively(Claim(self.store, ip, None), MAX_WAIT, finish)
        except Busy:
            self.log.debug("not reconciling elastic IP {ip}: a request is changing it", ip=ip)
        except (EC2Error, OpenNebulaError) as error:
            self.log.warn("reconciling elastic IP {ip}: {error}", ip=ip, error=str(error))

    async def _finish_claimed(self, claim: Claim, pool: Pool, names: Mapping[int, str]) -> None:
        """Finish the recorded change of an address, under a claim on it."""
        address = claim.address
        if address is None:
            if pool.is_held(claim.ip) and claim.dead_claims:
                self.log.info("releasing elastic IP {ip}: held by a request that did not finish", ip=claim.ip)
                await release_lease(claim)
            else:
                await claim.commit_and_release()
            return
        name = names.get(address.uid)
        if isinstance(address, LinkedAddress) and name is not None:
            owner = Session(self.oned, name, self.on_read)
            machine_id = address.association.machine_id
            machine = next((machine for machine in await owner.vms([machine_id]) if machine.id == machine_id), None)
            has_ended = has_association_ended(address.association, machine) or is_to_be_released(pool, address)
            if has_ended or _is_unfinished(address):
                self.log.info("disassociating elastic IP {ip} from machine {vm}", ip=claim.ip, vm=machine_id)
                associator = Associator(self.scripts, owner, claim.store.now + _MAX_SCRIPT_SECONDS)
                address = await associator.disassociate(claim, address)
        if isinstance(address, LinkedAddress):
            await claim.commit_and_release(address.text())
        else:
            await conclude(claim, pool, address)


def _is_unfinished(address: Address) -> bool:
    return isinstance(address, LinkedAddress) and address.association.state is not AssociationState.ASSOCIATED
