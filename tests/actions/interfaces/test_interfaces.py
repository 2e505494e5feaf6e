"""Network interfaces: listing them, and changing and detaching those of one's own instances."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.addresses import AddressCloud
from tests.support.cloud import Cloud

_RIGHTS = (-1,) * 9


@pytest.fixture(params=["5.12", "7.4"])
def cloud(request: pytest.FixtureRequest) -> Cloud:
    return Cloud(version=request.param)


def instance(cloud: Cloud, *, nics: int = 1, user: str = "alice") -> str:
    """Return the id of a running instance with so many network interfaces."""
    text = "\n".join(['NIC=[NETWORK_ID="0"]'] * nics)
    machine_id = cloud.as_user(user, "one.template.instantiate", 0, "", False, text, False)
    cloud.wait(10)
    return f"i-{machine_id:08d}"


def interfaces(cloud: Cloud, user: str = "alice", **parameters: Any) -> list[dict[str, Any]]:
    """Return the network interfaces that a user sees."""
    return list(cloud.run(user, "DescribeNetworkInterfaces", **parameters)["NetworkInterfaces"])


def filtered(cloud: Cloud, name: str, *values: str) -> list[str]:
    """Return the ids of alice's interfaces that a filter selects."""
    found = interfaces(cloud, Filters=[{"Name": name, "Values": values}])
    return [interface["NetworkInterfaceId"] for interface in found]


def of_instance(cloud: Cloud, instance_id: str) -> dict[str, Any]:
    """Return an instance as DescribeInstances shows it to alice."""
    (reservation,) = cloud.run("alice", "DescribeInstances", InstanceIds=[instance_id])["Reservations"]
    return dict(reservation["Instances"][0])


def test_an_interface_is_shown_as_at_its_instance(cloud: Cloud) -> None:
    """With the members that only DescribeNetworkInterfaces has."""
    instance_id = instance(cloud)
    (shown,) = of_instance(cloud, instance_id)["NetworkInterfaces"]
    (interface,) = interfaces(cloud)
    added = {"InstanceId": instance_id, "InstanceOwnerId": interface["OwnerId"], "NetworkCardIndex": 0}
    assert interface["Attachment"] == {**shown["Attachment"], **added}
    assert {name: interface[name] for name in shown if name != "Attachment"} == {
        name: value for name, value in shown.items() if name != "Attachment"
    }
    assert interface["AvailabilityZone"] == of_instance(cloud, instance_id)["Placement"]["AvailabilityZone"]
    assert interface["PrivateDnsName"] == interface["PrivateIpAddress"]
    assert interface["VpcId"] == "vpc-9999999999"
    assert interface["RequesterManaged"] is False
    assert interface["TagSet"] == []


def test_interfaces_are_listed_by_instance_and_device_in_pages(cloud: Cloud) -> None:
    ids = [instance(cloud, nics=count) for count in (3, 1, 4)]
    everything = interfaces(cloud)
    positions = [(each["Attachment"]["InstanceId"], each["Attachment"]["DeviceIndex"]) for each in everything]
    assert positions == [
        (instance_id, index) for instance_id, count in zip(ids, (3, 1, 4), strict=True) for index in range(count)
    ]
    pages: list[list[dict[str, Any]]] = []
    token: str | None = None
    while token is not None or not pages:
        page: dict[str, Any] = {"MaxResults": 5} if token is None else {"MaxResults": 5, "NextToken": token}
        result = cloud.run("alice", "DescribeNetworkInterfaces", **page)
        pages.append(result["NetworkInterfaces"])
        token = result.get("NextToken")
    assert [len(page) for page in pages] == [5, 3]
    assert [interface for page in pages for interface in page] == everything


