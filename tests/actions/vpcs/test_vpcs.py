"""CreateVpc, DeleteVpc and ModifyVpcAttribute."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.logger import capturedLogs

from econed.actions.vpcs import vpcs as vpc_actions
from econed.sandbox.objects.base import Kind
from tests.actions.networks.networks import without_rule
from tests.actions.vpcs.vpcs import TEMPLATE_TEXT, create_subnet, create_vpc, number, tags, template, with_template
from tests.support.cloud import Cloud

INDIVIDUAL = 0x100000000
"""The bit in a rule for one user, or one object."""


def groups(cloud: Cloud, vpc_id: str, user: str = "alice") -> list[dict[str, Any]]:
    """Return the security groups of a VPC."""
    filters = [{"Name": "vpc-id", "Values": [vpc_id]}]
    listed: list[dict[str, Any]] = cloud.run(user, "DescribeSecurityGroups", Filters=filters)["SecurityGroups"]
    return listed


def test_a_vpc_has_its_block_its_tags_and_becomes_available(cloud: Cloud) -> None:
    created = cloud.run("alice", "CreateVpc", CidrBlock="10.9.3.4/16", TagSpecifications=tags("vpc", Name="web"))["Vpc"]
    assert created["State"] == "pending"
    (vpc,) = cloud.run("alice", "DescribeVpcs", VpcIds=[created["VpcId"]])["Vpcs"]
    assert {**created, "State": "available"} == vpc
    assert (vpc["CidrBlock"], vpc["IsDefault"]) == ("10.9.0.0/16", False)
    assert vpc["Tags"] == [{"Key": "Name", "Value": "web"}]
    network = cloud.result(cloud.call_as("alice").session.network(number(vpc["VpcId"])))
    assert network.security_group_ids == ()
    assert (network.size, str(network.ipv4_block)) == (65536, "10.9.0.0/16")


def test_a_vpc_has_a_default_group_for_what_comes_from_its_block(cloud: Cloud) -> None:
    vpc_id = create_vpc(cloud)
    (group,) = groups(cloud, vpc_id)
    assert group["GroupName"] == "default"
    assert [(rule["IpProtocol"], rule["IpRanges"]) for rule in group["IpPermissions"]] == [
        ("-1", [{"CidrIp": "10.9.0.0/16"}])
    ]
    assert [rule["IpRanges"] for rule in group["IpPermissionsEgress"]] == [[{"CidrIp": "0.0.0.0/0"}]]
    assert cloud.refusal("alice", "DeleteSecurityGroup", GroupId=group["GroupId"]).code == "CannotDelete"


def test_two_vpcs_may_have_the_same_block_and_groups_of_the_same_name(cloud: Cloud) -> None:
    first, second = create_vpc(cloud), create_vpc(cloud)
    assert first != second
    for vpc_id in (first, second):
        cloud.run("alice", "CreateSecurityGroup", GroupName="web", Description="web", VpcId=vpc_id)
        assert sorted(str(group["GroupName"]) for group in groups(cloud, vpc_id)) == ["default", "web"]
    refusal = cloud.refusal("alice", "CreateSecurityGroup", GroupName="web", Description="web", VpcId=first)
    assert refusal.code == "InvalidGroup.Duplicate"


def test_a_vpc_goes_with_its_default_group(cloud: Cloud) -> None:
    vpc_id = create_vpc(cloud)
    cloud.run("alice", "DeleteVpc", VpcId=vpc_id)
    assert cloud.refusal("alice", "DescribeVpcs", VpcIds=[vpc_id]).code == "InvalidVpcID.NotFound"
    assert cloud.refusal("alice", "DeleteVpc", VpcId=vpc_id).code == "InvalidVpcID.NotFound"
    assert groups(cloud, vpc_id) == []


def test_a_vpc_with_a_subnet_or_another_group_is_not_deleted(cloud: Cloud) -> None:
    vpc_id = create_vpc(cloud)
    subnet_id = create_subnet(cloud, vpc_id)
    assert cloud.refusal("alice", "DeleteVpc", VpcId=vpc_id).code == "DependencyViolation"
    cloud.run("alice", "DeleteSubnet", SubnetId=subnet_id)
    group = cloud.run("alice", "CreateSecurityGroup", GroupName="web", Description="web", VpcId=vpc_id)["GroupId"]
    assert cloud.refusal("alice", "DeleteVpc", VpcId=vpc_id).code == "DependencyViolation"
    assert len(groups(cloud, vpc_id)) == 2
    cloud.run("alice", "DeleteSecurityGroup", GroupId=group)
    cloud.run("alice", "DeleteVpc", VpcId=vpc_id)


def test_the_default_vpc_and_those_of_others_are_not_deleted(cloud: Cloud) -> None:
    vpc_id = create_vpc(cloud)
    assert cloud.refusal("bob", "DeleteVpc", VpcId=vpc_id).code == "InvalidVpcID.NotFound"
    assert cloud.refusal("alice", "DeleteVpc", VpcId="vpc-9999999999").code == "UnsupportedOperation"
    cloud.as_user("alice", "one.vn.chmod", number(vpc_id), -1, -1, -1, -1, -1, -1, 1, -1, -1)
    assert cloud.refusal("bob", "DeleteVpc", VpcId=vpc_id).code == "UnauthorizedOperation"
    cloud.run("alice", "DescribeVpcs", VpcIds=[vpc_id])


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({}, "MissingParameter"),
        ({"CidrBlock": "10.0.0.0/8"}, "InvalidVpc.Range"),
        ({"CidrBlock": "10.9.0.0/16", "InstanceTenancy": "dedicated"}, "UnsupportedOperation"),
        ({"CidrBlock": "10.9.0.0/16", "AmazonProvidedIpv6CidrBlock": True}, "UnsupportedOperation"),
    ],
)
def test_what_cannot_be_had_is_refused_before_anything_is_made(
    cloud: Cloud, parameters: dict[str, Any], code: str
) -> None:
    assert cloud.refusal("alice", "CreateVpc", **parameters).code == code
    assert cloud.changes == []


def test_a_dry_run_makes_no_vpc(cloud: Cloud) -> None:
    assert cloud.refusal("alice", "CreateVpc", dry_run=True, CidrBlock="10.9.0.0/16").code == "DryRunOperation"
    assert cloud.changes == []


@pytest.mark.parametrize(
    "text", ["", f'{TEMPLATE_TEXT}\nAR=[TYPE="IP4",IP="10.9.0.0",SIZE="8"]', 'VN_MAD="dummy"\nEC2_VPC="NO"']
)
def test_without_a_usable_template_the_way_to_one_is_named(text: str) -> None:
    """A template of a user does not count, nor one that the caller may not USE."""
    cloud = without_rule(Cloud())
    template(cloud, "hidden", shared=False)
    of_bob = template(cloud, "bobs")
    cloud.oneadmin("one.vntemplate.chown", of_bob, cloud.user("bob").id, cloud.user("bob").gid)
    if text:
        template(cloud, "unusable", text)
    error = cloud.refusal("alice", "CreateVpc", CidrBlock="10.9.0.0/16")
    assert error.code == "UnsupportedOperation"
    assert "onevntemplate" in error.message


def test_a_user_has_a_limited_number_of_vpcs(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vpc_actions, "MAX_VPCS", 1)
    create_vpc(cloud)
    assert cloud.refusal("alice", "CreateVpc", CidrBlock="10.9.0.0/16").code == "VpcLimitExceeded"
    create_vpc(cloud, user="bob")


def test_names_of_instances_are_an_attribute_that_a_vpc_keeps(cloud: Cloud) -> None:
    """Ansible sets it for each VPC that it creates, and reads it until it is set."""
    vpc_id = create_vpc(cloud)
    named: dict[str, Any] = {"VpcId": vpc_id, "Attribute": "enableDnsHostnames"}
    assert cloud.run("alice", "DescribeVpcAttribute", **named)["EnableDnsHostnames"] == {"Value": False}
    for value in (True, False):
        cloud.run("alice", "ModifyVpcAttribute", VpcId=vpc_id, EnableDnsHostnames={"Value": value})
        assert cloud.run("alice", "DescribeVpcAttribute", **named)["EnableDnsHostnames"] == {"Value": value}
    change: dict[str, Any] = {"EnableDnsHostnames": {"Value": True}}
    for id_ in (vpc_id, "vpc-9999999999"):
        cloud.as_user("alice", "one.vn.chmod", number(vpc_id), -1, -1, -1, -1, -1, -1, 1, -1, -1)
        expected = "UnauthorizedOperation" if id_ == vpc_id else "UnsupportedOperation"
        assert cloud.refusal("bob", "ModifyVpcAttribute", VpcId=id_, **change).code == expected


@pytest.mark.parametrize(
    ("attribute", "value"), [("EnableDnsSupport", True), ("EnableNetworkAddressUsageMetrics", False)]
)
def test_attributes_of_a_vpc_can_be_set_to_what_they_are(cloud: Cloud, attribute: str, value: bool) -> None:
    for vpc_id in (create_vpc(cloud), "vpc-9999999999"):
        accepted: dict[str, Any] = {attribute: {"Value": value}}
        refused: dict[str, Any] = {attribute: {"Value": not value}}
        cloud.run("alice", "ModifyVpcAttribute", VpcId=vpc_id, **accepted)
        error = cloud.refusal("alice", "ModifyVpcAttribute", VpcId=vpc_id, **refused)
        assert error.code == "UnsupportedOperation"
    assert cloud.refusal("alice", "ModifyVpcAttribute", VpcId=vpc_id).code == "InvalidParameterCombination"


def test_who_may_delete_a_vpc_by_a_rule_does_not_lose_groups_of_their_own(cloud: Cloud) -> None:
    vpc_id = create_vpc(cloud)
    user, networks, rights = (INDIVIDUAL | cloud.user("bob").id, Kind.NET.bit | INDIVIDUAL | number(vpc_id), 3)
    cloud.oneadmin("one.acl.addrule", f"{user:x}", f"{networks:x}", f"{rights:x}")
    group = cloud.run("bob", "CreateSecurityGroup", GroupName="web", Description="web", VpcId=vpc_id)["GroupId"]
    cloud.run("bob", "DeleteVpc", VpcId=vpc_id)
    assert cloud.run("bob", "DescribeSecurityGroups", GroupIds=[group])["SecurityGroups"]


def test_the_first_network_of_an_opennebula_can_be_a_vpc(cloud: Cloud) -> None:
    """Its id is 0."""
    vpc_id = "vpc-00000000"
    cloud.oneadmin("one.vn.update", number(vpc_id), 'EC2_VPC="YES"\nSECURITY_GROUPS=""', 1)
    cloud.oneadmin("one.vn.chmod", number(vpc_id), -1, -1, -1, -1, -1, -1, 1, -1, -1)
    cloud.run("alice", "CreateSecurityGroup", GroupName="web", Description="web", VpcId=vpc_id)
    assert [group["GroupName"] for group in groups(cloud, vpc_id)] == ["web"]


def test_why_opennebula_cannot_make_a_network_is_in_the_log_only(monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = with_template(without_rule(Cloud()))
    text = 'AR=[TYPE="IP4",IP="10.9.0.0",SIZE="x"]\nEC2_CREATING="YES"'
    monkeypatch.setattr(vpc_actions, "vpc_text", lambda *_: text)
    with capturedLogs() as events:
        error = cloud.refusal("alice", "CreateVpc", CidrBlock="10.9.0.0/16")
    assert error.code == "UnsupportedOperation"
    (reason,) = (event["reason"] for event in events if "reason" in event)
    assert "SIZE" in reason
    assert "SIZE" not in error.message
    assert [vpc["IsDefault"] for vpc in cloud.run("alice", "DescribeVpcs")["Vpcs"]] == [True]
