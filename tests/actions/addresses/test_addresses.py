"""Elastic IPs: allocating, associating, disassociating, releasing, tagging."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.support.addresses import FIRST, FIRST_ID, NETWORK, SECOND, AddressCloud
from tests.support.cloud import Cloud


@pytest.fixture(params=["5.12", "7.4"])
def cloud(request: pytest.FixtureRequest) -> AddressCloud:
    """A new cloud with elastic IPs, of each form of oned."""
    return AddressCloud(request.param)


def both_forms(ip: str) -> list[dict[str, Any]]:
    """Return the two ways to name an address."""
    return [{"PublicIp": ip}, {"AllocationId": FIRST_ID}]


# Allocating


def test_an_allocated_address_is_described_and_held(cloud: AddressCloud) -> None:
    response = cloud.run("alice", "AllocateAddress")
    assert response == {
        "PublicIp": FIRST,
        "AllocationId": FIRST_ID,
        "Domain": "vpc",
        "PublicIpv4Pool": "amazon",
        "NetworkBorderGroup": "OpenNebula",
    }
    assert cloud.addresses() == {FIRST: response}
    assert cloud.held_addresses() == {FIRST}


@pytest.mark.parametrize("domain", ["vpc", "standard"])
def test_old_clients_may_request_the_domain_standard_and_get_vpc(domain: str) -> None:
    assert AddressCloud().run("alice", "AllocateAddress", Domain=domain)["Domain"] == "vpc"


def test_no_two_users_get_the_same_address_or_see_each_others(cloud: AddressCloud) -> None:
    alices, bobs = cloud.allocate("alice"), cloud.allocate("bob")
    assert alices != bobs
    assert set(cloud.addresses("alice")) == {alices}
    assert set(cloud.addresses("bob")) == {bobs}


def test_a_particular_address_can_be_requested(cloud: AddressCloud) -> None:
    assert cloud.run("alice", "AllocateAddress", Address="203.0.113.14")["PublicIp"] == "203.0.113.14"


@pytest.mark.parametrize("taken", [FIRST, "198.51.100.1"])
def test_an_address_of_another_user_is_the_same_error_as_one_outside_the_pool(cloud: AddressCloud, taken: str) -> None:
    cloud.allocate("bob")
    assert cloud.refusal("alice", "AllocateAddress", Address=taken).code == "InvalidAddress.NotFound"


@pytest.mark.parametrize("text", ["1.2.3", "203.0.113.256", "::1", FIRST_ID, "*"])
def test_a_text_that_is_not_an_address_is_an_invalid_value(text: str) -> None:
    """With Amazon's message, which names the parameter; no address is read."""
    cloud = AddressCloud()
    calls: list[tuple[str, dict[str, Any], str]] = [
        ("AllocateAddress", {"Address": text}, "Address"),
        ("DescribeAddresses", {"PublicIps": [text]}, "PublicIp"),
        ("AssociateAddress", {"PublicIp": text, "InstanceId": "i-00000000"}, "PublicIp"),
        ("DisassociateAddress", {"PublicIp": text}, "PublicIp"),
        ("ReleaseAddress", {"PublicIp": text}, "PublicIp"),
    ]
    for action, parameters, name in calls:
        refusal = cloud.refusal("alice", action, **parameters)
        assert (refusal.code, refusal.status) == ("InvalidParameterValue", 400)
        assert refusal.message == f"Invalid value '{text}' for {name}. Not a valid IPv4 address"


def test_the_limit_of_addresses_counts_each_user_alone(cloud: AddressCloud) -> None:
    cloud.allocate("bob")
    for _ in range(5):
        cloud.allocate("alice")
    assert cloud.refusal("alice", "AllocateAddress").code == "AddressLimitExceeded"
    cloud.run("alice", "ReleaseAddress", PublicIp=SECOND)
    assert cloud.allocate("alice") == SECOND


