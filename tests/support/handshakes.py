"""Connections to a `ServerTLS` without a network, with Python's `ssl` module as the client."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from cryptography.x509 import Certificate, load_der_x509_certificate
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import LogEvent, Logger, formatEvent
from zope.interface import implementer

from econed.process.certificates import TLSFiles
from econed.process.tls import ServerTLS

_T = TypeVar("_T")
_ROUNDS = 20


@implementer(IStreamServerEndpoint)
class Nowhere:
    """An endpoint that does not listen, and keeps the factory."""

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Keep the factory."""
        self.factory = protocolFactory
        port: Any = None
        return succeed(port)


class Echo(Protocol):
    """Sends the data back, and has the client's certificate."""

    ended: Any = None

    def dataReceived(self, data: bytes) -> None:
        """Send the data back."""
        assert self.transport is not None
        self.transport.write(data)

    def connectionLost(self, reason: Any = None) -> None:
        """Keep the reason."""
        self.ended = reason

    @property
    def client(self) -> Certificate | None:
        """The client's certificate."""
        transport: Any = self.transport
        certificate = transport.getPeerCertificate()
        return None if certificate is None else certificate.to_cryptography()


class Connection:
    """A client's connection to a server's protocol."""

    def __init__(self, factory: Any, context: ssl.SSLContext, name: str | None, session: Any, clock: Clock) -> None:
        self._clock = clock
        self._arrived, self._sent = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._arrived, self._sent, server_hostname=name, session=session)
        self._protocol = factory.buildProtocol(None)
        self._transport = StringTransport()
        self._protocol.makeConnection(self._transport)

    @property
    def server(self) -> Echo:
        """The application protocol on the server."""
        wrapped: Echo = self._protocol.wrappedProtocol
        return wrapped

    @property
    def certificate(self) -> Certificate:
        """The server's certificate."""
        der = self.tls.getpeercert(binary_form=True)
        assert der is not None
        return load_der_x509_certificate(der)

    def shake_hands(self) -> Connection:
        """Do the handshake; raises `ssl.SSLError` if either side aborts it."""
        self._until(self.tls.do_handshake)
        return self

    def ask(self, text: bytes = b"hello") -> bytes:
        """Send data and return the data that comes back; raises `ssl.SSLError` if the server has closed."""
        self.tls.write(text)
        return bytes(self._until(lambda: self.tls.read(len(text))))

    def _until(self, step: Callable[[], _T]) -> _T:
        for _ in range(_ROUNDS):
            try:
                return step()
            except ssl.SSLWantReadError:
                self._exchange()
            finally:
                self._pass_on()
        raise AssertionError("neither side goes on")

    def _pass_on(self) -> None:
        data = self._sent.read()
        if data:
            self._protocol.dataReceived(data)
            self._clock.advance(0)

    def _exchange(self) -> None:
        self._pass_on()
        self._arrived.write(self._transport.value())
        self._transport.clear()


@dataclass
class Server:
    """A `ServerTLS` over certificate files, its clock and its log."""

    files: TLSFiles
    clock: Clock = field(default_factory=Clock)
    events: list[LogEvent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clock.rightNow = datetime.now(UTC).timestamp()
        self.reads = 0
        log = Logger("test", observer=self.events.append)  # type: ignore[arg-type]
        self.tls = ServerTLS(self.files, self.clock, self._at_once, log)
        endpoint = Nowhere()
        self.tls.over(endpoint).listen(Factory.forProtocol(Echo))
        self._factory = endpoint.factory

    def _at_once(self, work: Callable[[], _T]) -> Awaitable[_T]:
        self.reads += 1
        return succeed(work())

    def connection(
        self, context: ssl.SSLContext | None = None, name: str | None = None, session: Any = None
    ) -> Connection:
        """Return a connection before its handshake."""
        return Connection(self._factory, context or trusting(), name, session, self.clock)

    def connected(
        self, context: ssl.SSLContext | None = None, name: str | None = None, session: Any = None
    ) -> Connection:
        """Return a connection after its handshake."""
        return self.connection(context, name, session).shake_hands()

    def lines(self, *levels: str) -> list[str]:
        """Return the log lines of these levels."""
        return [formatEvent(event) for event in self.events if event["log_level"].name in levels]


def trusting(certificate: Any = None, **options: Any) -> ssl.SSLContext:
    """Return a client context that accepts any certificate, and sends one if it is given its files.

    `options` are attributes of the context; `ciphers` is OpenSSL's list.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    ciphers = options.pop("ciphers", None)
    if ciphers is not None:
        context.set_ciphers(ciphers)
    for name, value in options.items():
        setattr(context, name, value)
    if certificate is not None:
        context.load_cert_chain(certificate.cert, certificate.key)
    return context
