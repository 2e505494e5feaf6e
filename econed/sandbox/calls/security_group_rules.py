"""The RULE vectors that oned accepts in security groups (oned: `SecurityGroup::is_valid`)."""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final

from econed.sandbox.refusals import internal
from econed.sandbox.template import Template, Vector

_PROTOCOLS = ("TCP", "UDP", "ICMP", "ICMPV6", "IPSEC", "ALL")
_WITH_RANGE = ("TCP", "UDP")
_PORT_RANGES: Final = re.compile(r"[0-9]+(:[0-9]+)?(,[0-9]+(:[0-9]+)?)*")
_MAX_PORT = 65535
_MAX_PORTS_IN_A_RULE = 15
"""Only in 7.x, as the bounds and the order of ports; both ends of a range count."""

_INTEGER: Final = re.compile(r"\s*([+-]?[0-9]+)")
_MAX_UNSIGNED = 2**32 - 1


def with_stored_rules(template: Template, *, is_v7: bool) -> Template:
    """Return the template of a group as oned stores it: 7.x drops a RULE that repeats another in all attributes.

    Refuses (8192) a RULE that is invalid in this version of oned.
    """
    for rule in template.vectors("RULE"):
        protocol = rule.get("PROTOCOL", "").upper()
        if protocol not in _PROTOCOLS:
            raise internal(f"Wrong PROTOCOL in rule. Valid options: {', '.join(_PROTOCOLS)}.")
        _check_ports(rule.get("RANGE", ""), protocol, is_v7=is_v7)
        for name in ("ICMP", "ICMPV6"):
            _check_icmp_type(rule.get(f"{name}_TYPE", ""), name, protocol, is_v7=is_v7)
        if rule.get("RULE_TYPE", "").upper() not in ("INBOUND", "OUTBOUND"):
            raise internal("Wrong RULE_TYPE in rule. Valid options: INBOUND, OUTBOUND.")
        _check_addresses(rule, is_v7=is_v7)
    return template.without_repeated("RULE") if is_v7 else template


def _check_ports(ranges: str, protocol: str, *, is_v7: bool) -> None:
    if not ranges:
        return
    if protocol not in _WITH_RANGE:
        raise internal("RANGE is supported only for TCP and UDP protocols.")
    if not _PORT_RANGES.fullmatch(ranges):
        raise internal("Invalid RANGE specification.")
    if is_v7:
        _check_bounds([[int(port) for port in part.split(":")] for part in ranges.split(",")])


def _check_bounds(ranges: list[list[int]]) -> None:
    for ports in ranges:
        if ports[-1] > _MAX_PORT:
            raise internal(f"RANGE out of bounds 0-{_MAX_PORT + 1}.")
        if ports[-1] < ports[0]:
            raise internal("RANGE BEGIN value is greater than RANGE END value")
    if sum(map(len, ranges)) > _MAX_PORTS_IN_A_RULE:
        raise internal(f"Not more than {_MAX_PORTS_IN_A_RULE} ports can be specified in a RULE")


def _check_icmp_type(text: str, name: str, protocol: str, *, is_v7: bool) -> None:
    if not text:
        return
    if protocol != name:
        raise internal(f"{name}_TYPE is supported only for {name} protocol.")
    if not _is_unsigned(text, is_v7=is_v7):
        raise internal(f"Wrong {name}_TYPE, it must be integer")


def _check_addresses(rule: Vector, *, is_v7: bool) -> None:
    """Check IP and SIZE or, without IP, NETWORK_ID, of which oned asks only that it is a number."""
    if rule.get("IP"):
        if not _is_unsigned(rule.get("SIZE", ""), is_v7=is_v7):
            raise internal("Wrong or empty SIZE.")
        if not _is_address(rule["IP"]):
            raise internal("Wrong format for IP value.")
    elif "NETWORK_ID" in rule and not _INTEGER.fullmatch(rule["NETWORK_ID"]):
        raise internal("Wrong NETWORK_ID.")


def _is_unsigned(text: str, *, is_v7: bool) -> bool:
    """Whether oned reads `text` as an unsigned number of 32 bits; 5.12 takes a sign, too, and means its complement."""
    match = _INTEGER.fullmatch(text)
    if match is None or (is_v7 and match[1].startswith("-")):
        return False
    return abs(int(match[1])) <= _MAX_UNSIGNED


def _is_address(text: str) -> bool:
    try:
        _ = IPv6Address(text) if ":" in text else IPv4Address(text)
    except AddressValueError:
        return False
    return "%" not in text
