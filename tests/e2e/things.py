"""The objects of a user, of every kind, and calls of actions that name them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.e2e.waiting import attached, wait, wait_for
from tests.support.clients import boto
from tests.support.econed_process import Person
from tests.support.furnished_cloud import MAX_WAIT, FurnishedCloud
from tests.support.processes import until

Parameters = Mapping[str, Any]

SSH: Parameters = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}
"""An IpPermission."""


@dataclass(frozen=True)
class Things:
    """The objects of a user: by EC2 name, and in `objects` by OpenNebula kind and id."""

    owner: Person
    region: str
    zone: str
    instance: str
    stopped: str
    image: str
    unregistered: str
    key_name: str
    key_id: str
    access_key: str
    instance_type: str
    token: str
    common_type: str
    common_image: str
    volume: str
    attached: str
    interface: str
    placement_group: str
    snapshot: str
    subnet: str
    vpc: str
    """A VPC without subnets."""

    subnet_of_vpc: str
    """A subnet of another VPC."""

    group: str
    group_name: str
    group_rule: str
    """The rule of the security group for `SSH`."""

    role: str
    temporary_key: str
    free_address: Mapping[str, Any]
    associated_address: Mapping[str, Any]
    """As DescribeAddresses shows them; `associated_address` is associated with the instance."""

    objects: Sequence[tuple[str, int]]

    def documents(self, cloud: FurnishedCloud) -> dict[tuple[str, int], str]:
        """Return all the objects' documents."""
        documents = {(kind, object_id): cloud.document(kind, object_id) for kind, object_id in self.objects}
        return {**documents, ("address", self.owner.id): cloud.address_records(self.owner)}

    def names(self) -> tuple[str, ...]:
        """Return the names that must not appear in a response to another user."""
        return (
            *(self.instance, self.stopped, self.image, self.unregistered, self.key_id, self.instance_type, self.token),
            *(
                self.access_key,
                self.volume,
                self.attached,
                self.interface,
                self.placement_group,
                self.snapshot,
                *(self.subnet, self.vpc, self.subnet_of_vpc),
                *(self.group, self.group_name, self.group_rule),
                self.associated_address["AssociationId"],
            ),
            *(
                address[name]
                for address in (self.free_address, self.associated_address)
                for name in ("PublicIp", "AllocationId")
            ),
        )


@dataclass(frozen=True)
class Example:
    """One call of an action.

    `refused_with` has the possible error codes for a user who names the owner's objects. It is empty for calls that
    concern the caller's own objects only: these succeed, and their responses contain no objects of the owner.
    """

    parameters: Parameters
    refused_with: frozenset[str] = frozenset()


