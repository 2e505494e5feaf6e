"""Template text: oned stores what is sent unchanged, or it is refused before it is sent."""

from __future__ import annotations

import base64

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from econed.errors import NotStorable
from econed.opennebula import template
from econed.opennebula.attributes import Attributes
from econed.opennebula.documents import VMTemplate
from tests.opennebula.reading import read_template, recorded

AWKWARD_TEXT = st.text(alphabet=st.sampled_from("\"\\]>[=,#\n\t\r $<&'a é\U0001f600\x00\x07\ufffe"), max_size=12)
ANY_TEXT = st.one_of(AWKWARD_TEXT, st.text(max_size=30))
NAMES = st.from_regex(r"[A-Z_][A-Z0-9_]{0,10}", fullmatch=True)

every_oned = pytest.mark.parametrize("strips", [True, False], ids=["7.4", "5.12"])
STORED_UNCHANGED = [
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
NOT_STORED_UNCHANGED = [
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
@pytest.mark.parametrize("text", STORED_UNCHANGED)
def test_a_storable_text_is_read_back_unchanged(text: str, strips: bool) -> None:
    assert read_template(template.attribute("A", text), strips) == [("A", text)]
    vector = template.vector("V", {"A": text, "B": "after"})
    assert read_template(vector, strips) == [("V", {"A": text, "B": "after"})]


@pytest.mark.parametrize("text", NOT_STORED_UNCHANGED)
def test_a_text_that_oned_would_change_is_refused(text: str) -> None:
    assert not template.is_storable(text)
    with pytest.raises(NotStorable):
        template.attribute("A", text)
    with pytest.raises(NotStorable) as refused:
        template.vector("V", {"A": text})
    assert refused.value.name == "V/A"


@given(before=ANY_TEXT, text=ANY_TEXT, after=ANY_TEXT)
@example(before="a\\", text="b", after="c")
@example(before="a", text='\\"', after="c")
@example(before="a", text="x\n]]>", after="c")
def test_any_text_between_others_is_stored_unchanged_or_refused(before: str, text: str, after: str) -> None:
    values = {"A": before, "B": text, "C": after}
    try:
        sent = template.template(
            template.attribute("B", text), template.vector("V", values), template.attribute("Z", after)
        )
    except NotStorable:
        assert not all(map(template.is_storable, values.values()))
        return
    for strips in (True, False):
        assert read_template(sent, strips) == [("B", text), ("V", values), ("Z", after)]


@given(name=NAMES, text=st.one_of(AWKWARD_TEXT, st.text(alphabet=st.characters(exclude_categories=["Cs"]))))
def test_an_encoded_member_decodes_to_the_same_text(name: str, text: str) -> None:
    members = template.encode_member(name, text)
    for strips in (True, False):
        [(_, read)] = read_template(template.vector("V", members), strips)
        assert isinstance(read, dict)
        assert template.decode_member(read, name) == text


def test_a_member_is_base64_encoded_only_where_necessary() -> None:
    assert template.encode_member("VALUE", "web 1") == {"VALUE": "web 1"}
    assert template.encode_member("VALUE", "\U0001f600") == {"VALUE_BASE64": "8J+YgA=="}


def test_a_text_that_is_not_valid_unicode_cannot_be_encoded() -> None:
    with pytest.raises(NotStorable):
        template.encode_member("VALUE", "\ud800")


def test_a_member_with_an_invalid_encoding_decodes_to_none() -> None:
    assert template.decode_member({"VALUE_BASE64": "not base64!"}, "VALUE") is None
    assert template.decode_member({"VALUE_BASE64": base64.b64encode(b"\xff").decode()}, "VALUE") is None
    assert template.decode_member({}, "VALUE") is None


@pytest.mark.parametrize("name", ["", "a", "A B", "A=B", 'A"', "1A", "A-B", "Ä", "A\n"])
def test_a_name_that_oned_would_change_or_misread_is_refused(name: str) -> None:
    with pytest.raises(NotStorable):
        template.attribute(name, "x")
    with pytest.raises(NotStorable):
        template.vector("V", {name: "x"})
    with pytest.raises(NotStorable):
        template.vector(name, {"A": "x"})


def test_keys_that_differ_in_case_or_punctuation_get_different_names() -> None:
    assert template.hex_name("EC2_TAG_", "Name") == "EC2_TAG_4E616D65"
    names = {template.hex_name("EC2_TAG_", key) for key in ("Name", "name", "na me", "na_me", "ñame")}
    assert len(names) == 5


@given(st.text(max_size=40))
def test_every_key_has_an_attribute_name(key: str) -> None:
    assert template.is_name(template.hex_name("EC2_TAG_", key))


@pytest.mark.parametrize("text", ["$NAME", "100$", "$$", "${X}", "a@^_^@FILES=/etc/passwd", "ends\\"])
def test_a_text_that_oned_would_expand_or_split_is_refused_in_context(text: str) -> None:
    assert not template.is_storable_in_context(text)
    with pytest.raises(NotStorable):
        template.context({}, {"KEY": text})


def test_a_context_keeps_the_templates_variables_and_added_texts_override_its_members() -> None:
    overridden = template.context(
        {"SSH_PUBLIC_KEY": "$USER[SSH_PUBLIC_KEY]", "NETWORK": "YES"}, {"SSH_PUBLIC_KEY": "ssh-rsa A"}
    )
    assert read_template(overridden) == [("CONTEXT", {"SSH_PUBLIC_KEY": "ssh-rsa A", "NETWORK": "YES"})]
    inherited = template.context({"IP": "$NIC[IP]"}, {})
    assert read_template(inherited) == [("CONTEXT", {"IP": "$NIC[IP]"})]


@pytest.mark.parametrize("version", ["5.12", "7.4"])
def test_rendering_the_attributes_of_a_template_of_oned_changes_nothing(version: str) -> None:
    templates = [VMTemplate(document).template for document in recorded(version, "one.template.info")]
    assert any("DISK" in attributes and "CONTEXT" in attributes for attributes in templates)
    for attributes in templates:
        assert Attributes(read_template(template.render(attributes))) == attributes


def test_rendering_keeps_blanks_around_values() -> None:
    attributes = Attributes([("CONTEXT", {"START_SCRIPT": "echo hi\n", "A": "$NAME"}), ("DESCRIPTION", " x ")])
    assert Attributes(read_template(template.render(attributes), strips=False)) == attributes
    context = template.context(attributes.vector("CONTEXT"), {"B": "b"})
    assert read_template(context, strips=False) == [("CONTEXT", {"START_SCRIPT": "echo hi\n", "A": "$NAME", "B": "b"})]


def test_rendering_a_text_that_is_impossible_in_template_text_is_refused() -> None:
    with pytest.raises(NotStorable):
        template.render(Attributes([("A", "ends\\")]))


def test_rendering_keeps_attributes_with_the_same_name_in_order() -> None:
    nics = Attributes([("NIC", {"NETWORK_ID": "0"}), ("MEMORY", "64"), ("NIC", {"NETWORK_ID": "1", "MODEL": "virtio"})])
    assert template.render(nics.only("NIC")) == 'NIC=[NETWORK_ID="0"]\nNIC=[NETWORK_ID="1",MODEL="virtio"]'
    assert template.render(nics.without("NIC")) == 'MEMORY="64"'


def test_an_attribute_is_removed_by_a_vector_without_members() -> None:
    assert template.removal("EC2_X") == "EC2_X=[]"
    with pytest.raises(NotStorable):
        template.removal("no name")
