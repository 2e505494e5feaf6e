"""Files of instance types: which of ERB they may have, and that a value stays a value wherever it is put."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from econed.errors import NotKeepable
from econed.opennebula.file_templates import FileTemplate, FileTemplateError
from econed.opennebula.template import render
from econed.opennebula.template_reader import read_template
from tests.support.awkward_texts import AWKWARD

STOCK = Path(__file__).parent.parent / "data/ec2query_templates/m1.small.erb"
PLAIN = {"img_id": "7", "ec2_img_id": "ami-00000007", "instance_type": "m1.small"}
KEY = {"public_key": "ssh-rsa AAAA me@home", "key_name": "mine"}
DATA = {"user_data": "IyEvYmluL3No"}


def said(text: str, **values: str) -> dict[str, object]:
    """Return the attributes of a file with these values besides those that there always are."""
    attributes = FileTemplate.parse(text).attributes({**PLAIN, **values})
    return {name: value if isinstance(value, str) else dict(value) for name, value in attributes}


def test_a_file_like_the_stock_one_reads_as_the_ruby_server_read_it() -> None:
    text = STOCK.read_text("utf-8")
    plain = said(text)
    assert (plain["NAME"], plain["CPU"], plain["MEMORY"]) == ("small-from-file", "0.5", "64")
    assert (plain["IMAGE_ID"], plain["EC2_INSTANCE_TYPE"]) == ("ami-00000007", "m1.small")
    assert "CONTEXT" not in plain
    assert said(text, **DATA)["CONTEXT"] == {"NETWORK": "YES", "EC2_USER_DATA": DATA["user_data"]}
    assert said(text, **KEY)["CONTEXT"] == {
        "NETWORK": "YES",
        "EC2_PUBLIC_KEY": KEY["public_key"],
        "EC2_KEYNAME": KEY["key_name"],
    }
    assert said(text, **KEY, **DATA)["CONTEXT"] == {
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
def test_a_condition_asks_which_values_there_are(condition: str, with_key: bool, with_data: bool) -> None:
    text = f"<% if {condition} %>A = yes<% else %>A = no<%end%>\n"
    assert said(text, **KEY)["A"] == ("yes" if with_key else "no")
    assert said(text, **DATA)["A"] == ("yes" if with_data else "no")


def test_conditions_may_stand_inside_each_other() -> None:
    text = (
        "<% if erb_vm_info[:user_data] %><% if erb_vm_info[:key_name] %>A = both<% else %>A = data<% end %>"
        "<% elsif erb_vm_info[:key_name] %>A = key<% end %>\n"
    )
    assert [said(text, **each).get("A") for each in ({**KEY, **DATA}, DATA, KEY, {})] == ["both", "data", "key", None]


def test_a_value_that_is_not_there_is_empty() -> None:
    assert said('A = <%= erb_vm_info[:user_data] %>\nB = "<%= erb_vm_info[:key_name] %>"\n') == {"A": "", "B": ""}


def test_values_may_stand_in_the_middle_of_a_text() -> None:
    text = 'A = vm-<%= erb_vm_info[:img_id] %>-x\nB = [ C = "<%= erb_vm_info[:instance_type] %> of \\"us\\"" ]'
    assert said(text) == {"A": "vm-7-x", "B": {"C": 'm1.small of "us"'}}


def test_a_value_in_a_comment_is_of_no_effect() -> None:
    assert said("# for <%= erb_vm_info[:key_name] %>\nA = 1", public_key="x", key_name="a\nEVIL = 1") == {"A": "1"}


@pytest.mark.parametrize("text", AWKWARD.values(), ids=AWKWARD.keys())
@pytest.mark.parametrize("place", ['"<%= erb_vm_info[:key_name] %>"', "<%= erb_vm_info[:key_name] %>"])
@pytest.mark.parametrize("around", ["N = {}\n", "N = [ C = {}, D = 1 ]\n", "CONTEXT = [ C = {}, D = 1 ]\n"])
def test_no_value_becomes_anything_but_that_value(around: str, place: str, text: str) -> None:
    """It is in the attribute where the file puts it, whole, or the machine is refused."""
    file = FileTemplate.parse(around.format(place) + "END = 1")
    try:
        attributes = file.attributes({**PLAIN, "public_key": "k", "key_name": text})
    except NotKeepable:
        return
    again = dict(read_template(render(attributes) + "\n"))
    assert again.keys() == {around.split()[0], "END"}
    held = again[around.split()[0]]
    assert held == (text if isinstance(held, str) else {"C": text, "D": "1"})


@given(st.text())
def test_no_text_at_all_breaks_out_of_its_place(text: str) -> None:
    file = FileTemplate.parse('A = <%= erb_vm_info[:key_name] %>\nB = [ C = "<%= erb_vm_info[:key_name] %>" ]\n')
    try:
        attributes = file.attributes({**PLAIN, "public_key": "k", "key_name": text})
    except NotKeepable:
        return
    assert dict(read_template(render(attributes) + "\n")) == {"A": text, "B": {"C": text}}


def test_a_dollar_is_refused_in_context_where_oned_would_expand_it_and_kept_elsewhere() -> None:
    text = 'A = "<%= erb_vm_info[:key_name] %>"\n'
    assert said(text, public_key="k", key_name="100$")["A"] == "100$"
    with pytest.raises(NotKeepable):
        said(f"CONTEXT = [ {text.strip()} ]\n", public_key="k", key_name="100$")


@pytest.mark.parametrize(
    ("text", "line", "says"),
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
def test_what_is_not_understood_is_an_error_that_names_the_line(text: str, line: int, says: str) -> None:
    """When the file is read, not when the first machine is made, and in branches that are seldom taken too."""
    with pytest.raises(FileTemplateError, match=says) as caught:
        FileTemplate.parse(text)
    assert caught.value.line == line
