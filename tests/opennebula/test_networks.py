"""The addresses of virtual networks."""

from __future__ import annotations

import pytest
from lxml import etree

from econed.opennebula.documents import VirtualNetwork
from econed.opennebula.networks import NetworksOfNics

RANGE = "<AR><TYPE>IP4</TYPE><IP>{ip}</IP><SIZE>{size}</SIZE></AR>"


def network(*ranges: str, template: str = "") -> VirtualNetwork:
    """Return a network with these elements of ranges and of its template."""
    text = f"<VNET><ID>1</ID><TEMPLATE>{template}</TEMPLATE><AR_POOL>{''.join(ranges)}</AR_POOL></VNET>"
    return VirtualNetwork(etree.fromstring(text))


def declared(address: str, mask: str) -> str:
    """Return the elements of a declared network."""
    elements = (("NETWORK_ADDRESS", address), ("NETWORK_MASK", mask))
    return "".join(f"<{name}>{text}</{name}>" for name, text in elements if text)


@pytest.mark.parametrize(
    ("ip", "size", "block"),
    [
        ("10.0.0.0", 256, "10.0.0.0/24"),
        ("10.0.0.10", 1, "10.0.0.10/32"),
        ("10.0.0.10", 6, "10.0.0.8/29"),
        ("10.0.0.255", 2, "10.0.0.0/23"),
        ("255.255.255.250", 100, "255.255.255.248/29"),
    ],
)
def test_without_a_declared_network_the_block_is_the_smallest(ip: str, size: int, block: str) -> None:
    """It contains all addresses of the range, which may exceed those there are: oned takes it."""
    assert str(network(RANGE.format(ip=ip, size=size)).ipv4_block) == block


def test_the_block_contains_all_ranges() -> None:
    ranges = [RANGE.format(ip=ip, size=4) for ip in ("10.0.3.0", "10.0.0.16")]
    assert str(network(*ranges).ipv4_block) == "10.0.0.0/22"


@pytest.mark.parametrize(
    ("address", "mask", "block"),
    [
        ("10.0.0.0", "255.255.0.0", "10.0.0.0/16"),
        ("10.0.7.7", "255.255.0.0", "10.0.0.0/16"),
        ("", "255.255.240.0", "10.0.0.0/20"),
        ("0.0.0.0", "0.0.0.0", "0.0.0.0/0"),
        ("10.0.0.0", "", "10.0.0.16/28"),
        ("10.0.0.0", "16", "10.0.0.16/28"),
        ("10.0.0.0", "0.0.255.255", "10.0.0.16/28"),
        ("10.0.0.0", "255.0.255.0", "10.0.0.16/28"),
        ("10.9.0.0", "255.255.0.0", "10.0.0.16/28"),
        ("2001:db8:1::", "255.255.0.0", "10.0.0.16/28"),
        ("any text", "255.255.0.0", "10.0.0.16/28"),
    ],
)
def test_a_declared_network_counts_if_it_is_one_and_contains_the_ranges(address: str, mask: str, block: str) -> None:
    """Its owner may write any text."""
    view = network(RANGE.format(ip="10.0.0.16", size=16), template=declared(address, mask))
    assert (str(view.ipv4_block), str(view.allotted_block)) == (block, "10.0.0.16/28")


def test_a_network_without_ipv4_addresses_has_no_block() -> None:
    view = network("<AR><TYPE>ETHER</TYPE><SIZE>16</SIZE></AR>", template=declared("10.0.0.0", "255.255.0.0"))
    assert (view.ipv4_block, view.ipv4_size, view.size) == (None, 0, 16)


@pytest.mark.parametrize(
    ("elements", "blocks"),
    [
        (
            "<GLOBAL_PREFIX>2001:db8:4::</GLOBAL_PREFIX><ULA_PREFIX>fd00:1::</ULA_PREFIX>",
            ["2001:db8:4::/64", "fd00:1::/64"],
        ),
        ("<IP6>2001:db8:6::10</IP6><PREFIX_LENGTH>48</PREFIX_LENGTH>", ["2001:db8:6::/48"]),
        ("<IP6>2001:db8:6::10</IP6><PREFIX_LENGTH>129</PREFIX_LENGTH>", []),
        ("<IP6>2001:db8:6::10</IP6>", []),
        ("<GLOBAL_PREFIX>text</GLOBAL_PREFIX>", []),
    ],
)
def test_ipv6_blocks_are_those_of_prefixes_and_of_static_addresses(elements: str, blocks: list[str]) -> None:
    view = network(*[f"<AR><SIZE>4</SIZE>{elements}</AR>"] * 2)
    assert list(map(str, view.ipv6_blocks)) == blocks


@pytest.mark.parametrize(
    ("nic", "found"),
    [
        ({"NETWORK_ID": "3"}, 3),
        ({"NETWORK_ID": "4"}, None),
        ({"NETWORK": "web", "NETWORK_UID": "2"}, 3),
        ({"NETWORK": "web", "NETWORK_UNAME": "bob"}, 5),
        ({"NETWORK": "web"}, 3),
        ({"NETWORK": "db"}, None),
        ({"NETWORK_UNAME": "bob"}, None),
        ({"NETWORK_MODE": "auto"}, None),
    ],
)
def test_the_network_of_a_nic_is_found_by_its_id_or_by_name_and_owner(nic: dict[str, str], found: int | None) -> None:
    """Without owner it is a network of the user. The networks are read once, however many NICs there are."""
    text = "<VNET><ID>{}</ID><UID>{}</UID><UNAME>{}</UNAME><NAME>web</NAME></VNET>"
    documents = (text.format(*values) for values in ((3, 2, "alice"), (5, 7, "bob")))
    networks = NetworksOfNics(VirtualNetwork(etree.fromstring(document)) for document in documents)
    for _ in range(2):
        network = networks.of(nic, "alice")
        assert (None if network is None else network.id) == found
