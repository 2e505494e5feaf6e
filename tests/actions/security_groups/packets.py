"""What rules let through, as EC2 and as OpenNebula's drivers define it, independent of econed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from hypothesis import strategies as st

from econed.actions.security_groups.permissions import IpPermission

NUMBERS = {"tcp": 6, "udp": 17, "icmp": 1, "icmpv6": 58, "50": 50}
_OF_DRIVERS = {"TCP": 6, "UDP": 17, "ICMP": 1, "ICMPV6": 58, "IPSEC": 50}


@dataclass(frozen=True)
class Packet:
    """A packet to or from a machine: `number` is its port, or its ICMP type; `address` is the other side's."""

    is_egress: bool
    protocol: int
    number: int
    address: IPv4Address | IPv6Address


def ec2_allows(permissions: Iterable[IpPermission], packet: Packet) -> bool:
    """Whether IpPermissions of the packet's direction allow it (EC2 API Reference, IpPermission)."""
    return any(_permission_allows(permission, packet) for permission in permissions)


def _permission_allows(permission: IpPermission, packet: Packet) -> bool:
    protocol, first, last = permission["IpProtocol"], permission.get("FromPort", -1), permission.get("ToPort", -1)
    if protocol != "-1" and NUMBERS[protocol] != packet.protocol:
        return False
    if protocol in ("tcp", "udp") and not first <= packet.number <= last:
        return False
    if protocol in ("icmp", "icmpv6") and first not in (-1, packet.number):
        return False
    blocks = [entry["CidrIp"] for entry in permission.get("IpRanges", ())]
    blocks += [entry["CidrIpv6"] for entry in permission.get("Ipv6Ranges", ())]
    return any(_contains(block, packet.address) for block in blocks)


def _contains(block: str, address: IPv4Address | IPv6Address) -> bool:
    first, _, length = block.partition("/")
    start = ip_address(first)
    shift = start.max_prefixlen - int(length)
    return start.version == address.version and int(start) >> shift == int(address) >> shift


def drivers_allow(rules: Iterable[Mapping[str, str]], packet: Packet) -> bool:
    """Whether RULEs allow a packet, as OpenNebula's security_groups_iptables.rb carries them out.

    Without IP a RULE is in the tables of both families, except ICMP and ICMPV6; with IP in that of the address.
    """
    return any(_rule_allows(rule, packet) for rule in rules)


def _rule_allows(rule: Mapping[str, str], packet: Packet) -> bool:
    if (rule["RULE_TYPE"].upper() == "OUTBOUND") != packet.is_egress:
        return False
    protocol = rule["PROTOCOL"].upper()
    if protocol != "ALL" and _OF_DRIVERS[protocol] != packet.protocol:
        return False
    if protocol in ("ICMP", "ICMPV6") and packet.address.version != (4 if protocol == "ICMP" else 6):
        return False
    icmp_type = rule.get("ICMP_TYPE") or rule.get("ICMPV6_TYPE")
    if icmp_type and int(icmp_type) != packet.number:
        return False
    if rule.get("RANGE") and not any(_in_range(part, packet.number) for part in rule["RANGE"].split(",")):
        return False
    if "IP" not in rule:
        return True
    start = ip_address(rule["IP"])
    offset = int(packet.address) - int(start)
    return start.version == packet.address.version and 0 <= offset < int(rule["SIZE"])


def _in_range(text: str, port: int) -> bool:
    first, _, last = text.partition(":")
    return int(first) <= port <= int(last or first)


_V4, _V6 = st.integers(0, 2**32 - 1), st.integers(0, 2**128 - 1)


@st.composite
def _blocks(draw: st.DrawFn, version: int) -> str:
    """Return a block; few different ones, so that rules of a set touch each other."""
    if version == 4:
        length = draw(st.sampled_from([0, 0, 1, 8, 24, 31, 32]))
        address = draw(st.sampled_from([0, 2**31, 10 << 24, 2**32 - 1]) | _V4) >> (32 - length) << (32 - length)
        return f"{IPv4Address(address)}/{length}"
    length = draw(st.sampled_from([0, 0, 97, 112, 128]))
    address = draw(st.sampled_from([0, 1, 2**128 - 1]) | _V6) >> (128 - length) << (128 - length)
    return f"{IPv6Address(address)}/{length}"


@st.composite
def permissions(draw: st.DrawFn) -> IpPermission:
    """Return an IpPermission with one block that OpenNebula can have, if there is one for 0.0.0.0/0 beside ::/0."""
    protocol = draw(st.sampled_from(["tcp", "udp", "icmp", "icmpv6", "50", "-1"]))
    version = {"icmp": 4, "icmpv6": 6}.get(protocol) or draw(st.sampled_from([4, 4, 6]))
    block = draw(_blocks(version))
    permission: IpPermission = {"IpProtocol": protocol}
    if protocol in ("tcp", "udp"):
        first, last = sorted(draw(st.tuples(*[st.sampled_from([0, 22, 80, 81, 65535])] * 2)))
        permission |= {"FromPort": first, "ToPort": last}
    elif protocol in ("icmp", "icmpv6"):
        single = 8 if protocol == "icmp" else 128
        first, last = draw(st.sampled_from([(-1, -1), (3, -1), (single, 0), (single, -1)]))
        permission |= {"FromPort": first, "ToPort": last}
    if version == 6:
        permission["Ipv6Ranges"] = [{"CidrIpv6": block}]
        if block == "::/0" and protocol != "icmpv6":
            permission["IpRanges"] = [{"CidrIp": "0.0.0.0/0"}]
    else:
        permission["IpRanges"] = [{"CidrIp": block}]
    return permission


@st.composite
def packets(draw: st.DrawFn) -> Packet:
    """Return a packet, often one at the bounds of the rules of `permissions`."""
    protocol = draw(st.sampled_from([*NUMBERS.values(), 47]))
    number = draw(st.sampled_from([0, 3, 8, 21, 22, 23, 79, 80, 81, 82, 128, 65534, 65535]))
    bounds = [0, 1, 2**31 - 1, 2**31, (10 << 24) - 1, 10 << 24, (11 << 24) - 1, 2**32 - 1]
    version = {1: 4, 58: 6}.get(protocol) or draw(st.sampled_from([4, 6]))
    if version == 4:
        address: IPv4Address | IPv6Address = IPv4Address(draw(st.sampled_from(bounds) | _V4))
    else:
        address = IPv6Address(draw(st.sampled_from([0, 1, 2, 2**16, 2**31, 2**32, 2**128 - 1]) | _V6))
    return Packet(draw(st.booleans()), protocol, number, address)
