"""Associating an elastic IP with an instance and disassociating it: the administrator's scripts, and their records.

Both are done under a claim (`econed.actions.addresses.claims`). What a script is about to do is recorded before it
runs, and its outcome afterwards. A record that is ASSOCIATING or DISASSOCIATING without a live claim is left over: the
process died, or the script was killed. Then the next request for the address, or the chore, runs the disassociate
script once more. So disassociate scripts must accept that there is nothing to undo.
"""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from econed.actions.addresses.records import Address, Association, AssociationState, LinkedAddress
from econed.actions.addresses.view import has_ended
from econed.errors import EC2Error, OpenNebulaRefusal, ScriptFailed
from econed.ids import ASSOCIATION_DIGITS
from econed.opennebula.access import ONEADMIN
from econed.opennebula.networks import without_address_ranges

if TYPE_CHECKING:
    from econed.actions.addresses.claims import Claim
    from econed.interfaces import IScripts
    from econed.opennebula.documents import Nic, VirtualMachine, VirtualNetwork
    from econed.opennebula.session import Session

_MAX_ARGUMENT = 1 << 17
"""Bytes from which Linux rejects an argument (MAX_ARG_STRLEN), its terminating zero included."""


@dataclass(frozen=True)
class Target:
    """The target of an association: a private address of a machine, and the interface that has it."""

    machine_id: int
    private_ip: IPv4Address
    nic_id: int | None


async def is_leased(session: Session, serveradmin: Session, machine: VirtualMachine, nic: Nic) -> bool:
    """Whether the network of an interface, read in the user's session, leases the interface's address to its machine.

    The machine's document does not prove it: the user may have written the address there. Raises `OpenNebulaRefusal` if
    the user may not read the network.
    """
    if nic.network_id is None or nic.ip is None:
        return False
    network = await session.network(nic.network_id)
    has_lease = any(lease.ip == nic.ip and lease.vm_id == machine.id for lease in network.leases_of(machine.id))
    return has_lease and await _is_in_network(serveradmin, network, nic.ip)


async def _is_in_network(serveradmin: Session, network: VirtualNetwork, ip: IPv4Address) -> bool:
    """Whether an address really belongs to a network: to a reservation only if its parent gave it the address.

    Only the networks of administrators count. Users choose the addresses of their own, such as their VPCs, which
    may be those of machines of others elsewhere; the scripts know an instance by nothing but its address. A
    reservation belongs to a user, and oned lets it extend beyond the end of the parent's range. The parent is read
    as serveradmin: the user of a reservation need not be the user who made it, and may have no right on the parent.
    """
    if network.parent_network_id is None:
        return _is_of_an_administrator(network)
    parent = await serveradmin.network(network.parent_network_id)
    has_address = any(range_.covers(ip) for range_ in parent.address_ranges)
    is_given = has_address and any(lease.ip == ip for lease in parent.leases_to(network.id))
    return is_given and _is_of_an_administrator(parent)


def _is_of_an_administrator(network: VirtualNetwork) -> bool:
    """Whether a network belongs to oneadmin or to oneadmin's group: no user can give a network to them."""
    return ONEADMIN in (network.uid, network.gid)


