"""Texts in documents become valid values or none, whatever a user wrote."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from econed.opennebula.documents import Lease, Nic, VirtualNetwork
from econed.opennebula.values import MAX_ID, MAX_TIME, epoch_seconds, ipv4, ipv6, mac, whole_number

ADDRESSES = st.ip_addresses(v=4)


@given(ADDRESSES)
def test_every_ipv4_address_is_read(address: IPv4Address) -> None:
    assert ipv4(str(address)) == address


@given(st.text())
def test_only_texts_of_digits_and_dots_are_read_as_ipv4_addresses(text: str) -> None:
    address = ipv4(text)
    assert address is None or (str(address) == text and set(text) <= set("0123456789."))


@given(st.from_regex(r"[0-9]{0,4}(\.[0-9]{0,4}){2,4}\.?", fullmatch=True))
def test_the_same_texts_are_ipv4_addresses_as_in_python(text: str) -> None:
    try:
        expected = IPv4Address(text)
    except ValueError:
        expected = None
    assert ipv4(text) == expected


@pytest.mark.parametrize("text", ["::1%eth0", "fe80::1%$(id)", "::1%} ; flush ruleset", "10.0.0.1", "", "::g"])
def test_an_ipv6_address_with_a_scope_or_of_another_form_is_refused(text: str) -> None:
    """Python accepts any text after a percent sign, and returns it in the string."""
    assert ipv6(text) is None


def test_an_ipv6_address_is_read() -> None:
    assert ipv6("2001:DB8::1") == IPv6Address("2001:db8::1")


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("007", 7), (str(MAX_ID), MAX_ID), (str(MAX_ID + 1), None), ("9" * 5000, None), ("-1", None)]
    + [(text, None) for text in ("", " 1", "1\n", "1.0", "1e3", "0x1", "\u0661", "\u00b2", "1_000", "+1")],
)
def test_a_number_has_ascii_digits_only_and_fits_into_32_bits(text: str, number: int | None) -> None:
    assert whole_number(text) == number


def test_a_number_is_checked_against_the_given_maximum() -> None:
    assert (whole_number("3", largest=3), whole_number("4", largest=3)) == (3, None)


def test_a_time_may_be_later_than_2038_but_not_after_the_year_9999() -> None:
    assert epoch_seconds("4102444800") == 4102444800
    assert epoch_seconds(str(MAX_TIME)) == MAX_TIME
    assert epoch_seconds(str(MAX_TIME + 1)) is None


@pytest.mark.parametrize(
    "text", ["", "02:00:0a:00:00", "02:00:0a:00:00:0g", "02-00-0a-00-00-0a", "02:00:0a:00:00:0a\n"]
)
def test_a_text_of_another_form_is_not_a_mac_address(text: str) -> None:
    assert mac(text) == ""


def test_a_mac_address_is_returned_in_lower_case() -> None:
    assert mac("02:00:0A:00:00:0a") == "02:00:0a:00:00:0a"


def element(text: str) -> etree._Element:
    return etree.fromstring(text)


@pytest.mark.parametrize("address", ["10.0.0.5", "::1%x", "x", ""])
@pytest.mark.parametrize("network", ["", "<NETWORK_ID/>", "<NETWORK_ID>x</NETWORK_ID>", "<NETWORK_ID>-1</NETWORK_ID>"])
def test_an_interface_without_a_network_has_no_addresses(network: str, address: str) -> None:
    nic = Nic(element(f"<NIC><NIC_ID>0</NIC_ID>{network}<IP>{address}</IP><IP6_GLOBAL>::1</IP6_GLOBAL></NIC>"))
    assert (nic.network_id, nic.ip, nic.ip6) == (None, None, None)


def test_an_interface_on_a_network_has_its_valid_addresses_only() -> None:
    nic = Nic(element("<NIC><NETWORK_ID>3</NETWORK_ID><IP>10.0.0.5</IP><IP6>2001:db8::5</IP6></NIC>"))
    assert (nic.network_id, nic.ip, nic.ip6) == (3, IPv4Address("10.0.0.5"), IPv6Address("2001:db8::5"))
    nic = Nic(element("<NIC><NETWORK_ID>3</NETWORK_ID><IP>10.0.0.5; x</IP><IP6>::1%x</IP6></NIC>"))
    assert (nic.ip, nic.ip6) == (None, None)


def test_leases_of_returns_the_leases_of_that_machine_only() -> None:
    leases = "".join(
        f"<LEASE><IP>10.0.0.{number}</IP>{holder}</LEASE>"
        for number, holder in enumerate(
            ("<VM>7</VM>", "<VM>77</VM>", "<VM>-1</VM>", "<VNET>7</VNET>", "<VROUTER>7</VROUTER>")
        )
    )
    network = VirtualNetwork(element(f"<VNET><AR_POOL><AR><LEASES>{leases}</LEASES></AR></AR_POOL></VNET>"))

    def addresses(leases: tuple[Lease, ...]) -> list[tuple[IPv4Address | None, int]]:
        return [(lease.ip, lease.vm_id) for lease in leases]

    assert addresses(network.leases_of(7)) == [(IPv4Address("10.0.0.0"), 7)]
    assert addresses(network.leases_of(8)) == []
