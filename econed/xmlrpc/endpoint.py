"""The endpoint of an oned: plain, or TLS with the system's authorities or those of a file.

The supervisor checks the settings with it. So it imports neither XML-RPC nor lxml, which only workers need.
"""

# mypy: allow-untyped-calls

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificates
from twisted.internet import ssl
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from zope.interface import implementer

ADDRESS_MAX_AGE: Final = 10.0
"""Seconds for which the address that a host name had is used without resolving the name again."""


def oned_endpoint(reactor: Any, url: str, ca_file: Path | None = None, timeout: float = 30.0) -> IStreamClientEndpoint:
    """Return the endpoint for the oned at `url`; https verifies the chain and the host name.

    `ca_file` is a PEM file of authorities that replace the system's. Raises ValueError for an invalid URL or file,
    OSError for a file that cannot be read. `timeout` is that of the connection in seconds.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"not the http or https URL of an oned: {url}")
    is_https = parts.scheme == "https"
    endpoint = _tcp_endpoint(reactor, parts.hostname, parts.port or (443 if is_https else 80), timeout)
    if not is_https:
        return endpoint
    return wrapClientTLS(ssl.optionsForClientTLS(parts.hostname, trust_root(ca_file)), endpoint)


def _tcp_endpoint(reactor: Any, host: str, port: int, timeout: float) -> IStreamClientEndpoint:
    if isIPAddress(host):
        return TCP4ClientEndpoint(reactor, host, port, timeout)
    if isIPv6Address(host):
        return TCP6ClientEndpoint(reactor, host, port, timeout)
    return _NameEndpoint(reactor, host, port, timeout)


@implementer(IStreamClientEndpoint)
class _NameEndpoint:
    """A host name, of which the address that was last connected to is remembered for `ADDRESS_MAX_AGE` seconds.

    Each call to oned takes a new connection, and resolving a name takes a thread and longer than the rest of a short
    call. If there is no connection to the remembered address, the name is resolved again immediately.
    """

    def __init__(self, reactor: Any, host: str, port: int, timeout: float) -> None:
        self._reactor = reactor
        self._port = port
        self._timeout = timeout
        self._by_name = HostnameEndpoint(reactor, host, port, timeout)
        self._address = ""
        self._resolved_at = 0.0

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect, by the name or to its address (`IStreamClientEndpoint`)."""
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        if self._address and 0 <= self._reactor.seconds() - self._resolved_at < ADDRESS_MAX_AGE:
            try:
                return await _tcp_endpoint(self._reactor, self._address, self._port, self._timeout).connect(factory)
            except ConnectError:
                self._address = ""
        resolved_at = self._reactor.seconds()
        protocol = cast(Any, await self._by_name.connect(factory))
        self._address, self._resolved_at = protocol.transport.getPeer().host, resolved_at
        return cast(IProtocol, protocol)


def trust_root(ca_file: Path | None) -> Any:
    """Return the authorities in a PEM file, None for the system's; raises as `oned_endpoint`."""
    if ca_file is None:
        return None
    authorities = load_pem_x509_certificates(ca_file.read_bytes())
    return ssl.trustRootFromCertificates(
        [ssl.Certificate.loadPEM(authority.public_bytes(Encoding.PEM)) for authority in authorities]
    )
