"""Rules of security groups: EC2's, and the RULEs of OpenNebula that open exactly the same.

A `TrafficRule` is one of EC2's: a direction, a protocol, ports or an ICMP type, and a CIDR block. OpenNebula has other
limits ("Security Groups"; recordings of 5.12 and 7.4):

- IP and SIZE name a number of consecutive addresses, at most 2^32-1. So 0.0.0.0/0 is two RULEs, one for each half, and
  the IPv6 blocks up to /96 are not possible, except ::/0, below.
- Without IP a RULE is for all addresses: of both families, except those for ICMP (IPv4) and ICMPV6 (IPv6). So ::/0 is
  possible only together with 0.0.0.0/0, and then both are one RULE.
- ICMP_TYPE stands for all codes of a type.

A RULE that others made may stand for many of EC2's rules. One that is none of them, such as with NETWORK_ID, is kept.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Network, ip_network, summarize_address_range
from types import MappingProxyType
from typing import Final, TypeAlias

from econed.opennebula.attributes import Vector
from econed.opennebula.values import ipv4, ipv6, whole_number

Block: TypeAlias = IPv4Network | IPv6Network

ANY: Final = -1
"""All ports, or all ICMP types or codes."""

MAX_PORT: Final = 65535
MAX_ICMP: Final = 255
"""The largest ICMP type, and the largest code."""

ALL_PROTOCOLS: Final = "-1"
WITH_PORTS: Final = frozenset({"tcp", "udp"})
WITH_TYPES: Final = frozenset({"icmp", "icmpv6"})

ANY_IPV4: Final = IPv4Network("0.0.0.0/0")
ANY_IPV6: Final = IPv6Network("::/0")

MIN_IPV6_PREFIX: Final = 97
"""Bits of the prefix of the largest IPv6 block whose number of addresses is not above oned's limit."""

SINGLE_CODE_TYPES: Final = MappingProxyType(
    {"icmp": frozenset({0, 8, *range(13, 19)}), "icmpv6": frozenset(range(128, 138))}
)
"""The ICMP types that have code 0 only (IANA, "ICMP Parameters"): the type and the code 0 of it are the same."""

MAX_READ: Final = 1000
"""The number of rules that RULEs which others made may stand for; RULEs beyond that are kept as they are.

Users may write RULEs with any number of ports, for ranges that are many blocks.
"""

_HALVES: Final = tuple(ANY_IPV4.subnets())

_PROTOCOLS = MappingProxyType(
    {"tcp": "TCP", "udp": "UDP", "icmp": "ICMP", "icmpv6": "ICMPV6", "50": "IPSEC", ALL_PROTOCOLS: "ALL"}
)
"""OpenNebula's name of each protocol; IPSEC is ESP, protocol 50."""

_OF_OPENNEBULA = MappingProxyType({name: protocol for protocol, name in _PROTOCOLS.items()})
_TYPE_MEMBERS = MappingProxyType({"icmp": "ICMP_TYPE", "icmpv6": "ICMPV6_TYPE"})
_ONE_FAMILY: Final[Mapping[str, Block]] = MappingProxyType({"icmp": ANY_IPV4, "icmpv6": ANY_IPV6})
"""All addresses, for the protocols that only one family has."""

_MAX_SIZE = 2**32 - 1
_PORT_RANGE = re.compile(r"([0-9]{1,5})(?::([0-9]{1,5}))?", re.ASCII)
_SELECTS = frozenset({"NETWORK_ID", "AR_ID", "IP6", "IP6_GLOBAL", "IP6_ULA", "MAC"})
"""Members that name addresses in another way than IP and SIZE."""


