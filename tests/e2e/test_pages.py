"""Lists in pages, while machines start and terminate between the pages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.waiting import known, wait
from tests.support.clients import boto
from tests.support.econed_process import Econed, Person, twistd
from tests.support.furnished_cloud import FurnishedCloud
from tests.support.processes import Process

STAYING = 12
MANY = 1000


@pytest.fixture(scope="module")
def henry(cloud: FurnishedCloud, econed: Econed) -> Any:
    """The client of a user who has no other objects than those of these tests."""
    return known(boto(cloud.person("henry"), econed.url))


@pytest.fixture
def staying(cloud: FurnishedCloud, henry: Any) -> Iterator[list[str]]:
    """Instances that exist during the whole test."""
    instance_ids = _run(cloud, henry, STAYING)
    wait(henry, "instance_running", instance_ids)
    yield instance_ids
    henry.terminate_instances(InstanceIds=instance_ids)


def _run(cloud: FurnishedCloud, client: Any, count: int) -> list[str]:
    reservation = client.run_instances(
        ImageId=f"ami-{cloud.ami:08d}",
        InstanceType=cloud.instance_type,
        MinCount=count,
        MaxCount=count,
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "in", "Value": "pages"}]}],
    )
    return sorted(instance["InstanceId"] for instance in reservation["Instances"])


def _paged(
    ask: Callable[..., dict[str, Any]], between: Callable[[], object], **parameters: Any
) -> Iterator[dict[str, Any]]:
    """Yield the pages of a list; `between` is called between two pages."""
    token: dict[str, str] = {}
    while True:
        page = ask(MaxResults=5, **token, **parameters)
        yield page
        if "NextToken" not in page:
            return
        token = {"NextToken": page["NextToken"]}
        between()


@pytest.mark.parametrize("action", ["describe_instances", "describe_instance_status", "describe_tags"])
def test_pages_show_unchanged_instances_exactly_once(
    cloud: FurnishedCloud, henry: Any, staying: list[str], action: str
) -> None:
    """Between two pages one instance is launched and one terminated."""
    passing = _run(cloud, henry, 2)

    def between() -> None:
        passing.extend(_run(cloud, henry, 1))
        henry.terminate_instances(InstanceIds=[passing.pop(0)])

    counts: Counter[str] = Counter()
    pages = 0
    for page in _paged(getattr(henry, action), between):
        pages += 1
        ids = (
            *(
                instance["InstanceId"]
                for reservation in page.get("Reservations", ())
                for instance in reservation["Instances"]
            ),
            *(status["InstanceId"] for status in page.get("InstanceStatuses", ())),
            *(tag["ResourceId"] for tag in page.get("Tags", ()) if tag["Key"] == "in"),
        )
        assert len(ids) <= 5
        counts.update(ids)
    henry.terminate_instances(InstanceIds=passing)
    assert pages >= 3
    assert {instance_id: counts[instance_id] for instance_id in staying} == dict.fromkeys(staying, 1)
    assert set(counts.values()) == {1}


def test_pages_show_unchanged_images_exactly_once(cloud: FurnishedCloud, alice: Person, ec2: Any) -> None:
    """Between two pages one image becomes an AMI and another is deregistered."""
    staying_ids = [cloud.image(f"{cloud.prefix}-page-{index}", 'EC2_AMI="YES"', alice) for index in range(6)]
    passing = [cloud.image(f"{cloud.prefix}-passing-{index}", 'EC2_AMI="YES"', alice) for index in range(2)]
    spare = [cloud.image(f"{cloud.prefix}-spare-{index}", "", alice) for index in range(2)]

    def between() -> None:
        if spare:
            image_id = spare.pop(0)
            ec2.register_image(ImageLocation=f"ami-{image_id:08d}", Name=f"{cloud.prefix}-now-an-ami-{image_id}")
            ec2.deregister_image(ImageId=f"ami-{passing.pop(0):08d}")

    pages = list(_paged(ec2.describe_images, between, Owners=["self"]))
    counts = Counter(image["ImageId"] for page in pages for image in page["Images"])
    assert len(pages) >= 2
    assert {image_id: counts[f"ami-{image_id:08d}"] for image_id in staying_ids} == dict.fromkeys(staying_ids, 1)
    assert set(counts.values()) == {1}


def test_a_list_of_a_thousand_instances_is_complete(tmp_path: Path) -> None:
    """Every field of every instance is checked, and the pages together equal the whole list."""
    arguments = ["-n", "--pidfile=", "econe", "--sandbox", "--sandbox-user", "ida:a secret"]
    arguments += ["--sandbox-vms", str(MANY), "--listen", "tcp:0:interface=127.0.0.1"]
    daemon = Process("econed", [twistd(), *arguments], tmp_path)
    try:
        url = f"http://127.0.0.1:{daemon.await_output(r'EC2Site starting on ([0-9]+)')}/"
        ida = boto(Person("ida", 2, "a secret", None), url)  # type: ignore[arg-type]
        reservations = ida.describe_instances()["Reservations"]
        instances = [instance for reservation in reservations for instance in reservation["Instances"]]
        assert len({instance["InstanceId"] for instance in instances}) == len(instances) == MANY
        (image,) = ida.describe_images()["Images"]
        (zone,) = ida.describe_availability_zones()["AvailabilityZones"]
        for instance in instances:
            _check(instance, image["ImageId"], zone["ZoneName"])
        assert {reservation["OwnerId"] for reservation in reservations} == {"000000000002"}
        assert len({instance["PrivateIpAddress"] for instance in instances}) == MANY
        assert len({instance["NetworkInterfaces"][0]["MacAddress"] for instance in instances}) == MANY
        paged = [
            instance
            for page in ida.get_paginator("describe_instances").paginate(PaginationConfig={"PageSize": 300})
            for reservation in page["Reservations"]
            for instance in reservation["Instances"]
        ]
        assert paged == instances
    finally:
        daemon.stop()


def _check(instance: dict[str, Any], image_id: str, zone: str) -> None:
    machine_id = int(instance["InstanceId"][2:])
    assert instance["State"] == {"Code": 16, "Name": "running"}
    assert instance["ImageId"] == image_id
    assert instance["InstanceType"] == "m1.small"
    assert instance["Placement"]["AvailabilityZone"] == zone
    assert instance["LaunchTime"].year >= 2024
    assert instance["PrivateIpAddress"].startswith("10.0.")
    (mapping,) = instance["BlockDeviceMappings"]
    assert mapping["DeviceName"] == instance["RootDeviceName"] == "/dev/sda1"
    assert mapping["Ebs"]["VolumeId"] == f"vol-{machine_id:08d}000"
    (interface,) = instance["NetworkInterfaces"]
    assert interface["PrivateIpAddress"] == instance["PrivateIpAddress"]
    assert interface["NetworkInterfaceId"].startswith(f"eni-{machine_id:08x}")
    assert instance["SecurityGroups"] == [{"GroupId": "sg-00000000", "GroupName": "default"}]
