"""The HTTP site: it counts and limits connections, and closes them when the process is to exit."""

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
    """Serves `RawRequest`s over HTTP/1.1, within the limits of `settings`, on an injected clock.

    `max_connections` is the limit for all addresses together. `is_exempt` says whether an address may have any number
    of connections, as trusted proxies may. `refused` is called for each connection that is refused, and each request
    that is refused before it is complete, with the key of the limit in econe.conf, `descriptors` for
    `max_connections`, or `http` for invalid HTTP.
    """

    noisy = False  # Twisted would log its start and its end with its address in memory
    protocol = EC2Channel  # type: ignore[assignment]  # Twisted's default adds HTTP/2

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
        log: Logger,
    ) -> None:
        bodies = BodyBudget(max(settings.max_bodies, settings.max_body))
        factory = partial(_request, uploads, settings.max_body, bodies)
        super().__init__(resource, requestFactory=factory, reactor=reactor, timeout=None)
        self.settings = settings
        self.refused = refused
        self.is_draining = False
        self._max_connections = max_connections
        self._is_exempt = is_exempt
        self._log = log
        self._has_warned = False
        """Whether it was logged that there are too many connections; reset when half of them are closed."""
        self._channels: dict[EC2Channel, str | None] = {}
        """The connections, each with the network that it is counted under, None if it is not counted."""
        self._counts: Counter[str] = Counter()
        self._warned_networks: set[str] = set()
        """Networks already logged as over the connection limit."""
        self._waiting: list[Deferred[None]] = []

    def getContentFile(self, length: int | None) -> BytesIO:
        """Return a file in memory for a body (called by Twisted's Request): a file on disk would cost a descriptor."""
        return BytesIO()

    def log(self, request: object) -> None:
        """Log nothing: the resource logs each request."""

    def acceptableProtocols(self) -> list[bytes]:
        """Return the protocols offered to TLS clients (ALPN): `protocol` supports HTTP/1.1 only."""
        return [b"http/1.1"]

    # Stopping (IDrainable)

    @property
    def connections(self) -> int:
        """How many connections there are, including those whose TLS handshake is not complete."""
        return len(self._channels)

    @property
    def busy(self) -> int:
        """How many connections have a request in flight."""
        return sum(bool(channel.requests) for channel in self._channels)

    def drain(self) -> None:
        """Close each connection after its next response; idle connections are closed at their idle timeout."""
        self.is_draining = True

    async def all_closed(self) -> None:
        """Wait until there are no connections."""
        if self._channels:
            waiting: Deferred[None] = Deferred()
            self._waiting.append(waiting)
            await waiting

    def abort(self) -> None:
        """Abort all connections, including those with requests in flight."""
        for channel in tuple(self._channels):
            channel.abort()

    # Called by the connections (ChannelOwner)

    def connected(self, channel: EC2Channel, address: str | None) -> bool:
        """Register a connection; return whether it is within the limits. The peer of a Unix socket has no address."""
        if self._max_connections is not None and len(self._channels) >= self._max_connections:
            self._channels[channel] = None
            self.refused("descriptors")
            if not self._has_warned:
                self._has_warned = True
                self._log.warn("refusing connections: {count} are open", count=self._max_connections)
            return False
        network = None if address is None or self._is_exempt(address) else network_of(address)
        limit = self.settings.max_connections_per_address
        if network is None or limit is None:
            self._channels[channel] = None
            return True
        if self._counts[network] >= limit:
            self._channels[channel] = None
            self.refused("max_connections_per_address")
            if network not in self._warned_networks:
                self._warned_networks.add(network)
                self._log.warn("refusing connections from {address}: {most} are open", address=address, most=limit)
            return False
        self._counts[network] += 1
        self._channels[channel] = network
        return True

    def disconnected(self, channel: EC2Channel) -> None:
        """Unregister a connection."""
        network = self._channels.pop(channel)
        if self._has_warned and len(self._channels) < (self._max_connections or 0) // 2:
            self._has_warned = False
        if network is not None:
            self._counts[network] -= 1
            if not self._counts[network]:
                del self._counts[network]
                self._warned_networks.discard(network)
        if not self._channels:
            waiting, self._waiting = self._waiting, []
            for deferred in waiting:
                deferred.callback(None)


def _request(
    uploads: UploadDirectory, max_body: int, bodies: BodyBudget, channel: EC2Channel, queued: object = None
) -> IRequest:
    request: Any = RawRequest(uploads, max_body, bodies, channel)
    return request  # type: ignore[no-any-return]
