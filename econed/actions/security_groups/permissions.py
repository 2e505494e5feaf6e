"""Rules as requests name them: IpPermissions (EC2 IpPermission), and the older flat form of the same."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypedDict

from econed.actions.security_groups.rules import (
    ALL_PROTOCOLS,
    ANY,
    MAX_ICMP,
    MAX_PORT,
    MIN_IPV6_PREFIX,
    SINGLE_CODE_TYPES,
    WITH_PORTS,
    WITH_TYPES,
    Block,
    TrafficRule,
    block_of,
    family_of,
    has_possible_size,
    is_protocol,
)
from econed.errors import EC2Error

MAX_DESCRIPTION: Final = 255
"""Characters of the description of a rule (EC2 API Reference, IpRange)."""

_DESCRIPTION = re.compile(r"[A-Za-z0-9 ._\-:/()#,@\[\]+=&;{}!$*]*", re.ASCII)
_NUMBERS = MappingProxyType({"6": "tcp", "17": "udp", "1": "icmp", "58": "icmpv6"})
_PROTOCOL_NUMBER = re.compile(r"[0-9]{1,3}", re.ASCII)
_MAX_PROTOCOL = 255


class IpRange(TypedDict, total=False):
    """An IPv4 block (EC2 IpRange)."""

    CidrIp: str
    Description: str


class Ipv6Range(TypedDict, total=False):
    """An IPv6 block (EC2 Ipv6Range)."""

    CidrIpv6: str
    Description: str


class UserIdGroupPair(TypedDict, total=False):
    """A security group as the source of traffic (EC2 UserIdGroupPair), which OpenNebula does not have."""

    Description: str
    UserId: str
    GroupName: str
    GroupId: str
    VpcId: str
    VpcPeeringConnectionId: str
    PeeringStatus: str


class PrefixListId(TypedDict, total=False):
    """A prefix list (EC2 PrefixListId), which OpenNebula does not have."""

    Description: str
    PrefixListId: str


class IpPermission(TypedDict, total=False):
    """Rules with the same protocol and ports (EC2 IpPermission)."""

    IpProtocol: str
    FromPort: int
    ToPort: int
    IpRanges: Sequence[IpRange]
    Ipv6Ranges: Sequence[Ipv6Range]
    UserIdGroupPairs: Sequence[UserIdGroupPair]
    PrefixListIds: Sequence[PrefixListId]


class RuleRequest(TypedDict, total=False):
    """A single rule (EC2 SecurityGroupRuleRequest)."""

    IpProtocol: str
    FromPort: int
    ToPort: int
    CidrIpv4: str
    CidrIpv6: str
    PrefixListId: str
    ReferencedGroupId: str
    Description: str


@dataclass(frozen=True)
class FlatPermission:
    """The parameters of the older form, which stand at the top level of a request; None for those that it has not."""

    ip_protocol: str | None
    from_port: int | None
    to_port: int | None
    cidr_ip: str | None
    source_security_group_name: str | None
    source_security_group_owner_id: str | None

    @property
    def is_given(self) -> bool:
        """Whether the request has any of them."""
        return any(value is not None for value in vars(self).values())

    @property
    def permission(self) -> IpPermission:
        """The same in the newer form."""
        pairs: Sequence[UserIdGroupPair] = ()
        if self.source_security_group_name is not None or self.source_security_group_owner_id is not None:
            pairs = [{"GroupName": self.source_security_group_name or ""}]
        ranges: Sequence[IpRange] = () if self.cidr_ip is None else [{"CidrIp": self.cidr_ip}]
        permission: IpPermission = {"IpProtocol": self.ip_protocol or "", "IpRanges": ranges, "UserIdGroupPairs": pairs}
        if self.from_port is not None:
            permission["FromPort"] = self.from_port
        if self.to_port is not None:
            permission["ToPort"] = self.to_port
        return permission


def requested_permissions(permissions: Sequence[IpPermission], flat: FlatPermission) -> Sequence[IpPermission]:
    """Return the permissions of a request in either form.

    Raises `EC2Error` InvalidParameterCombination for both forms at once.
    """
    if flat.is_given and permissions:
        raise EC2Error(
            "InvalidParameterCombination",
            "The parameter 'ipPermissions' may not be used in combination with 'ipProtocol', 'fromPort', 'toPort' or "
            "'cidrIp'.",
        )
    return [flat.permission] if flat.is_given else permissions


def requested_rules(permissions: Iterable[IpPermission], *, is_egress: bool) -> Mapping[TrafficRule, str | None]:
    """Return the rules of permissions, each with its description; None where the request has none.

    Raises `EC2Error`: InvalidParameterValue, also for a rule that is there twice, MissingParameter for a permission
    without addresses, and UnsupportedOperation with the reason for what OpenNebula does not have.
    """
    rules: dict[TrafficRule, str | None] = {}
    for permission in permissions:
        count = len(rules)
        for rule, description in _rules(permission, is_egress):
            if rule in rules:
                raise EC2Error("InvalidParameterValue", "The same permission must not appear multiple times")
            rules[rule] = None if description is None else checked_description(description)
        if len(rules) == count:
            raise EC2Error("MissingParameter", "Each permission must have at least one IP range.")
    return rules


def requested_rule(request: RuleRequest, *, is_egress: bool) -> tuple[TrafficRule, str]:
    """Return a single rule and its description, empty if it has none; raises the same as `requested_rules`."""
    permission: IpPermission = {"IpProtocol": request.get("IpProtocol", "")}
    if "FromPort" in request:
        permission["FromPort"] = request["FromPort"]
    if "ToPort" in request:
        permission["ToPort"] = request["ToPort"]
    if "CidrIpv4" in request:
        permission["IpRanges"] = [{"CidrIp": request["CidrIpv4"]}]
    if "CidrIpv6" in request:
        permission["Ipv6Ranges"] = [{"CidrIpv6": request["CidrIpv6"]}]
    if "ReferencedGroupId" in request:
        permission["UserIdGroupPairs"] = [{"GroupId": request["ReferencedGroupId"]}]
    if "PrefixListId" in request:
        permission["PrefixListIds"] = [{"PrefixListId": request["PrefixListId"]}]
    rules = tuple(requested_rules([permission], is_egress=is_egress))
    if len(rules) != 1:
        raise EC2Error("InvalidParameterValue", "A rule must have either an IPv4 or an IPv6 CIDR block.")
    return rules[0], checked_description(request.get("Description", ""))


def checked_description(text: str) -> str:
    """Return the description of a rule; raises `EC2Error` InvalidParameterValue for one that EC2 refuses too."""
    if len(text) > MAX_DESCRIPTION or not _DESCRIPTION.fullmatch(text):
        raise EC2Error(
            "InvalidParameterValue",
            "Invalid rule description. Valid descriptions are strings less than 256 characters from the following "
            "set: a-zA-Z0-9. _-:/()#,@[]+=&;{}!$*",
        )
    return text


def _rules(permission: IpPermission, is_egress: bool) -> Iterator[tuple[TrafficRule, str | None]]:
    if permission.get("UserIdGroupPairs"):
        raise EC2Error(
            "UnsupportedOperation",
            "The rules of OpenNebula name addresses, so a security group cannot be the source or destination of one. "
            "Use the CIDR block of its subnet.",
        )
    if permission.get("PrefixListIds"):
        raise EC2Error("UnsupportedOperation", "OpenNebula has no prefix lists. Use CIDR blocks.")
    protocol = _protocol(permission.get("IpProtocol", ""))
    first, last = _ports(protocol, permission.get("FromPort"), permission.get("ToPort"))
    for ip_range in permission.get("IpRanges", ()):
        block = _block(ip_range.get("CidrIp", ""), 4)
        yield TrafficRule(is_egress, protocol, first, last, _possible(protocol, block)), ip_range.get("Description")
    for ipv6_range in permission.get("Ipv6Ranges", ()):
        block = _block(ipv6_range.get("CidrIpv6", ""), 6)
        yield TrafficRule(is_egress, protocol, first, last, _possible(protocol, block)), ipv6_range.get("Description")


def _protocol(text: str) -> str:
    if not text:
        raise EC2Error("MissingParameter", "The request must contain the parameter IpProtocol")
    name = _NUMBERS.get(text, text.lower())
    if name == "all":
        return ALL_PROTOCOLS
    if is_protocol(name):
        return name
    if _PROTOCOL_NUMBER.fullmatch(text) and int(text) <= _MAX_PROTOCOL:
        raise EC2Error(
            "UnsupportedOperation",
            f"OpenNebula has no rules for protocol {text}, only for tcp, udp, icmp, icmpv6, 50 (ESP) and -1 (all).",
        )
    raise EC2Error("InvalidParameterValue", f"Invalid value '{text}' for IP protocol. Unknown protocol.")


def _ports(protocol: str, first: int | None, last: int | None) -> tuple[int, int]:
    """Return the ports of a rule, or its ICMP type and code; they mean nothing for other protocols."""
    if protocol in WITH_TYPES:
        return _type_and_code(protocol, ANY if first is None else first, ANY if last is None else last)
    if protocol not in WITH_PORTS:
        return ANY, ANY
    if first is None or last is None:
        raise EC2Error(
            "InvalidParameterValue",
            "Invalid value 'Must specify both from and to ports with TCP/UDP.' for portRange.",
        )
    if not 0 <= first <= last <= MAX_PORT:
        raise EC2Error("InvalidParameterValue", f"Invalid {protocol.upper()} port range ({first}-{last})")
    return first, last


def _type_and_code(protocol: str, icmp_type: int, code: int) -> tuple[int, int]:
    is_valid = ANY <= icmp_type <= MAX_ICMP and ANY <= code <= MAX_ICMP and (icmp_type != ANY or code == ANY)
    if not is_valid:
        raise EC2Error("InvalidParameterValue", f"ICMP type ({icmp_type}) or code ({code}) is invalid.")
    if code != ANY and (code, icmp_type in SINGLE_CODE_TYPES[protocol]) != (0, True):
        raise EC2Error(
            "UnsupportedOperation",
            f"The rules of OpenNebula name a type of {protocol} with all of its codes, so code {code} of type "
            f"{icmp_type} alone is not possible. Use code -1.",
        )
    return icmp_type, code


def _block(text: str, version: int) -> Block:
    block = block_of(text)
    if block is None or block.version != version:
        raise EC2Error("InvalidParameterValue", f"CIDR block {text} is malformed")
    return block


def _possible(protocol: str, block: Block) -> Block:
    """Return the addresses of a rule; raises `EC2Error` where OpenNebula has no rule for them."""
    if family_of(protocol) not in (None, block.version):
        raise EC2Error("InvalidParameterValue", f"IPv{block.version} addresses have no protocol {protocol}: {block}")
    if not has_possible_size(block):
        raise EC2Error(
            "UnsupportedOperation",
            f"The rules of OpenNebula are for fewer than 2^32 addresses, so {block} is not possible: use ::/0, or "
            f"blocks from /{MIN_IPV6_PREFIX} to /128.",
        )
    return block
