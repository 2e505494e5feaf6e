"""Replies of oned's: values, refusals, faults; and what is none."""

from __future__ import annotations

import json
import re
import xmlrpc.client
from collections.abc import Callable
from pathlib import Path

import pytest
from lxml import etree

from econed.errors import InvalidReply, OpenNebulaRefusal
from econed.opennebula.methods import ROOTS
from econed.opennebula.replies import PIECE, parse_document, parse_value

METHOD = "one.vm.info"
RECORDINGS = Path(__file__).parent.parent / "data" / "recordings"


def reply(*values: object) -> bytes:
    return xmlrpc.client.dumps((list(values),), methodresponse=True).encode()


def fault(code: int, text: str) -> bytes:
    return xmlrpc.client.dumps(xmlrpc.client.Fault(code, text), methodresponse=True).encode()


@pytest.mark.parametrize("value", ["", "<VM/>", "a < b & c\nd", 0, 42, -1, True, False])
def test_a_success_gives_its_value_with_its_type(value: str | int | bool) -> None:
    found = parse_value(METHOD, reply(True, value, 0))
    assert found == value
    assert type(found) is type(value)


def test_a_text_without_a_type_is_a_string() -> None:
    assert parse_value(METHOD, reply(True, "5", 0).replace(b"<string>5</string>", b"5")) == "5"


def test_a_document_is_parsed_with_its_cdata_as_it_was() -> None:
    root = parse_document(METHOD, reply(True, "<VM><ID>3</ID><NAME>é</NAME><N><![CDATA[ <&\n ]]></N></VM>", 0))
    assert (root.tag, root.findtext("NAME"), root.findtext("N")) == ("VM", "é", " <&\n ")


def test_a_text_of_tens_of_megabytes_is_read() -> None:
    text = "x" * 12_000_000
    assert parse_document(METHOD, reply(True, f"<VM><A>{text}</A></VM>", 0)).findtext("A") == text


def otherwise(body: bytes) -> bytes:
    """Return the same reply in a form that oned does not write, which is parsed as a whole."""
    return body.replace(b"<value><string>", b"<value ><string>", 1)


@pytest.mark.parametrize("before", range(1, 9))
@pytest.mark.parametrize("text", ["&lt;", "&amp;", "&amp;lt;", "é", "&#233;"])
def test_wherever_a_long_document_is_cut_it_is_the_same(before: int, text: str) -> None:
    """Within the escape of a character, within a character, within an escape that is escaped."""
    body = reply(True, f"<VM><A>{'x' * (PIECE - len('<VM><A>') * 2 - before)}{text}</A><B>é]]&gt;</B></VM>", 0)
    assert etree.tostring(parse_document(METHOD, body)) == etree.tostring(parse_document(METHOD, otherwise(body)))


@pytest.mark.parametrize(
    "escaped", [b"&#60;VM&#62;&#60;ID&#62;3&#60;/ID&#62;&#60;/VM&#62;", b"<![CDATA[<VM><ID>3</ID></VM>]]>"]
)
def test_a_document_that_is_escaped_in_another_way_is_read_too(escaped: bytes) -> None:
    body = reply(True, "", 0).replace(b"<string></string>", b"<string>" + escaped + b"</string>")
    assert parse_document(METHOD, body).findtext("ID") == "3"


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (b"</methodResponse>", b""),
        (b"</methodResponse>", b"</methodResponse><methodResponse>"),
        (b"</array>", b"</arrow>"),
        (b"<boolean>1</boolean>", b"<boolean>0</boolean>"),
    ],
)
def test_a_document_counts_only_if_all_around_it_is_a_success(right: bytes, wrong: bytes) -> None:
    body = reply(True, "<VM><ID>3</ID></VM>", 0)
    assert body.count(right) == 1
    with pytest.raises((InvalidReply, OpenNebulaRefusal)):
        parse_document(METHOD, body.replace(right, wrong))


@pytest.mark.parametrize("form", [bytes, otherwise])
def test_what_nobody_reads_of_a_long_pool_is_dropped_whatever_users_wrote_into_it(
    form: Callable[[bytes], bytes],
) -> None:
    """Attributes of users may be called like the elements that are dropped, and hold text that looks like them."""
    written = "<VM><OID>8</OID><VM><![CDATA[</VM></HISTORY><HISTORY><OID>9</OID>]]></VM></VM>"
    record = f"<HISTORY><OID>7</OID>{written}<SEQ>0</SEQ></HISTORY>"
    body = reply(True, f"<HISTORY_RECORDS>{record * 2}</HISTORY_RECORDS>", 0)
    root = parse_document("one.vmpool.accounting", form(body))
    left = "<HISTORY><OID>7</OID></HISTORY>"
    assert etree.tostring(root, encoding="unicode") == f"<HISTORY_RECORDS>{left * 2}</HISTORY_RECORDS>"


