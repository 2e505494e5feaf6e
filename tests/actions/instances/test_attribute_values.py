"""DescribeInstanceAttribute returns one attribute, the same that DescribeInstances shows or RunInstances was given."""

from __future__ import annotations

import base64
from typing import Any, get_args

import pytest

from econed.actions.instances.attribute_values import InstanceAttribute
from tests.support.cloud import Cloud

USER_DATA = base64.b64encode(b"#!/bin/sh\necho $HOME ]]>\n").decode()


@pytest.fixture(params=["5.12", "7.4"])
def cloud(request: pytest.FixtureRequest) -> Cloud:
    return Cloud(request.param)


def launched(cloud: Cloud, **parameters: Any) -> dict[str, Any]:
    """Run an instance as alice, and return it as it is shown once it runs."""
    given = {"ImageId": "ami-00000000", "InstanceType": "m1.large", "MinCount": 1, "MaxCount": 1, **parameters}
    (instance,) = cloud.run("alice", "RunInstances", **given)["Instances"]
    cloud.wait(20)
    listed = cloud.run("alice", "DescribeInstances", InstanceIds=[instance["InstanceId"]])
    return dict(listed["Reservations"][0]["Instances"][0])


def attribute_of(cloud: Cloud, instance: dict[str, Any], name: str) -> Any:
    """Return the value of an attribute, of which the answer has nothing else."""
    answer = cloud.run("alice", "DescribeInstanceAttribute", InstanceId=instance["InstanceId"], Attribute=name)
    assert answer.pop("InstanceId") == instance["InstanceId"]
    (value,) = answer.values()
    return value


def test_attributes_agree_with_the_instance(cloud: Cloud) -> None:
    instance = launched(cloud)
    shown = {name: attribute_of(cloud, instance, name) for name in get_args(InstanceAttribute)}
    assert shown["instanceType"] == {"Value": "m1.large"}
    assert shown["rootDeviceName"] == {"Value": instance["RootDeviceName"]}
    assert shown["blockDeviceMapping"] == instance["BlockDeviceMappings"]
    assert shown["groupSet"] == instance["SecurityGroups"]
    assert shown["sourceDestCheck"] == {"Value": instance["SourceDestCheck"]}
    assert shown["ebsOptimized"] == shown["enaSupport"] == {"Value": False}
    assert shown["enclaveOptions"] == {"Enabled": False}
    assert shown["instanceInitiatedShutdownBehavior"] == {"Value": "stop"}
    assert shown["disableApiTermination"] == shown["disableApiStop"] == {"Value": False}
    for name in ("kernel", "ramdisk", "sriovNetSupport", "userData"):
        assert shown[name] == {}
    assert shown["productCodes"] == []


def test_what_run_instances_was_given_is_returned(cloud: Cloud) -> None:
    instance = launched(cloud, UserData=USER_DATA, InstanceInitiatedShutdownBehavior="terminate")
    assert attribute_of(cloud, instance, "userData") == {"Value": USER_DATA}
    assert attribute_of(cloud, instance, "instanceInitiatedShutdownBehavior") == {"Value": "terminate"}


@pytest.mark.parametrize(
    ("members", "text"), [(',USER_DATA_ENCODING="base64"', "aGVsbG8="), ("", "hello")], ids=["base64", "plain"]
)
def test_user_data_of_a_machine_that_was_made_elsewhere_is_returned_in_base64(members: str, text: str) -> None:
    cloud = Cloud()
    context = f'CONTEXT=[USER_DATA="{text}"{members}]'
    machine = int(cloud.as_user("alice", "one.vm.allocate", f'CPU="1"\nMEMORY="64"\n{context}', False))
    instance = {"InstanceId": f"i-{machine:08d}"}
    assert attribute_of(cloud, instance, "userData") == {"Value": base64.b64encode(b"hello").decode()}


def test_a_lock_in_opennebula_protects_an_instance_from_both(cloud: Cloud) -> None:
    instance = launched(cloud)
    cloud.as_user("alice", "one.vm.lock", int(instance["InstanceId"][2:]), 1, False)
    for name in ("disableApiTermination", "disableApiStop"):
        assert attribute_of(cloud, instance, name) == {"Value": True}


def test_a_behaviour_that_a_user_has_written_and_ec2_does_not_have_is_stop(cloud: Cloud) -> None:
    instance = launched(cloud)
    cloud.as_user("alice", "one.vm.update", int(instance["InstanceId"][2:]), 'EC2_SHUTDOWN_BEHAVIOR="dance"', 1)
    assert attribute_of(cloud, instance, "instanceInitiatedShutdownBehavior") == {"Value": "stop"}


def test_instances_of_others_and_other_attributes_are_refused(cloud: Cloud) -> None:
    instance_id = launched(cloud)["InstanceId"]
    name = "DescribeInstanceAttribute"
    assert cloud.refusal("bob", name, InstanceId=instance_id, Attribute="userData").code == "InvalidInstanceID.NotFound"
    assert cloud.refusal("alice", name, InstanceId=instance_id, Attribute="soul").code == "InvalidParameterValue"
    assert cloud.refusal("alice", name, InstanceId=instance_id).code == "MissingParameter"
