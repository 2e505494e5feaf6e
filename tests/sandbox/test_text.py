"""Texts that oned stores unchanged, changes or refuses in templates."""

from __future__ import annotations

from xmlrpc.client import Fault

import pytest
from hypothesis import given
from hypothesis import strategies as st

from econed.sandbox.refusals import Refused
from econed.sandbox.template import parse
from tests.sandbox.demo_cloud import DemoCloud

SENDABLE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xD7FF))


def stored(demo: DemoCloud, text: str) -> str | None:
    """Return a value as oned stores it when it is sent between quotes."""
    demo.call("alice", "one.user.update", 2, f'A="{text}"', 1)
    return demo.document("alice", "one.user.info", -1, False).findtext("TEMPLATE/A")


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (r"say \"hi\"", 'say "hi"'),
        ("a\\b", "a\\b"),
        ("two \\\\ stay two", "two \\\\ stay two"),
        ("line\nline\ttab", "line\nline\ttab"),
        ("a \n]] >\tb", "a \n]] >\tb"),
        ("a,b=[c]#d<e&f>", "a,b=[c]#d<e&f>"),
        ("", ""),
        ("ünï", "ünï"),
        ("ends with \\", "ends with \\"),
    ],
)
def test_a_quoted_text_is_stored_as_sent_except_for_escaped_quotes(sent: str, expected: str) -> None:
    assert stored(DemoCloud(), sent) == expected


def test_a_backslash_at_the_end_escapes_the_quote_so_that_the_value_goes_on() -> None:
    assert list(parse('A="x\\"\nB="\nC="z"')) == [("A", 'x"\nB='), ("C", "z")]
    with pytest.raises(Refused, match="Parse error"):
        parse('A="x\\"\nB="y"')


@pytest.mark.parametrize(
    "text",
    [
        'A="x\\"\nB="y"',
        'A="1"B="2"',
        "A-B=1",
        " <T><A>1</A></T>",
        "A=",
        "A",
        '="x"',
        "A=[",
        'A=[B="1"',
        'A=[B="1",]',
        "A=[=]",
        "A=,",
    ],
)
def test_text_that_oned_cannot_parse_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="Parse error"):
        parse(text)


def test_the_end_of_cdata_is_refused() -> None:
    assert DemoCloud().code("alice", "one.user.update", 2, 'A="a]]>b"', 1) == 8192


@pytest.mark.parametrize("text", ['A="new\n]]>"', 'V=[X="new\n]]>"]', 'V=[1X="new"]'])
def test_an_update_that_would_make_a_malformed_document_succeeds_without_effect(text: str) -> None:
    demo = DemoCloud()
    demo.call("alice", "one.user.update", 2, 'A="old"', 0)
    demo.call("alice", "one.user.update", 2, text, 0)
    template = demo.document("alice", "one.user.info", -1, False).find("TEMPLATE")
    assert template is not None
    assert [(e.tag, e.text) for e in template] == [("A", "old")]


@pytest.mark.parametrize("text", ['TAG="\n]]>"', 'CONTEXT=[A="\n]]>"]'])
def test_no_object_is_created_with_text_that_would_make_a_malformed_document(text: str) -> None:
    demo = DemoCloud()
    assert demo.code("alice", "one.template.instantiate", 0, "", True, text, False) == 16384
    image = 'NAME="i"\nTYPE="DATABLOCK"\nSIZE="1"\nTAG="\n]]>"'
    assert demo.code("alice", "one.image.allocate", image, 1) == 16384


@pytest.mark.parametrize(("version", "expected"), [("5.12", " \t a \n"), ("7.4", "a")])
def test_7_x_strips_blanks_around_a_value_and_5_12_keeps_them(version: str, expected: str) -> None:
    demo = DemoCloud(version)
    demo.call("alice", "one.user.update", 2, 'A=" \t a \n"\nV=[X=" \t a \n"]', 1)
    user = demo.document("alice", "one.user.info", -1, False)
    assert (user.findtext("TEMPLATE/A"), user.findtext("TEMPLATE/V/X")) == (expected, expected)


