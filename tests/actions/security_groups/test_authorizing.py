"""Adding, removing, changing and describing rules."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from econed.actions.security_groups.store import MAX_RULES
from tests.actions.security_groups.groups import (
    ALL_OUT,
    authorize,
    create,
    document,
    open_ports,
    rules,
    rules_by_id,
    tcp,
)
from tests.support.cloud import Cloud, perform

ANYWHERE = ("0.0.0.0/0", "::/0")


def permissions(cloud: Cloud, group: str, member: str = "IpPermissions") -> list[dict[str, Any]]:
    """Return the permissions of a group that have addresses, without the empty lists."""
    (described,) = cloud.run("alice", "DescribeSecurityGroups", GroupIds=[group])["SecurityGroups"]
    return [{name: value for name, value in permission.items() if value != []} for permission in described[member]]


def test_what_is_authorized_is_read_back_the_same(cloud: Cloud) -> None:
    group = create(cloud)
    asked: list[dict[str, Any]] = [
        {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "192.0.2.0/24", "Description": "office (2)"}]},
        {"IpProtocol": "50", "IpRanges": [{"CidrIp": "198.51.100.1/32"}]},
        {"IpProtocol": "icmp", "FromPort": 8, "ToPort": 0, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]},
        {"IpProtocol": "icmpv6", "FromPort": -1, "ToPort": -1, "Ipv6Ranges": [{"CidrIpv6": "::/0"}]},
        {
            "IpProtocol": "tcp",
            "FromPort": 22,
            "ToPort": 22,
            "IpRanges": [{"CidrIp": "0.0.0.0/0", "Description": "a"}, {"CidrIp": "10.0.0.0/8"}],
            "Ipv6Ranges": [{"CidrIpv6": "::/0", "Description": "b"}],
        },
        {"IpProtocol": "udp", "FromPort": 0, "ToPort": 65535, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]},
    ]
    result = cloud.run("alice", "AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=asked)
    assert result["Return"] is True
    assert len(result["SecurityGroupRules"]) == 8
    assert permissions(cloud, group) == asked


def test_the_answer_has_the_rules_with_their_ids_and_tags(cloud: Cloud) -> None:
    group = create(cloud)
    tags = [{"ResourceType": "security-group-rule", "Tags": [{"Key": "k", "Value": "v"}]}]
    asked = [{**tcp(22), "IpRanges": [{"CidrIp": "10.0.0.0/8", "Description": "ssh"}]}]
    result = cloud.run(
        "alice", "AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=asked, TagSpecifications=tags
    )
    (rule,) = result["SecurityGroupRules"]
    assert rule == {
        "SecurityGroupRuleId": rule["SecurityGroupRuleId"],
        "GroupId": group,
        "GroupOwnerId": f"{cloud.user('alice').id:012d}",
        "IsEgress": False,
        "IpProtocol": "tcp",
        "FromPort": 22,
        "ToPort": 22,
        "CidrIpv4": "10.0.0.0/8",
        "Description": "ssh",
        "Tags": [{"Key": "k", "Value": "v"}],
    }
    ids = [rule["SecurityGroupRuleId"]]
    described = cloud.run("alice", "DescribeSecurityGroupRules", SecurityGroupRuleIds=ids)
    assert described["SecurityGroupRules"] == [rule]
    found = cloud.run("alice", "DescribeSecurityGroupRules", Filters=[{"Name": "tag:k", "Values": ["v"]}])
    assert found["SecurityGroupRules"] == [rule]


def test_the_tags_of_a_rule_go_with_it(cloud: Cloud) -> None:
    group = create(cloud)
    tags = [{"ResourceType": "security-group-rule", "Tags": [{"Key": "k", "Value": "v"}]}]
    change: dict[str, Any] = {"GroupId": group, "IpPermissions": [tcp(22)]}
    cloud.run("alice", "AuthorizeSecurityGroupIngress", **change, TagSpecifications=tags)
    cloud.run("alice", "RevokeSecurityGroupIngress", **change)
    (rule,) = cloud.run("alice", "AuthorizeSecurityGroupIngress", **change)["SecurityGroupRules"]
    assert rule["Tags"] == []
    assert not [name for name in document(cloud, group).template.names() if "TAG" in name]


def test_the_older_form_is_taken(cloud: Cloud) -> None:
    """Packer sends it with port 0, Flintrock with the group's name."""
    group = create(cloud)
    flat: dict[str, Any] = {"IpProtocol": "tcp", "FromPort": 0, "ToPort": 0, "CidrIp": "0.0.0.0/0"}
    cloud.run("alice", "AuthorizeSecurityGroupIngress", GroupName="web", **flat)
    cloud.run("alice", "AuthorizeSecurityGroupEgress", GroupId=group, **{**flat, "ToPort": 5})
    assert rules(cloud, group) == [ALL_OUT, "egress tcp 0 5 0.0.0.0/0", "ingress tcp 0 0 0.0.0.0/0"]
    assert permissions(cloud, group) == [
        {"IpProtocol": "tcp", "FromPort": 0, "ToPort": 0, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    ]
    cloud.run("alice", "RevokeSecurityGroupIngress", GroupName="web", **flat)
    both = cloud.refusal("alice", "RevokeSecurityGroupIngress", GroupId=group, IpPermissions=[tcp(1)], **flat)
    assert both.code == "InvalidParameterCombination"
    source = cloud.refusal("alice", "AuthorizeSecurityGroupIngress", GroupId=group, SourceSecurityGroupName="web")
    assert source.code == "UnsupportedOperation"


def test_a_rule_that_is_there_is_a_duplicate_and_nothing_is_added(cloud: Cloud) -> None:
    group = create(cloud)
    authorize(cloud, group, tcp(22))
    described = {**tcp(22), "IpRanges": [{"CidrIp": "10.1.1.1/8", "Description": "another"}]}
    change: dict[str, Any] = {"GroupId": group, "IpPermissions": [tcp(80), described]}
    assert cloud.refusal("alice", "AuthorizeSecurityGroupIngress", **change).code == "InvalidPermission.Duplicate"
    assert open_ports(cloud, group) == ["22"]
    authorize(cloud, group, tcp(22, "10.0.0.0/9"))


def test_rules_are_limited_in_each_direction(cloud: Cloud) -> None:
    group = create(cloud)
    authorize(cloud, group, *(tcp(port) for port in range(MAX_RULES)))
    change: dict[str, Any] = {"GroupId": group, "IpPermissions": [tcp(100)]}
    error = cloud.refusal("alice", "AuthorizeSecurityGroupIngress", **change)
    assert error.code == "RulesPerSecurityGroupLimitExceeded"
    cloud.run("alice", "AuthorizeSecurityGroupEgress", **change)
    assert len(open_ports(cloud, group)) == MAX_RULES
    cloud.run("alice", "RevokeSecurityGroupIngress", GroupId=group, IpPermissions=[tcp(0)])
    authorize(cloud, group, tcp(100))


def test_terraform_replaces_the_rule_of_a_new_group(cloud: Cloud) -> None:
    """Provider 5.x revokes the default rule, then ::/0, which it expects not to find, then adds its own rules."""
    group = create(cloud)
    everything = {"IpProtocol": "-1", "FromPort": 0, "ToPort": 0}
    change: dict[str, Any] = {
        "GroupId": group,
        "IpPermissions": [{**everything, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}],
    }
    revoked = cloud.run("alice", "RevokeSecurityGroupEgress", **change)["RevokedSecurityGroupRules"]
    assert [rule["CidrIpv4"] for rule in revoked] == ["0.0.0.0/0"]
    assert rules(cloud, group) == []
    assert document(cloud, group).rules == ()
    of_ipv6 = [{**everything, "Ipv6Ranges": [{"CidrIpv6": "::/0"}]}]
    error = cloud.refusal("alice", "RevokeSecurityGroupEgress", GroupId=group, IpPermissions=of_ipv6)
    assert error.code == "InvalidPermission.NotFound"
    cloud.run("alice", "AuthorizeSecurityGroupEgress", **change)
    assert rules(cloud, group) == [ALL_OUT]


def test_rules_are_revoked_by_their_ids(cloud: Cloud) -> None:
    group = create(cloud)
    first, second = authorize(cloud, group, tcp(22), tcp(80))
    change: dict[str, Any] = {"GroupId": group, "SecurityGroupRuleIds": [first]}
    error = cloud.refusal("alice", "RevokeSecurityGroupEgress", **change)
    assert error.code == "InvalidSecurityGroupRuleId.NotFound"
    (revoked,) = cloud.run("alice", "RevokeSecurityGroupIngress", **change)["RevokedSecurityGroupRules"]
    assert revoked["SecurityGroupRuleId"] == first
    assert open_ports(cloud, group) == ["80"]
    assert cloud.refusal("alice", "RevokeSecurityGroupIngress", **change).code == "InvalidSecurityGroupRuleId.NotFound"
    error = cloud.refusal("alice", "RevokeSecurityGroupIngress", GroupId=group, SecurityGroupRuleIds=["sgr-x"])
    assert error.code == "InvalidSecurityGroupRuleId.Malformed"
    assert cloud.refusal("alice", "RevokeSecurityGroupIngress", GroupId=group).code == "MissingParameter"
    both: dict[str, Any] = {"GroupId": group, "SecurityGroupRuleIds": [second], "IpPermissions": [tcp(80)]}
    assert cloud.refusal("alice", "RevokeSecurityGroupIngress", **both).code == "InvalidParameterCombination"


def test_a_rule_that_is_not_there_is_not_found_and_nothing_is_removed(cloud: Cloud) -> None:
    group = create(cloud)
    authorize(cloud, group, tcp(22))
    change: dict[str, Any] = {"GroupId": group, "IpPermissions": [tcp(22), tcp(80)]}
    assert cloud.refusal("alice", "RevokeSecurityGroupIngress", **change).code == "InvalidPermission.NotFound"
    assert open_ports(cloud, group) == ["22"]


def test_all_ipv6_addresses_are_possible_only_with_all_ipv4_addresses(cloud: Cloud) -> None:
    group = create(cloud)
    of_ipv6: dict[str, Any] = {"GroupId": group, "IpPermissions": [tcp(22, "::/0")]}
    of_ipv4: dict[str, Any] = {"GroupId": group, "IpPermissions": [tcp(22, "0.0.0.0/0")]}
    error = cloud.refusal("alice", "AuthorizeSecurityGroupIngress", **of_ipv6)
    assert error.code == "UnsupportedOperation"
    assert "0.0.0.0/0" in error.message
    cloud.run("alice", "AuthorizeSecurityGroupIngress", **of_ipv4)
    assert len(open_ports(cloud, group)) == 2
    cloud.run("alice", "AuthorizeSecurityGroupIngress", **of_ipv6)
    assert len(open_ports(cloud, group)) == 1
    assert cloud.refusal("alice", "RevokeSecurityGroupIngress", **of_ipv4).code == "UnsupportedOperation"
    cloud.run("alice", "RevokeSecurityGroupIngress", **of_ipv6)
    assert len(open_ports(cloud, group)) == 2
    authorize(cloud, group, tcp(80, *ANYWHERE))
    cloud.run("alice", "RevokeSecurityGroupIngress", GroupId=group, IpPermissions=[tcp(80, *ANYWHERE)])
    assert rules(cloud, group) == [ALL_OUT, "ingress tcp 22 22 0.0.0.0/0"]


def test_a_rule_for_all_ipv6_addresses_waits_for_a_request_for_the_ipv4_addresses(cloud: Cloud) -> None:
    """Terraform adds and removes both at once, each by a request of its own."""
    group = create(cloud)

    def concurrent(action: str, first: str, second: str) -> None:
        outcomes: list[Any] = []
        change = {"GroupId": group, "IpPermissions": [tcp(22, first)]}
        Deferred.fromCoroutine(perform(cloud.call_as("alice"), action, change)).addBoth(outcomes.append)
        cloud.clock.advance(1)
        assert not outcomes
        cloud.run("alice", action, GroupId=group, IpPermissions=[tcp(22, second)])
        cloud.clock.advance(1)
        assert [outcome["Return"] for outcome in outcomes] == [True]

    concurrent("AuthorizeSecurityGroupIngress", "::/0", "0.0.0.0/0")
    assert rules(cloud, group) == [ALL_OUT, "ingress tcp 22 22 0.0.0.0/0", "ingress tcp 22 22 ::/0"]
    concurrent("RevokeSecurityGroupIngress", "0.0.0.0/0", "::/0")
    assert rules(cloud, group) == [ALL_OUT]


def test_a_rule_is_modified_and_keeps_its_id(cloud: Cloud) -> None:
    group = create(cloud)
    first, second = authorize(cloud, group, tcp(22), tcp(80))
    changed = {"IpProtocol": "udp", "FromPort": 53, "ToPort": 53, "CidrIpv4": "10.0.0.0/8", "Description": "dns"}

    def modify(rule_id: str, rule: dict[str, Any]) -> dict[str, Any]:
        return {"GroupId": group, "SecurityGroupRules": [{"SecurityGroupRuleId": rule_id, "SecurityGroupRule": rule}]}

    assert cloud.run("alice", "ModifySecurityGroupRules", **modify(first, changed)) == {"Return": True}
    assert rules_by_id(cloud, group)[first] == "ingress udp 53 53 10.0.0.0/8"
    assert open_ports(cloud, group) == ["53", "80"]
    (third,) = authorize(cloud, group, tcp(22))
    assert third not in (first, second)
    assert cloud.refusal("alice", "ModifySecurityGroupRules", **modify(second, changed)).code == (
        "InvalidPermission.Duplicate"
    )
    for rule_id, code in (
        ("sgr-00000000000000000", "InvalidSecurityGroupRuleId.NotFound"),
        ("sgr", "InvalidSecurityGroupRuleId.Malformed"),
    ):
        assert cloud.refusal("alice", "ModifySecurityGroupRules", **modify(rule_id, changed)).code == code
    for key, value in (("ReferencedGroupId", group), ("PrefixListId", "pl-1")):
        error = cloud.refusal("alice", "ModifySecurityGroupRules", **modify(first, {"IpProtocol": "-1", key: value}))
        assert error.code == "UnsupportedOperation"
    twice: dict[str, Any] = {"GroupId": group, "SecurityGroupRules": modify(first, changed)["SecurityGroupRules"] * 2}
    assert cloud.refusal("alice", "ModifySecurityGroupRules", **twice).code == "InvalidParameterValue"


def test_descriptions_are_changed_and_removed_without_touching_the_rules(cloud: Cloud) -> None:
    group = create(cloud)
    (rule_id,) = authorize(cloud, group, tcp(22))
    before = document(cloud, group).rules

    def description() -> str | None:
        ids = [rule_id]
        (rule,) = cloud.run("alice", "DescribeSecurityGroupRules", SecurityGroupRuleIds=ids)["SecurityGroupRules"]
        text: str | None = rule.get("Description")
        return text

    update = "UpdateSecurityGroupRuleDescriptionsIngress"
    named = {**tcp(22), "IpRanges": [{"CidrIp": "10.0.0.0/8", "Description": "ssh"}]}
    assert cloud.run("alice", update, GroupId=group, IpPermissions=[named]) == {"Return": True}
    assert description() == "ssh"
    of_id = {"SecurityGroupRuleId": rule_id, "Description": "by id"}
    cloud.run("alice", update, GroupName="web", SecurityGroupRuleDescriptions=[of_id])
    assert description() == "by id"
    cloud.run("alice", update, GroupId=group, IpPermissions=[tcp(22)])
    assert description() is None
    assert document(cloud, group).rules == before
    error = cloud.refusal("alice", update, GroupId=group, IpPermissions=[tcp(80)])
    assert error.code == "InvalidPermission.NotFound"
    egress = "UpdateSecurityGroupRuleDescriptionsEgress"
    everything = [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0", "Description": "out"}]}]
    cloud.run("alice", egress, GroupId=group, IpPermissions=everything)
    assert permissions(cloud, group, "IpPermissionsEgress") == everything
    assert cloud.refusal("alice", egress, GroupId=group).code == "MissingParameter"


def test_rules_are_listed_in_pages_and_by_group(cloud: Cloud) -> None:
    group = create(cloud)
    authorize(cloud, group, *(tcp(port) for port in range(5)))
    first = cloud.run("alice", "DescribeSecurityGroupRules", MaxResults=6)
    rest = cloud.run("alice", "DescribeSecurityGroupRules", MaxResults=6, NextToken=first["NextToken"])
    ids = [rule["SecurityGroupRuleId"] for page in (first, rest) for rule in page["SecurityGroupRules"]]
    assert len(ids) == len(set(ids)) == 10
    assert set(rules_by_id(cloud, group)) <= set(ids)
    assert len(rules_by_id(cloud, group)) == 6
    assert rules_by_id(cloud, group, "bob") == {}
    unknown = cloud.refusal("alice", "DescribeSecurityGroupRules", SecurityGroupRuleIds=["sgr-0123456789abcdef0"])
    assert unknown.code == "InvalidSecurityGroupRuleId.NotFound"
    others = cloud.refusal("bob", "DescribeSecurityGroupRules", SecurityGroupRuleIds=[ids[-1]])
    assert others.code == "InvalidSecurityGroupRuleId.NotFound"


@pytest.mark.parametrize("action", ["AuthorizeSecurityGroupIngress", "RevokeSecurityGroupIngress"])
def test_a_request_that_opennebula_cannot_carry_out_changes_nothing(cloud: Cloud, action: str) -> None:
    group = create(cloud)
    made = len(cloud.changes)
    asked = [tcp(22), {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group}]}]
    assert cloud.refusal("alice", action, GroupId=group, IpPermissions=asked).code == "UnsupportedOperation"
    assert len(cloud.changes) == made
