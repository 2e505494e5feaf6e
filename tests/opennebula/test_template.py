"""Template text: what leaves here is what oned keeps, or it does not leave."""

from __future__ import annotations

import base64

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from econed.errors import NotKeepable
from econed.opennebula import template
from econed.opennebula.attributes import Attributes
from econed.opennebula.documents import VMTemplate
from tests.opennebula.reading import read_template, recorded

NASTY = st.text(alphabet=st.sampled_from("\"\\]>[=,#\n\t\r $<&'a é\U0001f600\x00\x07\ufffe"), max_size=12)
ANY_TEXT = st.one_of(NASTY, st.text(max_size=30))
NAMES = st.from_regex(r"[A-Z_][A-Z0-9_]{0,10}", fullmatch=True)

every_oned = pytest.mark.parametrize("trims", [True, False], ids=["7.4", "5.12"])
KEPT = [
    "",
    "x",
    'say "hi"',
    '"',
    '""',
    'a\\"b',
    "a\\\\b",
    "C:\\new\\table",
    "two\nlines\tand a tab",
    ",=[]#<&'",
    "]]",
    "]] >",
    "ünïcode",
]
NOT_KEPT = [
    " ",
    "\n",
    " a",
    "a ",
    "a\n",
    "\ta",
    "\\",
    "ends\\",
    "a]]>b",
    "\U0001f600",
    "bell\x07",
    "nul\x00",
    "cr\r\n",
    "\ufffe",
    "\ud800",
]


@every_oned
@pytest.mark.parametrize("text", KEPT)
def test_a_text_that_oned_keeps_comes_back_as_it_was(text: str, trims: bool) -> None:
    assert read_template(template.attribute("A", text), trims) == [("A", text)]
    vector = template.vector("V", {"A": text, "B": "after"})
    assert read_template(vector, trims) == [("V", {"A": text, "B": "after"})]


@pytest.mark.parametrize("text", NOT_KEPT)
def test_a_text_that_oned_cannot_keep_is_refused_not_sent(text: str) -> None:
    assert not template.is_storable(text)
    with pytest.raises(NotKeepable):
        template.attribute("A", text)
    with pytest.raises(NotKeepable) as refused:
        template.vector("V", {"A": text})
    assert refused.value.name == "V/A"


@given(before=ANY_TEXT, text=ANY_TEXT, after=ANY_TEXT)
@example(before="a\\", text="b", after="c")
@example(before="a", text='\\"', after="c")
@example(before="a", text="x\n]]>", after="c")
def test_any_text_is_kept_exactly_between_its_neighbours_or_refused(before: str, text: str, after: str) -> None:
    values = {"A": before, "B": text, "C": after}
    try:
        sent = template.template(
            template.attribute("B", text), template.vector("V", values), template.attribute("Z", after)
        )
    except NotKeepable:
        assert not all(template.is_storable(each) for each in values.values())
        return
    for trims in (True, False):
        assert read_template(sent, trims) == [("B", text), ("V", values), ("Z", after)]


@given(name=NAMES, text=st.one_of(NASTY, st.text(alphabet=st.characters(exclude_categories=["Cs"]))))
def test_a_storable_text_survives_whatever_it_holds(name: str, text: str) -> None:
    members = template.encode_member(name, text)
    for trims in (True, False):
        [(_, read)] = read_template(template.vector("V", members), trims)
        assert isinstance(read, dict)
        assert template.decode_member(read, name) == text


def test_only_what_must_be_is_encoded() -> None:
    assert template.encode_member("VALUE", "web 1") == {"VALUE": "web 1"}
    assert template.encode_member("VALUE", "\U0001f600") == {"VALUE_BASE64": "8J+YgA=="}


def test_what_no_utf_8_can_hold_is_not_storable() -> None:
    with pytest.raises(NotKeepable):
        template.encode_member("VALUE", "\ud800")


