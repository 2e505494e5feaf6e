"""Elastic IPs that the Ruby server allocated, recorded on a real 5.12: three of two users, one associated."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from econed.actions.addresses.records import Address, LinkedAddress, Pool
from econed.opennebula.documents import VirtualNetwork
from tests.support.addresses import AddressCloud

DOCUMENT = Path(__file__).parents[2] / "data" / "legacy" / "elastic-ip-vnet.xml"
ASSOCIATED, FREE, BOBS = "172.16.0.10", "172.16.0.11", "172.16.0.12"
NEXT = "172.16.0.13"


@pytest.fixture(params=["5.12", "7.4"])
def cloud(request: pytest.FixtureRequest) -> AddressCloud:
    """A cloud with the recorded network, and machine 0, which the first address is associated with."""
    cloud = AddressCloud(request.param, network=2)
    network = VirtualNetwork(etree.parse(str(DOCUMENT)).getroot())
    ranges = [f'AR=[TYPE="IP4",IP="{range_.ip}",SIZE="{range_.size}"]' for range_ in network.address_ranges]
    text = "\n".join(['NAME="legacy"', 'VN_MAD="dummy"', 'BRIDGE="br1"', *ranges])
    assert cloud.oneadmin("one.vn.allocate", text, 0) == cloud.network
    cloud.wait(1)
    entries = [
        "EC2_ADDRESSES=[" + ",".join(f'{name}="{value}"' for name, value in entry.items()) + "]"
        for entry in network.template.vectors("EC2_ADDRESSES")
    ]
    cloud.oneadmin("one.vn.update", cloud.network, "\n".join(entries), 1)
    for range_ in network.address_ranges:
        for lease in range_.leases:
            cloud.oneadmin("one.vn.hold", cloud.network, f'LEASES=[IP="{lease.ip}"]')
    assert cloud.run_instance("alice") == "i-00000000"
    return cloud


def machine_id(address: Address) -> int | None:
    """Return the machine that an address is associated with."""
    return address.association.machine_id if isinstance(address, LinkedAddress) else None


def legacy_entries(cloud: AddressCloud) -> int:
    """Return how many entries of the Ruby server the network has."""
    return int(cloud.oneadmin("one.vn.info", cloud.network, False).count("<EC2_ADDRESSES>"))


def test_each_user_keeps_their_addresses(cloud: AddressCloud) -> None:
    assert (cloud.user("alice").id, cloud.user("bob").id) == (2, 3)
    assert set(cloud.addresses("alice")) == {ASSOCIATED, FREE}
    assert set(cloud.addresses("bob")) == {BOBS}
    assert cloud.associations("alice") == {ASSOCIATED: "i-00000000"}
    address = cloud.addresses("alice")[ASSOCIATED]
    assert address["PrivateIpAddress"] == cloud.private_ip("i-00000000")
    (reservation,) = cloud.run("alice", "DescribeInstances")["Reservations"]
    assert reservation["Instances"][0]["PublicIpAddress"] == ASSOCIATED


def test_no_legacy_address_is_allocated_to_another_user(cloud: AddressCloud) -> None:
    assert cloud.allocate("bob") == NEXT
    assert set(cloud.addresses("bob")) == {BOBS, NEXT}
    assert legacy_entries(cloud) == 3


@pytest.mark.parametrize("by", ["PublicIp", "AssociationId"])
def test_a_legacy_association_is_ended_with_the_private_address_that_the_ruby_server_used(
    cloud: AddressCloud, by: str
) -> None:
    value = ASSOCIATED if by == "PublicIp" else cloud.addresses()[ASSOCIATED]["AssociationId"]
    parameters: dict[str, Any] = {by: value}
    cloud.run("alice", "DisassociateAddress", **parameters)
    assert cloud.fake_scripts.runs == [("disassociate", ASSOCIATED, cloud.private_ip("i-00000000"))]
    assert cloud.associations("alice") == {}
    assert set(cloud.addresses("alice")) == {ASSOCIATED, FREE}
    assert set(cloud.addresses("bob")) == {BOBS}
    assert legacy_entries(cloud) == 3


def test_legacy_addresses_are_associated_with_instances(cloud: AddressCloud) -> None:
    instance = cloud.run_instance("alice")
    cloud.run("alice", "AssociateAddress", PublicIp=FREE, InstanceId=instance)
    assert cloud.associations("alice") == {ASSOCIATED: "i-00000000", FREE: instance}
    cloud.run("alice", "AssociateAddress", PublicIp=ASSOCIATED, InstanceId=instance)
    assert cloud.associations("alice") == {ASSOCIATED: instance}


def test_legacy_addresses_are_released_and_allocated_again(cloud: AddressCloud) -> None:
    assert cloud.refusal("alice", "ReleaseAddress", PublicIp=ASSOCIATED).code == "InvalidIPAddress.InUse"
    cloud.run("alice", "ReleaseAddress", PublicIp=FREE)
    assert set(cloud.addresses("alice")) == {ASSOCIATED}
    assert set(cloud.addresses("bob")) == {BOBS}
    assert FREE not in cloud.held_addresses()
    assert cloud.allocate("bob") == FREE
    assert set(cloud.addresses("alice")) == {ASSOCIATED}
    assert set(cloud.addresses("bob")) == {FREE, BOBS}
    cloud.run("bob", "ReleaseAddress", PublicIp=FREE)
    assert set(cloud.addresses("alice")) == {ASSOCIATED}
    cloud.oneadmin("one.vn.hold", cloud.network, f'LEASES=[IP="{FREE}"]')
    assert set(cloud.addresses("alice")) == {ASSOCIATED}, "holding a released address does not restore its owner"


def test_an_entry_whose_address_the_ruby_server_released_has_no_owner(cloud: AddressCloud) -> None:
    """It released the lease before it changed the entry, and may have died in between."""
    cloud.oneadmin("one.vn.release", cloud.network, f'LEASES=[IP="{FREE}"]')
    assert set(cloud.addresses("alice")) == {ASSOCIATED}
    assert cloud.run("bob", "AllocateAddress", Address=FREE)["PublicIp"] == FREE
    assert set(cloud.addresses("alice")) == {ASSOCIATED}


def test_legacy_addresses_are_tagged(cloud: AddressCloud) -> None:
    allocation = cloud.addresses("alice")[FREE]["AllocationId"]
    cloud.run("alice", "CreateTags", Resources=[allocation], Tags=[{"Key": "Name", "Value": "old"}])
    assert cloud.addresses("alice")[FREE]["Tags"] == [{"Key": "Name", "Value": "old"}]
    cloud.run("alice", "ReleaseAddress", AllocationId=allocation)
    assert cloud.run("bob", "AllocateAddress", Address=FREE)["PublicIp"] == FREE
    assert "Tags" not in cloud.addresses("bob")[FREE]


def test_legacy_addresses_count_towards_the_limit(cloud: AddressCloud) -> None:
    for _ in range(3):
        cloud.allocate("alice")
    assert cloud.refusal("alice", "AllocateAddress").code == "AddressLimitExceeded"


def test_a_legacy_association_ends_with_its_machine(cloud: AddressCloud) -> None:
    cloud.oneadmin("one.vm.action", "terminate-hard", 0)
    cloud.wait(10)
    cloud.reconcile()
    assert cloud.fake_scripts.runs == [("disassociate", ASSOCIATED, "10.0.0.10")]
    assert cloud.associations("alice") == {}
    assert set(cloud.addresses("alice")) == {ASSOCIATED, FREE}
    assert not isinstance(cloud.pool().addresses[IPv4Address(ASSOCIATED)], LinkedAddress)


def test_the_recorded_document_is_read() -> None:
    pool = Pool(VirtualNetwork(etree.parse(str(DOCUMENT)).getroot()))
    assert {str(ip): (address.uid, machine_id(address)) for ip, address in pool.addresses.items()} == {
        ASSOCIATED: (2, 0),
        FREE: (2, None),
        BOBS: (3, None),
    }
    assert pool.unusable_ranges == ()
