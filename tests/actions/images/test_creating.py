"""New AMIs from instances and from other AMIs: what they are, and what becomes of calls that break off."""

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


def run(cloud: Cloud, user: str = "alice") -> str:
    """Return the id of a new instance that runs."""
    answer = cloud.run(user, "RunInstances", ImageId=UBUNTU, MinCount=1, MaxCount=1)
    cloud.wait(20)
    return str(answer["Instances"][0]["InstanceId"])


def state(cloud: Cloud, instance: str) -> str:
    (reservation,) = cloud.run("alice", "DescribeInstances", InstanceIds=[instance])["Reservations"]
    return str(reservation["Instances"][0]["State"]["Name"])


def own(cloud: Cloud, user: str = "alice") -> list[dict[str, Any]]:
    return list(cloud.run(user, "DescribeImages", Owners=["self"])["Images"])


def begin(cloud: Cloud, one: IOpenNebula, action: str, parameters: dict[str, Any]) -> list[Any]:
    """Begin a call in a process that sees oned as `one`; the answer or failure comes into the list returned."""
    call = replace(cloud.call_as("alice"), session=Session(one, "alice"), serveradmin=Session(one, None))
    ended: list[Any] = []
    Deferred.fromCoroutine(perform(call, action, parameters)).addBoth(ended.append)
    return ended


def reconcile(cloud: Cloud) -> None:
    cloud.result(Reconciler(cloud.backend, cloud.clock, all_chores(), Logger("test")).round())


def announcements(cloud: Cloud) -> list[str]:
    return [new.name for new in announced_images(cloud.result(Session(cloud.backend, "alice").current_user()))]


def asked_of_machines(cloud: Cloud) -> list[str]:
    """Return what has been asked of machines since they were made."""
    calls = [call for call in cloud.changes if call.method in ("one.vm.action", "one.vm.disksaveas")]
    return [
        str(call.args[0]) if call.method == "one.vm.action" else "save" for call in calls if "release" not in call.args
    ]


def attributes(cloud: Cloud, image_id: str) -> dict[str, Any]:
    document = etree.fromstring(cloud.oneadmin("one.image.info", int(image_id[4:]), False))
    return dict(Image(document).template)


# CreateImage


def test_a_running_instance_is_off_while_its_disk_is_saved_and_then_runs_again(cloud: Cloud) -> None:
    instance = run(cloud)
    answer = cloud.run("alice", "CreateImage", InstanceId=instance, Name="web v1", Description="for the web")
    cloud.wait(20)
    assert asked_of_machines(cloud) == ["poweroff", "save", "resume"]
    assert state(cloud, instance) == "running"
    (image,) = own(cloud)
    assert image["ImageId"] == answer["ImageId"]
    assert (image["Name"], image["Description"], image["State"]) == ("web v1", "for the web", "available")
    assert image["SourceInstanceId"] == instance
    assert not image["Public"]
    assert announcements(cloud) == []


def test_when_all_is_done_nothing_is_left_on_the_user(cloud: Cloud) -> None:
    cloud.as_user("alice", "one.user.update", cloud.user("alice").id, 'A="1"', 1)
    before = cloud.result(Session(cloud.backend, "alice").current_user()).template
    instance = run(cloud)
    cloud.run("alice", "CreateImage", InstanceId=instance, Name="web")
    cloud.wait(20)
    volume = cloud.run("alice", "CreateVolume", AvailabilityZone="default", Size=1)["VolumeId"]
    cloud.wait(20)
    cloud.run("alice", "DeleteVolume", VolumeId=volume)
    cloud.run("alice", "TerminateInstances", InstanceIds=[instance])
    cloud.clock.advance(2 * SPAN)
    reconcile(cloud)
    assert cloud.result(Session(cloud.backend, "alice").current_user()).template == before


def test_without_a_reboot_the_instance_runs_on(cloud: Cloud) -> None:
    instance = run(cloud)
    cloud.run("alice", "CreateImage", InstanceId=instance, Name="web", NoReboot=True)
    cloud.wait(20)
    assert asked_of_machines(cloud) == ["save"]
    assert state(cloud, instance) == "running"
    assert [image["State"] for image in own(cloud)] == ["available"]


def test_a_stopped_instance_stays_stopped(cloud: Cloud) -> None:
    instance = run(cloud)
    cloud.run("alice", "StopInstances", InstanceIds=[instance])
    cloud.wait(20)
    cloud.run("alice", "CreateImage", InstanceId=instance, Name="web")
    cloud.wait(20)
    reconcile(cloud)
    assert asked_of_machines(cloud) == ["poweroff", "save"]
    assert state(cloud, instance) == "stopped"
    assert [image["State"] for image in own(cloud)] == ["available"]


