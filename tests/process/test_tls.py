"""TLS of the server: versions and ciphers, server names, reload of certificates, client certificates."""

from __future__ import annotations

import gc
import os
import ssl
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator, IStreamServerEndpoint
from twisted.internet.testing import StringTransport
from zope.interface.verify import verifyObject

from econed.config.values import CertificateFiles
from econed.process.certificates import TLSFiles
from econed.process.tls import CHECK_INTERVAL, lookup_name
from tests.support.certificates import Authority, Issued, ec_key, key_pem, replace_file, rsa_key
from tests.support.handshakes import Nowhere, Server, trusting

AUTHORITY = Authority()
V1_1, V1_2, V1_3 = ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


def issued(*names: str, **how: Any) -> Issued:
    """Return a server's certificate."""
    return AUTHORITY.server(*(names or ("ec2.example.org",)), **how)


@pytest.fixture
def files(tmp_path: Path) -> CertificateFiles:
    """A certificate for ec2.example.org."""
    return issued().write(tmp_path, "own")


@pytest.fixture
def server(files: CertificateFiles) -> Server:
    """A server with that certificate."""
    return Server(TLSFiles(files))


# Versions and ciphers


def test_it_provides_twisteds_interfaces(server: Server) -> None:
    """`IOpenSSLServerConnectionCreator`, and `IStreamServerEndpoint` over an endpoint."""
    assert verifyObject(IOpenSSLServerConnectionCreator, server.tls)
    assert verifyObject(IStreamServerEndpoint, server.tls.over(Nowhere()))


@pytest.mark.parametrize("version", [V1_2, V1_3])
def test_tls_1_2_and_1_3_are_supported(server: Server, version: ssl.TLSVersion) -> None:
    """Data arrives unchanged."""
    connection = server.connected(trusting(minimum_version=version, maximum_version=version))
    assert connection.tls.version() == {V1_2: "TLSv1.2", V1_3: "TLSv1.3"}[version]
    assert connection.ask(b"over " + version.name.encode()) == b"over " + version.name.encode()


def test_older_versions_are_refused(server: Server) -> None:
    """With the alert "protocol version"."""
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        old = trusting(ciphers="ALL:@SECLEVEL=0", minimum_version=ssl.TLSVersion.TLSv1, maximum_version=V1_1)
    with pytest.raises(ssl.SSLError, match="protocol version"):
        server.connected(old)


@pytest.mark.parametrize("key", ["rsa", "ec"])
@pytest.mark.parametrize(
    "ciphers", ["ECDHE+AES+SHA256:!AESGCM:!AESCCM", "kRSA", "DHE", "ECDHE+AESCCM", "ARIA", "CAMELLIA", "aNULL:eNULL"]
)
def test_with_tls_1_2_only_ephemeral_keys_and_authenticated_encryption_are_negotiated(
    tmp_path: Path, key: str, ciphers: str
) -> None:
    """CBC, RSA and finite-field key exchange, and rare or null ciphers are refused, with each kind of certificate."""
    files = issued(key=rsa_key() if key == "rsa" else None).write(tmp_path, "own")
    with pytest.raises(ssl.SSLError, match="handshake failure"):
        Server(TLSFiles(files)).connected(trusting(ciphers=f"{ciphers}:@SECLEVEL=0", maximum_version=V1_2))


@pytest.mark.parametrize(
    "key", [rsa_key(), ec_key(), ec_key(ec.SECP384R1()), ec_key(ec.SECP521R1())], ids=["rsa", "p256", "p384", "p521"]
)
@pytest.mark.parametrize("version", [V1_2, V1_3])
def test_keys_may_be_rsa_or_elliptic_curve(tmp_path: Path, key: Any, version: ssl.TLSVersion) -> None:
    """With either version."""
    own = issued(key=key)
    context = trusting(maximum_version=version)
    assert Server(TLSFiles(own.write(tmp_path, "own"))).connected(context).certificate == own.certificate


def test_alpn_selects_http_1_1(server: Server) -> None:
    """If the client offers it."""
    context = trusting()
    context.set_alpn_protocols(["h2", "http/1.1"])
    assert server.connected(context).tls.selected_alpn_protocol() == "http/1.1"
    context.set_alpn_protocols(["h2"])
    assert server.connected(context).tls.selected_alpn_protocol() is None


@pytest.mark.parametrize("version", [V1_2, V1_3])
def test_sessions_are_not_resumed(server: Server, version: ssl.TLSVersion) -> None:
    """Each connection has its own keys, and requests the client's certificate."""
    context = trusting(minimum_version=version, maximum_version=version)
    first = server.connected(context)
    first.ask()
    second = server.connected(context, session=first.tls.session)
    assert second.ask() == b"hello"
    assert not second.tls.session_reused