def test_a_failure_is_a_refusal_with_oneds_code_and_text() -> None:
    with pytest.raises(OpenNebulaRefusal) as refused:
        parse_value(METHOD, reply(False, "[one.vm.info] Error getting virtual machine [7].", 1024, 7, -1))
    assert (refused.value.method, refused.value.code) == (METHOD, 1024)
    assert "Error getting virtual machine [7]." in refused.value.reason


def test_a_fault_is_a_refusal_with_its_negative_number() -> None:
    with pytest.raises(OpenNebulaRefusal) as refused:
        parse_value(METHOD, fault(-506, "Method 'one.nonsense' not defined"))
    assert (refused.value.code, refused.value.reason) == (-506, "Method 'one.nonsense' not defined")


def test_a_call_that_did_not_complete_is_a_refusal_without_a_reason() -> None:
    with pytest.raises(OpenNebulaRefusal) as refused:
        parse_value(METHOD, fault(-500, "Unexpected error ... already instantiated xmlrpc_c::value"))
    assert (refused.value.code, refused.value.reason) == (-500, "no reason given")


BILLION_LAUGHS = b'<?xml version="1.0"?><!DOCTYPE m [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>' + reply(
    True, "&b;", 0
)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        b"\xff\xfe\x00",
        b"<html><body>nginx</body></html>",
        b"<methodResponse>",
        b"<methodResponse/>",
        b"<methodResponse><params/></methodResponse>",
        reply(),
        reply(True),
        reply(True, [1], 0),
        reply(True, {"a": 1}, 0),
        reply(True, 1.5, 0),
        reply("true", "x", 0),
        reply(1, "x", 0),
        reply(False, "x"),
        reply(False, "x", "y"),
        reply(True, "x", 0)[:-30],
        reply(True, "x", 0).replace(b"<boolean>1", b"<boolean>yes"),
        fault(1, "x").replace(b"faultCode", b"other"),
        fault(1, "x").replace(b"<int>1</int>", b"<string>one</string>"),
        BILLION_LAUGHS,
        b'<!DOCTYPE m SYSTEM "file:///etc/passwd">' + reply(True, "x", 0),
        b"<!-- x -->" + reply(True, "x", 0),
    ],
)
def test_what_is_no_reply_of_oneds_is_nonsense(body: bytes) -> None:
    with pytest.raises(InvalidReply):
        parse_value(METHOD, body)


@pytest.mark.parametrize(
    "value",
    [
        "",
        5,
        True,
        "no xml",
        "<VM>",
        "<VM></VM",
        "<VM/><VM/>",
        "<VM_POOL/>",
        "<vm/>",
        '<VM xmlns="http://example.com/"/>',
        "<!DOCTYPE VM><VM/>",
        '<?xml version="1.0"?><!DOCTYPE VM><VM/>',
    ],
)
def test_a_value_that_is_no_document_is_nonsense_where_one_is_wanted(value: str | int | bool) -> None:
    with pytest.raises(InvalidReply):
        parse_document(METHOD, reply(True, value, 0))


@pytest.mark.parametrize("method", ROOTS)
def test_a_document_with_another_root_than_the_methods_is_nonsense(method: str) -> None:
    """Read as a pool it would be an empty one, from which nothing may be concluded."""
    with pytest.raises(InvalidReply):
        parse_document(method, reply(True, "<FOO/>", 0))


def test_a_pool_of_users_in_which_not_even_the_one_who_asks_is_found_is_nonsense() -> None:
    with pytest.raises(InvalidReply):
        parse_document("one.userpool.info", reply(True, "<USER_POOL/>", 0))
    assert parse_document("one.imagepool.info", reply(True, "<IMAGE_POOL/>", 0)).tag == "IMAGE_POOL"


@pytest.mark.parametrize("version", ["5.12", "7.4"])
def test_recorded_documents_have_the_roots_of_the_table(version: str) -> None:
    seen: dict[str, set[str]] = {}
    for line in (RECORDINGS / f"{version}.jsonl").read_text("utf-8").splitlines():
        call = json.loads(line)
        if isinstance(call["reply"], list) and call["reply"][0] is True and call["method"] in ROOTS:
            found = re.match(r"<(\w+)", str(call["reply"][1]))
            seen.setdefault(call["method"], set()).add(found[1] if found is not None else "")
    assert len(seen) > 15
    assert seen == {method: {ROOTS[method]} for method in seen}