def test_instances_run_from_what_was_made(cloud: Cloud) -> None:
    image = cloud.run("alice", "CreateImage", InstanceId=run(cloud), Name="web")["ImageId"]
    cloud.wait(20)
    answer = cloud.run("alice", "RunInstances", ImageId=image, MinCount=1, MaxCount=1)
    assert answer["Instances"][0]["ImageId"] == image


@pytest.mark.parametrize("text", AWKWARD.values(), ids=AWKWARD)
def test_descriptions_and_tags_come_with_it_whatever_they_hold(cloud: Cloud, text: str) -> None:
    tags = [{"Key": text, "Value": text}]
    specifications = [{"ResourceType": "image", "Tags": tags}]
    cloud.run(
        "alice", "CreateImage", InstanceId=run(cloud), Name="web", Description=text, TagSpecifications=specifications
    )
    (image,) = own(cloud)
    assert (image["Description"], image["Tags"]) == (text, tags)


def test_a_name_is_used_once(cloud: Cloud) -> None:
    instance = run(cloud)
    cloud.run("alice", "CreateImage", InstanceId=instance, Name="web")
    cloud.wait(20)
    before = len(asked_of_machines(cloud))
    assert cloud.refusal("alice", "CreateImage", InstanceId=instance, Name="web").code == "InvalidAMIName.Duplicate"
    assert len(asked_of_machines(cloud)) == before
    assert announcements(cloud) == []


@pytest.mark.parametrize("name", ["ab", "x" * 129, "né", 'quo"te', " web", "web "])
def test_a_name_that_amazon_or_oned_would_not_take_is_refused(cloud: Cloud, name: str) -> None:
    instance = run(cloud)
    assert cloud.refusal("alice", "CreateImage", InstanceId=instance, Name=name).code == "InvalidAMIName.Malformed"
    assert (
        cloud.refusal("alice", "CopyImage", SourceImageId=UBUNTU, SourceRegion="OpenNebula", Name=name).code
        == "InvalidAMIName.Malformed"
    )


def test_only_ones_own_instances_in_a_lasting_state_become_images(cloud: Cloud) -> None:
    theirs, mine = run(cloud, "bob"), run(cloud)
    missing = cloud.refusal("alice", "CreateImage", InstanceId=theirs, Name="web")
    assert missing.code == "InvalidInstanceID.NotFound"
    cloud.as_user("bob", "one.vm.chmod", int(theirs[2:]), -1, -1, -1, 1, -1, -1, -1, -1, -1)
    assert cloud.refusal("alice", "CreateImage", InstanceId=theirs, Name="web").code == "UnauthorizedOperation"
    cloud.oned.cloud.vms.get(int(mine[2:])).set_state(VmState.ACTIVE, LcmState.BOOT)
    assert cloud.refusal("alice", "CreateImage", InstanceId=mine, Name="web").code == "IncorrectInstanceState"
    assert announcements(cloud) == []
    assert own(cloud) == [] == own(cloud, "bob")


def test_a_dry_run_changes_nothing(cloud: Cloud) -> None:
    instance = run(cloud)
    before = len(cloud.changes)
    refusal = cloud.refusal("alice", "CreateImage", InstanceId=instance, Name="web", dry_run=True)
    assert refusal.code == "DryRunOperation"
    assert cloud.changes[before:] == []


def test_a_quota_that_is_used_up_leaves_the_instance_running(cloud: Cloud) -> None:
    instance = run(cloud)
    cloud.oneadmin("one.user.quota", cloud.user("alice").id, 'DATASTORE=[ID="1",IMAGES="0",SIZE="1"]')
    assert cloud.refusal("alice", "CreateImage", InstanceId=instance, Name="web").code == "ResourceLimitExceeded"
    cloud.wait(20)
    assert state(cloud, instance) == "running"
    assert announcements(cloud) == []


def slow_guest(cloud: Cloud, instance: str) -> None:
    """Have a guest that takes note of a shutdown and does not come to its end."""
    machine = cloud.oned.cloud.vms.get(int(instance[2:]))
    asked = cloud.oned.execute

    def execute(method: str, *params: Any) -> list[object]:
        if method == "one.vm.action" and params[1] == "poweroff":
            machine.set_state(VmState.ACTIVE, LcmState.SHUTDOWN_POWEROFF)
            return [True, machine.id, 0]
        return asked(method, *params)

    cloud.oned.execute = execute  # type: ignore[method-assign]


