"""Parsing of oned's XML-RPC replies: `[true, value, …]`, `[false, text, code, …]`, or a fault.

They are parsed with lxml, since a pool of ten thousand machines is one string of tens of megabytes. Replies come from
the network: entities, document types and external references are not processed, and any other form is refused.

A document is an XML text inside the XML reply, with every `<` escaped. In the usual form of such a reply it is
unescaped and parsed in pieces (`_in_pieces`), which avoids a second copy; any other form is parsed as a whole, twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias, cast

from lxml import etree

from econed.errors import InvalidReply, MalformedDocument, OpenNebulaRefusal, XmlRpcFault
from econed.opennebula.methods import ELEMENTS_READ, NEVER_EMPTY, ROOTS

Scalar: TypeAlias = str | int | bool
"""The value in a successful reply."""

# Only an XML declaration is allowed before the root element; in particular no document type.
_OUTER_START = re.compile(rb"\s*(<\?xml[^>]*\?>)?\s*<methodResponse[\s>]")
_INNER_START = re.compile(rb"\s*(<\?xml[^>]*\?>)?\s*<[A-Za-z_]")

_DOCUMENT_START = re.compile(
    rb"\s*(<\?xml[^>]*\?>)?\s*<methodResponse>\s*<params>\s*<param>\s*<value>\s*<array>\s*<data>\s*"
    rb"<value><boolean>1</boolean></value>\s*<value><string>"
)
"""The start of a successful reply, up to its document (xmlrpc-c writes no other form)."""

_DOCUMENT_END = b"</string></value>"
_FREQUENT_ESCAPES = ((b"&lt;", b"<"), (b"&gt;", b">"))
_RARE_ESCAPES = ((b"&quot;", b'"'), (b"&apos;", b"'"), (b"&#x0d;", b"\r"))
_OTHER_ESCAPE = re.compile(rb"&(?!amp;)")
_LONGEST_ESCAPE = 6
PIECE = 1 << 18
"""Bytes of a document that are unescaped and parsed at a time."""

# A fixed encoding, so that the bytes checked here are parsed the same way. huge_tree: a text may be tens of megabytes.
_PARSER_OPTIONS: Mapping[str, Any] = MappingProxyType(
    {
        "encoding": "utf-8",
        "resolve_entities": False,
        "no_network": True,
        "load_dtd": False,
        "huge_tree": True,
        "remove_comments": True,
    }
)

_HEAD = 1024
"""Number of bytes at the start of a reply that show whether it is a success."""


def parse_value(method: str, body: bytes) -> Scalar:
    """Return the value of a successful reply to `method`.

    Raises `OpenNebulaRefusal` for a failure or a fault, `InvalidReply` for anything else.
    """
    if not _OUTER_START.match(body):
        raise InvalidReply(method, f"not an XML-RPC reply: {body[:60]!r}")
    root = _parsed(method, body)
    fault = root.find("fault/value/struct")
    if fault is not None:
        raise _fault(method, fault)
    items = root.findall("params/param/value/array/data/value")
    reply = tuple(_scalar(method, item) for item in items[:3])
    match reply:
        case (True, str() | int() as value, *_):
            return value
        case (False, str() as reason, int() as code):
            raise OpenNebulaRefusal(method, code, reason)
    raise InvalidReply(method, f"a reply of unknown form with {len(items)} values")


def parse_document(method: str, body: bytes) -> etree._Element:
    """Return the root of the document in a successful reply to `method`; raises the same as `parse_value`."""
    pieces = _in_pieces(method, body)
    if pieces is not None:
        del body
        try:
            return _document(method, pieces)
        except _UnknownEscape as unknown:
            body = unknown.body
    values = [parse_value(method, body)]
    del body  # it and the value are as large as the document, and the parsed document is several times larger
    return parse_document_text(method, values.pop())


def parse_document_text(method: str, value: Scalar) -> etree._Element:
    """Return the root of the document in the value of a reply to `method`, without elements that are never read.

    `ELEMENTS_READ` lists the elements that are read. Raises `MalformedDocument` for a document that is not well-formed,
    `InvalidReply` for a value that is not a document, or whose root is not that in `ROOTS`: read as a pool it would
    look like an empty pool.
    """
    if not isinstance(value, str):
        raise InvalidReply(method, f"not a document: {value!r:.60}")
    text = value.encode("utf-8")
    del value
    return _document(method, (text[start : start + PIECE] for start in range(0, max(len(text), 1), PIECE)))


def _document(method: str, pieces: Iterable[bytes]) -> etree._Element:
    children_read = ELEMENTS_READ.get(method, {})
    parser = etree.XMLPullParser(
        events=("end",) if children_read else (), tag=tuple(children_read) or None, **_PARSER_OPTIONS
    )
    has_started = False
    try:
        for piece in pieces:
            if not has_started and not _INNER_START.match(piece):
                raise InvalidReply(method, f"not a document: {piece[:60]!r}")
            has_started = True
            parser.feed(piece)
            for _, element in cast("Iterator[tuple[str, etree._Element]]", parser.read_events()):
                element[:] = [child for child in element if child.tag in children_read[str(element.tag)]]
        root = parser.close()
    except etree.XMLSyntaxError as error:
        raise MalformedDocument(method, f"not well-formed: {error}") from None
    if root.tag != ROOTS[method]:
        raise InvalidReply(method, f"a document with the root {str(root.tag)!r:.60} instead of {ROOTS[method]}")
    if method in NEVER_EMPTY and root.find(NEVER_EMPTY[method]) is None:
        raise InvalidReply(method, f"a pool without a {NEVER_EMPTY[method]}")
    return root


def document_bounds(method: str, body: bytes) -> slice | None:
    """Return where the escaped document is in a reply to `method`; None for a reply that has not the usual form.

    The rest of the reply goes through `parse_value`, so that nothing counts as a success that it would refuse.
    """
    match = _DOCUMENT_START.match(body)
    if match is None:
        return None
    start, end = match.end(), body.find(b"<", match.end())
    if end < 0 or not body.startswith(_DOCUMENT_END, end):
        return None
    parse_value(method, body[:start] + body[end:])
    return slice(start, end)


class _UnknownEscape(Exception):
    """The document in a reply contains an escape that is in neither `_FREQUENT_ESCAPES` nor `_RARE_ESCAPES`."""

    def __init__(self, body: bytes) -> None:
        super().__init__("unknown escape")
        self.body = body


def _in_pieces(method: str, body: bytes) -> Iterator[bytes] | None:
    """Return the document in a reply, unescaped in pieces; None for a reply that does not have the usual form."""
    bounds = document_bounds(method, body)
    return None if bounds is None else _unescaped(body, bounds.start, bounds.stop)


def _unescaped(body: bytes, start: int, end: int) -> Iterator[bytes]:
    while start < end:
        stop = min(start + PIECE, end)
        if stop < end and (ampersand := body.rfind(b"&", stop - _LONGEST_ESCAPE, stop)) >= 0:
            stop = ampersand  # the piece may end within an escape
        piece = body[start:stop]
        for escaped, plain in _FREQUENT_ESCAPES:
            piece = piece.replace(escaped, plain)
        if b"&" in piece:  # rarely, and each search takes as long as a pass
            for escaped, plain in _RARE_ESCAPES:
                piece = piece.replace(escaped, plain)
            if _OTHER_ESCAPE.search(piece):
                raise _UnknownEscape(body)
            piece = piece.replace(b"&amp;", b"&")
        yield piece
        start = stop


def parse_refusal(method: str, body: bytes) -> OpenNebulaRefusal | None:
    """Return the refusal in a reply, without parsing other replies; None for a success, a fault or an invalid reply."""
    if b"<boolean>0</boolean>" not in body[:_HEAD]:
        return None
    try:
        parse_value(method, body)
    except OpenNebulaRefusal as refusal:
        return refusal
    except InvalidReply:
        pass
    return None


def _parsed(method: str, body: bytes) -> etree._Element:
    try:
        return etree.fromstring(body, etree.XMLParser(**_PARSER_OPTIONS))
    except etree.XMLSyntaxError as error:
        raise InvalidReply(method, f"not well-formed: {error}") from None


def _fault(method: str, struct: etree._Element) -> OpenNebulaRefusal:
    members = {member.findtext("name"): member.find("value") for member in struct.findall("member")}
    code, text = (_scalar(method, members.get(name)) for name in ("faultCode", "faultString"))
    if isinstance(code, bool) or not isinstance(code, int):
        raise InvalidReply(method, f"a fault without a numeric code: {code!r:.60}")
    # This fault is raised by oned's XML-RPC library: its text is about the library, not about the call.
    return OpenNebulaRefusal(method, code, "no reason given" if code == XmlRpcFault.NOT_COMPLETED else str(text))


def _scalar(method: str, value: etree._Element | None) -> Scalar:
    if value is None:
        raise InvalidReply(method, "a value is missing")
    if len(value) == 0:
        return value.text or ""
    text = value[0].text or ""
    try:
        match value[0].tag:
            case "string":
                return text
            case "boolean":
                return bool(int(text))
            case "i4" | "int" | "i8":
                return int(text)
    except ValueError:
        pass
    raise InvalidReply(method, f"an unknown type of value: <{value[0].tag}> {text[:40]!r}")
