"""EC2's view of subnets and VPCs: pure functions of what `econed.actions.networks.lookup` finds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import IPv4Network, IPv6Network, collapse_addresses
from typing import TYPE_CHECKING

from econed.actions.networks.lookup import AVAILABLE, Subnet, Vpc
from econed.actions.tagging import tags_of
from econed.ids import DHCP_OPTIONS, account_id

if TYPE_CHECKING:
    from types_boto3_ec2.literals import Ipv6AddressAttributeType
    from types_boto3_ec2.type_defs import (
        BlockPublicAccessStatesTypeDef,
        PrivateDnsNameOptionsOnLaunchTypeDef,
        SubnetIpv6CidrBlockAssociationTypeDef,
        SubnetTypeDef,
        VpcCidrBlockAssociationTypeDef,
        VpcIpv6CidrBlockAssociationTypeDef,
        VpcTypeDef,
    )

    from econed.actions.networks.lookup import Networks

_ID_DIGITS = 17
_ADMINISTRATOR = 0
"""OpenNebula's user id of oneadmin."""

_UNIQUE_LOCAL = IPv6Network("fc00::/7")

_NOT_BLOCKED: BlockPublicAccessStatesTypeDef = {"InternetGatewayBlockMode": "off"}
_NO_NAMES: PrivateDnsNameOptionsOnLaunchTypeDef = {
    "HostnameType": "ip-name",
    "EnableResourceNameDnsARecord": False,
    "EnableResourceNameDnsAAAARecord": False,
}


@dataclass(frozen=True)
class Place:
    """Where networks are, and who looks: the region, and the names of the zones by the ids of their clusters."""

    caller_id: int
    region: str
    zones: Mapping[int, str]


def owner_of(vpc: Vpc, caller_id: int) -> str:
    """Return the account that owns a VPC and its parts; everybody owns their default VPC, as on Amazon."""
    return account_id(caller_id if vpc.network is None else vpc.network.uid)


def ipv4_blocks(vpc: Vpc, networks: Networks) -> tuple[IPv4Network, ...]:
    """Return the IPv4 blocks of a VPC: that of its network, or those of the subnets of the default VPC."""
    if not vpc.is_default:
        return () if vpc.cidr is None else (vpc.cidr,)
    return collapsed_blocks(networks.subnets_of(vpc))


def collapsed_blocks(subnets: Iterable[Subnet]) -> tuple[IPv4Network, ...]:
    """Return the IPv4 blocks of subnets, with adjacent and overlapping ones merged, that of the first subnet first."""
    blocks = [subnet.cidr for subnet in subnets if subnet.cidr is not None]
    return tuple(sorted(collapse_addresses(blocks), key=lambda block: not block.supernet_of(blocks[0])))


def ipv6_blocks(vpc: Vpc, networks: Networks) -> tuple[IPv6Network, ...]:
    """Return the IPv6 blocks of a VPC, as `ipv4_blocks` does."""
    return vpc.network.ipv6_blocks if vpc.network is not None else distinct_ipv6_blocks(networks.subnets_of(vpc))


def distinct_ipv6_blocks(subnets: Iterable[Subnet]) -> tuple[IPv6Network, ...]:
    """Return the IPv6 blocks of subnets, each once."""
    return tuple(dict.fromkeys(block for subnet in subnets for block in subnet.ipv6_cidrs))


def vpc_view(vpc: Vpc, networks: Networks, place: Place) -> VpcTypeDef:
    """Return a VPC. The default VPC has no CIDR block if it has no subnets with IPv4 addresses."""
    blocks = ipv4_blocks(vpc, networks)
    view: VpcTypeDef = {
        "VpcId": vpc.id,
        "OwnerId": owner_of(vpc, place.caller_id),
        "State": "available" if vpc.is_available else "pending",
        "CidrBlockAssociationSet": [_association(vpc, block) for block in blocks],
        "Ipv6CidrBlockAssociationSet": [
            _ipv6_association(vpc, block, place.region) for block in ipv6_blocks(vpc, networks)
        ],
        "DhcpOptionsId": DHCP_OPTIONS.format(vpc.number),
        "InstanceTenancy": "default",
        "IsDefault": vpc.is_default,
        "BlockPublicAccessStates": _NOT_BLOCKED,
    }
    if vpc.network is not None and (tags := tags_of(vpc.network.template)):
        view["Tags"] = tags
    if blocks:
        view["CidrBlock"] = str(blocks[0])
    return view


