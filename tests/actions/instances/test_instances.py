"""Listing instances and their status."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from econed.actions.machines.listed import NEWEST_ENDED_COUNT
from econed.config.settings import Settings
from econed.opennebula.states import LcmState
from tests.support.cloud import NOW, Cloud

AMI = "ami-00000000"
EXPIRATION_TIME = Settings().terminated_instances_expiration_time


def run(cloud: Cloud, count: int = 1, user: str = "alice", **extra: Any) -> list[str]:
    """Run instances, wait until they run, and return their ids."""
    result = cloud.run(user, "RunInstances", ImageId=AMI, MinCount=count, MaxCount=count, **extra)
    cloud.clock.pump([1] * 30)
    return [instance["InstanceId"] for instance in result["Instances"]]


def listed(cloud: Cloud, user: str = "alice", **parameters: Any) -> list[dict[str, Any]]:
    """Return the instances that a user lists."""
    reservations = cloud.run(user, "DescribeInstances", **parameters)["Reservations"]
    return [instance for reservation in reservations for instance in reservation["Instances"]]


def ids(instances: list[dict[str, Any]]) -> list[str]:
    """Return the ids of instances."""
    return [instance["InstanceId"] for instance in instances]


def terminate(cloud: Cloud, *instances: str) -> None:
    """Terminate instances of alice and wait until they are terminated."""
    cloud.run("alice", "TerminateInstances", InstanceIds=list(instances))
    cloud.clock.pump([1] * 30)


def test_a_listed_instance_has_all_fields(cloud: Cloud) -> None:
    cloud.run("alice", "CreateKeyPair", KeyName="mykey")
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "web"}]}]
    (instance,) = run(cloud, KeyName="mykey", ClientToken="tok", TagSpecifications=tags)
    (reservation,) = cloud.run("alice", "DescribeInstances")["Reservations"]
    (described,) = reservation["Instances"]
    assert reservation["ReservationId"] == f"r-{instance[2:]}"
    assert reservation["OwnerId"] == f"{cloud.user('alice').id:012d}"
    assert described["InstanceId"] == instance
    assert described["ImageId"] == AMI
    assert described["InstanceType"] == "m1.small"
    assert described["KeyName"] == "mykey"
    assert described["ClientToken"] == "tok"
    assert described["Tags"] == [{"Key": "Name", "Value": "web"}]
    assert described["State"] == {"Code": 16, "Name": "running"}
    assert described["LaunchTime"].astimezone(UTC).date() == datetime.fromtimestamp(NOW, UTC).date()
    assert described["Placement"]["AvailabilityZone"] == "default"
    assert described["RootDeviceName"] == "/dev/sda1"
    (disk,) = described["BlockDeviceMappings"]
    assert disk["DeviceName"] == "/dev/sda1"
    assert disk["Ebs"]["DeleteOnTermination"] is True
    assert disk["Ebs"]["Status"] == "attached"
    (interface,) = described["NetworkInterfaces"]
    assert interface["PrivateIpAddress"] == described["PrivateIpAddress"]
    assert described["PrivateIpAddress"].startswith("10.0.0.")
    assert described["PrivateDnsName"] == described["PrivateIpAddress"]
    assert described["PublicDnsName"] == ""
    assert interface["MacAddress"].startswith("02:00:0a:00:00")
    assert interface["Groups"] == described["SecurityGroups"] == [{"GroupId": "sg-00000000", "GroupName": "default"}]


def test_an_instance_has_the_fields_that_tools_expect_of_every_instance(cloud: Cloud) -> None:
    """There is no metadata service and no adapter of Amazon's, and the network checks source and destination."""
    run(cloud)
    (described,) = listed(cloud)
    assert described["SourceDestCheck"] is True
    assert [interface["SourceDestCheck"] for interface in described["NetworkInterfaces"]] == [True]
    assert (described["PlatformDetails"], described["UsageOperation"]) == ("Linux/UNIX", "RunInstances")
    assert described["EnaSupport"] is False
    assert (described["BootMode"], described["CurrentInstanceBootMode"]) == ("legacy-bios", "legacy-bios")
    assert described["MetadataOptions"] == {
        "State": "applied",
        "HttpTokens": "optional",
        "HttpPutResponseHopLimit": 1,
        "HttpEndpoint": "disabled",
        "HttpProtocolIpv6": "disabled",
        "InstanceMetadataTags": "disabled",
    }


