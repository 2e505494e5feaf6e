"""A user's whole session with boto3, from the first instance to its termination."""

from __future__ import annotations

import base64
import re
import time
from datetime import UTC, datetime
from typing import Any

from lxml import etree

from tests.e2e.waiting import described, known, wait
from tests.support.clients import boto
from tests.support.econed_process import Econed, Person
from tests.support.furnished_cloud import FurnishedCloud
from tests.support.processes import until

USER_DATA = "#!/bin/sh\necho $HOME costs 100$ 'and' \"more\"\n"


def _ids(instances: list[dict[str, Any]]) -> list[str]:
    return [instance["InstanceId"] for instance in instances]


def _check_running(
    cloud: FurnishedCloud,
    instance: dict[str, Any],
    document: etree._Element,
    owner: Person,
    launched: tuple[float, float],
) -> None:
    """Compare an instance as DescribeInstances shows it with oned's document of the machine."""
    nic = document.find("TEMPLATE/NIC")
    assert nic is not None
    machine = int(str(document.findtext("ID")))
    assert instance["State"] == {"Code": 16, "Name": "running"}
    assert instance["ImageId"] == f"ami-{cloud.ami:08d}"
    assert instance["InstanceType"] == cloud.instance_type
    assert instance["KeyName"] == "journey"
    assert launched[0] - 1 <= instance["LaunchTime"].timestamp() <= launched[1] + 1
    assert instance["LaunchTime"] == datetime.fromtimestamp(int(str(document.findtext("STIME"))), UTC)
    assert instance["PrivateIpAddress"] == nic.findtext("IP")
    assert instance["PrivateIpAddress"].startswith("10.77.")
    assert instance["Placement"]["AvailabilityZone"] == cloud.zone
    assert instance["Tags"] == [{"Key": "Name", "Value": "first journey"}, {"Key": "empty", "Value": ""}]
    assert instance["RootDeviceName"] == "/dev/sda1"
    assert instance["RootDeviceType"] == "ebs"
    (mapping,) = instance["BlockDeviceMappings"]
    assert mapping["DeviceName"] == "/dev/sda1"
    assert mapping["Ebs"]["VolumeId"].startswith("vol-")
    assert (mapping["Ebs"]["Status"], mapping["Ebs"]["DeleteOnTermination"]) == ("attached", True)
    assert instance["SubnetId"] == f"subnet-{cloud.network:08d}"
    (interface,) = instance["NetworkInterfaces"]
    assert interface["MacAddress"] == nic.findtext("MAC")
    assert interface["PrivateIpAddress"] == instance["PrivateIpAddress"]
    assert interface["SubnetId"] == instance["SubnetId"]
    assert interface["OwnerId"] == f"{owner.id:012d}"
    assert interface["Attachment"]["DeviceIndex"] == 0
    assert interface["NetworkInterfaceId"].startswith(f"eni-{machine:08x}")
    assert [group["GroupId"] for group in instance["SecurityGroups"]] == ["sg-00000000"]
    assert instance["SecurityGroups"][0]["GroupName"] == "default"
    assert instance["CpuOptions"] == {"CoreCount": 2, "ThreadsPerCore": 1}
    assert "StateReason" not in instance


def test_two_instances_from_launch_to_termination(
    cloud: FurnishedCloud, econed: Econed, alice: Person, ec2: Any
) -> None:
    """The steps of the demo, on every form of oned, with every field of an instance checked."""
    (image,) = ec2.describe_images(ImageIds=[f"ami-{cloud.ami:08d}"])["Images"]
    assert (image["Name"], image["State"], image["OwnerId"]) == (f"{cloud.prefix}-ami", "available", "000000000000")
    assert image["ImageId"] in {image["ImageId"] for image in ec2.describe_images()["Images"]}
    assert ec2.create_key_pair(KeyName="journey")["KeyMaterial"].startswith("-----BEGIN RSA PRIVATE KEY-----")
    (zone,) = ec2.describe_availability_zones(ZoneNames=[cloud.zone])["AvailabilityZones"]
    assert zone["State"] == "available"

    began = time.time()
    reservation = ec2.run_instances(
        ImageId=image["ImageId"],
        InstanceType=cloud.instance_type,
        MinCount=2,
        MaxCount=2,
        KeyName="journey",
        UserData=USER_DATA,
        TagSpecifications=[
            {
                "ResourceType": "instance",
                "Tags": [{"Key": "Name", "Value": "first journey"}, {"Key": "empty", "Value": ""}],
            }
        ],
    )
    launched = (began, time.time())
    ids = _ids(reservation["Instances"])
    assert len(set(ids)) == 2
    assert reservation["OwnerId"] == f"{alice.id:012d}"
    assert {instance["State"]["Name"] for instance in reservation["Instances"]} <= {"pending", "running"}
    try:
        wait(ec2, "instance_running", ids)
        reservations = ec2.describe_instances(InstanceIds=ids)["Reservations"]
        assert [(reservation["ReservationId"], reservation["OwnerId"]) for reservation in reservations] == [
            (reservation["ReservationId"], reservation["OwnerId"])
        ]
        instances = described(ec2, *ids)
        assert sorted(instance["AmiLaunchIndex"] for instance in instances) == [0, 1]
        assert len({instance["ClientToken"] for instance in instances} - {""}) == 1
        assert len({instance["PrivateIpAddress"] for instance in instances}) == 2
        for instance in instances:
            _check_running(cloud, instance, cloud.vm(int(instance["InstanceId"][2:])), alice, launched)
        _stop_and_start(cloud, ec2, ids)
        ec2.reboot_instances(InstanceIds=ids)
        wait(ec2, "instance_running", ids)
        statuses = ec2.describe_instance_status(InstanceIds=ids)["InstanceStatuses"]
        assert [status["InstanceStatus"]["Status"] for status in statuses] == ["ok", "ok"]
    finally:
        changes = ec2.terminate_instances(InstanceIds=ids)["TerminatingInstances"]
    assert {change["PreviousState"]["Name"] for change in changes} == {"running"}
    assert {change["CurrentState"]["Name"] for change in changes} <= {"shutting-down", "terminated"}
    wait(ec2, "instance_terminated", ids)
    for instance in described(ec2, *ids):
        assert instance["State"] == {"Code": 48, "Name": "terminated"}
        assert instance["StateReason"]["Code"] == "Client.UserInitiatedShutdown"
        assert instance["ImageId"] == image["ImageId"]
        assert "PrivateIpAddress" not in instance
    ec2.delete_key_pair(KeyName="journey")
    assert "journey" not in {key_pair["KeyName"] for key_pair in ec2.describe_key_pairs()["KeyPairs"]}


