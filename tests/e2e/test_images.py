"""AMIs created from instances, other AMIs, URLs and uploaded files, with the clients that create them."""

from __future__ import annotations

import re
import uuid
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.e2e.waiting import QUICK, described, wait, wait_for
from tests.pages.scripts import ROOT, blocks
from tests.support.clients import boto, refusal, upload, v2
from tests.support.configured_clients import run, variables
from tests.support.econed_process import Econed, Person
from tests.support.furnished_cloud import MAX_WAIT, FurnishedCloud
from tests.support.processes import until
from tests.support.tools import require_tool


def _name() -> str:
    return f"by a test {uuid.uuid4().hex[:12]}"


def _image(ec2: Any, image_id: str) -> dict[str, Any]:
    (image,) = ec2.describe_images(ImageIds=[image_id])["Images"]
    return dict(image)


def _launches(cloud: FurnishedCloud, ec2: Any, image_id: str) -> None:
    """Launch an instance of an AMI, and terminate it."""
    reservation = ec2.run_instances(ImageId=image_id, InstanceType=cloud.instance_type, MinCount=1, MaxCount=1)
    ids = [instance["InstanceId"] for instance in reservation["Instances"]]
    wait(ec2, "instance_running", ids)
    ec2.terminate_instances(InstanceIds=ids)
    wait(ec2, "instance_terminated", ids)


def test_instances_can_be_launched_from_an_image_of_an_instance(
    cloud: FurnishedCloud, alice: Person, ec2: Any, launch: Any
) -> None:
    """The instance is shut down and started again; the SDK's waiter returns when the image is available."""
    (launched,) = launch()
    instance, name = launched["InstanceId"], _name()
    wait(ec2, "instance_running", [instance])
    (before,) = described(ec2, instance)
    tags = [{"ResourceType": "image", "Tags": [{"Key": "from", "Value": instance}]}]
    image = ec2.create_image(InstanceId=instance, Name=name, Description="golden", TagSpecifications=tags)["ImageId"]
    wait_for(ec2, "image_available", ImageIds=[image])
    image_details = _image(ec2, image)
    assert (image_details["Name"], image_details["Description"], image_details["Tags"]) == (
        name,
        "golden",
        tags[0]["Tags"],
    )
    assert (image_details["OwnerId"], image_details["Public"]) == (f"{alice.id:012d}", False)
    wait(ec2, "instance_running", [instance])
    (after,) = described(ec2, instance)
    assert after["LaunchTime"] == before["LaunchTime"]
    with pytest.raises(ClientError) as raised:
        ec2.create_image(InstanceId=instance, Name=name, NoReboot=True)
    assert refusal(raised.value) == ("InvalidAMIName.Duplicate", 400)
    _launches(cloud, ec2, image)
    ec2.deregister_image(ImageId=image)
    with pytest.raises(ClientError) as raised:
        ec2.describe_images(ImageIds=[image])
    assert refusal(raised.value) == ("InvalidAMIID.NotFound", 400)