def test_a_guest_that_does_not_shut_down_makes_no_image_and_runs_again_when_it_is_off_at_last(cloud: Cloud) -> None:
    instance = run(cloud)
    slow_guest(cloud, instance)
    assert cloud.refusal("alice", "CreateImage", InstanceId=instance, Name="web").code == "IncorrectInstanceState"
    assert own(cloud) == []
    reconcile(cloud)
    assert announcements(cloud) != []
    cloud.oned.cloud.vms.get(int(instance[2:])).set_state(VmState.POWEROFF)
    reconcile(cloud)
    cloud.wait(20)
    assert state(cloud, instance) == "running"
    assert announcements(cloud) == []


def test_an_instance_whose_disk_takes_long_runs_again_by_the_reconciler(cloud: Cloud) -> None:
    instance = run(cloud)
    cloud.oned.cloud.delays = replace(cloud.oned.cloud.delays, hotplug=100.0)
    image = cloud.run("alice", "CreateImage", InstanceId=instance, Name="web")["ImageId"]
    reconcile(cloud)
    assert state(cloud, instance) == "stopped"
    assert own(cloud)[0]["State"] == "pending"
    cloud.wait(120)
    reconcile(cloud)
    cloud.wait(20)
    assert state(cloud, instance) == "running"
    assert [(each["ImageId"], each["State"]) for each in own(cloud)] == [(image, "available")]
    assert announcements(cloud) == []


STEPS = range(22)
WANTED: dict[str, Any] = {
    "Name": "web",
    "Description": "for the web",
    "TagSpecifications": [{"ResourceType": "image", "Tags": TAGS}],
}


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", STEPS)
def test_a_call_that_died_at_any_step_is_finished_by_the_next(step: int, after: bool) -> None:
    cloud = Cloud()
    instance = run(cloud)
    dying = DyingOned(cloud.backend, step, after=after)
    ended = begin(cloud, dying, "CreateImage", {"InstanceId": instance, **WANTED})
    cloud.wait(10)
    assert not ended or not dying.is_dead
    if not ended:
        cloud.wait(20)
        try:
            cloud.run("alice", "CreateImage", InstanceId=instance, **WANTED)
        except EC2Error as error:  # the first call had made the image, and died before its response
            assert error.code == "InvalidAMIName.Duplicate"
    cloud.wait(30)
    reconcile(cloud)
    cloud.wait(30)
    (image,) = own(cloud)
    assert (image["Name"], image["Description"], image["Tags"], image["State"]) == (
        "web",
        "for the web",
        TAGS,
        "available",
    )
    assert state(cloud, instance) == "running"
    assert announcements(cloud) == []


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", STEPS)
def test_what_a_call_that_died_began_is_finished_by_another_process(step: int, after: bool) -> None:
    """The image is made or it is not; in no case does an instance stay off, or a nameless image remain."""
    cloud = Cloud()
    instance = run(cloud)
    begin(cloud, DyingOned(cloud.backend, step, after=after), "CreateImage", {"InstanceId": instance, **WANTED})
    cloud.wait(REQUEST_AGE + 10)
    reconcile(cloud)
    cloud.wait(30)
    assert state(cloud, instance) == "running"
    assert announcements(cloud) == []
    document = etree.fromstring(cloud.oneadmin("one.imagepool.info", cloud.user("alice").id, -1, -1))
    assert [image.findtext("NAME") for image in document] == [image["Name"] for image in own(cloud)]
    assert all(image["Tags"] == TAGS for image in own(cloud))


def test_a_call_that_is_still_at_work_is_left_alone_by_the_reconciler(cloud: Cloud) -> None:
    instance = run(cloud)
    slow_guest(cloud, instance)
    ended = begin(cloud, cloud.backend, "CreateImage", {"InstanceId": instance, "Name": "web"})
    cloud.wait(5)
    cloud.oned.cloud.vms.get(int(instance[2:])).set_state(VmState.POWEROFF)
    reconcile(cloud)
    assert ended == []
    assert "resume" not in asked_of_machines(cloud)
    cloud.wait(30)
    assert not isinstance(ended[0], Failure)
    assert state(cloud, instance) == "running"


# CopyImage


def copy(cloud: Cloud, name: str = "copy", source: str = UBUNTU, **more: Any) -> str:
    answer = cloud.run("alice", "CopyImage", Name=name, SourceImageId=source, SourceRegion="OpenNebula", **more)
    cloud.wait(10)
    return str(answer["ImageId"])


