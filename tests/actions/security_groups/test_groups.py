"""CreateSecurityGroup, DescribeSecurityGroups, DeleteSecurityGroup."""

from __future__ import annotations

from typing import Any

import pytest

from econed.actions.security_groups import groups as groups_module
from econed.actions.security_groups.names import opennebula_name
from econed.ids import DEFAULT_VPC_NUMBER
from tests.actions.networks.networks import vpc
from tests.actions.security_groups.groups import ALL_OUT, authorize, create, document, open_ports, rules, tcp
from tests.support.cloud import Cloud

TAGS = [{"ResourceType": "security-group", "Tags": [{"Key": "env", "Value": "test"}]}]


def described(cloud: Cloud, user: str = "alice", **parameters: Any) -> dict[str, dict[str, Any]]:
    """Return the groups that are listed, by name."""
    groups = cloud.run(user, "DescribeSecurityGroups", **parameters)["SecurityGroups"]
    return {group["GroupName"]: group for group in groups}


def found(cloud: Cloud, name: str, *values: str) -> list[str]:
    """Return the names of the groups that a filter finds."""
    return list(described(cloud, Filters=[{"Name": name, "Values": list(values)}]))


def test_a_new_group_allows_all_traffic_out_and_none_in(cloud: Cloud) -> None:
    created = cloud.run("alice", "CreateSecurityGroup", GroupName="web", Description="web servers")
    assert created == {"GroupId": "sg-00000100"}
    assert rules(cloud, "sg-00000100") == [ALL_OUT]
    group = described(cloud)["web"]
    assert group == {
        "GroupId": "sg-00000100",
        "GroupName": "web",
        "Description": "web servers",
        "OwnerId": f"{cloud.user('alice').id:012d}",
        "VpcId": "vpc-9999999999",
        "IpPermissions": [],
        "IpPermissionsEgress": [
            {
                "IpProtocol": "-1",
                "IpRanges": [{"CidrIp": "0.0.0.0/0"}],
                "Ipv6Ranges": [],
                "PrefixListIds": [],
                "UserIdGroupPairs": [],
            }
        ],
        "Tags": [],
    }


def test_the_default_group_is_shown_as_what_it_is(cloud: Cloud) -> None:
    """All traffic of both families, both ways; Buildbot asks for it by its name."""
    (group,) = described(cloud, GroupNames=["default"]).values()
    assert group["GroupId"] == "sg-00000000"
    assert rules(cloud, "sg-00000000") == [
        "egress -1 -1 -1 0.0.0.0/0",
        "egress -1 -1 -1 ::/0",
        "ingress -1 -1 -1 0.0.0.0/0",
        "ingress -1 -1 -1 ::/0",
    ]


@pytest.mark.parametrize("name", ["web:80", "a/b", "$x {y}", "#1;", "x" * 255, " padded ", "a&b"])
def test_names_that_opennebula_refuses_are_kept_beside(cloud: Cloud, name: str) -> None:
    group = create(cloud, name)
    assert list(described(cloud, GroupIds=[group])) == [name]
    assert list(described(cloud, GroupNames=[name])) == [name]
    assert cloud.refusal("alice", "CreateSecurityGroup", GroupName=name, Description="2").code == (
        "InvalidGroup.Duplicate"
    )


def test_a_group_that_is_renamed_in_opennebula_has_its_new_name(cloud: Cloud) -> None:
    group = create(cloud, "web:80")
    cloud.as_user("alice", "one.secgroup.rename", int(group[3:]), "other")
    assert list(described(cloud, GroupIds=[group])) == ["other"]


def test_names_are_unique_among_the_groups_of_an_owner(cloud: Cloud) -> None:
    create(cloud, "web")
    error = cloud.refusal("alice", "CreateSecurityGroup", GroupName="web", Description="again")
    assert error.code == "InvalidGroup.Duplicate"
    cloud.run("bob", "CreateSecurityGroup", GroupName="web", Description="of bob")
    create(cloud, "web2")


def test_names_are_unique_in_a_vpc_only(cloud: Cloud) -> None:
    own = f"vpc-{vpc(cloud):08d}"
    create(cloud, "web")
    group = create(cloud, "web", VpcId=own)
    assert cloud.refusal("alice", "CreateSecurityGroup", GroupName="web", Description="2", VpcId=own).code == (
        "InvalidGroup.Duplicate"
    )
    assert described(cloud, GroupIds=[group])["web"]["VpcId"] == own
    assert found(cloud, "vpc-id", own) == ["web"]
    assert described(cloud, GroupNames=["web"])["web"]["VpcId"] == "vpc-9999999999"


