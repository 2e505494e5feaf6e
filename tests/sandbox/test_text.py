"""What oned can and cannot keep in templates."""

from __future__ import annotations

from xmlrpc.client import Fault

import pytest
from hypothesis import given
from hypothesis import strategies as st

from econed.sandbox.refusals import Refused
from econed.sandbox.template import parse
from tests.sandbox.demo_cloud import DemoCloud

SENDABLE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xD7FF))


def kept(demo: DemoCloud, text: str) -> str | None:
    """Return what oned keeps of a value that is sent between quotes."""
    demo.call("alice", "one.user.update", 2, f'A="{text}"', 1)
    return demo.document("alice", "one.user.info", -1, False).findtext("TEMPLATE/A")


@pytest.mark.parametrize(
    ("sent", "there"),
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
def test_a_quoted_text_is_kept_as_typed_but_for_its_escaped_quotes(sent: str, there: str) -> None:
    assert kept(DemoCloud(), sent) == there


def test_a_backslash_at_the_end_swallows_the_quote_and_what_follows_becomes_part_of_the_value() -> None:
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
def test_text_that_oned_cannot_read_is_a_parse_error(text: str) -> None:
    with pytest.raises(Refused, match="Parse error"):
        parse(text)


def test_the_end_of_cdata_is_refused() -> None:
    assert DemoCloud().code("alice", "one.user.update", 2, 'A="a]]>b"', 1) == 8192


@pytest.mark.parametrize("text", ['A="new\n]]>"', 'V=[X="new\n]]>"]', 'V=[1X="new"]'])
def test_what_makes_no_well_formed_document_is_answered_with_success_and_changes_nothing(text: str) -> None:
    demo = DemoCloud()
    demo.call("alice", "one.user.update", 2, 'A="old"', 0)
    demo.call("alice", "one.user.update", 2, text, 0)
    found = demo.document("alice", "one.user.info", -1, False).find("TEMPLATE")
    assert found is not None
    assert [(e.tag, e.text) for e in found] == [("A", "old")]


@pytest.mark.parametrize("text", ['TAG="\n]]>"', 'CONTEXT=[A="\n]]>"]'])
def test_nothing_is_made_of_what_makes_no_well_formed_document(text: str) -> None:
    demo = DemoCloud()
    assert demo.code("alice", "one.template.instantiate", 0, "", True, text, False) == 16384
    image = 'NAME="i"\nTYPE="DATABLOCK"\nSIZE="1"\nTAG="\n]]>"'
    assert demo.code("alice", "one.image.allocate", image, 1) == 16384


@pytest.mark.parametrize(("version", "there"), [("5.12", " \t a \n"), ("7.4", "a")])
def test_7_x_takes_off_what_is_blank_around_a_value_and_5_12_keeps_it(version: str, there: str) -> None:
    demo = DemoCloud(version)
    demo.call("alice", "one.user.update", 2, 'A=" \t a \n"\nV=[X=" \t a \n"]', 1)
    found = demo.document("alice", "one.user.info", -1, False)
    assert (found.findtext("TEMPLATE/A"), found.findtext("TEMPLATE/V/X")) == (there, there)


@pytest.mark.parametrize(
    ("text", "read"),
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
def test_text_that_is_not_quite_right_is_read_as_oneds_scanner_does(text: str, read: list[object]) -> None:
    assert list(parse(text)) == read


def test_users_and_images_keep_the_last_of_several_attributes_of_one_name_and_machines_all() -> None:
    demo = DemoCloud()
    demo.call("alice", "one.user.update", 2, 'A="1"\nA="2"', 0)
    assert [e.text for e in demo.document("alice", "one.user.info", -1, False).iterfind("TEMPLATE/A")] == ["2"]
    machine = demo.run(hold=True)
    demo.call("alice", "one.vm.update", machine, 'A="1"\nA="2"', 0)
    assert [e.text for e in demo.vm(machine).iterfind("USER_TEMPLATE/A")] == ["1", "2"]


def test_vectors_with_nothing_in_them_are_lost() -> None:
    demo = DemoCloud()
    demo.call("alice", "one.user.update", 2, 'A=[]\nB=""', 0)
    found = demo.document("alice", "one.user.info", -1, False).find("TEMPLATE")
    assert found is not None
    assert [e.tag for e in found] == ["B"]


@pytest.mark.parametrize(("text", "how", "code"), [('A="1"', 2, 4096), ('A="1"', -1, 4096), ("bad", 1, 8192)])
def test_an_update_either_replaces_or_merges(text: str, how: int, code: int) -> None:
    assert DemoCloud().code("alice", "one.user.update", 2, text, how) == code


def test_restricted_attributes_cannot_be_changed_by_an_update_and_survive_a_replacement() -> None:
    demo = DemoCloud()
    machine = demo.run(hold=True)
    demo.admin("one.vm.update", machine, 'USER_PRIORITY="5"', 1)
    assert demo.code("alice", "one.vm.update", machine, 'USER_PRIORITY="6"', 1) == 8192
    demo.call("alice", "one.vm.update", machine, 'A="1"', 0)
    kept = demo.vm(machine).find("USER_TEMPLATE")
    assert kept is not None
    assert [(e.tag, e.text) for e in kept] == [("A", "1"), ("USER_PRIORITY", "5")]


@pytest.mark.parametrize("text", ["\N{GRINNING FACE}", "bell \a", "\x00", "\ufffe", "\ud800"])
def test_characters_that_xml_or_oned_cannot_carry_fail_the_whole_call(text: str) -> None:
    with pytest.raises(Fault) as refused:
        DemoCloud().admin("one.user.update", 2, f'A="{text}"', 1)
    assert refused.value.faultCode == -503


def test_names_are_upper_cased_and_two_that_differ_in_case_are_one() -> None:
    demo = DemoCloud()
    demo.call("alice", "one.user.update", 2, 'name="a"', 1)
    demo.call("alice", "one.user.update", 2, 'Name="b"', 1)
    assert [e.text for e in demo.document("alice", "one.user.info", -1, False).iterfind("TEMPLATE/NAME")] == ["b"]


def test_appending_merges_by_top_level_attribute_and_replacing_leaves_nothing_else() -> None:
    demo = DemoCloud()
    demo.call("alice", "one.user.update", 2, 'A="1"\nV=[X="1",Y="2"]', 0)
    demo.call("alice", "one.user.update", 2, 'B="2"\nV=[Z="3"]', 1)
    merged = demo.document("alice", "one.user.info", -1, False).find("TEMPLATE")
    assert merged is not None
    assert [(e.tag, e.text) for e in merged.iter() if not len(e)] == [("A", "1"), ("B", "2"), ("Z", "3")]
    demo.call("alice", "one.user.update", 2, 'C="3"', 0)
    assert [e.tag for e in demo.document("alice", "one.user.info", -1, False).iterfind("TEMPLATE/*")] == ["C"]


def test_attributes_are_shown_sorted_by_name_and_those_of_one_name_in_their_order() -> None:
    assert [name for name, _ in parse('B="1" A="2" B="0"')] == ["A", "B", "B"]
    assert [value for name, value in parse('B="1" A="2" B="0"') if name == "B"] == ["1", "0"]


def test_a_template_may_also_come_as_xml() -> None:
    assert list(parse("<T><A>1</A><V><X>2</X></V></T>")) == [("A", "1"), ("V", {"X": "2"})]


@given(SENDABLE)
def test_every_text_is_either_read_or_refused(text: str) -> None:
    try:
        parse(text)
    except Refused as refusal:
        assert refusal.code == 8192


@given(SENDABLE.filter(lambda text: not text.endswith("\\") and '\\"' not in text and "]]>" not in text))
def test_a_text_whose_quotes_are_escaped_comes_back_the_same(text: str) -> None:
    assert parse('A="' + text.replace('"', '\\"') + '"').get("A") == text


class TestContext:
    """oned replaces `$` in CONTEXT."""

    @pytest.mark.parametrize("value", ["100$", "$$", "${X}", "a $ b", "$USER[", "$NAME, too", "$A]"])
    def test_a_dollar_that_names_nothing_fails_the_whole_instantiation(self, value: str) -> None:
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
    def test_variables_are_replaced_and_unknown_ones_by_nothing(self, value: str, expanded: str) -> None:
        demo = DemoCloud()
        extra = f'FOO="bar"\nCONTEXT=[A="{value}"]'
        machine = demo.call("alice", "one.template.instantiate", 0, "mine", True, extra, False)
        assert demo.vm(machine).findtext("TEMPLATE/CONTEXT/A") == expanded

    @pytest.mark.parametrize(
        ("value", "members"),
        [
            ("x@^_^@B=y", {"A": "x", "B": "y"}),
            ("x@^_^@y", {"A": "x"}),
            ("@^_^@ETH0_IP=192.0.2.1", {"A": "", "ETH0_IP": "192.0.2.1"}),
        ],
    )
    def test_the_separator_by_which_oned_joins_members_makes_others_of_one(
        self, value: str, members: dict[str, str]
    ) -> None:
        demo = DemoCloud()
        machine = demo.run(f'CONTEXT=[A="{value}"]', hold=True)
        context = demo.vm(machine).find("TEMPLATE/CONTEXT")
        assert context is not None
        assert {e.tag: e.text or "" for e in context if e.tag not in ("DISK_ID", "TARGET")} == members

    def test_a_dollar_elsewhere_is_kept(self) -> None:
        demo = DemoCloud()
        machine = demo.run('TAG="100$ $NAME"', hold=True)
        assert demo.vm(machine).findtext("USER_TEMPLATE/TAG") == "100$ $NAME"


@pytest.mark.parametrize("nothing", ["[]", "[ ]"])
def test_a_vector_without_members_takes_the_attribute_away(nothing: str) -> None:
    """Seen on 5.12 and 7.4; an empty text leaves an empty attribute."""
    template = parse('A=[B="1"]\nC="2"\nD="3"')
    template.merge(parse(f'A={nothing}\nC={nothing}\nD=""\nE={nothing}'))
    assert list(template) == [("D", "")]


def test_of_a_text_that_sets_an_attribute_and_takes_it_away_users_follow_the_end_and_machines_have_it() -> None:
    """Seen on 5.12 and 7.4; images do as users, networks and templates as machines."""
    demo = DemoCloud()
    text = 'A="1"\nA=[]\nB=[]\nB="2"'
    demo.call("alice", "one.user.update", 2, text, 1)
    user = demo.document("alice", "one.user.info", -1, False).find("TEMPLATE")
    assert user is not None
    assert [(each.tag, each.text) for each in user if each.tag in ("A", "B")] == [("B", "2")]
    machine = demo.run("", hold=True)
    demo.call("alice", "one.vm.update", machine, text, 1)
    assert demo.vm(machine).findtext("USER_TEMPLATE/A") == "1"
    assert demo.vm(machine).findtext("USER_TEMPLATE/B") == "2"