def test_an_exhausted_pool_is_an_error_and_a_released_address_is_available_at_once() -> None:
    cloud = AddressCloud(limit=20)
    for _ in range(8):
        cloud.allocate("alice")
    refusal = cloud.refusal("bob", "AllocateAddress")
    assert (refusal.code, refusal.status) == ("InsufficientAddressCapacity", 500)
    cloud.run("alice", "ReleaseAddress", PublicIp=FIRST)
    assert cloud.allocate("bob") == FIRST


def test_sdks_do_not_retry_an_exceeded_limit_or_a_network_without_addresses() -> None:
    """Their status is not 500: only a lack of addresses passes by itself."""
    refusal = AddressCloud(limit=0).refusal("alice", "AllocateAddress")
    assert (refusal.code, refusal.status) == ("AddressLimitExceeded", 400)
    empty = AddressCloud(network=2)
    network_id = empty.oneadmin("one.vn.allocate", 'NAME="empty"\nVN_MAD="dummy"\nBRIDGE="br9"', 0)
    assert network_id == empty.network
    refusal = empty.refusal("alice", "AllocateAddress")
    assert (refusal.code, refusal.status) == ("UnsupportedOperation", 400)
    refusal = AddressCloud(network=77).refusal("alice", "AllocateAddress")
    assert refusal.status == 400


def test_an_address_held_by_an_administrator_or_used_by_a_machine_is_left_alone(cloud: AddressCloud) -> None:
    cloud.oneadmin("one.vn.hold", NETWORK, f'LEASES=[IP="{FIRST}"]')
    cloud.oneadmin("one.template.instantiate", 0, "", False, f'NIC=[NETWORK_ID="{NETWORK}",IP="{SECOND}"]', False)
    assert cloud.allocate() == "203.0.113.12"
    assert cloud.refusal("alice", "AllocateAddress", Address=FIRST).code == "InvalidAddress.NotFound"
    cloud.clock.advance(10_000)
    cloud.reconcile()
    assert FIRST in cloud.held_addresses()


def test_addresses_of_larger_ranges_are_not_allocated(cloud: AddressCloud) -> None:
    """The Ruby server did not allocate them either; the daemon logs them at startup."""
    cloud.oneadmin("one.vn.add_ar", NETWORK, 'AR=[TYPE="IP4",IP="198.51.100.0",SIZE="4"]')
    assert cloud.refusal("alice", "AllocateAddress", Address="198.51.100.0").code == "InvalidAddress.NotFound"


def test_without_a_network_there_are_no_elastic_ips() -> None:
    cloud = Cloud()
    parameters: dict[str, Any] = {"PublicIp": FIRST}
    calls: list[tuple[str, dict[str, Any]]] = [
        ("AllocateAddress", {}),
        ("DescribeAddresses", {}),
        ("AssociateAddress", {**parameters, "InstanceId": "i-00000000"}),
        ("DisassociateAddress", parameters),
        ("ReleaseAddress", parameters),
    ]
    for action, parameters in calls:
        assert cloud.refusal("alice", action, **parameters).code == "UnsupportedOperation"


def test_dry_runs_change_no_address(cloud: AddressCloud) -> None:
    assert cloud.refusal("alice", "AllocateAddress", dry_run=True).code == "DryRunOperation"
    assert cloud.held_addresses() == set()
    ip, instance, _ = cloud.associate()
    before = cloud.pool().addresses
    for action, others in (("AssociateAddress", {"InstanceId": cloud.run_instance()}), ("DisassociateAddress", {})):
        assert cloud.refusal("alice", action, dry_run=True, PublicIp=ip, **others).code == "DryRunOperation"
    assert cloud.pool().addresses == before
    assert cloud.associations() == {ip: instance}


def test_only_serveradmin_changes_the_network(cloud: AddressCloud) -> None:
    ip, _, _ = cloud.associate()
    cloud.run("alice", "DisassociateAddress", PublicIp=ip)
    cloud.run("alice", "ReleaseAddress", PublicIp=ip)
    assert {call.user for call in cloud.changes if call.method.startswith("one.vn.")} == {"serveradmin"}
    methods = {call.method for call in cloud.changes if call.user == "serveradmin"}
    assert methods == {"one.vn.hold", "one.vn.release", "one.vn.update"}


# Listing


