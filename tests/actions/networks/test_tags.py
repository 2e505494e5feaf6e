"""Tags of subnets and VPCs are attributes of their networks."""

from __future__ import annotations

from typing import Any

import pytest

from econed.ids import SUBNET, VPC
from tests.actions.networks.networks import PRIVATE_SUBNET, network, reservation, vpc, with_elastic_ips
from tests.support.cloud import Cloud

TAGS = [{"Key": "Name", "Value": 'web "1"'}, {"Key": "env", "Value": ""}]


def tags_in(cloud: Cloud, action: str, member: str, user: str = "alice", **parameters: Any) -> list[Any]:
    """Return the tags of the only resource in a list."""
    (resource,) = cloud.run(user, action, **parameters)[member]
    return list(resource.get("Tags", []))


def test_the_owner_of_a_subnet_tags_it_and_finds_it_by_its_tags(cloud: Cloud) -> None:
    subnet_id = SUBNET.format(reservation(cloud, "alice", 0, "own", "10.0.1.0"))
    cloud.run("alice", "CreateTags", Resources=[subnet_id], Tags=TAGS)
    filters = [{"Name": "tag:Name", "Values": ["web*"]}]
    assert tags_in(cloud, "DescribeSubnets", "Subnets", Filters=filters) == TAGS
    described = cloud.run("alice", "DescribeTags")["Tags"]
    assert described == [{"ResourceId": subnet_id, "ResourceType": "subnet", **tag} for tag in TAGS]
    cloud.run("alice", "DeleteTags", Resources=[subnet_id], Tags=[{"Key": "Name"}])
    assert tags_in(cloud, "DescribeSubnets", "Subnets", SubnetIds=[subnet_id]) == TAGS[1:]


def test_the_owner_of_a_vpc_tags_it(cloud: Cloud) -> None:
    number = vpc(cloud)
    cloud.oneadmin("one.vn.chown", number, cloud.user("alice").id, -1)
    cloud.run("alice", "CreateTags", Resources=[VPC.format(number)], Tags=TAGS)
    assert tags_in(cloud, "DescribeVpcs", "Vpcs", VpcIds=[VPC.format(number)]) == TAGS
    filters = [{"Name": "resource-type", "Values": ["vpc"]}]
    assert [tag["ResourceId"] for tag in cloud.run("alice", "DescribeTags", Filters=filters)["Tags"]] == [
        VPC.format(number)
    ] * 2


@pytest.mark.parametrize("action", ["CreateTags", "DeleteTags"])
def test_a_network_that_one_may_only_use_cannot_be_tagged(cloud: Cloud, action: str) -> None:
    """Oned refuses it; a dry run says so."""
    subnet_id, vpc_id = SUBNET.format(network(cloud, "shared", 'EC2_TAG_61=[KEY="a",VALUE=""]')), vpc(cloud)
    cloud.oneadmin("one.vn.update", vpc_id, 'EC2_TAG_61=[KEY="a",VALUE=""]', 1)
    for resource in (subnet_id, VPC.format(vpc_id)):
        for dry_run in (False, True):
            error = cloud.refusal("alice", action, dry_run=dry_run, Resources=[resource], Tags=[{"Key": "a"}])
            assert (error.code, error.status) == ("UnauthorizedOperation", 403)
    assert tags_in(cloud, "DescribeSubnets", "Subnets", SubnetIds=[subnet_id]) == [{"Key": "a", "Value": ""}]


def test_what_one_may_not_use_is_not_found_and_has_no_tags(cloud: Cloud) -> None:
    """The network of elastic IPs is no subnet either."""
    elastic = with_elastic_ips(cloud).settings.elasticips_vnet_id
    assert elastic is not None
    for resource, code in (
        (SUBNET.format(network(cloud, "hidden", "", shared=False)), "InvalidSubnetID.NotFound"),
        (SUBNET.format(elastic), "InvalidSubnetID.NotFound"),
        (VPC.format(vpc(cloud, shared=False)), "InvalidVpcID.NotFound"),
    ):
        before = len(cloud.changes)
        refused = cloud.refusal("alice", "CreateTags", Resources=[PRIVATE_SUBNET, resource], Tags=TAGS)
        assert refused.code == code
        assert cloud.changes[before:] == []


def test_the_default_vpc_keeps_no_tags(cloud: Cloud) -> None:
    error = cloud.refusal("alice", "CreateTags", Resources=["vpc-9999999999"], Tags=TAGS)
    assert error.code == "UnsupportedOperation"


def test_tags_are_limited(cloud: Cloud) -> None:
    subnet_id = SUBNET.format(reservation(cloud, "alice", 0, "own", "10.0.1.0"))
    tags = [{"Key": f"k{number}", "Value": ""} for number in range(51)]
    cloud.run("alice", "CreateTags", Resources=[subnet_id], Tags=tags[:50])
    assert cloud.refusal("alice", "CreateTags", Resources=[subnet_id], Tags=tags[50:]).code == "TagLimitExceeded"
