"""For every action of econed: calls that would work, and calls with what belongs to somebody else."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.support.estate import Cloud, Person

PUBLIC_KEY = b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl somebody@example"

Parameters = Mapping[str, Any]


@dataclass(frozen=True)
class Things:
    """What a user has: each by its EC2 name, and the OpenNebula object it is, by kind."""

    owner: Person
    zone: str
    instance: str
    stopped: str
    image: str
    unregistered: str
    key_name: str
    key_id: str
    instance_type: str
    token: str
    common_type: str
    common_image: str
    objects: Sequence[tuple[str, int]]

    def documents(self, cloud: Cloud) -> dict[tuple[str, int], str]:
        """Return all of it as oned keeps it."""
        return {(kind, number): cloud.document(kind, number) for kind, number in self.objects}

    def names(self) -> tuple[str, ...]:
        """Return what none of may stand in an answer to somebody else."""
        return (self.instance, self.stopped, self.image, self.unregistered, self.key_id, self.instance_type, self.token)


@dataclass(frozen=True)
class Example:
    """One call of an action.

    `refused_with` are the codes of which somebody else gets one for the owner's things; empty where the call concerns
    only his own, and so is done, or shows nothing of the owner's.
    """

    parameters: Parameters
    refused_with: frozenset[str] = frozenset()


NO_INSTANCE = frozenset({"InvalidInstanceID.NotFound"})
NO_IMAGE = frozenset({"InvalidAMIID.NotFound"})
NO_KEY = frozenset({"InvalidKeyPair.NotFound"})
NO_TYPE = frozenset({"InvalidParameterValue"})

_Make = Callable[[Things], Sequence[Example]]


def _launch(things: Things, **other: Any) -> dict[str, Any]:
    common = {"ImageId": things.common_image, "InstanceType": things.common_type}
    return {**common, "MinCount": 1, "MaxCount": 1, **other}


def _tags(things: Things, **tags: Any) -> Sequence[Example]:
    return (
        Example({"Resources": [things.instance], **tags}, NO_INSTANCE),
        Example({"Resources": [things.stopped], **tags}, NO_INSTANCE),
        Example({"Resources": [things.image], **tags}, NO_IMAGE),
        Example({"Resources": [things.unregistered], **tags}, NO_IMAGE),
        Example({"Resources": [things.key_id], **tags}, NO_KEY),
        Example({"Resources": [things.instance, things.image, things.key_id], **tags}, NO_INSTANCE | NO_IMAGE | NO_KEY),
    )


EXAMPLES: Mapping[str, _Make] = {
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
        Example({"Filters": [{"Name": "resource-id", "Values": [t.instance, t.image, t.unregistered, t.key_id]}]}),
    ),
}
"""By action. A new action has to be put here, or the tests of every action say that it is missing."""

ON_SHARED: Mapping[str, _Make] = {
    "DeregisterImage": lambda t: (Example({"ImageId": t.image}),),
    "RegisterImage": lambda t: (Example({"ImageLocation": t.image, "Name": "mine now"}),),
    "StartInstances": lambda t: (Example({"InstanceIds": [t.stopped]}),),
    "StopInstances": lambda t: (Example({"InstanceIds": [t.instance]}),),
    "RebootInstances": lambda t: (Example({"InstanceIds": [t.instance]}),),
    "TerminateInstances": lambda t: (Example({"InstanceIds": [t.instance, t.stopped]}),),
    "CreateTags": lambda t: tuple(
        Example({"Resources": [each], "Tags": [{"Key": "stolen", "Value": "yes"}]}) for each in (t.instance, t.image)
    ),
    "DeleteTags": lambda t: tuple(
        Example({"Resources": [each], "Tags": [{"Key": "secret"}]}) for each in (t.instance, t.image)
    ),
}
"""By action: changes of what may be used but not changed."""


def furnished(cloud: Cloud, ec2: Any, owner: Person, wait: Callable[[Any, str, Sequence[str]], None]) -> Things:
    """Give a user of everything that there is."""
    name = f"{owner.name}-own"
    common_image = f"ami-{cloud.ami:08d}"
    image, unregistered = cloud.image(f"{name}-ami", 'EC2_AMI="YES"', owner), cloud.image(f"{name}-plain", "", owner)
    template = cloud.template(f"{name}.type", owner=owner)
    key = ec2.create_key_pair(KeyName=f"{name} key", KeyType="ed25519")
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "secret", "Value": name}]}]
    made = ec2.run_instances(
        ImageId=common_image,
        InstanceType=cloud.instance_type,
        MinCount=2,
        MaxCount=2,
        KeyName=key["KeyName"],
        ClientToken=f"{owner.name}-token",
        TagSpecifications=tags,
    )
    running, stopped = (each["InstanceId"] for each in made["Instances"])
    ec2.create_tags(Resources=[f"ami-{image:08d}", key["KeyPairId"]], Tags=[{"Key": "secret", "Value": name}])
    wait(ec2, "instance_running", [running, stopped])
    ec2.stop_instances(InstanceIds=[stopped])
    wait(ec2, "instance_stopped", [stopped])
    return Things(
        owner=owner,
        zone=cloud.zone,
        instance=running,
        stopped=stopped,
        image=f"ami-{image:08d}",
        unregistered=f"ami-{unregistered:08d}",
        key_name=key["KeyName"],
        key_id=key["KeyPairId"],
        instance_type=f"{name}.type",
        token=f"{owner.name}-token",
        common_type=cloud.instance_type,
        common_image=common_image,
        objects=(
            *(("vm", int(each[2:])) for each in (running, stopped)),
            ("image", image),
            ("image", unregistered),
            ("template", template),
            ("user", owner.id),
        ),
    )
