"""For every action of econed: calls that succeed for the owner of the objects, and their errors for other users."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from econed.actions.empty_lists.tables import EMPTY_LISTS
from tests.e2e.things import SSH, Example, Parameters, Things

PUBLIC_KEY = b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl somebody@example"

NO_INSTANCE = frozenset({"InvalidInstanceID.NotFound"})
NO_IMAGE = frozenset({"InvalidAMIID.NotFound"})
NO_KEY = frozenset({"InvalidKeyPair.NotFound"})
NO_TYPE = frozenset({"InvalidParameterValue"})
NO_VOLUME = frozenset({"InvalidVolume.NotFound"})
NO_SNAPSHOT = frozenset({"InvalidSnapshot.NotFound"})
NO_ADDRESS = frozenset({"InvalidAddress.NotFound"})
NO_ALLOCATION = frozenset({"InvalidAllocationID.NotFound"})
NO_INTERFACE = frozenset({"InvalidNetworkInterfaceID.NotFound"})
NO_ATTACHMENT = frozenset({"InvalidAttachmentID.NotFound"})
NO_VPC = frozenset({"InvalidVpcID.NotFound"})
NO_SUBNET = frozenset({"InvalidSubnetID.NotFound"})
NO_PLACEMENT = frozenset({"InvalidPlacementGroup.Unknown"})
NO_GROUP = frozenset({"InvalidGroup.NotFound"})
NO_RULE = frozenset({"InvalidSecurityGroupRuleId.NotFound"})
NO_ENTITY = frozenset({"NoSuchEntity"})
DENIED = frozenset({"AccessDenied"})
NO_ASSOCIATION = frozenset({"InvalidAssociationID.NotFound"})

DEFAULT_VPC = "vpc-9999999999"

HTTP: Parameters = {**SSH, "FromPort": 80, "ToPort": 80}
ALL_OUT: Parameters = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}

_Make = Callable[[Things], Sequence[Example]]


def _launch(things: Things, **parameters: Any) -> dict[str, Any]:
    common = {"ImageId": things.common_image, "InstanceType": things.common_type}
    return {**common, "MinCount": 1, "MaxCount": 1, **parameters}


def _modified_rule(things: Things) -> dict[str, Any]:
    rule = {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "CidrIpv4": "10.0.0.0/8"}
    updates = [{"SecurityGroupRuleId": things.group_rule, "SecurityGroupRule": rule}]
    return {"GroupId": things.group, "SecurityGroupRules": updates}


def _tags(things: Things, **tags: Any) -> Sequence[Example]:
    return (
        Example({"Resources": [things.instance], **tags}, NO_INSTANCE),
        Example({"Resources": [things.stopped], **tags}, NO_INSTANCE),
        Example({"Resources": [things.image], **tags}, NO_IMAGE),
        Example({"Resources": [things.unregistered], **tags}, NO_IMAGE),
        Example({"Resources": [things.key_id], **tags}, NO_KEY),
        Example({"Resources": [things.instance, things.image, things.key_id], **tags}, NO_INSTANCE | NO_IMAGE | NO_KEY),
        Example({"Resources": [things.volume], **tags}, NO_VOLUME),
        Example({"Resources": [things.attached], **tags}, NO_VOLUME),
        Example({"Resources": [things.snapshot], **tags}, NO_SNAPSHOT),
        Example({"Resources": [things.subnet], **tags}, NO_SUBNET),
        Example({"Resources": [things.free_address["AllocationId"]], **tags}, NO_ALLOCATION),
        Example({"Resources": [things.group], **tags}, NO_GROUP),
        Example({"Resources": [things.group_rule], **tags}, NO_RULE),
        Example({"Resources": [things.interface], **tags}, NO_INTERFACE),
    )


_PERMISSION = {"Attribute": "createVolumePermission"}

_OF_IMAGES: Mapping[str, _Make] = {
    "UploadImage": lambda _: (Example({}),),
    "CreateImage": lambda t: (
        Example({"InstanceId": t.instance, "Name": "stolen"}, NO_INSTANCE),
        Example({"InstanceId": t.stopped, "Name": "stolen", "NoReboot": True}, NO_INSTANCE),
    ),
    "CopyImage": lambda t: (Example({"SourceImageId": t.image, "Name": "stolen", "SourceRegion": t.region}, NO_IMAGE),),
    "DescribeImageAttribute": lambda t: (
        Example({"ImageId": t.image, "Attribute": "description"}, NO_IMAGE),
        Example({"ImageId": t.image, "Attribute": "launchPermission"}, NO_IMAGE),
    ),
    "ModifyImageAttribute": lambda t: (
        Example({"ImageId": t.image, "LaunchPermission": {"Add": [{"Group": "all"}]}}, NO_IMAGE),
        Example({"ImageId": t.image, "Description": {"Value": "stolen"}}, NO_IMAGE),
    ),
    "ResetImageAttribute": lambda t: (Example({"ImageId": t.image, "Attribute": "launchPermission"}, NO_IMAGE),),
}


_OF_VOLUMES: Mapping[str, _Make] = {
    "CreateVolume": lambda t: (
        Example({"AvailabilityZone": t.zone, "Size": 1}),
        Example({"AvailabilityZone": t.zone, "SnapshotId": t.snapshot}, NO_SNAPSHOT),
    ),
    "DescribeVolumes": lambda t: (
        Example({}),
        Example({"VolumeIds": [t.volume, t.attached]}, NO_VOLUME),
        Example({"Filters": [{"Name": "volume-id", "Values": [t.volume, t.attached]}]}),
        Example({"Filters": [{"Name": "attachment.instance-id", "Values": [t.instance, t.stopped]}]}),
    ),
    "DescribeVolumeStatus": lambda t: (Example({}), Example({"VolumeIds": [t.volume]}, NO_VOLUME)),
    "DescribeVolumesModifications": lambda t: (Example({}), Example({"VolumeIds": [t.attached]}, NO_VOLUME)),
    "DescribeVolumeAttribute": lambda t: (Example({"VolumeId": t.volume, "Attribute": "autoEnableIO"}, NO_VOLUME),),
    "DeleteVolume": lambda t: (Example({"VolumeId": t.volume}, NO_VOLUME),),
    "AttachVolume": lambda t: (
        Example({"VolumeId": t.volume, "InstanceId": t.stopped, "Device": "/dev/sdk"}, NO_VOLUME | NO_INSTANCE),
    ),
    "DetachVolume": lambda t: (
        Example({"VolumeId": t.attached}, NO_VOLUME),
        Example({"VolumeId": t.attached, "InstanceId": t.instance, "Force": True}, NO_VOLUME | NO_INSTANCE),
    ),
    "ModifyVolume": lambda t: (
        Example({"VolumeId": t.volume, "VolumeType": "gp3"}, NO_VOLUME),
        Example({"VolumeId": t.attached, "Size": 2}, NO_VOLUME),
    ),
}


_OF_SNAPSHOTS: Mapping[str, _Make] = {
    "CreateSnapshot": lambda t: (
        Example({"VolumeId": t.volume}, NO_VOLUME),
        Example({"VolumeId": t.attached, "Description": "stolen"}, NO_VOLUME),
    ),
    "CopySnapshot": lambda t: (Example({"SourceSnapshotId": t.snapshot, "SourceRegion": t.region}, NO_SNAPSHOT),),
    "DescribeSnapshots": lambda t: (
        Example({}),
        Example({"SnapshotIds": [t.snapshot]}, NO_SNAPSHOT),
        Example({"OwnerIds": [f"{t.owner.id:012d}"]}),
        Example({"Filters": [{"Name": "volume-id", "Values": [t.volume]}]}),
    ),
    "DeleteSnapshot": lambda t: (Example({"SnapshotId": t.snapshot}, NO_SNAPSHOT),),
    "ModifySnapshotAttribute": lambda t: (
        Example({"SnapshotId": t.snapshot, **_PERMISSION, "GroupNames": ["all"], "OperationType": "add"}, NO_SNAPSHOT),
    ),
    "DescribeSnapshotAttribute": lambda t: (Example({"SnapshotId": t.snapshot, **_PERMISSION}, NO_SNAPSHOT),),
}


_OF_ADDRESSES: Mapping[str, _Make] = {
    "AllocateAddress": lambda t: (Example({}), Example({"Domain": "vpc"})),
    "DescribeAddresses": lambda t: (
        Example({}),
        Example({"PublicIps": [t.free_address["PublicIp"]]}, NO_ADDRESS),
        Example({"AllocationIds": [t.free_address["AllocationId"]]}, NO_ALLOCATION),
        Example(
            {
                "Filters": [
                    {"Name": "public-ip", "Values": [t.free_address["PublicIp"], t.associated_address["PublicIp"]]}
                ]
            }
        ),
        Example({"Filters": [{"Name": "association-id", "Values": [t.associated_address["AssociationId"]]}]}),
    ),
    "DescribeAddressesAttribute": lambda t: (
        Example({"Attribute": "domain-name"}),
        Example({"AllocationIds": [t.free_address["AllocationId"]], "Attribute": "domain-name"}, NO_ALLOCATION),
    ),
    "AssociateAddress": lambda t: (
        Example({"PublicIp": t.free_address["PublicIp"], "InstanceId": t.stopped}, NO_ADDRESS | NO_INSTANCE),
        Example({"AllocationId": t.free_address["AllocationId"], "InstanceId": t.stopped}, NO_ALLOCATION | NO_INSTANCE),
    ),
    "DisassociateAddress": lambda t: (
        Example({"PublicIp": t.associated_address["PublicIp"]}, NO_ADDRESS),
        Example({"AssociationId": t.associated_address["AssociationId"]}, NO_ASSOCIATION),
    ),
    "ReleaseAddress": lambda t: (
        Example({"PublicIp": t.free_address["PublicIp"]}, NO_ADDRESS),
        Example({"AllocationId": t.free_address["AllocationId"]}, NO_ALLOCATION),
    ),
}


_OF_INTERFACES: Mapping[str, _Make] = {
    "DescribeNetworkInterfaces": lambda t: (
        Example({}),
        Example({"NetworkInterfaceIds": [t.interface]}, NO_INTERFACE),
        Example({"Filters": [{"Name": "attachment.instance-id", "Values": [t.instance, t.stopped]}]}),
    ),
    "DescribeNetworkInterfaceAttribute": lambda t: (
        Example({"NetworkInterfaceId": t.interface, "Attribute": "description"}, NO_INTERFACE),
    ),
    "ModifyInstanceAttribute": lambda t: (Example({"InstanceId": t.instance, "Groups": ["sg-00000000"]}, NO_INSTANCE),),
    "ModifyNetworkInterfaceAttribute": lambda t: (
        Example({"NetworkInterfaceId": t.interface, "Description": {"Value": "stolen"}}, NO_INTERFACE),
    ),
    "DetachNetworkInterface": lambda t: (
        Example({"AttachmentId": t.interface.replace("eni-", "eni-attach-")}, NO_ATTACHMENT),
    ),
}


_OF_PLACEMENT_GROUPS: Mapping[str, _Make] = {
    "CreatePlacementGroup": lambda t: (Example({"GroupName": f"placement {uuid.uuid4()}"}),),
    "DescribePlacementGroups": lambda t: (Example({}), Example({"GroupNames": [t.placement_group]}, NO_PLACEMENT)),
    "DeletePlacementGroup": lambda t: (Example({"GroupName": t.placement_group}, NO_PLACEMENT),),
}


_INACTIVE = {"Status": "Inactive"}

_OF_IAM: Mapping[str, _Make] = {
    "CreateAccessKey": lambda t: (Example({}), Example({"UserName": t.owner.name}, DENIED)),
    "ListAccessKeys": lambda t: (Example({}), Example({"UserName": t.owner.name}, DENIED)),
    "UpdateAccessKey": lambda t: (
        Example({"AccessKeyId": t.access_key, **_INACTIVE}, NO_ENTITY),
        Example({"AccessKeyId": t.access_key, "UserName": t.owner.name, **_INACTIVE}, DENIED),
    ),
    "DeleteAccessKey": lambda t: (
        Example({"AccessKeyId": t.access_key}, NO_ENTITY),
        Example({"AccessKeyId": t.access_key, "UserName": t.owner.name}, DENIED),
    ),
    "GetAccessKeyLastUsed": lambda t: (Example({"AccessKeyId": t.access_key}, DENIED),),
    "GetUser": lambda t: (Example({}), Example({"UserName": t.owner.name}, DENIED)),
    "ListUsers": lambda t: (Example({}),),
}

_OF_STS: Mapping[str, _Make] = {
    "GetCallerIdentity": lambda _: (Example({}),),
    "GetSessionToken": lambda _: (Example({}),),
    "AssumeRole": lambda t: (Example({"RoleArn": t.role, "RoleSessionName": "session"}, frozenset({"AccessDenied"})),),
    "GetAccessKeyInfo": lambda t: (Example({"AccessKeyId": t.temporary_key}),),
}


_OF_GROUPS: Mapping[str, _Make] = {
    "CreateSecurityGroup": lambda t: (
        Example({"GroupName": f"{t.group_name} {uuid.uuid4()}", "Description": "of a test"}),
    ),
    "DescribeSecurityGroups": lambda t: (
        Example({}),
        Example({"GroupIds": [t.group]}, NO_GROUP),
        Example({"GroupNames": [t.group_name]}, NO_GROUP),
        Example({"Filters": [{"Name": "group-id", "Values": [t.group]}]}),
    ),
    "DescribeSecurityGroupRules": lambda t: (
        Example({}),
        Example({"SecurityGroupRuleIds": [t.group_rule]}, NO_RULE),
        Example({"Filters": [{"Name": "group-id", "Values": [t.group]}]}),
    ),
    "AuthorizeSecurityGroupIngress": lambda t: (
        Example({"GroupId": t.group, "IpPermissions": [HTTP]}, NO_GROUP),
        Example({"GroupName": t.group_name, "IpPermissions": [HTTP]}, NO_GROUP),
    ),
    "AuthorizeSecurityGroupEgress": lambda t: (Example({"GroupId": t.group, "IpPermissions": [HTTP]}, NO_GROUP),),
    "RevokeSecurityGroupIngress": lambda t: (
        Example({"GroupId": t.group, "IpPermissions": [SSH]}, NO_GROUP),
        Example({"GroupId": t.group, "SecurityGroupRuleIds": [t.group_rule]}, NO_GROUP),
    ),
    "RevokeSecurityGroupEgress": lambda t: (Example({"GroupId": t.group, "IpPermissions": [ALL_OUT]}, NO_GROUP),),
    "ModifySecurityGroupRules": lambda t: (Example(_modified_rule(t), NO_GROUP),),
    "UpdateSecurityGroupRuleDescriptionsIngress": lambda t: (
        Example({"GroupId": t.group, "IpPermissions": [SSH]}, NO_GROUP),
    ),
    "UpdateSecurityGroupRuleDescriptionsEgress": lambda t: (
        Example({"GroupId": t.group, "IpPermissions": [ALL_OUT]}, NO_GROUP),
    ),
    "DeleteSecurityGroup": lambda t: (
        Example({"GroupId": t.group}, NO_GROUP),
        Example({"GroupName": t.group_name}, NO_GROUP),
    ),
}


_OF_VPCS: Mapping[str, _Make] = {
    "CreateSubnet": lambda t: (Example({"VpcId": t.vpc, "CidrBlock": "10.9.2.0/24"}, NO_VPC),),
    "DeleteSubnet": lambda t: (Example({"SubnetId": t.subnet_of_vpc}, NO_SUBNET),),
    "DeleteVpc": lambda t: (Example({"VpcId": t.vpc}, NO_VPC),),
    "ModifySubnetAttribute": lambda t: (
        Example({"SubnetId": t.subnet_of_vpc, "MapPublicIpOnLaunch": {"Value": False}}, NO_SUBNET),
    ),
    "ModifyVpcAttribute": lambda t: (Example({"VpcId": t.vpc, "EnableDnsSupport": {"Value": True}}, NO_VPC),),
}

_OF_NETWORKS: Mapping[str, _Make] = {
    **_OF_VPCS,
    "CreateVpc": lambda _: (Example({"CidrBlock": "10.9.0.0/16"}),),
    "DescribeVpcs": lambda _: (Example({}), Example({"VpcIds": [DEFAULT_VPC]})),
    "DescribeVpcAttribute": lambda _: (Example({"VpcId": DEFAULT_VPC, "Attribute": "enableDnsSupport"}),),
    "DescribeSubnets": lambda t: (Example({}), Example({"SubnetIds": [t.subnet]}, NO_SUBNET)),
    "DescribeRouteTables": lambda _: (Example({}),),
    "DescribeInternetGateways": lambda _: (Example({}),),
    "DescribeDhcpOptions": lambda _: (Example({}),),
    "DescribeNetworkAcls": lambda _: (Example({}),),
    **dict.fromkeys((row.action for row in EMPTY_LISTS), lambda _: (Example({}),)),
}

_OF_OPTIONS: Mapping[str, _Make] = {
    **dict.fromkeys(
        (
            *("GetConsoleOutput", "GetPasswordData", "ModifyInstanceMaintenanceOptions"),
            "ModifyInstanceMetadataOptions",
        ),
        lambda t: (Example({"InstanceId": t.instance}, NO_INSTANCE),),
    ),
    **dict.fromkeys(
        ("MonitorInstances", "UnmonitorInstances"), lambda t: (Example({"InstanceIds": [t.instance]}, NO_INSTANCE),)
    ),
    "DescribeInstanceAttribute": lambda t: (
        Example({"InstanceId": t.instance, "Attribute": "userData"}, NO_INSTANCE),
        Example({"InstanceId": t.instance, "Attribute": "disableApiTermination"}, NO_INSTANCE),
    ),
    "DescribeInstanceCreditSpecifications": lambda _: (Example({}),),
}

_OF_INSTANCE_TYPES: Mapping[str, _Make] = {
    "DescribeInstanceTypes": lambda t: (
        Example({}),
        Example({"InstanceTypes": [t.instance_type]}, frozenset({"InvalidInstanceType"})),
    ),
    "DescribeInstanceTypeOfferings": lambda _: (Example({"LocationType": "availability-zone"}),),
}

_OF_ACCOUNT: Mapping[str, _Make] = dict.fromkeys(
    (
        *("DescribeAggregateIdFormat", "DescribeIdFormat", "DisableEbsEncryptionByDefault"),
        *("DisableSerialConsoleAccess", "GetEbsEncryptionByDefault", "GetSerialConsoleAccessStatus"),
    ),
    lambda _: (Example({}),),
)

EXAMPLES: Mapping[str, _Make] = {
    **_OF_IAM,
    **_OF_STS,
    **_OF_IMAGES,
    **_OF_VOLUMES,
    **_OF_SNAPSHOTS,
    **_OF_ADDRESSES,
    **_OF_NETWORKS,
    **_OF_GROUPS,
    **_OF_INTERFACES,
    **_OF_PLACEMENT_GROUPS,
    **_OF_ACCOUNT,
    **_OF_INSTANCE_TYPES,
    **_OF_OPTIONS,
    "DescribeRegions": lambda _: (Example({}),),
    "DescribeAvailabilityZones": lambda t: (Example({}), Example({"ZoneNames": [t.zone]})),
    "DescribeImages": lambda t: (
        Example({}),
        Example({"ImageIds": [t.image]}, NO_IMAGE),
        Example({"Filters": [{"Name": "image-id", "Values": [t.image, t.unregistered]}]}),
        Example({"Owners": [f"{t.owner.id:012d}"]}),
    ),
    "RegisterImage": lambda t: (
        Example({"ImageLocation": t.unregistered, "Name": "mine now"}, NO_IMAGE),
        Example({"ImageLocation": t.image, "Name": "mine now"}, NO_IMAGE),
        Example({"ImageLocation": str(int(t.unregistered[4:])), "Name": "mine", "Description": "mine"}, NO_IMAGE),
    ),
    "DeregisterImage": lambda t: (Example({"ImageId": t.image}, NO_IMAGE),),
    "RunInstances": lambda t: (
        Example(_launch(t, ImageId=t.image), NO_IMAGE),
        Example(_launch(t, KeyName=t.key_name), NO_KEY),
        Example(_launch(t, InstanceType=t.instance_type), NO_TYPE),
        Example(_launch(t, Placement={"GroupName": t.placement_group}), NO_PLACEMENT),
        Example(_launch(t, ClientToken=t.token)),
    ),
    "DescribeInstances": lambda t: (
        Example({}),
        Example({"InstanceIds": [t.instance]}, NO_INSTANCE),
        Example({"InstanceIds": [t.stopped, t.instance]}, NO_INSTANCE),
        Example({"Filters": [{"Name": "owner-id", "Values": [f"{t.owner.id:012d}"]}]}),
        Example({"Filters": [{"Name": "client-token", "Values": [t.token]}]}),
    ),
    "DescribeInstanceStatus": lambda t: (
        Example({"IncludeAllInstances": True}),
        Example({"InstanceIds": [t.instance]}, NO_INSTANCE),
    ),
    "StartInstances": lambda t: (Example({"InstanceIds": [t.stopped]}, NO_INSTANCE),),
    "StopInstances": lambda t: (
        Example({"InstanceIds": [t.instance]}, NO_INSTANCE),
        Example({"InstanceIds": [t.instance], "Force": True}, NO_INSTANCE),
    ),
    "RebootInstances": lambda t: (Example({"InstanceIds": [t.instance]}, NO_INSTANCE),),
    "TerminateInstances": lambda t: (Example({"InstanceIds": [t.instance, t.stopped]}, NO_INSTANCE),),
    "CreateKeyPair": lambda t: (Example({"KeyName": f"{t.key_name} of {uuid.uuid4()}"}),),
    "ImportKeyPair": lambda t: (
        Example({"KeyName": f"{t.key_name} of {uuid.uuid4()}", "PublicKeyMaterial": PUBLIC_KEY}),
    ),
    "DescribeKeyPairs": lambda t: (
        Example({}),
        Example({"KeyNames": [t.key_name]}, NO_KEY),
        Example({"KeyPairIds": [t.key_id]}, NO_KEY),
    ),
    "DeleteKeyPair": lambda t: (Example({"KeyName": t.key_name}), Example({"KeyPairId": t.key_id})),
    "CreateTags": lambda t: _tags(t, Tags=[{"Key": "stolen", "Value": "yes"}]),
    "DeleteTags": lambda t: (*_tags(t), *_tags(t, Tags=[{"Key": "secret"}])),
    "DescribeTags": lambda t: (
        Example({}),
        Example(
            {
                "Filters": [
                    {"Name": "resource-id", "Values": [t.instance, t.image, t.volume, t.snapshot, t.subnet, t.key_id]}
                ]
            }
        ),
    ),
}
"""By action, of all services. A new action must be added here: a test fails while it is missing."""

ON_SHARED: Mapping[str, _Make] = {
    **{name: examples for name, examples in _OF_GROUPS.items() if not name.startswith(("Create", "Describe"))},
    **_OF_VPCS,
    "DeregisterImage": lambda t: (Example({"ImageId": t.image}),),
    "RegisterImage": lambda t: (Example({"ImageLocation": t.image, "Name": "mine now"}),),
    "StartInstances": lambda t: (Example({"InstanceIds": [t.stopped]}),),
    "StopInstances": lambda t: (Example({"InstanceIds": [t.instance]}),),
    "RebootInstances": lambda t: (Example({"InstanceIds": [t.instance]}),),
    "TerminateInstances": lambda t: (Example({"InstanceIds": [t.instance, t.stopped]}),),
    "CreateImage": lambda t: (Example({"InstanceId": t.instance, "Name": "stolen"}),),
    "ModifyImageAttribute": lambda t: (
        Example({"ImageId": t.image, "LaunchPermission": {"Remove": [{"Group": "all"}]}}),
        Example({"ImageId": t.image, "Description": {"Value": "stolen"}}),
    ),
    "ResetImageAttribute": lambda t: (Example({"ImageId": t.image, "Attribute": "launchPermission"}),),
    "DeleteVolume": lambda t: (Example({"VolumeId": t.volume}),),
    "AttachVolume": lambda t: (Example({"VolumeId": t.volume, "InstanceId": t.stopped, "Device": "/dev/sdk"}),),
    "DetachVolume": lambda t: (Example({"VolumeId": t.attached}),),
    "ModifyVolume": lambda t: (
        Example({"VolumeId": t.volume, "VolumeType": "gp3"}),
        Example({"VolumeId": t.attached, "Size": 2}),
    ),
    "ModifyInstanceAttribute": lambda t: (Example({"InstanceId": t.instance, "Groups": ["sg-00000000"]}),),
    "ModifyNetworkInterfaceAttribute": lambda t: (
        Example({"NetworkInterfaceId": t.interface, "Description": {"Value": "stolen"}}),
        Example({"NetworkInterfaceId": t.interface, "SourceDestCheck": {"Value": False}}),
    ),
    "CreateSnapshot": lambda t: (Example({"VolumeId": t.attached}),),
    "DeleteSnapshot": lambda t: (Example({"SnapshotId": t.snapshot}),),
    "ModifySnapshotAttribute": lambda t: (
        Example({"SnapshotId": t.snapshot, **_PERMISSION, "GroupNames": ["all"], "OperationType": "remove"}),
    ),
    "CreateTags": lambda t: tuple(
        Example({"Resources": [resource], "Tags": [{"Key": "stolen", "Value": "yes"}]})
        for resource in (t.instance, t.interface, t.image, t.volume, t.attached, t.snapshot, t.subnet)
    ),
    "DeleteTags": lambda t: tuple(
        Example({"Resources": [resource], "Tags": [{"Key": "secret"}]})
        for resource in (t.instance, t.interface, t.image, t.volume, t.attached, t.snapshot, t.subnet)
    ),
}
"""By action: changes of objects that the caller may use but not change."""
