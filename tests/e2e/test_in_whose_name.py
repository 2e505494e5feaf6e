"""Every action runs in the caller's own session: objects of other users are neither shown nor changed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ClientError

from econed.catalogue import all_actions
from econed.opennebula.methods import is_read_only
from econed.services import EC2
from tests.e2e.every_action import EXAMPLES, ON_SHARED
from tests.e2e.things import Example, Things, furnish
from tests.e2e.waiting import known, wait_for
from tests.support.clients import boto, refusal, upload
from tests.support.econed_process import Econed, Person
from tests.support.furnished_cloud import FurnishedCloud

SERVICES = {action.name: action.service for action in all_actions()}
ACTIONS = sorted(SERVICES)
WITHOUT_DRY_RUN = frozenset(
    {
        *("DescribeExportTasks", "DescribeHosts", "DescribeIamInstanceProfileAssociations", "DescribeIdFormat"),
        *("ModifySubnetAttribute", "ModifyVpcAttribute"),
    }
)
"""Actions of EC2 that have no parameter DryRun on Amazon."""

OF_EC2 = sorted(name for name, service in SERVICES.items() if service is EC2 and name not in WITHOUT_DRY_RUN)

STATUS = {"AccessDenied": 403, "NoSuchEntity": 404}
"""The status of IAM's errors. That of EC2's for objects of others is 400."""

OF_SERVERADMIN = frozenset(
    {
        *("one.userpool.info", "one.user.info", "one.grouppool.info"),
        *("one.zonepool.info", "one.clusterpool.info", "one.system.version"),
        "one.acl.info",
    }
)
"""Calls in serveradmin's own session: users and secrets, zones and clusters, whether oned replies at all, and by which
rules others could use a new VPC."""

OF_STOP_TIMES = frozenset({"one.vmpool.info", "one.vmpool.infoset"})
"""And, on an oned that does not record when machines were stopped, the list of machines that are off."""

AFTER_A_WRONG_SIGNATURE = frozenset({"one.grouppool.info"})
"""Of these, the calls that are made only after a wrong signature, some time after all users were read."""

OF_ELASTIC_IPS = frozenset({"one.vnpool.info", "one.vn.info", "one.vn.update", "one.vn.hold", "one.vn.release"})
"""And calls on the network of elastic IPs only, on which users have no rights."""

OF_ACCESS_KEYS = ("EC2_REVOKED_", "EC2_ACCESS_KEY_")
"""The attributes of users that an administrator's commands write, in serveradmin's session."""


@pytest.fixture(scope="session")
def owned(cloud: FurnishedCloud, econed: Econed) -> Things:
    """The objects of a user who shares nothing."""
    erin = cloud.person("erin")
    return furnish(cloud, known(boto(erin, econed.url)), erin, boto(erin, econed.url, service="sts"))


@pytest.fixture(scope="session")
def shared(cloud: FurnishedCloud, econed: Econed) -> Things:
    """The objects of a user whose group may use their instances, AMI, subnet and security group."""
    frank = cloud.person("frank")
    things = furnish(cloud, known(boto(frank, econed.url)), frank, boto(frank, econed.url, service="sts"))
    for kind, object_id in things.objects:
        if kind in ("vm", "image", "vn", "secgroup"):
            cloud.share(kind, object_id, frank)
    return things


@pytest.fixture(scope="session")
def stranger(cloud: FurnishedCloud, econed: Econed) -> Caller:
    """A user of the same group who has no objects."""
    grace = cloud.person("grace")
    return Caller(grace, econed.url, known(boto(grace, econed.url)))


@dataclass(frozen=True)
class Caller:
    """A user and their client of EC2; clients of other services are made for each call."""

    person: Person
    url: str
    client: Any

    def call(self, action: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Make a call; UploadImage, which boto3 does not have, is sent as by the Ruby tools."""
        if action != "UploadImage":
            service = SERVICES[action]
            client = self.client if service is EC2 else boto(self.person, self.url, service=service.name)
            response: dict[str, Any] = client._make_api_call(action, dict(parameters))
            return response
        fields = {name: str(value).lower() for name, value in parameters.items()}
        uploaded = upload(self.person, self.url, b"image", **fields)
        if uploaded.status != 200:
            error = {"Error": {"Code": uploaded.code}, "ResponseMetadata": {"HTTPStatusCode": uploaded.status}}
            raise ClientError(error, action)  # type: ignore[arg-type]
        return {"ImageId": uploaded.texts("imageId")[0]}


