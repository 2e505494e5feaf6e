"""Machines that were not created through EC2, but in Sunstone or by a script, are instances, too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.waiting import described, wait
from tests.support.econed_process import Person
from tests.support.furnished_cloud import FurnishedCloud
from tests.support.processes import until


@pytest.fixture
def disk(cloud: FurnishedCloud, alice: Person) -> int:
    """A persistent image of alice's."""
    return cloud.image(f"{cloud.prefix}-disk", 'PERSISTENT="YES"', alice)


@pytest.fixture
def machine(cloud: FurnishedCloud, alice: Person, ec2: Any, disk: int) -> Iterator[int]:
    """A machine that alice started by XML-RPC, from an image and with a persistent disk."""
    text = f'DISK=[IMAGE_ID="{cloud.ami}"]\nDISK=[IMAGE_ID="{disk}"]\nEC2_TAGS=[Old="from Ruby"]\n'
    machine_id = alice.oned.make("one.template.instantiate", cloud.type_template, "by hand", False, text, False)
    yield machine_id
    ec2.terminate_instances(InstanceIds=[f"i-{machine_id:08d}"])


def test_a_machine_started_by_xml_rpc_is_an_instance(
    cloud: FurnishedCloud, alice: Person, ec2: Any, machine: int, disk: int
) -> None:
    """Its AMI is the image of its first disk, it has its own reservation, and its persistent disk is a volume."""
    instance = f"i-{machine:08d}"
    wait(ec2, "instance_running", [instance])
    (reservation,) = ec2.describe_instances(InstanceIds=[instance])["Reservations"]
    assert reservation["ReservationId"] == f"r-{machine:08d}"
    (described_instance,) = reservation["Instances"]
    assert described_instance["ImageId"] == f"ami-{cloud.ami:08d}"
    assert described_instance["InstanceType"] == cloud.instance_type
    assert described_instance["ClientToken"] == ""
    assert "KeyName" not in described_instance
    assert [tag["Value"] for tag in described_instance["Tags"]] == ["from Ruby"]
    root, data = described_instance["BlockDeviceMappings"]
    assert root["DeviceName"] == described_instance["RootDeviceName"]
    assert root["Ebs"]["DeleteOnTermination"] is True
    assert (data["Ebs"]["VolumeId"], data["Ebs"]["DeleteOnTermination"]) == (f"vol-{disk:08d}", False)
    ec2.stop_instances(InstanceIds=[instance])
    wait(ec2, "instance_stopped", [instance])


def test_changes_in_opennebula_are_visible_immediately(
    cloud: FurnishedCloud, alice: Person, ec2: Any, launch: Any
) -> None:
    """Econed keeps no state: an instance that oned powers off or terminates is stopped or terminated."""
    (instance,) = launch()
    machine_id = int(instance["InstanceId"][2:])
    wait(ec2, "instance_running", [instance["InstanceId"]])
    alice.oned("one.vm.action", "poweroff-hard", machine_id)
    wait(ec2, "instance_stopped", [instance["InstanceId"]])
    alice.oned("one.vm.action", "terminate-hard", machine_id)
    wait(ec2, "instance_terminated", [instance["InstanceId"]])
    until(lambda: described(ec2, instance["InstanceId"])[0]["State"]["Code"] == 48, "the instance to be terminated", 30)


def test_a_machine_on_hold_or_without_a_host_is_pending(cloud: FurnishedCloud, alice: Person, ec2: Any) -> None:
    """If the scheduler has recorded a reason, it is the state reason."""
    text = f'DISK=[IMAGE_ID="{cloud.ami}"]\nSCHED_REQUIREMENTS="NAME = \\"no-such-host\\""\n'
    machine_id = alice.oned.make("one.template.instantiate", cloud.type_template, "nowhere", False, text, False)
    instance = f"i-{machine_id:08d}"
    try:
        until(lambda: described(ec2, instance)[0].get("StateReason"), "the scheduler's reason", 120, 0.2)
        (described_instance,) = described(ec2, instance)
        assert described_instance["State"]["Name"] == "pending"
        assert described_instance["StateReason"]["Code"] == "Server.InsufficientInstanceCapacity"
    finally:
        ec2.terminate_instances(InstanceIds=[instance])
    wait(ec2, "instance_terminated", [instance])
