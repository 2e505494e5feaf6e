"""Terraform's AWS provider 5.x and 6.x: VPCs, subnets, security groups, their rules, and instances in them.

Each resource is created, read without a difference, changed, read again, and destroyed.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.e2e.terraform_networks import (
    Instance,
    Rule,
    RuleBlock,
    SecurityGroup,
    Subnet,
    Vpc,
    change_groups_of_instance,
    change_rule,
    change_security_group,
    change_tags,
    change_vpc,
    create_instance,
    create_rule,
    create_security_group,
    create_subnet,
    create_vpc,
    delete_instance,
    delete_rule,
    delete_security_group,
    delete_subnet,
    delete_vpc,
    differences,
    read_instance,
    read_rule,
    read_security_group,
    read_subnet,
    read_vpc,
)
from tests.e2e.test_networks import DEFAULT_VPC
from tests.support.clients import boto, refusal
from tests.support.econed_process import Econed, Person
from tests.support.furnished_cloud import FurnishedCloud

ANY_IPV4, ANY_IPV6 = frozenset({"0.0.0.0/0"}), frozenset({"::/0"})


def web(cloud: FurnishedCloud) -> SecurityGroup:
    """Return a group with rules of all kinds."""
    private = frozenset({"10.0.0.0/8", "192.168.0.0/16"})
    return SecurityGroup(
        name=f"web {cloud.prefix}",
        description="Managed by Terraform",
        vpc_id=DEFAULT_VPC,
        ingress=frozenset(
            {
                RuleBlock("tcp", 22, 22, private, description="ssh (office)"),
                RuleBlock("tcp", 443, 443, ANY_IPV4, ANY_IPV6),
                RuleBlock("icmp", 8, 0, ANY_IPV4),
                RuleBlock("icmpv6", -1, -1, ipv6_cidr_blocks=ANY_IPV6),
            }
        ),
        egress=frozenset({RuleBlock("-1", 0, 0, ANY_IPV4, ANY_IPV6)}),
        tags={"Name": "web", "port": "22"},
    )


def test_a_security_group_with_its_rules_is_created_read_changed_and_destroyed(cloud: FurnishedCloud, ec2: Any) -> None:
    configured = web(cloud)
    group = create_security_group(ec2, configured)
    assert differences(configured, read_security_group(ec2, group, configured)) == set()
    changed = replace(
        configured,
        ingress=frozenset({RuleBlock("tcp", 22, 23, frozenset({"10.0.0.0/8"}), description="both")}),
        egress=frozenset({RuleBlock("-1", 0, 0, ANY_IPV4)}),
        tags={"Name": "changed"},
    )
    assert differences(changed, read_security_group(ec2, group, changed)) == {"ingress", "egress", "tags"}
    change_security_group(ec2, group, configured, changed)
    assert differences(changed, read_security_group(ec2, group, changed)) == set()
    delete_security_group(ec2, group)


def test_rules_that_are_resources_of_their_own_are_created_read_changed_and_destroyed_at_once(
    cloud: FurnishedCloud, alice: Person, econed: Econed, ec2: Any
) -> None:
    """Those for all addresses of IPv4 and of IPv6 are two, in the example of the provider's documentation."""
    configured = SecurityGroup(f"separate {cloud.prefix}", "Managed by Terraform", DEFAULT_VPC)
    group = create_security_group(ec2, configured)
    rules = (
        Rule(group, "egress", "-1", cidr_ipv6="::/0"),
        Rule(group, "egress", "-1", cidr_ipv4="0.0.0.0/0"),
        Rule(group, "ingress", "tcp", "10.0.0.0/8", None, 22, 22, "ssh", {"Name": "ssh"}),
    )
    clients = [boto(alice, econed.url) for _ in rules]
    with ThreadPoolExecutor(len(rules)) as threads:
        ids = list(threads.map(create_rule, clients, rules))
        assert [differences(rule, read_rule(ec2, id_, rule)) for id_, rule in zip(ids, rules, strict=True)] == [
            set() for _ in rules
        ]
        changed = replace(rules[2], from_port=80, to_port=90, description="http", tags={})
        change_rule(ec2, ids[2], rules[2], changed)
        assert differences(changed, read_rule(ec2, ids[2], changed)) == set()
        list(threads.map(delete_rule, clients, reversed(ids), reversed(rules)))
    assert differences(configured, read_security_group(ec2, group, configured)) == set()
    delete_security_group(ec2, group)


def test_an_instance_with_groups_is_created_read_changed_and_destroyed(
    cloud: FurnishedCloud, filtering_econed: Econed, alice: Person, subnet_without_groups: str
) -> None:
    """Changing its groups takes attachsg, which OpenNebula 5.12 does not have."""
    ec2 = boto(alice, filtering_econed.url)
    first, second = (
        create_security_group(ec2, SecurityGroup(f"{name} {cloud.prefix}", "of an instance", DEFAULT_VPC))
        for name in ("one", "two")
    )
    image = f"ami-{cloud.ami:08d}"
    configured = Instance(image, cloud.instance_type, subnet_without_groups, frozenset({first}), {"Name": "web"})
    instance = create_instance(ec2, configured)
    assert differences(configured, read_instance(ec2, instance)) == set()
    changed = replace(configured, vpc_security_group_ids=frozenset({first, second}))
    if cloud.is_modern:
        change_groups_of_instance(ec2, instance, changed.vpc_security_group_ids)
        assert differences(changed, read_instance(ec2, instance)) == set()
    else:
        with pytest.raises(ClientError) as raised:
            change_groups_of_instance(ec2, instance, changed.vpc_security_group_ids)
        assert refusal(raised.value) == ("UnsupportedOperation", 400)
    delete_instance(ec2, instance)
    for group in (first, second):
        delete_security_group(ec2, group)


def test_a_vpc_with_subnets_and_a_group_is_created_read_changed_and_destroyed(cloud: FurnishedCloud, ec2: Any) -> None:
    configured = Vpc("10.20.0.0/16", enable_dns_hostnames=True, tags={"Name": "one", "gone": ""})
    vpc = create_vpc(ec2, configured)
    assert differences(configured, read_vpc(ec2, vpc)) == set()
    subnets = [Subnet(vpc, f"10.20.{number}.0/24", cloud.zone, tags={"Name": "a"}) for number in (1, 2)]
    ids = [create_subnet(ec2, subnet) for subnet in subnets]
    assert [differences(subnet, read_subnet(ec2, id_)) for subnet, id_ in zip(subnets, ids, strict=True)] == [set()] * 2
    rules = frozenset({RuleBlock("tcp", 22, 22, frozenset({configured.cidr_block}))})
    inside = SecurityGroup("inside", "Managed by Terraform", vpc, rules)
    group = create_security_group(ec2, inside)
    assert differences(inside, read_security_group(ec2, group, inside)) == set()

    changed = replace(configured, enable_dns_hostnames=False, tags={"Name": "two"})
    assert differences(changed, read_vpc(ec2, vpc)) == {"enable_dns_hostnames", "tags"}
    change_vpc(ec2, vpc, configured, changed)
    assert differences(changed, read_vpc(ec2, vpc)) == set()
    changed_subnet = replace(subnets[0], tags={"Name": "b"})
    change_tags(ec2, ids[0], subnets[0].tags, changed_subnet.tags)
    assert differences(changed_subnet, read_subnet(ec2, ids[0])) == set()

    delete_security_group(ec2, group)
    for id_ in ids:
        delete_subnet(ec2, id_)
    delete_vpc(ec2, vpc)