@dataclass(frozen=True)
class TrafficRule:
    """A rule of EC2.

    `protocol` is `tcp`, `udp`, `icmp`, `icmpv6`, `50` or `-1` (all). `first` and `last` are ports, or an ICMP type and
    code; both are `ANY` for protocols that have neither.
    """

    is_egress: bool
    protocol: str
    first: int
    last: int
    block: Block

    @property
    def key(self) -> tuple[bool, str, int, int, int, int, int]:
        """What orders rules: direction, protocol, ports, addresses."""
        block = self.block
        return self.is_egress, self.protocol, self.first, self.last, block.version, int(block[0]), block.prefixlen

    @property
    def text(self) -> str:
        """The rule as text, the same for equal rules only."""
        return f"{'egress' if self.is_egress else 'ingress'} {self.protocol} {self.first} {self.last} {self.block}"

    @property
    def is_possible(self) -> bool:
        """Whether OpenNebula has RULEs for it, alone or, for ::/0, with the rule for 0.0.0.0/0."""
        if self.protocol in WITH_PORTS:
            has_ports = 0 <= self.first <= self.last <= MAX_PORT
        elif self.protocol in WITH_TYPES:
            is_single = self.first in SINGLE_CODE_TYPES[self.protocol] and self.last == 0
            has_ports = ANY <= self.first <= MAX_ICMP and (self.last == ANY or is_single)
        else:
            has_ports = self.protocol in _PROTOCOLS and (self.first, self.last) == (ANY, ANY)
        has_family = family_of(self.protocol) in (None, self.block.version)
        return has_ports and has_family and has_possible_size(self.block)

    @property
    def as_opened(self) -> TrafficRule:
        """The rule as it is read from its RULEs, which have no ICMP code."""
        return replace(self, last=ANY) if self.protocol in WITH_TYPES else self

    @property
    def parts(self) -> frozenset[TrafficRule]:
        """What it opens, in parts that may have RULEs of their own: 0.0.0.0/0 is the same as its two halves."""
        rule = self.as_opened
        if rule.block != ANY_IPV4:
            return frozenset({rule})
        return frozenset(replace(rule, block=half) for half in _HALVES)

    @property
    def other_family(self) -> TrafficRule:
        """The rule for all addresses of the other family."""
        return replace(self, block=ANY_IPV6 if self.block.version == 4 else ANY_IPV4)

    @property
    def is_for_all(self) -> bool:
        """Whether it is for all addresses of its family."""
        return self.block.prefixlen == 0


def is_protocol(text: str) -> bool:
    """Whether OpenNebula has a protocol, by EC2's name of it."""
    return text in _PROTOCOLS


def not_opened(rules: Collection[TrafficRule]) -> Iterator[TrafficRule]:
    """Yield those of the rules for ::/0 that OpenNebula does not open: the rule for 0.0.0.0/0 is not there."""
    present = {rule.as_opened for rule in rules}
    for rule in rules:
        if rule.block == ANY_IPV6 and rule.protocol not in _ONE_FAMILY and rule.as_opened.other_family not in present:
            yield rule


def written(rules: Collection[TrafficRule]) -> list[Vector]:
    """Return the RULEs that open exactly these rules, except those that `not_opened` yields, in a fixed order."""
    opened = {rule.as_opened for rule in rules}
    ordered = sorted(opened, key=lambda rule: rule.key)
    return [vector for rule in ordered for vector in _vectors(rule, rule.other_family in opened)]


def read(vectors: Iterable[Vector]) -> tuple[frozenset[TrafficRule], tuple[Vector, ...]]:
    """Return the rules that RULEs stand for, and the RULEs that are not rules of EC2."""
    rules: set[TrafficRule] = set()
    halves: set[TrafficRule] = set()
    kept: list[Vector] = []
    for vector in vectors:
        found = _rules(vector, MAX_READ - len(rules) - len(halves))
        if found is None:
            kept.append(vector)
        for rule in found or ():
            (halves if rule.block in _HALVES else rules).add(rule)
    for rule in halves:
        is_whole = all(replace(rule, block=half) in halves for half in _HALVES)
        rules.add(replace(rule, block=ANY_IPV4) if is_whole else rule)
    return frozenset(rules), tuple(kept)


def _vectors(rule: TrafficRule, has_both_families: bool) -> Iterator[Vector]:
    """Yield the RULEs of a rule; those of a rule that is for all addresses of both families belong to IPv4's."""
    members = {
        "PROTOCOL": _PROTOCOLS[rule.protocol],
        "RULE_TYPE": "outbound" if rule.is_egress else "inbound",
        **_ports(rule),
    }
    if not rule.is_for_all:
        yield members | _addresses(rule.block)
    elif rule.protocol in _ONE_FAMILY:
        yield members
    elif rule.block == ANY_IPV4:
        yield from [members] if has_both_families else (members | _addresses(half) for half in _HALVES)


