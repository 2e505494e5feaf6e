"""The blocks that VPCs and subnets can have, as on Amazon."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest

from econed.actions.vpcs.blocks import reserved_addresses, subnet_block, vpc_block
from econed.errors import EC2Error

VPC = IPv4Network("10.9.0.0/16")


@pytest.mark.parametrize(
    ("text", "block"),
    [("10.9.0.0/16", "10.9.0.0/16"), ("10.9.3.4/16", "10.9.0.0/16"), ("192.168.1.250/28", "192.168.1.240/28")],
)
def test_bits_behind_the_mask_are_cleared(text: str, block: str) -> None:
    assert vpc_block(text) == IPv4Network(block)


@pytest.mark.parametrize("text", ["10.0.0.0/15", "10.0.0.0/29", "127.0.0.0/16", "224.0.0.0/16", "0.0.0.0/16"])
def test_a_block_that_no_vpc_can_have_is_out_of_range(text: str) -> None:
    with pytest.raises(EC2Error) as refused:
        vpc_block(text)
    assert refused.value.code == "InvalidVpc.Range"


@pytest.mark.parametrize("text", ["10.9.0.0", "10.9.0.0/", "10.9.0.0/33", "10.9/16", "10.9.0.0/255.255.0.0", "::/16"])
def test_a_text_that_is_no_block_is_invalid(text: str) -> None:
    with pytest.raises(EC2Error) as refused:
        vpc_block(text)
    assert refused.value.code == "InvalidParameterValue"


@pytest.mark.parametrize("text", ["10.9.0.0/29", "10.8.0.0/16", "10.8.0.0/15", "10.10.0.0/24"])
def test_a_block_that_is_not_in_the_vpc_is_out_of_range(text: str) -> None:
    with pytest.raises(EC2Error) as refused:
        subnet_block(text, VPC)
    assert refused.value.code == "InvalidSubnet.Range"


def test_a_subnet_may_have_all_addresses_of_its_vpc() -> None:
    assert subnet_block("10.9.200.1/16", VPC) == VPC


def test_the_first_four_addresses_and_the_last_are_reserved() -> None:
    expected = ("10.9.1.0", "10.9.1.1", "10.9.1.2", "10.9.1.3", "10.9.1.15")
    assert reserved_addresses(IPv4Network("10.9.1.0/28")) == tuple(map(IPv4Address, expected))