def test_two_names_never_have_the_same_name_in_opennebula() -> None:
    names = ["a/b", "a_b", "a:b", "x" * 255, "x" * 254, " a", "a"]
    numbers = (DEFAULT_VPC_NUMBER, 5)
    unique = {opennebula_name(name, number) for name in names for number in numbers}
    assert len(unique) == len(names) * len(numbers)
    assert all(len(name) <= 128 for name in unique)


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"GroupName": "default"}, "InvalidGroup.Reserved"),
        ({"GroupName": "Default"}, "InvalidGroup.Reserved"),
        ({"GroupName": "sg-1"}, "InvalidParameterValue"),
        ({"GroupName": "a|b"}, "InvalidParameterValue"),
        ({"GroupName": "ä"}, "InvalidParameterValue"),
        ({"GroupName": "x" * 256}, "InvalidParameterValue"),
        ({"Description": "a<b"}, "InvalidParameterValue"),
        ({"Description": "x" * 256}, "InvalidParameterValue"),
        ({"VpcId": "vpc-00000000"}, "InvalidVpcID.NotFound"),
        ({"VpcId": "vpc"}, "InvalidVpcID.Malformed"),
    ],
)
def test_what_ec2_refuses_is_refused(cloud: Cloud, parameters: dict[str, str], code: str) -> None:
    asked: dict[str, Any] = {"GroupName": "web", "Description": "web", **parameters}
    error = cloud.refusal("alice", "CreateSecurityGroup", **asked)
    assert error.code == code
    assert not cloud.changes


def test_an_empty_vpc_is_the_default_vpc(cloud: Cloud) -> None:
    """Packer sends it."""
    assert described(cloud, GroupIds=[create(cloud, VpcId="")])["web"]["VpcId"] == "vpc-9999999999"


def test_a_user_has_a_limited_number_of_groups(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups_module, "MAX_GROUPS", 1)
    create(cloud)
    error = cloud.refusal("alice", "CreateSecurityGroup", GroupName="two", Description="2")
    assert error.code == "SecurityGroupLimitExceeded"


def test_groups_are_found_by_filters(cloud: Cloud) -> None:
    group = create(cloud, TagSpecifications=TAGS)
    create(cloud, "other")
    authorize(cloud, group, {**tcp(22, "10.0.0.0/8", "2001:db8::1/128"), "ToPort": 23})
    owner = f"{cloud.user('alice').id:012d}"
    assert found(cloud, "description", "of a*") == ["web", "other"]
    assert found(cloud, "group-id", group) == ["web"]
    assert found(cloud, "group-name", "o*") == ["other"]
    assert found(cloud, "owner-id", owner) == ["web", "other"]
    assert found(cloud, "vpc-id", "vpc-9999999999") == ["default", "web", "other"]
    assert found(cloud, "tag:env", "test") == found(cloud, "tag-key", "env") == ["web"]
    assert found(cloud, "ip-permission.cidr", "10.0.0.0/8") == ["web"]
    assert found(cloud, "ip-permission.ipv6-cidr", "2001:db8::1/128") == ["web"]
    assert found(cloud, "ip-permission.from-port", "22") == found(cloud, "ip-permission.to-port", "23") == ["web"]
    assert found(cloud, "ip-permission.protocol", "tcp") == ["web"]
    assert found(cloud, "egress.ip-permission.cidr", "0.0.0.0/0") == ["default", "web", "other"]
    assert found(cloud, "egress.ip-permission.protocol", "-1") == ["default", "web", "other"]
    for name in ("group-id", "group-name", "user-id", "prefix-list-id"):
        assert found(cloud, f"ip-permission.{name}", "*") == []
    error = cloud.refusal("alice", "DescribeSecurityGroups", Filters=[{"Name": "colour", "Values": ["red"]}])
    assert error.code == "InvalidParameterValue"


def test_groups_are_listed_in_pages(cloud: Cloud) -> None:
    names = [f"group {number}" for number in range(7)]
    for name in names:
        create(cloud, name)
    first = cloud.run("alice", "DescribeSecurityGroups", MaxResults=5)
    rest = cloud.run("alice", "DescribeSecurityGroups", MaxResults=5, NextToken=first["NextToken"])
    listed = [group["GroupName"] for page in (first, rest) for group in page["SecurityGroups"]]
    assert listed == ["default", *names]
    assert "NextToken" not in rest


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"GroupIds": ["sg-00009999"]}, "InvalidGroup.NotFound"),
        ({"GroupIds": ["sg-0123456789abcdef0"]}, "InvalidGroup.NotFound"),
        ({"GroupIds": ["web"]}, "InvalidGroupId.Malformed"),
        ({"GroupNames": ["none"]}, "InvalidGroup.NotFound"),
        ({"GroupNames": ["default"], "MaxResults": 5}, "InvalidParameterCombination"),
    ],
)
def test_a_group_that_does_not_exist_is_not_found(cloud: Cloud, parameters: dict[str, Any], code: str) -> None:
    assert cloud.refusal("alice", "DescribeSecurityGroups", **parameters).code == code


