"""What oned's XML-RPC replies mean: `[true, value, …]`, `[false, text, code, …]`, or a fault.

lxml reads them, since a pool of ten thousand machines is one string of tens of megabytes. A reply comes from the
network: it is taken apart without entities, document types or outside references, and any other form is refused.

A document is text within XML, with every `<` of it escaped. The usual form of such a reply is unescaped and parsed
piece by piece (`_in_pieces`), so that there is never a second copy of it; any other form is parsed as a whole, twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias, cast

from lxml import etree

from econed.errors import InvalidReply, OpenNebulaRefusal, XmlRpcFault
from econed.opennebula.methods import ELEMENTS_READ, NEVER_EMPTY, ROOTS

Scalar: TypeAlias = str | int | bool
"""What a reply of oned's carries beside its success."""

# Nothing may stand before the root element but the XML declaration, least of all a document type.
_OUTER_START = re.compile(rb"\s*(<\?xml[^>]*\?>)?\s*<methodResponse[\s>]")
_INNER_START = re.compile(rb"\s*(<\?xml[^>]*\?>)?\s*<[A-Za-z_]")

_DOCUMENT_START = re.compile(
    rb"\s*(<\?xml[^>]*\?>)?\s*<methodResponse>\s*<params>\s*<param>\s*<value>\s*<array>\s*<data>\s*"
    rb"<value><boolean>1</boolean></value>\s*<value><string>"
)
"""A success, up to its document (xmlrpc-c writes no other form)."""

_DOCUMENT_END = b"</string></value>"
_ESCAPES = ((b"&lt;", b"<"), (b"&gt;", b">"), (b"&quot;", b'"'), (b"&apos;", b"'"), (b"&#x0d;", b"\r"))
_OTHER_ESCAPE = re.compile(rb"&(?!amp;)")
_LONGEST_ESCAPE = 6
PIECE = 1 << 18
"""Bytes of a document that are unescaped and parsed at once."""

# A fixed encoding: what is looked at here is what is parsed. huge_tree: one text may be tens of megabytes.
_SAFELY: Mapping[str, Any] = MappingProxyType(
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
"""Bytes in which a reply has said whether it is a success."""


def parse_value(method: str, body: bytes) -> Scalar:
    """Return the value of a successful reply to `method`.

    Raises `OpenNebulaRefusal` for a failure or a fault, `InvalidReply` for what is no reply of oned's.
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
    raise InvalidReply(method, f"a reply of an unknown form, {len(items)} values")


def parse_document(method: str, body: bytes) -> etree._Element:
    """Return the root of the document that a successful reply to `method` carries; raises as `parse_value`."""
    pieces = _in_pieces(method, body)
    if pieces is not None:
        del body
        try:
            return _document(method, pieces)
        except _UnknownEscape as unknown:
            body = unknown.body
    values = [parse_value(method, body)]
    del body  # this and the value are as large as the document, and what it becomes is several times that
    return parse_document_text(method, values.pop())


def parse_document_text(method: str, value: Scalar) -> etree._Element:
    """Return the root of the document that the value of a reply to `method` is.

    What `ELEMENTS_READ` does not name is left out. Raises `InvalidReply` for what is no document, and for one
    with another root than `ROOTS` says: read as a pool it would be an empty one.
    """
    if not isinstance(value, str):
        raise InvalidReply(method, f"no document, but {value!r:.60}")
    text = value.encode("utf-8")
    del value
    return _document(method, (text[at : at + PIECE] for at in range(0, max(len(text), 1), PIECE)))


def _document(method: str, pieces: Iterable[bytes]) -> etree._Element:
    read = ELEMENTS_READ.get(method, {})
    parser = etree.XMLPullParser(events=("end",) if read else (), tag=tuple(read) or None, **_SAFELY)
    is_begun = False
    try:
        for piece in pieces:
            if not is_begun and not _INNER_START.match(piece):
                raise InvalidReply(method, f"no document, but {piece[:60]!r}")
            is_begun = True
            parser.feed(piece)
            for _, element in cast("Iterator[tuple[str, etree._Element]]", parser.read_events()):
                element[:] = [child for child in element if child.tag in read[str(element.tag)]]
        root = parser.close()
    except etree.XMLSyntaxError as error:
        raise InvalidReply(method, f"not well-formed: {error}") from None
    if root.tag != ROOTS[method]:
        raise InvalidReply(method, f"a document with the root {str(root.tag)!r:.60} in place of {ROOTS[method]}")
    if method in NEVER_EMPTY and root.find(NEVER_EMPTY[method]) is None:
        raise InvalidReply(method, f"a pool without any {NEVER_EMPTY[method]}")
    return root


class _UnknownEscape(Exception):
    """The text of a reply is escaped in a way that `_ESCAPES` does not have."""

    def __init__(self, body: bytes) -> None:
        super().__init__("an escape of another form")
        self.body = body


def _in_pieces(method: str, body: bytes) -> Iterator[bytes] | None:
    """Return the document in a reply, unescaped piece by piece; None for a reply of another form than the usual one.

    What stands around the document is read as any reply, so that nothing is a success which `parse_value` refuses.
    """
    found = _DOCUMENT_START.match(body)
    if found is None:
        return None
    start, end = found.end(), body.find(b"<", found.end())
    if end < 0 or not body.startswith(_DOCUMENT_END, end):
        return None
    parse_value(method, body[:start] + body[end:])
    return _unescaped(body, start, end)


def _unescaped(body: bytes, start: int, end: int) -> Iterator[bytes]:
    while start < end:
        stop = min(start + PIECE, end)
        if stop < end and (begun := body.rfind(b"&", stop - _LONGEST_ESCAPE, stop)) >= 0:
            stop = begun  # it may be only a part of an escape
        piece = body[start:stop]
        for escaped, plain in _ESCAPES:
            piece = piece.replace(escaped, plain)
        if _OTHER_ESCAPE.search(piece):
            raise _UnknownEscape(body)
        yield piece.replace(b"&amp;", b"&")
        start = stop


def parse_refusal(method: str, body: bytes) -> OpenNebulaRefusal | None:
    """Return the refusal that a reply is, without reading one that is none; None for any other reply, a fault too."""
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
        return etree.fromstring(body, etree.XMLParser(**_SAFELY))
    except etree.XMLSyntaxError as error:
        raise InvalidReply(method, f"not well-formed: {error}") from None


def _fault(method: str, struct: etree._Element) -> OpenNebulaRefusal:
    members = {member.findtext("name"): member.find("value") for member in struct.findall("member")}
    code, text = (_scalar(method, members.get(name)) for name in ("faultCode", "faultString"))
    if isinstance(code, bool) or not isinstance(code, int):
        raise InvalidReply(method, f"a fault without a number: {code!r:.60}")
    # oned's library says so when the call came to no end inside it: its text is about the library, not about the call.
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
    raise InvalidReply(method, f"not a value of oned's: <{value[0].tag}> {text[:40]!r}")
