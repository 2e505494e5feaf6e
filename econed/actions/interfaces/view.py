"""NICs as network interfaces: pure functions of their machines, and the filters of DescribeNetworkInterfaces."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from econed.actions.addresses.view import association_ids, association_view
from econed.actions.filters import Filters, Values, field, tag_filters
from econed.actions.instances.view import interface_view
from econed.actions.machines.interface_facts import interface_tags
from econed.actions.machines.placement import availability_zone_of
from econed.ids import INSTANCE

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import NetworkInterfaceAssociationTypeDef, NetworkInterfaceTypeDef

    from econed.actions.addresses.records import LinkedAddress
    from econed.actions.instances.remembered import Surroundings
    from econed.actions.machines.interfaces import Interface


def _of_own_addresses(*path: str) -> Values:
    return field("PrivateIpAddresses", *path)


INTERFACE_FILTERS = Filters(
    MappingProxyType(
        {
            "addresses.association.owner-id": _of_own_addresses("Association", "IpOwnerId"),
            "addresses.association.public-ip": _of_own_addresses("Association", "PublicIp"),
            "addresses.primary": _of_own_addresses("Primary"),
            "addresses.private-ip-address": _of_own_addresses("PrivateIpAddress"),
            "association.allocation-id": field("Association", "AllocationId"),
            "association.association-id": field("Association", "AssociationId"),
            "association.ip-owner-id": field("Association", "IpOwnerId"),
            "association.public-dns-name": field("Association", "PublicDnsName"),
            "association.public-ip": field("Association", "PublicIp"),
            "attachment.attach-time": field("Attachment", "AttachTime"),
            "attachment.attachment-id": field("Attachment", "AttachmentId"),
            "attachment.delete-on-termination": field("Attachment", "DeleteOnTermination"),
            "attachment.device-index": field("Attachment", "DeviceIndex"),
            "attachment.instance-id": field("Attachment", "InstanceId"),
            "attachment.instance-owner-id": field("Attachment", "InstanceOwnerId"),
            "attachment.status": field("Attachment", "Status"),
            "availability-zone": field("AvailabilityZone"),
            "description": field("Description"),
            "group-id": field("Groups", "GroupId"),
            "group-name": field("Groups", "GroupName"),
            "interface-type": field("InterfaceType"),
            "ipv6-addresses.ipv6-address": field("Ipv6Addresses", "Ipv6Address"),
            "mac-address": field("MacAddress"),
            "network-interface-id": field("NetworkInterfaceId"),
            "owner-id": field("OwnerId"),
            "private-dns-name": field("PrivateDnsName"),
            "private-ip-address": field("PrivateIpAddress"),
            "requester-id": field("RequesterId"),
            "requester-managed": field("RequesterManaged"),
            "source-dest-check": field("SourceDestCheck"),
            "status": field("Status"),
            "subnet-id": field("SubnetId"),
            "vpc-id": field("VpcId"),
            **tag_filters(),
        }
    )
)
"""The filters of DescribeNetworkInterfaces, for an interface whose TagSet is also its Tags."""


def network_interface_view(interface: Interface, surroundings: Surroundings) -> NetworkInterfaceTypeDef:
    """Return a NIC as a network interface, which always is one of an instance here."""
    machine, nic = interface.machine, interface.nic
    of_instance: dict[str, Any] = {
        **interface_view(machine, nic, interface.index, surroundings.addresses, surroundings.vpc_ids)
    }
    address = surroundings.addresses.on(machine, nic)
    if address is not None:
        of_instance["Association"] = association = _association(address)
        of_instance["PrivateIpAddresses"] = [
            {**own, "Association": association} for own in of_instance["PrivateIpAddresses"]
        ]
    of_instance["Attachment"] |= {
        "InstanceId": INSTANCE.format(machine.id),
        "InstanceOwnerId": of_instance["OwnerId"],
        "NetworkCardIndex": 0,
    }
    if "PrivateIpAddress" in of_instance:
        of_instance["PrivateDnsName"] = of_instance["PrivateIpAddress"]
    added: NetworkInterfaceTypeDef = {
        "AvailabilityZone": availability_zone_of(machine, surroundings.clusters),
        "RequesterManaged": False,
        "TagSet": interface_tags(machine, nic),
    }
    return cast("NetworkInterfaceTypeDef", {**of_instance, **added})


def _association(address: LinkedAddress) -> NetworkInterfaceAssociationTypeDef:
    return {**association_view(address), **association_ids(address)}
