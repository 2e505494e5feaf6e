"""The listening side of HTTP: connections counted, limited, and led to their end when the process is to end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from io import BytesIO
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource
from twisted.web.server import Site
from zope.interface import implementer

from econed.config.settings import Settings
from econed.http.channel import EC2Channel
from econed.http.limits import BodyBudget, network_of
from econed.http.request import RawRequest
from econed.http.upload_directory import UploadDirectory
from econed.interfaces import IDrainable


@implementer(IDrainable)
class EC2Site(Site):
    """The listening side: `RawRequest` over HTTP/1.1, within the limits of `settings`, on an injected clock.

    `max_connections` are those of all addresses together; `is_exempt` tells addresses that may have any number of
    them: those of trusted proxies. `refused` is told of each request that is not read to its end and each connection
    that is not taken: the key of the limit in econe.conf, `descriptors` for `max_connections`, or `http` for what is
    not HTTP.
    """

    protocol = EC2Channel  # type: ignore[assignment]  # the other one would add HTTP/2

    def __init__(
        self,
        resource: IResource,
        reactor: IReactorTime,
        uploads: UploadDirectory,
        settings: Settings,
        *,
        max_connections: int | None = None,
        is_exempt: Callable[[str], bool] = lambda address: False,
        refused: Callable[[str], object] = lambda limit: None,
        log: Logger | None = None,
    ) -> None:
        bodies = BodyBudget(max(settings.max_bodies, settings.max_body))
        factory = partial(_request, uploads, settings.max_body, bodies)
        super().__init__(resource, requestFactory=factory, reactor=reactor, timeout=None)
        self.settings = settings
        self.refused = refused
        self.is_draining = False
        self._max_connections = max_connections
        self._is_exempt = is_exempt
        self._log = log or Logger(namespace="econed")
        self._is_full = False
        """Whether the log has said that there are too many connections."""
        self._channels: dict[EC2Channel, str | None] = {}
        """The connections, each with what it is counted under, None where it is not."""
        self._counts: Counter[str] = Counter()
        self._told: set[str] = set()
        """Of whom the log has said that they have too many."""
        self._waiting: list[Deferred[None]] = []

    def getContentFile(self, length: int | None) -> BytesIO:
        """Keep bodies in memory (a hook of Twisted's Request): in files, each would cost the disk and a descriptor."""
        return BytesIO()

    def log(self, request: object) -> None:
        """Say nothing: the resource has the one line that each request gets."""

    def acceptableProtocols(self) -> list[bytes]:
        """Offer HTTP/1.1 alone to clients of TLS: `protocol` speaks nothing else."""
        return [b"http/1.1"]

    # Where the process is to end

    @property
    def connections(self) -> int:
        """How many connections there are, with those whose TLS handshake is still to come."""
        return len(self._channels)

    @property
    def busy(self) -> int:
        """How many connections have a request that is not answered yet."""
        return sum(bool(channel.requests) for channel in self._channels)

    def drain(self) -> None:
        """Let each answer from now on be the last of its connection; idle connections end at their idle timeout."""
        self.is_draining = True

    async def empty(self) -> None:
        """Wait until there is no connection."""
        if self._channels:
            waiting: Deferred[None] = Deferred()
            self._waiting.append(waiting)
            await waiting

    def abort(self) -> None:
        """Close all connections at once, whatever is under way on them."""
        for channel in tuple(self._channels):
            channel.abort()

    # From the connections

    def connected(self, channel: EC2Channel, address: str | None) -> bool:
        """Take note of a connection; return whether its address may have it. A socket of the file system has none."""
        if self._max_connections is not None and len(self._channels) >= self._max_connections:
            self._channels[channel] = None
            self.refused("descriptors")
            if not self._is_full:
                self._is_full = True
                self._log.warn("there are {count} connections: more are closed at once", count=self._max_connections)
            return False
        counted = None if address is None or self._is_exempt(address) else network_of(address)
        most = self.settings.max_connections_per_address
        if counted is None or most is None:
            self._channels[channel] = None
            return True
        if self._counts[counted] >= most:
            self._channels[channel] = None
            self.refused("max_connections_per_address")
            if counted not in self._told:
                self._told.add(counted)
                self._log.warn("{address} has {most} connections: more are closed at once", address=address, most=most)
            return False
        self._counts[counted] += 1
        self._channels[channel] = counted
        return True

    def disconnected(self, channel: EC2Channel) -> None:
        """Take note of the end of a connection."""
        counted = self._channels.pop(channel)
        if self._is_full and len(self._channels) < (self._max_connections or 0) // 2:
            self._is_full = False
        if counted is not None:
            self._counts[counted] -= 1
            if not self._counts[counted]:
                del self._counts[counted]
                self._told.discard(counted)
        if not self._channels:
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                each.callback(None)


def _request(
    uploads: UploadDirectory, max_body: int, bodies: BodyBudget, channel: EC2Channel, queued: object = None
) -> IRequest:
    request: Any = RawRequest(uploads, max_body, bodies, channel)
    return request  # type: ignore[no-any-return]
