"""Address ranges where the recordings do not look (measured on 5.12 and 7.4): types, updates, restrictions, states."""

from __future__ import annotations

import pytest

from econed.errors import OpenNebulaCode
from econed.opennebula.states import NetworkState
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


def test_a_network_of_7_x_with_an_invalid_range_is_in_error_and_has_no_addresses() -> None:
    demo = DemoCloud()
    template_id = demo.admin("one.vntemplate.allocate", 'NAME="t" VN_MAD="dummy" BRIDGE="b"')[1]
    network_id = demo.admin("one.vntemplate.instantiate", template_id, "n", 'AR=[TYPE="IP4",IP="x",SIZE="2"]')[1]
    assert demo.code(None, "one.vn.delete", network_id) == OpenNebulaCode.ACTION
    demo.wait()
    assert demo.document(None, "one.vn.info", network_id).findtext("STATE") == str(int(NetworkState.ERROR))
    assert demo.code(None, "one.vn.hold", network_id, 'LEASES=[IP="10.0.0.1"]') == OpenNebulaCode.ACTION
    assert demo.code(None, "one.vn.add_ar", network_id, 'AR=[TYPE="ETHER",SIZE="1"]') == OpenNebulaCode.ACTION
    assert demo.code(None, "one.vn.update", network_id, 'A="1"', 1) == 0
    assert demo.code(None, "one.vn.delete", network_id) == 0


def test_an_attribute_is_added_to_a_network_of_7_x_before_it_is_ready() -> None:
    demo = DemoCloud()
    text = 'NAME="n" VN_MAD="dummy" BRIDGE="b" AR=[TYPE="ETHER",SIZE="7"]'
    network_id = demo.admin("one.vn.allocate", text, 0)[1]
    assert demo.code(None, "one.vn.update", network_id, 'A="1"', 1) == 0
    assert demo.code(None, "one.vn.reserve", network_id, 'NAME="r" SIZE="1"') == OpenNebulaCode.ACTION
    demo.wait()
    document = demo.document(None, "one.vn.info", network_id)
    assert (document.findtext("TEMPLATE/A"), document.findtext("AR_POOL/AR/SIZE")) == ("1", "7")


@pytest.mark.parametrize(("version", "length"), [("5.12", "64"), ("7.4", None)])
def test_an_update_of_a_range_empties_the_prefixes_that_are_not_sent(version: str, length: str | None) -> None:
    demo = DemoCloud(version=version)
    text = 'NAME="n" VN_MAD="dummy" BRIDGE="b" AR=[TYPE="IP6",GLOBAL_PREFIX="2001:db8::",SIZE="7"]'
    network_id = demo.admin("one.vn.allocate", text, 0)[1]
    demo.wait()
    demo.call(None, "one.vn.update_ar", network_id, 'AR=[AR_ID="0",PREFIX_LENGTH="64"]')
    address_range = demo.document(None, "one.vn.info", network_id).find("AR_POOL/AR")
    assert address_range is not None
    names = ("GLOBAL_PREFIX", "ULA_PREFIX", "PREFIX_LENGTH", "IP6_GLOBAL")
    assert [address_range.findtext(name) for name in names] == ["", "", length, None]


@pytest.mark.parametrize("version", ["5.12", "7.4"])
def test_a_rule_for_a_network_shows_the_addresses_of_all_its_ranges(version: str) -> None:
    demo = DemoCloud(version=version)
    ranges = 'AR=[TYPE="IP6",GLOBAL_PREFIX="2001:db8::",MAC="02:00:00:00:00:01",SIZE="7"] AR=[TYPE="ETHER",SIZE="1"]'
    network_id = demo.admin("one.vn.allocate", f'NAME="n" VN_MAD="dummy" BRIDGE="b" {ranges}', 0)[1]
    demo.wait()
    rule = f'RULE=[PROTOCOL="TCP",RULE_TYPE="inbound",NETWORK_ID="{network_id}"]'
    group_id = demo.admin("one.secgroup.allocate", f'NAME="g" {rule}')[1]
    text = f'CPU="1" MEMORY="64" NIC=[NETWORK_ID="0",SECURITY_GROUPS="{group_id}"]'
    vm_id = demo.admin("one.vm.allocate", text, True)[1]
    rules = demo.vm(int(str(vm_id))).findall(f"TEMPLATE/SECURITY_GROUP_RULE[SECURITY_GROUP_ID='{group_id}']")
    names = ("AR_ID", "TYPE", "SIZE", "IP6_GLOBAL", "IP6_LINK")
    assert [[rule.findtext(name) for name in names] for rule in rules] == [
        ["0", "IP6", "7", "2001:db8::ff:fe00:1", None],
        ["1", "ETHER", "1", None, None],
    ]


