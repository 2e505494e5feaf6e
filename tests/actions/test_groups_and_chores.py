"""What credentials of one group begin, and chores complete in the session of the user, who has all groups."""

from __future__ import annotations

from typing import Any

import pytest

from econed.actions.disk_images.volume_facts import TO_ATTACH
from econed.errors import EC2Error
from tests.actions.sts.requests import cloud_with_groups, password_of, role_keys
from tests.actions.volumes.test_copies_in_progress import LONG_COPY, attachment_parameters, set_copy_duration
from tests.actions.volumes.test_volumes import image, instance, reconcile, show, volume
from tests.support.cloud import Cloud, perform
from tests.support.signing_in import Process


def run_in_group(cloud: Cloud, action: str, **parameters: Any) -> dict[str, Any]:
    """Make an EC2 call with alice's credentials of the group research alone."""
    sender = Process(cloud).sender(role_keys(cloud, password_of(cloud, "alice"), "research"))
    return cloud.result(perform(cloud.call_of(sender), action, parameters))


def shared_instance(cloud: Cloud) -> str:
    """Return an instance of bob's that the group of both may manage, and all others may use."""
    instance_id = instance(cloud, "bob")
    cloud.as_user("bob", "one.vm.chmod", int(instance_id[2:]), -1, -1, -1, 1, 1, -1, 1, 0, -1)
    return instance_id


def test_an_attachment_that_the_group_may_not_make_is_not_deferred_to_the_chore() -> None:
    cloud = cloud_with_groups("research")
    instance_id, volume_id = shared_instance(cloud), volume(cloud)
    set_copy_duration(cloud, LONG_COPY)
    cloud.run("alice", "CreateSnapshot", VolumeId=volume_id)
    parameters = attachment_parameters(volume_id, instance_id)
    with pytest.raises(EC2Error, match="UnauthorizedOperation"):
        run_in_group(cloud, "AttachVolume", **parameters)
    assert TO_ATTACH not in image(cloud, volume_id).template
    cloud.wait(LONG_COPY)
    reconcile(cloud)
    assert show(cloud, volume_id)["Attachments"] == []
    assert cloud.run("alice", "AttachVolume", **parameters)["State"] == "attaching", "all groups of alice may"


def test_an_image_of_an_instance_that_the_group_may_not_manage_is_not_announced_to_the_chore() -> None:
    cloud = cloud_with_groups("research")
    instance_id = shared_instance(cloud)
    before = len(cloud.changes)
    with pytest.raises(EC2Error, match="UnauthorizedOperation"):
        run_in_group(cloud, "CreateImage", InstanceId=instance_id, Name="copy")
    assert [call.method for call in cloud.changes[before:]] == ["one.user.login", "one.vm.update"]
