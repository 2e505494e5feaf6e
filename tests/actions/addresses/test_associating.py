"""Elastic IPs that are associated with instances, and disassociated."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.support.addresses import FIRST_ID, NETWORK, AddressCloud, both_forms


def test_an_address_is_associated_with_an_instance_by_the_script(cloud: AddressCloud) -> None:
    ip, instance, association = cloud.associate()
    private = cloud.private_ip(instance)
    assert cloud.fake_scripts.runs == [("associate", ip, private)]
    address = cloud.addresses()[ip]
    assert address["InstanceId"] == instance
    assert address["AssociationId"] == association
    assert address["PrivateIpAddress"] == private
    assert association.startswith("eipassoc-")


def test_a_script_gets_the_networks_document_as_oned_returns_it(cloud: AddressCloud) -> None:
    cloud.associate()
    (encoded,) = cloud.fake_scripts.documents
    assert "\n" not in encoded
    document = base64.b64decode(encoded, validate=True).decode()
    assert document.startswith("<VNET><ID>1</ID>")
    assert "<![CDATA[203.0.113.17]]>" in document


def test_a_document_too_long_for_an_argument_is_passed_without_address_ranges() -> None:
    cloud = AddressCloud()
    for number in range(300):
        cloud.oneadmin("one.vn.add_ar", NETWORK, f'AR=[TYPE="IP4",IP="198.51.{number // 2}.{number % 2}",SIZE="1"]')
    cloud.associate()
    (encoded,) = cloud.fake_scripts.documents
    assert len(encoded) < 1 << 17
    document = base64.b64decode(encoded).decode()
    assert "<NAME>ElasticIPs</NAME>" in document
    assert "<AR_POOL/>" in document


def test_instances_show_their_public_address(cloud: AddressCloud) -> None:
    ip, instance, _ = cloud.associate()
    other = cloud.run_instance()
    (reservation,) = cloud.run("alice", "DescribeInstances", InstanceIds=[instance])["Reservations"]
    described = reservation["Instances"][0]
    assert described["PublicIpAddress"] == ip
    (interface,) = described["NetworkInterfaces"]
    assert interface["Association"]["PublicIp"] == ip
    assert interface["PrivateIpAddresses"][0]["Association"]["PublicIp"] == ip
    (reservation,) = cloud.run("alice", "DescribeInstances", InstanceIds=[other])["Reservations"]
    assert "PublicIpAddress" not in reservation["Instances"][0]


@pytest.mark.parametrize(
    "name",
    [
        "ip-address",
        "network-interface.association.public-ip",
        "network-interface.addresses.association.public-ip",
    ],
)
def test_instances_are_found_by_their_public_address(name: str) -> None:
    cloud = AddressCloud()
    ip, instance, _ = cloud.associate()
    cloud.run_instance()
    reservations = cloud.run("alice", "DescribeInstances", Filters=[{"Name": name, "Values": [ip]}])["Reservations"]
    ids = [described["InstanceId"] for reservation in reservations for described in reservation["Instances"]]
    assert ids == [instance]


def test_addresses_are_associated_and_disassociated_by_both_forms_of_request(cloud: AddressCloud) -> None:
    instance, ip = cloud.run_instance(), cloud.allocate()
    for form in both_forms(ip):
        associated = cloud.run("alice", "AssociateAddress", InstanceId=instance, **form)
        assert cloud.associations() == {ip: instance}
        parameters = {"PublicIp": ip} if "PublicIp" in form else {"AssociationId": associated["AssociationId"]}
        cloud.run("alice", "DisassociateAddress", **parameters)
        assert cloud.associations() == {}
        assert cloud.fake_scripts.network == {}
    cloud.run("alice", "ReleaseAddress", AllocationId=FIRST_ID)
    assert cloud.held_addresses() == set()


def test_an_interface_can_be_named_instead_of_an_instance(cloud: AddressCloud) -> None:
    instance, ip = cloud.run_instance(), cloud.allocate()
    (reservation,) = cloud.run("alice", "DescribeInstances", InstanceIds=[instance])["Reservations"]
    interface = reservation["Instances"][0]["NetworkInterfaces"][0]["NetworkInterfaceId"]
    cloud.run("alice", "AssociateAddress", PublicIp=ip, NetworkInterfaceId=interface)
    assert cloud.associations() == {ip: instance}
    assert cloud.addresses()[ip]["NetworkInterfaceId"] == interface
    another = interface[:-1] + ("1" if interface.endswith("0") else "0")
    for invalid, code in (("eni-99999999000", "NotFound"), ("eni-x", "Malformed"), (another, "NotFound")):
        refusal = cloud.refusal("alice", "AssociateAddress", PublicIp=ip, NetworkInterfaceId=invalid)
        assert refusal.code == f"InvalidNetworkInterfaceID.{code}"


def test_the_private_address_must_be_one_of_the_instances(cloud: AddressCloud) -> None:
    instance, ip = cloud.run_instance(), cloud.allocate()
    parameters: dict[str, Any] = {"PublicIp": ip, "InstanceId": instance}
    cloud.run("alice", "AssociateAddress", PrivateIpAddress=cloud.private_ip(instance), **parameters)
    refusal = cloud.refusal("alice", "AssociateAddress", PrivateIpAddress="10.99.0.1", **parameters)
    assert refusal.code == "InvalidParameterValue"


def test_a_repeated_association_runs_no_script(cloud: AddressCloud) -> None:
    ip, instance, association = cloud.associate()
    again = cloud.run("alice", "AssociateAddress", PublicIp=ip, InstanceId=instance)
    assert again["AssociationId"] == association
    assert len(cloud.fake_scripts.runs) == 1


def test_an_address_is_disassociated_before_it_is_associated_with_another_instance(cloud: AddressCloud) -> None:
    ip, first, association = cloud.associate()
    second = cloud.run_instance()
    moved = cloud.run("alice", "AssociateAddress", PublicIp=ip, InstanceId=second)
    assert moved["AssociationId"] != association
    assert cloud.fake_scripts.runs[1:] == [
        ("disassociate", ip, cloud.private_ip(first)),
        ("associate", ip, cloud.private_ip(second)),
    ]
    assert cloud.associations() == {ip: second}


def test_an_earlier_association_id_does_not_end_a_later_association(cloud: AddressCloud) -> None:
    ip, instance, association = cloud.associate()
    cloud.run("alice", "DisassociateAddress", AssociationId=association)
    cloud.run("alice", "AssociateAddress", PublicIp=ip, InstanceId=instance)
    refusal = cloud.refusal("alice", "DisassociateAddress", AssociationId=association)
    assert refusal.code == "InvalidAssociationID.NotFound"
    assert cloud.associations() == {ip: instance}


def test_reassociation_can_be_refused(cloud: AddressCloud) -> None:
    ip, first, _ = cloud.associate()
    second, free = cloud.run_instance(), cloud.allocate()
    calls: list[dict[str, Any]] = [{"PublicIp": ip, "InstanceId": second}, {"PublicIp": free, "InstanceId": first}]
    for parameters in calls:
        refusal = cloud.refusal("alice", "AssociateAddress", AllowReassociation=False, **parameters)
        assert refusal.code == "Resource.AlreadyAssociated"
    assert cloud.associations() == {ip: first}


def test_an_instance_loses_its_address_to_another(cloud: AddressCloud) -> None:
    """A private address has one elastic IP at most (EC2, AssociateAddress)."""
    ip, instance, _ = cloud.associate()
    other = cloud.allocate()
    cloud.run("alice", "AssociateAddress", PublicIp=other, InstanceId=instance)
    assert cloud.associations() == {other: instance}
    assert cloud.fake_scripts.network == {other: cloud.private_ip(instance)}
    assert set(cloud.addresses()) == {ip, other}


def test_an_instance_that_the_caller_may_not_manage_gets_no_address(cloud: AddressCloud) -> None:
    theirs, ip = cloud.run_instance("bob"), cloud.allocate("alice")
    refusal = cloud.refusal("alice", "AssociateAddress", PublicIp=ip, InstanceId=theirs)
    assert refusal.code == "InvalidInstanceID.NotFound"
    cloud.oneadmin("one.vm.chmod", int(theirs[2:]), -1, -1, -1, 1, 0, 0, -1, -1, -1)
    refusal = cloud.refusal("alice", "AssociateAddress", PublicIp=ip, InstanceId=theirs)
    assert refusal.code == "UnauthorizedOperation"
    assert cloud.fake_scripts.runs == []
    cloud.oneadmin("one.vm.chmod", int(theirs[2:]), -1, -1, -1, 1, 1, 0, -1, -1, -1)
    cloud.run("alice", "AssociateAddress", PublicIp=ip, InstanceId=theirs)
    assert cloud.associations() == {ip: theirs}


def test_the_check_of_rights_leaves_no_attribute_on_the_machine(cloud: AddressCloud) -> None:
    ip, instance, _ = cloud.associate()
    assert ip not in cloud.oneadmin("one.vm.info", int(instance[2:]), False)
    assert "EC2_ADDRESS" not in cloud.oneadmin("one.vm.info", int(instance[2:]), False)


def test_a_terminated_instance_gets_no_address(cloud: AddressCloud) -> None:
    instance, ip = cloud.run_instance(), cloud.allocate()
    cloud.run("alice", "TerminateInstances", InstanceIds=[instance])
    cloud.wait(10)
    refusal = cloud.refusal("alice", "AssociateAddress", PublicIp=ip, InstanceId=instance)
    assert refusal.code == "IncorrectInstanceState"


def test_missing_and_conflicting_parameters_are_refused(cloud: AddressCloud) -> None:
    instance, ip = cloud.run_instance(), cloud.allocate()
    both: dict[str, Any] = {"PublicIp": ip, "AllocationId": FIRST_ID}
    calls: list[tuple[str, dict[str, Any], str]] = [
        ("AssociateAddress", {"PublicIp": ip}, "MissingParameter"),
        ("AssociateAddress", {"InstanceId": instance}, "MissingParameter"),
        ("AssociateAddress", {**both, "InstanceId": instance}, "InvalidParameterCombination"),
        ("ReleaseAddress", {}, "MissingParameter"),
        ("ReleaseAddress", both, "InvalidParameterCombination"),
        ("DisassociateAddress", {}, "MissingParameter"),
        ("DisassociateAddress", {"PublicIp": ip}, "InvalidAssociationID.NotFound"),
    ]
    for action, parameters, code in calls:
        assert cloud.refusal("alice", action, **parameters).code == code, (action, parameters)


def test_an_address_of_an_instance_that_its_user_does_not_see_is_in_use(cloud: AddressCloud) -> None:
    """Nothing says that the association has ended."""
    ip, instance, _ = cloud.associate()
    cloud.oneadmin("one.vm.chown", int(instance[2:]), cloud.user("bob").id, -1)
    assert cloud.refusal("alice", "ReleaseAddress", PublicIp=ip).code == "InvalidIPAddress.InUse"
    cloud.reconcile()
    assert cloud.associations() == {ip: instance}
