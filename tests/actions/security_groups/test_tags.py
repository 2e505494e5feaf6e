"""Tags of security groups and of their rules."""

from __future__ import annotations

from typing import Any

from tests.actions.security_groups.groups import authorize, create, open_ports, rules_by_id, tcp
from tests.support.cloud import Cloud

TAGS = [{"Key": "env", "Value": "test"}]


def tags(cloud: Cloud) -> dict[tuple[str, str], str]:
    """Return all tags that are listed, by resource and key."""
    listed = cloud.run("alice", "DescribeTags")["Tags"]
    return {(tag["ResourceId"], tag["Key"]): tag["Value"] for tag in listed}


def test_groups_and_rules_are_tagged_and_untagged(cloud: Cloud) -> None:
    group = create(cloud)
    (rule,) = authorize(cloud, group, tcp(22))
    cloud.run("alice", "CreateTags", Resources=[group, rule], Tags=TAGS)
    assert tags(cloud) == {(group, "env"): "test", (rule, "env"): "test"}
    (described,) = cloud.run("alice", "DescribeSecurityGroups", GroupIds=[group])["SecurityGroups"]
    assert described["Tags"] == TAGS
    described = cloud.run("alice", "DescribeSecurityGroupRules", SecurityGroupRuleIds=[rule])["SecurityGroupRules"]
    assert described[0]["Tags"] == TAGS
    assert open_ports(cloud, group) == ["22"]
    of_rules: list[dict[str, Any]] = [{"Name": "resource-type", "Values": ["security-group-rule"]}]
    assert [tag["ResourceId"] for tag in cloud.run("alice", "DescribeTags", Filters=of_rules)["Tags"]] == [rule]
    cloud.run("alice", "DeleteTags", Resources=[group, rule], Tags=[{"Key": "env"}])
    assert tags(cloud) == {}


def test_a_rule_that_econed_has_not_written_is_tagged(cloud: Cloud) -> None:
    group = create(cloud)
    (rule,) = rules_by_id(cloud, group)
    cloud.run("alice", "CreateTags", Resources=[rule], Tags=TAGS)
    authorize(cloud, group, tcp(22))
    assert tags(cloud) == {(rule, "env"): "test"}


def test_groups_and_rules_of_others_are_not_there(cloud: Cloud) -> None:
    group = create(cloud)
    (rule,) = authorize(cloud, group, tcp(22))
    assert cloud.refusal("bob", "CreateTags", Resources=[group], Tags=TAGS).code == "InvalidGroup.NotFound"
    error = cloud.refusal("bob", "CreateTags", Resources=[rule], Tags=TAGS)
    assert error.code == "InvalidSecurityGroupRuleId.NotFound"
