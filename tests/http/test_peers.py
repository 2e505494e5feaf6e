"""The client of a request: the peer of the connection, or the client named by a trusted proxy, and only by one."""

from __future__ import annotations

import base64
import http.client
import ipaddress
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_twisted
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import load_pem_x509_certificate
from OpenSSL.crypto import X509
from twisted.internet import reactor as _reactor
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import maybeDeferred
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread
from twisted.logger import LogEvent, Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from econed.config.values import Network
from econed.http.peers import Peer, Peers, read_certificate
from tests.support.certificates import server_certificate, server_options

reactor: Any = _reactor

PROXIES = ("10.0.0.1", "10.9.0.0/16", "2001:db8:9::/48")
PROXY, SECOND_PROXY, CLIENT = "10.0.0.1", "10.9.7.7", "198.51.100.7"
DER = server_certificate()[1].public_bytes(Encoding.DER)
PEM = server_certificate()[1].public_bytes(Encoding.PEM)
ONE_LINE = PEM.strip().replace(b"\n", b" ")


class PeerRecorder(Resource):
    """Records the client of each request."""

    isLeaf = True

    def __init__(self, peers: Peers) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._peers = peers
        self.seen: list[Peer] = []

    def render(self, request: Request) -> bytes:
        self.seen.append(self._peers.of(request))  # type: ignore[arg-type]
        return b""


class SiteHarness:
    """A site that trusts `PROXIES`, and its log events."""

    def __init__(self, trusted: Sequence[str] = PROXIES) -> None:
        self.events: list[LogEvent] = []
        networks: list[Network] = [ipaddress.ip_network(text) for text in trusted]
        self.peers = Peers(networks, Logger(observer=self.events.append))  # type: ignore[arg-type]
        self.resource = PeerRecorder(self.peers)
        self.site = Site(self.resource, timeout=None)

    def client_of(self, peer: Any, *headers: tuple[str, str | bytes]) -> Peer:
        """Return the client of a request with these headers, over a connection from this address."""
        transport = StringTransport(peerAddress=_address(peer) if isinstance(peer, str) else peer)
        protocol = self.site.buildProtocol(None)
        protocol.makeConnection(transport)
        lines = [b"GET / HTTP/1.1", b"Host: cloud.example.com"]
        lines += [b"%s: %s" % (name.encode(), _raw(value)) for name, value in headers]
        protocol.dataReceived(b"\r\n".join(lines) + b"\r\n\r\n")
        assert transport.value().startswith(b"HTTP/1.1 200")
        return self.resource.seen.pop()


def _address(text: str) -> IPv4Address | IPv6Address:
    return IPv6Address("TCP", text, 40000) if ":" in text else IPv4Address("TCP", text, 40000)