def test_an_interface_that_has_ended_is_not_listed(cloud: Cloud) -> None:
    instance_id = instance(cloud)
    (interface,) = interfaces(cloud)
    cloud.run("alice", "TerminateInstances", InstanceIds=[instance_id])
    cloud.wait(20)
    assert interfaces(cloud) == []
    refused = cloud.refusal("alice", "DescribeNetworkInterfaces", NetworkInterfaceIds=[interface["NetworkInterfaceId"]])
    assert refused.code == "InvalidNetworkInterfaceID.NotFound"


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("addresses.private-ip-address", ("PrivateIpAddress",)),
        ("attachment.attachment-id", ("Attachment", "AttachmentId")),
        ("attachment.instance-id", ("Attachment", "InstanceId")),
        ("mac-address", ("MacAddress",)),
        ("network-interface-id", ("NetworkInterfaceId",)),
        ("private-ip-address", ("PrivateIpAddress",)),
    ],
)
def test_filters_select_the_interface_with_a_value(cloud: Cloud, name: str, path: tuple[str, ...]) -> None:
    instance(cloud)
    instance(cloud)
    for interface in interfaces(cloud):
        value: Any = interface
        for member in path:
            value = value[member]
        assert filtered(cloud, name, value) == [interface["NetworkInterfaceId"]]


@pytest.mark.parametrize(
    ("name", "value", "other"),
    [
        ("attachment.status", "attached", "detached"),
        ("attachment.device-index", "0", "1"),
        ("availability-zone", "default", "elsewhere"),
        ("group-id", "sg-00000000", "sg-00000001"),
        ("group-name", "default", "other"),
        ("requester-managed", "false", "true"),
        ("status", "in-use", "available"),
        ("subnet-id", "subnet-00000000", "subnet-00000001"),
        ("vpc-id", "vpc-9999999999", "vpc-00000001"),
        ("source-dest-check", "true", "false"),
    ],
)
def test_filters_on_what_all_interfaces_have(cloud: Cloud, name: str, value: str, other: str) -> None:
    instance(cloud)
    assert len(filtered(cloud, name, value)) == 1
    assert filtered(cloud, name, other) == []


def test_a_filter_on_instances_reads_only_those(cloud: Cloud) -> None:
    ids = [instance(cloud) for _ in range(3)]
    before = len(cloud.oned.calls)
    assert len(filtered(cloud, "attachment.instance-id", ids[1], "i-99999999", "not an id")) == 1
    read = [call for call in list(cloud.oned.calls)[before:] if call.method.startswith("one.vmpool.")]
    assert [call.args[0] for call in read] == [f"{int(ids[1][2:])},99999999"]


def test_an_elastic_ip_is_shown_with_its_ids() -> None:
    cloud = AddressCloud()
    ip, instance_id, association = cloud.associate()
    (interface,) = interfaces(cloud)
    assert interface["Attachment"]["InstanceId"] == instance_id
    shown = interface["Association"]
    assert (shown["PublicIp"], shown["AssociationId"]) == (ip, association)
    assert shown["AllocationId"].startswith("eipalloc-")
    assert interface["PrivateIpAddresses"][0]["Association"] == shown
    for name in ("association.allocation-id", "association.association-id", "association.public-ip"):
        value = shown[{"allocation-id": "AllocationId", "association-id": "AssociationId"}.get(name[12:], "PublicIp")]
        assert filtered(cloud, name, value) == [interface["NetworkInterfaceId"]]
        assert described(cloud, f"network-interface.{name}", value) == [instance_id]
        assert described(cloud, f"network-interface.{name}", "other") == []


def test_an_instance_is_found_by_the_tags_of_its_interfaces() -> None:
    cloud = Cloud(vms=2)
    interface_id = interfaces(cloud)[1]["NetworkInterfaceId"]
    cloud.run("alice", "CreateTags", Resources=[interface_id], Tags=[{"Key": "env", "Value": "prod"}])
    for name, value in (("tag-key", "env"), ("tag-value", "pr*")):
        assert described(cloud, f"network-interface.{name}", value) == ["i-00000001"]
        assert described(cloud, f"network-interface.{name}", "other") == []
    cloud.run("alice", "DeleteTags", Resources=[interface_id], Tags=[{"Key": "env"}])
    assert described(cloud, "network-interface.tag-key", "env") == []


