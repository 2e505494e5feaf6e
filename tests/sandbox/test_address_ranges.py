"""Address ranges of the types of OpenNebula, beyond what is recorded."""

from __future__ import annotations

import pytest

from econed.errors import OpenNebulaCode
from econed.sandbox.objects.address_ranges import TYPES, make_range
from econed.sandbox.refusals import Refused
from econed.sandbox.template import Vector, parse
from tests.sandbox.demo_cloud import DemoCloud


def requested(text: str) -> Vector:
    """Return the vector of the text of an AR."""
    return parse(f"AR=[{text}]").vectors("AR")[0]


@pytest.mark.parametrize(
    "text",
    [
        'IP="10.0.0.1",SIZE="1"',
        'TYPE="IP5",IP="10.0.0.1",SIZE="1"',
        'TYPE="IP4",SIZE="1"',
        'TYPE="IP4_6",IP="10.0.0.300",SIZE="1"',
        'TYPE="IP6",GLOBAL_PREFIX="2001:db8::x",SIZE="1"',
        'TYPE="IP6",ULA_PREFIX="10.0.0.0",SIZE="1"',
        'TYPE="IP6_STATIC",IP6="",PREFIX_LENGTH="64",SIZE="1"',
        'TYPE="IP4_6_STATIC",IP="10.0.0.1",IP6="2001:db8::1",SIZE="1"',
        'TYPE="ETHER",MAC="02:00:00",SIZE="1"',
        'TYPE="ETHER"',
        'TYPE="ETHER",SIZE="some"',
    ],
)
def test_an_invalid_range_is_refused(text: str) -> None:
    with pytest.raises(Refused) as refused:
        make_range(0, requested(text))
    assert refused.value.code == OpenNebulaCode.INTERNAL


def test_a_range_has_the_addresses_of_its_type() -> None:
    text = 'IP="10.0.0.1",IP6="2001:db8::1",PREFIX_LENGTH="64",GLOBAL_PREFIX="2001:db8:1::",ULA_PREFIX="fd00::"'
    names = {name: set(make_range(0, requested(f'TYPE="{name}",{text},SIZE="9"')).addresses(8)) for name in TYPES}
    made_of_prefixes = {"IP6_LINK", "IP6_GLOBAL", "IP6_ULA"}
    assert names == {
        "ETHER": {"MAC"},
        "IP4": {"MAC", "IP"},
        "IP6": {"MAC"} | made_of_prefixes,
        "IP6_STATIC": {"MAC", "IP6"},
        "IP4_6": {"MAC", "IP"} | made_of_prefixes,
        "IP4_6_STATIC": {"MAC", "IP", "IP6"},
    }


def test_an_address_is_found_by_ip_static_ip6_and_mac() -> None:
    text = 'TYPE="IP4_6_STATIC",IP="10.0.0.1",IP6="2001:db8::1",PREFIX_LENGTH="64",SIZE="9"'
    address_range = make_range(0, requested(text))
    assert [address_range.index(address) for address in address_range.addresses(8).values()] == [8, 8, 8]
    outside = ("10.0.0.10", "2001:db8::a", "02:00:0a:00:00:0a", "no address", "")
    assert [address_range.index(address) for address in outside] == [None] * len(outside)


@pytest.mark.parametrize(
    ("length", "first", "size"),
    [("120", "::1", 255), ("127", "::", 2), ("64", "::", 2**64 - 1), ("48", "::5", 2**64 - 6)],
)
def test_a_static_range_without_size_extends_to_the_end_of_its_prefix(length: str, first: str, size: int) -> None:
    text = f'TYPE="IP6_STATIC",IP6="2001:db8{first}",PREFIX_LENGTH="{length}"'
    assert make_range(0, requested(text)).size == size


@pytest.mark.parametrize(("version", "sizes"), [("5.12", ["2"]), ("7.4", ["3", "2"])])
def test_the_ranges_of_an_instantiation_are_added_by_7_x_and_replace_those_of_the_template_in_5_12(
    version: str, sizes: list[str]
) -> None:
    demo = DemoCloud(version=version)
    text = 'NAME="t" VN_MAD="dummy" BRIDGE="b" AR=[TYPE="IP4",IP="10.7.0.1",SIZE="3"]'
    template_id = demo.admin("one.vntemplate.allocate", text)[1]
    extra = 'AR=[TYPE="IP4",IP="10.8.0.1",SIZE="2"]'
    network_id = demo.admin("one.vntemplate.instantiate", template_id, "n", extra)[1]
    demo.wait()
    document = demo.document(None, "one.vn.info", network_id)
    assert [element.text for element in document.iterfind("AR_POOL/AR/SIZE")] == sizes


def test_a_network_of_7_x_with_an_invalid_range_is_in_error_and_can_only_be_deleted() -> None:
    demo = DemoCloud()
    template_id = demo.admin("one.vntemplate.allocate", 'NAME="t" VN_MAD="dummy" BRIDGE="b"')[1]
    network_id = demo.admin("one.vntemplate.instantiate", template_id, "n", 'AR=[TYPE="IP4",IP="x",SIZE="2"]')[1]
    assert demo.code(None, "one.vn.delete", network_id) == OpenNebulaCode.ACTION
    demo.wait()
    assert demo.code(None, "one.vn.update", network_id, 'A="1"', 1) == OpenNebulaCode.ACTION
    assert demo.code(None, "one.vn.delete", network_id) == 0
