"""The real client of oned on the sandbox's XML-RPC API, over connections in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from io import BytesIO
from types import SimpleNamespace
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from econed.opennebula.tokens import PasswordKey
from econed.sandbox.oned import Oned
from econed.sandbox.server import SandboxResource
from econed.xmlrpc.proxy import OnedProxy
from econed.xmlrpc_backend import XMLRPCBackend

_T = TypeVar("_T")

URL = "http://oned.example:2633/RPC2"
_MAX_REPLY = 256 * 1024 * 1024


def sandbox_backend(oned: Oned, clock: Clock, endpoint: SandboxEndpoint | None = None) -> XMLRPCBackend:
    """Return econed's client of oned, connected to a sandbox; each call has ended when its connection is made."""
    user, _, password = oned.serveradmin.partition(":")
    proxy = OnedProxy(clock, URL, endpoint or SandboxEndpoint(oned), _MAX_REPLY)
    return XMLRPCBackend(proxy, user, PasswordKey(password), clock, _at_once, now=clock.seconds, log=Logger("test"))


@implementer(IStreamClientEndpoint)
class SandboxEndpoint:
    """Connections in memory to the XML-RPC resource of a sandbox; the client has its response when `connect` returns.

    The server's side of HTTP is no more than it takes to find the body: `twisted.web.server` would take longer than all
    the rest of a call, and the sandbox behind it has tests of its own.
    """

    def __init__(self, oned: Oned) -> None:
        self._resource = SandboxResource(oned)
        self.bytes_sent = 0
        """The bytes of all responses so far."""

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect, pass the request to the server and the response to the client, and close, as oned does."""
        client: Any = protocolFactory.buildProtocol(None)  # type: ignore[arg-type]
        transport = StringTransport()
        client.makeConnection(transport)
        response = self._response(transport.value())
        self.bytes_sent += len(response)
        client.dataReceived(response)
        client.connectionLost(Failure(ConnectionDone()))
        return succeed(client)

    def _response(self, data: bytes) -> bytes:
        head, _, body = data.partition(b"\r\n\r\n")
        assert b"content-length: %d\r\n" % len(body) in head.lower() + b"\r\n", head
        request: Any = _Request(BytesIO(body))
        content = self._resource.render_POST(request)
        headers = b"".join(b"%s: %s\r\n" % header for header in request.headers)
        return b"HTTP/1.1 200 OK\r\n" + headers + b"\r\n" + content


class _Request:
    """What the sandbox's resource uses of a request of `twisted.web.server`."""

    def __init__(self, content: BytesIO) -> None:
        self.content = content
        self.channel = SimpleNamespace(persistent=True)
        self.headers: list[tuple[bytes, bytes]] = []

    def setHeader(self, name: bytes, value: bytes) -> None:
        """Add a header to the response."""
        self.headers.append((name, value))


def _at_once(work: Callable[[], _T]) -> Awaitable[_T]:
    return succeed(work())
