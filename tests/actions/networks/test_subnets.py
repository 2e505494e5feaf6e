"""DescribeSubnets lists the networks that the caller may USE."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from econed.ids import SUBNET, VPC, account_id
from tests.actions.networks.networks import PRIVATE_SUBNET, network, reservation, vpc, with_elastic_ips
from tests.support.cloud import Cloud

DEFAULT_VPC = "vpc-9999999999"


def subnets(cloud: Cloud, user: str = "alice", **parameters: Any) -> list[dict[str, Any]]:
    """Return the subnets that a user lists."""
    listed: list[dict[str, Any]] = cloud.run(user, "DescribeSubnets", **parameters)["Subnets"]
    return listed


def selected(cloud: Cloud, **filters: str) -> list[str]:
    """Return the ids of alice's subnets with these values of filters, whose names have `_` in place of `-`."""
    given = [{"Name": name.replace("_", "-"), "Values": [value]} for name, value in filters.items()]
    return [subnet["SubnetId"] for subnet in subnets(cloud, Filters=given)]


def test_a_subnet_has_every_member_that_clients_read(cloud: Cloud) -> None:
    (subnet,) = subnets(cloud)
    assert subnet == {
        "SubnetId": PRIVATE_SUBNET,
        "SubnetArn": f"arn:aws:ec2:OpenNebula:000000000000:subnet/{PRIVATE_SUBNET}",
        "VpcId": DEFAULT_VPC,
        "OwnerId": "000000000000",
        "State": "available",
        "CidrBlock": "10.0.0.0/16",
        "AvailableIpAddressCount": 65000,
        "AvailabilityZone": "default",
        "AvailabilityZoneId": "cluster-0",
        "DefaultForAz": True,
        "MapPublicIpOnLaunch": False,
        "MapCustomerOwnedIpOnLaunch": False,
        "AssignIpv6AddressOnCreation": False,
        "Ipv6CidrBlockAssociationSet": [],
        "Ipv6Native": False,
        "EnableDns64": False,
        "PrivateDnsNameOptionsOnLaunch": {
            "HostnameType": "ip-name",
            "EnableResourceNameDnsARecord": False,
            "EnableResourceNameDnsAAAARecord": False,
        },
        "BlockPublicAccessStates": {"InternetGatewayBlockMode": "off"},
    }


def test_addresses_in_use_and_held_ones_are_not_free(cloud: Cloud) -> None:
    """Also those of machines that the caller may not see, whose leases oned does not show."""
    cloud.run("bob", "RunInstances", ImageId="ami-00000000", MinCount=2, MaxCount=2)
    cloud.oneadmin("one.vn.hold", 0, 'LEASES=[IP="10.0.0.200"]')
    assert [subnet["AvailableIpAddressCount"] for subnet in subnets(cloud)] == [64997]


def test_leases_are_never_read(cloud: Cloud) -> None:
    before = len(cloud.oned.calls)
    subnets(cloud)
    methods = {call.method for call in list(cloud.oned.calls)[before:]}
    assert "one.vnpool.info" in methods
    assert "one.vn.info" not in methods
    assert [call.args[0] for call in cloud.oned.calls if call.method == "one.vnpool.info"] == [-2]


def test_a_subnet_of_another_owner_is_shown_with_that_owner(cloud: Cloud) -> None:
    subnet_id = reservation(cloud, "bob", 0, "shared", "10.0.1.0")
    assert selected(cloud) == [PRIVATE_SUBNET]
    cloud.as_user("bob", "one.vn.chmod", subnet_id, -1, -1, -1, -1, -1, -1, 1, -1, -1)
    assert selected(cloud, owner_id=account_id(cloud.user("bob").id)) == [SUBNET.format(subnet_id)]


def test_the_network_of_elastic_ips_is_neither_listed_nor_found(cloud: Cloud) -> None:
    network_id = with_elastic_ips(cloud).settings.elasticips_vnet_id
    assert network_id is not None
    assert selected(cloud) == [PRIVATE_SUBNET]
    assert cloud.refusal("alice", "DescribeSubnets", SubnetIds=[SUBNET.format(network_id)]).code == (
        "InvalidSubnetID.NotFound"
    )


def test_the_subnets_of_a_vpc_are_its_reservations(cloud: Cloud) -> None:
    """Their CIDR blocks are their own addresses, although the mask is that of the whole network."""
    vpc_id = vpc(cloud)
    subnet_id = reservation(cloud, "alice", vpc_id, "subnet", "10.9.1.0")
    assert selected(cloud, vpc_id=VPC.format(vpc_id)) == [SUBNET.format(subnet_id)]
    assert selected(cloud, cidr_block="10.9.1.0/24") == [SUBNET.format(subnet_id)]
    assert selected(cloud, vpc_id=DEFAULT_VPC) == [PRIVATE_SUBNET]


