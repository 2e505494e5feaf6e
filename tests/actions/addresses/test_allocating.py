"""Elastic IPs that are allocated, within limits, and released."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.addresses import FIRST, FIRST_ID, NETWORK, SECOND, AddressCloud, both_forms
from tests.support.cloud import Cloud

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
