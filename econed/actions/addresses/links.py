"""Leading an elastic IP to an instance and away from it: the administrator's scripts, and what is written down of them.

Alone with the address (`econed.actions.addresses.claims`), what a script is about to do is recorded before it runs, and
what it has done afterwards. A record that says COMING or GOING with nobody busy is left over: the process died, or the
script was ended. Then the disassociate script is run once more, by the next request for the address or by the chore.
So these scripts must take it that there is nothing to undo.
"""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from econed.actions.addresses.records import Address, Link, LinkState
from econed.actions.addresses.view import has_ended
from econed.errors import EC2Error, OpenNebulaRefusal, ScriptFailed
from econed.ids import ASSOCIATION_DIGITS
from econed.opennebula.networks import without_address_ranges

if TYPE_CHECKING:
    from econed.actions.addresses.claims import Claim
    from econed.interfaces import IScripts
    from econed.opennebula.documents import Nic, VirtualMachine, VirtualNetwork
    from econed.opennebula.session import Session

_MOST_ARGUMENT = 1 << 17
"""Bytes from which Linux does not take an argument (MAX_ARG_STRLEN), its end included."""


@dataclass(frozen=True)
class Target:
    """Where an address is to lead: a private address of a machine, and the interface that has it."""

    vm_id: int
    private_ip: IPv4Address
    nic_id: int | None


async def is_leased(session: Session, serveradmin: Session, machine: VirtualMachine, nic: Nic) -> bool:
    """Whether the network of an interface says, in the user's session, that this machine has its address.

    The machine's document is not proof enough: what stands there may be its user's text. Raises `OpenNebulaRefusal`
    where the user may not read the network.
    """
    if nic.network_id is None or nic.ip is None:
        return False
    network = await session.network(nic.network_id)
    has_lease = any(lease.ip == nic.ip and lease.vm_id == machine.id for lease in network.leases_of(machine.id))
    return has_lease and await _is_its_own(serveradmin, network, nic.ip)


async def _is_its_own(serveradmin: Session, network: VirtualNetwork, ip: IPv4Address) -> bool:
    """Whether a network has an address by right: a reservation, if its parent has the address and gave it to it.

    A reservation belongs to a user, and oned lets it run over the end of the parent's range. The parent is read as
    serveradmin: who uses a reservation need not be who made it, and may have no right on the parent.
    """
    if network.parent_network_id is None:
        return True
    parent = await serveradmin.network(network.parent_network_id)
    is_there = any(each.covers(ip) for each in parent.address_ranges)
    return is_there and any(lease.ip == ip for lease in parent.leases_to(network.id))


@dataclass(frozen=True)
class Leader:
    """Leads addresses. `until` is when (seconds since the epoch) all of it is to have come to its end.

    `owner` is a session that sees the machines of the addresses' owner.
    """

    scripts: IScripts
    owner: Session
    until: float

    async def connect(self, claim: Claim, address: Address, target: Target) -> Address:
        """Lead an address to a machine and away from where it led; raises `EC2Error` IncorrectState.

        It then leads nowhere, or, if it could not be led away, where it did.
        """
        if address.link is not None and not self._is_tried_already(address.link, target):
            address = await self.lead_away(claim, address, must=address.link.is_shown)
        link = Link(
            target.vm_id, target.private_ip, target.nic_id, secrets.randbelow(10**ASSOCIATION_DIGITS), LinkState.COMING
        )
        await claim.record(address.with_link(link))
        try:
            await claim.during(self._associate(claim, target.private_ip))
        except ScriptFailed as failed:
            if not failed.was_killed:
                await claim.conclude(address.with_link(None).text())
            raise _not_done("associated", claim.ip) from None
        connected = address.with_link(replace(link, state=LinkState.ON))
        await claim.conclude(connected.text())
        return connected

    @staticmethod
    def _is_tried_already(link: Link, target: Target) -> bool:
        return link.state is LinkState.COMING and link.leads_to(target.vm_id, target.private_ip)

    async def lead_away(self, claim: Claim, address: Address, *, must: bool = True) -> Address:
        """Run the disassociate script and return the address as it is to be recorded next: leading nowhere.

        If it fails by itself, the address leads where it did. `must` says whether that is an error, or only logged: an
        association that nobody was told of may never have been made, and not every script takes that.

        Raises `EC2Error` IncorrectState.
        """
        link = address.link
        assert link is not None  # noqa: S101 - nobody leads away what leads nowhere
        if link.state is LinkState.ON:
            await claim.record(address.with_link(replace(link, state=LinkState.GOING)))
        try:
            await claim.during(self._disassociate(claim, link))
        except ScriptFailed as failed:
            if must:
                if not failed.was_killed and link.is_shown:
                    await claim.record(address.with_link(replace(link, state=LinkState.ON)))
                raise _not_done("disassociated", claim.ip) from None
            claim.store.log.warn(
                "{ip} may still lead to {private}: {error}", ip=claim.ip, private=link.private_ip, error=failed
            )
        return address.with_link(None)

    async def _associate(self, claim: Claim, private_ip: IPv4Address) -> None:
        if self.scripts.has_any:
            document = await _document(claim)
            await self.scripts.associate(claim.ip, private_ip, document, self._left(claim))

    async def _disassociate(self, claim: Claim, link: Link) -> None:
        if self.scripts.has_any:
            private_ip = link.private_ip
            if private_ip is None:
                private_ip = await self._first_private_ip(claim.store.session, link.vm_id)
            document = await _document(claim)
            await self.scripts.disassociate(claim.ip, private_ip, document, self._left(claim))

    async def _first_private_ip(self, serveradmin: Session, vm_id: int) -> IPv4Address | None:
        """Return the address that the Ruby server associated, which did not note it.

        None if the network does not say that the machine has it. Of a machine that has ended there are no leases any
        more, but nobody can change its document either, and the address is only for the script that undoes.
        """
        for machine in await self.owner.vms([vm_id]):
            nic = next((nic for nic in machine.nics if nic.ip is not None), None)
            try:
                if nic is not None and (has_ended(machine) or await is_leased(self.owner, serveradmin, machine, nic)):
                    return nic.ip
            except OpenNebulaRefusal:
                return None
        return None

    def _left(self, claim: Claim) -> float:
        """Return how many seconds are left; raises `EC2Error` where there are none, and nothing was run."""
        left = self.until - claim.store.now
        if left <= 0:
            raise EC2Error("IncorrectState", f"The address '{claim.ip}' could not be changed in time. Try again.")
        return left


def _not_done(participle: str, ip: IPv4Address) -> EC2Error:
    return EC2Error(
        "IncorrectState", f"The address '{ip}' could not be {participle}: the network did not carry it out."
    )


async def _document(claim: Claim) -> str:
    """Return the network's document for a script. One too long for an argument goes without its address ranges."""
    text = await claim.store.text()
    encoded = base64.b64encode(text.encode("utf-8"))
    if len(encoded) >= _MOST_ARGUMENT:
        encoded = base64.b64encode(without_address_ranges(text).encode("utf-8"))
    return encoded.decode("ascii")
