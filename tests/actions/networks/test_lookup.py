"""Which networks are subnets and VPCs, and finding them by their ids."""

from __future__ import annotations

import pytest
from lxml import etree

from econed.actions.networks.lookup import DEFAULT_VPC as DEFAULT
from econed.actions.networks.lookup import Subnet, Vpc, find_subnets, find_vpc, read_networks, subnets
from econed.errors import EC2Error
from econed.ids import SUBNET, VPC
from econed.opennebula.documents import VirtualNetwork
from tests.actions.networks.networks import PRIVATE_SUBNET, network, reservation, vpc, with_elastic_ips
from tests.support.cloud import Cloud

DEFAULT_VPC = "vpc-9999999999"


def subnet_ids(cloud: Cloud, user: str = "alice") -> dict[str, str]:
    """Return the ids of the VPCs of a user's subnets, by the subnets' ids."""
    return {subnet.id: subnet.vpc.id for subnet in cloud.result(subnets(cloud.call_as(user)))}


def test_a_network_that_one_may_use_is_a_subnet_of_the_default_vpc(cloud: Cloud) -> None:
    assert subnet_ids(cloud) == {PRIVATE_SUBNET: DEFAULT_VPC}


def test_a_network_that_one_may_not_use_is_no_subnet(cloud: Cloud) -> None:
    network(cloud, "other", "", shared=False)
    assert subnet_ids(cloud) == {PRIVATE_SUBNET: DEFAULT_VPC}


def test_the_network_of_elastic_ips_is_no_subnet_although_all_may_use_it(cloud: Cloud) -> None:
    assert with_elastic_ips(cloud).settings.elasticips_vnet_id is not None
    assert subnet_ids(cloud) == {PRIVATE_SUBNET: DEFAULT_VPC}


def test_a_marked_network_is_a_vpc_and_its_reservations_are_its_subnets(cloud: Cloud) -> None:
    vpc_id = vpc(cloud)
    subnet_id = reservation(cloud, "alice", vpc_id, "subnet", "10.9.1.0")
    assert subnet_ids(cloud) == {PRIVATE_SUBNET: DEFAULT_VPC, SUBNET.format(subnet_id): VPC.format(vpc_id)}
    networks = cloud.result(read_networks(cloud.call_as("alice")))
    assert list(networks.vpcs) == [9999999999, vpc_id]
    assert networks.vpc_ids == {subnet_id: VPC.format(vpc_id)}
    assert str(networks.vpcs[vpc_id].cidr) == "10.9.0.0/16"
    assert [str(subnet.cidr) for subnet in networks.subnets] == ["10.0.0.0/16", "10.9.1.0/24"]


def test_a_reservation_that_is_shared_without_its_vpc_is_in_the_default_vpc(cloud: Cloud) -> None:
    vpc_id = vpc(cloud)
    subnet_id = reservation(cloud, "alice", vpc_id, "subnet", "10.9.1.0")
    cloud.as_user("alice", "one.vn.chmod", subnet_id, -1, -1, -1, -1, -1, -1, 1, -1, -1)
    cloud.oneadmin("one.vn.chmod", vpc_id, -1, -1, -1, -1, -1, -1, 0, -1, -1)
    assert subnet_ids(cloud, "bob")[SUBNET.format(subnet_id)] == DEFAULT_VPC


def test_a_reservation_that_its_owner_marks_is_no_vpc(cloud: Cloud) -> None:
    subnet_id = reservation(cloud, "alice", 0, "mine", "10.0.1.0")
    cloud.as_user("alice", "one.vn.update", subnet_id, 'EC2_VPC="YES"', 1)
    assert subnet_ids(cloud)[SUBNET.format(subnet_id)] == DEFAULT_VPC


def test_vpcs_are_found_by_id_and_no_id_is_the_default_vpc(cloud: Cloud) -> None:
    vpc_id = vpc(cloud)
    call = cloud.call_as("alice")
    for text, expected in ((VPC.format(vpc_id), VPC.format(vpc_id)), ("", DEFAULT_VPC), (DEFAULT_VPC, DEFAULT_VPC)):
        assert cloud.result(find_vpc(call, text)).id == expected


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("vpc", "InvalidVpcID.Malformed"),
        ("subnet-00000000", "InvalidVpcID.Malformed"),
        ("vpc-00000000", "InvalidVpcID.NotFound"),
        ("vpc-9999999998", "InvalidVpcID.NotFound"),
        ("vpc-0a1b2c3d", "InvalidVpcID.NotFound"),
    ],
)
def test_a_vpc_that_does_not_exist_is_not_found(text: str, code: str) -> None:
    """Network 0 exists, but is no VPC."""
    cloud = Cloud()
    with pytest.raises(EC2Error) as raised:
        cloud.result(find_vpc(cloud.call_as("alice"), text))
    assert raised.value.code == code


def test_a_vpc_that_one_may_not_use_is_not_found(cloud: Cloud) -> None:
    text = VPC.format(vpc(cloud, shared=False))
    with pytest.raises(EC2Error, match="NotFound"):
        cloud.result(find_vpc(cloud.call_as("alice"), text))


def test_subnets_are_found_by_id_in_the_order_of_the_request_and_each_once(cloud: Cloud) -> None:
    other = SUBNET.format(network(cloud, "other", ""))
    texts = [other, PRIVATE_SUBNET, "subnet-0"]
    assert [subnet.id for subnet in cloud.result(find_subnets(cloud.call_as("alice"), texts))] == texts[:2]


def test_all_subnets_that_do_not_exist_are_named(cloud: Cloud) -> None:
    """A VPC's network is no subnet."""
    cloud = with_elastic_ips(cloud)
    missing = [SUBNET.format(number) for number in (vpc(cloud), network(cloud, "other", "", shared=False), 1)]
    with pytest.raises(EC2Error) as raised:
        cloud.result(find_subnets(cloud.call_as("alice"), [PRIVATE_SUBNET, *missing]))
    assert raised.value.code == "InvalidSubnetID.NotFound"
    assert raised.value.message == f"The subnet IDs '{', '.join(missing)}' do not exist"


def test_nothing_is_read_for_an_id_that_is_malformed(cloud: Cloud) -> None:
    call = cloud.call_as("alice")
    before = len(cloud.oned.calls)
    with pytest.raises(EC2Error, match="Malformed"):
        cloud.result(find_subnets(call, [PRIVATE_SUBNET, "subnet-x"]))
    assert len(cloud.oned.calls) == before


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        *(("", "available"), ("1", "available"), ("6", "available")),
        *(("0", "pending"), ("2", "pending"), ("3", "pending"), ("5", "failed")),
    ],
)
def test_a_network_that_is_not_ready_is_not_available(state: str, shown: str) -> None:
    """Before 6.4 networks have no state."""
    element = etree.fromstring(f"<VNET><ID>7</ID><STATE>{state}</STATE></VNET>")
    network = VirtualNetwork(element)
    assert Subnet(network, DEFAULT).state == shown
    assert Vpc(7, network).is_available is (shown == "available")
