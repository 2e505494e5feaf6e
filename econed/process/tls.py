"""TLS of this server, over any endpoint: 1.2 and 1.3, certificates by the name that a client asks for, renewed at work.

A connection keeps the certificates with which it began; new files are for those that come after. Sessions are never
resumed: a client's certificate is asked for and verified each time, and no key outlives the connection it was made for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from OpenSSL import SSL, crypto
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import (
    IListeningPort,
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
    IReactorTime,
    IStreamServerEndpoint,
)
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from zope.interface import implementer

from econed.config.loading import ConfigError, ConfigProblem
from econed.interfaces import InThread
from econed.process.certificates import Certificates, Files, Identity
from econed.recurring import Recurring
from econed.telemetry.metrics import Metrics

LOOK_EVERY = 10.0
"""Seconds from one look at the files to the next."""

WARN_EVERY = 24 * 60 * 60.0
"""Seconds after which a certificate that expires soon is warned of again."""

CIPHERS: Final = b"@SECLEVEL=2:ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2: an ephemeral key and authenticated encryption; those of TLS 1.3 are all so."""

_OPTIONS: Final = SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE | SSL.OP_NO_TICKET
_PROTOCOL = b"http/1.1"

_REASONS: Final[Mapping[int, str]] = {
    9: "is not valid yet",
    10: "has expired",
    18: "is signed by itself and not in ssl_client_ca",
    19: "is of an authority that is not in ssl_client_ca",
    20: "is of an authority that is not in ssl_client_ca",
    21: "is of an authority that is not in ssl_client_ca",
    26: "is not for clients (extendedKeyUsage)",
    40: "is a proxy certificate",
}
"""What is wrong with a client's certificate, by OpenSSL's number for it (x509_vfy.h)."""


@implementer(IOpenSSLServerConnectionCreator)
class ServerTLS(Recurring):
    """Makes TLS of plain endpoints, and takes new files as soon as they are whole.

    `clock` gives the time in seconds since the epoch. Files are read by `in_thread`, but for the first time, when
    nobody is served yet: then `ConfigError` says what is wrong with them. As a running service it looks every
    `LOOK_EVERY` seconds whether they have changed. `metrics` is told when certificates end, and what came of new ones.
    """

    name = "tls"

    def __init__(
        self, files: Files, clock: IReactorTime, in_thread: InThread, log: Logger, metrics: Metrics | None = None
    ) -> None:
        super().__init__(
            self._look, LOOK_EVERY, clock, log, what="a look at the certificates", after_failure=LOOK_EVERY
        )
        self._files = files
        self._in_thread = in_thread
        self._metrics = metrics or Metrics()
        self._one_at_a_time = DeferredLock()
        self._seen = files.stamp()
        self._certificates, self._context = self._read()
        self._count()
        self._warn()

    def over(self, endpoint: IStreamServerEndpoint) -> IStreamServerEndpoint:
        """Return an endpoint that speaks TLS where this one listens."""
        return _TLSEndpoint(endpoint, self, self._clock)

    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Begin a connection with the certificates there are now (`IOpenSSLServerConnectionCreator`)."""
        return SSL.Connection(self._context, None)

    async def reload(self) -> None:
        """Read the files anew and take them for connections to come; if anything is wrong, say so and leave them."""
        await self._one_at_a_time.run(lambda: Deferred.fromCoroutine(self._renew()))

    async def _look(self) -> float:
        if await self._in_thread(self._files.stamp) != self._seen:
            await self.reload()
        elif self._clock.seconds() >= self._warned_at + WARN_EVERY:
            self._warn()
        return LOOK_EVERY

    async def _renew(self) -> None:
        # Before they are read: what changes meanwhile is seen by the next look.
        self._seen = await self._in_thread(self._files.stamp)
        try:
            self._certificates, self._context = await self._in_thread(self._read)
        except ConfigError as error:
            for problem in error.problems:
                self._log.error("the certificates stay as they were: {problem}", problem=str(problem))
            self._metrics.reloaded("certificates", "refused")
            return
        self._metrics.reloaded("certificates", "taken")
        self._count()
        ends = f"{self._certificates.own.certificate.not_valid_after_utc:%Y-%m-%d %H:%M}"
        self._log.info("new certificates are in use, the first until {ends} UTC", ends=ends)
        self._warn()

    def _read(self) -> tuple[Certificates, SSL.Context]:
        certificates = self._files.read()
        return certificates, context_of(certificates, self._log)

    def _count(self) -> None:
        for each in (self._certificates.own, *self._certificates.others):
            self._metrics.set_certificate_expiry(each.place, each.certificate.not_valid_after_utc.timestamp())

    def _warn(self) -> None:
        self._warned_at = self._clock.seconds()
        for finding in self._certificates.warnings(self._warned_at):
            self._log.warn("{finding}", finding=str(finding))


@implementer(IStreamServerEndpoint)
class _TLSEndpoint:
    """Where another endpoint listens, with TLS."""

    def __init__(self, endpoint: IStreamServerEndpoint, tls: ServerTLS, clock: IReactorTime) -> None:
        self._endpoint = endpoint
        self._tls = tls
        self._clock = clock

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Listen (`IStreamServerEndpoint.listen`)."""
        return self._endpoint.listen(TLSMemoryBIOFactory(self._tls, False, protocolFactory, self._clock))


