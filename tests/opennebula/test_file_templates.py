"""Files of instance types: the part of ERB that they may use, and that inserted values stay values."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from econed.errors import NotStorable
from econed.opennebula.file_templates import FileTemplate, FileTemplateError
from econed.opennebula.template import render
from econed.opennebula.template_reader import read_template
from tests.support.awkward_texts import AWKWARD

STOCK = Path(__file__).parent.parent / "data/ec2query_templates/m1.small.erb"
PLAIN = {"img_id": "7", "ec2_img_id": "ami-00000007", "instance_type": "m1.small"}
KEY = {"public_key": "ssh-rsa AAAA me@home", "key_name": "mine"}
DATA = {"user_data": "IyEvYmluL3No"}


def attributes_of(text: str, **values: str) -> dict[str, object]:
    """Return the attributes of a file with these values and those that every machine has."""
    attributes = FileTemplate.parse(text).attributes({**PLAIN, **values})
    return {name: value if isinstance(value, str) else dict(value) for name, value in attributes}


def test_a_file_like_the_shipped_one_reads_as_in_the_ruby_server() -> None:
    text = STOCK.read_text("utf-8")
    plain = attributes_of(text)
    assert (plain["NAME"], plain["CPU"], plain["MEMORY"]) == ("small-from-file", "0.5", "64")
    assert (plain["IMAGE_ID"], plain["EC2_INSTANCE_TYPE"]) == ("ami-00000007", "m1.small")
    assert "CONTEXT" not in plain
    assert attributes_of(text, **DATA)["CONTEXT"] == {"NETWORK": "YES", "EC2_USER_DATA": DATA["user_data"]}
    assert attributes_of(text, **KEY)["CONTEXT"] == {
        "NETWORK": "YES",
        "EC2_PUBLIC_KEY": KEY["public_key"],
        "EC2_KEYNAME": KEY["key_name"],
    }
    assert attributes_of(text, **KEY, **DATA)["CONTEXT"] == {
        "NETWORK": "YES",
        "HOST": "$NAME",
        "EC2_USER_DATA": DATA["user_data"],
        "EC2_PUBLIC_KEY": KEY["public_key"],
        "EC2_KEYNAME": KEY["key_name"],
    }


@pytest.mark.parametrize(
    ("condition", "with_key", "with_data"),
    [
        ("erb_vm_info[:img_id]", True, True),
        ("erb_vm_info[:public_key]", True, False),
        ("!erb_vm_info[:public_key]", False, True),
        ("! ! erb_vm_info [ :user_data ]", False, True),
        ("erb_vm_info[:key_name] || erb_vm_info[:user_data]", True, True),
        ("erb_vm_info[:key_name]&&erb_vm_info[:user_data]", False, False),
        ("erb_vm_info[:img_id] || erb_vm_info[:key_name] && erb_vm_info[:user_data]", True, True),
        ("(erb_vm_info[:img_id] || erb_vm_info[:key_name]) && erb_vm_info[:user_data]", False, True),
        ("!(erb_vm_info[:key_name] || erb_vm_info[:user_data])", False, False),
    ],
)
def test_a_condition_is_true_when_its_values_are_present(condition: str, with_key: bool, with_data: bool) -> None:
    text = f"<% if {condition} %>A = yes<% else %>A = no<%end%>\n"
    assert attributes_of(text, **KEY)["A"] == ("yes" if with_key else "no")
    assert attributes_of(text, **DATA)["A"] == ("yes" if with_data else "no")


def test_conditions_may_be_nested() -> None:
    text = (
        "<% if erb_vm_info[:user_data] %><% if erb_vm_info[:key_name] %>A = both<% else %>A = data<% end %>"
        "<% elsif erb_vm_info[:key_name] %>A = key<% end %>\n"
    )
    assert [attributes_of(text, **values).get("A") for values in ({**KEY, **DATA}, DATA, KEY, {})] == [
        "both",
        "data",
        "key",
        None,
    ]


def test_a_missing_value_is_inserted_as_an_empty_text() -> None:
    assert attributes_of('A = <%= erb_vm_info[:user_data] %>\nB = "<%= erb_vm_info[:key_name] %>"\n') == {
        "A": "",
        "B": "",
    }


def test_values_may_be_inserted_within_a_text() -> None:
    text = 'A = vm-<%= erb_vm_info[:img_id] %>-x\nB = [ C = "<%= erb_vm_info[:instance_type] %> of \\"us\\"" ]'
    assert attributes_of(text) == {"A": "vm-7-x", "B": {"C": 'm1.small of "us"'}}


def test_a_value_in_a_comment_has_no_effect() -> None:
    assert attributes_of("# for <%= erb_vm_info[:key_name] %>\nA = 1", public_key="x", key_name="a\nEVIL = 1") == {
        "A": "1"
    }


@pytest.mark.parametrize("text", AWKWARD.values(), ids=AWKWARD.keys())
@pytest.mark.parametrize("place", ['"<%= erb_vm_info[:key_name] %>"', "<%= erb_vm_info[:key_name] %>"])
@pytest.mark.parametrize("around", ["N = {}\n", "N = [ C = {}, D = 1 ]\n", "CONTEXT = [ C = {}, D = 1 ]\n"])
def test_a_value_is_inserted_unchanged_or_refused(around: str, place: str, text: str) -> None:
    """No value can change another attribute or the structure of the template."""
    file = FileTemplate.parse(around.format(place) + "END = 1")
    try:
        attributes = file.attributes({**PLAIN, "public_key": "k", "key_name": text})
    except NotStorable:
        return
    reread = dict(read_template(render(attributes) + "\n"))
    assert reread.keys() == {around.split()[0], "END"}
    value = reread[around.split()[0]]
    assert value == (text if isinstance(value, str) else {"C": text, "D": "1"})


@given(st.text())
def test_any_text_is_inserted_unchanged_or_refused(text: str) -> None:
    file = FileTemplate.parse('A = <%= erb_vm_info[:key_name] %>\nB = [ C = "<%= erb_vm_info[:key_name] %>" ]\n')
    try:
        attributes = file.attributes({**PLAIN, "public_key": "k", "key_name": text})
    except NotStorable:
        return
    assert dict(read_template(render(attributes) + "\n")) == {"A": text, "B": {"C": text}}


def test_a_dollar_sign_is_refused_in_context_and_stored_elsewhere() -> None:
    text = 'A = "<%= erb_vm_info[:key_name] %>"\n'
    assert attributes_of(text, public_key="k", key_name="100$")["A"] == "100$"
    with pytest.raises(NotStorable):
        attributes_of(f"CONTEXT = [ {text.strip()} ]\n", public_key="k", key_name="100$")


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("A = 1\n<%= `id` %>", 2, "Ruby code is not run"),
        ("A = <%= erb_vm_info[:user] %>", 1, "has no :user"),
        ("A = <%= erb_vm_info['img_id'] %>", 1, "Ruby code is not run"),
        ("A = <%= ENV['HOME'] %>", 1, "Ruby code is not run"),
        ("<%# a comment %>", 1, "Ruby code is not run"),
        ("A = 1\n\n<% erb_vm_info[:img_id] -%>", 3, "Ruby code is not run"),
        ("<% 3.times do %>\n<% end %>", 1, "Ruby code is not run"),
        ("<% unless erb_vm_info[:img_id] %>\n<% end %>", 1, "Ruby code is not run"),
        ("<% if erb_vm_info[:img_id] == 3 %>\n<% end %>", 1, "Ruby code is not run"),
        ("<% if erb_vm_info[:img_id] || %>\n<% end %>", 1, "a condition may contain only"),
        ("<% if %>\n<% end %>", 1, "a condition may contain only"),
        ("<% if erb_vm_info[:img_id] erb_vm_info[:img_id] %>\n<% end %>", 1, "Ruby code is not run"),
        ("<% if (erb_vm_info[:img_id] %>\n<% end %>", 1, "not closed"),
        ("A = 1\n<% if erb_vm_info[:img_id] %>\nB = 1", 2, "without an <% end %>"),
        ("\n<% end %>", 2, "without an <% if"),
        ("<% else %>", 1, "without an <% if"),
        ("<% if erb_vm_info[:img_id] %>\n<% else %>\n<% elsif erb_vm_info[:img_id] %>\n<% end %>", 3, "after <% else"),
        ("<% if erb_vm_info[:img_id] %>\n<% end; system('id') %>", 2, "Ruby code is not run"),
        ("A = 1\nB = <% 1", 2, "<% without %>"),
        ("A = 1\nB %>", 2, "%> without <%"),
        ("A = 1\nB 2", 2, "NAME = value"),
        ("A = [ B = 1\nC = 2 ]", 2, "NAME = value"),
        ("A = 1\n<%= erb_vm_info[:img_id] %> = 2", 2, "NAME = value"),
        ("A = 1\n<% if erb_vm_info[:user_data] && erb_vm_info[:key_name] %>\n\nB 2\n<% end %>", 4, "NAME = value"),
        ("A = 1\nB = C:\\", 2, "cannot store"),
        ("A = 1\nB = \"]]>\"", 2, "NAME = value"),
        ("A = 1\nB = \0", 2, "NUL"),
    ],
)  # fmt: skip
def test_an_unsupported_file_raises_an_error_with_the_line(text: str, line: int, message: str) -> None:
    """When the file is parsed, not when the first machine is launched, and in all branches."""
    with pytest.raises(FileTemplateError, match=message) as caught:
        FileTemplate.parse(text)
    assert caught.value.line == line