def test_a_copy_is_ones_own_with_no_tags_of_the_original_nor_its_other_name(cloud: Cloud) -> None:
    cloud.oneadmin("one.image.update", 0, 'EC2_AMI_NAME="noble"\nEC2_TAG_61=[KEY="a",VALUE="b"]\nEC2_TAGS=[OLD="x"]', 1)
    made = copy(cloud)
    (image,) = own(cloud)
    assert (image["ImageId"], image["Name"], image["State"]) == (made, "copy", "available")
    assert image.get("Tags", []) == []
    assert image["Description"] == "Ubuntu 24.04 LTS"
    assert not image["Public"]
    assert cloud.run("alice", "DescribeImages", ImageIds=[UBUNTU])["Images"][0]["Name"] == "noble"
    assert announcements(cloud) == []


def test_tags_and_description_of_a_copy_are_what_the_call_says(cloud: Cloud) -> None:
    cloud.oneadmin("one.image.update", 0, 'EC2_TAG_61=[KEY="a",VALUE="b"]', 1)
    specifications = [{"ResourceType": "image", "Tags": [{"Key": "a", "Value": "new"}]}]
    copy(cloud, Description="mine", TagSpecifications=specifications)
    (image,) = own(cloud)
    assert (image["Description"], image["Tags"]) == ("mine", [{"Key": "a", "Value": "new"}])
    copy(cloud, "with-tags", CopyImageTags=True)
    (other,) = [image for image in own(cloud) if image["Name"] == "with-tags"]
    assert other["Tags"] == [{"Key": "a", "Value": "b"}]


def test_a_copy_has_the_description_of_its_original_unless_another_or_an_empty_one_is_given(cloud: Cloud) -> None:
    copy(cloud, "without")
    copy(cloud, "with-an-empty-one", Description="")
    assert {image["Name"]: image.get("Description", "") for image in own(cloud)} == {
        "without": "Ubuntu 24.04 LTS",
        "with-an-empty-one": "",
    }


def test_the_same_client_token_gives_the_same_copy_and_another_a_duplicate(cloud: Cloud) -> None:
    first = copy(cloud, ClientToken="token")
    assert copy(cloud, ClientToken="token") == first
    refusal = cloud.refusal(
        "alice", "CopyImage", Name="copy", SourceImageId=UBUNTU, SourceRegion="OpenNebula", ClientToken="other"
    )
    assert refusal.code == "InvalidAMIName.Duplicate"
    assert len(own(cloud)) == 1


def test_the_token_of_a_copy_is_not_that_of_its_copy(cloud: Cloud) -> None:
    first = copy(cloud, ClientToken="token")
    second = copy(cloud, "second", source=first)
    assert "EC2_CLIENT_TOKEN" not in {name for name, value in attributes(cloud, second).items() if value}


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
def test_what_cannot_be_copied_is_refused(cloud: Cloud, parameters: dict[str, Any], code: str) -> None:
    wanted = {"Name": "copy", "SourceImageId": UBUNTU, "SourceRegion": "OpenNebula", **parameters}
    assert cloud.refusal("alice", "CopyImage", **wanted).code == code
    assert own(cloud) == []


def test_an_image_that_is_not_there_yet_cannot_be_copied(cloud: Cloud) -> None:
    number = cloud.as_user("alice", "one.image.allocate", 'NAME="new"\nTYPE="OS"\nPATH="/x"\nEC2_AMI="YES"', 1)
    refusal = cloud.refusal(
        "alice", "CopyImage", Name="copy", SourceImageId=f"ami-{number:08d}", SourceRegion="OpenNebula"
    )
    assert refusal.code == "InvalidAMIID.Unavailable"


def test_copying_dry_changes_nothing(cloud: Cloud) -> None:
    before = len(cloud.changes)
    refusal = cloud.refusal(
        "alice", "CopyImage", Name="copy", SourceImageId=UBUNTU, SourceRegion="OpenNebula", dry_run=True
    )
    assert refusal.code == "DryRunOperation"
    assert cloud.changes[before:] == []


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", range(10))
def test_a_copy_that_died_at_any_step_is_finished_by_the_next_call_or_process(
    step: int, after: bool, again: bool
) -> None:
    cloud = Cloud()
    cloud.oneadmin("one.image.update", 0, 'EC2_AMI_NAME="noble"\nEC2_TAG_61=[KEY="a",VALUE="b"]', 1)
    wanted: dict[str, Any] = {"SourceImageId": UBUNTU, "SourceRegion": "OpenNebula", "ClientToken": "token", **WANTED}
    begin(cloud, DyingOned(cloud.backend, step, after=after), "CopyImage", wanted)
    if again:
        cloud.run("alice", "CopyImage", **wanted)
        assert len(own(cloud)) == 1
    cloud.wait(REQUEST_AGE + 10)
    reconcile(cloud)
    for image in own(cloud):
        assert (image["Name"], image["Description"], image["Tags"]) == ("web", "for the web", TAGS)
    assert announcements(cloud) == []
