"""Who is at the other end of a connection: the client itself, or a proxy that says who is behind it.

What a proxy says stands in headers, which anybody can write: they are believed of the addresses in `trusted_proxies`
and have no effect whatever from anyone else. Which address that is, the connection says and nothing in it. A socket of
the file system has no address, so nobody who comes by one is trusted.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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
"""The one name for it, with underscores: a proxy that sets this header replaces what a client sent under this name.

Were SSL-Client-Cert taken too, which the Ruby server could not tell from it, a client could send that beside the
proxy's, or where the proxy has none to set.
"""

_IN_BRACKETS = re.compile(r"\[([^\]]*)\](?::[0-9]{1,5})?", re.ASCII)
_WITH_A_PORT = re.compile(r"([0-9.]+):[0-9]{1,5}", re.ASCII)
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----", re.ASCII)
_NO_CERTIFICATE = (b"", b"(null)")  # Apache writes the second
_MAPPED = 96
"""Bits before an IPv4 address that is mapped into IPv6 (RFC 4291, 2.5.5.2)."""


@dataclass(frozen=True)
class Peer:
    """The client of a request: its address, whether it speaks TLS, and its certificate (DER) if it brought one."""

    address: str
    is_secure: bool
    certificate: bytes | None


class Peers:
    """Tells the clients of requests, by what the proxies in the networks `trusted` say of those behind them."""

    def __init__(self, trusted: Sequence[Network], log: Logger) -> None:
        self._trusted = tuple(map(_unmapped_network, trusted))
        self._log = log

    def of(self, request: RawRequest) -> Peer:
        """Return the client of a request; what it, or a proxy, sends can make this fail in no way."""
        near = str(getattr(request.getClientAddress(), "host", "unix"))
        address = _address(near)
        if address is None or not self._is_trusted(address):
            return Peer(near if address is None else str(address), request.isSecure(), _own_certificate(request))
        return Peer(
            str(self._furthest(address, _values(request, FORWARDED_FOR))),
            _is_secure(_values(request, FORWARDED_PROTO), request.isSecure()),
            self._handed_over(_values(request, CLIENT_CERTIFICATE)),
        )

    def trusts(self, address: str) -> bool:
        """Whether this address, as a connection has it, is a trusted proxy's."""
        known = _address(address)
        return known is not None and self._is_trusted(known)

    def _is_trusted(self, address: _Address) -> bool:
        return any(address in network for network in self._trusted)

    def _furthest(self, proxy: _Address, values: Sequence[bytes]) -> _Address:
        """Return the first address, from the right, that is no trusted proxy's, else the last before nonsense.

        Each proxy adds at the right where its request came from, so what stands further left is the client's to say.
        """
        found = proxy
        for text in reversed(_elements(values)):
            said = _address(_without_port(text))
            if said is None:
                break
            found = said
            if not self._is_trusted(said):
                break
        return found

    def _handed_over(self, values: Sequence[bytes]) -> bytes | None:
        """Return the certificate that a proxy hands over, or None; of two nobody knows which one is the proxy's."""
        if len(values) > 1:
            self._log.warn("a trusted proxy sent SSL_CLIENT_CERT more than once: no certificate is taken")
            return None
        if not values or values[0].strip() in _NO_CERTIFICATE:
            return None
        certificate = read_certificate(values[0].strip())
        if certificate is None:
            self._log.warn("a trusted proxy sent something in SSL_CLIENT_CERT that is no certificate")
        return certificate


def read_certificate(text: bytes) -> bytes | None:
    """Return the certificate (DER) that a header holds; None if it holds anything but one.

    Proxies write PEM with blanks or tabs for newlines (Apache, the script for lighttpd), PEM percent-encoded (nginx's
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
    """Return the certificate that the client brought to our own TLS, which has verified it."""
    transport = request.channel.transport if request.channel is not None else None
    if not ISSLTransport.providedBy(transport):
        return None
    certificate: Any = transport.getPeerCertificate()
    return None if certificate is None else bytes(certificate.to_cryptography().public_bytes(Encoding.DER))


def _is_secure(values: Sequence[bytes], own: bool) -> bool:
    """Return whether the client speaks TLS, as the nearest proxy says; `own` holds where it does not say it."""
    said = [element.lower() for element in _elements(values)][-1:]
    return said == ["https"] if said in (["https"], ["http"]) else own


def _values(request: RawRequest, name: bytes) -> Sequence[bytes]:
    return request.requestHeaders.getRawHeaders(name, [])


def _elements(values: Iterable[bytes]) -> list[str]:
    """Return the elements of a list that may come as several headers (RFC 9110, 5.3), without empty ones."""
    return [text for text in (each.strip() for each in b",".join(values).decode("latin-1").split(",")) if text]


def _without_port(text: str) -> str:
    """Return an address as it stands in X-Forwarded-For without the port and the brackets it may have."""
    found = _IN_BRACKETS.fullmatch(text) or _WITH_A_PORT.fullmatch(text)
    return found[1] if found else text


def _address(text: str) -> _Address | None:
    """Return an address, None if it is none; IPv4 where it is mapped into IPv6, and without the zone of a link."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return address if isinstance(address, ipaddress.IPv4Address) else address.ipv4_mapped or address


def _unmapped_network(network: Network) -> Network:
    """Return a network of IPv4 addresses mapped into IPv6 as the IPv4 network that it is."""
    inner = network.network_address.ipv4_mapped if isinstance(network, ipaddress.IPv6Network) else None
    if inner is None or network.prefixlen < _MAPPED:
        return network
    return ipaddress.IPv4Network((inner, network.prefixlen - _MAPPED))