@pytest.mark.parametrize(
    ("os", "mode"),
    [
        ('FIRMWARE="UEFI"', "uefi"),
        ('FIRMWARE="/usr/share/OVMF/OVMF_CODE.fd"', "uefi"),
        ('FIRMWARE="BIOS"', "legacy-bios"),
        ('ARCH="x86_64"', "legacy-bios"),
    ],
)
def test_the_boot_mode_is_the_firmware_of_the_machine(cloud: Cloud, os: str, mode: str) -> None:
    text = f'NAME="t"\nEC2_INSTANCE_TYPE="firm"\nCPU="1"\nMEMORY="64"\nOS=[{os}]'
    cloud.as_user("alice", "one.template.allocate", text)
    run(cloud, InstanceType="firm")
    (described,) = listed(cloud)
    assert (described["BootMode"], described["CurrentInstanceBootMode"]) == (mode, mode)


@pytest.mark.parametrize("prefix", ["vd", "hd", "xvd", "sd"])
def test_the_root_device_has_amazons_name_on_every_bus(cloud: Cloud, prefix: str) -> None:
    """This holds for the instance, its AMI and its volume, because tools find the root device by that name only."""
    text = f'NAME="v"\nTYPE="OS"\nPATH="/v"\nSIZE="10"\nEC2_AMI="YES"\nDEV_PREFIX="{prefix}"'
    image = cloud.as_user("alice", "one.image.allocate", text, 1)
    cloud.wait(5)
    cloud.run("alice", "RunInstances", ImageId=f"ami-{image:08d}", MinCount=1, MaxCount=1)
    (described,) = listed(cloud)
    (disk,) = described["BlockDeviceMappings"]
    (volume,) = cloud.run("alice", "DescribeVolumes")["Volumes"]
    (ami,) = cloud.run("alice", "DescribeImages", ImageIds=[f"ami-{image:08d}"])["Images"]
    names = {described["RootDeviceName"], disk["DeviceName"], volume["Attachments"][0]["Device"], ami["RootDeviceName"]}
    assert names | {ami["BlockDeviceMappings"][0]["DeviceName"]} == {"/dev/sda1"}


def test_another_disk_with_the_same_letter_is_not_the_root_device(cloud: Cloud) -> None:
    """A machine may have both vda and sda."""
    template = cloud.as_user("alice", "one.template.allocate", 'NAME="two"\nCPU="1"\nMEMORY="64"')
    disks = 'DISK=[IMAGE_ID="0",TARGET="vda"]\nDISK=[TYPE="fs",SIZE="10",TARGET="sda"]'
    cloud.as_user("alice", "one.template.instantiate", template, "two", False, disks, False)
    cloud.wait(5)
    (described,) = listed(cloud)
    assert described["RootDeviceName"] == "/dev/sda1"
    assert [disk["DeviceName"] for disk in described["BlockDeviceMappings"]] == ["/dev/sda1", "/dev/sda"]


def test_an_image_and_its_instance_name_the_same_root_device(cloud: Cloud) -> None:
    run(cloud)
    (image,) = cloud.run("alice", "DescribeImages", ImageIds=[AMI])["Images"]
    assert image["RootDeviceName"] == listed(cloud)[0]["RootDeviceName"]


def test_a_machine_that_no_ec2_client_created_is_an_instance_too(cloud: Cloud) -> None:
    machine = cloud.as_user("alice", "one.template.instantiate", 0, "sunstone", False, 'DISK=[IMAGE_ID="0"]', False)
    (described,) = listed(cloud)
    assert described["InstanceId"] == f"i-{machine:08d}"
    assert described["ImageId"] == AMI
    assert described["InstanceType"] == "m1.small"