def test_the_size_of_a_reservation_stays() -> None:
    demo = DemoCloud()
    network_id = demo.call("alice", "one.vn.reserve", 0, 'NAME="r" SIZE="4"')
    demo.wait()
    assert demo.code("alice", "one.vn.update_ar", network_id, 'AR=[AR_ID="0",SIZE="3"]') == OpenNebulaCode.INTERNAL
    assert demo.code("alice", "one.vn.update_ar", network_id, 'AR=[AR_ID="0",SIZE="4"]') == 0


@pytest.mark.parametrize(("version", "code"), [("5.12", 0), ("7.4", OpenNebulaCode.INTERNAL)])
def test_an_owner_cannot_change_the_bridge_of_their_range(version: str, code: int) -> None:
    demo = DemoCloud(version=version)
    network_id = demo.call("alice", "one.vn.reserve", 0, 'NAME="r" SIZE="4"')
    demo.wait()
    assert demo.code("alice", "one.vn.update_ar", network_id, 'AR=[AR_ID="0",BRIDGE="b",A="1"]') == code
    assert demo.document("alice", "one.vn.info", network_id).find("AR_POOL/AR/BRIDGE") is None
    assert demo.code("alice", "one.vn.update_ar", network_id, 'AR=[AR_ID="0",A="1"]') == 0


@pytest.mark.parametrize("text", ['AR=[TYPE="ETHER",SIZE="1",BRIDGE="b"]', 'AR=[TYPE="ETHER",SIZE="1",VLAN_ID="7"]'])
def test_an_owner_of_a_network_of_a_template_adds_ranges_in_7_x_but_chooses_no_bridge_or_vlan(text: str) -> None:
    demo = DemoCloud()
    template_id = demo.admin("one.vntemplate.allocate", 'NAME="t" VN_MAD="dummy" BRIDGE="b"')[1]
    demo.admin("one.vntemplate.chmod", template_id, 1, 1, 0, 0, 0, 0, 1, 0, 0)
    network_id = demo.call("alice", "one.vntemplate.instantiate", template_id, "n", "")
    demo.wait()
    assert demo.code("alice", "one.vn.add_ar", network_id, text) == OpenNebulaCode.AUTHORIZATION
    assert demo.code("alice", "one.vn.add_ar", network_id, 'AR=[TYPE="ETHER",SIZE="1"]') == 0
    assert demo.code("alice", "one.vn.update", network_id, 'VLAN_ID="7"', 1) == OpenNebulaCode.AUTHORIZATION


def test_a_deleted_network_of_7_x_keeps_its_name_and_the_addresses_of_its_parent_for_a_moment() -> None:
    demo = DemoCloud()
    text = 'NAME="r" SIZE="4"'
    network_id = demo.call("alice", "one.vn.reserve", 0, text)
    demo.wait()
    assert demo.code("alice", "one.vn.delete", network_id) == 0
    assert demo.document("alice", "one.vn.info", network_id).findtext("STATE") == str(int(NetworkState.LOCK_DELETE))
    assert demo.document("alice", "one.vn.info", 0).findtext("USED_LEASES") == "4"
    assert demo.code("alice", "one.vn.delete", network_id) == OpenNebulaCode.ACTION
    assert demo.code("alice", "one.vn.reserve", 0, text) == OpenNebulaCode.INTERNAL
    demo.wait()
    assert demo.document("alice", "one.vn.info", 0).findtext("USED_LEASES") == "0"
    assert demo.code("alice", "one.vn.info", network_id) == OpenNebulaCode.NO_EXISTS
    assert demo.code("alice", "one.vn.reserve", 0, text) == 0
