"""Starting, stopping and terminating in states in which oned refuses some of these."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.e2e.waiting import described, wait
from tests.support.clients import boto, refusal
from tests.support.econed_process import Econed, Person
from tests.support.furnished_cloud import MAX_WAIT, FurnishedCloud
from tests.support.processes import until

LCM_PROLOG, LCM_BOOT = "1", "2"


@pytest.mark.parametrize("moment", ["at once", "while it boots"])
def test_an_instance_can_be_terminated_at_any_moment_of_its_start(
    cloud: FurnishedCloud, ec2: Any, launch: Any, moment: str
) -> None:
    """Oned refuses to terminate a machine while it is copied or booting; EC2 does not."""
    (instance,) = launch()
    machine_id = int(instance["InstanceId"][2:])
    if moment != "at once":
        passing = (LCM_PROLOG, LCM_BOOT, "3")
        until(
            lambda: cloud.vm(machine_id).findtext("LCM_STATE") in passing,
            "the machine to be placed",
            MAX_WAIT,
            0.005,
        )
    (ended,) = ec2.terminate_instances(InstanceIds=[instance["InstanceId"]])["TerminatingInstances"]
    assert ended["CurrentState"]["Name"] in ("shutting-down", "terminated")
    wait(ec2, "instance_terminated", [instance["InstanceId"]])


def test_terminating_an_instance_again_succeeds(ec2: Any, launch: Any) -> None:
    """The call is made three times in a row, and again after the instance is terminated."""
    (instance,) = launch()
    ids = [instance["InstanceId"]]
    wait(ec2, "instance_running", ids)
    for _ in range(3):
        (ended,) = ec2.terminate_instances(InstanceIds=ids)["TerminatingInstances"]
        assert ended["CurrentState"]["Name"] in ("shutting-down", "terminated")
    wait(ec2, "instance_terminated", ids)
    (ended,) = ec2.terminate_instances(InstanceIds=ids)["TerminatingInstances"]
    assert (ended["PreviousState"]["Name"], ended["CurrentState"]["Name"]) == ("terminated", "terminated")


def test_a_change_in_a_wrong_state_is_incorrect_instance_state_and_changes_nothing(ec2: Any, launch: Any) -> None:
    """If one instance of a call is in a wrong state, the others are not changed."""
    stopped, running = (instance["InstanceId"] for instance in launch(count=2))
    wait(ec2, "instance_running", [stopped, running])
    (change,) = ec2.start_instances(InstanceIds=[running])["StartingInstances"]
    assert change["CurrentState"] == change["PreviousState"] == {"Code": 16, "Name": "running"}
    ec2.stop_instances(InstanceIds=[stopped], Force=True)
    wait(ec2, "instance_stopped", [stopped])
    with pytest.raises(ClientError) as raised:
        ec2.reboot_instances(InstanceIds=[running, stopped])
    assert refusal(raised.value) == ("IncorrectInstanceState", 400)
    ec2.terminate_instances(InstanceIds=[stopped])
    wait(ec2, "instance_terminated", [stopped])
    for refused in (ec2.start_instances, ec2.stop_instances, ec2.reboot_instances):
        with pytest.raises(ClientError) as raised:
            refused(InstanceIds=[running, stopped])
        assert refusal(raised.value) == ("IncorrectInstanceState", 400)
    (instance,) = described(ec2, running)
    assert instance["State"]["Name"] == "running"


def test_a_stop_right_after_the_launch_stops_the_instance_or_is_incorrect_instance_state(ec2: Any, launch: Any) -> None:
    """The Ruby server returned a 500."""
    (instance,) = launch()
    try:
        ec2.stop_instances(InstanceIds=[instance["InstanceId"]])
    except ClientError as error:
        assert refusal(error) == ("IncorrectInstanceState", 400)
    else:
        wait(ec2, "instance_stopped", [instance["InstanceId"]])


def test_a_locked_instance_cannot_be_terminated(cloud: FurnishedCloud, alice: Person, ec2: Any, launch: Any) -> None:
    """An OpenNebula lock is EC2's disableApiTermination."""
    (instance,) = launch()
    machine_id = int(instance["InstanceId"][2:])
    wait(ec2, "instance_running", [instance["InstanceId"]])
    alice.oned("one.vm.lock", machine_id, 1, False)
    with pytest.raises(ClientError) as raised:
        ec2.terminate_instances(InstanceIds=[instance["InstanceId"]])
    assert refusal(raised.value)[0] == "OperationNotPermitted"
    alice.oned("one.vm.unlock", machine_id)


def test_a_changed_password_and_a_removed_user_take_effect_within_seconds(
    cloud: FurnishedCloud, econed: Econed
) -> None:
    """The old secret key is refused, the new one accepted; a removed user is refused."""
    kim = cloud.person("kim", driver="public")
    old = boto(kim, econed.url)

    def error_code(client: Any) -> str:
        try:
            client.describe_key_pairs()
        except ClientError as error:
            return refusal(error)[0]
        return ""

    until(lambda: error_code(old) == "", "the new user to be accepted", MAX_WAIT)
    cloud.admin("one.user.passwd", kim.id, "another")
    new = boto(Person(kim.name, kim.id, "another", kim.oned), econed.url)
    until(lambda: error_code(new) == "", "the new password to be accepted", MAX_WAIT)
    until(lambda: error_code(old) == "AuthFailure", "the old password to be refused", MAX_WAIT)
    cloud.admin("one.user.delete", kim.id)
    until(lambda: error_code(new) == "AuthFailure", "the deleted user to be refused", MAX_WAIT)