def furnish(cloud: FurnishedCloud, ec2: Any, owner: Person, sts: Any) -> Things:
    """Create objects of every kind for a user."""
    name = f"{owner.name}-own"
    common_image = f"ami-{cloud.ami:08d}"
    image, unregistered = cloud.image(f"{name}-ami", 'EC2_AMI="YES"', owner), cloud.image(f"{name}-plain", "", owner)
    template = cloud.template(f"{name}.type", owner=owner)
    key = ec2.create_key_pair(KeyName=f"{name} key", KeyType="ed25519")
    access_key = boto(owner, ec2.meta.endpoint_url, service="iam").create_access_key()["AccessKey"]
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "secret", "Value": name}]}]
    reservation = ec2.run_instances(
        ImageId=common_image,
        InstanceType=cloud.instance_type,
        MinCount=2,
        MaxCount=2,
        KeyName=key["KeyName"],
        ClientToken=f"{owner.name}-token",
        TagSpecifications=tags,
    )
    running, stopped = (instance["InstanceId"] for instance in reservation["Instances"])
    wait(ec2, "instance_running", [running, stopped])
    ec2.stop_instances(InstanceIds=[stopped])
    wait(ec2, "instance_stopped", [stopped])
    free, used = (ec2.create_volume(AvailabilityZone=cloud.zone, Size=1)["VolumeId"] for _ in range(2))
    wait_for(ec2, "volume_available", VolumeIds=[free, used])
    ec2.attach_volume(VolumeId=used, InstanceId=running, Device="/dev/sdf")
    snapshot = ec2.create_snapshot(VolumeId=free)["SnapshotId"]
    attached(ec2, used)
    wait_for(ec2, "snapshot_completed", SnapshotIds=[snapshot])
    wait_for(ec2, "volume_available", VolumeIds=[free])
    subnet = cloud.reservation(f"{name}-net", owner)
    group = ec2.create_security_group(GroupName=f"{name} group", Description="of a test")["GroupId"]
    rules = ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[SSH])["SecurityGroupRules"]
    cloud.remove_later("secgroup", int(group.partition("-")[2]))
    free_ip, associated_ip = (ec2.allocate_address()["PublicIp"] for _ in range(2))
    ec2.associate_address(PublicIp=associated_ip, InstanceId=running)
    addresses = {address["PublicIp"]: address for address in ec2.describe_addresses()["Addresses"]}
    tagged = [
        f"ami-{image:08d}",
        f"subnet-{subnet:08d}",
        key["KeyPairId"],
        free,
        used,
        snapshot,
        addresses[free_ip]["AllocationId"],
    ]
    vpc, subnet_of_vpc = _vpc_and_subnet(ec2, cloud)
    interface = _second_interface(ec2, cloud, owner, stopped)
    ec2.create_tags(Resources=[*tagged, interface], Tags=[{"Key": "secret", "Value": name}])
    placement_group = f"{owner.name}-placement"
    ec2.create_placement_group(GroupName=placement_group, Strategy="spread")
    return Things(
        owner=owner,
        region=ec2.describe_regions()["Regions"][0]["RegionName"],
        zone=cloud.zone,
        instance=running,
        stopped=stopped,
        image=f"ami-{image:08d}",
        unregistered=f"ami-{unregistered:08d}",
        key_name=key["KeyName"],
        key_id=key["KeyPairId"],
        access_key=access_key["AccessKeyId"],
        instance_type=f"{name}.type",
        token=f"{owner.name}-token",
        common_type=cloud.instance_type,
        common_image=common_image,
        volume=free,
        attached=used,
        interface=interface,
        placement_group=placement_group,
        snapshot=snapshot,
        subnet=f"subnet-{subnet:08d}",
        vpc=vpc,
        subnet_of_vpc=subnet_of_vpc,
        group=group,
        group_name=f"{name} group",
        group_rule=rules[0]["SecurityGroupRuleId"],
        role=f"arn:aws:iam::{owner.id:012d}:role/{cloud.prefix}",
        temporary_key=sts.get_session_token()["Credentials"]["AccessKeyId"],
        free_address=addresses[free_ip],
        associated_address=addresses[associated_ip],
        objects=(
            *(("vm", int(instance[2:])) for instance in (running, stopped)),
            *(("image", image_id) for image_id in (image, unregistered)),
            *(("image", int(resource.partition("-")[2])) for resource in (free, used, snapshot)),
            ("template", template),
            *(("vn", network_id) for network_id in (subnet, *map(_number, (vpc, subnet_of_vpc)))),
            ("secgroup", int(group.partition("-")[2])),
            ("user", owner.id),
        ),
    )


def _second_interface(ec2: Any, cloud: FurnishedCloud, owner: Person, instance: str) -> str:
    """Attach a second network interface to an instance, which is then stopped, and return its id."""
    owner.oned("one.vm.attachnic", int(instance[2:]), f'NIC=[NETWORK_ID="{cloud.network}"]')

    def attached_interface() -> str:
        filters = [{"Name": "attachment.instance-id", "Values": [instance]}]
        interfaces = ec2.describe_network_interfaces(Filters=filters)["NetworkInterfaces"]
        states = [interface["Attachment"]["Status"] for interface in interfaces]
        return str(interfaces[1]["NetworkInterfaceId"]) if states == ["attached"] * 2 else ""

    return until(attached_interface, f"the second interface of {instance}", MAX_WAIT)


def _vpc_and_subnet(ec2: Any, cloud: FurnishedCloud) -> tuple[str, str]:
    """Create a VPC without subnets, and another with a subnet; return the ids of the first and of the subnet."""
    first, second = (ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"] for _ in range(2))
    subnet = ec2.create_subnet(VpcId=second, CidrBlock="10.9.1.0/24")["Subnet"]["SubnetId"]
    filters = [{"Name": "vpc-id", "Values": [first, second]}]
    for group in ec2.describe_security_groups(Filters=filters)["SecurityGroups"]:
        cloud.remove_later("secgroup", _number(group["GroupId"]))
    cloud.remove_vpc_later(_number(first))
    cloud.remove_vpc_later(_number(second), [_number(subnet)])
    return first, subnet


def _number(resource_id: str) -> int:
    return int(resource_id.partition("-")[2])