def _as_dry_run(example: Example) -> dict[str, Any]:
    """Return the parameters of a dry run, without a client token, which would return the objects of an earlier call."""
    return {**{key: value for key, value in example.parameters.items() if key != "ClientToken"}, "DryRun": True}


def _remove(client: Any, action: str, response: Mapping[str, Any]) -> None:
    """Remove the objects that a call created."""
    if action == "RunInstances":
        client.terminate_instances(InstanceIds=[instance["InstanceId"] for instance in response["Instances"]])
    elif action == "AllocateAddress":
        client.release_address(AllocationId=response["AllocationId"])
    elif action == "CreateVolume":
        wait_for(client, "volume_available", VolumeIds=[response["VolumeId"]])
        client.delete_volume(VolumeId=response["VolumeId"])
    elif action == "CreateSecurityGroup":
        client.delete_security_group(GroupId=response["GroupId"])
    elif action == "CreateVpc":
        client.delete_vpc(VpcId=response["Vpc"]["VpcId"])


def _text_of(response: Mapping[str, Any], caller: Caller) -> str:
    """Return a response as text, without the client tokens of the caller's instances, which may equal the owner's."""
    own = f"{caller.person.id:012d}"
    for reservation in response.get("Reservations", ()):
        for instance in reservation["Instances"] if reservation["OwnerId"] == own else ():
            instance.pop("ClientToken", None)
    return repr(response)


def _shows(text: str, name: str) -> bool:
    """Whether a response contains a whole name: i-00000003 is not in ami-00000003, nor 10.0.0.1 in 10.0.0.12."""
    return re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-]|\.\w)", text) is not None


def test_only_whole_names_are_found_in_a_response() -> None:
    """Punctuation around a name does not matter."""
    text = repr({"ImageId": "ami-00000003", "PublicIp": "192.0.2.12", "Message": "the instance i-00000004."})
    assert not _shows(text, "i-00000003")
    assert not _shows(text, "192.0.2.1")
    assert _shows(text, "ami-00000003")
    assert _shows(text, "192.0.2.12")
    assert _shows(text, "i-00000004")


def test_every_action_is_in_the_table_of_examples() -> None:
    """A new action is therefore tested, too."""
    assert sorted(EXAMPLES) == ACTIONS


@pytest.mark.parametrize("action", ACTIONS)
def test_objects_of_others_are_neither_shown_nor_changed(
    cloud: FurnishedCloud, owned: Things, stranger: Caller, action: str
) -> None:
    """Every action returns NotFound for every kind of id, and the owner's documents do not change by a byte."""
    before = owned.documents(cloud)
    for example in EXAMPLES[action](owned):
        try:
            response = stranger.call(action, example.parameters)
        except ClientError as error:
            code, status = refusal(error)
            assert code in example.refused_with, f"{example}: {error}"
            assert status == STATUS.get(code, 400)
        else:
            assert not example.refused_with, f"{example} succeeded: {response}"
            _remove(stranger.client, action, response)
            if action != "RunInstances":
                text = _text_of(response, stranger)
                assert not [name for name in owned.names() if _shows(text, name)], f"{example} shows {response}"
            else:
                assert not _shows(repr(response), owned.instance)
    assert owned.documents(cloud) == before


