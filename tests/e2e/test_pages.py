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
    """The client of a user whose lists have only the objects of these tests."""
    return known(boto(cloud.person("henry"), econed.url))


@pytest.fixture
def staying(cloud: FurnishedCloud, henry: Any) -> Iterator[list[str]]:
    """Instances that exist all the time."""
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
    return sorted(each["InstanceId"] for each in reservation["Instances"])


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

    seen: Counter[str] = Counter()
    pages = 0
    for page in _paged(getattr(henry, action), between):
        pages += 1
        found = (
            *(one["InstanceId"] for each in page.get("Reservations", ()) for one in each["Instances"]),
            *(each["InstanceId"] for each in page.get("InstanceStatuses", ())),
            *(each["ResourceId"] for each in page.get("Tags", ()) if each["Key"] == "in"),
        )
        assert len(found) <= 5
        seen.update(found)
    henry.terminate_instances(InstanceIds=passing)
    assert pages >= 3
    assert {each: seen[each] for each in staying} == dict.fromkeys(staying, 1)
    assert set(seen.values()) == {1}


def test_pages_show_unchanged_images_exactly_once(cloud: FurnishedCloud, alice: Person, ec2: Any) -> None:
    """Between two pages one image becomes an AMI and another is deregistered."""
    kept = [cloud.image(f"{cloud.prefix}-page-{number}", 'EC2_AMI="YES"', alice) for number in range(6)]
    passing = [cloud.image(f"{cloud.prefix}-passing-{number}", 'EC2_AMI="YES"', alice) for number in range(2)]
    spare = [cloud.image(f"{cloud.prefix}-spare-{number}", "", alice) for number in range(2)]

    def between() -> None:
        if spare:
            number = spare.pop(0)
            ec2.register_image(ImageLocation=f"ami-{number:08d}", Name=f"{cloud.prefix}-now-an-ami-{number}")
            ec2.deregister_image(ImageId=f"ami-{passing.pop(0):08d}")

    pages = list(_paged(ec2.describe_images, between, Owners=["self"]))
    seen = Counter(each["ImageId"] for page in pages for each in page["Images"])
    assert len(pages) >= 2
    assert {number: seen[f"ami-{number:08d}"] for number in kept} == dict.fromkeys(kept, 1)
    assert set(seen.values()) == {1}


def test_a_list_of_a_thousand_instances_is_complete(tmp_path: Path) -> None:
    """With the sandbox of `--sandbox-vms`: every field of every instance, and the pages add up."""
    arguments = ["-n", "--pidfile=", "econe", "--sandbox", "--sandbox-user", "ida:a secret"]
    arguments += ["--sandbox-vms", str(MANY), "--listen", "tcp:0:interface=127.0.0.1"]
    daemon = Process("econed", [twistd(), *arguments], tmp_path)
    try:
        url = f"http://127.0.0.1:{daemon.await_output(r'EC2Site starting on ([0-9]+)')}/"
        ida = boto(Person("ida", 2, "a secret", None), url)  # type: ignore[arg-type]
        whole = ida.describe_instances()["Reservations"]
        instances = [one for each in whole for one in each["Instances"]]
        assert len({one["InstanceId"] for one in instances}) == len(instances) == MANY
        (image,) = ida.describe_images()["Images"]
        (zone,) = ida.describe_availability_zones()["AvailabilityZones"]
        for one in instances:
            _check(one, image["ImageId"], zone["ZoneName"])
        assert {each["OwnerId"] for each in whole} == {"000000000002"}
        assert len({one["PrivateIpAddress"] for one in instances}) == MANY
        assert len({one["NetworkInterfaces"][0]["MacAddress"] for one in instances}) == MANY
        paged = [
            one
            for page in ida.get_paginator("describe_instances").paginate(PaginationConfig={"PageSize": 300})
            for each in page["Reservations"]
            for one in each["Instances"]
        ]
        assert paged == instances
    finally:
        daemon.stop()


def _check(one: dict[str, Any], image_id: str, zone: str) -> None:
    machine_id = int(one["InstanceId"][2:])
    assert one["State"] == {"Code": 16, "Name": "running"}
    assert one["ImageId"] == image_id
    assert one["InstanceType"] == "m1.small"
    assert one["Placement"]["AvailabilityZone"] == zone
    assert one["LaunchTime"].year >= 2024
    assert one["PrivateIpAddress"].startswith("10.0.")
    (mapping,) = one["BlockDeviceMappings"]
    assert mapping["DeviceName"] == one["RootDeviceName"] == "/dev/sda1"
    assert mapping["Ebs"]["VolumeId"] == f"vol-{machine_id:08d}000"
    (interface,) = one["NetworkInterfaces"]
    assert interface["PrivateIpAddress"] == one["PrivateIpAddress"]
    assert interface["NetworkInterfaceId"] == f"eni-{machine_id:08d}000"
    assert one["SecurityGroups"] == [{"GroupId": "sg-00000000", "GroupName": "default"}]
