"""The client of a request: the peer of its connection, or the client that a trusted proxy names in headers.

Any client can send such headers. They count only if the address of the connection itself is in `trusted_proxies`; from
other peers they have no effect. A Unix socket has no address, so its peers are never trusted.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import unquote_to_bytes

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_der_x509_certificate
from twisted.internet.interfaces import ISSLTransport
from twisted.logger import Logger

from econed.config.values import Network

if TYPE_CHECKING:
    from econed.http.request import RawRequest

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

FORWARDED_FOR = b"x-forwarded-for"
FORWARDED_PROTO = b"x-forwarded-proto"
CLIENT_CERTIFICATE = b"ssl_client_cert"
"""The only accepted spelling, with underscores: a proxy that sets this header replaces the client's own.

If SSL-Client-Cert were accepted too, which the Ruby server could not tell from it, a client could send that beside the
proxy's header, or when the proxy sets none.
"""

_ADDRESS_IN_BRACKETS = re.compile(r"\[([^\]]*)\](?::[0-9]{1,5})?", re.ASCII)
_ADDRESS_WITH_PORT = re.compile(r"([0-9.]+):[0-9]{1,5}", re.ASCII)
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----", re.ASCII)
_NO_CERTIFICATE = (b"", b"(null)")  # the latter from Apache
_MAX_KNOWN = 1024
"""Addresses of connections that are remembered as parsed; clients send many requests on each connection."""

_MAPPED_PREFIX = 96
"""Bits before the IPv4 address in an IPv4-mapped IPv6 address (RFC 4291, 2.5.5.2)."""


@dataclass(frozen=True)
class Peer:
    """The client of a request: its address, whether it uses TLS, and its certificate (DER) if it presented one."""

    address: str
    is_secure: bool
    certificate: bytes | None


class Peers:
    """Finds the clients of requests; headers of proxies in the networks `trusted` are believed."""

    def __init__(self, trusted: Sequence[Network], log: Logger) -> None:
        self._trusted = tuple(map(_unmapped_network, trusted))
        self._log = log
        self._known = lru_cache(_MAX_KNOWN)(self._look_up)

    def of(self, request: RawRequest) -> Peer:
        """Return the client of a request; never fails, whatever headers were sent."""
        peer = str(getattr(request.getClientAddress(), "host", "unix"))
        text, proxy = self._known(peer)
        if proxy is None:
            return Peer(text, request.isSecure(), _own_certificate(request))
        return Peer(
            str(self._client_address(proxy, _values(request, FORWARDED_FOR))),
            _is_secure(_values(request, FORWARDED_PROTO), request.isSecure()),
            self._forwarded_certificate(_values(request, CLIENT_CERTIFICATE)),
        )

    def trusts(self, address: str) -> bool:
        """Whether this address of a connection is a trusted proxy's."""
        return self._known(address)[1] is not None

    def _look_up(self, peer: str) -> tuple[str, _Address | None]:
        """Return the address of a connection as text, and parsed if it is a trusted proxy's."""
        address = _address(peer)
        if address is None:
            return peer, None
        return str(address), address if self._is_trusted(address) else None

    def _is_trusted(self, address: _Address) -> bool:
        return any(address in network for network in self._trusted)

    def _client_address(self, proxy: _Address, values: Sequence[bytes]) -> _Address:
        """Return the first address from the right of X-Forwarded-For that is not a trusted proxy's.

        Each proxy appends the address that its request came from, so the client controls what is further left. An
        element that is not an address ends the search: the address to its right is returned. If all addresses are
        proxies', the leftmost is returned.
        """
        client = proxy
        for text in reversed(_elements(values)):
            address = _address(_without_port(text))
            if address is None:
                break
            client = address
            if not self._is_trusted(address):
                break
        return client

    def _forwarded_certificate(self, values: Sequence[bytes]) -> bytes | None:
        """Return the certificate in a proxy's header, or None; of two headers, either could be the client's."""
        if len(values) > 1:
            self._log.warn("ignoring the client certificate: a trusted proxy sent SSL_CLIENT_CERT more than once")
            return None
        if not values or values[0].strip() in _NO_CERTIFICATE:
            return None
        certificate = read_certificate(values[0].strip())
        if certificate is None:
            self._log.warn(
                "ignoring the client certificate: a trusted proxy sent an SSL_CLIENT_CERT that is not a certificate"
            )
        return certificate


def read_certificate(text: bytes) -> bytes | None:
    """Return the certificate (DER) in the value of a header; None if the value is anything else.

    Proxies send PEM with blanks or tabs for newlines (Apache, the script for lighttpd), PEM percent-encoded (nginx's
    $ssl_client_escaped_cert), or the DER in base64 (HAProxy's ssl_c_der,base64).
    """
    if b"%" in text:
        text = unquote_to_bytes(text).strip()
    pem = _PEM.fullmatch(text)
    try:
        der = base64.b64decode(b"".join(pem[1].split()) if pem else text, validate=True)
        return load_der_x509_certificate(der).public_bytes(Encoding.DER)
    except (binascii.Error, ValueError):
        return None


def _own_certificate(request: RawRequest) -> bytes | None:
    """Return the certificate that the client presented in the TLS handshake, which has verified it."""
    transport = request.channel.transport if request.channel is not None else None
    if not ISSLTransport.providedBy(transport):
        return None
    certificate: Any = transport.getPeerCertificate()
    return None if certificate is None else bytes(certificate.to_cryptography().public_bytes(Encoding.DER))


def _is_secure(values: Sequence[bytes], default: bool) -> bool:
    """Return whether the client uses TLS according to the last element of X-Forwarded-Proto, else `default`."""
    schemes = [element.lower() for element in _elements(values)]
    return schemes[-1] == "https" if schemes and schemes[-1] in ("https", "http") else default


def _values(request: RawRequest, name: bytes) -> Sequence[bytes]:
    return request.requestHeaders.getRawHeaders(name, [])


def _elements(values: Iterable[bytes]) -> list[str]:
    """Return the non-empty elements of a list that may be in several headers (RFC 9110, 5.3)."""
    return [text for text in map(str.strip, b",".join(values).decode("latin-1").split(",")) if text]


def _without_port(text: str) -> str:
    """Return an element of X-Forwarded-For without the port and the brackets it may have."""
    match = _ADDRESS_IN_BRACKETS.fullmatch(text) or _ADDRESS_WITH_PORT.fullmatch(text)
    return match[1] if match else text


def _address(text: str) -> _Address | None:
    """Return an address without its scope, IPv4 if it is IPv4-mapped; None if the text is not an address."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return address if isinstance(address, ipaddress.IPv4Address) else address.ipv4_mapped or address


def _unmapped_network(network: Network) -> Network:
    """Return a network of IPv4-mapped IPv6 addresses as the IPv4 network."""
    inner = network.network_address.ipv4_mapped if isinstance(network, ipaddress.IPv6Network) else None
    if inner is None or network.prefixlen < _MAPPED_PREFIX:
        return network
    return ipaddress.IPv4Network((inner, network.prefixlen - _MAPPED_PREFIX))
