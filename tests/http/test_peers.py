"""Who a request comes from: by the connection, and by what trusted proxies, and nobody else, say of it."""

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


class Asked(Resource):
    """Notes who asks."""

    isLeaf = True

    def __init__(self, peers: Peers) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._peers = peers
        self.seen: list[Peer] = []

    def render(self, request: Request) -> bytes:
        self.seen.append(self._peers.of(request))  # type: ignore[arg-type]
        return b""


class SiteHarness:
    """A site that trusts the proxies, and what was said in the log."""

    def __init__(self, trusted: Sequence[str] = PROXIES) -> None:
        self.events: list[LogEvent] = []
        networks: list[Network] = [ipaddress.ip_network(each) for each in trusted]
        self.peers = Peers(networks, Logger(observer=self.events.append))  # type: ignore[arg-type]
        self.resource = Asked(self.peers)
        self.site = Site(self.resource, timeout=None)

    def asked(self, near: Any, *headers: tuple[str, str | bytes]) -> Peer:
        """Return who a request with these headers, over a connection from this address, comes from."""
        transport = StringTransport(peerAddress=_address(near) if isinstance(near, str) else near)
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


# Whom to believe

EVERYTHING = (
    ("X-Forwarded-For", "203.0.113.9"),
    ("X-Forwarded-Proto", "https"),
    ("SSL_CLIENT_CERT", ONE_LINE),
)


def test_a_trusted_proxy_says_who_is_behind_it(harness: SiteHarness) -> None:
    assert harness.asked(PROXY, *EVERYTHING) == Peer("203.0.113.9", True, DER)


@pytest.mark.parametrize("near", [CLIENT, "10.0.0.2", "2001:db8::1", "::ffff:198.51.100.7"])
def test_what_anyone_else_says_has_no_effect_whatever(harness: SiteHarness, near: str) -> None:
    """Nor does it get a line in the log, with which a stranger could fill it."""
    assert harness.asked(near, *EVERYTHING) == Peer(near.removeprefix("::ffff:"), False, None)
    assert harness.asked(near, ("SSL_CLIENT_CERT", "nonsense")).certificate is None
    assert harness.events == []


def test_nobody_is_trusted_unless_the_configuration_says_so() -> None:
    """Not even this machine itself."""
    assert SiteHarness(()).asked("127.0.0.1", *EVERYTHING) == Peer("127.0.0.1", False, None)


def test_a_socket_of_the_file_system_has_no_address_and_is_not_trusted() -> None:
    harness = SiteHarness(("0.0.0.0/0", "::/0"))
    assert harness.asked(UNIXAddress("/run/econe.sock"), *EVERYTHING) == Peer("unix", False, None)
    assert harness.asked(UNIXAddress(None)) == Peer("unix", False, None)


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


def test_ipv4_written_as_ipv6_is_ipv4_on_both_sides() -> None:
    """A listener on :: sees IPv4 clients so, and an administrator may have copied what it logged."""
    harness = SiteHarness(("::ffff:10.0.0.0/104",))
    assert harness.peers.trusts("10.1.2.3")
    assert harness.peers.trusts("::ffff:10.1.2.3")
    assert not harness.peers.trusts("11.0.0.0")
    assert SiteHarness(("::/0",)).peers.trusts("10.1.2.3") is False


# X-Forwarded-For


