"""A user's whole session with boto3: from no instance to none again."""

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
    return [each["InstanceId"] for each in instances]


def _check_running(
    cloud: FurnishedCloud, shown: dict[str, Any], document: etree._Element, owner: Person, launched: tuple[float, float]
) -> None:
    """Compare an instance as DescribeInstances shows it with oned's document of the machine."""
    nic = document.find("TEMPLATE/NIC")
    assert nic is not None
    machine = int(str(document.findtext("ID")))
    assert shown["State"] == {"Code": 16, "Name": "running"}
    assert shown["ImageId"] == f"ami-{cloud.ami:08d}"
    assert shown["InstanceType"] == cloud.instance_type
    assert shown["KeyName"] == "journey"
    assert launched[0] - 1 <= shown["LaunchTime"].timestamp() <= launched[1] + 1
    assert shown["LaunchTime"] == datetime.fromtimestamp(int(str(document.findtext("STIME"))), UTC)
    assert shown["PrivateIpAddress"] == nic.findtext("IP")
    assert shown["PrivateIpAddress"].startswith("10.77.")
    assert shown["Placement"]["AvailabilityZone"] == cloud.zone
    assert shown["Tags"] == [{"Key": "Name", "Value": "first journey"}, {"Key": "empty", "Value": ""}]
    assert shown["RootDeviceName"] == "/dev/sda1"
    assert shown["RootDeviceType"] == "ebs"
    (mapping,) = shown["BlockDeviceMappings"]
    assert mapping["DeviceName"] == "/dev/sda1"
    assert mapping["Ebs"]["VolumeId"].startswith("vol-")
    assert (mapping["Ebs"]["Status"], mapping["Ebs"]["DeleteOnTermination"]) == ("attached", True)
    assert shown["SubnetId"] == f"subnet-{cloud.network:08d}"
    (interface,) = shown["NetworkInterfaces"]
    assert interface["MacAddress"] == nic.findtext("MAC")
    assert interface["PrivateIpAddress"] == shown["PrivateIpAddress"]
    assert interface["SubnetId"] == shown["SubnetId"]
    assert interface["OwnerId"] == f"{owner.id:012d}"
    assert interface["Attachment"]["DeviceIndex"] == 0
    assert interface["NetworkInterfaceId"] == f"eni-{machine:08d}000"
    assert [group["GroupId"] for group in shown["SecurityGroups"]] == ["sg-00000000"]
    assert shown["SecurityGroups"][0]["GroupName"] == "default"
    assert shown["CpuOptions"] == {"CoreCount": 2, "ThreadsPerCore": 1}
    assert "StateReason" not in shown


def test_two_instances_from_launch_to_termination(
    cloud: FurnishedCloud, econed: Econed, alice: Person, ec2: Any
) -> None:
    """The steps of the demo, on every form of oned, with every field of an instance checked."""
    (image,) = ec2.describe_images(ImageIds=[f"ami-{cloud.ami:08d}"])["Images"]
    assert (image["Name"], image["State"], image["OwnerId"]) == (f"{cloud.prefix}-ami", "available", "000000000000")
    assert image["ImageId"] in {each["ImageId"] for each in ec2.describe_images()["Images"]}
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
    assert {each["State"]["Name"] for each in reservation["Instances"]} <= {"pending", "running"}
    try:
        wait(ec2, "instance_running", ids)
        reservations = ec2.describe_instances(InstanceIds=ids)["Reservations"]
        assert [(each["ReservationId"], each["OwnerId"]) for each in reservations] == [
            (reservation["ReservationId"], reservation["OwnerId"])
        ]
        shown = described(ec2, *ids)
        assert sorted(each["AmiLaunchIndex"] for each in shown) == [0, 1]
        assert len({each["ClientToken"] for each in shown} - {""}) == 1
        assert len({each["PrivateIpAddress"] for each in shown}) == 2
        for each in shown:
            _check_running(cloud, each, cloud.vm(int(each["InstanceId"][2:])), alice, launched)
        _stop_and_start(cloud, ec2, ids)
        ec2.reboot_instances(InstanceIds=ids)
        wait(ec2, "instance_running", ids)
        statuses = ec2.describe_instance_status(InstanceIds=ids)["InstanceStatuses"]
        assert [each["InstanceStatus"]["Status"] for each in statuses] == ["ok", "ok"]
    finally:
        ended = ec2.terminate_instances(InstanceIds=ids)["TerminatingInstances"]
    assert {each["PreviousState"]["Name"] for each in ended} == {"running"}
    assert {each["CurrentState"]["Name"] for each in ended} <= {"shutting-down", "terminated"}
    wait(ec2, "instance_terminated", ids)
    for each in described(ec2, *ids):
        assert each["State"] == {"Code": 48, "Name": "terminated"}
        assert each["StateReason"]["Code"] == "Client.UserInitiatedShutdown"
        assert each["ImageId"] == image["ImageId"]
        assert "PrivateIpAddress" not in each
    ec2.delete_key_pair(KeyName="journey")
    assert "journey" not in {each["KeyName"] for each in ec2.describe_key_pairs()["KeyPairs"]}