def _ports(rule: TrafficRule) -> dict[str, str]:
    if rule.protocol in WITH_TYPES:
        return {} if rule.first == ANY else {_TYPE_MEMBERS[rule.protocol]: str(rule.first)}
    if rule.protocol not in WITH_PORTS or (rule.first, rule.last) == (0, MAX_PORT):
        return {}
    return {"RANGE": str(rule.first) if rule.first == rule.last else f"{rule.first}:{rule.last}"}


def _addresses(block: Block) -> dict[str, str]:
    return {"IP": str(block[0]), "SIZE": str(block.num_addresses)}


def _rules(vector: Vector, max_count: int) -> list[TrafficRule] | None:
    """Return the rules that a RULE stands for; None if it is not rules of EC2, or more than `max_count`."""
    protocol = _OF_OPENNEBULA.get(vector.get("PROTOCOL", "").upper())
    direction = vector.get("RULE_TYPE", "").upper()
    if protocol is None or direction not in ("INBOUND", "OUTBOUND") or any(vector.get(name) for name in _SELECTS):
        return None
    ports = _read_ports(protocol, vector)
    blocks = _read_blocks(protocol, vector)
    if ports is None or blocks is None or len(ports) * len(blocks) > max_count:
        return None
    return [
        TrafficRule(direction == "OUTBOUND", protocol, first, last, block) for first, last in ports for block in blocks
    ]


def _read_ports(protocol: str, vector: Vector) -> Sequence[tuple[int, int]] | None:
    if protocol in WITH_TYPES:
        text = vector.get(_TYPE_MEMBERS[protocol], "")
        icmp_type = whole_number(text, MAX_ICMP) if text else ANY
        return None if icmp_type is None else [(icmp_type, ANY)]
    if protocol not in WITH_PORTS:
        return [(ANY, ANY)]
    text = vector.get("RANGE", "")
    if not text:
        return [(0, MAX_PORT)]
    if text.count(",") >= MAX_READ:
        return None
    matches = [_PORT_RANGE.fullmatch(part) for part in text.split(",")]
    ranges = [(int(match[1]), int(match[2] or match[1])) for match in matches if match is not None]
    if len(ranges) < len(matches) or any(not first <= last <= MAX_PORT for first, last in ranges):
        return None
    return list(dict.fromkeys(ranges))


def _read_blocks(protocol: str, vector: Vector) -> Sequence[Block] | None:
    text, size = vector.get("IP", ""), whole_number(vector.get("SIZE", ""), _MAX_SIZE)
    if not text:
        if vector.get("SIZE"):
            return None  # oned accepts it, and the drivers ignore such a RULE
        return [_ONE_FAMILY[protocol]] if protocol in _ONE_FAMILY else [ANY_IPV4, ANY_IPV6]
    first = ipv4(text) or ipv6(text)
    if first is None or not size or family_of(protocol) not in (None, first.version):
        return None
    last_of_all = 2**first.max_prefixlen - 1
    return list(summarize_address_range(first, type(first)(min(int(first) + size - 1, last_of_all))))


def has_possible_size(block: Block) -> bool:
    """Whether OpenNebula has RULEs for these addresses."""
    return block.version == 4 or block == ANY_IPV6 or block.prefixlen >= MIN_IPV6_PREFIX


def family_of(protocol: str) -> int | None:
    """Return the version of IP that alone has a protocol; None for the protocols of both."""
    return _ONE_FAMILY[protocol].version if protocol in _ONE_FAMILY else None


def block_of(text: str) -> Block | None:
    """Return the block that a CIDR notation names, whose address may be any in the block; None for any other text."""
    address, slash, length = text.partition("/")
    parsed = ipv4(address) or ipv6(address)
    if parsed is None or not slash or whole_number(length, parsed.max_prefixlen) is None:
        return None
    return ip_network((parsed, int(length)), strict=False)
