"""An independent parser of template text, by the rules of oned's scanner and grammar; and recorded documents."""

from __future__ import annotations

import json
import re
from pathlib import Path

from lxml import etree

RECORDINGS = Path(__file__).parent.parent / "data" / "recordings"
VERSIONS = ("5.12", "7.4")

# oned's scanner takes the longest match: a quote after a backslash belongs to the text wherever another quote follows.
_STRING = re.compile(r'"((?:\\"|[^"])*)"')
_NAME = re.compile(r"[A-Za-z0-9_]+")


class ParseError(Exception):
    """A text for which oned replies "Parse error."."""


def read_template(text: str, strips: bool = True) -> list[tuple[str, str | dict[str, str]]]:
    """Return the attributes that oned would store for quoted template text.

    `strips` says whether it strips blanks around values, as 7.4 does and 5.12 does not.
    """
    attributes: list[tuple[str, str | dict[str, str]]] = []
    position = 0
    while (position := _skip_blanks(text, position)) < len(text):
        name, position = _take_name(text, position)
        if text[position : position + 1] == "[":
            members, position = _take_vector(text, position + 1)
            attributes.append((name, {key: _stored(value, strips) for key, value in members.items()}))
        else:
            value, position = _take_string(text, position)
            attributes.append((name, _stored(value, strips)))
    return attributes


def _take_vector(text: str, position: int) -> tuple[dict[str, str], int]:
    members: dict[str, str] = {}
    while text[position : position + 1] != "]":
        name, position = _take_name(text, position)
        value, position = _take_string(text, position)
        members.setdefault(name, value)
        if text[position : position + 1] == ",":
            position += 1
        elif text[position : position + 1] != "]":
            raise ParseError(text[position : position + 20])
    return members, position + 1


def _take_name(text: str, position: int) -> tuple[str, int]:
    match = _NAME.match(text, position)
    if not match or text[match.end() : match.end() + 1] != "=":
        raise ParseError(text[position : position + 20])
    return match.group().upper(), match.end() + 1


def _take_string(text: str, position: int) -> tuple[str, int]:
    if "]]>" in text[position:].split("\n", 1)[0]:
        raise ParseError("]]>")
    match = _STRING.match(text, position)
    if not match:
        raise ParseError(text[position : position + 20])
    return through_xml(match.group(1).replace('\\"', '"')), match.end()


def _stored(value: str, strips: bool) -> str:
    return value.strip(" \t\n") if strips else value


def _skip_blanks(text: str, position: int) -> int:
    while text[position : position + 1] in (" ", "\t", "\n") and position < len(text):
        position += 1
    return position


def through_xml(text: str) -> str:
    """Return a text as parsed from the CDATA section in which oned stores it."""
    try:
        root = etree.fromstring(f"<A><![CDATA[{text}]]></A>")
    except (etree.XMLSyntaxError, ValueError) as error:
        raise ParseError(str(error)) from error
    return root.text or ""


def recorded(version: str, method: str) -> list[etree._Element]:
    """Return the roots of all documents that a real oned returned from `method`, in order."""
    documents = []
    with (RECORDINGS / f"{version}.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            call = json.loads(line)
            reply = call["reply"]
            if call["method"] == method and isinstance(reply, list) and reply[0] is True:
                documents.append(etree.fromstring(reply[1]))
    return documents
