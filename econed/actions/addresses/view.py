"""Elastic IPs as EC2 clients see them: pure functions of their records, and the filters of DescribeAddresses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from econed.actions.addresses.records import LinkedAddress
from econed.actions.filters import Filters, field, tag_filters
from econed.actions.machines.interfaces import interface_id
from econed.ids import INSTANCE, SUBNET, account_id, allocation_id, association_id
from econed.opennebula.states import VmState

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import (
        AddressTypeDef,
        InstanceNetworkInterfaceAssociationTypeDef,
        NetworkInterfaceAssociationTypeDef,
    )

    from econed.actions.addresses.records import Address, Association, Pool
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
"""The filters of DescribeAddresses."""

DOMAIN: Literal["vpc"] = "vpc"
"""The domain of every address: there is no EC2-Classic here."""


@dataclass(frozen=True)
class PublicAddresses:
    """The elastic IPs that DescribeInstances shows, by the machine that they are associated with."""

    by_machine: Mapping[int, tuple[LinkedAddress, ...]]

    @classmethod
    def of(cls, pool: Pool) -> PublicAddresses:
        """Return the associated addresses of the pool."""
        by_machine: dict[int, list[LinkedAddress]] = {}
        for address in pool.addresses.values():
            if isinstance(address, LinkedAddress) and address.association.is_reported:
                by_machine.setdefault(address.association.machine_id, []).append(address)
        return cls(MappingProxyType({machine_id: tuple(addresses) for machine_id, addresses in by_machine.items()}))

    def on(self, machine: VirtualMachine, nic: Nic) -> LinkedAddress | None:
        """Return the address that is associated with an interface of a machine."""
        for address in self.by_machine.get(machine.id, ()):
            if associated_interface(machine, address.association) is nic:
                return address
        return None


def associated_interface(machine: VirtualMachine, association: Association) -> Nic | None:
    """Return the interface of a machine that an address is associated with.

    The Ruby server took the first interface that has an address.
    """
    if association.machine_id != machine.id:
        return None
    with_ip = [nic for nic in machine.nics if nic.ip is not None]
    if association.private_ip is None:
        return with_ip[0] if with_ip else None
    return next((nic for nic in with_ip if nic.ip == association.private_ip), None)


def association_view(address: Address) -> InstanceNetworkInterfaceAssociationTypeDef:
    """Return an address as the association of an interface in DescribeInstances; as Amazon's if it is no elastic IP."""
    owner = "amazon" if address.is_auto_assigned else account_id(address.uid)
    return {"PublicIp": str(address.ip), "PublicDnsName": "", "IpOwnerId": owner}


def association_ids(address: LinkedAddress) -> NetworkInterfaceAssociationTypeDef:
    """Return the ids of an associated elastic IP; none for an address that is no elastic IP."""
    if address.is_auto_assigned:
        return {}
    return {
        "AllocationId": allocation_id(address.ip),
        "AssociationId": association_id(address.ip, address.association.number),
    }


def address_view(
    address: Address, pool: Pool, machines: Mapping[int, VirtualMachine], border_group: str
) -> AddressTypeDef:
    """Return an address as in DescribeAddresses. `machines` are those that the caller may see, by id."""
    view: AddressTypeDef = {
        "PublicIp": str(address.ip),
        "AllocationId": allocation_id(address.ip),
        "Domain": DOMAIN,
        "PublicIpv4Pool": "amazon",
        "NetworkBorderGroup": border_group,
    }
    if tags := pool.tags(address):
        view["Tags"] = tags
    association = address.reported_association
    if association is None or has_association_ended(association, machines.get(association.machine_id)):
        return view
    view["AssociationId"] = association_id(address.ip, association.number)
    view["InstanceId"] = INSTANCE.format(association.machine_id)
    if association.private_ip is not None:
        view["PrivateIpAddress"] = str(association.private_ip)
    machine = machines.get(association.machine_id)
    nic = None if machine is None else associated_interface(machine, association)
    if machine is not None and nic is not None:
        view["PrivateIpAddress"] = str(nic.ip)
        view["NetworkInterfaceId"] = interface_id(machine.id, nic)
        view["NetworkInterfaceOwnerId"] = account_id(machine.uid)
        if nic.network_id is not None:
            view["SubnetId"] = SUBNET.format(nic.network_id)
    return view


def has_ended(machine: VirtualMachine | None) -> bool:
    """Whether a machine is known to have ended, so that no address is associated with it, even if recorded."""
    return machine is not None and machine.state is VmState.DONE


def has_association_ended(association: Association, machine: VirtualMachine | None) -> bool:
    """Whether an association that is on record has ended: its machine has, or no longer has the private address.

    The private address may be another machine's by then. Nothing is known of a machine that cannot be seen (None).
    """
    if machine is None:
        return False
    return has_ended(machine) or (
        association.private_ip is not None and associated_interface(machine, association) is None
    )


def associated_machine_ids(addresses: Iterable[Address]) -> list[int]:
    """Return the ids of the machines that addresses are associated with, or were to be."""
    return sorted({address.association.machine_id for address in addresses if isinstance(address, LinkedAddress)})