def test_addresses_are_listed_by_ip_and_allocation_id(cloud: AddressCloud) -> None:
    cloud.allocate()
    second = cloud.run("alice", "AllocateAddress")
    for parameters in ({"PublicIps": [SECOND]}, {"AllocationIds": [second["AllocationId"]]}):
        (address,) = cloud.run("alice", "DescribeAddresses", **parameters)["Addresses"]
        assert address["PublicIp"] == SECOND
    assert cloud.run("alice", "DescribeAddresses", PublicIps=[SECOND], AllocationIds=[FIRST_ID])["Addresses"] == []


@pytest.mark.parametrize("missing", [FIRST, "203.0.113.14", "198.51.100.1"])
def test_an_address_of_another_user_is_not_found(cloud: AddressCloud, missing: str) -> None:
    cloud.allocate("bob")
    assert cloud.refusal("alice", "DescribeAddresses", PublicIps=[missing]).code == "InvalidAddress.NotFound"
    assert cloud.refusal("alice", "ReleaseAddress", PublicIp=missing).code == "InvalidAddress.NotFound"
    assert cloud.refusal("alice", "DisassociateAddress", PublicIp=missing).code == "InvalidAddress.NotFound"


def test_ids_of_other_users_are_not_found_and_other_texts_are_malformed(cloud: AddressCloud) -> None:
    cloud.allocate("bob")
    assert cloud.refusal("alice", "ReleaseAddress", AllocationId=FIRST_ID).code == "InvalidAllocationID.NotFound"
    assert cloud.refusal("alice", "ReleaseAddress", AllocationId="eipalloc-4294967296").code == (
        "InvalidAllocationID.NotFound"
    )
    for text in ("eipalloc-x", "eipalloc-42949672960", "vol-00000001"):
        assert cloud.refusal("alice", "ReleaseAddress", AllocationId=text).code == "InvalidAllocationID.Malformed"
    for text in ("eipassoc-1", "eipassoc-999999999900000000000", FIRST_ID):
        refusal = cloud.refusal("alice", "DisassociateAddress", AssociationId=text)
        assert refusal.code == "InvalidAssociationID.Malformed"


def test_every_filter_matches_the_member_that_is_shown(cloud: AddressCloud) -> None:
    ip, _, _ = cloud.associate()
    other = cloud.allocate()
    cloud.run("alice", "CreateTags", Resources=[FIRST_ID], Tags=[{"Key": "Name", "Value": "web"}])
    address = cloud.addresses()[ip]
    for name, member in (
        ("allocation-id", "AllocationId"),
        ("association-id", "AssociationId"),
        ("instance-id", "InstanceId"),
        ("network-interface-id", "NetworkInterfaceId"),
        ("private-ip-address", "PrivateIpAddress"),
        ("public-ip", "PublicIp"),
    ):
        filters = [{"Name": name, "Values": [address[member]]}]
        assert cloud.run("alice", "DescribeAddresses", Filters=filters)["Addresses"] == [address], name
    for name, value, expected in (
        ("tag:Name", "w*", [ip]),
        ("tag-key", "Name", [ip]),
        ("domain", "vpc", [ip, other]),
        ("network-border-group", "OpenNebula", [ip, other]),
        ("network-interface-owner-id", "000000000002", [ip]),
        ("instance-id", "i-00009999", []),
    ):
        response = cloud.run("alice", "DescribeAddresses", Filters=[{"Name": name, "Values": [value]}])
        assert [address["PublicIp"] for address in response["Addresses"]] == expected, name
    unknown = [{"Name": "nonsense", "Values": ["x"]}]
    assert cloud.refusal("alice", "DescribeAddresses", Filters=unknown).code == "InvalidParameterValue"


def test_the_border_group_is_the_region_by_any_of_its_names(cloud: AddressCloud) -> None:
    """It is shown by the name that the request is signed for."""
    cloud.signed_region = "us-east-1"
    assert cloud.run("alice", "AllocateAddress")["NetworkBorderGroup"] == "us-east-1"
    (address,) = cloud.addresses().values()
    assert address["NetworkBorderGroup"] == "us-east-1"
    for name, expected in (("us-east-1", [address]), ("OpenNebula", [address]), ("eu-west-1", [])):
        filters = [{"Name": "network-border-group", "Values": [name]}]
        assert cloud.run("alice", "DescribeAddresses", Filters=filters)["Addresses"] == expected