def described(cloud: Cloud, name: str, value: str) -> list[str]:
    """Return the ids of the instances with a value of a filter of DescribeInstances."""
    filters = [{"Name": name, "Values": [value]}]
    reservations = cloud.run("alice", "DescribeInstances", Filters=filters)["Reservations"]
    return [instance["InstanceId"] for reservation in reservations for instance in reservation["Instances"]]


def test_attributes_are_changed_and_read_back(cloud: Cloud) -> None:
    """Also texts that OpenNebula would change."""
    instance_id = instance(cloud)
    text = ' "quoted" $VARIABLE, [x]\\ <ü> '
    interface_id = interfaces(cloud)[0]["NetworkInterfaceId"]
    cloud.run("alice", "ModifyNetworkInterfaceAttribute", NetworkInterfaceId=interface_id, Description={"Value": text})
    cloud.run(
        "alice", "ModifyNetworkInterfaceAttribute", NetworkInterfaceId=interface_id, SourceDestCheck={"Value": False}
    )
    (interface,) = interfaces(cloud)
    assert (interface["Description"], interface["SourceDestCheck"]) == (text, False)
    shown = of_instance(cloud, instance_id)
    assert shown["SourceDestCheck"] is False
    assert shown["NetworkInterfaces"][0]["Description"] == text
    assert attribute(cloud, interface_id, "description")["Description"] == {"Value": text}
    assert attribute(cloud, interface_id, "sourceDestCheck")["SourceDestCheck"] == {"Value": False}
    assert attribute(cloud, interface_id, "attachment")["Attachment"] == interface["Attachment"]
    assert attribute(cloud, interface_id, "groupSet")["Groups"] == interface["Groups"]
    cloud.run(
        "alice", "ModifyNetworkInterfaceAttribute", NetworkInterfaceId=interface_id, SourceDestCheck={"Value": True}
    )
    assert interfaces(cloud)[0]["SourceDestCheck"] is True


def attribute(cloud: Cloud, interface_id: str, name: str) -> dict[str, Any]:
    """Return an attribute of one of alice's interfaces."""
    return cloud.run("alice", "DescribeNetworkInterfaceAttribute", NetworkInterfaceId=interface_id, Attribute=name)


def test_the_source_of_packets_cannot_be_free_where_the_network_filters_it(cloud: Cloud) -> None:
    cloud.oneadmin("one.vn.update", 0, 'FILTER_IP_SPOOFING="YES"', 1)
    instance(cloud)
    interface_id = interfaces(cloud)[0]["NetworkInterfaceId"]
    refused = cloud.refusal(
        "alice", "ModifyNetworkInterfaceAttribute", NetworkInterfaceId=interface_id, SourceDestCheck={"Value": False}
    )
    assert (refused.code, "FILTER_IP_SPOOFING" in refused.message) == ("UnsupportedOperation", True)
    cloud.run(
        "alice", "ModifyNetworkInterfaceAttribute", NetworkInterfaceId=interface_id, SourceDestCheck={"Value": True}
    )


def test_an_interface_is_deleted_with_its_instance_in_any_case(cloud: Cloud) -> None:
    instance(cloud)
    (interface,) = interfaces(cloud)
    named = {"NetworkInterfaceId": interface["NetworkInterfaceId"]}
    attachment = {"AttachmentId": interface["Attachment"]["AttachmentId"]}
    cloud.run(
        "alice", "ModifyNetworkInterfaceAttribute", **named, Attachment={**attachment, "DeleteOnTermination": True}
    )
    for changes, code in (
        ({**attachment, "DeleteOnTermination": False}, "UnsupportedOperation"),
        ({"AttachmentId": "eni-attach-00000000000000000", "DeleteOnTermination": True}, "InvalidAttachmentID.NotFound"),
    ):
        assert cloud.refusal("alice", "ModifyNetworkInterfaceAttribute", **named, Attachment=changes).code == code


