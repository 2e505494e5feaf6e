"""Creating AMIs from instances and from other AMIs, and finishing calls that were interrupted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from lxml import etree
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from econed.actions.images.announcements import REQUEST_AGE, announced_images
from econed.actions.watch import SPAN
from econed.catalogue import all_chores
from econed.errors import EC2Error
from econed.interfaces import IOpenNebula
from econed.opennebula.documents import Image
from econed.opennebula.session import Session
from econed.opennebula.states import LcmState, VmState
from econed.reconciler import Reconciler
from tests.support.awkward_texts import AWKWARD
from tests.support.cloud import Cloud, perform
from tests.support.delayed_oned import DyingOned

UBUNTU = "ami-00000000"
TAGS = [{"Key": "role", "Value": "web"}]


def launch(cloud: Cloud, user: str = "alice") -> str:
    """Launch an instance, wait until it runs, and return its id."""
    response = cloud.run(user, "RunInstances", ImageId=UBUNTU, MinCount=1, MaxCount=1)
    cloud.wait(20)
    return str(response["Instances"][0]["InstanceId"])


def instance_state(cloud: Cloud, instance_id: str) -> str:
    (reservation,) = cloud.run("alice", "DescribeInstances", InstanceIds=[instance_id])["Reservations"]
    return str(reservation["Instances"][0]["State"]["Name"])


def own_images(cloud: Cloud, user: str = "alice") -> list[dict[str, Any]]:
    return list(cloud.run(user, "DescribeImages", Owners=["self"])["Images"])


def begin(cloud: Cloud, oned: IOpenNebula, action: str, parameters: dict[str, Any]) -> list[Any]:
    """Start a call in a process with `oned` as its client; the response or failure is appended to the list returned."""
    call = cloud.call_in_new_process("alice", oned)
    results: list[Any] = []
    Deferred.fromCoroutine(perform(call, action, parameters)).addBoth(results.append)
    return results


def reconcile(cloud: Cloud) -> None:
    cloud.result(Reconciler(cloud.backend, cloud.clock, all_chores(), Logger("test")).round())


def announcements(cloud: Cloud) -> list[str]:
    return [new.name for new in announced_images(cloud.result(Session(cloud.backend, "alice").current_user()))]


def machine_calls(cloud: Cloud) -> list[str]:
    """Return the actions and disk saves called on machines since they were released."""
    calls = [call for call in cloud.changes if call.method in ("one.vm.action", "one.vm.disksaveas")]
    return [
        str(call.args[0]) if call.method == "one.vm.action" else "save" for call in calls if "release" not in call.args
    ]


def attributes(cloud: Cloud, image_id: str) -> dict[str, Any]:
    document = etree.fromstring(cloud.oneadmin("one.image.info", int(image_id[4:]), False))
    return dict(Image(document).template)


# CreateImage


def test_a_running_instance_is_powered_off_while_its_disk_is_saved_and_then_restarted(cloud: Cloud) -> None:
    instance_id = launch(cloud)
    response = cloud.run("alice", "CreateImage", InstanceId=instance_id, Name="web v1", Description="for the web")
    cloud.wait(20)
    assert machine_calls(cloud) == ["poweroff", "save", "resume"]
    assert instance_state(cloud, instance_id) == "running"
    (image,) = own_images(cloud)
    assert image["ImageId"] == response["ImageId"]
    assert (image["Name"], image["Description"], image["State"]) == ("web v1", "for the web", "available")
    assert image["SourceInstanceId"] == instance_id
    assert not image["Public"]
    assert announcements(cloud) == []


def test_finished_work_leaves_no_attributes_on_the_user(cloud: Cloud) -> None:
    cloud.as_user("alice", "one.user.update", cloud.user("alice").id, 'A="1"', 1)
    template_before = cloud.result(Session(cloud.backend, "alice").current_user()).template
    instance_id = launch(cloud)
    cloud.run("alice", "CreateImage", InstanceId=instance_id, Name="web")
    cloud.wait(20)
    volume_id = cloud.run("alice", "CreateVolume", AvailabilityZone="default", Size=1)["VolumeId"]
    cloud.wait(20)
    cloud.run("alice", "DeleteVolume", VolumeId=volume_id)
    cloud.run("alice", "TerminateInstances", InstanceIds=[instance_id])
    cloud.clock.advance(2 * SPAN)
    reconcile(cloud)
    assert cloud.result(Session(cloud.backend, "alice").current_user()).template == template_before


def test_without_a_reboot_the_instance_keeps_running(cloud: Cloud) -> None:
    instance_id = launch(cloud)
    cloud.run("alice", "CreateImage", InstanceId=instance_id, Name="web", NoReboot=True)
    cloud.wait(20)
    assert machine_calls(cloud) == ["save"]
    assert instance_state(cloud, instance_id) == "running"
    assert [image["State"] for image in own_images(cloud)] == ["available"]


def test_a_stopped_instance_stays_stopped(cloud: Cloud) -> None:
    instance_id = launch(cloud)
    cloud.run("alice", "StopInstances", InstanceIds=[instance_id])
    cloud.wait(20)
    cloud.run("alice", "CreateImage", InstanceId=instance_id, Name="web")
    cloud.wait(20)
    reconcile(cloud)
    assert machine_calls(cloud) == ["poweroff", "save"]
    assert instance_state(cloud, instance_id) == "stopped"
    assert [image["State"] for image in own_images(cloud)] == ["available"]


def test_instances_are_launched_from_a_created_ami(cloud: Cloud) -> None:
    image_id = cloud.run("alice", "CreateImage", InstanceId=launch(cloud), Name="web")["ImageId"]
    cloud.wait(20)
    response = cloud.run("alice", "RunInstances", ImageId=image_id, MinCount=1, MaxCount=1)
    assert response["Instances"][0]["ImageId"] == image_id


@pytest.mark.parametrize("text", AWKWARD.values(), ids=AWKWARD)
def test_the_description_and_the_tags_of_a_created_ami_are_returned_unchanged(cloud: Cloud, text: str) -> None:
    tags = [{"Key": text, "Value": text}]
    specifications = [{"ResourceType": "image", "Tags": tags}]
    cloud.run(
        "alice", "CreateImage", InstanceId=launch(cloud), Name="web", Description=text, TagSpecifications=specifications
    )
    (image,) = own_images(cloud)
    assert (image["Description"], image["Tags"]) == (text, tags)


def test_a_name_that_an_ami_has_is_refused(cloud: Cloud) -> None:
    instance_id = launch(cloud)
    cloud.run("alice", "CreateImage", InstanceId=instance_id, Name="web")
    cloud.wait(20)
    calls_before = len(machine_calls(cloud))
    assert cloud.refusal("alice", "CreateImage", InstanceId=instance_id, Name="web").code == "InvalidAMIName.Duplicate"
    assert len(machine_calls(cloud)) == calls_before
    assert announcements(cloud) == []


@pytest.mark.parametrize("name", ["ab", "x" * 129, "né", 'quo"te', " web", "web "])
def test_a_name_that_amazon_or_oned_would_not_accept_is_refused(cloud: Cloud, name: str) -> None:
    instance_id = launch(cloud)
    assert cloud.refusal("alice", "CreateImage", InstanceId=instance_id, Name=name).code == "InvalidAMIName.Malformed"
    assert (
        cloud.refusal("alice", "CopyImage", SourceImageId=UBUNTU, SourceRegion="OpenNebula", Name=name).code
        == "InvalidAMIName.Malformed"
    )


def test_only_the_callers_instances_in_a_stable_state_become_amis(cloud: Cloud) -> None:
    other_id, own_id = launch(cloud, "bob"), launch(cloud)
    refusal = cloud.refusal("alice", "CreateImage", InstanceId=other_id, Name="web")
    assert refusal.code == "InvalidInstanceID.NotFound"
    cloud.as_user("bob", "one.vm.chmod", int(other_id[2:]), -1, -1, -1, 1, -1, -1, -1, -1, -1)
    assert cloud.refusal("alice", "CreateImage", InstanceId=other_id, Name="web").code == "UnauthorizedOperation"
    cloud.oned.cloud.vms.get(int(own_id[2:])).set_state(VmState.ACTIVE, LcmState.BOOT)
    assert cloud.refusal("alice", "CreateImage", InstanceId=own_id, Name="web").code == "IncorrectInstanceState"
    assert announcements(cloud) == []
    assert own_images(cloud) == [] == own_images(cloud, "bob")


def test_a_dry_run_changes_nothing(cloud: Cloud) -> None:
    instance_id = launch(cloud)
    changes_before = len(cloud.changes)
    refusal = cloud.refusal("alice", "CreateImage", InstanceId=instance_id, Name="web", dry_run=True)
    assert refusal.code == "DryRunOperation"
    assert cloud.changes[changes_before:] == []


def test_an_exceeded_quota_leaves_the_instance_running(cloud: Cloud) -> None:
    instance_id = launch(cloud)
    cloud.oneadmin("one.user.quota", cloud.user("alice").id, 'DATASTORE=[ID="1",IMAGES="0",SIZE="1"]')
    assert cloud.refusal("alice", "CreateImage", InstanceId=instance_id, Name="web").code == "ResourceLimitExceeded"
    cloud.wait(20)
    assert instance_state(cloud, instance_id) == "running"
    assert announcements(cloud) == []


def slow_guest(cloud: Cloud, instance_id: str) -> None:
    """Replace a guest by one that accepts a shutdown and does not finish it."""
    machine = cloud.oned.cloud.vms.get(int(instance_id[2:]))
    original_execute = cloud.oned.execute

    def execute(method: str, *params: Any) -> list[object]:
        if method == "one.vm.action" and params[1] == "poweroff":
            machine.set_state(VmState.ACTIVE, LcmState.SHUTDOWN_POWEROFF)
            return [True, machine.id, 0]
        return original_execute(method, *params)

    cloud.oned.execute = execute  # type: ignore[method-assign]


def test_no_ami_is_created_if_the_guest_does_not_shut_down_and_it_is_restarted_once_it_is_off(cloud: Cloud) -> None:
    instance_id = launch(cloud)
    slow_guest(cloud, instance_id)
    assert cloud.refusal("alice", "CreateImage", InstanceId=instance_id, Name="web").code == "IncorrectInstanceState"
    assert own_images(cloud) == []
    reconcile(cloud)
    assert announcements(cloud) != []
    cloud.oned.cloud.vms.get(int(instance_id[2:])).set_state(VmState.POWEROFF)
    reconcile(cloud)
    cloud.wait(20)
    assert instance_state(cloud, instance_id) == "running"
    assert announcements(cloud) == []


def test_the_reconciler_restarts_an_instance_whose_disk_takes_long_to_save(cloud: Cloud) -> None:
    instance_id = launch(cloud)
    cloud.oned.cloud.delays = replace(cloud.oned.cloud.delays, hotplug=100.0)
    image_id = cloud.run("alice", "CreateImage", InstanceId=instance_id, Name="web")["ImageId"]
    reconcile(cloud)
    assert instance_state(cloud, instance_id) == "stopped"
    assert own_images(cloud)[0]["State"] == "pending"
    cloud.wait(120)
    reconcile(cloud)
    cloud.wait(20)
    assert instance_state(cloud, instance_id) == "running"
    assert [(image["ImageId"], image["State"]) for image in own_images(cloud)] == [(image_id, "available")]
    assert announcements(cloud) == []


def test_the_reconciler_restarts_an_instance_once_a_quota_allows_it(cloud: Cloud) -> None:
    instance_id = launch(cloud)
    alice = cloud.user("alice").id
    cloud.oneadmin("one.user.quota", alice, 'VM=[RUNNING_VMS="0"]')
    cloud.run("alice", "CreateImage", InstanceId=instance_id, Name="web")
    cloud.wait(120)
    reconcile(cloud)
    assert instance_state(cloud, instance_id) == "stopped"
    assert announcements(cloud) != []
    cloud.oneadmin("one.user.quota", alice, 'VM=[RUNNING_VMS="1"]')
    reconcile(cloud)
    cloud.wait(20)
    assert instance_state(cloud, instance_id) == "running"
    assert announcements(cloud) == []


STEPS = range(22)
PARAMETERS: dict[str, Any] = {
    "Name": "web",
    "Description": "for the web",
    "TagSpecifications": [{"ResourceType": "image", "Tags": TAGS}],
}


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", STEPS)
def test_a_call_whose_process_died_at_any_step_is_finished_by_the_next_call(step: int, after: bool) -> None:
    cloud = Cloud()
    instance_id = launch(cloud)
    dying_oned = DyingOned(cloud.backend, step, after=after)
    results = begin(cloud, dying_oned, "CreateImage", {"InstanceId": instance_id, **PARAMETERS})
    cloud.wait(10)
    assert not results or not dying_oned.is_dead
    if not results:
        cloud.wait(20)
        try:
            cloud.run("alice", "CreateImage", InstanceId=instance_id, **PARAMETERS)
        except EC2Error as error:  # the first call had created the image, and died before its response
            assert error.code == "InvalidAMIName.Duplicate"
    cloud.wait(30)
    reconcile(cloud)
    cloud.wait(30)
    (image,) = own_images(cloud)
    assert (image["Name"], image["Description"], image["Tags"], image["State"]) == (
        "web",
        "for the web",
        TAGS,
        "available",
    )
    assert instance_state(cloud, instance_id) == "running"
    assert announcements(cloud) == []


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", STEPS)
def test_a_call_whose_process_died_at_any_step_is_finished_by_another_process(step: int, after: bool) -> None:
    """The AMI is created or not; an instance never stays off, and no unmarked image remains."""
    cloud = Cloud()
    instance_id = launch(cloud)
    begin(cloud, DyingOned(cloud.backend, step, after=after), "CreateImage", {"InstanceId": instance_id, **PARAMETERS})
    cloud.wait(REQUEST_AGE + 10)
    reconcile(cloud)
    cloud.wait(30)
    assert instance_state(cloud, instance_id) == "running"
    assert announcements(cloud) == []
    document = etree.fromstring(cloud.oneadmin("one.imagepool.info", cloud.user("alice").id, -1, -1))
    assert [image.findtext("NAME") for image in document] == [image["Name"] for image in own_images(cloud)]
    assert all(image["Tags"] == TAGS for image in own_images(cloud))


def test_the_reconciler_does_not_interfere_with_a_call_in_flight(cloud: Cloud) -> None:
    instance_id = launch(cloud)
    slow_guest(cloud, instance_id)
    results = begin(cloud, cloud.backend, "CreateImage", {"InstanceId": instance_id, "Name": "web"})
    cloud.wait(5)
    cloud.oned.cloud.vms.get(int(instance_id[2:])).set_state(VmState.POWEROFF)
    reconcile(cloud)
    assert results == []
    assert "resume" not in machine_calls(cloud)
    cloud.wait(30)
    assert not isinstance(results[0], Failure)
    assert instance_state(cloud, instance_id) == "running"


# CopyImage


def copy_image(cloud: Cloud, name: str = "copy", source: str = UBUNTU, **more: Any) -> str:
    response = cloud.run("alice", "CopyImage", Name=name, SourceImageId=source, SourceRegion="OpenNebula", **more)
    cloud.wait(10)
    return str(response["ImageId"])


def test_a_copy_belongs_to_the_caller_without_the_tags_and_the_ami_name_of_the_original(cloud: Cloud) -> None:
    cloud.oneadmin("one.image.update", 0, 'EC2_AMI_NAME="noble"\nEC2_TAG_61=[KEY="a",VALUE="b"]\nEC2_TAGS=[OLD="x"]', 1)
    image_id = copy_image(cloud)
    (image,) = own_images(cloud)
    assert (image["ImageId"], image["Name"], image["State"]) == (image_id, "copy", "available")
    assert image.get("Tags", []) == []
    assert image["Description"] == "Ubuntu 24.04 LTS"
    assert not image["Public"]
    assert cloud.run("alice", "DescribeImages", ImageIds=[UBUNTU])["Images"][0]["Name"] == "noble"
    assert announcements(cloud) == []


def test_the_tags_and_the_description_of_a_copy_are_those_of_the_call(cloud: Cloud) -> None:
    cloud.oneadmin("one.image.update", 0, 'EC2_TAG_61=[KEY="a",VALUE="b"]', 1)
    specifications = [{"ResourceType": "image", "Tags": [{"Key": "a", "Value": "new"}]}]
    copy_image(cloud, Description="mine", TagSpecifications=specifications)
    (image,) = own_images(cloud)
    assert (image["Description"], image["Tags"]) == ("mine", [{"Key": "a", "Value": "new"}])
    copy_image(cloud, "with-tags", CopyImageTags=True)
    (tagged_copy,) = [image for image in own_images(cloud) if image["Name"] == "with-tags"]
    assert tagged_copy["Tags"] == [{"Key": "a", "Value": "b"}]


def test_a_copy_has_the_description_of_its_original_unless_another_or_an_empty_one_is_given(cloud: Cloud) -> None:
    copy_image(cloud, "without")
    copy_image(cloud, "with-an-empty-one", Description="")
    assert {image["Name"]: image.get("Description", "") for image in own_images(cloud)} == {
        "without": "Ubuntu 24.04 LTS",
        "with-an-empty-one": "",
    }


def test_the_same_client_token_returns_the_same_copy_and_another_is_a_duplicate(cloud: Cloud) -> None:
    image_id = copy_image(cloud, ClientToken="token")
    assert copy_image(cloud, ClientToken="token") == image_id
    refusal = cloud.refusal(
        "alice", "CopyImage", Name="copy", SourceImageId=UBUNTU, SourceRegion="OpenNebula", ClientToken="other"
    )
    assert refusal.code == "InvalidAMIName.Duplicate"
    assert len(own_images(cloud)) == 1


def test_the_copy_of_a_copy_does_not_have_its_token(cloud: Cloud) -> None:
    first_id = copy_image(cloud, ClientToken="token")
    second_id = copy_image(cloud, "second", source=first_id)
    assert "EC2_CLIENT_TOKEN" not in {name for name, value in attributes(cloud, second_id).items() if value}


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"SourceRegion": "elsewhere"}, "UnsupportedOperation"),
        ({"SourceImageId": "ami-00000001"}, "InvalidAMIID.NotFound"),
        ({"SourceImageId": "x"}, "InvalidAMIID.Malformed"),
        ({"Encrypted": True}, "UnsupportedOperation"),
        ({"ClientToken": "a\\"}, "InvalidParameterValue"),
        ({"Description": "x" * 256}, "InvalidParameterValue"),
    ],
)
def test_an_invalid_copy_is_refused(cloud: Cloud, parameters: dict[str, Any], code: str) -> None:
    all_parameters = {"Name": "copy", "SourceImageId": UBUNTU, "SourceRegion": "OpenNebula", **parameters}
    assert cloud.refusal("alice", "CopyImage", **all_parameters).code == code
    assert own_images(cloud) == []


def test_an_image_that_is_not_ready_cannot_be_copied(cloud: Cloud) -> None:
    image_id = cloud.as_user("alice", "one.image.allocate", 'NAME="new"\nTYPE="OS"\nPATH="/x"\nEC2_AMI="YES"', 1)
    refusal = cloud.refusal(
        "alice", "CopyImage", Name="copy", SourceImageId=f"ami-{image_id:08d}", SourceRegion="OpenNebula"
    )
    assert refusal.code == "InvalidAMIID.Unavailable"


def test_a_dry_run_of_a_copy_changes_nothing(cloud: Cloud) -> None:
    changes_before = len(cloud.changes)
    refusal = cloud.refusal(
        "alice", "CopyImage", Name="copy", SourceImageId=UBUNTU, SourceRegion="OpenNebula", dry_run=True
    )
    assert refusal.code == "DryRunOperation"
    assert cloud.changes[changes_before:] == []


@pytest.mark.parametrize("repeat_call", [False, True])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", range(10))
def test_a_copy_whose_process_died_at_any_step_is_finished_by_the_next_call_or_process(
    step: int, after: bool, repeat_call: bool
) -> None:
    cloud = Cloud()
    cloud.oneadmin("one.image.update", 0, 'EC2_AMI_NAME="noble"\nEC2_TAG_61=[KEY="a",VALUE="b"]', 1)
    parameters: dict[str, Any] = {
        "SourceImageId": UBUNTU,
        "SourceRegion": "OpenNebula",
        "ClientToken": "token",
        **PARAMETERS,
    }
    begin(cloud, DyingOned(cloud.backend, step, after=after), "CopyImage", parameters)
    if repeat_call:
        cloud.run("alice", "CopyImage", **parameters)
        assert len(own_images(cloud)) == 1
    cloud.wait(REQUEST_AGE + 10)
    reconcile(cloud)
    for image in own_images(cloud):
        assert (image["Name"], image["Description"], image["Tags"]) == ("web", "for the web", TAGS)
    assert announcements(cloud) == []