def _stop_and_start(cloud: FurnishedCloud, ec2: Any, ids: list[str]) -> None:
    launch_times = [instance["LaunchTime"] for instance in described(ec2, *ids)]
    changes = ec2.stop_instances(InstanceIds=ids)["StoppingInstances"]
    assert {change["PreviousState"]["Name"] for change in changes} == {"running"}
    wait(ec2, "instance_stopped", ids)
    for instance in described(ec2, *ids):
        assert instance["State"] == {"Code": 80, "Name": "stopped"}
        assert instance["StateReason"]["Code"] == "Client.UserInitiatedShutdown"
        assert re.fullmatch(r"User initiated \(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d GMT\)", instance["StateTransitionReason"])
        assert instance["PrivateIpAddress"]
    assert [instance["LaunchTime"] for instance in described(ec2, *ids)] == launch_times
    changes = ec2.start_instances(InstanceIds=ids)["StartingInstances"]
    assert {change["PreviousState"]["Name"] for change in changes} == {"stopped"}
    wait(ec2, "instance_running", ids)
    for instance, launch_time in zip(described(ec2, *ids), launch_times, strict=True):
        record = cloud.vm(int(instance["InstanceId"][2:])).findall("HISTORY_RECORDS/HISTORY")[-1]
        assert instance["LaunchTime"] == datetime.fromtimestamp(int(str(record.findtext("RSTIME"))), UTC)
        assert instance["NetworkInterfaces"][0]["Attachment"]["AttachTime"] == launch_time
        assert instance["StateTransitionReason"] == ""


def test_key_and_user_data_reach_the_machine_in_both_forms(cloud: FurnishedCloud, ec2: Any, launch: Any) -> None:
    """One form is that of the Ruby server, the other is read by current context packages and cloud-init."""
    ec2.create_key_pair(KeyName="reaches", KeyType="ed25519")
    (pair,) = ec2.describe_key_pairs(KeyNames=["reaches"], IncludePublicKey=True)["KeyPairs"]
    (instance,) = launch(KeyName="reaches", UserData=USER_DATA)
    context = cloud.vm(int(instance["InstanceId"][2:])).find("TEMPLATE/CONTEXT")
    assert context is not None
    encoded = base64.b64encode(USER_DATA.encode()).decode()
    assert context.findtext("EC2_USER_DATA") == encoded
    assert context.findtext("USER_DATA") == encoded
    assert context.findtext("USER_DATA_ENCODING") == "base64"
    assert context.findtext("EC2_PUBLIC_KEY") == pair["PublicKey"]
    assert context.findtext("SSH_PUBLIC_KEY") == pair["PublicKey"]
    assert context.findtext("EC2_KEYNAME") == "reaches"
    assert context.findtext("NETWORK") == "YES", "the attributes of the instance type's template are kept"
    ec2.delete_key_pair(KeyName="reaches")


def test_an_instance_whose_deployment_failed_has_a_state_reason_and_can_be_terminated(
    cloud: FurnishedCloud, ec2: Any, launch: Any
) -> None:
    """The reason is Server.InternalError."""
    cloud.fail_next_deployment()
    (instance,) = launch()
    machine_id = int(instance["InstanceId"][2:])
    until(lambda: cloud.vm(machine_id).findtext("LCM_STATE") == "36", "BOOT_FAILURE", 30)
    (described_instance,) = described(ec2, instance["InstanceId"])
    assert described_instance["StateReason"]["Code"] == "Server.InternalError"
    ec2.terminate_instances(InstanceIds=[instance["InstanceId"]])
    wait(ec2, "instance_terminated", [instance["InstanceId"]])


def test_a_user_of_the_driver_public_signs_with_the_password(cloud: FurnishedCloud, econed: Econed) -> None:
    """Oned keeps their password unhashed, so it is the secret key."""
    carol = cloud.person("carol", driver="public")
    ec2 = boto(carol, econed.url)
    known(ec2)
    assert f"ami-{cloud.ami:08d}" in {image["ImageId"] for image in ec2.describe_images()["Images"]}
