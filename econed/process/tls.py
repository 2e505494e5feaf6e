"""TLS of this server, over any endpoint: versions 1.2 and 1.3, certificates by SNI, reloaded without a restart.

A connection keeps the certificates with which it began; new files apply to later connections. Sessions are never
resumed: a client's certificate is requested and verified on each connection, and no key outlives its connection.
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
from econed.process.certificates import Certificates, Identity, TLSFiles
from econed.recurring import Recurring
from econed.telemetry.metrics import Metrics

CHECK_INTERVAL = 10.0
"""Seconds between two checks whether the files have changed."""

WARN_INTERVAL = 24 * 60 * 60.0
"""Seconds between two warnings of the same certificate."""

CIPHERS: Final = b"@SECLEVEL=2:ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2: ephemeral keys and authenticated encryption, which all ciphers of TLS 1.3 have."""

_OPTIONS: Final = SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE | SSL.OP_NO_TICKET
_PROTOCOL = b"http/1.1"

_REASONS: Final[Mapping[int, str]] = {
    9: "is not valid yet",
    10: "has expired",
    18: "is self-signed and not in ssl_client_ca",
    19: "is issued by an authority that is not in ssl_client_ca",
    20: "is issued by an authority that is not in ssl_client_ca",
    21: "is issued by an authority that is not in ssl_client_ca",
    26: "is not for clients (extendedKeyUsage)",
    40: "is a proxy certificate",
}
"""Why a client's certificate is invalid, by OpenSSL's error number (x509_vfy.h)."""


@implementer(IOpenSSLServerConnectionCreator)
class ServerTLS(Recurring):
    """Adds TLS to plain endpoints, and loads new certificate files as soon as they are valid.

    `clock` returns seconds since the epoch. The files are read by `in_thread`, except in the constructor, which raises
    `ConfigError` if they are invalid. While the service runs, it checks every `CHECK_INTERVAL` seconds whether they
    have changed. `metrics` counts reloads, and has the expiry of each certificate.
    """

    name = "tls"

    def __init__(
        self, files: TLSFiles, clock: IReactorTime, in_thread: InThread, log: Logger, metrics: Metrics | None = None
    ) -> None:
        super().__init__(
            self._check, CHECK_INTERVAL, clock, log, what="checking the certificates", after_failure=CHECK_INTERVAL
        )
        self._files = files
        self._in_thread = in_thread
        self._metrics = metrics or Metrics()
        self._reload_lock = DeferredLock()
        self._fingerprint = files.fingerprint()
        self._certificates, self._context = self._read()
        self._set_expiry_metrics()
        self._warn()

    def over(self, endpoint: IStreamServerEndpoint) -> IStreamServerEndpoint:
        """Return an endpoint that serves TLS over `endpoint`."""
        return _TLSEndpoint(endpoint, self, self._clock)

    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Return a connection with the current certificates (`IOpenSSLServerConnectionCreator`)."""
        return SSL.Connection(self._context, None)

    async def reload(self) -> None:
        """Read the files and use them for later connections; if invalid, log why and keep the current ones."""
        await self._reload_lock.run(lambda: Deferred.fromCoroutine(self._reload()))

    async def _check(self) -> float:
        if await self._in_thread(self._files.fingerprint) != self._fingerprint:
            await self.reload()
        elif self._clock.seconds() >= self._warned_at + WARN_INTERVAL:
            self._warn()
        return CHECK_INTERVAL

    async def _reload(self) -> None:
        # Before the files are read, so that the next check notices changes made meanwhile.
        self._fingerprint = await self._in_thread(self._files.fingerprint)
        try:
            self._certificates, self._context = await self._in_thread(self._read)
        except ConfigError as error:
            for problem in error.problems:
                self._log.error("new certificates refused, keeping the old ones: {problem}", problem=str(problem))
            self._metrics.reloaded("certificates", "refused")
            return
        self._metrics.reloaded("certificates", "taken")
        self._set_expiry_metrics()
        expiry = f"{self._certificates.own.certificate.not_valid_after_utc:%Y-%m-%d %H:%M}"
        self._log.info("new certificates are in use; ssl_cert expires at {ends} UTC", ends=expiry)
        self._warn()

    def _read(self) -> tuple[Certificates, SSL.Context]:
        certificates = self._files.read()
        return certificates, make_context(certificates, self._log)

    def _set_expiry_metrics(self) -> None:
        for identity in (self._certificates.own, *self._certificates.others):
            expiry = identity.certificate.not_valid_after_utc.timestamp()
            self._metrics.set_certificate_expiry(identity.path, expiry)

    def _warn(self) -> None:
        self._warned_at = self._clock.seconds()
        for warning in self._certificates.warnings(self._warned_at):
            self._log.warn("{finding}", finding=str(warning))


@implementer(IStreamServerEndpoint)
class _TLSEndpoint:
    """TLS over another endpoint."""

    def __init__(self, endpoint: IStreamServerEndpoint, tls: ServerTLS, clock: IReactorTime) -> None:
        self._endpoint = endpoint
        self._tls = tls
        self._clock = clock

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Listen (`IStreamServerEndpoint.listen`)."""
        return self._endpoint.listen(TLSMemoryBIOFactory(self._tls, False, protocolFactory, self._clock))


