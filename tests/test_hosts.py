"""Hosts: the notations of addresses, and which addresses are public."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from econed.fetching.own_host import is_own_address
from econed.hosts import is_global, matches_any, normal_host


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1", "192.0.1.9"],
)
def test_a_public_address_is_global_in_every_notation(address: str) -> None:
    assert is_global(ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "192.0.0.9",
        "192.0.2.1",
        "192.88.99.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::8.8.8.8",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b::7f00:1",
        "64:ff9b:1::808:808",
        "2002:7f00:1::",
        "2002:a00:1::1",
        "2001:0:a9fe:a9fe::1",
        "2001:20::1",
        "2001:db8::1",
        "3fff::1",
        "fc00::1",
        "fd12:3456:789a::1",
        "fe80::1",
        "fe80::1%1",
        "fec0::1",
        "ff02::1",
        "4000::1",
    ],
)
def test_an_address_that_is_not_public_is_not_global_in_any_notation(address: str) -> None:
    assert not is_global(ip_address(address))


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("Images.Example.ORG.", "images.example.org"),
        ("[2001:DB8:0:0::1]", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("192.0.2.1", "192.0.2.1"),
        ("my_host", "my_host"),
    ],
)
def test_a_host_has_a_normal_form(text: str, host: str) -> None:
    assert normal_host(text) == host


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "a..b",
        "a.example..",
        "127.1",
        "0177.0.0.1",
        "010.0.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "127.0.0.0x1",
        "127.0.0.1.",
        "256.0.0.1",
        "[127.0.0.1",
        "[::1%25lo]",
        "fe80::1%1",
        "[x]",
        "-a.example",
        "exa mple",
        "１２７.0.0.1",
        "ｌocalhost",
    ],
)
def test_an_ambiguous_or_invalid_text_is_not_a_host(text: str) -> None:
    assert normal_host(text) is None


@pytest.mark.parametrize(
    ("host", "patterns", "expected"),
    [
        ("images.example.org", ["images.example.org"], True),
        ("images.example.org", ["*.example.org"], True),
        ("a.b.example.org", ["*.example.org"], True),
        ("example.org", ["*.example.org"], False),
        ("badexample.org", ["*.example.org"], False),
        ("images.example.org.evil.example", ["*.example.org", "images.example.org"], False),
        ("10.0.0.1", ["10.0.0.1"], True),
        ("10.0.0.1", ["*.0.0.1"], False),
        ("images.example.org", [], False),
    ],
)
def test_a_host_matches_itself_or_a_pattern_of_its_domain(host: str, patterns: list[str], expected: bool) -> None:
    assert matches_any(host, patterns) is expected


@pytest.mark.parametrize(("address", "expected"), [("127.0.0.1", True), ("192.0.2.1", False), ("2001:db8::1", False)])
def test_an_address_of_this_machine_is_recognized(address: str, expected: bool) -> None:
    """Services on it may trust local clients even if the address is public."""
    assert is_own_address(address) is expected
