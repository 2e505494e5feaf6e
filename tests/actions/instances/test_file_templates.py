"""RunInstances with instance types from files: machines have the file's attributes, all else is as with templates."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from econed.actions.instances.file_types import read_file_types
from econed.config.loading import ConfigError
from econed.config.settings import Settings
from econed.opennebula.documents import VirtualMachine
from econed.opennebula.session import Session
from econed.opennebula.states import VmState
from tests.support.cloud import Cloud, perform
from tests.support.delayed_oned import DyingOned

AMI = "ami-00000000"
FILES = Path(__file__).parents[2] / "data/ec2query_templates"
SCRIPT = base64.b64encode(b"#!/bin/sh\necho $HOME 100$ ]]>\n").decode()


@pytest.fixture(params=["5.12", "7.4"])
def files(request: pytest.FixtureRequest) -> Cloud:
    """Return a cloud where m1.small is a file and there is no other instance type."""
    return with_files(Cloud(request.param))


def with_files(cloud: Cloud) -> Cloud:
    """Use files as the instance types of a cloud, and return the cloud."""
    cloud.file_types = read_file_types(FILES, {"m1.small": "m1.small.erb"})
    return cloud


def run(cloud: Cloud, **extra: Any) -> tuple[dict[str, Any], VirtualMachine]:
    """Run an instance as alice; return the instance in the result, and its machine in oned."""
    parameters = {"ImageId": AMI, "MinCount": 1, "MaxCount": 1, **extra}
    (instance,) = cloud.run("alice", "RunInstances", **parameters)["Instances"]
    return instance, cloud.result(Session(cloud.backend, "alice").vm(int(instance["InstanceId"][2:])))


def test_the_machine_has_the_attributes_of_the_file(files: Cloud) -> None:
    instance, machine = run(files)
    assert (instance["InstanceType"], instance["ImageId"]) == ("m1.small", AMI)
    assert (machine.template_text("CPU"), machine.template_text("MEMORY")) == ("0.5", "64")
    assert [disk.image_id for disk in machine.disks] == [0, None]
    assert machine.disks[0].attributes["DEV_PREFIX"] == "vd", "the file's members of the AMI's disk are kept"
    assert len(machine.nics) == 1
    assert machine.name == "small-from-file"
    assert machine.user_template.text("SCHED_REQUIREMENTS") == "HYPERVISOR = dummy | FREE_CPU > 1"
    files.wait(10)
    (listed,) = files.run("alice", "DescribeInstances")["Reservations"][0]["Instances"]
    assert (listed["State"]["Name"], listed["InstanceType"], listed["ImageId"]) == ("running", "m1.small", AMI)


def test_key_and_user_data_are_in_the_context(files: Cloud) -> None:
    files.run("alice", "CreateKeyPair", KeyName="mykey")
    instance, machine = run(files, KeyName="mykey", UserData=SCRIPT)
    assert instance["KeyName"] == machine.context["EC2_KEYNAME"] == "mykey"
    assert machine.context["EC2_PUBLIC_KEY"] == machine.context["SSH_PUBLIC_KEY"]
    assert machine.context["EC2_USER_DATA"] == machine.context["USER_DATA"] == SCRIPT
    assert machine.context["NETWORK"] == "YES"
    assert machine.context["HOST"] == "small-from-file", "variables in the file are still expanded"


def test_a_key_name_that_oned_would_expand_is_refused_before_any_change(files: Cloud) -> None:
    files.run("alice", "CreateKeyPair", KeyName="100$")
    before = len(files.changes)
    refusal = files.refusal("alice", "RunInstances", ImageId=AMI, MinCount=1, MaxCount=1, KeyName="100$")
    assert refusal.code == "InvalidParameterValue"
    assert len(files.changes) == before


def test_tags_name_and_shutdown_behaviour_are_as_with_templates(files: Cloud) -> None:
    tags = [{"Key": "Name", "Value": "web 1"}, {"Key": "a]\n=", "Value": '"$]]>'}]
    instance, machine = run(
        files,
        TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
        InstanceInitiatedShutdownBehavior="terminate",
    )
    assert machine.name == "web 1"
    assert sorted(instance["Tags"], key=str) == sorted(tags, key=str)
    assert machine.user_template.text("EC2_SHUTDOWN_BEHAVIOR") == "terminate"


def test_zone_and_configured_cluster_are_added_to_the_files_requirements() -> None:
    cloud = with_files(Cloud(settings=Settings(cluster_id=0)))
    _, machine = run(cloud, Placement={"AvailabilityZone": "default"})
    requirements = machine.user_template.text("SCHED_REQUIREMENTS")
    assert requirements == "(HYPERVISOR = dummy | FREE_CPU > 1) & CLUSTER_ID = 0"


def test_several_instances_are_released_together_and_share_a_reservation(files: Cloud) -> None:
    result = files.run("alice", "RunInstances", ImageId=AMI, MinCount=3, MaxCount=3)
    assert [instance["AmiLaunchIndex"] for instance in result["Instances"]] == [0, 1, 2]
    order = [call.method for call in files.changes if call.method.startswith(("one.template", "one.vm"))]
    assert order == ["one.vm.allocate"] * 3 + ["one.vm.action"] * 3


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", range(18))
def test_a_call_interrupted_at_any_step_is_completed_by_the_next(step: int, after: bool) -> None:
    cloud = with_files(Cloud())
    parameters: dict[str, Any] = {"ImageId": AMI, "MinCount": 2, "MaxCount": 2, "ClientToken": "tok"}
    dying = cloud.call_in_new_process("alice", DyingOned(cloud.backend, step, after=after))
    Deferred.fromCoroutine(perform(dying, "RunInstances", parameters))
    first = [instance["InstanceId"] for instance in cloud.run("alice", "RunInstances", **parameters)["Instances"]]
    repeated = [instance["InstanceId"] for instance in cloud.run("alice", "RunInstances", **parameters)["Instances"]]
    assert first == repeated
    living = cloud.result(Session(cloud.backend, "alice").vms(cloud.result(Session(cloud.backend, "alice").vm_ids())))
    assert [machine.state for machine in living if machine.state is VmState.HOLD] == []
    assert len(living) == 2


def test_a_type_without_a_file_does_not_exist_even_if_there_is_a_template(files: Cloud) -> None:
    refusal = files.refusal("alice", "RunInstances", ImageId=AMI, MinCount=1, MaxCount=1, InstanceType="m1.large")
    assert refusal.code == "InvalidParameterValue"
    assert files.changes == []


def test_all_errors_in_the_files_are_reported_at_once_with_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "a.erb").write_text("CPU = 1\nMEMORY = <%= `id` %>\n")
    (tmp_path / "b.erb").write_bytes(b"\xff\xfe")
    (tmp_path / "d.erb").write_text("CPU = 1\n")
    with pytest.raises(ConfigError) as caught:
        read_file_types(tmp_path, {"a": "a.erb", "b": "b.erb", "c": "c.erb", "]]>": "d.erb"})
    places = [(problem.place, problem.line, problem.key) for problem in caught.value.problems]
    assert places == [
        (str(tmp_path / "a.erb"), 2, "a"),
        (str(tmp_path / "b.erb"), None, "b"),
        (str(tmp_path / "c.erb"), None, "c"),
        (str(tmp_path / "d.erb"), None, "]]>"),
    ]
