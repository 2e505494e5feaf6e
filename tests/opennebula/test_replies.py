"""oned's replies are parsed to values, refusals and faults; anything else is an invalid reply."""

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
def test_a_successful_reply_has_its_value_with_its_type(value: str | int | bool) -> None:
    parsed = parse_value(METHOD, reply(True, value, 0))
    assert parsed == value
    assert type(parsed) is type(value)


def test_a_value_without_a_type_is_a_string() -> None:
    assert parse_value(METHOD, reply(True, "5", 0).replace(b"<string>5</string>", b"5")) == "5"


def test_cdata_in_a_document_is_unchanged() -> None:
    root = parse_document(METHOD, reply(True, "<VM><ID>3</ID><NAME>é</NAME><N><![CDATA[ <&\n ]]></N></VM>", 0))
    assert (root.tag, root.findtext("NAME"), root.findtext("N")) == ("VM", "é", " <&\n ")


def test_a_text_of_twelve_megabytes_is_parsed() -> None:
    text = "x" * 12_000_000
    assert parse_document(METHOD, reply(True, f"<VM><A>{text}</A></VM>", 0)).findtext("A") == text


def in_unusual_form(body: bytes) -> bytes:
    """Return the same reply in a form that oned does not write, so that it is parsed as a whole."""
    return body.replace(b"<value><string>", b"<value ><string>", 1)


@pytest.mark.parametrize("before", range(1, 9))
@pytest.mark.parametrize("text", ["&lt;", "&amp;", "&amp;lt;", "é", "&#233;"])
def test_the_boundary_between_pieces_does_not_change_a_document(before: int, text: str) -> None:
    """Also within an escape, within a multi-byte character, or within a doubly escaped character."""
    body = reply(True, f"<VM><A>{'x' * (PIECE - len('<VM><A>') * 2 - before)}{text}</A><B>é]]&gt;</B></VM>", 0)
    assert etree.tostring(parse_document(METHOD, body)) == etree.tostring(parse_document(METHOD, in_unusual_form(body)))


@pytest.mark.parametrize(
    "escaped", [b"&#60;VM&#62;&#60;ID&#62;3&#60;/ID&#62;&#60;/VM&#62;", b"<![CDATA[<VM><ID>3</ID></VM>]]>"]
)
def test_a_document_with_other_escapes_is_parsed(escaped: bytes) -> None:
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
def test_a_document_is_refused_unless_the_reply_around_it_is_a_success(right: bytes, wrong: bytes) -> None:
    body = reply(True, "<VM><ID>3</ID></VM>", 0)
    assert body.count(right) == 1
    with pytest.raises((InvalidReply, OpenNebulaRefusal)):
        parse_document(METHOD, body.replace(right, wrong))


@pytest.mark.parametrize("form", [bytes, in_unusual_form])
def test_unread_elements_of_a_long_pool_are_dropped_also_with_misleading_content(
    form: Callable[[bytes], bytes],
) -> None:
    """Users' attributes may have the names of elements that are read, and contain text that looks like markup."""
    content = "<VM><OID>8</OID><VM><![CDATA[</VM></HISTORY><HISTORY><OID>9</OID>]]></VM></VM>"
    record = f"<HISTORY><OID>7</OID>{content}<SEQ>0</SEQ></HISTORY>"
    body = reply(True, f"<HISTORY_RECORDS>{record * 2}</HISTORY_RECORDS>", 0)
    root = parse_document("one.vmpool.accounting", form(body))
    remaining = "<HISTORY><OID>7</OID></HISTORY>"
    assert etree.tostring(root, encoding="unicode") == f"<HISTORY_RECORDS>{remaining * 2}</HISTORY_RECORDS>"


def test_a_failure_raises_a_refusal_with_oneds_code_and_text() -> None:
    with pytest.raises(OpenNebulaRefusal) as refused:
        parse_value(METHOD, reply(False, "[one.vm.info] Error getting virtual machine [7].", 1024, 7, -1))
    assert (refused.value.method, refused.value.code) == (METHOD, 1024)
    assert "Error getting virtual machine [7]." in refused.value.reason


def test_a_fault_raises_a_refusal_with_its_negative_code() -> None:
    with pytest.raises(OpenNebulaRefusal) as refused:
        parse_value(METHOD, fault(-506, "Method 'one.nonsense' not defined"))
    assert (refused.value.code, refused.value.reason) == (-506, "Method 'one.nonsense' not defined")


def test_a_call_that_did_not_complete_raises_a_refusal_without_a_reason() -> None:
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
def test_anything_but_a_valid_reply_raises_invalid_reply(body: bytes) -> None:
    with pytest.raises(InvalidReply):
        parse_value(METHOD, body)


@pytest.mark.parametrize(
    "value",
    [
        "",
        5,
        True,
        "not xml",
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
def test_a_value_that_is_not_the_expected_document_raises_invalid_reply(value: str | int | bool) -> None:
    with pytest.raises(InvalidReply):
        parse_document(METHOD, reply(True, value, 0))


@pytest.mark.parametrize("method", ROOTS)
def test_a_document_with_another_root_than_the_methods_raises_invalid_reply(method: str) -> None:
    """Read as a pool it would look like an empty pool."""
    with pytest.raises(InvalidReply):
        parse_document(method, reply(True, "<FOO/>", 0))


def test_a_pool_without_any_users_raises_invalid_reply() -> None:
    with pytest.raises(InvalidReply):
        parse_document("one.userpool.info", reply(True, "<USER_POOL/>", 0))
    assert parse_document("one.imagepool.info", reply(True, "<IMAGE_POOL/>", 0)).tag == "IMAGE_POOL"


@pytest.mark.parametrize("version", ["5.12", "7.4"])
def test_recorded_documents_have_the_root_elements_in_roots(version: str) -> None:
    recorded_roots: dict[str, set[str]] = {}
    for line in (RECORDINGS / f"{version}.jsonl").read_text("utf-8").splitlines():
        call = json.loads(line)
        if isinstance(call["reply"], list) and call["reply"][0] is True and call["method"] in ROOTS:
            match = re.match(r"<(\w+)", str(call["reply"][1]))
            recorded_roots.setdefault(call["method"], set()).add(match[1] if match is not None else "")
    assert len(recorded_roots) > 15
    assert recorded_roots == {method: {ROOTS[method]} for method in recorded_roots}
