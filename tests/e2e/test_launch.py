"""RunInstances on an oned that has its own say: quotas, restricted attributes, what the template brings."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.e2e.waiting import described, known, wait
from tests.support.clients import boto, refusal
from tests.support.econed_process import Econed, Person
from tests.support.furnished_cloud import FurnishedCloud

QUOTA = 3


@pytest.fixture(scope="module")
def limited(cloud: FurnishedCloud, econed: Econed) -> tuple[Person, Any]:
    """A user who may have three machines, and his client."""
    liz = cloud.person("liz")
    quota = f'VM=[VMS="{QUOTA}",RUNNING_VMS="-1",CPU="-1",RUNNING_CPU="-1",MEMORY="-1",RUNNING_MEMORY="-1",'
    cloud.admin("one.user.quota", liz.id, f'{quota}SYSTEM_DISK_SIZE="-1"]')
    return liz, known(boto(liz, econed.url))


def _asked(cloud: FurnishedCloud, least: int, most: int, token: str) -> dict[str, Any]:
    return {
        "ImageId": f"ami-{cloud.ami:08d}",
        "InstanceType": cloud.instance_type,
        "MinCount": least,
        "MaxCount": most,
        "ClientToken": token,
    }


def _end(client: Any, ids: list[str]) -> None:
    client.terminate_instances(InstanceIds=ids)
    wait(client, "instance_terminated", ids)


def test_fewer_than_min_count_is_none_at_all(cloud: FurnishedCloud, limited: tuple[Person, Any]) -> None:
    """What was made before the quota was met is taken back, and was never seen as an instance."""
    liz, client = limited
    with pytest.raises(ClientError) as raised:
        client.run_instances(**_asked(cloud, QUOTA + 1, QUOTA + 2, uuid.uuid4().hex))
    assert refusal(raised.value) == ("InstanceLimitExceeded", 400)
    hers = [{"Name": "owner-id", "Values": [f"{liz.id:012d}"]}]
    assert client.describe_instances(Filters=hers)["Reservations"] == []
    assert cloud.vm_ids(liz, -1) == []


def test_between_min_and_max_count_it_is_as_many_as_there_may_be(
    cloud: FurnishedCloud, limited: tuple[Person, Any]
) -> None:
    """And the same again for the same token."""
    liz, client = limited
    asked = _asked(cloud, 1, QUOTA + 2, uuid.uuid4().hex)
    made = [each["InstanceId"] for each in client.run_instances(**asked)["Instances"]]
    try:
        assert len(made) == QUOTA
        again = client.run_instances(**asked)
        assert [each["InstanceId"] for each in again["Instances"]] == made
        assert {f"i-{number:08d}" for number in cloud.vm_ids(liz, -1)} == set(made)
        wait(client, "instance_running", made)
    finally:
        _end(client, made)


def test_what_the_template_brings_is_kept(cloud: FurnishedCloud, ec2: Any, alice: Person) -> None:
    """Its own disks, its CONTEXT with variables, its capacity, its free attributes, its restricted values."""
    extra = cloud.image(f"{cloud.prefix}-extra", "")
    cloud.admin("one.image.chmod", extra, 1, 1, 0, 1, 0, 0, 1, 0, 0)
    name = f"{cloud.prefix}.rich"
    text = f'DISK=[IMAGE_ID="{extra}",TOTAL_BYTES_SEC="1000"]\nGRAPHICS=[TYPE="VNC",LISTEN="127.0.0.1"]\nTEAM="blue"\n'
    text += 'SCHED_REQUIREMENTS="FREE_CPU > 0"\n'
    number = cloud.admin.make(
        "one.template.allocate",
        f'NAME="{name}"\nEC2_INSTANCE_TYPE="{name}"\nCPU="0.1"\nMEMORY="64"\nNIC=[NETWORK_ID="{cloud.network}",'
        f'INBOUND_AVG_BW="1000"]\nCONTEXT=[NETWORK="YES",HOSTNAME="host-$VMID"]\n{text}',
    )
    cloud.admin("one.template.chmod", number, 1, 1, 0, 0, 0, 0, 1, 0, 0, False)
    made = ec2.run_instances(
        ImageId=f"ami-{cloud.ami:08d}",
        InstanceType=name,
        MinCount=1,
        MaxCount=1,
        UserData="hello",
        Placement={"AvailabilityZone": cloud.zone},
    )["Instances"]
    ids = [each["InstanceId"] for each in made]
    try:
        wait(ec2, "instance_running", ids)
        document = cloud.vm(int(ids[0][2:]))
        assert [each.findtext("IMAGE_ID") for each in document.findall("TEMPLATE/DISK")] == [str(cloud.ami), str(extra)]
        assert [each.findtext("TOTAL_BYTES_SEC") for each in document.findall("TEMPLATE/DISK")] == [None, "1000"]
        assert document.findtext("TEMPLATE/NIC/INBOUND_AVG_BW") == "1000"
        assert document.findtext("TEMPLATE/CONTEXT/HOSTNAME") == f"host-{int(ids[0][2:])}"
        assert document.findtext("TEMPLATE/GRAPHICS/LISTEN") == "127.0.0.1"
        assert document.findtext("USER_TEMPLATE/TEAM") == "blue"
        requirements = document.findtext("USER_TEMPLATE/SCHED_REQUIREMENTS") or ""
        assert "FREE_CPU > 0" in requirements
        assert "CLUSTER_ID = " in requirements
        (shown,) = described(ec2, *ids)
        assert len(shown["BlockDeviceMappings"]) == 2
        assert shown["Placement"]["AvailabilityZone"] == cloud.zone
    finally:
        _end(ec2, ids)
        cloud.admin("one.template.delete", number, False)


def test_a_tag_name_is_the_name_of_the_machine_where_it_can_be(cloud: FurnishedCloud, launch: Any) -> None:
    """So that administrators find it in Sunstone; what makes no name stays a tag."""
    for name, expected in (("web server 1", "web server 1"), ("a/b", None), ("x" * 200, None)):
        (made,) = launch(TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": name}]}])
        kept = cloud.vm(int(made["InstanceId"][2:])).findtext("NAME")
        assert kept == expected or (expected is None and kept != name)


def test_an_instance_that_is_to_end_on_shutdown_says_so_on_its_machine(
    cloud: FurnishedCloud, alice: Person, launch: Any
) -> None:
    """And its user is one whom the reconciler looks after: any process finishes it."""
    (made,) = launch(InstanceInitiatedShutdownBehavior="terminate")
    facts = cloud.vm(int(made["InstanceId"][2:])).find("USER_TEMPLATE")
    assert facts is not None
    assert "terminate" in [each.text for each in facts]
    user = cloud.admin.document("one.user.info", alice.id, False)
    assert int(str(user.findtext("TEMPLATE/EC2_WATCHED_UNTIL"))) > 0


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"InstanceType": "no-such-type"}, "InvalidParameterValue"),
        ({"ImageId": "ami-99999999"}, "InvalidAMIID.NotFound"),
        ({"KeyName": "no such key"}, "InvalidKeyPair.NotFound"),
        ({"Placement": {"AvailabilityZone": "nowhere"}}, "InvalidParameterValue"),
        ({"SecurityGroupIds": ["sg-00000000"]}, "UnsupportedOperation"),
        ({"MinCount": 2}, "InvalidParameterValue"),
        ({"UserData": "x" * 20_000}, "InvalidParameterValue"),
        ({"InstanceInitiatedShutdownBehavior": "explode"}, "InvalidParameterValue"),
    ],
)
def test_what_is_wrong_with_a_launch_is_said_before_anything_is_made(
    cloud: FurnishedCloud, alice: Person, ec2: Any, wrong: dict[str, Any], code: str
) -> None:
    """By EC2's codes."""
    before = cloud.vm_ids(alice)
    with pytest.raises(ClientError) as raised:
        ec2.run_instances(**{**_asked(cloud, 1, 1, uuid.uuid4().hex), **wrong})
    assert refusal(raised.value) == (code, 400)
    assert cloud.vm_ids(alice) == before