@pytest.mark.parametrize("action", sorted(ON_SHARED))
def test_objects_that_may_only_be_used_cannot_be_changed(
    cloud: FurnishedCloud, shared: Things, stranger: Caller, action: str
) -> None:
    """An object that the group may USE is visible; oned refuses each change."""
    before = shared.documents(cloud)
    for example in ON_SHARED[action](shared):
        with pytest.raises(ClientError) as raised:
            stranger.call(action, example.parameters)
        assert refusal(raised.value) == ("UnauthorizedOperation", 403), example
    assert shared.documents(cloud) == before


def test_objects_that_may_be_used_are_visible(shared: Things, stranger: Caller) -> None:
    """They are in every list, with their owner, and the AMI can be used to launch instances."""
    ec2 = stranger.client
    reservations = ec2.describe_instances(InstanceIds=[shared.instance, shared.stopped])["Reservations"]
    assert {reservation["OwnerId"] for reservation in reservations} == {f"{shared.owner.id:012d}"}
    reservations = ec2.describe_instances()["Reservations"]
    assert shared.instance in {
        instance["InstanceId"] for reservation in reservations for instance in reservation["Instances"]
    }
    (status,) = ec2.describe_instance_status(InstanceIds=[shared.instance])["InstanceStatuses"]
    assert status["InstanceState"]["Name"] == "running"
    (image,) = ec2.describe_images(ImageIds=[shared.image])["Images"]
    assert image["OwnerId"] == f"{shared.owner.id:012d}"
    tags = ec2.describe_tags(Filters=[{"Name": "key", "Values": ["secret"]}])["Tags"]
    tagged = {tag["ResourceId"] for tag in tags}
    assert {shared.instance, shared.stopped, shared.image, shared.volume, shared.snapshot} <= tagged
    assert not {shared.key_id, shared.free_address["AllocationId"]} & tagged
    volumes = ec2.describe_volumes(VolumeIds=[shared.volume, shared.attached])["Volumes"]
    assert [volume["State"] for volume in volumes] == ["available", "in-use"]
    (group,) = ec2.describe_security_groups(GroupNames=[shared.group_name])["SecurityGroups"]
    assert group["OwnerId"] == f"{shared.owner.id:012d}"
    (subnet,) = ec2.describe_subnets(SubnetIds=[shared.subnet])["Subnets"]
    assert subnet["OwnerId"] == f"{shared.owner.id:012d}"
    (snapshot,) = ec2.describe_snapshots(SnapshotIds=[shared.snapshot])["Snapshots"]
    assert snapshot["OwnerId"] == f"{shared.owner.id:012d}"
    assert not ec2.describe_addresses()["Addresses"]
    reservation = ec2.run_instances(ImageId=shared.image, InstanceType=shared.common_type, MinCount=1, MaxCount=1)
    _remove(ec2, "RunInstances", reservation)


@pytest.mark.parametrize("action", OF_EC2)
def test_a_dry_run_of_every_action_returns_dry_run_operation(
    cloud: FurnishedCloud, owned: Things, econed: Econed, action: str
) -> None:
    """All checks are made, and no call changes anything in oned."""
    owner = Caller(owned.owner, econed.url, boto(owned.owner, econed.url))
    before = owned.documents(cloud)
    log = cloud.call_count() if cloud.has_call_log else None
    for example in EXAMPLES[action](owned):
        if owned.unregistered in example.parameters.get("Resources", ()):
            continue  # it is not an AMI, so it has no tags
        with pytest.raises(ClientError) as raised:
            owner.call(action, _as_dry_run(example))
        assert refusal(raised.value) == ("DryRunOperation", 412), example
    assert owned.documents(cloud) == before
    if log is not None:
        _assert_nothing_written(cloud, log, owned.owner)