def test_a_user_lists_their_own_instances_and_not_those_of_others(cloud: Cloud) -> None:
    own_ids = run(cloud)
    run(cloud, user="bob")
    assert ids(listed(cloud)) == own_ids


def test_an_instance_shared_by_another_user_is_listed_with_its_owner(cloud: Cloud) -> None:
    (bobs,) = run(cloud, user="bob")
    cloud.as_user("bob", "one.vm.chmod", int(bobs[2:]), -1, -1, -1, 1, -1, -1, -1, -1, -1)
    (reservation,) = cloud.run("alice", "DescribeInstances")["Reservations"]
    bobs_account = f"{cloud.user('bob').id:012d}"
    assert reservation["OwnerId"] == bobs_account
    assert listed(cloud, Filters=[{"Name": "owner-id", "Values": [bobs_account]}]) != []
    own = [{"Name": "owner-id", "Values": [f"{cloud.user('alice').id:012d}"]}]
    assert listed(cloud, Filters=own) == []


def test_one_unknown_id_fails_the_whole_call(cloud: Cloud) -> None:
    own_ids = run(cloud)
    refusal = cloud.refusal("alice", "DescribeInstances", InstanceIds=[*own_ids, "i-00000999", "i-00000998"])
    assert refusal.code == "InvalidInstanceID.NotFound"
    assert "i-00000999" in refusal.message
    assert "i-00000998" in refusal.message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("instance-id", "{InstanceId}"),
        ("instance-state-name", "running"),
        ("instance-state-code", "16"),
        ("image-id", "ami-*"),
        ("instance-type", "m1.s?all"),
        ("key-name", "mykey"),
        ("private-ip-address", "{PrivateIpAddress}"),
        ("network-interface.addresses.private-ip-address", "{PrivateIpAddress}"),
        ("reservation-id", "r-*"),
        ("availability-zone", "default"),
        ("tag:env", "prod"),
        ("tag-key", "env"),
        ("client-token", "tok"),
        ("launch-time", "2027-*"),
        ("root-device-name", "/dev/sda1"),
        ("block-device-mapping.device-name", "/dev/sda1"),
        ("boot-mode", "legacy-bios"),
        ("current-instance-boot-mode", "legacy-bios"),
        ("ena-support", "false"),
        ("metadata-options.http-endpoint", "disabled"),
        ("metadata-options.http-tokens", "optional"),
        ("metadata-options.state", "applied"),
        ("network-interface.source-dest-check", "true"),
        ("platform-details", "Linux/UNIX"),
        ("source-dest-check", "true"),
        ("usage-operation", "RunInstances"),
        ("block-device-mapping.delete-on-termination", "true"),
        ("instance.group-name", "default"),
        ("architecture", "x86_64"),
        ("launch-index", "0"),
    ],
)
def test_a_filter_finds_the_instance_with_a_matching_field(name: str, value: str) -> None:
    cloud = Cloud()
    cloud.run("alice", "CreateKeyPair", KeyName="mykey")
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "env", "Value": "prod"}]}]
    run(cloud, KeyName="mykey", ClientToken="tok", TagSpecifications=tags)
    (described,) = listed(cloud)
    matching = listed(cloud, Filters=[{"Name": name, "Values": [value.format(**described)]}])
    assert ids(matching) == [described["InstanceId"]]
    assert listed(cloud, Filters=[{"Name": name, "Values": ["something-else"]}]) == []


@pytest.mark.parametrize("name", ["host-id", "iam-instance-profile.arn", "spot-instance-request-id", "ip-address"])
def test_a_filter_on_a_field_that_instances_never_have_finds_nothing(name: str) -> None:
    assert listed(Cloud(vms=3), Filters=[{"Name": name, "Values": ["*"]}]) == []


