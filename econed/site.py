"""HTTP as this daemon takes it: requests that keep their bytes as they came, and no more of them than allowed."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.web.http import HTTPChannel
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource
from twisted.web.server import Request, Site

MAX_BODY = 1 << 20
"""Bytes of a form body. The largest parameter is the user data, 16 KiB before base64 and percent-encoding."""

IDLE_TIMEOUT = 60.0
"""Seconds after which a connection on which nothing happens is closed."""


class RawRequest(Request):
    """A request whose body and query are left alone.

    Twisted would parse them into `args` by rules of its own (it splits on `;` too); here a signature covers the very
    bytes that are parsed, so only one parser may see them (`econed.wire.query`).
    """

    is_too_large = False
    _taken = 0

    def handleContentChunk(self, data: bytes) -> None:
        """Keep a piece of the body; what goes beyond `MAX_BODY` is dropped and the request marked."""
        self._taken += len(data)
        if self._taken > MAX_BODY:
            self.is_too_large = True
        else:
            super().handleContentChunk(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Go on with a request that has arrived whole, without parsing its query or body."""
        assert self.content is not None  # noqa: S101 - the channel has opened it
        self.content.seek(0)
        self.args = {}
        self.method, self.uri, self.clientproto = command, path, version
        self.path = path.partition(b"?")[0]
        self.process()


class EC2Site(Site):
    """The listening side: `RawRequest` over HTTP/1.1, on an injected clock."""

    def __init__(self, resource: IResource, reactor: IReactorTime) -> None:
        super().__init__(resource, requestFactory=_request, reactor=reactor, timeout=IDLE_TIMEOUT)

    def log(self, request: object) -> None:
        """Say nothing: the resource has the one line that each request gets."""


def _request(channel: HTTPChannel, queued: object = None) -> IRequest:
    request: Any = RawRequest(channel)
    return request  # type: ignore[no-any-return]
