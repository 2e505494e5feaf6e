"""RunInstances with quotas, restricted attributes and attributes of the template, which oned checks."""

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
    """A user with a quota of three machines, and their client."""
    liz = cloud.person("liz")
    quota = f'VM=[VMS="{QUOTA}",RUNNING_VMS="-1",CPU="-1",RUNNING_CPU="-1",MEMORY="-1",RUNNING_MEMORY="-1",'
    cloud.admin("one.user.quota", liz.id, f'{quota}SYSTEM_DISK_SIZE="-1"]')
    return liz, known(boto(liz, econed.url))


def _launch_parameters(cloud: FurnishedCloud, least: int, most: int, token: str) -> dict[str, Any]:
    return {
        "ImageId": f"ami-{cloud.ami:08d}",
        "InstanceType": cloud.instance_type,
        "MinCount": least,
        "MaxCount": most,
        "ClientToken": token,
    }


def _terminate(client: Any, ids: list[str]) -> None:
    client.terminate_instances(InstanceIds=ids)
    wait(client, "instance_terminated", ids)


def test_if_the_quota_is_less_than_min_count_no_instance_is_launched(
    cloud: FurnishedCloud, limited: tuple[Person, Any]
) -> None:
    """Machines created before the quota was reached are removed, and were never visible as instances."""
    liz, client = limited
    with pytest.raises(ClientError) as raised:
        client.run_instances(**_launch_parameters(cloud, QUOTA + 1, QUOTA + 2, uuid.uuid4().hex))
    assert refusal(raised.value) == ("InstanceLimitExceeded", 400)
    filters = [{"Name": "owner-id", "Values": [f"{liz.id:012d}"]}]
    assert client.describe_instances(Filters=filters)["Reservations"] == []
    assert cloud.vm_ids(liz, -1) == []


def test_as_many_instances_as_the_quota_allows_are_launched_between_min_and_max_count(
    cloud: FurnishedCloud, limited: tuple[Person, Any]
) -> None:
    """The same client token returns the same instances."""
    liz, client = limited
    parameters = _launch_parameters(cloud, 1, QUOTA + 2, uuid.uuid4().hex)
    instance_ids = [instance["InstanceId"] for instance in client.run_instances(**parameters)["Instances"]]
    try:
        assert len(instance_ids) == QUOTA
        repeated = client.run_instances(**parameters)
        assert [instance["InstanceId"] for instance in repeated["Instances"]] == instance_ids
        assert {f"i-{machine_id:08d}" for machine_id in cloud.vm_ids(liz, -1)} == set(instance_ids)
        wait(client, "instance_running", instance_ids)
    finally:
        _terminate(client, instance_ids)