def test_an_unknown_filter_is_refused() -> None:
    for action in ("DescribeInstances", "DescribeInstanceStatus"):
        refusal = Cloud(vms=1).refusal("alice", action, Filters=[{"Name": "colour", "Values": ["red"]}])
        assert refusal.code == "InvalidParameterValue"


def test_the_pages_together_are_the_whole_list() -> None:
    cloud = Cloud(vms=23)
    all_ids = ids(listed(cloud))
    pages: list[str] = []
    parameters: dict[str, Any] = {"MaxResults": 5}
    while True:
        result = cloud.run("alice", "DescribeInstances", **parameters)
        page = [i["InstanceId"] for r in result["Reservations"] for i in r["Instances"]]
        assert 0 < len(page) <= 5
        pages += page
        if "NextToken" not in result:
            break
        parameters["NextToken"] = result["NextToken"]
    assert pages == all_ids
    assert len(all_ids) == 23


def test_changes_between_the_pages_neither_omit_nor_repeat_an_instance(cloud: Cloud) -> None:
    initial = run(cloud, 12)
    listed_ids: list[str] = []
    parameters: dict[str, Any] = {"MaxResults": 5}
    for _ in range(20):
        result = cloud.run("alice", "DescribeInstances", **parameters)
        listed_ids += [i["InstanceId"] for r in result["Reservations"] for i in r["Instances"]]
        if "NextToken" not in result:
            break
        parameters["NextToken"] = result["NextToken"]
        terminate(cloud, initial[1], initial[7])
        if len(listed_ids) < 15:
            run(cloud, 2)
    assert len(listed_ids) == len({*listed_ids})
    assert {*initial} - {initial[1], initial[7]} <= {*listed_ids}


def test_a_reservation_may_continue_on_the_next_page() -> None:
    cloud = Cloud()
    run(cloud, 8)
    result = cloud.run("alice", "DescribeInstances", MaxResults=5)
    second_page = cloud.run("alice", "DescribeInstances", MaxResults=5, NextToken=result["NextToken"])
    (first,), (second,) = result["Reservations"], second_page["Reservations"]
    assert first["ReservationId"] == second["ReservationId"]
    assert len(first["Instances"]) + len(second["Instances"]) == 8


def test_a_terminated_instance_is_visible_for_the_configured_time(cloud: Cloud) -> None:
    (instance,) = run(cloud)
    terminate(cloud, instance)
    (described,) = listed(cloud)
    assert described["State"]["Name"] == "terminated"
    assert described["StateReason"]["Code"] == "Client.UserInitiatedShutdown"
    assert "PrivateIpAddress" not in described
    assert listed(cloud, InstanceIds=[instance])
    cloud.clock.advance(EXPIRATION_TIME + 60)
    assert listed(cloud) == []
    assert cloud.refusal("alice", "DescribeInstances", InstanceIds=[instance]).code == "InvalidInstanceID.NotFound"


def test_an_instance_terminated_while_pending_is_visible_too(cloud: Cloud) -> None:
    machine = cloud.as_user("alice", "one.template.instantiate", 0, "", True, 'DISK=[IMAGE_ID="0"]', False)
    terminate(cloud, f"i-{machine:08d}")
    assert ids(listed(cloud)) == [f"i-{machine:08d}"]


def test_an_old_instance_terminated_recently_is_listed_despite_many_newer_ones_terminated_earlier() -> None:
    cloud = Cloud()
    (old,) = run(cloud)
    newer = run(cloud, NEWEST_ENDED_COUNT + 10)
    terminate(cloud, *newer)
    cloud.clock.advance(EXPIRATION_TIME + 60)
    terminate(cloud, old)
    assert ids(listed(cloud)) == [old]