@pytest.mark.parametrize("action", sorted(ON_SHARED.keys() - WITHOUT_DRY_RUN))
def test_a_dry_run_reports_missing_permission(
    cloud: FurnishedCloud, shared: Things, stranger: Caller, action: str
) -> None:
    """It checks the permission bits of the object and does not try the change."""
    before = shared.documents(cloud)
    for example in ON_SHARED[action](shared):
        with pytest.raises(ClientError) as raised:
            stranger.call(action, _as_dry_run(example))
        assert refusal(raised.value) == ("UnauthorizedOperation", 403), example
    assert shared.documents(cloud) == before


@pytest.mark.parametrize("action", OF_EC2)
def test_a_dry_run_reports_other_errors_first(owned: Things, stranger: Caller, action: str) -> None:
    """For an object that does not exist for the caller, the error is the same as without DryRun."""
    for example in EXAMPLES[action](owned):
        with pytest.raises(ClientError) as raised:
            stranger.call(action, _as_dry_run(example))
        expected = example.refused_with or {"DryRunOperation"}
        assert refusal(raised.value)[0] in expected, example


def _assert_nothing_written(cloud: FurnishedCloud, since: int, person: Person) -> None:
    calls = [call for call in cloud.calls(since) if call.user in (person.name, "serveradmin")]
    assert [call for call in calls if not is_read_only(call.method) and not _records_a_stop(call)] == []


def _records_a_stop(call: Any) -> bool:
    """Whether a call records when a machine was stopped: the reconciler does so, independently of requests."""
    return call.method == "one.vm.update" and str(call.args[1]).startswith("EC2_STOPPED=")


def _ends_access_keys(call: Any) -> bool:
    """Whether a call is one of `econe-server keys`, which other tests run on this cloud, and not of the daemon."""
    return call.method == "one.user.update" and str(call.args[1]).startswith(OF_ACCESS_KEYS)


def test_serveradmins_own_session_is_used_only_for_users_zones_clusters_elastic_ips_and_health(
    cloud: FurnishedCloud, econed: Econed, alice: Person, ec2: Any, launch: Any
) -> None:
    """The log of all calls on this cloud shows it, including a launch and a termination."""
    launch()
    ec2.describe_availability_zones()
    ec2.release_address(PublicIp=ec2.allocate_address()["PublicIp"])
    ec2.delete_vpc(VpcId=ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"])
    serveradmins_calls = [call for call in cloud.calls() if call.user == "serveradmin" and not _ends_access_keys(call)]
    allowed = frozenset[str]() if cloud.is_modern else OF_STOP_TIMES
    methods = {call.method for call in serveradmins_calls} - allowed
    assert methods | AFTER_A_WRONG_SIGNATURE == OF_SERVERADMIN | OF_ELASTIC_IPS
    networks = {
        network
        for call in serveradmins_calls
        if call.method in OF_ELASTIC_IPS
        for network in (call.args[1:3] if call.method == "one.vnpool.info" else call.args[:1])
    }
    assert cloud.elastic_ips in networks
    assert networks <= cloud.elastic_networks
    alices_methods = {call.method for call in cloud.calls() if call.user == alice.name}
    assert {"one.template.instantiate", "one.vmpool.infoset", "one.user.update"} <= alices_methods
    assert "one.acl.info" not in alices_methods
    of_elastic_ips = {
        call.method for call in cloud.calls() if call.user == alice.name and call.args[:1] == (cloud.elastic_ips,)
    }
    assert not of_elastic_ips & {"one.vn.update", "one.vn.hold", "one.vn.release"}


def test_only_the_administrator_of_the_test_made_calls_as_oneadmin(cloud: FurnishedCloud, ec2: Any) -> None:
    """Econed makes no calls as oneadmin: every call in a user's session names that user, also for the reconciler."""
    before = cloud.call_count()
    ec2.describe_instances()
    ec2.describe_images()
    users = {call.user for call in cloud.calls(before)}
    assert cloud.alice.name in users
    assert "oneadmin" not in users