def detach(interface: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters that detach an interface."""
    return {"AttachmentId": interface["Attachment"]["AttachmentId"]}


@pytest.mark.parametrize("is_running", [True, False])
def test_a_further_interface_is_detached_with_all_that_is_kept_about_it(cloud: Cloud, is_running: bool) -> None:
    instance_id = instance(cloud, nics=2)
    if not is_running:
        cloud.run("alice", "StopInstances", InstanceIds=[instance_id])
        cloud.wait(20)
    first, second = interfaces(cloud)
    for interface in (first, second):
        named = {"NetworkInterfaceId": interface["NetworkInterfaceId"]}
        cloud.run("alice", "ModifyNetworkInterfaceAttribute", **named, Description={"Value": "kept"})
    cloud.run("alice", "DetachNetworkInterface", **detach(second))
    cloud.wait(10)
    assert interfaces(cloud) == [{**first, "Description": "kept"}]
    (machine,) = cloud.result(cloud.call_as("alice").session.vms([int(instance_id[2:])]))
    digits = first["NetworkInterfaceId"].removeprefix("eni-").upper()
    kept = [name for name in machine.user_template.names() if name.startswith("EC2_NIC_")]
    assert kept == [f"EC2_NIC_{digits}_DESCRIPTION"]
    assert cloud.refusal("alice", "DetachNetworkInterface", **detach(second)).code == "InvalidAttachmentID.NotFound"


def test_the_first_interface_is_not_detached(cloud: Cloud) -> None:
    instance(cloud, nics=2)
    before = len(cloud.changes)
    refused = cloud.refusal("alice", "DetachNetworkInterface", **detach(interfaces(cloud)[0]))
    assert refused.code == "OperationNotPermitted"
    assert len(cloud.changes) == before


def test_an_interface_of_an_instance_that_is_not_running_or_stopped_is_not_detached(cloud: Cloud) -> None:
    instance_id = instance(cloud, nics=2)
    parameters = detach(interfaces(cloud)[1])
    cloud.as_user("alice", "one.vm.action", "suspend", int(instance_id[2:]))
    cloud.wait(20)
    assert cloud.refusal("alice", "DetachNetworkInterface", **parameters).code == "IncorrectState"


def test_only_who_may_manage_the_instance_changes_its_interfaces(cloud: Cloud) -> None:
    """Who may use it sees them."""
    instance_id = instance(cloud, nics=2)
    second = interfaces(cloud)[1]
    named = {"NetworkInterfaceId": second["NetworkInterfaceId"]}
    changes: tuple[tuple[str, dict[str, Any]], ...] = (
        ("ModifyNetworkInterfaceAttribute", {**named, "Description": {"Value": "mine"}}),
        ("DetachNetworkInterface", detach(second)),
    )
    assert interfaces(cloud, "bob") == []
    codes = ("InvalidNetworkInterfaceID.NotFound", "InvalidAttachmentID.NotFound")
    for (action, parameters), code in zip(changes, codes, strict=True):
        assert cloud.refusal("bob", action, **parameters).code == code
    cloud.as_user("alice", "one.vm.chmod", int(instance_id[2:]), -1, -1, -1, 1, *_RIGHTS[4:])
    before = len(cloud.changes)
    assert len(interfaces(cloud, "bob")) == 2
    for action, parameters in changes:
        assert cloud.refusal("bob", action, **parameters).code == "UnauthorizedOperation"
        assert cloud.refusal("bob", action, dry_run=True, **parameters).code == "UnauthorizedOperation"
        assert cloud.refusal("alice", action, dry_run=True, **parameters).code == "DryRunOperation"
    assert [call.method for call in cloud.changes[before:] if call.ok] == []