def test_renegotiation_is_refused(server: Server) -> None:
    """It would cost the server handshakes."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    client = SSL.Connection(context, None)
    client.set_connect_state()
    protocol: Any = server.connection()._protocol.factory.buildProtocol(None)
    transport = StringTransport()
    protocol.makeConnection(transport)

    def exchange(times: int) -> None:
        for _ in range(times):
            with suppress(SSL.WantReadError):
                client.do_handshake()
            with suppress(SSL.WantReadError):
                protocol.dataReceived(client.bio_read(65536))
            if transport.value():
                client.bio_write(transport.value())
                transport.clear()

    exchange(4)
    assert client.get_protocol_version_name() == "TLSv1.2"
    assert client.renegotiate()
    with pytest.raises(SSL.Error, match="no renegotiation"):
        exchange(4)


# Chains


@pytest.mark.parametrize("version", [V1_2, V1_3])
@pytest.mark.parametrize("place", ["behind the certificate", "in its own file", "in both"])
def test_the_chain_is_sent(tmp_path: Path, place: str, version: ssl.TLSVersion) -> None:
    """So that a client that trusts only the root can verify the certificate."""
    root = Authority("Root")
    own = Authority("Intermediate", root).server("ec2.example.org")
    files = own.write(tmp_path, "own")
    if place != "behind the certificate":
        chain = tmp_path / "chain.pem"
        chain.write_bytes(replace(own, certificate=own.chain[0], chain=()).pem)
        files = replace(files, chain=str(chain))
    if place == "in its own file":
        replace_file(Path(files.cert), replace(own, chain=()).pem)
    context = ssl.create_default_context(cadata=root.pem.decode())
    context.maximum_version = version
    assert Server(TLSFiles(files)).connected(context, "ec2.example.org").ask() == b"hello"


# Server names


NAMES = {name: name for name in ("a.example.org", "*.example.org", "*.sub.example.org", "single")}


@pytest.mark.parametrize(
    ("server_name", "expected"),
    [
        ("a.example.org", "a.example.org"),
        ("A.Example.ORG", "a.example.org"),
        ("a.example.org.", "a.example.org"),
        ("b.example.org", "*.example.org"),
        ("x.sub.example.org", "*.sub.example.org"),
        ("sub.example.org", "*.example.org"),
        ("single", "single"),
        ("example.org", None),
        ("x.y.example.org", None),
        (".example.org", None),
        ("*.sub.example.org", "*.sub.example.org"),
        ("org", None),
        ("", None),
        (".", None),
    ],
)
def test_names_are_matched_by_the_rules_of_rfc_6125(server_name: str, expected: str | None) -> None:
    """Case-insensitive; a wildcard matches exactly one label, the leftmost; an exact match takes precedence."""
    assert lookup_name(NAMES, server_name) == expected


@pytest.fixture
def many(tmp_path: Path) -> tuple[Server, list[Issued]]:
    """A server with several certificates, in the order of econe.conf, ssl_cert first."""
    certificates = [
        issued("ec2.example.org", "Exact.Example.net"),
        issued("*.example.net", key=rsa_key()),
        issued("other.example.com", "exact.example.net"),
    ]
    own, *others = [item.write(tmp_path, f"certificate-{index}") for index, item in enumerate(certificates)]
    return Server(TLSFiles(own, tuple(others))), certificates


@pytest.mark.parametrize(
    ("server_name", "index"),
    [
        ("ec2.example.org", 0),
        ("exact.example.net", 0),
        ("any.example.net", 1),
        ("ANY.example.NET", 1),
        ("other.example.com", 2),
        ("unknown.example.com", 0),
        ("a.b.example.net", 0),
        (None, 0),
    ],
)
@pytest.mark.parametrize("version", [V1_2, V1_3])
def test_clients_get_the_certificate_for_the_server_name(
    many: tuple[Server, list[Issued]], server_name: str | None, index: int, version: ssl.TLSVersion
) -> None:
    """Without a name, or for an unknown name, ssl_cert; of several certificates for a name, the first."""
    server, certificates = many
    connection = server.connected(trusting(maximum_version=version), server_name)
    assert connection.certificate == certificates[index].certificate
    assert connection.ask() == b"hello"


# Reload


def reload(server: Server) -> None:
    """Reload the files."""
    results: list[Any] = []
    Deferred.fromCoroutine(server.tls.reload()).addBoth(results.append)
    assert results == [None]


def test_a_reload_applies_to_later_connections(server: Server, tmp_path: Path) -> None:
    """Existing connections keep their certificate."""
    before = server.connected()
    half_way = server.connection()
    new = issued()
    new.write(tmp_path, "own")
    reload(server)
    gc.collect()
    assert server.connected().certificate == new.certificate
    assert before.ask() == b"hello"
    assert half_way.shake_hands().certificate == before.certificate
    assert server.lines("info")[-1].startswith("new certificates are in use; ssl_cert expires at 20")


def test_changed_files_are_loaded_at_the_next_check(server: Server, tmp_path: Path) -> None:
    """Every ten seconds, and not in between."""
    server.tls.startService()
    new = issued()
    new.write(tmp_path, "own")
    server.clock.advance(CHECK_INTERVAL - 0.1)
    assert server.connected().certificate != new.certificate
    server.clock.advance(0.1)
    assert server.connected().certificate == new.certificate


def test_unchanged_files_are_not_read_again(server: Server) -> None:
    """A check only reads their modification times."""
    server.tls.startService()
    before = server.reads
    for _ in range(5):
        server.clock.advance(CHECK_INTERVAL)
    assert server.reads == before + 5
    assert server.lines("info", "warn", "error") == []


def test_checks_end_when_the_service_is_stopped(server: Server) -> None:
    """No delayed call is left."""
    server.tls.startService()
    server.tls.stopService()
    assert server.clock.getDelayedCalls() == []


def test_a_replaced_file_of_the_same_size_and_modification_time_is_loaded(server: Server, tmp_path: Path) -> None:
    """Its inode differs."""
    server.tls.startService()
    path = Path(server.files.own.cert)
    before = path.stat()
    content = path.read_bytes()
    replace_file(path, content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    server.clock.advance(CHECK_INTERVAL)
    assert len(server.lines("info")) == 1


def test_a_new_certificate_is_used_when_its_key_is_written_too(server: Server, tmp_path: Path) -> None:
    """Until then the error is logged once, and the old pair is used."""
    server.tls.startService()
    old, new = server.connected().certificate, issued()
    replace_file(Path(server.files.own.cert), new.pem)
    for _ in range(6):
        server.clock.advance(CHECK_INTERVAL)
        assert server.connected().certificate == old
    (error,) = server.lines("error")
    assert error.startswith("new certificates refused, keeping the old ones: ")
    assert "own-cert.pem: ssl_cert: is not the certificate of the key in " in error
    replace_file(Path(server.files.own.key), key_pem(new.key))
    server.clock.advance(CHECK_INTERVAL)
    assert server.connected().certificate == new.certificate
    assert len(server.lines("error")) == 1


@pytest.mark.parametrize("what", ["gone", "empty", "cut off", "encrypted"])
def test_a_failed_reload_keeps_the_old_certificates(server: Server, what: str) -> None:
    """The error is logged, without any part of the key."""
    old = server.connected().certificate
    key = Path(server.files.own.key)
    content = key.read_bytes()
    if what == "gone":
        key.unlink()
    else:
        key.write_bytes({"empty": b"", "cut off": content[:-60], "encrypted": key_pem(ec_key(), b"secret")}[what])
    reload(server)
    assert server.connected().certificate == old
    (error,) = server.lines("error")
    assert "own-key.pem: ssl_key: " in error
    assert not [line for line in content.decode().splitlines()[1:-1] if line in error]
    reload(server)
    assert len(server.lines("error")) == 2, "a reload on request logs the error again"


def test_one_invalid_certificate_of_several_keeps_all_old_ones(many: tuple[Server, list[Issued]]) -> None:
    """Also those that are valid."""
    server, certificates = many
    own = issued()
    replace_file(Path(server.files.own.cert), own.pem)
    replace_file(Path(server.files.own.key), key_pem(own.key))
    Path(server.files.others[1].cert).write_text("nonsense")
    reload(server)
    assert server.connected().certificate == certificates[0].certificate
    (error,) = server.lines("error")
    assert "certificate-2-cert.pem: ssl_sni: expected a certificate in PEM" in error


def test_a_certificate_that_expires_soon_is_logged_as_a_warning_every_day(tmp_path: Path) -> None:
    """Also if it was not close to its expiry when the server started."""
    server = Server(TLSFiles(issued(days=15.5).write(tmp_path, "own")))
    server.tls.startService()
    assert server.lines("warn") == []
    for day in range(1, 5):
        for _ in range(int(timedelta(days=1).total_seconds() / CHECK_INTERVAL)):
            server.clock.advance(CHECK_INTERVAL)
        assert len(server.lines("warn")) == max(day - 1, 0)
    assert "own-cert.pem: ssl_cert: expires soon, at 20" in server.lines("warn")[0]


# Client certificates


@pytest.fixture
def requesting(files: CertificateFiles, tmp_path: Path) -> Server:
    """A server that requests certificates of the authority."""
    ca = tmp_path / "clients.pem"
    ca.write_bytes(AUTHORITY.pem)
    other = issued("other.example.org").write(tmp_path, "other")
    return Server(TLSFiles(files, (other,), str(ca)))


both = pytest.mark.parametrize("version", [V1_2, V1_3])
both_names = pytest.mark.parametrize("server_name", ["ec2.example.org", "other.example.org"])


@both
@both_names
def test_a_client_certificate_is_verified_and_available(
    requesting: Server, tmp_path: Path, version: ssl.TLSVersion, server_name: str
) -> None:
    """With each certificate of the server."""
    client = AUTHORITY.client("alice")
    connection = requesting.connected(trusting(client.write(tmp_path, "client"), maximum_version=version), server_name)
    assert connection.ask() == b"hello"
    assert connection.server.client == client.certificate


@both
def test_a_client_without_a_certificate_is_accepted(requesting: Server, version: ssl.TLSVersion) -> None:
    """It gets an HTTP response with an error."""
    connection = requesting.connected(trusting(maximum_version=version))
    assert connection.ask() == b"hello"
    assert connection.server.client is None


def test_without_ssl_client_ca_no_client_certificate_is_requested(server: Server, tmp_path: Path) -> None:
    """A client that has one does not send it."""
    connection = server.connected(trusting(AUTHORITY.client("alice").write(tmp_path, "client")))
    connection.ask()
    assert connection.server.client is None


OTHER_AUTHORITY = Authority("Other")
BAD = {
    "of another authority": (OTHER_AUTHORITY.client("alice"), "is issued by an authority that is not in ssl_client_ca"),
    "expired": (AUTHORITY.client("alice", days=-1, since=-9), "has expired"),
    "not valid yet": (AUTHORITY.client("alice", since=1), "is not valid yet"),
    "of a server": (
        AUTHORITY.client("alice", usage=ExtendedKeyUsageOID.SERVER_AUTH),
        "is not for clients (extendedKeyUsage)",
    ),
    "of an authority below another": (
        Authority("Below", OTHER_AUTHORITY).client("alice"),
        "is issued by an authority that is not in ssl_client_ca",
    ),
    "too weak": (AUTHORITY.client("alice", key=rsa_key(1024)), "is invalid (OpenSSL's verification error 66)"),
}


@pytest.mark.parametrize(("client", "reason"), BAD.values(), ids=BAD.keys())
@both
@both_names
def test_an_invalid_client_certificate_ends_the_handshake_and_the_reason_is_logged(
    requesting: Server, tmp_path: Path, client: Issued, reason: str, version: ssl.TLSVersion, server_name: str
) -> None:
    """No data of the client is read."""
    context = trusting(client.write(tmp_path, "client"), maximum_version=version, ciphers="DEFAULT:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError):
        requesting.connected(context, server_name).ask()
    (refusal,) = [line for line in requesting.lines("info") if "refused" in line][:1]
    assert "CN=alice" in refusal or "CN=Below" in refusal
    assert refusal.endswith(reason)


def test_the_authority_of_clients_may_be_an_intermediate_one(files: CertificateFiles, tmp_path: Path) -> None:
    """Certificates of other intermediate authorities or of the root are refused then."""
    root = Authority("Root")
    ours, theirs = Authority("Ours", root), Authority("Theirs", root)
    ca = tmp_path / "clients.pem"
    ca.write_bytes(ours.pem)
    server = Server(TLSFiles(files, (), str(ca)))
    assert server.connected(trusting(ours.client("a").write(tmp_path, "a"))).ask() == b"hello"
    for index, client in enumerate((theirs.client("a"), root.client("a"))):
        with pytest.raises(ssl.SSLError):
            server.connected(trusting(client.write(tmp_path, f"client-{index}"))).ask()


def test_a_new_authority_applies_to_later_connections(requesting: Server, tmp_path: Path) -> None:
    """Like a new certificate."""
    context = trusting(OTHER_AUTHORITY.client("alice").write(tmp_path, "client"))
    with pytest.raises(ssl.SSLError):
        requesting.connected(context).ask()
    assert requesting.files.client_ca is not None
    replace_file(Path(requesting.files.client_ca), OTHER_AUTHORITY.pem)
    reload(requesting)
    assert requesting.connected(context).ask() == b"hello"


@both_names
def test_a_reload_during_a_handshake_keeps_its_verification_callback(
    requesting: Server, tmp_path: Path, server_name: str
) -> None:
    """OpenSSL calls it when the client's certificate arrives."""
    connection = requesting.connection(trusting(AUTHORITY.client("alice").write(tmp_path, "client")), server_name)
    with pytest.raises(ssl.SSLWantReadError):
        connection.tls.do_handshake()
    connection._exchange()
    reload(requesting)
    gc.collect()
    connection.shake_hands()
    assert connection.ask() == b"hello"
    assert connection.server.client is not None