def test_an_image_and_its_snapshot_have_separate_tags_and_its_name_can_be_used_again(ec2: Any, launch: Any) -> None:
    """Packer and Ansible create, tag and deregister an image, delete its snapshot, and create it again."""
    (instance,) = launch()
    wait(ec2, "instance_running", [instance["InstanceId"]])
    parameters = {"InstanceId": instance["InstanceId"], "Name": _name(), "NoReboot": True}
    tags = {kind: [{"Key": "kind", "Value": kind}] for kind in ("image", "snapshot")}
    for _ in range(2):
        image = ec2.create_image(
            **parameters,
            TagSpecifications=[{"ResourceType": kind, "Tags": tag_list} for kind, tag_list in tags.items()],
        )["ImageId"]
        wait_for(ec2, "image_available", ImageIds=[image])
        image_details = _image(ec2, image)
        snapshot = image_details["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
        (snapshot_details,) = ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"]
        assert (image_details["Tags"], snapshot_details["Tags"]) == (tags["image"], tags["snapshot"])
        with pytest.raises(ClientError) as raised:
            ec2.delete_snapshot(SnapshotId=snapshot)
        assert refusal(raised.value)[0] == "InvalidSnapshot.InUse"
        ec2.deregister_image(ImageId=image)
    ec2.delete_snapshot(SnapshotId=snapshot)
    with pytest.raises(ClientError) as raised:
        ec2.describe_snapshots(SnapshotIds=[snapshot])
    assert refusal(raised.value)[0] == "InvalidSnapshot.NotFound"


def test_a_copy_of_an_image_belongs_to_the_caller(cloud: FurnishedCloud, alice: Person, ec2: Any) -> None:
    """The original is the administrator's; the same ClientToken returns the same copy."""
    region = ec2.describe_regions()["Regions"][0]["RegionName"]
    source = f"ami-{cloud.ami:08d}"
    parameters = {"Name": _name(), "SourceImageId": source, "SourceRegion": region, "ClientToken": uuid.uuid4().hex}
    copy = ec2.copy_image(**parameters)["ImageId"]
    assert copy != source
    wait_for(ec2, "image_available", ImageIds=[copy])
    assert (_image(ec2, copy)["Name"], _image(ec2, copy)["OwnerId"]) == (parameters["Name"], f"{alice.id:012d}")
    assert ec2.copy_image(**parameters)["ImageId"] == copy
    _launches(cloud, ec2, copy)


def test_launch_permission_lets_others_launch_instances(
    cloud: FurnishedCloud, econed: Econed, ec2: Any, bob: Person
) -> None:
    """It is given to all users, and reset to the owner only."""
    bobs_client = boto(bob, econed.url)
    region = ec2.describe_regions()["Regions"][0]["RegionName"]
    image = ec2.copy_image(Name=_name(), SourceImageId=f"ami-{cloud.ami:08d}", SourceRegion=region)["ImageId"]
    wait_for(ec2, "image_available", ImageIds=[image])

    def permissions() -> list[dict[str, str]]:
        response = ec2.describe_image_attribute(ImageId=image, Attribute="launchPermission")
        return list(response["LaunchPermissions"])

    assert permissions() == []
    with pytest.raises(ClientError) as raised:
        bobs_client.describe_images(ImageIds=[image])
    assert refusal(raised.value)[0] == "InvalidAMIID.NotFound"
    ec2.modify_image_attribute(ImageId=image, LaunchPermission={"Add": [{"Group": "all"}]})
    assert permissions() == [{"Group": "all"}]
    assert _image(bobs_client, image)["Public"] is True
    _launches(cloud, bobs_client, image)
    ec2.reset_image_attribute(ImageId=image, Attribute="launchPermission")
    assert permissions() == []
    with pytest.raises(ClientError) as raised:
        bobs_client.describe_images(ImageIds=[image])
    assert refusal(raised.value)[0] == "InvalidAMIID.NotFound"


def test_an_image_from_a_url_of_an_allowed_host_is_downloaded_by_oned(ec2: Any) -> None:
    """It is an AMI immediately; whether it becomes available depends on the URL and on oned."""
    url = "http://images.invalid/disk.qcow2?size=1"
    name = _name()
    image = ec2.register_image(ImageLocation=url, Name=name)["ImageId"]
    assert _image(ec2, image)["Name"] == name
    until(
        lambda: _image(ec2, image)["State"] in ("available", "failed"),
        "the download of the image to end",
        MAX_WAIT,
    )
    for inside in (
        "http://127.0.0.1/x",
        "http://localhost:80/x",
        "http://other.invalid/x",
        "file:///etc/passwd",
        "/etc/passwd",
    ):
        with pytest.raises(ClientError) as raised:
            ec2.register_image(ImageLocation=inside, Name=_name())
        assert refusal(raised.value) == ("InvalidParameterValue", 400)


def test_an_uploaded_image_becomes_an_ami_and_its_file_is_removed(
    cloud: FurnishedCloud, econed: Econed, alice: Person, ec2: Any
) -> None:
    """The Ruby tools send a signed form by curl, then RegisterImage; the file exists until oned has copied it."""
    before = set(cloud.uploads.iterdir())
    caretaker = cloud.econed(interval=QUICK)
    try:
        uploaded = upload(alice, econed.url, b"\0" * 300_000)
        assert uploaded.status == 200, uploaded.body
        (image,) = uploaded.texts("imageId")
        path = cloud.admin.document("one.image.info", int(image[4:]), False).findtext("PATH")
        assert str(path).startswith(str(cloud.uploads))
        with pytest.raises(ClientError) as raised:
            ec2.describe_images(ImageIds=[image])
        assert refusal(raised.value)[0] == "InvalidAMIID.NotFound"
        registered = v2(alice, econed.url, "RegisterImage", {"ImageLocation": image})
        assert registered.texts("imageId") == [image]
        wait_for(ec2, "image_available", ImageIds=[image])
        until(lambda: set(cloud.uploads.iterdir()) <= before, "the file to be removed", MAX_WAIT)
    finally:
        caretaker.process.stop()


def test_curl_uploads_an_image_as_the_page_says(econed: Econed, alice: Person, tmp_path: Path) -> None:
    """The first command of the page's section, with the variables of the AWS tools."""
    require_tool("curl")
    (block,) = (block for block in blocks(ROOT / "docs/compatibility.md") if "Action=UploadImage" in block.text)
    script, _, _ = block.text.partition("aws ec2 register-image")
    (tmp_path / "disk.img").write_bytes(b"\0" * 300_000)
    curl = run("bash", ["-c", script], tmp_path, variables(alice, econed.url))
    assert re.search(r"<imageId>ami-\d{8}</imageId>", curl.stdout), (curl.stdout, curl.stderr)


def test_an_upload_with_a_wrong_signature_leaves_nothing(cloud: FurnishedCloud, econed: Econed, alice: Person) -> None:
    """Neither a file nor an image remains."""
    before = set(cloud.uploads.iterdir())
    stranger = Person(alice.name, alice.id, "not the secret", alice.oned)
    refused = upload(stranger, econed.url, b"\0" * 300_000)
    assert (refused.status, refused.code) == (401, "AuthFailure")
    assert set(cloud.uploads.iterdir()) == before