def test_the_attributes_of_addresses_have_no_reverse_dns(cloud: AddressCloud) -> None:
    """Terraform requests them whenever it reads an address."""
    cloud.allocate()
    response = cloud.run("alice", "DescribeAddressesAttribute", AllocationIds=[FIRST_ID], Attribute="domain-name")
    assert response["Addresses"] == [{"PublicIp": FIRST, "AllocationId": FIRST_ID}]


# Associating


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
    interface = f"eni-{instance.removeprefix('i-')}000"
    cloud.run("alice", "AssociateAddress", PublicIp=ip, NetworkInterfaceId=interface)
    assert cloud.associations() == {ip: instance}
    assert cloud.addresses()[ip]["NetworkInterfaceId"] == interface
    for invalid, code in (("eni-99999999000", "NotFound"), ("eni-x", "Malformed"), (interface[:-1] + "7", "NotFound")):
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


# Scripts that fail


@pytest.mark.parametrize("how", ["failing", "broken"])
def test_nothing_is_associated_if_the_script_fails(cloud: AddressCloud, how: str) -> None:
    instance, ip = cloud.run_instance(), cloud.allocate()
    getattr(cloud.fake_scripts, how).add("associate")
    refusal = cloud.refusal("alice", "AssociateAddress", PublicIp=ip, InstanceId=instance)
    assert (refusal.code, refusal.status) == ("IncorrectState", 400)
    assert cloud.associations() == {}
    assert "PublicIpAddress" not in str(cloud.run("alice", "DescribeInstances"))
    getattr(cloud.fake_scripts, how).clear()
    cloud.run("alice", "AssociateAddress", PublicIp=ip, InstanceId=instance)
    assert cloud.associations() == {ip: instance}


def test_the_effect_of_a_killed_script_is_undone(cloud: AddressCloud) -> None:
    instance, ip = cloud.run_instance(), cloud.allocate()
    cloud.fake_scripts.broken.add("associate")
    cloud.refusal("alice", "AssociateAddress", PublicIp=ip, InstanceId=instance)
    cloud.reconcile()
    assert cloud.fake_scripts.runs[1:] == [("disassociate", ip, cloud.private_ip(instance))]
    cloud.reconcile()
    assert len(cloud.fake_scripts.runs) == 2


def test_the_effect_of_a_killed_script_is_undone_before_the_address_is_released(
    cloud: AddressCloud,
) -> None:
    instance, ip = cloud.run_instance(), cloud.allocate()
    cloud.fake_scripts.broken.add("associate")
    cloud.refusal("alice", "AssociateAddress", PublicIp=ip, InstanceId=instance)
    cloud.run("alice", "ReleaseAddress", PublicIp=ip)
    assert cloud.fake_scripts.runs[-1] == ("disassociate", ip, cloud.private_ip(instance))
    assert cloud.held_addresses() == set()


def test_an_association_is_kept_if_the_disassociate_script_fails(cloud: AddressCloud) -> None:
    ip, instance, association = cloud.associate()
    cloud.fake_scripts.failing.add("disassociate")
    other = cloud.run_instance()
    assert cloud.refusal("alice", "DisassociateAddress", PublicIp=ip).code == "IncorrectState"
    refusal = cloud.refusal("alice", "AssociateAddress", PublicIp=ip, InstanceId=other)
    assert refusal.code == "IncorrectState"
    assert cloud.associations() == {ip: instance}
    assert cloud.addresses()[ip]["AssociationId"] == association
    assert cloud.pool().claims == ()


def test_the_scripts_of_a_request_have_less_time_than_clients_wait(cloud: AddressCloud) -> None:
    ip, _, _ = cloud.associate()
    cloud.run("alice", "AssociateAddress", PublicIp=ip, InstanceId=cloud.run_instance())
    assert max(cloud.fake_scripts.seconds) <= 45


