"""An independent reader of template text, by the rules of oned's own scanner and grammar; and recorded documents."""

from __future__ import annotations

import json
import re
from pathlib import Path

from lxml import etree

RECORDINGS = Path(__file__).parent.parent / "data" / "recordings"
VERSIONS = ("5.12", "7.4")

# oned's scanner takes the longest match: a quote after a backslash is part of the text wherever another quote follows.
_STRING = re.compile(r'"((?:\\"|[^"])*)"')
_NAME = re.compile(r"[A-Za-z0-9_]+")


class ParseError(Exception):
    """What oned answers with "Parse error."."""


def read_template(text: str, trims: bool = True) -> list[tuple[str, str | dict[str, str]]]:
    """Return the attributes that oned would keep of quoted template text; `trims` as 7.4 does, and 5.12 does not."""
    found: list[tuple[str, str | dict[str, str]]] = []
    at = 0
    while (at := _skip(text, at)) < len(text):
        name, at = _take_name(text, at)
        if text[at : at + 1] == "[":
            members, at = _take_vector(text, at + 1)
            found.append((name, {key: _kept(value, trims) for key, value in members.items()}))
        else:
            value, at = _take_string(text, at)
            found.append((name, _kept(value, trims)))
    return found


def _take_vector(text: str, at: int) -> tuple[dict[str, str], int]:
    members: dict[str, str] = {}
    while text[at : at + 1] != "]":
        name, at = _take_name(text, at)
        value, at = _take_string(text, at)
        members.setdefault(name, value)
        if text[at : at + 1] == ",":
            at += 1
        elif text[at : at + 1] != "]":
            raise ParseError(text[at : at + 20])
    return members, at + 1


def _take_name(text: str, at: int) -> tuple[str, int]:
    match = _NAME.match(text, at)
    if not match or text[match.end() : match.end() + 1] != "=":
        raise ParseError(text[at : at + 20])
    return match.group().upper(), match.end() + 1


def _take_string(text: str, at: int) -> tuple[str, int]:
    if "]]>" in text[at:].split("\n", 1)[0]:
        raise ParseError("]]>")
    match = _STRING.match(text, at)
    if not match:
        raise ParseError(text[at : at + 20])
    return through_xml(match.group(1).replace('\\"', '"')), match.end()


def _kept(value: str, trims: bool) -> str:
    return value.strip(" \t\n") if trims else value


def _skip(text: str, at: int) -> int:
    while text[at : at + 1] in (" ", "\t", "\n") and at < len(text):
        at += 1
    return at


def through_xml(text: str) -> str:
    """Return what becomes of a text in the CDATA section in which oned stores and shows it."""
    try:
        root = etree.fromstring(f"<A><![CDATA[{text}]]></A>")
    except (etree.XMLSyntaxError, ValueError) as error:
        raise ParseError(str(error)) from error
    return root.text or ""


def recorded(version: str, method: str) -> list[etree._Element]:
    """Return the root of every document that a real oned answered `method` with, in order."""
    documents = []
    with (RECORDINGS / f"{version}.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            call = json.loads(line)
            reply = call["reply"]
            if call["method"] == method and isinstance(reply, list) and reply[0] is True:
                documents.append(etree.fromstring(reply[1]))
    return documents