def test_attributes_of_the_template_are_kept(cloud: FurnishedCloud, ec2: Any, alice: Person) -> None:
    """These are its disks, its CONTEXT with variables, its capacity, its user attributes and its restricted values."""
    extra = cloud.image(f"{cloud.prefix}-extra", "")
    cloud.admin("one.image.chmod", extra, 1, 1, 0, 1, 0, 0, 1, 0, 0)
    name = f"{cloud.prefix}.rich"
    text = f'DISK=[IMAGE_ID="{extra}",TOTAL_BYTES_SEC="1000"]\nGRAPHICS=[TYPE="VNC",LISTEN="127.0.0.1"]\nTEAM="blue"\n'
    text += 'SCHED_REQUIREMENTS="FREE_CPU > 0"\n'
    template_id = cloud.admin.make(
        "one.template.allocate",
        f'NAME="{name}"\nEC2_INSTANCE_TYPE="{name}"\nCPU="0.1"\nMEMORY="64"\nNIC=[NETWORK_ID="{cloud.network}",'
        f'INBOUND_AVG_BW="1000"]\nCONTEXT=[NETWORK="YES",HOSTNAME="host-$VMID"]\n{text}',
    )
    cloud.admin("one.template.chmod", template_id, 1, 1, 0, 0, 0, 0, 1, 0, 0, False)
    reservation = ec2.run_instances(
        ImageId=f"ami-{cloud.ami:08d}",
        InstanceType=name,
        MinCount=1,
        MaxCount=1,
        UserData="hello",
        Placement={"AvailabilityZone": cloud.zone},
    )["Instances"]
    ids = [instance["InstanceId"] for instance in reservation]
    try:
        wait(ec2, "instance_running", ids)
        document = cloud.vm(int(ids[0][2:]))
        assert [disk.findtext("IMAGE_ID") for disk in document.findall("TEMPLATE/DISK")] == [str(cloud.ami), str(extra)]
        assert [disk.findtext("TOTAL_BYTES_SEC") for disk in document.findall("TEMPLATE/DISK")] == [None, "1000"]
        assert document.findtext("TEMPLATE/NIC/INBOUND_AVG_BW") == "1000"
        assert document.findtext("TEMPLATE/CONTEXT/HOSTNAME") == f"host-{int(ids[0][2:])}"
        assert document.findtext("TEMPLATE/GRAPHICS/LISTEN") == "127.0.0.1"
        assert document.findtext("USER_TEMPLATE/TEAM") == "blue"
        requirements = document.findtext("USER_TEMPLATE/SCHED_REQUIREMENTS") or ""
        assert "FREE_CPU > 0" in requirements
        assert "CLUSTER_ID = " in requirements
        (instance,) = described(ec2, *ids)
        assert len(instance["BlockDeviceMappings"]) == 2
        assert instance["Placement"]["AvailabilityZone"] == cloud.zone
    finally:
        _terminate(ec2, ids)
        cloud.admin("one.template.delete", template_id, False)


def test_the_tag_name_becomes_the_name_of_the_machine_if_it_is_valid(cloud: FurnishedCloud, launch: Any) -> None:
    """Administrators find the machine by it in Sunstone; an invalid name is only a tag."""
    for name, expected in (("web server 1", "web server 1"), ("a/b", None), ("x" * 200, None)):
        (instance,) = launch(TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": name}]}])
        machine_name = cloud.vm(int(instance["InstanceId"][2:])).findtext("NAME")
        assert machine_name == expected or (expected is None and machine_name != name)


def test_terminate_on_shutdown_is_recorded_on_the_machine(cloud: FurnishedCloud, alice: Person, launch: Any) -> None:
    """Its user is also marked for the reconciler of every process, which terminates the machine."""
    (instance,) = launch(InstanceInitiatedShutdownBehavior="terminate")
    facts = cloud.vm(int(instance["InstanceId"][2:])).find("USER_TEMPLATE")
    assert facts is not None
    assert "terminate" in [attribute.text for attribute in facts]
    user = cloud.admin.document("one.user.info", alice.id, False)
    assert int(str(user.findtext("TEMPLATE/EC2_WATCHED_UNTIL"))) > 0


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"InstanceType": "no-such-type"}, "InvalidParameterValue"),
        ({"ImageId": "ami-99999999"}, "InvalidAMIID.NotFound"),
        ({"KeyName": "no such key"}, "InvalidKeyPair.NotFound"),
        ({"Placement": {"AvailabilityZone": "nowhere"}}, "InvalidParameterValue"),
        ({"SecurityGroupIds": ["sg-00099999"]}, "InvalidGroup.NotFound"),
        ({"MinCount": 2}, "InvalidParameterValue"),
        ({"UserData": "x" * 20_000}, "InvalidParameterValue"),
        ({"InstanceInitiatedShutdownBehavior": "explode"}, "InvalidParameterValue"),
    ],
)
def test_an_invalid_launch_is_refused_before_anything_is_created(
    cloud: FurnishedCloud, alice: Person, ec2: Any, wrong: dict[str, Any], code: str
) -> None:
    """The errors have EC2's codes."""
    before = cloud.vm_ids(alice)
    with pytest.raises(ClientError) as raised:
        ec2.run_instances(**{**_launch_parameters(cloud, 1, 1, uuid.uuid4().hex), **wrong})
    assert refusal(raised.value) == (code, 400)
    assert cloud.vm_ids(alice) == before
