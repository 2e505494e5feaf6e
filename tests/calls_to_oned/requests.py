"""A typical request of each action, made twice: for the first and for the second of two objects.

`python -m tests.calls_to_oned.requests` prints the table of the calls to oned that they make: "cold" is the first
request of a process, "warm" the second. A line of the table has the calls in the order in which they are sent, without
`one.`; `*` marks those as serveradmin. Calls between two `|` were all sent before any of them had a reply.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, TypeAlias

from econed.actions.call import Call
from econed.actions.empty_lists.tables import EMPTY_LISTS
from tests.calls_to_oned.recording import MadeCall, described, waves_of
from tests.calls_to_oned.things import COMMON_IMAGE, ReceivedFile, TwoOfEach
from tests.support.cloud import body_of, perform

Request: TypeAlias = Callable[[TwoOfEach, int], dict[str, Any]]
"""Returns the parameters for one of two objects, 0 or 1."""

PUBLIC_KEY = b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl somebody@example"

_PERMISSION = {"Attribute": "createVolumePermission"}

_OF_ADDRESSES: Mapping[str, Request] = {
    "AllocateAddress": lambda t, n: {},
    "AssociateAddress": lambda t, n: {"PublicIp": t.free[n], "InstanceId": t.running[2 + n]},
    "DescribeAddresses": lambda t, n: {},
    "DescribeAddressesAttribute": lambda t, n: {"Attribute": "domain-name"},
    "DisassociateAddress": lambda t, n: {"PublicIp": t.associated[n]},
    "ReleaseAddress": lambda t, n: {"PublicIp": t.free[n]},
}

_OF_IAM: Mapping[str, Request] = {
    "CreateAccessKey": lambda t, n: {},
    "DeleteAccessKey": lambda t, n: {"AccessKeyId": t.access_keys[n]},
    "GetAccessKeyLastUsed": lambda t, n: {"AccessKeyId": t.access_keys[n]},
    "GetUser": lambda t, n: {},
    "ListAccessKeys": lambda t, n: {},
    "ListUsers": lambda t, n: {},
    "UpdateAccessKey": lambda t, n: {"AccessKeyId": t.access_keys[n], "Status": "Inactive"},
}

_OF_IMAGES: Mapping[str, Request] = {
    "CopyImage": lambda t, n: {"SourceImageId": t.images[n], "Name": f"copy {n}", "SourceRegion": "OpenNebula"},
    "CreateImage": lambda t, n: {"InstanceId": t.stopped[n], "Name": f"new {n}"},
    "DeregisterImage": lambda t, n: {"ImageId": t.images[n]},
    "DescribeImageAttribute": lambda t, n: {"ImageId": t.images[n], "Attribute": "launchPermission"},
    "DescribeImages": lambda t, n: {},
    "ModifyImageAttribute": lambda t, n: {"ImageId": t.images[n], "Description": {"Value": "new"}},
    "RegisterImage": lambda t, n: {"ImageLocation": t.plain_images[n], "Name": f"registered {n}"},
    "ResetImageAttribute": lambda t, n: {"ImageId": t.images[n], "Attribute": "launchPermission"},
    "UploadImage": lambda t, n: {},
}

_OF_INSTANCES: Mapping[str, Request] = {
    "DescribeInstanceStatus": lambda t, n: {"InstanceIds": [t.running[n]]},
    "DescribeInstanceAttribute": lambda t, n: {"InstanceId": t.running[n], "Attribute": "userData"},
    "DescribeInstanceCreditSpecifications": lambda t, n: {},
    "DescribeInstances": lambda t, n: {},
    "ModifyInstanceAttribute": lambda t, n: {"InstanceId": t.running[n], "Groups": ["sg-00000000"]},
    "GetConsoleOutput": lambda t, n: {"InstanceId": t.running[n]},
    "GetPasswordData": lambda t, n: {"InstanceId": t.running[n]},
    "ModifyInstanceMaintenanceOptions": lambda t, n: {"InstanceId": t.running[n]},
    "ModifyInstanceMetadataOptions": lambda t, n: {"InstanceId": t.running[n]},
    "MonitorInstances": lambda t, n: {"InstanceIds": [t.running[n]]},
    "RebootInstances": lambda t, n: {"InstanceIds": [t.running[n]]},
    "RunInstances": lambda t, n: {"ImageId": COMMON_IMAGE, "MinCount": 1, "MaxCount": 1, "ClientToken": f"token-{n}"},
    "StartInstances": lambda t, n: {"InstanceIds": [t.stopped[n]]},
    "StopInstances": lambda t, n: {"InstanceIds": [t.running[n]]},
    "TerminateInstances": lambda t, n: {"InstanceIds": [t.running[n]]},
    "UnmonitorInstances": lambda t, n: {"InstanceIds": [t.running[n]]},
}

_OF_INTERFACES: Mapping[str, Request] = {
    "DescribeNetworkInterfaceAttribute": lambda t, n: {
        "NetworkInterfaceId": t.interfaces[n],
        "Attribute": "description",
    },
    "DescribeNetworkInterfaces": lambda t, n: {},
    "DetachNetworkInterface": lambda t, n: {"AttachmentId": t.attachments[n]},
    "ModifyNetworkInterfaceAttribute": lambda t, n: {
        "NetworkInterfaceId": t.interfaces[n],
        "Description": {"Value": "new"},
    },
}

_OF_KEYS: Mapping[str, Request] = {
    "CreateKeyPair": lambda t, n: {"KeyName": f"new {n}", "KeyType": "ed25519"},
    "DeleteKeyPair": lambda t, n: {"KeyName": t.keys[n]},
    "DescribeKeyPairs": lambda t, n: {},
    "ImportKeyPair": lambda t, n: {"KeyName": f"new {n}", "PublicKeyMaterial": PUBLIC_KEY},
}

_SSH = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}
_ALL_OUT = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}

_OF_GROUPS: Mapping[str, Request] = {
    "AuthorizeSecurityGroupEgress": lambda t, n: {"GroupId": t.groups[n], "IpPermissions": [_SSH]},
    "AuthorizeSecurityGroupIngress": lambda t, n: {"GroupId": t.groups[n], "IpPermissions": [{**_SSH, "ToPort": 23}]},
    "CreateSecurityGroup": lambda t, n: {"GroupName": f"new {n}", "Description": "new"},
    "DeleteSecurityGroup": lambda t, n: {"GroupId": t.groups[n]},
    "DescribeSecurityGroupRules": lambda t, n: {},
    "DescribeSecurityGroups": lambda t, n: {},
    "ModifySecurityGroupRules": lambda t, n: {
        "GroupId": t.groups[n],
        "SecurityGroupRules": [
            {
                "SecurityGroupRuleId": t.group_rules[n],
                "SecurityGroupRule": {"IpProtocol": "-1", "CidrIpv4": "10.0.0.0/8"},
            }
        ],
    },
    "RevokeSecurityGroupEgress": lambda t, n: {"GroupId": t.groups[n], "IpPermissions": [_ALL_OUT]},
    "RevokeSecurityGroupIngress": lambda t, n: {"GroupId": t.groups[n], "IpPermissions": [_SSH]},
    "UpdateSecurityGroupRuleDescriptionsEgress": lambda t, n: {"GroupId": t.groups[n], "IpPermissions": [_ALL_OUT]},
    "UpdateSecurityGroupRuleDescriptionsIngress": lambda t, n: {"GroupId": t.groups[n], "IpPermissions": [_SSH]},
}

_OF_NETWORKS: Mapping[str, Request] = {
    "DescribeDhcpOptions": lambda t, n: {},
    "DescribeInternetGateways": lambda t, n: {},
    "DescribeNetworkAcls": lambda t, n: {},
    "DescribeRouteTables": lambda t, n: {},
    "DescribeSubnets": lambda t, n: {},
    "CreateVpc": lambda t, n: {"CidrBlock": "10.9.0.0/16"},
    "CreateSubnet": lambda t, n: {"VpcId": t.vpcs[n], "CidrBlock": "10.9.0.0/24"},
    "DeleteSubnet": lambda t, n: {"SubnetId": t.subnets[n]},
    "DeleteVpc": lambda t, n: {"VpcId": t.vpcs[n]},
    "ModifySubnetAttribute": lambda t, n: {"SubnetId": t.subnets[n], "MapPublicIpOnLaunch": {"Value": False}},
    "ModifyVpcAttribute": lambda t, n: {"VpcId": t.vpcs[n], "EnableDnsSupport": {"Value": True}},
    "DescribeVpcAttribute": lambda t, n: {"VpcId": "vpc-9999999999", "Attribute": "enableDnsSupport"},
    "DescribeVpcs": lambda t, n: {},
    **dict.fromkeys((row.action for row in EMPTY_LISTS), lambda t, n: {}),
}

_OF_ACCOUNT: Mapping[str, Request] = dict.fromkeys(
    (
        *("DescribeAggregateIdFormat", "DescribeIdFormat", "DisableEbsEncryptionByDefault"),
        *("DisableSerialConsoleAccess", "GetEbsEncryptionByDefault", "GetSerialConsoleAccessStatus"),
    ),
    lambda t, n: {},
)

_OF_INSTANCE_TYPES: Mapping[str, Request] = {
    "DescribeInstanceTypes": lambda t, n: {},
    "DescribeInstanceTypeOfferings": lambda t, n: {"LocationType": "availability-zone"},
}

_OF_PLACEMENT_GROUPS: Mapping[str, Request] = {
    "CreatePlacementGroup": lambda t, n: {"GroupName": f"new {n}"},
    "DeletePlacementGroup": lambda t, n: {"GroupName": t.placement_groups[n]},
    "DescribePlacementGroups": lambda t, n: {},
}

_OF_REGIONS: Mapping[str, Request] = {
    "DescribeAvailabilityZones": lambda t, n: {},
    "DescribeRegions": lambda t, n: {},
}

_OF_STS: Mapping[str, Request] = {
    "AssumeRole": lambda t, n: {"RoleArn": t.role, "RoleSessionName": f"session-{n}"},
    "GetAccessKeyInfo": lambda t, n: {"AccessKeyId": t.access_key},
    "GetCallerIdentity": lambda t, n: {},
    "GetSessionToken": lambda t, n: {},
}

_OF_TAGS: Mapping[str, Request] = {
    "CreateTags": lambda t, n: {"Resources": [t.running[n], t.volumes[n]], "Tags": [{"Key": "a", "Value": "b"}]},
    "DeleteTags": lambda t, n: {"Resources": [t.running[n], t.volumes[n]], "Tags": [{"Key": "env"}]},
    "DescribeTags": lambda t, n: {},
}

_OF_VOLUMES: Mapping[str, Request] = {
    "AttachVolume": lambda t, n: {"VolumeId": t.volumes[n], "InstanceId": t.running[1], "Device": f"/dev/sd{'hi'[n]}"},
    "CopySnapshot": lambda t, n: {"SourceSnapshotId": t.snapshots[n], "SourceRegion": "OpenNebula"},
    "CreateSnapshot": lambda t, n: {"VolumeId": t.volumes[n]},
    "CreateVolume": lambda t, n: {"AvailabilityZone": "default", "Size": 1},
    "DeleteSnapshot": lambda t, n: {"SnapshotId": t.snapshots[n]},
    "DeleteVolume": lambda t, n: {"VolumeId": t.volumes[n]},
    "DescribeSnapshotAttribute": lambda t, n: {"SnapshotId": t.snapshots[n], **_PERMISSION},
    "DescribeSnapshots": lambda t, n: {},
    "DescribeVolumeAttribute": lambda t, n: {"VolumeId": t.volumes[n], "Attribute": "autoEnableIO"},
    "DescribeVolumeStatus": lambda t, n: {},
    "DescribeVolumes": lambda t, n: {},
    "DescribeVolumesModifications": lambda t, n: {"VolumeIds": [t.attached[n]]},
    "DetachVolume": lambda t, n: {"VolumeId": t.attached[n]},
    "ModifySnapshotAttribute": lambda t, n: {
        "SnapshotId": t.snapshots[n],
        **_PERMISSION,
        "GroupNames": ["all"],
        "OperationType": "add",
    },
    "ModifyVolume": lambda t, n: {"VolumeId": t.attached[n], "Size": 2},
}

REQUESTS: Mapping[str, Request] = {
    **_OF_ADDRESSES,
    **_OF_IAM,
    **_OF_IMAGES,
    **_OF_INSTANCES,
    **_OF_INTERFACES,
    **_OF_KEYS,
    **_OF_NETWORKS,
    **_OF_PLACEMENT_GROUPS,
    **_OF_ACCOUNT,
    **_OF_INSTANCE_TYPES,
    **_OF_GROUPS,
    **_OF_REGIONS,
    **_OF_STS,
    **_OF_TAGS,
    **_OF_VOLUMES,
}
"""By action. A new action must be added here: a test fails while it is missing."""


@dataclass(frozen=True)
class Made:
    """A request that was made, with its calls to oned. `process` is cold or warm, `known` are numbers (`known_in`)."""

    process: str
    waves: list[list[MadeCall]]
    known: frozenset[int]


@cache
def made(action: str) -> Sequence[Made]:
    """Make the request of an action in a process that has just started, and again; return both."""
    things = TwoOfEach()
    things.memory = things.new_memory()
    requests = []
    for number, process in enumerate(("cold", "warm")):
        parameters = REQUESTS[action](things, number)

        def request(call: Call, parameters: dict[str, Any] = parameters) -> Coroutine[Any, Any, object]:
            if action == "UploadImage":  # boto3 cannot send a file
                return body_of(replace(call, upload=ReceivedFile()), action, [])
            return perform(call, action, parameters)

        requests.append(Made(process, waves_of(things, "alice", request), known_in(things, parameters)))
    return requests


def known_in(things: TwoOfEach, parameters: Mapping[str, Any]) -> frozenset[int]:
    """Return the numbers that a process knows before the first reply: those of the request, caller and settings."""
    settings = things.settings
    of_request = map(int, re.findall(r"\d+", repr(parameters)))
    return frozenset({*of_request, things.user("alice").id, settings.datastore_id, things.network})


def table_of(action: str) -> str:
    """Return the lines of an action in the table."""
    return "".join(f"{action} {request.process}: {described(request.waves)}\n" for request in made(action))


if __name__ == "__main__":
    print("".join(map(table_of, sorted(REQUESTS))), end="")  # noqa: T201 - this is what it is for
