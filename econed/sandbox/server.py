"""The sandbox as an XML-RPC server with oned's wire format."""

from __future__ import annotations

import xmlrpc.client
from typing import cast

from lxml import etree
from twisted.web.resource import Resource
from twisted.web.server import Request

from econed.sandbox.ha_zone import ZoneServer
from econed.sandbox.oned import Oned
from econed.sandbox.refusals import unparsable

_MAX_CALL_BYTES = 64 * 1024 * 1024


class SandboxResource(Resource):
    """Serves an `Oned` over XML-RPC at every path, as `/RPC2`, and closes each connection as Abyss does."""

    isLeaf = True

    def __init__(self, oned: Oned | ZoneServer) -> None:
        super().__init__()
        self._oned = oned

    def render_POST(self, request: Request) -> bytes:
        """Respond to a call."""
        body = self._response_body(request.content.read(_MAX_CALL_BYTES) if request.content else b"")
        request.setHeader(b"Content-Type", b"text/xml; charset=utf-8")
        request.setHeader(b"Content-Length", b"%d" % len(body))
        request.setHeader(b"Server", b"Xmlrpc-c_Abyss/1.40.0")
        request.setHeader(b"Connection", b"close")
        request.channel.persistent = False
        return body

    def _response_body(self, request_body: bytes) -> bytes:
        try:
            method, params = _parse_call(request_body)
            return reply_body(self._oned.execute(method, *params))
        except xmlrpc.client.Fault as fault:
            return xmlrpc.client.dumps(fault, methodresponse=True, encoding="utf-8").encode("utf-8")


def _parse_call(body: bytes) -> tuple[str, tuple[object, ...]]:
    try:
        etree.fromstring(body, etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True))
        params, method = xmlrpc.client.loads(body.decode("utf-8"))
    except (etree.XMLSyntaxError, ValueError, xmlrpc.client.Error, UnicodeError) as error:
        raise unparsable() from error
    if method is None:
        raise unparsable()
    return method, params


def reply_body(reply: list[object]) -> bytes:
    """Return the body of the response with a reply, in the form of xmlrpc-c."""
    values = "".join(f"<value>{_value_xml(value)}</value>" for value in reply)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\r\n<methodResponse>\r\n<params>\r\n<param><value><array>\r\n<data>\r\n'
        f"{values}</data>\r\n</array></value></param>\r\n</params>\r\n</methodResponse>\r\n"
    ).encode()


def _value_xml(value: object) -> str:
    if isinstance(value, bool):
        return f"<boolean>{int(value)}</boolean>"
    if isinstance(value, int):
        return f"<i4>{value}</i4>"
    text = cast(str, value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\r", "&#x0d;")
    return f"<string>{text}</string>"
