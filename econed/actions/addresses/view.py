"""How an elastic IP looks to EC2: pure functions from its record, and the filters of DescribeAddresses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from econed.actions.call import account_id
from econed.actions.filters import Filters, field, tag_filters
from econed.ids import INSTANCE, NETWORK_INTERFACE, SUBNET, allocation_id, association_id, part_of_machine
from econed.opennebula.states import VmState

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import AddressTypeDef, InstanceNetworkInterfaceAssociationTypeDef

    from econed.actions.addresses.records import Address, Pool
    from econed.opennebula.documents import Nic, VirtualMachine

ADDRESS_FILTERS = Filters(
    MappingProxyType(
        {
            "allocation-id": field("AllocationId"),
            "association-id": field("AssociationId"),
            "domain": field("Domain"),
            "instance-id": field("InstanceId"),
            "network-border-group": field("NetworkBorderGroup"),
            "network-interface-id": field("NetworkInterfaceId"),
            "network-interface-owner-id": field("NetworkInterfaceOwnerId"),
            "private-ip-address": field("PrivateIpAddress"),
            "public-ip": field("PublicIp"),
            **tag_filters(),
        }
    )
)
"""Of DescribeAddresses."""

DOMAIN: Literal["vpc"] = "vpc"
"""The domain of every address: there is no EC2-Classic here."""


@dataclass(frozen=True)
class PublicAddresses:
    """The elastic IPs that lead to instances: what DescribeInstances shows of them."""

    by_machine: Mapping[int, tuple[Address, ...]]

    @classmethod
    def of(cls, pool: Pool) -> PublicAddresses:
        """Return those of the pool."""
        found: dict[int, list[Address]] = {}
        for address in pool.addresses.values():
            if (link := address.association) is not None:
                found.setdefault(link.vm_id, []).append(address)
        return cls(MappingProxyType({number: tuple(each) for number, each in found.items()}))

    def on(self, machine: VirtualMachine, nic: Nic) -> Address | None:
        """Return the address that leads to an interface of a machine."""
        for address in self.by_machine.get(machine.id, ()):
            if interface_of(machine, address) is nic:
                return address
        return None


def interface_of(machine: VirtualMachine, address: Address) -> Nic | None:
    """Return the interface of a machine that an address leads to: the Ruby server took the first with an address."""
    link = address.link
    if link is None or link.vm_id != machine.id:
        return None
    with_ip = [nic for nic in machine.nics if nic.ip is not None]
    if link.private_ip is None:
        return with_ip[0] if with_ip else None
    return next((nic for nic in with_ip if nic.ip == link.private_ip), None)


def shown_association(address: Address) -> InstanceNetworkInterfaceAssociationTypeDef:
    """Return an address as the association of the interface that it leads to."""
    return {"PublicIp": str(address.ip), "PublicDnsName": "", "IpOwnerId": account_id(address.uid)}


def shown_address(
    address: Address, pool: Pool, machines: Mapping[int, VirtualMachine], border_group: str
) -> AddressTypeDef:
    """Return an address as DescribeAddresses shows it. `machines` are those that the caller sees, by their ids."""
    shown: AddressTypeDef = {
        "PublicIp": str(address.ip),
        "AllocationId": allocation_id(address.ip),
        "Domain": DOMAIN,
        "PublicIpv4Pool": "amazon",
        "NetworkBorderGroup": border_group,
    }
    if tags := pool.tags(address):
        shown["Tags"] = tags
    link = address.association
    if link is None or leads_nowhere(address, machines.get(link.vm_id)):
        return shown
    shown["AssociationId"] = association_id(address.ip, link.number)
    shown["InstanceId"] = INSTANCE.format(link.vm_id)
    if link.private_ip is not None:
        shown["PrivateIpAddress"] = str(link.private_ip)
    machine = machines.get(link.vm_id)
    nic = None if machine is None else interface_of(machine, address)
    if machine is not None and nic is not None:
        shown["PrivateIpAddress"] = str(nic.ip)
        shown["NetworkInterfaceId"] = part_of_machine(NETWORK_INTERFACE.prefix, machine.id, nic.nic_id)
        shown["NetworkInterfaceOwnerId"] = account_id(machine.uid)
        if nic.network_id is not None:
            shown["SubnetId"] = SUBNET.format(nic.network_id)
    return shown


def has_ended(machine: VirtualMachine | None) -> bool:
    """Whether a machine is known to have ended, so that no address leads to it, whatever is recorded."""
    return machine is not None and machine.state is VmState.DONE


def leads_nowhere(address: Address, machine: VirtualMachine | None) -> bool:
    """Whether an association is over, whatever is recorded: its machine has ended, or has the private address no more.

    The private address may be another machine's by then. Of a machine that is not seen (None) nothing is known.
    """
    if machine is None or address.link is None:
        return False
    return has_ended(machine) or (address.link.private_ip is not None and interface_of(machine, address) is None)


def linked_machines(addresses: Iterable[Address]) -> list[int]:
    """Return the machines to which addresses lead, or were to lead."""
    return sorted({address.link.vm_id for address in addresses if address.link is not None})
