"""Rules of EC2 and the RULEs of OpenNebula that open exactly the same."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from econed.actions.security_groups.permissions import IpPermission, RuleRequest, requested_rule, requested_rules
from econed.actions.security_groups.rules import MAX_READ, TrafficRule, block_of, not_opened, read, written
from econed.errors import EC2Error
from tests.actions.security_groups.packets import Packet, drivers_allow, ec2_allows, packets, permissions


def rules_of(of_permissions: list[IpPermission], *, is_egress: bool = False) -> set[TrafficRule]:
    """Return the rules of permissions, any of which may be there more than once."""
    return {rule for permission in of_permissions for rule in requested_rules([permission], is_egress=is_egress)}


def permission(protocol: str, first: int = -1, last: int = -1, *blocks: str) -> IpPermission:
    """Return an IpPermission."""
    asked: IpPermission = {"IpProtocol": protocol, "FromPort": first, "ToPort": last}
    asked["IpRanges"] = [{"CidrIp": block} for block in blocks if ":" not in block]
    asked["Ipv6Ranges"] = [{"CidrIpv6": block} for block in blocks if ":" in block]
    return asked


def refused(asked: IpPermission) -> EC2Error:
    """Return the error for a permission that is refused."""
    with pytest.raises(EC2Error) as raised:
        requested_rules([asked], is_egress=False)
    return raised.value


@settings(deadline=None, max_examples=120)
@given(ingress=st.lists(permissions(), max_size=5), egress=st.lists(permissions(), max_size=3), packet=packets())
def test_the_rules_written_let_through_exactly_the_packets_that_were_allowed(
    ingress: list[IpPermission], egress: list[IpPermission], packet: Packet
) -> None:
    rules = rules_of(ingress) | rules_of(egress, is_egress=True)
    expected = ec2_allows(egress if packet.is_egress else ingress, packet)
    assert drivers_allow(written(rules), packet) == expected


@settings(deadline=None, max_examples=120)
@given(ingress=st.lists(permissions(), max_size=6), egress=st.lists(permissions(), max_size=3))
def test_the_rules_written_are_read_back_as_the_same(ingress: list[IpPermission], egress: list[IpPermission]) -> None:
    rules = rules_of(ingress) | rules_of(egress, is_egress=True)
    read_back, others = read(written(rules))
    assert not others
    assert _parts(read_back) == _parts(rules)


def _parts(rules: frozenset[TrafficRule] | set[TrafficRule]) -> set[TrafficRule]:
    return {part for rule in rules for part in rule.parts}


@given(asked=permissions())
def test_every_rule_that_a_request_may_name_is_possible(asked: IpPermission) -> None:
    assert all(rule.is_possible for rule in rules_of([asked]))


def test_all_ipv4_addresses_are_two_halves_that_open_no_ipv6() -> None:
    assert written(rules_of([permission("tcp", 22, 22, "0.0.0.0/0")])) == [
        {"PROTOCOL": "TCP", "RULE_TYPE": "inbound", "RANGE": "22", "IP": "0.0.0.0", "SIZE": "2147483648"},
        {"PROTOCOL": "TCP", "RULE_TYPE": "inbound", "RANGE": "22", "IP": "128.0.0.0", "SIZE": "2147483648"},
    ]


def test_all_addresses_of_both_families_are_one_rule_without_addresses() -> None:
    assert written(rules_of([permission("-1", -1, -1, "0.0.0.0/0", "::/0")])) == [
        {"PROTOCOL": "ALL", "RULE_TYPE": "inbound"}
    ]


def test_all_ipv6_addresses_alone_open_nothing() -> None:
    rules = rules_of([permission("tcp", 22, 22, "::/0"), permission("tcp", 23, 23, "0.0.0.0/0")])
    (rule,) = not_opened(rules)
    assert rule.first == 22
    assert [vector["RANGE"] for vector in written(rules)] == ["23", "23"]


def test_all_ports_are_no_range() -> None:
    assert "RANGE" not in written(rules_of([permission("udp", 0, 65535, "10.0.0.0/8")]))[0]


@pytest.mark.parametrize(("protocol", "name"), [("6", "tcp"), ("17", "udp"), ("TCP", "tcp"), ("50", "50")])
def test_protocols_have_names_and_numbers(protocol: str, name: str) -> None:
    (rule,) = rules_of([permission(protocol, 1, 2, "10.0.0.0/8")])
    assert rule.protocol == name


def test_ports_mean_nothing_for_all_protocols() -> None:
    """Terraform sends 0 and 0."""
    assert rules_of([permission("-1", 0, 0, "0.0.0.0/0")]) == rules_of([permission("-1", -1, -1, "0.0.0.0/0")])


def test_a_block_is_named_by_any_of_its_addresses() -> None:
    assert rules_of([permission("tcp", 0, 0, "100.68.0.18/18")]) == rules_of([permission("tcp", 0, 0, "100.68.0.0/18")])
    assert str(block_of("100.68.0.18/18")) == "100.68.0.0/18"


@pytest.mark.parametrize(
    ("asked", "code", "words"),
    [
        (permission("tcp", 22, 22, "10.0.0.0/33"), "InvalidParameterValue", "10.0.0.0/33 is malformed"),
        (permission("tcp", 22, 22, "10.0.0.0"), "InvalidParameterValue", "malformed"),
        (permission("tcp", 22, 22, "010.0.0.0/8"), "InvalidParameterValue", "malformed"),
        (permission("tcp", 22, 22, "10.0.0.0/8 "), "InvalidParameterValue", "malformed"),
        (permission("tcp", 22, 22, "::1%eth0/128"), "InvalidParameterValue", "malformed"),
        (permission("tcp", 90, 80, "10.0.0.0/8"), "InvalidParameterValue", "port range"),
        (permission("tcp", 0, 70000, "10.0.0.0/8"), "InvalidParameterValue", "port range"),
        (permission("tcp", -1, -1, "10.0.0.0/8"), "InvalidParameterValue", "port range"),
        ({"IpProtocol": "udp", "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}, "InvalidParameterValue", "from and to ports"),
        (permission("icmp", 256, -1, "10.0.0.0/8"), "InvalidParameterValue", "ICMP"),
        (permission("icmp", -1, 0, "10.0.0.0/8"), "InvalidParameterValue", "ICMP"),
        (permission("icmp", 3, 4, "10.0.0.0/8"), "UnsupportedOperation", "code 4 of type 3"),
        (permission("icmp", 3, 0, "10.0.0.0/8"), "UnsupportedOperation", "code -1"),
        (permission("icmp", -1, -1, "::/0"), "InvalidParameterValue", "icmp"),
        (permission("icmpv6", -1, -1, "10.0.0.0/8"), "InvalidParameterValue", "icmpv6"),
        (permission("tcp", 22, 22, "2001:db8::/64"), "UnsupportedOperation", "2^32"),
        (permission("tcp", 22, 22, "2001:db8::/96"), "UnsupportedOperation", "2^32"),
        (permission("47", -1, -1, "10.0.0.0/8"), "UnsupportedOperation", "protocol 47"),
        (permission("256", -1, -1, "10.0.0.0/8"), "InvalidParameterValue", "256"),
        (permission("ip", -1, -1, "10.0.0.0/8"), "InvalidParameterValue", "'ip'"),
        (permission("", -1, -1, "10.0.0.0/8"), "MissingParameter", "IpProtocol"),
        (permission("tcp", 22, 22), "MissingParameter", "IP range"),
        (permission("tcp", 22, 22, "10.0.0.0/8", "10.0.0.1/8"), "InvalidParameterValue", "multiple times"),
        ({"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": "sg-1"}]}, "UnsupportedOperation", "name addresses"),
        ({"IpProtocol": "-1", "PrefixListIds": [{"PrefixListId": "pl-1"}]}, "UnsupportedOperation", "prefix lists"),
        (
            {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "10.0.0.0/8", "Description": "a|b"}]},
            "InvalidParameterValue",
            "description",
        ),
        (
            {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "10.0.0.0/8", "Description": "a" * 256}]},
            "InvalidParameterValue",
            "description",
        ),
    ],
)
def test_what_ec2_or_opennebula_has_not_is_refused_with_the_reason(asked: IpPermission, code: str, words: str) -> None:
    error = refused(asked)
    assert error.code == code
    assert words in error.message


@pytest.mark.parametrize(
    "asked", [{"IpProtocol": "-1"}, {"IpProtocol": "-1", "CidrIpv4": "10.0.0.0/8", "CidrIpv6": "::1/128"}]
)
def test_a_single_rule_has_one_block(asked: RuleRequest) -> None:
    with pytest.raises(EC2Error):
        requested_rule(asked, is_egress=False)


def _texts(rules: frozenset[TrafficRule]) -> list[str]:
    return [rule.text for rule in sorted(rules, key=lambda rule: rule.key)]


def test_a_range_of_addresses_is_shown_as_its_blocks_and_ports_one_by_one() -> None:
    rules, others = read(
        [{"PROTOCOL": "tcp", "RULE_TYPE": "INBOUND", "RANGE": "22,80:90", "IP": "10.0.0.1", "SIZE": "3"}]
    )
    assert not others
    assert _texts(rules) == [
        "ingress tcp 22 22 10.0.0.1/32",
        "ingress tcp 22 22 10.0.0.2/31",
        "ingress tcp 80 90 10.0.0.1/32",
        "ingress tcp 80 90 10.0.0.2/31",
    ]


def test_a_range_that_runs_over_the_last_address_ends_there() -> None:
    rules, _ = read([{"PROTOCOL": "ALL", "RULE_TYPE": "outbound", "IP": "255.255.255.0", "SIZE": "1000"}])
    assert _texts(rules) == ["egress -1 -1 -1 255.255.255.0/24"]


def test_a_rule_without_addresses_is_shown_for_both_families_except_icmp() -> None:
    rules, _ = read([{"PROTOCOL": name, "RULE_TYPE": "inbound"} for name in ("IPSEC", "ICMP", "ICMPV6")])
    assert _texts(rules) == [
        "ingress 50 -1 -1 0.0.0.0/0",
        "ingress 50 -1 -1 ::/0",
        "ingress icmp -1 -1 0.0.0.0/0",
        "ingress icmpv6 -1 -1 ::/0",
    ]


@pytest.mark.parametrize(
    "members",
    [
        {"NETWORK_ID": "3"},
        {"NETWORK_ID": "3", "IP": "10.0.0.0", "SIZE": "8"},
        {"SIZE": "5"},
        {"IP": "10.0.0.0", "SIZE": "0"},
        {"IP": "10.0.0.0", "SIZE": "-1"},
        {"IP": "10.0.0.0"},
        {"IP": "house", "SIZE": "1"},
        {"RANGE": "70000"},
        {"RANGE": "90:80"},
        {"RANGE": "22, 80"},
        {"RANGE": ",".join(map(str, range(2 * MAX_READ)))},
        {"PROTOCOL": "GRE"},
        {"RULE_TYPE": "sideways"},
        {"PROTOCOL": "ICMP", "IP": "::1", "SIZE": "1"},
        {"PROTOCOL": "ICMP", "ICMP_TYPE": "999"},
    ],
)
def test_a_rule_that_is_none_of_ec2_is_kept(members: dict[str, str]) -> None:
    vector = {"PROTOCOL": "TCP", "RULE_TYPE": "inbound", **members}
    assert read([vector]) == (frozenset(), (vector,))


def test_the_rules_that_others_may_write_are_bounded() -> None:
    """Ports and blocks are multiplied."""
    ports = ",".join(map(str, range(30)))
    vectors = [
        {"PROTOCOL": "TCP", "RULE_TYPE": "inbound", "RANGE": ports, "IP": f"10.{number}.0.1", "SIZE": "4294967295"}
        for number in range(100)
    ]
    rules, others = read(vectors)
    assert 0 < len(rules) <= MAX_READ
    assert len(others) == len(vectors) - 1