def test_an_encoded_text_that_is_none_reads_as_nothing_stored() -> None:
    assert template.decode_member({"VALUE_BASE64": "no base64!"}, "VALUE") is None
    assert template.decode_member({"VALUE_BASE64": base64.b64encode(b"\xff").decode()}, "VALUE") is None
    assert template.decode_member({}, "VALUE") is None


@pytest.mark.parametrize("name", ["", "a", "A B", "A=B", 'A"', "1A", "A-B", "Ä", "A\n"])
def test_a_name_that_oned_would_change_or_misread_is_refused(name: str) -> None:
    with pytest.raises(NotKeepable):
        template.attribute(name, "x")
    with pytest.raises(NotKeepable):
        template.vector("V", {name: "x"})
    with pytest.raises(NotKeepable):
        template.vector(name, {"A": "x"})


def test_keys_that_differ_in_case_or_in_signs_get_names_that_differ() -> None:
    assert template.hex_name("EC2_TAG_", "Name") == "EC2_TAG_4E616D65"
    names = {template.hex_name("EC2_TAG_", key) for key in ("Name", "name", "na me", "na_me", "ñame")}
    assert len(names) == 5


@given(st.text(max_size=40))
def test_every_key_has_an_attribute_name(key: str) -> None:
    assert template.is_name(template.hex_name("EC2_TAG_", key))


@pytest.mark.parametrize("text", ["$NAME", "100$", "$$", "${X}", "a@^_^@FILES=/etc/passwd", "ends\\"])
def test_what_oned_would_expand_or_split_does_not_go_into_context(text: str) -> None:
    assert not template.is_storable_in_context(text)
    with pytest.raises(NotKeepable):
        template.context({}, {"KEY": text})


def test_a_context_keeps_the_variables_of_the_template_and_lets_added_texts_win() -> None:
    made = template.context(
        {"SSH_PUBLIC_KEY": "$USER[SSH_PUBLIC_KEY]", "NETWORK": "YES"}, {"SSH_PUBLIC_KEY": "ssh-rsa A"}
    )
    assert read_template(made) == [("CONTEXT", {"SSH_PUBLIC_KEY": "ssh-rsa A", "NETWORK": "YES"})]
    kept = template.context({"IP": "$NIC[IP]"}, {})
    assert read_template(kept) == [("CONTEXT", {"IP": "$NIC[IP]"})]


@pytest.mark.parametrize("version", ["5.12", "7.4"])
def test_what_a_template_of_oneds_holds_goes_back_unchanged(version: str) -> None:
    found = [VMTemplate(each).template for each in recorded(version, "one.template.info")]
    assert any("DISK" in attributes and "CONTEXT" in attributes for attributes in found)
    for attributes in found:
        assert Attributes(read_template(template.render(attributes))) == attributes


def test_what_a_template_holds_goes_back_with_the_blanks_around_it() -> None:
    held = Attributes([("CONTEXT", {"START_SCRIPT": "echo hi\n", "A": "$NAME"}), ("DESCRIPTION", " x ")])
    assert Attributes(read_template(template.render(held), trims=False)) == held
    context = template.context(held.vector("CONTEXT"), {"B": "b"})
    assert read_template(context, trims=False) == [("CONTEXT", {"START_SCRIPT": "echo hi\n", "A": "$NAME", "B": "b"})]


def test_what_template_text_could_not_bring_in_does_not_go_back() -> None:
    with pytest.raises(NotKeepable):
        template.render(Attributes([("A", "ends\\")]))


def test_rendering_keeps_every_namesake_in_order() -> None:
    nics = Attributes([("NIC", {"NETWORK_ID": "0"}), ("MEMORY", "64"), ("NIC", {"NETWORK_ID": "1", "MODEL": "virtio"})])
    assert template.render(nics.only("NIC")) == 'NIC=[NETWORK_ID="0"]\nNIC=[NETWORK_ID="1",MODEL="virtio"]'
    assert template.render(nics.without("NIC")) == 'MEMORY="64"'


def test_an_attribute_is_taken_away_by_a_vector_without_members() -> None:
    assert template.removal("EC2_X") == "EC2_X=[]"
    with pytest.raises(NotKeepable):
        template.removal("no name")