@pytest.mark.parametrize(
    ("said", "address"),
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
def test_the_client_is_the_first_from_the_right_who_is_no_trusted_proxy(
    harness: SiteHarness, said: str, address: str
) -> None:
    """What stands left of it the client can have written himself."""
    assert harness.asked(PROXY, ("X-Forwarded-For", said)).address == address


def test_several_headers_are_one_list(harness: SiteHarness) -> None:
    """HAProxy adds one of its own after the client's."""
    said = [("X-Forwarded-For", "203.0.113.9"), ("x-forwarded-for", CLIENT), ("X-FORWARDED-FOR", SECOND_PROXY)]
    assert harness.asked(PROXY, *said).address == CLIENT


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
def test_what_is_no_address_is_taken_for_none(harness: SiteHarness, garbage: str | bytes) -> None:
    """Then it is the proxy's that counts, the one that wrote it."""
    assert harness.asked(PROXY, ("X-Forwarded-For", garbage)).address == PROXY
    assert harness.asked(PROXY, ("X-Forwarded-For", _raw(garbage) + b", 10.9.7.7")).address == SECOND_PROXY
    assert harness.asked(PROXY, ("X-Forwarded-For", _raw(garbage) + b", 198.51.100.7")).address == CLIENT


def test_where_all_are_trusted_proxies_it_is_the_furthest(harness: SiteHarness) -> None:
    assert harness.asked(PROXY).address == PROXY
    assert harness.asked(PROXY, ("X-Forwarded-For", "")).address == PROXY
    assert harness.asked(PROXY, ("X-Forwarded-For", f"10.9.1.1, {SECOND_PROXY}")).address == "10.9.1.1"


# X-Forwarded-Proto


@pytest.mark.parametrize(
    ("said", "is_secure"),
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
def test_a_trusted_proxy_says_whether_the_client_speaks_tls(
    harness: SiteHarness, said: list[str], is_secure: bool
) -> None:
    """Where several do, the nearest."""
    assert harness.asked(PROXY, *(("X-Forwarded-Proto", each) for each in said)).is_secure is is_secure


# SSL_CLIENT_CERT


@pytest.mark.parametrize(
    "written",
    [
        pytest.param(ONE_LINE, id="blanks for newlines, as Apache and lighttpd's script"),
        pytest.param(ONE_LINE + b" ", id="with the last one"),
        pytest.param(PEM.strip().replace(b"\n", b"\t"), id="tabs for newlines"),
        pytest.param(PEM.strip().replace(b"\n", b"\r\n\t"), id="folded"),
        pytest.param(PEM.strip().replace(b"\n", b" \t"), id="blanks and tabs"),
        pytest.param(quote(PEM.decode()), id="percent-encoded, as nginx"),
        pytest.param(quote(PEM.decode(), safe=""), id="percent-encoded throughout"),
        pytest.param(base64.b64encode(DER), id="the DER in base64, as HAProxy"),
    ],
)
def test_a_certificate_is_read_as_proxies_write_it(harness: SiteHarness, written: str | bytes) -> None:
    assert harness.asked(PROXY, ("SSL_CLIENT_CERT", written)).certificate == DER
    assert harness.events == []


@pytest.mark.parametrize("written", ["", "(null)", " "])
def test_a_proxy_may_say_that_there_is_none(harness: SiteHarness, written: str) -> None:
    """An empty header, or what Apache writes for a variable that is not set."""
    assert harness.asked(PROXY, ("SSL_CLIENT_CERT", written)).certificate is None
    assert harness.events == []


@pytest.mark.parametrize(
    "written",
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
def test_anything_else_is_no_certificate_and_the_log_says_so_without_showing_it(
    harness: SiteHarness, written: bytes
) -> None:
    assert harness.asked(PROXY, ("SSL_CLIENT_CERT", written)).certificate is None
    (event,) = harness.events
    assert "not a certificate" in event["log_format"]
    assert {key for key in event if not key.startswith("log_")} == set()


def test_of_two_headers_neither_is_taken(harness: SiteHarness) -> None:
    """One of them may be the client's, which a proxy passed on beside its own."""
    both = [("SSL_CLIENT_CERT", ONE_LINE), ("ssl_client_cert", ONE_LINE)]
    assert harness.asked(PROXY, *both).certificate is None
    assert harness.asked(PROXY, both[0], ("SSL_CLIENT_CERT", "")).certificate is None
    assert ["more than once" in event["log_format"] for event in harness.events] == [True, True]


@pytest.mark.parametrize("name", ["SSL-Client-Cert", "X-SSL-Client-Cert", "HTTP_SSL_CLIENT_CERT", "SSL_CLIENT-CERT"])
def test_there_is_one_name_for_it(harness: SiteHarness, name: str) -> None:
    """A proxy replaces the header that it sets; one that only looks like it, it would pass on."""
    assert harness.asked(PROXY, (name, ONE_LINE)).certificate is None
    assert harness.asked(PROXY, (name, "nonsense"), ("SSL_CLIENT_CERT", ONE_LINE)).certificate == DER


def test_something_that_is_no_x509_is_no_certificate() -> None:
    """Base64 of anything can be written."""
    assert read_certificate(base64.b64encode(b"0\x03\x02\x01\x01")) is None
    assert read_certificate(ONE_LINE) == DER


# Our own TLS


def _paired(directory: Path) -> tuple[Path, Any]:
    """Return a file with key and certificate, and a server's TLS that has them and asks clients for theirs."""
    private, _ = server_certificate()
    file = directory / "both.pem"
    file.touch(mode=0o600)
    file.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + PEM)
    authorities = [X509.from_cryptography(load_pem_x509_certificate(PEM))]
    return file, server_options(file.read_bytes(), verify=True, caCerts=authorities, requireCertificate=False)


@pytest.mark.parametrize(("near", "brings"), [("127.0.0.1", True), ("127.0.0.1", False), (PROXY, True)])
@pytest_twisted.ensureDeferred
async def test_a_client_brings_its_certificate_to_our_own_tls_itself(tmp_path: Path, near: str, brings: bool) -> None:
    """But that of a trusted proxy is the proxy's own, and says nothing of the client."""
    harness = SiteHarness(("127.0.0.1",) if near == PROXY else PROXIES)
    file, options = _paired(tmp_path)
    factory = TLSMemoryBIOFactory(options, False, harness.site)
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")

    def ask() -> int:
        context = ssl.create_default_context(cafile=file)
        context.check_hostname = False
        if brings:
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
    expected = DER if brings and near != PROXY else None
    assert harness.resource.seen == [Peer("127.0.0.1", True, expected)]