def test_the_cost_of_a_list_does_not_grow_with_the_number_of_terminated_instances() -> None:
    cloud = Cloud()
    run(cloud)

    def reads_of_machines() -> list[tuple[str, tuple[object, ...]]]:
        before = len(cloud.oned.calls)
        listed(cloud)
        return [(call.method, call.args) for call in list(cloud.oned.calls)[before:] if "vmpool" in call.method]

    listed(cloud)
    before = reads_of_machines()
    others = run(cloud, 50)
    terminate(cloud, *others)
    cloud.clock.advance(EXPIRATION_TIME + 60)
    listed(cloud)  # reads once which machines have ended since the last list
    assert [method for method, _ in reads_of_machines()] == [method for method, _ in before]


def test_hidden_terminated_instances_are_not_listed_but_found_by_id() -> None:
    """The waiters of SDKs send requests with ids, and fail on a NotFound error."""
    cloud = Cloud(settings=Settings(describe_with_terminated_instances=False))
    (instance,) = run(cloud)
    terminate(cloud, instance)
    assert listed(cloud) == []
    assert listed(cloud, InstanceIds=[instance])[0]["State"]["Name"] == "terminated"


def test_an_instance_without_a_suitable_host_is_pending_with_a_reason(cloud: Cloud) -> None:
    template_id = cloud.oneadmin(
        "one.template.allocate", 'NAME="huge"\nEC2_INSTANCE_TYPE="huge"\nCPU="100000"\nMEMORY="999999999"'
    )
    cloud.oneadmin("one.template.chmod", template_id, 1, 1, 0, 1, 0, 0, 1, 0, 0)
    run(cloud, InstanceType="huge")
    (described,) = listed(cloud)
    assert described["State"]["Name"] == "pending"
    assert described["StateReason"]["Code"] == "Server.InsufficientInstanceCapacity"


def test_status_is_listed_for_running_instances_unless_all_are_requested(cloud: Cloud) -> None:
    running_id, stopped_id = run(cloud, 2)
    cloud.run("alice", "StopInstances", InstanceIds=[stopped_id])
    cloud.clock.pump([1] * 30)
    (running,) = cloud.run("alice", "DescribeInstanceStatus")["InstanceStatuses"]
    assert running["InstanceId"] == running_id
    assert running["InstanceStatus"]["Status"] == running["SystemStatus"]["Status"] == "ok"
    assert running["AvailabilityZone"] == "default"
    statuses = cloud.run("alice", "DescribeInstanceStatus", IncludeAllInstances=True)["InstanceStatuses"]
    assert [(status["InstanceId"], status["InstanceStatus"]["Status"]) for status in statuses] == [
        (running_id, "ok"),
        (stopped_id, "not-applicable"),
    ]
    assert cloud.run("alice", "DescribeInstanceStatus", InstanceIds=[stopped_id])["InstanceStatuses"] == []


def test_an_instance_in_the_unknown_state_is_impaired() -> None:
    cloud = Cloud()
    (instance,) = run(cloud)
    machine = cloud.oned.cloud.vms.get(int(instance[2:]))
    machine.set_state(machine.state, LcmState.UNKNOWN)
    (status,) = cloud.run("alice", "DescribeInstanceStatus")["InstanceStatuses"]
    assert status["InstanceStatus"]["Status"] == "impaired"
    impaired = [{"Name": "instance-status.status", "Values": ["impaired"]}]
    assert cloud.run("alice", "DescribeInstanceStatus", Filters=impaired)["InstanceStatuses"] == [status]


def test_status_is_listed_in_pages_too() -> None:
    cloud = Cloud(vms=12)
    result = cloud.run("alice", "DescribeInstanceStatus", MaxResults=5)
    assert len(result["InstanceStatuses"]) == 5
    second_page = cloud.run("alice", "DescribeInstanceStatus", MaxResults=100, NextToken=result["NextToken"])
    assert len(second_page["InstanceStatuses"]) == 7
    assert "NextToken" not in second_page


def test_the_token_of_one_list_is_invalid_for_another() -> None:
    cloud = Cloud(vms=12)
    token = cloud.run("alice", "DescribeInstanceStatus", MaxResults=5)["NextToken"]
    assert cloud.refusal("alice", "DescribeInstances", MaxResults=5, NextToken=token).code == "InvalidNextToken"
