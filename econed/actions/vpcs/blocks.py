"""The CIDR blocks of VPCs and subnets (Amazon VPC User Guide, "VPC CIDR blocks", "Subnet sizing")."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import Final

from econed.errors import EC2Error
from econed.opennebula.values import ipv4, whole_number

_LARGEST, _SMALLEST = 16, 28
"""Lengths of the masks of the largest and of the smallest block of a VPC, and of a subnet."""

_LONGEST_MASK = 32
_RESERVED_FIRST: Final = 4
"""Addresses at the beginning of a subnet that no instance gets, as the last one (Amazon: "Subnet sizing")."""

_WITHOUT_HOSTS: Final = tuple(
    map(IPv4Network, ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4"))
)
"""Blocks that hosts have no addresses in (RFC 6890)."""


def vpc_block(text: str) -> IPv4Network:
    """Return the block for a VPC; bits behind the mask are cleared, as Amazon does.

    Raises `EC2Error` InvalidParameterValue for a text that is no block, InvalidVpc.Range for one that no VPC can have.
    """
    block = _block(text)
    is_possible = _LARGEST <= block.prefixlen <= _SMALLEST and not any(map(block.overlaps, _WITHOUT_HOSTS))
    if not is_possible:
        raise EC2Error("InvalidVpc.Range", f"The CIDR '{text}' is invalid.")
    return block


def subnet_block(text: str, vpc: IPv4Network) -> IPv4Network:
    """Return the block for a subnet of the VPC with the block `vpc`, as `vpc_block` does.

    Raises `EC2Error` InvalidParameterValue, or InvalidSubnet.Range for a block that is not in that of the VPC.
    """
    block = _block(text)
    if not (_LARGEST <= block.prefixlen <= _SMALLEST and block.subnet_of(vpc)):
        raise EC2Error("InvalidSubnet.Range", f"The CIDR '{text}' is invalid.")
    return block


def is_subnet_block(block: IPv4Network) -> bool:
    """Whether a subnet can have a block."""
    return _LARGEST <= block.prefixlen <= _SMALLEST


def reserved_addresses(block: IPv4Network) -> tuple[IPv4Address, ...]:
    """Return the addresses of a subnet that instances do not get: the first four and the last."""
    return (*(block[index] for index in range(_RESERVED_FIRST)), block[-1])


def _block(text: str) -> IPv4Network:
    address, slash, length = text.partition("/")
    parsed, prefix_length = ipv4(address), whole_number(length, _LONGEST_MASK)
    if parsed is None or not slash or prefix_length is None:
        raise EC2Error(
            "InvalidParameterValue",
            f"Value ({text[:64]}) for parameter cidrBlock is invalid. This is not a valid CIDR block.",
        )
    return IPv4Network((parsed, prefix_length), strict=False)