def _stop_and_start(cloud: FurnishedCloud, ec2: Any, ids: list[str]) -> None:
    first = [each["LaunchTime"] for each in described(ec2, *ids)]
    stopping = ec2.stop_instances(InstanceIds=ids)["StoppingInstances"]
    assert {each["PreviousState"]["Name"] for each in stopping} == {"running"}
    wait(ec2, "instance_stopped", ids)
    for each in described(ec2, *ids):
        assert each["State"] == {"Code": 80, "Name": "stopped"}
        assert each["StateReason"]["Code"] == "Client.UserInitiatedShutdown"
        assert re.fullmatch(r"User initiated \(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d GMT\)", each["StateTransitionReason"])
        assert each["PrivateIpAddress"]
    assert [each["LaunchTime"] for each in described(ec2, *ids)] == first
    starting = ec2.start_instances(InstanceIds=ids)["StartingInstances"]
    assert {each["PreviousState"]["Name"] for each in starting} == {"stopped"}
    wait(ec2, "instance_running", ids)
    for each, before in zip(described(ec2, *ids), first, strict=True):
        last = cloud.vm(int(each["InstanceId"][2:])).findall("HISTORY_RECORDS/HISTORY")[-1]
        assert each["LaunchTime"] == datetime.fromtimestamp(int(str(last.findtext("RSTIME"))), UTC)
        assert each["NetworkInterfaces"][0]["Attachment"]["AttachTime"] == before
        assert each["StateTransitionReason"] == ""


def test_key_and_user_data_reach_the_machine_in_both_forms(cloud: FurnishedCloud, ec2: Any, launch: Any) -> None:
    """As the Ruby server wrote them, and as current context packages and cloud-init read them."""
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
    assert context.findtext("NETWORK") == "YES", "what the instance type's template says is kept"
    ec2.delete_key_pair(KeyName="reaches")


def test_a_failed_deployment_is_shown_and_can_be_terminated(cloud: FurnishedCloud, ec2: Any, launch: Any) -> None:
    """With its state and the reason."""
    cloud.fail_next_deployment()
    (instance,) = launch()
    machine_id = int(instance["InstanceId"][2:])
    until(lambda: cloud.vm(machine_id).findtext("LCM_STATE") == "36", "BOOT_FAILURE", 30)
    (shown,) = described(ec2, instance["InstanceId"])
    assert shown["StateReason"]["Code"] == "Server.InternalError"
    ec2.terminate_instances(InstanceIds=[instance["InstanceId"]])
    wait(ec2, "instance_terminated", [instance["InstanceId"]])


def test_a_user_of_the_driver_public_signs_with_the_password(cloud: FurnishedCloud, econed: Econed) -> None:
    """Oned keeps their password unhashed, so it is the secret key."""
    carol = cloud.person("carol", driver="public")
    ec2 = boto(carol, econed.url)
    known(ec2)
    assert f"ami-{cloud.ami:08d}" in {each["ImageId"] for each in ec2.describe_images()["Images"]}
