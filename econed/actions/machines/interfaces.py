"""Network interfaces of instances: their ids, and finding them by these.

oned gives the number of a NIC again after the NIC was detached, so an id of a network interface has, after the id of
its machine, digits of its own: of a text in the NIC that is chosen at random when econed makes it (`ENI`), its number
and its MAC address. So an id never means a later NIC, not even if a user copies that text. A NIC that was made
elsewhere has no such text: two of them that follow each other with the same number and address have the same id.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from econed.actions.machines.lookup import is_instance
from econed.actions.machines.state import InstanceState, state_of
from econed.errors import EC2Error
from econed.ids import NETWORK_INTERFACE, interface_digits, machine_of_interface

if TYPE_CHECKING:
    from econed.actions.call import Call
    from econed.opennebula.documents import Nic, VirtualMachine

ENI = "EC2_ENI"
"""The attribute of a NIC with the text that econed chose at random; oned keeps it as long as the NIC."""

_ATTACHMENT = "eni-attach-"
_OWN_DIGITS = 9


@dataclass(frozen=True)
class Interface:
    """A NIC of a machine; `index` is its position among the machine's NICs, from 0 (EC2: device index)."""

    machine: VirtualMachine
    nic: Nic
    index: int

    @property
    def id(self) -> str:
        """Its EC2 id (`eni-…`)."""
        return interface_id(self.machine.id, self.nic)


def new_eni() -> str:
    """Return a text for `ENI`."""
    return secrets.token_hex(8)


def interface_id(machine_id: int, nic: Nic) -> str:
    """Return the id of a NIC as a network interface."""
    return f"{NETWORK_INTERFACE.prefix}-{_digits(machine_id, nic)}"


def attachment_id_of(machine_id: int, nic: Nic) -> str:
    """Return the id of the attachment of a network interface, which exists as long as the interface."""
    return f"{_ATTACHMENT}{_digits(machine_id, nic)}"


def _digits(machine_id: int, nic: Nic) -> str:
    facts = f"{nic.text(ENI)}/{nic.nic_id}/{nic.mac}"
    return interface_digits(machine_id, hashlib.sha256(facts.encode()).hexdigest()[:_OWN_DIGITS])


def interfaces_of(machine: VirtualMachine) -> Iterator[Interface]:
    """Yield the interfaces of a machine, in oned's order; one that has been terminated has none."""
    if state_of(machine) is not InstanceState.TERMINATED:
        for index, nic in enumerate(machine.nics):
            yield Interface(machine, nic, index)


async def find_interfaces(call: Call, texts: Sequence[str]) -> tuple[Interface, ...]:
    """Return the network interfaces with these ids, in this order, each once.

    Raises `EC2Error` InvalidNetworkInterfaceID.Malformed, or InvalidNetworkInterfaceID.NotFound for those that do not
    exist or are not visible to the caller.
    """
    machine_ids = {text: machine_of_interface(text) for text in texts}
    possible = sorted({machine_id for machine_id in machine_ids.values() if machine_id is not None})
    machines: Iterable[VirtualMachine] = await call.session.vms(possible) if possible else ()
    instances = [machine for machine in machines if is_instance(call, machine)]
    by_id = {interface.id: interface for machine in instances for interface in interfaces_of(machine)}
    missing = [text for text in machine_ids if text not in by_id]
    if missing:
        raise NETWORK_INTERFACE.not_found(*missing)
    return tuple(by_id[text] for text in machine_ids)


async def find_attached_interface(call: Call, attachment_id: str) -> Interface:
    """Return the network interface with this attachment; raises `EC2Error` InvalidAttachmentID.NotFound."""
    interface = f"{NETWORK_INTERFACE.prefix}-{attachment_id.removeprefix(_ATTACHMENT)}"
    if not attachment_id.startswith(_ATTACHMENT) or not NETWORK_INTERFACE.is_well_formed(interface):
        raise attachment_not_found(attachment_id)
    try:
        (found,) = await find_interfaces(call, [interface])
    except EC2Error as error:
        if error.code != NETWORK_INTERFACE.not_found_code:
            raise
        raise attachment_not_found(attachment_id) from error
    return found


def attachment_not_found(attachment_id: str) -> EC2Error:
    """Return the error for an attachment that does not exist or is another user's."""
    return EC2Error(
        "InvalidAttachmentID.NotFound", f"The interface attachment ID '{attachment_id[:64]}' does not exist"
    )
