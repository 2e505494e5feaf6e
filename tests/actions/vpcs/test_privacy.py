"""The rules of oned by which others could use a new network."""

from __future__ import annotations

import pytest
from lxml import etree

from econed.actions.vpcs.privacy import NewNetwork, opening_rule
from econed.opennebula.access import Group, Rule
from tests.actions.networks.networks import without_rule
from tests.actions.vpcs.vpcs import with_template
from tests.support.cloud import Cloud

ALICE, BOB, ADMIN, STAFF = 2, 3, 4, 1
USERS, OTHERS = 100, 101
NETWORK = NewNetwork(ALICE, USERS, (0,), 0)
GROUPS = tuple(
    Group(etree.fromstring(f"<GROUP><ID>{id_}</ID><USERS>{users}</USERS><ADMINS>{admins}</ADMINS></GROUP>"))
    for id_, users, admins in (
        (0, f"<ID>0</ID><ID>{STAFF}</ID>", ""),
        (USERS, f"<ID>{ALICE}</ID><ID>{BOB}</ID>", f"<ID>{ADMIN}</ID>"),
        (OTHERS, "", f"<ID>{BOB}</ID>"),
    )
)
EVERYBODY, GROUP, USER = 0x400000000, 0x200000000, 0x100000000
NET, VM = 0x4000000000, 0x1000000000
ANY_NET, NET_OF_GROUP, NET_IN_CLUSTER, ONE_NET = (NET | bit for bit in (0x400000000, 0x200000000, 0x800000000, USER))
USE, MANAGE, ADMINISTER, CREATE = 1, 2, 4, 8
EVERY_ZONE, THIS_ZONE, OTHER_ZONE = EVERYBODY, USER | 0, USER | 5


def rule(user: int, resource: int, rights: int, zone: int = THIS_ZONE) -> Rule:
    """Return a rule as oned shows it."""
    members = {"ID": 7, "USER": f"{user:x}", "RESOURCE": f"{resource:x}", "RIGHTS": f"{rights:x}", "ZONE": f"{zone:x}"}
    text = "".join(f"<{name}>{value}</{name}>" for name, value in members.items())
    return Rule(etree.fromstring(f"<ACL>{text}<STRING>a rule</STRING></ACL>"))


@pytest.mark.parametrize(
    "opening",
    [
        rule(EVERYBODY, ANY_NET, USE),
        rule(GROUP | USERS, ANY_NET, USE),
        rule(GROUP | OTHERS, ANY_NET, USE, EVERY_ZONE),
        rule(GROUP | USERS, ANY_NET | VM, MANAGE | CREATE),
        rule(USER | BOB, ANY_NET, ADMINISTER),
        rule(GROUP | USERS, NET_OF_GROUP | USERS, USE),
        rule(GROUP | OTHERS, NET_IN_CLUSTER | 0, USE),
        rule(USER | BOB, NET_OF_GROUP | USERS, MANAGE),
    ],
)
def test_a_rule_for_others_on_networks_like_it_opens_a_new_network(opening: Rule) -> None:
    harmless = rule(GROUP | USERS, ONE_NET | 3, USE)
    assert opening_rule(NETWORK, [harmless, opening], GROUPS) is opening


@pytest.mark.parametrize(
    "harmless",
    [
        rule(GROUP | USERS, ONE_NET | 3, USE),
        rule(GROUP | USERS, ANY_NET, CREATE),
        rule(GROUP | USERS, VM | 0x400000000, USE),
        rule(GROUP | USERS, ANY_NET, USE, OTHER_ZONE),
        rule(GROUP | OTHERS, NET_OF_GROUP | OTHERS, USE),
        rule(GROUP | OTHERS, NET_IN_CLUSTER | 1, USE),
        rule(USER | ALICE, ANY_NET, MANAGE),
        rule(USER | STAFF, ANY_NET, MANAGE),
        rule(GROUP | 0, ANY_NET, MANAGE),
        rule(USER | ADMIN, NET_OF_GROUP | USERS, MANAGE),
    ],
)
def test_a_rule_on_other_networks_or_for_those_who_have_the_rights_anyway_opens_none(harmless: Rule) -> None:
    assert opening_rule(NETWORK, [harmless], GROUPS) is None


def test_a_vpc_that_others_could_use_is_not_made() -> None:
    """The error names the rule, and the command that removes it; then the VPC is made."""
    open_cloud = with_template(Cloud())
    changes = len(open_cloud.changes)
    error = open_cloud.refusal("alice", "CreateVpc", CidrBlock="10.9.0.0/16")
    assert error.code == "UnsupportedOperation"
    rule_ids = [rule.id for rule in open_cloud.oned.cloud.rights.rules() if rule.resource & NET]
    assert any(f"rule {id_} (@" in error.message and f"'oneacl delete {id_}'" in error.message for id_ in rule_ids)
    assert len(open_cloud.changes) == changes
    without_rule(open_cloud).run("alice", "CreateVpc", CidrBlock="10.9.0.0/16")


@pytest.mark.parametrize("bits", [(1, 1, 1), (0, 0, 0)])
def test_a_vpc_and_its_subnets_are_private_whatever_the_umask_of_the_user(cloud: Cloud, bits: tuple[int, ...]) -> None:
    umask = "".join(str(7 * (1 - bit)) for bit in bits)
    cloud.oneadmin("one.user.update", cloud.user("alice").id, f'UMASK="{umask}"', 1)
    vpc_id = cloud.run("alice", "CreateVpc", CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    subnet_id = cloud.run("alice", "CreateSubnet", VpcId=vpc_id, CidrBlock="10.9.1.0/24")["Subnet"]["SubnetId"]
    assert cloud.refusal("bob", "DescribeSubnets", SubnetIds=[subnet_id]).code == "InvalidSubnetID.NotFound"
    assert cloud.refusal("bob", "DescribeVpcs", VpcIds=[vpc_id]).code == "InvalidVpcID.NotFound"
    networks = cloud.result(cloud.call_as("alice").session.networks())
    own = [network for network in networks if network.uid == cloud.user("alice").id]
    assert len(own) == 2
    assert not any(network.permissions.group or network.permissions.other for network in own)
