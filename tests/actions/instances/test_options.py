"""Consoles, passwords and options of instances: what OpenNebula does not have is empty or off, and stays off."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.support.cloud import Cloud

RUNNING = "i-00000000"
OF_ONE = ("GetConsoleOutput", "GetPasswordData", "ModifyInstanceMetadataOptions", "ModifyInstanceMaintenanceOptions")


@pytest.fixture(scope="module", name="cloud")
def one_cloud() -> Cloud:
    """A cloud with an instance of alice's, for all tests, which change nothing."""
    return Cloud(vms=1)


@pytest.mark.parametrize(("action", "member"), [("GetConsoleOutput", "Output"), ("GetPasswordData", "PasswordData")])
def test_there_is_neither_a_console_nor_a_password(cloud: Cloud, action: str, member: str) -> None:
    answer = cloud.run("alice", action, InstanceId=RUNNING)
    assert (answer["InstanceId"], answer[member]) == (RUNNING, "")
    assert base64.b64decode(answer[member]) == b""
    assert answer["Timestamp"].timestamp() == pytest.approx(cloud.clock.seconds(), abs=2)


@pytest.mark.parametrize("action", ["MonitorInstances", "UnmonitorInstances"])
def test_detailed_monitoring_is_disabled_and_stays_so(cloud: Cloud, action: str) -> None:
    (monitoring,) = cloud.run("alice", action, InstanceIds=[RUNNING, RUNNING])["InstanceMonitorings"]
    assert monitoring == {"InstanceId": RUNNING, "Monitoring": {"State": "disabled"}}


@pytest.mark.parametrize(
    ("action", "options"),
    [
        ("ModifyInstanceMetadataOptions", {}),
        ("ModifyInstanceMetadataOptions", {"HttpEndpoint": "disabled", "HttpPutResponseHopLimit": 1}),
        ("ModifyInstanceMaintenanceOptions", {"AutoRecovery": "disabled", "RebootMigration": "disabled"}),
    ],
)
def test_an_option_may_be_set_to_the_value_that_it_has(cloud: Cloud, action: str, options: dict[str, Any]) -> None:
    answer = cloud.run("alice", action, InstanceId=RUNNING, **options)
    shown = answer.get("InstanceMetadataOptions", answer)
    assert {name: shown[name] for name in options} == options
    (instance,) = cloud.run("alice", "DescribeInstances", InstanceIds=[RUNNING])["Reservations"][0]["Instances"]
    assert answer.get("InstanceMetadataOptions") in (None, instance["MetadataOptions"])


@pytest.mark.parametrize(
    ("action", "options"),
    [
        ("ModifyInstanceMetadataOptions", {"HttpEndpoint": "enabled"}),
        ("ModifyInstanceMetadataOptions", {"HttpTokens": "required"}),
        ("ModifyInstanceMetadataOptions", {"HttpPutResponseHopLimit": 2}),
        ("ModifyInstanceMaintenanceOptions", {"AutoRecovery": "default"}),
    ],
)
def test_another_value_is_refused_with_the_one_that_it_has(cloud: Cloud, action: str, options: dict[str, Any]) -> None:
    error = cloud.refusal("alice", action, InstanceId=RUNNING, **options)
    assert error.code == "UnsupportedOperation"
    assert next(iter(options)) in error.message


def test_no_instance_is_burstable(cloud: Cloud) -> None:
    name = "DescribeInstanceCreditSpecifications"
    assert cloud.run("alice", name) == {"InstanceCreditSpecifications": []}
    by_id = [{"Name": "instance-id", "Values": [RUNNING]}]
    assert cloud.run("alice", name, Filters=by_id) == {"InstanceCreditSpecifications": []}
    assert cloud.refusal("alice", name, InstanceIds=[RUNNING]).code == "UnsupportedOperation"


@pytest.mark.parametrize("action", OF_ONE)
def test_an_instance_of_another_user_is_not_found(cloud: Cloud, action: str) -> None:
    assert cloud.refusal("bob", action, InstanceId=RUNNING).code == "InvalidInstanceID.NotFound"


@pytest.mark.parametrize("action", ["MonitorInstances", "UnmonitorInstances", "DescribeInstanceCreditSpecifications"])
def test_instances_of_another_user_are_not_found(cloud: Cloud, action: str) -> None:
    assert cloud.refusal("bob", action, InstanceIds=[RUNNING]).code == "InvalidInstanceID.NotFound"