@pytest.mark.parametrize(
    ("text", "attributes"),
    [
        ("A==1", [("A", "1")]),
        ('A="a"\\"', [("A", '"a""')]),
        ('A\n="1"', [("A", "1")]),
        ('1A="1"', [("ONE_1A", "1")]),
        ('xmlA="1"', [("ONE_XMLA", "1")]),
        ('A=[X="1",x="2"]', [("A", {"X": "1"})]),
        ("<T><A/><B>1</B><C><x>2</x><y/></C></T>", [("B", "1"), ("C", {"x": "2"})]),
    ],
)
def test_unusual_text_is_parsed_as_by_oneds_scanner(text: str, attributes: list[object]) -> None:
    assert list(parse(text)) == attributes


def test_users_and_images_keep_the_last_attribute_of_a_name_and_machines_keep_all() -> None:
    demo = DemoCloud()
    demo.call("alice", "one.user.update", 2, 'A="1"\nA="2"', 0)
    assert [e.text for e in demo.document("alice", "one.user.info", -1, False).iterfind("TEMPLATE/A")] == ["2"]
    vm_id = demo.create_machine(hold=True)
    demo.call("alice", "one.vm.update", vm_id, 'A="1"\nA="2"', 0)
    assert [e.text for e in demo.vm(vm_id).iterfind("USER_TEMPLATE/A")] == ["1", "2"]


def test_vectors_without_members_are_not_stored() -> None:
    demo = DemoCloud()
    demo.call("alice", "one.user.update", 2, 'A=[]\nB=""', 0)
    template = demo.document("alice", "one.user.info", -1, False).find("TEMPLATE")
    assert template is not None
    assert [e.tag for e in template] == ["B"]


@pytest.mark.parametrize(("text", "how", "code"), [('A="1"', 2, 4096), ('A="1"', -1, 4096), ("bad", 1, 8192)])
def test_an_update_of_an_unknown_kind_or_with_invalid_text_is_refused(text: str, how: int, code: int) -> None:
    assert DemoCloud().code("alice", "one.user.update", 2, text, how) == code


def test_restricted_attributes_cannot_be_changed_by_an_update_or_lost_by_a_replacement() -> None:
    demo = DemoCloud()
    vm_id = demo.create_machine(hold=True)
    demo.admin("one.vm.update", vm_id, 'USER_PRIORITY="5"', 1)
    assert demo.code("alice", "one.vm.update", vm_id, 'USER_PRIORITY="6"', 1) == 8192
    demo.call("alice", "one.vm.update", vm_id, 'A="1"', 0)
    template = demo.vm(vm_id).find("USER_TEMPLATE")
    assert template is not None
    assert [(e.tag, e.text) for e in template] == [("A", "1"), ("USER_PRIORITY", "5")]


@pytest.mark.parametrize("text", ["\N{GRINNING FACE}", "bell \a", "\x00", "\ufffe", "\ud800"])
def test_characters_that_are_invalid_in_xml_or_to_oned_fail_the_call(text: str) -> None:
    with pytest.raises(Fault) as refused:
        DemoCloud().admin("one.user.update", 2, f'A="{text}"', 1)
    assert refused.value.faultCode == -503


def test_names_are_upper_cased_so_that_case_makes_no_difference() -> None:
    demo = DemoCloud()
    demo.call("alice", "one.user.update", 2, 'name="a"', 1)
    demo.call("alice", "one.user.update", 2, 'Name="b"', 1)
    assert [e.text for e in demo.document("alice", "one.user.info", -1, False).iterfind("TEMPLATE/NAME")] == ["b"]


def test_appending_merges_top_level_attributes_and_replacing_removes_all_others() -> None:
    demo = DemoCloud()
    demo.call("alice", "one.user.update", 2, 'A="1"\nV=[X="1",Y="2"]', 0)
    demo.call("alice", "one.user.update", 2, 'B="2"\nV=[Z="3"]', 1)
    merged = demo.document("alice", "one.user.info", -1, False).find("TEMPLATE")
    assert merged is not None
    assert [(e.tag, e.text) for e in merged.iter() if not len(e)] == [("A", "1"), ("B", "2"), ("Z", "3")]
    demo.call("alice", "one.user.update", 2, 'C="3"', 0)
    assert [e.tag for e in demo.document("alice", "one.user.info", -1, False).iterfind("TEMPLATE/*")] == ["C"]


def test_attributes_are_sorted_by_name_and_those_with_the_same_name_keep_their_order() -> None:
    assert [name for name, _ in parse('B="1" A="2" B="0"')] == ["A", "B", "B"]
    assert [value for name, value in parse('B="1" A="2" B="0"') if name == "B"] == ["1", "0"]


