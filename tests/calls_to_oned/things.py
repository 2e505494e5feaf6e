"""A cloud in which alice has two of everything, so that each action can be called twice."""

from __future__ import annotations

from zope.interface import implementer

from econed.credentials.key_ids import new_temporary_id
from econed.interfaces import IUpload
from econed.sandbox.demo_cloud import GROUP_NAME
from econed.sandbox.objects.base import Kind
from tests.support.addresses import AddressCloud

COMMON_IMAGE = "ami-00000000"
PLAIN_IMAGES = ("ami-00000001",)


@implementer(IUpload)
class ReceivedFile:
    """A file that has been uploaded."""

    async def check_acceptable(self, owner: int) -> None:
        """Accept it (`IUpload`)."""

    async def receive(self, owner: int) -> str:
        """Return its path (`IUpload`)."""
        return "/var/tmp/econed/upload"

    async def discard(self) -> None:
        """Do nothing (`IUpload`)."""


class TwoOfEach(AddressCloud):
    """The cloud. The ids are of EC2; `associated` are addresses, `associations` their ids."""

    def __init__(self, version: str = "7.4") -> None:
        super().__init__(version, limit=8)
        launched = self.run("alice", "RunInstances", ImageId=COMMON_IMAGE, MinCount=6, MaxCount=6)["Instances"]
        self.wait(10)
        self.running = [instance["InstanceId"] for instance in launched[:4]]
        self.stopped = [instance["InstanceId"] for instance in launched[4:]]
        self.run("alice", "StopInstances", InstanceIds=self.stopped)
        volumes = [self.run("alice", "CreateVolume", AvailabilityZone="default", Size=1)["VolumeId"] for _ in range(4)]
        self.wait(5)
        self.volumes, self.attached = volumes[:2], volumes[2:]
        for volume, device in zip(self.attached, ("/dev/sdf", "/dev/sdg"), strict=True):
            self.run("alice", "AttachVolume", VolumeId=volume, InstanceId=self.running[0], Device=device)
            self.wait(5)
        self.snapshots = [self.run("alice", "CreateSnapshot", VolumeId=id_)["SnapshotId"] for id_ in self.volumes]
        self.images = [
            self.run("alice", "CreateImage", InstanceId=id_, Name=f"of {id_}", NoReboot=True)["ImageId"]
            for id_ in self.stopped
        ]
        self.wait(10)
        self.plain_images = [self._plain_image(f"plain {number}") for number in range(2)]
        ips = [self.allocate() for _ in range(4)]
        self.free, self.associated = ips[:2], ips[2:]
        for ip, instance in zip(self.associated, self.running, strict=False):
            self.run("alice", "AssociateAddress", PublicIp=ip, InstanceId=instance)
        self.keys = [f"key {number}" for number in range(2)]
        for key in self.keys:
            self.run("alice", "CreateKeyPair", KeyName=key, KeyType="ed25519")
        created = [self.run("alice", "CreateAccessKey")["AccessKey"] for _ in range(2)]
        self.access_keys = [key["AccessKeyId"] for key in created]
        self.run("alice", "CreateTags", Resources=[*self.running, *self.volumes], Tags=[{"Key": "env", "Value": "a"}])
        self.interfaces, self.attachments = zip(*map(self._second_interface, self.running[2:]), strict=True)
        self.placement_groups = ["apart", "together"]
        for name, strategy in zip(self.placement_groups, ("spread", "cluster"), strict=True):
            self.run("alice", "CreatePlacementGroup", GroupName=name, Strategy=strategy)
        self.groups = [
            self.run("alice", "CreateSecurityGroup", GroupName=f"group {number}", Description="of a test")["GroupId"]
            for number in range(2)
        ]
        self.group_rules = [self._ssh_rule(group) for group in self.groups]
        self._make_vpcs()
        self.role = f"arn:aws:iam::{self.user('alice').id:012d}:role/{GROUP_NAME}"
        self.access_key = new_temporary_id(self.sealer, self.user("alice").id)
        self.wait(60)

    def _make_vpcs(self) -> None:
        """Create two VPCs without subnets, and one with two."""
        for rule in self.oned.cloud.rights.rules():
            if rule.resource & Kind.NET.bit:
                self.oneadmin("one.acl.delrule", rule.id)
        text = 'NAME="vpc"\nVN_MAD="vxlan"\nPHYDEV="eth0"\nEC2_VPC="YES"'
        template_id = self.oneadmin("one.vntemplate.allocate", text)
        self.oneadmin("one.vntemplate.chmod", template_id, -1, -1, -1, -1, -1, -1, 1, -1, -1)
        vpcs = [self.run("alice", "CreateVpc", CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"] for _ in range(3)]
        self.vpcs = vpcs[:2]
        self.subnets = [
            self.run("alice", "CreateSubnet", VpcId=vpcs[2], CidrBlock=f"10.9.{number}.0/24")["Subnet"]["SubnetId"]
            for number in range(2)
        ]

    def _second_interface(self, instance: str) -> tuple[str, str]:
        """Attach a second network interface to an instance, and return its id and that of the attachment."""
        self.as_user("alice", "one.vm.attachnic", int(instance[2:]), 'NIC=[NETWORK_ID="0"]')
        self.wait(10)
        filters = [{"Name": "attachment.instance-id", "Values": [instance]}]
        _, second = self.run("alice", "DescribeNetworkInterfaces", Filters=filters)["NetworkInterfaces"]
        return second["NetworkInterfaceId"], second["Attachment"]["AttachmentId"]

    def _ssh_rule(self, group: str) -> str:
        """Allow SSH to the instances of a group, and return the id of the rule."""
        ssh = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}
        added = self.run("alice", "AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=[ssh])
        return str(added["SecurityGroupRules"][0]["SecurityGroupRuleId"])

    def _plain_image(self, name: str) -> str:
        """Create an image that is no AMI, and return its id."""
        text = f'NAME="{name}"\nTYPE="OS"\nPATH="/var/tmp/{name}"'
        image = self.as_user("alice", "one.image.allocate", text, 1)
        self.wait(5)
        return f"ami-{image:08d}"