def default_subnets(subnets: Iterable[Subnet], place: Place) -> frozenset[int]:
    """Return the ids of the networks that are the default subnets of their zones, one for each zone that has any.

    That is the first network of the default VPC with IPv4 addresses. Networks of the administrator come before the
    caller's own, and these before those of others, since everybody may USE what anybody shares.
    """
    first: dict[str, Subnet] = {}
    candidates = (subnet for subnet in subnets if subnet.vpc.is_default and subnet.cidr is not None)
    for subnet in sorted(candidates, key=lambda subnet: _preference(subnet, place.caller_id)):
        if subnet.state == AVAILABLE and (zone := subnet.zone(place.zones)):
            first.setdefault(zone, subnet)
    return frozenset(subnet.network.id for subnet in first.values())


def subnet_view(subnet: Subnet, place: Place, *, is_default: bool) -> SubnetTypeDef:
    """Return a subnet; `is_default` says whether it is the default one of its zone."""
    network = subnet.network
    owner, zone = account_id(network.uid), subnet.zone(place.zones)
    view: SubnetTypeDef = {
        "SubnetId": subnet.id,
        "SubnetArn": f"arn:aws:ec2:{place.region}:{owner}:subnet/{subnet.id}",
        "VpcId": subnet.vpc.id,
        "OwnerId": owner,
        "State": subnet.state,  # type: ignore[typeddict-item]  # one of the model's
        "AvailableIpAddressCount": subnet.free_addresses,
        "AvailabilityZone": zone,
        "DefaultForAz": is_default,
        "MapPublicIpOnLaunch": False,
        "MapCustomerOwnedIpOnLaunch": False,
        "AssignIpv6AddressOnCreation": bool(subnet.ipv6_cidrs),
        "Ipv6CidrBlockAssociationSet": [_subnet_association(subnet, block) for block in subnet.ipv6_cidrs],
        "Ipv6Native": subnet.cidr is None and bool(subnet.ipv6_cidrs),
        "EnableDns64": False,
        "PrivateDnsNameOptionsOnLaunch": _NO_NAMES,
        "BlockPublicAccessStates": _NOT_BLOCKED,
    }
    if tags := tags_of(network.template):
        view["Tags"] = tags
    if subnet.cidr is not None:
        view["CidrBlock"] = str(subnet.cidr)
    if zone:
        view["AvailabilityZoneId"] = _zone_id(network.cluster_ids, place.zones)
    return view


def _preference(subnet: Subnet, caller_id: int) -> tuple[bool, bool, int]:
    network = subnet.network
    return network.uid != _ADMINISTRATOR, network.uid != caller_id, network.id


def _zone_id(cluster_ids: Sequence[int], zones: Mapping[int, str]) -> str:
    return next(f"cluster-{cluster_id}" for cluster_id in cluster_ids if cluster_id in zones)


def _association(vpc: Vpc, block: IPv4Network) -> VpcCidrBlockAssociationTypeDef:
    return {
        "AssociationId": _association_id("vpc-cidr-assoc", vpc.id, block),
        "CidrBlock": str(block),
        "CidrBlockState": {"State": "associated"},
    }


def _ipv6_association(vpc: Vpc, block: IPv6Network, region: str) -> VpcIpv6CidrBlockAssociationTypeDef:
    return {
        "AssociationId": _association_id("vpc-cidr-assoc", vpc.id, block),
        "Ipv6CidrBlock": str(block),
        "Ipv6CidrBlockState": {"State": "associated"},
        "NetworkBorderGroup": region,
        "Ipv6AddressAttribute": _ipv6_attribute(block),
    }


def _subnet_association(subnet: Subnet, block: IPv6Network) -> SubnetIpv6CidrBlockAssociationTypeDef:
    return {
        "AssociationId": _association_id("subnet-cidr-assoc", subnet.id, block),
        "Ipv6CidrBlock": str(block),
        "Ipv6CidrBlockState": {"State": "associated"},
        "Ipv6AddressAttribute": _ipv6_attribute(block),
    }


def _ipv6_attribute(block: IPv6Network) -> Ipv6AddressAttributeType:
    return "private" if block.subnet_of(_UNIQUE_LOCAL) else "public"


def _association_id(prefix: str, owner: str, block: IPv4Network | IPv6Network) -> str:
    """Return the id of a block's association with a VPC or subnet, the same in every process."""
    return f"{prefix}-{sha256(f'{owner} {block}'.encode()).hexdigest()[:_ID_DIGITS]}"
