"""The filters of DescribeInstances and DescribeInstanceStatus: every documented filter on a field that instances have.

Filters on fields that instances never have here (spot requests, hosts, IAM profiles, …) are accepted and
match nothing, as on Amazon for an instance without them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from econed.actions.addresses.view import association_ids
from econed.actions.filters import Filters, Values, field, no_values, tag_filters
from econed.actions.machines.interface_facts import tagged_interfaces

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import ReservationTypeDef

    from econed.actions.addresses.view import PublicAddresses
    from econed.actions.inputs import Filter
    from econed.opennebula.documents import VirtualMachine

_TERMINATED_NAME = "terminated"
_TERMINATED_CODE = "48"

_NEVER_SET = (
    "affinity",
    "capacity-reservation-id",
    "host-id",
    "iam-instance-profile.arn",
    "iam-instance-profile.id",
    "instance-lifecycle",
    "kernel-id",
    "network-interface.addresses.association.carrier-ip",
    "network-interface.addresses.association.customer-owned-ip",
    "network-interface.association.carrier-ip",
    "network-interface.association.customer-owned-ip",
    "network-interface.deny-all-igw-traffic",
    "network-interface.ipv4-prefixes.ipv4-prefix",
    "network-interface.ipv6-native",
    "network-interface.ipv6-prefixes.ipv6-prefix",
    "network-interface.operator.managed",
    "network-interface.operator.principal",
    "network-interface.outpost-arn",
    "network-interface.requester-id",
    "outpost-arn",
    "placement-partition-number",
    "platform",
    "product-code",
    "product-code.type",
    "ramdisk-id",
    "requester-id",
    "spot-instance-request-id",
)


def _fields(paths: Mapping[str, Sequence[str]]) -> Mapping[str, Values]:
    return {name: field(*path) for name, path in paths.items()}


_INTERFACE = "NetworkInterfaces"
_ATTACHMENT = (_INTERFACE, "Attachment")
_ADDRESSES = (_INTERFACE, "PrivateIpAddresses")
_INTERFACE_TAGS = "InterfaceTags"
_ELASTIC_IPS = "ElasticIps"
_MAPPING = "BlockDeviceMappings"
_METADATA = "MetadataOptions"

_FIELD_PATHS: Mapping[str, Sequence[str]] = {
    "architecture": ("Architecture",),
    "availability-zone": ("Placement", "AvailabilityZone"),
    "block-device-mapping.attach-time": (_MAPPING, "Ebs", "AttachTime"),
    "block-device-mapping.delete-on-termination": (_MAPPING, "Ebs", "DeleteOnTermination"),
    "block-device-mapping.device-name": (_MAPPING, "DeviceName"),
    "block-device-mapping.status": (_MAPPING, "Ebs", "Status"),
    "block-device-mapping.volume-id": (_MAPPING, "Ebs", "VolumeId"),
    "boot-mode": ("BootMode",),
    "client-token": ("ClientToken",),
    "current-instance-boot-mode": ("CurrentInstanceBootMode",),
    "dns-name": ("PublicDnsName",),
    "ebs-optimized": ("EbsOptimized",),
    "ena-support": ("EnaSupport",),
    "group-id": ("SecurityGroups", "GroupId"),
    "group-name": ("SecurityGroups", "GroupName"),
    "hypervisor": ("Hypervisor",),
    "image-id": ("ImageId",),
    "instance-id": ("InstanceId",),
    "instance-state-code": ("State", "Code"),
    "instance-state-name": ("State", "Name"),
    "instance-type": ("InstanceType",),
    "instance.group-id": ("SecurityGroups", "GroupId"),
    "instance.group-name": ("SecurityGroups", "GroupName"),
    "ip-address": ("PublicIpAddress",),
    "ipv6-address": (_INTERFACE, "Ipv6Addresses", "Ipv6Address"),
    "key-name": ("KeyName",),
    "launch-index": ("AmiLaunchIndex",),
    "launch-time": ("LaunchTime",),
    "metadata-options.http-endpoint": (_METADATA, "HttpEndpoint"),
    "metadata-options.http-protocol-ipv4": (_METADATA, "HttpProtocolIpv4"),
    "metadata-options.http-protocol-ipv6": (_METADATA, "HttpProtocolIpv6"),
    "metadata-options.http-put-response-hop-limit": (_METADATA, "HttpPutResponseHopLimit"),
    "metadata-options.http-tokens": (_METADATA, "HttpTokens"),
    "metadata-options.instance-metadata-tags": (_METADATA, "InstanceMetadataTags"),
    "metadata-options.state": (_METADATA, "State"),
    "monitoring-state": ("Monitoring", "State"),
    "network-interface.addresses.association.allocation-id": (_ELASTIC_IPS, "AllocationId"),
    "network-interface.addresses.association.association-id": (_ELASTIC_IPS, "AssociationId"),
    "network-interface.addresses.association.ip-owner-id": (*_ADDRESSES, "Association", "IpOwnerId"),
    "network-interface.addresses.association.public-dns-name": (*_ADDRESSES, "Association", "PublicDnsName"),
    "network-interface.addresses.association.public-ip": (*_ADDRESSES, "Association", "PublicIp"),
    "network-interface.addresses.primary": (*_ADDRESSES, "Primary"),
    "network-interface.addresses.private-dns-name": (*_ADDRESSES, "PrivateDnsName"),
    "network-interface.addresses.private-ip-address": (*_ADDRESSES, "PrivateIpAddress"),
    "network-interface.association.allocation-id": (_ELASTIC_IPS, "AllocationId"),
    "network-interface.association.association-id": (_ELASTIC_IPS, "AssociationId"),
    "network-interface.association.ip-owner-id": (_INTERFACE, "Association", "IpOwnerId"),
    "network-interface.association.public-dns-name": (_INTERFACE, "Association", "PublicDnsName"),
    "network-interface.association.public-ip": (_INTERFACE, "Association", "PublicIp"),
    "network-interface.attachment.attach-time": (*_ATTACHMENT, "AttachTime"),
    "network-interface.attachment.attachment-id": (*_ATTACHMENT, "AttachmentId"),
    "network-interface.attachment.delete-on-termination": (*_ATTACHMENT, "DeleteOnTermination"),
    "network-interface.attachment.device-index": (*_ATTACHMENT, "DeviceIndex"),
    "network-interface.attachment.network-card-index": (*_ATTACHMENT, "NetworkCardIndex"),
    "network-interface.attachment.status": (*_ATTACHMENT, "Status"),
    "network-interface.description": (_INTERFACE, "Description"),
    "network-interface.group-id": (_INTERFACE, "Groups", "GroupId"),
    "network-interface.group-name": (_INTERFACE, "Groups", "GroupName"),
    "network-interface.ipv6-address": (_INTERFACE, "Ipv6Addresses", "Ipv6Address"),
    "network-interface.ipv6-addresses.ipv6-address": (_INTERFACE, "Ipv6Addresses", "Ipv6Address"),
    "network-interface.ipv6-addresses.is-primary-ipv6": (_INTERFACE, "Ipv6Addresses", "IsPrimaryIpv6"),
    "network-interface.mac-address": (_INTERFACE, "MacAddress"),
    "network-interface.network-interface-id": (_INTERFACE, "NetworkInterfaceId"),
    "network-interface.owner-id": (_INTERFACE, "OwnerId"),
    "network-interface.private-dns-name": (_INTERFACE, "PrivateDnsName"),
    "network-interface.private-ip-address": (_INTERFACE, "PrivateIpAddress"),
    "network-interface.public-dns-name": (_INTERFACE, "Association", "PublicDnsName"),
    "network-interface.source-dest-check": (_INTERFACE, "SourceDestCheck"),
    "network-interface.status": (_INTERFACE, "Status"),
    "network-interface.subnet-id": (_INTERFACE, "SubnetId"),
    "network-interface.tag-key": (_INTERFACE_TAGS, "Key"),
    "network-interface.tag-value": (_INTERFACE_TAGS, "Value"),
    "network-interface.vpc-id": (_INTERFACE, "VpcId"),
    "owner-id": ("OwnerId",),
    "placement-group-name": ("Placement", "GroupName"),
    "platform-details": ("PlatformDetails",),
    "private-dns-name": ("PrivateDnsName",),
    "private-ip-address": ("PrivateIpAddress",),
    "reason": ("StateTransitionReason",),
    "reservation-id": ("ReservationId",),
    "root-device-name": ("RootDeviceName",),
    "root-device-type": ("RootDeviceType",),
    "source-dest-check": ("SourceDestCheck",),
    "state-reason-code": ("StateReason", "Code"),
    "state-reason-message": ("StateReason", "Message"),
    "subnet-id": ("SubnetId",),
    "tenancy": ("Placement", "Tenancy"),
    "usage-operation": ("UsageOperation",),
    "virtualization-type": ("VirtualizationType",),
    "vpc-id": ("VpcId",),
}


def _of_interfaces(*path: str) -> Values:
    """Return a function for a member of the instance that its interfaces have as well, if it has any."""
    values = field(*path)
    return lambda instance: values(instance) if instance.get(_INTERFACE) else ()


_SHARED_WITH_INTERFACES: Mapping[str, Values] = {
    "network-interface.attachment.instance-id": _of_interfaces("InstanceId"),
    "network-interface.attachment.instance-owner-id": _of_interfaces("OwnerId"),
    "network-interface.availability-zone": _of_interfaces("Placement", "AvailabilityZone"),
    "network-interface.requester-managed": lambda instance: [False] if instance.get(_INTERFACE) else [],
}

INSTANCE_FILTERS = Filters(
    MappingProxyType(
        {
            **dict.fromkeys(_NEVER_SET, no_values),
            **_fields(_FIELD_PATHS),
            **_SHARED_WITH_INTERFACES,
            **tag_filters(),
        }
    )
)
"""The filters of DescribeInstances, for an instance as `filtered_instance` returns it."""

STATUS_FILTERS = Filters(
    MappingProxyType(
        {
            **_fields(
                {
                    "availability-zone": ("AvailabilityZone",),
                    "instance-state-code": ("InstanceState", "Code"),
                    "instance-state-name": ("InstanceState", "Name"),
                    "instance-status.reachability": ("InstanceStatus", "Details", "Status"),
                    "instance-status.status": ("InstanceStatus", "Status"),
                    "system-status.reachability": ("SystemStatus", "Details", "Status"),
                    "system-status.status": ("SystemStatus", "Status"),
                }
            ),
            **dict.fromkeys(
                ("event.code", "event.description", "event.not-after", "event.not-before", "event.instance-event-id"),
                no_values,
            ),
        }
    )
)
"""The filters of DescribeInstanceStatus."""


def filtered_instance(
    reservation: ReservationTypeDef, machine: VirtualMachine, addresses: PublicAddresses
) -> dict[str, Any]:
    """Return the only instance of a reservation, with what its filters are about and EC2 does not show in it.

    These are ReservationId and OwnerId of the reservation, and tags and ids of elastic IPs of its network interfaces.
    """
    linked = (addresses.on(machine, nic) for nic in machine.nics)
    return {
        **reservation["Instances"][0],
        "OwnerId": reservation["OwnerId"],
        "ReservationId": reservation["ReservationId"],
        _INTERFACE_TAGS: [tag for _, tags in tagged_interfaces(machine) for tag in tags],
        _ELASTIC_IPS: [association_ids(address) for address in linked if address is not None],
    }


def may_match_terminated(filters: Sequence[Filter] | None) -> bool:
    """Whether terminated instances can pass these filters of DescribeInstances."""
    names = INSTANCE_FILTERS.values_of("instance-state-name", filters)
    codes = INSTANCE_FILTERS.values_of("instance-state-code", filters)
    return (names is None or _TERMINATED_NAME in names) and (codes is None or _TERMINATED_CODE in codes)