def _raw(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


@pytest.fixture
def harness() -> SiteHarness:
    return SiteHarness()


# Trusted proxies

ALL_HEADERS = (
    ("X-Forwarded-For", "203.0.113.9"),
    ("X-Forwarded-Proto", "https"),
    ("SSL_CLIENT_CERT", ONE_LINE),
)


def test_the_headers_of_a_trusted_proxy_are_believed(harness: SiteHarness) -> None:
    assert harness.client_of(PROXY, *ALL_HEADERS) == Peer("203.0.113.9", True, DER)


@pytest.mark.parametrize("peer", [CLIENT, "10.0.0.2", "2001:db8::1", "::ffff:198.51.100.7"])
def test_the_headers_of_other_peers_have_no_effect(harness: SiteHarness, peer: str) -> None:
    """They are not logged either, since anybody could fill the log with them."""
    assert harness.client_of(peer, *ALL_HEADERS) == Peer(peer.removeprefix("::ffff:"), False, None)
    assert harness.client_of(peer, ("SSL_CLIENT_CERT", "nonsense")).certificate is None
    assert harness.events == []


def test_no_proxy_is_trusted_by_default() -> None:
    """Not even this machine."""
    assert SiteHarness(()).client_of("127.0.0.1", *ALL_HEADERS) == Peer("127.0.0.1", False, None)


def test_the_peer_of_a_unix_socket_is_not_trusted() -> None:
    harness = SiteHarness(("0.0.0.0/0", "::/0"))
    assert harness.client_of(UNIXAddress("/run/econe.sock"), *ALL_HEADERS) == Peer("unix", False, None)
    assert harness.client_of(UNIXAddress(None)) == Peer("unix", False, None)


@pytest.mark.parametrize(
    ("address", "is_trusted"),
    [
        (PROXY, True),
        (SECOND_PROXY, True),
        ("::ffff:10.0.0.1", True),
        ("2001:db8:9::4", True),
        ("2001:db8:9::4%eth0", True),
        ("10.0.0.2", False),
        ("2001:db8:8::4", False),
        ("unix", False),
        ("", False),
    ],
)
def test_networks_and_single_addresses_are_trusted(harness: SiteHarness, address: str, is_trusted: bool) -> None:
    assert harness.peers.trusts(address) is is_trusted


def test_ipv4_mapped_addresses_and_networks_are_compared_as_ipv4() -> None:
    """A listener on :: reports IPv4 clients as IPv4-mapped, and an administrator may copy that from the log."""
    harness = SiteHarness(("::ffff:10.0.0.0/104",))
    assert harness.peers.trusts("10.1.2.3")
    assert harness.peers.trusts("::ffff:10.1.2.3")
    assert not harness.peers.trusts("11.0.0.0")
    assert SiteHarness(("::/0",)).peers.trusts("10.1.2.3") is False


# X-Forwarded-For


@pytest.mark.parametrize(
    ("header", "address"),
    [
        (CLIENT, CLIENT),
        (f"{CLIENT}:51234", CLIENT),
        (f"203.0.113.9, {CLIENT}", CLIENT),
        (f"203.0.113.9, {CLIENT}, {SECOND_PROXY}", CLIENT),
        (f"203.0.113.9,{CLIENT} ,\t{SECOND_PROXY},, ", CLIENT),
        ("2001:db8::7", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("[2001:DB8::7]:51234", "2001:db8::7"),
        ("fe80::7%eth0", "fe80::7"),
        ("::ffff:198.51.100.7", CLIENT),
        ("[::ffff:198.51.100.7]:80", CLIENT),
        (f"{CLIENT}, [2001:db8:9::4]:80", CLIENT),
    ],
)
def test_the_client_is_the_first_address_from_the_right_that_is_not_a_trusted_proxy(
    harness: SiteHarness, header: str, address: str
) -> None:
    """The client may have sent everything further left."""
    assert harness.client_of(PROXY, ("X-Forwarded-For", header)).address == address


def test_several_x_forwarded_for_headers_are_one_list(harness: SiteHarness) -> None:
    """HAProxy adds its own header after the client's."""
    headers = [("X-Forwarded-For", "203.0.113.9"), ("x-forwarded-for", CLIENT), ("X-FORWARDED-FOR", SECOND_PROXY)]
    assert harness.client_of(PROXY, *headers).address == CLIENT


@pytest.mark.parametrize(
    "garbage",
    [
        "unknown",
        "_hidden",
        "unix:",
        "198.51.100",
        "198.51.100.7.8",
        "198.51.100.07",
        "198.51.100.7:port",
        "[198.51.100.7",
        "[2001:db8::7]x",
        "2001:db8::zz",
        "%eth0",
        "198.51.100.7 198.51.100.8",
        "cloud.example.com",
        b"\xff\xfe",
    ],
)
def test_text_that_is_not_an_address_ends_the_list(harness: SiteHarness, garbage: str | bytes) -> None:
    """The client is then the proxy that added the text."""
    assert harness.client_of(PROXY, ("X-Forwarded-For", garbage)).address == PROXY
    assert harness.client_of(PROXY, ("X-Forwarded-For", _raw(garbage) + b", 10.9.7.7")).address == SECOND_PROXY
    assert harness.client_of(PROXY, ("X-Forwarded-For", _raw(garbage) + b", 198.51.100.7")).address == CLIENT


def test_the_client_is_the_leftmost_address_if_all_are_trusted_proxies(harness: SiteHarness) -> None:
    assert harness.client_of(PROXY).address == PROXY
    assert harness.client_of(PROXY, ("X-Forwarded-For", "")).address == PROXY
    assert harness.client_of(PROXY, ("X-Forwarded-For", f"10.9.1.1, {SECOND_PROXY}")).address == "10.9.1.1"


# X-Forwarded-Proto


@pytest.mark.parametrize(
    ("headers", "is_secure"),
    [
        (["https"], True),
        (["HTTPS"], True),
        (["http"], False),
        ([], False),
        (["ftp"], False),
        (["https; q"], False),
        (["http, https"], True),
        (["https", "http"], False),
    ],
)
def test_a_trusted_proxy_reports_whether_the_client_uses_tls(
    harness: SiteHarness, headers: list[str], is_secure: bool
) -> None:
    """If several do, the last one counts."""
    assert harness.client_of(PROXY, *(("X-Forwarded-Proto", value) for value in headers)).is_secure is is_secure


# SSL_CLIENT_CERT


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(ONE_LINE, id="blanks for newlines, as Apache and lighttpd's script"),
        pytest.param(ONE_LINE + b" ", id="with a final blank"),
        pytest.param(PEM.strip().replace(b"\n", b"\t"), id="tabs for newlines"),
        pytest.param(PEM.strip().replace(b"\n", b"\r\n\t"), id="folded"),
        pytest.param(PEM.strip().replace(b"\n", b" \t"), id="blanks and tabs"),
        pytest.param(quote(PEM.decode()), id="percent-encoded, as nginx"),
        pytest.param(quote(PEM.decode(), safe=""), id="percent-encoded throughout"),
        pytest.param(base64.b64encode(DER), id="the DER in base64, as HAProxy"),
    ],
)
def test_certificates_are_read_in_the_formats_of_proxies(harness: SiteHarness, value: str | bytes) -> None:
    assert harness.client_of(PROXY, ("SSL_CLIENT_CERT", value)).certificate == DER
    assert harness.events == []