@dataclass(frozen=True)
class Associator:
    """Runs the scripts that associate and disassociate addresses, until `deadline` (seconds since the epoch).

    `owner` is a session that sees the machines of the addresses' owner.
    """

    scripts: IScripts
    owner: Session
    deadline: float

    async def associate(self, claim: Claim, address: Address, target: Target) -> LinkedAddress:
        """Associate an address with a machine, after ending its present association.

        Raises `EC2Error` IncorrectState. The address then has no association, or its present one if this could not be
        ended.
        """
        if isinstance(address, LinkedAddress) and not self._was_attempted(address.association, target):
            await self.disassociate(claim, address, ignores_failure=not address.association.is_reported)
        association = Association(
            target.machine_id,
            target.private_ip,
            target.nic_id,
            secrets.randbelow(10**ASSOCIATION_DIGITS),
            AssociationState.ASSOCIATING,
        )
        await claim.record(address.with_association(association))
        try:
            await claim.keep_renewed(self._run_associate(claim, target.private_ip))
        except ScriptFailed as failed:
            if not failed.was_killed:
                await claim.commit_and_release(address.without_association().text())
            raise _script_failed("associated", claim.ip) from None
        associated = address.with_association(replace(association, state=AssociationState.ASSOCIATED))
        await claim.commit_and_release(associated.text())
        return associated

    @staticmethod
    def _was_attempted(association: Association, target: Target) -> bool:
        is_unfinished = association.state is AssociationState.ASSOCIATING
        return is_unfinished and association.is_with(target.machine_id, target.private_ip)

    async def disassociate(self, claim: Claim, address: LinkedAddress, *, ignores_failure: bool = False) -> Address:
        """Run the disassociate script and return the address without its association, which is still on record.

        If the script exits with a failure, the association is kept. With `ignores_failure` the failure is only logged:
        an association that was never reported to a client may not exist, and not every script accepts that.

        Raises `EC2Error` IncorrectState.
        """
        association = address.association
        if association.state is AssociationState.ASSOCIATED:
            ending = replace(association, state=AssociationState.DISASSOCIATING)
            await claim.record(address.with_association(ending))
        try:
            await claim.keep_renewed(self._run_disassociate(claim, association))
        except ScriptFailed as failed:
            if not ignores_failure:
                if not failed.was_killed and association.is_reported:
                    restored = replace(association, state=AssociationState.ASSOCIATED)
                    await claim.record(address.with_association(restored))
                raise _script_failed("disassociated", claim.ip) from None
            claim.store.log.warn(
                "disassociating {ip} from {private}: {error}",
                ip=claim.ip,
                private=association.private_ip,
                error=failed,
            )
        return address.without_association()

    async def _run_associate(self, claim: Claim, private_ip: IPv4Address) -> None:
        if self.scripts.has_any:
            document = await _network_document(claim)
            await self.scripts.associate(claim.ip, private_ip, document, self._seconds_left(claim))

    async def _run_disassociate(self, claim: Claim, association: Association) -> None:
        if self.scripts.has_any:
            private_ip = association.private_ip
            if private_ip is None:
                private_ip = await self._first_private_ip(claim.store.session, association.machine_id)
            document = await _network_document(claim)
            await self.scripts.disassociate(claim.ip, private_ip, document, self._seconds_left(claim))

    async def _first_private_ip(self, serveradmin: Session, machine_id: int) -> IPv4Address | None:
        """Return the private address that the Ruby server associated, which it did not record.

        None if the network does not lease it to the machine. A machine that has ended has no leases any more, but its
        document cannot be changed either, and the address is only for the script that ends the association.
        """
        for machine in await self.owner.vms([machine_id]):
            nic = next((nic for nic in machine.nics if nic.ip is not None), None)
            try:
                if nic is not None and (has_ended(machine) or await is_leased(self.owner, serveradmin, machine, nic)):
                    return nic.ip
            except OpenNebulaRefusal:
                return None
        return None

    def _seconds_left(self, claim: Claim) -> float:
        """Return the seconds until the deadline; raises `EC2Error` if it has passed."""
        seconds = self.deadline - claim.store.now
        if seconds <= 0:
            raise EC2Error("IncorrectState", f"The address '{claim.ip}' could not be changed in time. Try again.")
        return seconds


def _script_failed(participle: str, ip: IPv4Address) -> EC2Error:
    return EC2Error(
        "IncorrectState", f"The address '{ip}' could not be {participle}: the network did not make the change."
    )


async def _network_document(claim: Claim) -> str:
    """Return the network's document for a script, without its address ranges if it is too long for an argument."""
    text = await claim.store.text()
    encoded = base64.b64encode(text.encode("utf-8"))
    if len(encoded) >= _MAX_ARGUMENT:
        encoded = base64.b64encode(without_address_ranges(text).encode("utf-8"))
    return encoded.decode("ascii")
