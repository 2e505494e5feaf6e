"""The sandbox as an XML-RPC server, as clients of oned see one."""

from __future__ import annotations

import xmlrpc.client
from typing import cast

from lxml import etree
from twisted.web.resource import Resource
from twisted.web.server import Request

from econed.sandbox.ha_zone import Member
from econed.sandbox.oned import Oned
from econed.sandbox.refusals import unparsable

_MAX_CALL = 64 * 1024 * 1024


class SandboxResource(Resource):
    """Serves an `Oned` over XML-RPC, at `/RPC2` and at any other path, and closes every connection as Abyss does."""

    isLeaf = True

    def __init__(self, oned: Oned | Member) -> None:
        super().__init__()
        self._oned = oned

    def render_POST(self, request: Request) -> bytes:
        """Answer one call."""
        body = self._answer(request.content.read(_MAX_CALL) if request.content else b"")
        request.setHeader(b"Content-Type", b"text/xml; charset=utf-8")
        request.setHeader(b"Content-Length", b"%d" % len(body))
        request.setHeader(b"Server", b"Xmlrpc-c_Abyss/1.40.0")
        request.setHeader(b"Connection", b"close")
        request.channel.persistent = False
        return body

    def _answer(self, body: bytes) -> bytes:
        try:
            method, params = _read(body)
            return _write(self._oned.execute(method, *params))
        except xmlrpc.client.Fault as fault:
            return xmlrpc.client.dumps(fault, methodresponse=True, encoding="utf-8").encode("utf-8")


def _read(body: bytes) -> tuple[str, tuple[object, ...]]:
    try:
        etree.fromstring(body, etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True))
        params, method = xmlrpc.client.loads(body.decode("utf-8"))
    except (etree.XMLSyntaxError, ValueError, xmlrpc.client.Error, UnicodeError) as problem:
        raise unparsable() from problem
    if method is None:
        raise unparsable()
    return method, params


def _write(reply: list[object]) -> bytes:
    parts = "".join(f"<value>{_value(value)}</value>" for value in reply)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\r\n<methodResponse>\r\n<params>\r\n<param><value><array>\r\n<data>\r\n'
        f"{parts}</data>\r\n</array></value></param>\r\n</params>\r\n</methodResponse>\r\n"
    ).encode()


def _value(value: object) -> str:
    if isinstance(value, bool):
        return f"<boolean>{int(value)}</boolean>"
    if isinstance(value, int):
        return f"<i4>{value}</i4>"
    text = cast(str, value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\r", "&#x0d;")
    return f"<string>{text}</string>"