def test_the_first_network_of_the_administrator_in_a_zone_is_the_default_one(cloud: Cloud) -> None:
    """Ansible and others start instances there, so it is never the network of another user if there is another one."""
    cloud.oneadmin("one.vn.chown", 0, cloud.user("bob").id, -1)
    cloud.oneadmin("one.vn.chmod", 0, -1, -1, -1, -1, -1, -1, 1, -1, -1)
    assert selected(cloud, default_for_az="true") == [PRIVATE_SUBNET]
    own = reservation(cloud, "alice", 0, "own", "10.0.1.0")
    assert selected(cloud, default_for_az="true") == [SUBNET.format(own)]
    first, second = network(cloud, "first", ""), network(cloud, "second", "")
    assert selected(cloud, default_for_az="true") == [SUBNET.format(first)]
    assert SUBNET.format(second) in selected(cloud, default_for_az="false")


def test_a_subnet_of_a_vpc_is_not_the_default_one(cloud: Cloud) -> None:
    cloud.oneadmin("one.vn.chmod", 0, -1, -1, -1, 0, -1, -1, 0, -1, -1)
    reservation(cloud, "alice", vpc(cloud), "subnet", "10.9.1.0")
    assert selected(cloud, default_for_az="true") == []


def test_ansible_finds_the_default_subnet_by_its_spelling_of_filters(cloud: Cloud) -> None:
    filters = (("vpc-id", DEFAULT_VPC), ("state", "available"), ("default-for-az", "true"))
    for names in (filters, (("defaultForAz", "true"), ("availabilityZone", "default"), ("cidrBlock", "10.0.0.0/16"))):
        given = [{"Name": name, "Values": [value]} for name, value in names]
        assert [subnet["SubnetId"] for subnet in subnets(cloud, Filters=given)] == [PRIVATE_SUBNET]


def test_a_network_in_several_clusters_is_in_the_first_that_is_a_zone(cloud: Cloud) -> None:
    """Only `cluster_id` is a zone if it is configured."""
    east = int(cloud.oneadmin("one.cluster.allocate", "east"))
    cloud.oneadmin("one.cluster.addvnet", east, 0)
    for datastore in (0, 1):
        cloud.oneadmin("one.cluster.adddatastore", east, datastore)
    cloud.memory = cloud.new_memory()
    assert [subnet["AvailabilityZone"] for subnet in subnets(cloud)] == ["default"]
    cloud.settings = replace(cloud.settings, cluster_id=east)
    assert [(subnet["AvailabilityZone"], subnet["AvailabilityZoneId"]) for subnet in subnets(cloud)] == [
        ("east", f"cluster-{east}")
    ]


def test_a_network_in_no_zone_is_listed_without_one(cloud: Cloud) -> None:
    empty = int(cloud.oneadmin("one.cluster.allocate", "empty"))
    subnet_id = SUBNET.format(network(cloud, "remote", "", cluster=empty))
    cloud.memory = cloud.new_memory()
    (subnet,) = subnets(cloud, SubnetIds=[subnet_id])
    assert (subnet["AvailabilityZone"], subnet["DefaultForAz"]) == ("", False)
    assert "AvailabilityZoneId" not in subnet


def test_pages_follow_the_ids(cloud: Cloud) -> None:
    expected = [PRIVATE_SUBNET, *(SUBNET.format(network(cloud, f"net{number}", "")) for number in range(6))]
    first = cloud.run("alice", "DescribeSubnets", MaxResults=5)
    second = cloud.run("alice", "DescribeSubnets", MaxResults=5, NextToken=first["NextToken"])
    assert [subnet["SubnetId"] for page in (first, second) for subnet in page["Subnets"]] == expected
    assert "NextToken" not in second


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"SubnetIds": ["subnet-00000000", "subnet-99"]}, "InvalidSubnetID.NotFound"),
        ({"SubnetIds": ["vpc-00000000"]}, "InvalidSubnetID.Malformed"),
        ({"Filters": [{"Name": "no-such-filter", "Values": ["x"]}]}, "InvalidParameterValue"),
        ({"MaxResults": 4}, "InvalidParameterValue"),
        ({"MaxResults": 5, "SubnetIds": ["subnet-00000000"]}, "InvalidParameterCombination"),
        ({"NextToken": "x"}, "InvalidNextToken"),
    ],
)
def test_requests_that_cannot_be_answered_are_refused(parameters: dict[str, Any], code: str) -> None:
    assert Cloud().refusal("alice", "DescribeSubnets", **parameters).code == code
