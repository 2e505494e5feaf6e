"""Elastic IPs that are listed, filtered and tagged."""

from __future__ import annotations

import pytest
from lxml import etree
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from econed.actions.addresses.records import Pool
from econed.actions.addresses.store import AddressStore
from econed.actions.shared_result import SharedResult
from econed.calls.queue import CallQueue
from econed.calls.turns import Owner
from econed.opennebula.session import Session
from tests.calls.manual_oned import ManualOned
from tests.support.addresses import FIRST, FIRST_ID, SECOND, AddressCloud

# Listing


def test_addresses_are_listed_by_ip_and_allocation_id(cloud: AddressCloud) -> None:
    cloud.allocate()
    second = cloud.run("alice", "AllocateAddress")
    for parameters in ({"PublicIps": [SECOND]}, {"AllocationIds": [second["AllocationId"]]}):
        (address,) = cloud.run("alice", "DescribeAddresses", **parameters)["Addresses"]
        assert address["PublicIp"] == SECOND
    assert cloud.run("alice", "DescribeAddresses", PublicIps=[SECOND], AllocationIds=[FIRST_ID])["Addresses"] == []


@pytest.mark.parametrize("action", ["DescribeAddresses", "DescribeInstances", "DescribeTags"])
def test_lists_read_the_network_without_its_leases(cloud: AddressCloud, action: str) -> None:
    cloud.allocate()
    cloud.run_instance()
    before = len(cloud.oned.calls)
    cloud.run("alice", action)
    made = list(cloud.oned.calls)[before:]
    methods = [call.method for call in made if call.method.startswith("one.vn") and call.user != "alice"]
    assert methods == ["one.vnpool.info"]
    assert "one.vn.info" not in {call.method for call in made}


def test_requests_whose_reads_are_one_call_share_the_pool() -> None:
    oned, clock, shared = ManualOned(), Clock(), SharedResult()
    queue = CallQueue(oned, 8, clock)
    pools: list[Pool] = []
    for user in range(3):
        store = AddressStore(Session(queue.share(Owner(user)), None), 3, clock, shared)
        Deferred.fromCoroutine(store.read_allocated()).addCallback(pools.append)
    for _ in range(2):
        oned.in_flight[0].reply.callback(etree.fromstring("<VNET_POOL><VNET><ID>3</ID></VNET></VNET_POOL>"))
    assert len(oned.sent) == 2
    assert pools[1] is pools[2]
    assert pools[0] is not pools[1]


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
