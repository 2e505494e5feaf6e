"""Subnets and network interfaces of instances, with boto3."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.e2e.waiting import described, wait
from tests.support.clients import refusal
from tests.support.furnished_cloud import MAX_WAIT, FurnishedCloud
from tests.support.processes import until


def listed(ec2: Any, instance: str) -> list[dict[str, Any]]:
    """Return the interfaces of an instance as DescribeNetworkInterfaces lists them."""
    filters = [{"Name": "attachment.instance-id", "Values": [instance]}]
    pages = ec2.get_paginator("describe_network_interfaces").paginate(Filters=filters)
    return [interface for page in pages for interface in page["NetworkInterfaces"]]


def test_an_instance_runs_with_the_interfaces_that_a_request_describes(
    cloud: FurnishedCloud, ec2: Any, launch: Callable[..., list[dict[str, Any]]]
) -> None:
    """One of them is changed and detached; the first is not."""
    subnet = f"subnet-{cloud.network:08d}"
    (launched,) = launch(
        NetworkInterfaces=[
            {"DeviceIndex": 0, "SubnetId": subnet, "DeleteOnTermination": True, "Description": 'the "first" [one]'},
            {"DeviceIndex": 1, "SubnetId": subnet},
        ]
    )
    instance = launched["InstanceId"]
    wait(ec2, "instance_running", [instance])
    first, second = listed(ec2, instance)
    assert first["Description"] == 'the "first" [one]'
    assert {first["SubnetId"], second["SubnetId"]} == {subnet}
    assert [each["Attachment"]["DeviceIndex"] for each in (first, second)] == [0, 1]
    shown = described(ec2, instance)[0]["NetworkInterfaces"]
    assert [each["NetworkInterfaceId"] for each in shown] == [each["NetworkInterfaceId"] for each in (first, second)]
    assert [each["PrivateIpAddress"] for each in shown] == [each["PrivateIpAddress"] for each in (first, second)]
    named = {"NetworkInterfaceId": second["NetworkInterfaceId"]}
    ec2.modify_network_interface_attribute(**named, Description={"Value": "changed"})
    ec2.modify_network_interface_attribute(**named, SourceDestCheck={"Value": False})
    assert ec2.describe_network_interface_attribute(**named, Attribute="description")["Description"] == {
        "Value": "changed"
    }
    assert [each["SourceDestCheck"] for each in listed(ec2, instance)] == [True, False]
    with pytest.raises(ClientError) as raised:
        ec2.detach_network_interface(AttachmentId=first["Attachment"]["AttachmentId"])
    assert refusal(raised.value) == ("OperationNotPermitted", 400)
    ec2.detach_network_interface(AttachmentId=second["Attachment"]["AttachmentId"])
    until(lambda: len(listed(ec2, instance)) == 1, f"{named} to be detached", MAX_WAIT)
    with pytest.raises(ClientError) as raised:
        ec2.describe_network_interfaces(NetworkInterfaceIds=[second["NetworkInterfaceId"]])
    assert refusal(raised.value) == ("InvalidNetworkInterfaceID.NotFound", 400)
    assert listed(ec2, instance) == [first]


def test_an_address_is_given_to_one_instance(
    cloud: FurnishedCloud, ec2: Any, launch: Callable[..., list[dict[str, Any]]]
) -> None:
    subnet = f"subnet-{cloud.network:08d}"
    (first,) = launch(SubnetId=subnet)
    address = first["PrivateIpAddress"]
    refusals = []
    for wanted in (address, "192.0.2.1", "10.0.0.1 ; reboot"):
        with pytest.raises(ClientError) as raised:
            launch(SubnetId=subnet, PrivateIpAddress=wanted)
        refusals.append(refusal(raised.value)[0])
    assert refusals == ["InvalidIPAddress.InUse", "InvalidParameterValue", "InvalidParameterValue"]
    ec2.terminate_instances(InstanceIds=[first["InstanceId"]])
    wait(ec2, "instance_terminated", [first["InstanceId"]])
    (second,) = launch(SubnetId=subnet, PrivateIpAddress=address)
    assert second["PrivateIpAddress"] == address
    assert second["NetworkInterfaces"][0]["NetworkInterfaceId"] != first["NetworkInterfaces"][0]["NetworkInterfaceId"]