def test_a_template_may_also_be_xml() -> None:
    assert list(parse("<T><A>1</A><V><X>2</X></V></T>")) == [("A", "1"), ("V", {"X": "2"})]


@given(SENDABLE)
def test_every_text_is_either_parsed_or_refused(text: str) -> None:
    try:
        parse(text)
    except Refused as refusal:
        assert refusal.code == 8192


@given(SENDABLE.filter(lambda text: not text.endswith("\\") and '\\"' not in text and "]]>" not in text))
def test_a_text_with_escaped_quotes_is_parsed_unchanged(text: str) -> None:
    assert parse('A="' + text.replace('"', '\\"') + '"').get("A") == text


class TestContext:
    """oned expands variables in CONTEXT."""

    @pytest.mark.parametrize("value", ["100$", "$$", "${X}", "a $ b", "$USER[", "$NAME, too", "$A]"])
    def test_a_dollar_sign_without_a_variable_fails_the_instantiation(self, value: str) -> None:
        demo = DemoCloud()
        assert demo.code("alice", "one.template.instantiate", 0, "", False, f'CONTEXT=[A="{value}"]', False) == 16384
        assert len(demo.oned.cloud.vms) == 0

    @pytest.mark.parametrize(
        ("value", "expanded"),
        [
            ("$FOO", "bar"),
            ("a $NAME b", "a mine b"),
            ("$UNKNOWN", ""),
            ("$FOO$FOO", "barbar"),
            ("$NIC[IP, NETWORK_ID=0]", "10.0.0.10"),
        ],
    )
    def test_variables_are_expanded_and_unknown_variables_are_empty(self, value: str, expanded: str) -> None:
        demo = DemoCloud()
        extra = f'FOO="bar"\nCONTEXT=[A="{value}"]'
        vm_id = demo.call("alice", "one.template.instantiate", 0, "mine", True, extra, False)
        assert demo.vm(vm_id).findtext("TEMPLATE/CONTEXT/A") == expanded

    @pytest.mark.parametrize(
        ("value", "members"),
        [
            ("x@^_^@B=y", {"A": "x", "B": "y"}),
            ("x@^_^@y", {"A": "x"}),
            ("@^_^@ETH0_IP=192.0.2.1", {"A": "", "ETH0_IP": "192.0.2.1"}),
        ],
    )
    def test_oneds_separator_of_members_splits_a_value_into_members(self, value: str, members: dict[str, str]) -> None:
        demo = DemoCloud()
        vm_id = demo.create_machine(f'CONTEXT=[A="{value}"]', hold=True)
        context = demo.vm(vm_id).find("TEMPLATE/CONTEXT")
        assert context is not None
        assert {e.tag: e.text or "" for e in context if e.tag not in ("DISK_ID", "TARGET")} == members

    def test_a_dollar_sign_elsewhere_is_stored(self) -> None:
        demo = DemoCloud()
        vm_id = demo.create_machine('TAG="100$ $NAME"', hold=True)
        assert demo.vm(vm_id).findtext("USER_TEMPLATE/TAG") == "100$ $NAME"


@pytest.mark.parametrize("empty", ["[]", "[ ]"])
def test_merging_a_vector_without_members_removes_the_attribute(empty: str) -> None:
    """Measured on 5.12 and 7.4; an empty text leaves an empty attribute."""
    template = parse('A=[B="1"]\nC="2"\nD="3"')
    template.merge(parse(f'A={empty}\nC={empty}\nD=""\nE={empty}'))
    assert list(template) == [("D", "")]


def test_a_text_that_both_sets_and_removes_an_attribute_differs_between_users_and_machines() -> None:
    """The last wins for users, and machines keep it. Measured on 5.12 and 7.4.

    Images behave like users, networks and templates like machines.
    """
    demo = DemoCloud()
    text = 'A="1"\nA=[]\nB=[]\nB="2"'
    demo.call("alice", "one.user.update", 2, text, 1)
    user = demo.document("alice", "one.user.info", -1, False).find("TEMPLATE")
    assert user is not None
    assert [(e.tag, e.text) for e in user if e.tag in ("A", "B")] == [("B", "2")]
    vm_id = demo.create_machine("", hold=True)
    demo.call("alice", "one.vm.update", vm_id, text, 1)
    assert demo.vm(vm_id).findtext("USER_TEMPLATE/A") == "1"
    assert demo.vm(vm_id).findtext("USER_TEMPLATE/B") == "2"
