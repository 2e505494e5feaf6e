"""A client of oned as in a script: blocking XML-RPC, in any session, without code of econed."""

from __future__ import annotations

import base64
import hashlib
import time
import xmlrpc.client
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7
from lxml import etree

NO_EXISTS = 1024
"""The error code of oned for an object that does not exist."""

_LIFETIME = 3600


class Refused(Exception):
    """oned refused a call: `code` is oned's, or the negative number of a fault."""

    def __init__(self, method: str, code: int, text: str) -> None:
        super().__init__(f"{method}: {text} ({code})")
        self.code = code


@dataclass(frozen=True)
class RawOned:
    """An oned at `url`; `session` returns the session of each call."""

    url: str
    session: Callable[[], str]

    def __call__(self, method: str, *args: object) -> object:
        """Call a method and return the value of the reply; raises `Refused`."""
        proxy = xmlrpc.client.ServerProxy(self.url)
        try:
            reply = getattr(proxy, method)(self.session(), *args)
        except xmlrpc.client.Fault as fault:
            raise Refused(method, int(fault.faultCode), str(fault.faultString)) from None
        finally:
            proxy("close")()
        if not isinstance(reply, list) or reply[0] is not True:
            raise Refused(method, int(reply[2]), str(reply[1]))
        return reply[1]

    def make(self, method: str, *args: object) -> int:
        """Call a method whose reply is an id."""
        object_id = self(method, *args)
        assert isinstance(object_id, int)
        return object_id

    def document(self, method: str, *args: object) -> etree._Element:
        """Call a method whose reply is a document."""
        return etree.fromstring(str(self(method, *args)).encode())


def server_token(credentials: str, target: str, *, zero_vector: bool) -> str:
    """Return a token of the server account `NAME:PASSWORD` for a user (server_cipher_auth.rb): AES-256-CBC."""
    server, _, password = credentials.partition(":")
    key = hashlib.sha256(password.encode()).hexdigest()[:32].encode()
    padder = PKCS7(128).padder()
    plain = f"{server}:{target}:{int(time.time()) + _LIFETIME}".encode()
    encryptor = Cipher(algorithms.AES(key), modes.CBC(bytes(16) if zero_vector else key[:16])).encryptor()
    sealed = encryptor.update(padder.update(plain) + padder.finalize()) + encryptor.finalize()
    return f"{server}:{target}:{base64.b64encode(sealed).decode()}"
