"""A client of oned that measures: it receives replies completely and decodes only those that are needed."""

from __future__ import annotations

import http.client
import time
import xmlrpc.client
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

from lxml import etree

from econed.opennebula.tokens import CipherForm, PasswordKey, session_token

TIMEOUT = 300.0
"""Seconds that a reply may take."""

_HEADERS = {"Content-Type": "text/xml", "Connection": "close"}


class Refused(Exception):
    """oned refused a call."""


@dataclass(frozen=True)
class Reply:
    """A reply as received, and the seconds from opening the connection to its last byte."""

    body: bytes
    seconds: float

    @property
    def value(self) -> object:
        """The decoded value; raises `Refused`."""
        try:
            (reply,), _ = xmlrpc.client.loads(self.body, use_builtin_types=True)
        except xmlrpc.client.Fault as fault:
            raise Refused(f"{fault.faultString} ({fault.faultCode})") from None
        succeeded, value, *rest = cast("list[object]", reply)
        if succeeded is not True:
            raise Refused(f"{value} ({rest[0]})")
        return value

    @property
    def document(self) -> etree._Element:
        """The decoded document; raises `Refused`."""
        return etree.fromstring(str(self.value).encode(), etree.XMLParser(huge_tree=True))

    @property
    def number(self) -> int:
        """The decoded id; raises `Refused`."""
        return int(str(self.value))


@dataclass(frozen=True)
class OnedClient:
    """An oned at `url`, called with the session that `session` returns; each call opens its own connection."""

    url: str
    session: Callable[[], str]

    def __call__(self, method: str, *arguments: object) -> Reply:
        """Make a call and receive its reply."""
        return self.send(self.prepared(method, *arguments))

    def prepared(self, method: str, *arguments: object) -> bytes:
        """Return the body of a call."""
        params = cast("tuple[xmlrpc.client._Marshallable, ...]", (self.session(), *arguments))
        return xmlrpc.client.dumps(params, method).encode()

    def send(self, body: bytes) -> Reply:
        """Send a body and receive the reply."""
        address = urlsplit(self.url)
        start = time.perf_counter()
        connection = http.client.HTTPConnection(address.netloc, timeout=TIMEOUT)
        try:
            connection.request("POST", address.path, body, _HEADERS)
            received = connection.getresponse().read()
        finally:
            connection.close()
        return Reply(received, time.perf_counter() - start)


def user_session(credentials: str, user: str, *, is_modern: bool) -> Callable[[], str]:
    """Return a function for the session with which econed calls oned for a user.

    `credentials` are NAME:PASSWORD of the server's account. oned remembers one session per user: with another than
    econed's, it would run its auth driver again and again.
    """
    server, _, password = credentials.partition(":")
    form = CipherForm.KEY_IV if is_modern else CipherForm.ZERO_IV
    key = PasswordKey(password)
    return lambda: session_token(server, key, user, time.time(), form)
