"""econed on a port in the process of the tests, with a sandbox, and a clock that the test advances."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from lxml import etree
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import LogEvent, Logger
from twisted.python.failure import Failure
from twisted.web.resource import IResource

from econed.auth.authenticator import SignatureAuthenticator
from econed.auth.kinds import all_signers
from econed.auth.users import UserDirectory
from econed.catalogue import all_actions
from econed.config.settings import Settings
from econed.credentials.revocations import RevocationList
from econed.dispatch import Dispatcher
from econed.fetching.fetcher import ImageFetcher, Internet
from econed.http.peers import Peers
from econed.http.site import EC2Site
from econed.http.upload_directory import UploadDirectory, UploadLimits
from econed.opennebula.session import Session
from econed.resource import EC2Resource, Service
from econed.telemetry.audit_log import AuditLog
from econed.telemetry.metrics import Metrics
from econed.wire.encoder import Encoder
from tests.support.cloud import VERSION, Cloud
from tests.support.reactor_turns import wait_until
from tests.support.signing_in import Keys, signed_query

_T = TypeVar("_T")
reactor: Any = _reactor
_FREE = 1 << 30
"""Free bytes on the disk of uploads, by default."""

NO_INTERNET = Internet(lambda host, port: (), lambda address: False)
"""A network without names and addresses, from which no image can be fetched."""


class _CountingFactory:
    """A factory whose protocols count the bytes that they have received."""

    def __init__(self, factory: Any) -> None:
        self._factory = factory
        self.received = 0

    def buildProtocol(self, address: Any) -> Any:
        protocol = self._factory.buildProtocol(address)
        if protocol is not None:
            protocol.dataReceived = self._counted(protocol.dataReceived)
        return protocol

    def _counted(self, receive: Callable[[bytes], None]) -> Callable[[bytes], None]:
        def counted(data: bytes) -> None:
            receive(data)
            self.received += len(data)

        return counted

    def __getattr__(self, name: str) -> Any:
        return getattr(self._factory, name)


class _OutgoingConnections:
    """The reactor, recording the addresses that are connected to, and counting the bytes received from them."""

    def __init__(self) -> None:
        self.addresses: list[str] = []
        self._factories: list[_CountingFactory] = []

    @property
    def received(self) -> int:
        return sum(factory.received for factory in self._factories)

    def connectTCP(self, host: str, port: int, factory: Any, *arguments: Any, **options: Any) -> Any:
        self.addresses.append(host)
        self._factories.append(_CountingFactory(factory))
        return reactor.connectTCP(host, port, self._factories[-1], *arguments, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)


class Server:
    """An econed on a port of 127.0.0.1. `events` is its log, `refused` the limits that refused requests."""

    def __init__(
        self,
        settings: Settings,
        *,
        can_oned_read: bool = True,
        free: Callable[[str], int] = lambda path: _FREE,
        internet: Internet | None = None,
        max_connections: int | None = None,
        wrapped: Callable[[Any], Any] | None = None,
        resource: IResource | None = None,
        cloud: Cloud | None = None,
    ) -> None:
        """Serve the EC2 API, or `resource`; `wrapped` wraps the factory that listens, for example in TLS."""
        self.cloud = cloud or Cloud()
        self.metrics = Metrics(action.name for action in all_actions())
        self.uploads = UploadDirectory(
            settings.tmpdir,
            UploadLimits(settings.max_upload, settings.upload_share),
            self.in_thread,
            lambda: can_oned_read,
            self.metrics.upload_ended,
            free,
        )
        self.held: list[Callable[[], None]] | None = None
        """Work for threads that a test holds back; None if it is done at once."""
        self.events: list[LogEvent] = []
        self.refused: list[str] = []
        self.audit_path = None if settings.audit_log is None else Path(settings.audit_log)
        self.outgoing = _OutgoingConnections()
        self.clients: list[Client] = []
        """Those that `connected` returned."""
        backend, clock, log = self.cloud.backend, self.cloud.clock, Logger(observer=self.events.append)  # type: ignore[arg-type]
        service = Service(
            dispatcher=Dispatcher.load(all_actions()),
            authenticator=SignatureAuthenticator(
                all_signers(
                    UserDirectory(backend, clock, count_lookup=self.metrics.cache_lookup, log=log),
                    self.cloud.sealer,
                    RevocationList(Session(backend, None), clock),
                ),
                clock,
            ),
            peers=Peers(settings.trusted_proxies, log),
            encoder=Encoder(),
            calls=self.cloud.calls,
            settings=settings,
            clock=clock,
            in_thread=self.in_thread,
            scripts=self.cloud.scripts,
            pacer=self.cloud.pacer,
            memory=self.cloud.memory,
            sealer=self.cloud.sealer,
            fetcher=ImageFetcher(
                self.outgoing, clock, self.uploads, settings, self.in_thread, log, internet or NO_INTERNET
            ),
            log=log,
            metrics=self.metrics,
            audit_log=None if settings.audit_log is None else AuditLog(settings.audit_log, clock),
        )
        self.site = EC2Site(
            resource or EC2Resource(service),
            clock,
            self.uploads,
            settings,
            max_connections=max_connections,
            is_exempt=service.peers.trusts,
            refused=self.refused.append,
            log=log,
        )
        self._incoming = _CountingFactory(self.site if wrapped is None else wrapped(self.site))
        self.port = reactor.listenTCP(0, self._incoming, interface="127.0.0.1")
        self.number = self.port.getHost().port
        self.address = f"127.0.0.1:{self.number}"

    def in_thread(self, work: Callable[[], _T]) -> Awaitable[_T]:
        """Do the work at once, or when the test runs it (`held`)."""
        if self.held is None:
            return _done(work)
        waiting: Deferred[_T] = Deferred()
        self.held.append(lambda: _done(work).chainDeferred(waiting))  # type: ignore[arg-type]
        return waiting

    async def received_all(self) -> None:
        """Wait until the server has received all that its clients have sent."""
        await wait_until(lambda: self._incoming.received == sum(client.bytes_sent for client in self.clients))

    def close(self) -> None:
        """Stop listening."""
        self.port.stopListening()


def _done(work: Callable[[], _T]) -> Deferred[_T]:
    try:
        return succeed(work())
    except Exception:  # noqa: BLE001 - as a thread pool hands it on
        return fail(Failure())


class Client(Protocol):
    """A connection of a client, the bytes received on it, and whether it is closed."""

    def __init__(self) -> None:
        self.received = b""
        self.bytes_sent = 0
        self.closed: Deferred[None] = Deferred()
        self.is_closed = False

    def dataReceived(self, data: bytes) -> None:
        """Keep the data."""
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Record that it is closed."""
        self.is_closed = True
        self.closed.callback(None)

    def send(self, data: bytes) -> None:
        """Send some bytes."""
        assert self.transport is not None
        self.transport.write(data)
        self.bytes_sent += len(data)

    def close(self) -> None:
        """Close the connection."""
        with suppress(AttributeError):
            self.transport.loseConnection()  # type: ignore[union-attr]

    @property
    def has_response(self) -> bool:
        """Whether a whole response has been received."""
        return self.received.partition(b"\r\n\r\n")[2].endswith(b"Response>")

    @property
    def status(self) -> int:
        """The status of the (first) response, 0 before it."""
        return int(self.received.split(b" ", 2)[1]) if self.received else 0

    @property
    def head(self) -> bytes:
        """The head of the (first) response, in lower case."""
        return self.received.partition(b"\r\n\r\n")[0].lower()

    @property
    def code(self) -> str:
        """EC2's error code."""
        return str(etree.fromstring(self.received.partition(b"\r\n\r\n")[2]).findtext("Errors/Error/Code"))


def signed(
    server: Server, user: str = "alice", secret: str = "alicepw", *, method: str = "GET", **parameters: str
) -> str:
    """Return a query with Signature Version 2, as Amazon describes it, at the time of the server's clock."""
    fields = {"Action": "DescribeRegions", "Version": VERSION, **parameters}
    return signed_query(server.address, server.cloud.clock.seconds(), Keys(user, secret), fields, method=method)


def get(server: Server, query: str = "", *headers: str) -> bytes:
    """Return a GET request with a query."""
    return "\r\n".join((f"GET /?{query} HTTP/1.1", f"Host: {server.address}", *headers, "\r\n")).encode()


async def connected(server: Server, source: str = "127.0.0.1") -> Client:
    """Return a new connection from this address."""
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", server.number, bindAddress=(source, 0))
    client: Client = await connectProtocol(endpoint, Client())
    server.clients.append(client)
    return client


async def send_request(server: Server, request: bytes) -> Client:
    """Send a request, and return its connection when the response has come; calls that are due are made."""
    client = await connected(server)
    client.send(request)

    def has_response() -> bool:
        server.cloud.clock.advance(0)
        return client.has_response

    await wait_until(has_response)
    client.close()
    await client.closed
    return client