@pytest.mark.parametrize("value", ["", "(null)", " "])
def test_a_proxy_may_report_that_there_is_no_certificate(harness: SiteHarness, value: str) -> None:
    """An empty header, or `(null)`, which Apache sends for a variable that is not set."""
    assert harness.client_of(PROXY, ("SSL_CLIENT_CERT", value)).certificate is None
    assert harness.events == []


@pytest.mark.parametrize(
    "value",
    [
        b"nonsense",
        b"-----BEGIN CERTIFICATE----- -----END CERTIFICATE-----",
        b"-----BEGIN CERTIFICATE----- AAAA -----END CERTIFICATE-----",
        ONE_LINE + b" " + ONE_LINE,
        ONE_LINE[:-1],
        ONE_LINE.replace(b"CERTIFICATE", b"RSA PRIVATE KEY"),
        base64.b64encode(DER + b"\0"),
        base64.b64encode(DER)[:-8],
        b"%%%",
        b"\xff\xfe",
    ],
)
def test_anything_else_is_ignored_and_logged_without_its_text(harness: SiteHarness, value: bytes) -> None:
    assert harness.client_of(PROXY, ("SSL_CLIENT_CERT", value)).certificate is None
    (event,) = harness.events
    assert "not a certificate" in event["log_format"]
    assert {key for key in event if not key.startswith("log_")} == set()


def test_two_certificate_headers_are_ignored(harness: SiteHarness) -> None:
    """One of them may be the client's, passed on by a proxy in addition to its own."""
    headers = [("SSL_CLIENT_CERT", ONE_LINE), ("ssl_client_cert", ONE_LINE)]
    assert harness.client_of(PROXY, *headers).certificate is None
    assert harness.client_of(PROXY, headers[0], ("SSL_CLIENT_CERT", "")).certificate is None
    assert ["more than once" in event["log_format"] for event in harness.events] == [True, True]


@pytest.mark.parametrize("name", ["SSL-Client-Cert", "X-SSL-Client-Cert", "HTTP_SSL_CLIENT_CERT", "SSL_CLIENT-CERT"])
def test_no_other_header_name_is_accepted(harness: SiteHarness, name: str) -> None:
    """A proxy replaces the header that it sets, but passes on similar ones."""
    assert harness.client_of(PROXY, (name, ONE_LINE)).certificate is None
    assert harness.client_of(PROXY, (name, "nonsense"), ("SSL_CLIENT_CERT", ONE_LINE)).certificate == DER


def test_base64_of_anything_but_x509_is_not_a_certificate() -> None:
    """The base64 is valid, but not its content."""
    assert read_certificate(base64.b64encode(b"0\x03\x02\x01\x01")) is None
    assert read_certificate(ONE_LINE) == DER


# TLS of econed itself


def _mutual_tls(directory: Path) -> tuple[Path, Any]:
    """Return a file with key and certificate, and the TLS options of a server that requests client certificates."""
    private, _ = server_certificate()
    file = directory / "both.pem"
    file.touch(mode=0o600)
    file.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + PEM)
    authorities = [X509.from_cryptography(load_pem_x509_certificate(PEM))]
    return file, server_options(file.read_bytes(), verify=True, caCerts=authorities, requireCertificate=False)


@pytest.mark.parametrize(("peer", "has_certificate"), [("127.0.0.1", True), ("127.0.0.1", False), (PROXY, True)])
@pytest_twisted.ensureDeferred
async def test_the_certificate_of_a_tls_handshake_is_the_clients(
    tmp_path: Path, peer: str, has_certificate: bool
) -> None:
    """But that of a trusted proxy is the proxy's own, not the client's."""
    harness = SiteHarness(("127.0.0.1",) if peer == PROXY else PROXIES)
    file, options = _mutual_tls(tmp_path)
    factory = TLSMemoryBIOFactory(options, False, harness.site)
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")

    def ask() -> int:
        context = ssl.create_default_context(cafile=file)
        context.check_hostname = False
        if has_certificate:
            context.load_cert_chain(file)
        connection = http.client.HTTPSConnection("127.0.0.1", port.getHost().port, timeout=60, context=context)
        connection.request("GET", "/", headers={"SSL_CLIENT_CERT": "(null)"})
        status = connection.getresponse().status
        connection.close()
        return status

    try:
        assert await deferToThread(ask) == 200
    finally:
        await maybeDeferred(port.stopListening)
    expected = DER if has_certificate and peer != PROXY else None
    assert harness.resource.seen == [Peer("127.0.0.1", True, expected)]