def test_without_scripts_associations_are_only_recorded() -> None:
    cloud = AddressCloud()
    cloud.scripts = Cloud().scripts
    ip, instance, _ = cloud.associate()
    assert cloud.associations() == {ip: instance}
    assert cloud.fake_scripts.runs == []


def test_instances_are_listed_without_the_network_of_elastic_ips() -> None:
    cloud = AddressCloud(network=99)
    instance = cloud.run_instance()
    (reservation,) = cloud.run("alice", "DescribeInstances")["Reservations"]
    assert reservation["Instances"][0]["InstanceId"] == instance


# Releasing


def test_an_associated_address_cannot_be_released(cloud: AddressCloud) -> None:
    ip, _, association = cloud.associate()
    for form in both_forms(ip):
        assert cloud.refusal("alice", "ReleaseAddress", **form).code == "InvalidIPAddress.InUse"
    cloud.run("alice", "DisassociateAddress", AssociationId=association)
    cloud.run("alice", "ReleaseAddress", PublicIp=ip)
    assert cloud.addresses() == {}
    assert cloud.held_addresses() == set()


def test_a_released_address_leaves_nothing_on_the_network(cloud: AddressCloud) -> None:
    cloud.oneadmin("one.vn.update", NETWORK, "", 1)  # oned itself adds some attributes at the first change
    before = cloud.oneadmin("one.vn.info", NETWORK, False)
    tags = [{"ResourceType": "elastic-ip", "Tags": [{"Key": "Name", "Value": "web"}]}]
    cloud.run("alice", "AllocateAddress", TagSpecifications=tags)
    assert cloud.oneadmin("one.vn.info", NETWORK, False) != before
    cloud.run("alice", "ReleaseAddress", AllocationId=FIRST_ID)
    assert cloud.oneadmin("one.vn.info", NETWORK, False) == before


# Tags


def test_addresses_are_tagged_at_allocation_and_later(cloud: AddressCloud) -> None:
    tags = [{"ResourceType": "elastic-ip", "Tags": [{"Key": "Name", "Value": "web"}]}]
    cloud.run("alice", "AllocateAddress", TagSpecifications=tags)
    cloud.run("alice", "CreateTags", Resources=[FIRST_ID], Tags=[{"Key": "über", "Value": ""}])
    assert cloud.addresses()[FIRST]["Tags"] == [{"Key": "Name", "Value": "web"}, {"Key": "über", "Value": ""}]
    listed = cloud.run("alice", "DescribeTags", Filters=[{"Name": "resource-type", "Values": ["elastic-ip"]}])["Tags"]
    assert [(tag["ResourceId"], tag["Key"]) for tag in listed] == [(FIRST_ID, "Name"), (FIRST_ID, "über")]
    cloud.run("alice", "DeleteTags", Resources=[FIRST_ID], Tags=[{"Key": "Name"}])
    assert [tag["Key"] for tag in cloud.addresses()[FIRST]["Tags"]] == ["über"]


def test_tags_of_addresses_of_other_users_are_neither_listed_nor_changed(cloud: AddressCloud) -> None:
    cloud.allocate("bob")
    refusal = cloud.refusal("alice", "CreateTags", Resources=[FIRST_ID], Tags=[{"Key": "a", "Value": "b"}])
    assert refusal.code == "InvalidAllocationID.NotFound"
    cloud.run("bob", "CreateTags", Resources=[FIRST_ID], Tags=[{"Key": "a", "Value": "b"}])
    assert cloud.run("alice", "DescribeTags")["Tags"] == []


def test_the_next_owner_of_an_address_does_not_get_its_tags(cloud: AddressCloud) -> None:
    cloud.allocate("alice")
    cloud.run("alice", "CreateTags", Resources=[FIRST_ID], Tags=[{"Key": "a", "Value": "b"}])
    cloud.run("alice", "ReleaseAddress", AllocationId=FIRST_ID)
    assert cloud.allocate("bob") == FIRST
    assert "Tags" not in cloud.addresses("bob")[FIRST]