def make_context(certificates: Certificates, log: Logger) -> SSL.Context:
    """Return the context for these certificates; raises `ConfigError` for a certificate that OpenSSL refuses."""
    own = _context(certificates.own, certificates, log)
    others = [(identity, _context(identity, certificates, log)) for identity in certificates.others]
    by_name: dict[str, SSL.Context] = {}
    for identity, context in ((certificates.own, own), *others):
        context.set_app_data(own)  # keeps `own` alive: connections use its callbacks even with another certificate
        for name in identity.names:
            by_name.setdefault(name, context)
    own.set_tlsext_servername_callback(partial(_choose, by_name))
    return own


def _choose(by_name: Mapping[str, SSL.Context], connection: SSL.Connection) -> None:
    """Switch a connection to the certificate for the requested server name (SNI), if there is one."""
    server_name = connection.get_servername()
    context = None if server_name is None else lookup_name(by_name, server_name.decode("latin-1"))
    if context is not None:
        connection.set_context(context)


def lookup_name(by_name: Mapping[str, Any], server_name: str) -> Any | None:
    """Return the value for a server name, else for the wildcard that matches it (RFC 6125: exactly one label)."""
    name = server_name.lower().removesuffix(".")
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
        for certificate in identity.chain:
            context.add_extra_chain_cert(certificate)
        context.check_privatekey()
    except SSL.Error as error:
        text = f"is refused by OpenSSL: {_reason(error)}"
        raise ConfigError((ConfigProblem(identity.path, text, key=identity.setting),)) from None
    if certificates.authorities is not None:
        _request_client_certificates(context, certificates, log)
    return context


def _request_client_certificates(context: SSL.Context, certificates: Certificates, log: Logger) -> None:
    """Have clients send a certificate. Clients without one are accepted; an invalid one fails the handshake."""
    store = context.get_cert_store()
    assert store is not None  # noqa: S101 - a context that has not been used has one
    # An authority in the file is trusted even if its issuer is not in the file.
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
    for authority in certificates.authorities or ():
        store.add_cert(crypto.X509.from_cryptography(authority))
        context.add_client_ca(authority)
    context.set_verify(SSL.VERIFY_PEER, partial(_verified, log))


def _verified(
    log: Logger, connection: SSL.Connection, certificate: crypto.X509, error: int, depth: int, is_valid: int
) -> bool:
    """Log why a client's certificate is refused: the TLS alert gives the client hardly any detail."""
    if not is_valid:
        protocol: Any = connection.get_app_data()
        log.info(
            "certificate of the client at {address} refused: {subject} {reason}",
            address=getattr(protocol.getPeer(), "host", "unix"),
            subject=_subject(certificate),
            reason=_REASONS.get(error, f"is invalid (OpenSSL's verification error {error})"),
        )
    return bool(is_valid)


def _subject(certificate: crypto.X509) -> str:
    try:
        return certificate.to_cryptography().subject.rfc4514_string()
    except ValueError:
        return "(not valid X.509)"


def _select_protocol(_: SSL.Connection, offered: Sequence[bytes]) -> Any:
    return _PROTOCOL if _PROTOCOL in offered else SSL.NO_OVERLAPPING_PROTOCOLS


def _reason(error: SSL.Error) -> str:
    """Return the last message in OpenSSL's error queue."""
    queue = error.args[0] if error.args else ()
    return str(queue[-1][-1]) if queue else "no reason given"