def context_of(certificates: Certificates, log: Logger) -> SSL.Context:
    """Return what OpenSSL needs to serve with these certificates; raises `ConfigError` for one that it refuses."""
    own = _context(certificates.own, certificates, log)
    others = [(each, _context(each, certificates, log)) for each in certificates.others]
    by_name: dict[str, SSL.Context] = {}
    for identity, context in ((certificates.own, own), *others):
        context.set_app_data(own)  # whose callbacks a connection goes on using with another's certificate
        for name in identity.names:
            by_name.setdefault(name, context)
    own.set_tlsext_servername_callback(partial(_choose, by_name))
    return own


def _choose(by_name: Mapping[str, SSL.Context], connection: SSL.Connection) -> None:
    """Give a connection the certificate for the name that its client asks for, if there is one."""
    asked = connection.get_servername()
    chosen = None if asked is None else for_name(by_name, asked.decode("latin-1"))
    if chosen is not None:
        connection.set_context(chosen)


def for_name(by_name: Mapping[str, Any], asked: str) -> Any | None:
    """Return what is there for the name of a server, else for the wildcard that has it (RFC 6125: of one label)."""
    name = asked.lower().removesuffix(".")
    label, _, parent = name.partition(".")
    return by_name.get(name) or (by_name.get(f"*.{parent}") if label and parent else None)


def _context(identity: Identity, certificates: Certificates, log: Logger) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(_OPTIONS)
    context.set_cipher_list(CIPHERS)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_alpn_select_callback(_select_protocol)
    try:
        context.use_certificate(identity.certificate)
        context.use_privatekey(identity.key)
        for each in identity.chain:
            context.add_extra_chain_cert(each)
        context.check_privatekey()
    except SSL.Error as error:
        text = f"is refused by OpenSSL: {_reason(error)}"
        raise ConfigError((ConfigProblem(identity.place, text, key=identity.setting),)) from None
    if certificates.authorities is not None:
        _ask_for_certificates(context, certificates, log)
    return context


def _ask_for_certificates(context: SSL.Context, certificates: Certificates, log: Logger) -> None:
    """Have clients asked for a certificate; one that brings none is answered, one that brings a bad one is not."""
    store = context.get_cert_store()
    assert store is not None  # noqa: S101 - a context that has not been used has one
    # An authority in the file is trusted by itself, also where the one above it is not there.
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
    for authority in certificates.authorities or ():
        store.add_cert(crypto.X509.from_cryptography(authority))
        context.add_client_ca(authority)
    context.set_verify(SSL.VERIFY_PEER, partial(_verified, log))


def _verified(
    log: Logger, connection: SSL.Connection, certificate: crypto.X509, error: int, depth: int, is_good: int
) -> bool:
    """Say in the log why a client's certificate is refused: the client itself learns next to nothing."""
    if not is_good:
        protocol: Any = connection.get_app_data()
        log.info(
            "the certificate of the client at {address} is refused: {subject} {reason}",
            address=getattr(protocol.getPeer(), "host", "unix"),
            subject=_subject(certificate),
            reason=_REASONS.get(error, f"does not hold (OpenSSL's verification error {error})"),
        )
    return bool(is_good)


def _subject(certificate: crypto.X509) -> str:
    try:
        return certificate.to_cryptography().subject.rfc4514_string()
    except ValueError:
        return "(not encoded as X.509 has it)"


def _select_protocol(_: SSL.Connection, offered: Sequence[bytes]) -> Any:
    return _PROTOCOL if _PROTOCOL in offered else SSL.NO_OVERLAPPING_PROTOCOLS


def _reason(error: SSL.Error) -> str:
    """Return what OpenSSL says, in its last words."""
    queue = error.args[0] if error.args else ()
    return str(queue[-1][-1]) if queue else "no reason given"