def test_groups_of_others_are_not_there_until_they_may_be_used(cloud: Cloud) -> None:
    group = create(cloud)
    authorize(cloud, group, tcp(22))
    assert list(described(cloud, "bob")) == ["default"]
    change: dict[str, Any] = {"GroupId": group, "IpPermissions": [tcp(22)]}
    assert cloud.refusal("bob", "RevokeSecurityGroupIngress", **change).code == "InvalidGroup.NotFound"
    cloud.as_user("alice", "one.secgroup.chmod", int(group[3:]), -1, -1, -1, 1, -1, -1, -1, -1, -1)
    assert described(cloud, "bob")["web"]["OwnerId"] == f"{cloud.user('alice').id:012d}"
    before = document(cloud, group).template
    for dry_run in (True, False):
        error = cloud.refusal("bob", "RevokeSecurityGroupIngress", dry_run=dry_run, **change)
        assert error.code == "UnauthorizedOperation"
        assert cloud.refusal("bob", "DeleteSecurityGroup", dry_run=dry_run, GroupId=group).code == (
            "UnauthorizedOperation"
        )
    assert document(cloud, group).template == before


def test_of_several_groups_with_a_name_the_caller_s_own_is_meant(cloud: Cloud) -> None:
    group = create(cloud)
    cloud.as_user("alice", "one.secgroup.chmod", int(group[3:]), -1, -1, -1, 1, -1, -1, -1, -1, -1)
    own = cloud.run("bob", "CreateSecurityGroup", GroupName="web", Description="of bob")["GroupId"]
    assert described(cloud, "bob", GroupNames=["web"])["web"]["GroupId"] == own
    cloud.run("bob", "DeleteSecurityGroup", GroupName="web")
    assert described(cloud, "bob", GroupNames=["web"])["web"]["GroupId"] == group


def test_a_group_is_deleted_by_id_or_by_name(cloud: Cloud) -> None:
    group = create(cloud)
    assert cloud.run("alice", "DeleteSecurityGroup", GroupId=group) == {"Return": True, "GroupId": group}
    create(cloud)
    cloud.run("alice", "DeleteSecurityGroup", GroupName="web")
    assert list(described(cloud)) == ["default"]
    assert cloud.refusal("alice", "DeleteSecurityGroup", GroupId=group).code == "InvalidGroup.NotFound"
    assert cloud.refusal("alice", "DeleteSecurityGroup").code == "MissingParameter"
    both = cloud.refusal("alice", "DeleteSecurityGroup", GroupId=group, GroupName="web")
    assert both.code == "InvalidParameterCombination"


def test_the_default_group_cannot_be_deleted(cloud: Cloud) -> None:
    assert cloud.refusal("alice", "DeleteSecurityGroup", GroupName="default").code == "CannotDelete"


def _launch(cloud: Cloud, group: str) -> int:
    """Start a machine of alice in a group."""
    text = f'NIC=[NETWORK_ID="0",SECURITY_GROUPS="{int(group[3:])}"]'
    machine: int = cloud.as_user("alice", "one.template.instantiate", 0, "machine", False, text, False)
    cloud.wait(10)
    return machine


def test_a_group_that_a_machine_has_cannot_be_deleted(cloud: Cloud) -> None:
    group = create(cloud)
    machine = _launch(cloud, group)
    assert cloud.refusal("alice", "DeleteSecurityGroup", GroupId=group).code == "DependencyViolation"
    cloud.as_user("alice", "one.vm.action", "terminate-hard", machine)
    cloud.wait(10)
    cloud.run("alice", "DeleteSecurityGroup", GroupId=group)


def test_running_machines_get_the_rules_of_their_groups(cloud: Cloud) -> None:
    group = create(cloud)
    machine = _launch(cloud, group)
    authorize(cloud, group, tcp(22), tcp(80))
    cloud.run("alice", "RevokeSecurityGroupIngress", GroupId=group, IpPermissions=[tcp(80)])
    cloud.wait(10)
    assert open_ports(cloud, group) == ["22"]
    document_text = cloud.oneadmin("one.vm.info", machine, False)
    assert "<RANGE><![CDATA[22]]></RANGE>" in document_text
    assert "<RANGE><![CDATA[80]]></RANGE>" not in document_text


def test_a_dry_run_changes_nothing(cloud: Cloud) -> None:
    group = create(cloud)
    made = len(cloud.changes)
    calls: dict[str, dict[str, Any]] = {
        "CreateSecurityGroup": {"GroupName": "other", "Description": "other"},
        "DeleteSecurityGroup": {"GroupId": group},
        "AuthorizeSecurityGroupIngress": {"GroupId": group, "IpPermissions": [tcp(22)]},
    }
    for action, parameters in calls.items():
        assert cloud.refusal("alice", action, dry_run=True, **parameters).code == "DryRunOperation"
    assert len(cloud.changes) == made
