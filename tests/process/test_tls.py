"""TLS of the server: what it speaks, whose certificate it shows, how it takes new ones, whose it asks for."""

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
from econed.process.certificates import Files
from econed.process.tls import LOOK_EVERY, for_name
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
    return Server(Files(files))


# What it speaks


def test_it_is_what_twisted_takes_for_a_tls_server(server: Server) -> None:
    """`IOpenSSLServerConnectionCreator`, and endpoints over endpoints."""
    assert verifyObject(IOpenSSLServerConnectionCreator, server.tls)
    assert verifyObject(IStreamServerEndpoint, server.tls.over(Nowhere()))


@pytest.mark.parametrize("version", [V1_2, V1_3])
def test_tls_1_2_and_1_3_are_spoken(server: Server, version: ssl.TLSVersion) -> None:
    """And what goes over the connection arrives."""
    connection = server.connected(trusting(minimum_version=version, maximum_version=version))
    assert connection.tls.version() == {V1_2: "TLSv1.2", V1_3: "TLSv1.3"}[version]
    assert connection.ask(b"over " + version.name.encode()) == b"over " + version.name.encode()


def test_older_versions_are_refused(server: Server) -> None:
    """By an alert that says so."""
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        old = trusting(ciphers="ALL:@SECLEVEL=0", minimum_version=ssl.TLSVersion.TLSv1, maximum_version=V1_1)
    with pytest.raises(ssl.SSLError, match="protocol version"):
        server.connected(old)


@pytest.mark.parametrize("key", ["rsa", "ec"])
@pytest.mark.parametrize(
    "ciphers", ["ECDHE+AES+SHA256:!AESGCM:!AESCCM", "kRSA", "DHE", "ECDHE+AESCCM", "ARIA", "CAMELLIA", "aNULL:eNULL"]
)
def test_with_tls_1_2_nothing_but_ephemeral_keys_and_authenticated_encryption_is_agreed_on(
    tmp_path: Path, key: str, ciphers: str
) -> None:
    """CBC, keys of RSA or of finite fields, and what is exotic or nothing are refused, whatever the certificate."""
    files = issued(key=rsa_key() if key == "rsa" else None).write(tmp_path, "own")
    with pytest.raises(ssl.SSLError, match="handshake failure"):
        Server(Files(files)).connected(trusting(ciphers=f"{ciphers}:@SECLEVEL=0", maximum_version=V1_2))


@pytest.mark.parametrize(
    "key", [rsa_key(), ec_key(), ec_key(ec.SECP384R1()), ec_key(ec.SECP521R1())], ids=["rsa", "p256", "p384", "p521"]
)
@pytest.mark.parametrize("version", [V1_2, V1_3])
def test_keys_may_be_of_rsa_or_of_elliptic_curves(tmp_path: Path, key: Any, version: ssl.TLSVersion) -> None:
    """With either version."""
    own = issued(key=key)
    context = trusting(maximum_version=version)
    assert Server(Files(own.write(tmp_path, "own"))).connected(context).certificate == own.certificate


def test_clients_are_told_that_it_speaks_http_1_1(server: Server) -> None:
    """Whatever else they offer."""
    context = trusting()
    context.set_alpn_protocols(["h2", "http/1.1"])
    assert server.connected(context).tls.selected_alpn_protocol() == "http/1.1"
    context.set_alpn_protocols(["h2"])
    assert server.connected(context).tls.selected_alpn_protocol() is None


@pytest.mark.parametrize("version", [V1_2, V1_3])
def test_sessions_are_not_resumed(server: Server, version: ssl.TLSVersion) -> None:
    """Each connection has keys of its own, and asks for the client's certificate itself."""
    context = trusting(minimum_version=version, maximum_version=version)
    first = server.connected(context)
    first.ask()
    again = server.connected(context, session=first.tls.session)
    assert again.ask() == b"hello"
    assert not again.tls.session_reused


def test_a_connection_is_not_negotiated_anew(server: Server) -> None:
    """A client that asks for it costs the server no handshake."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    client = SSL.Connection(context, None)
    client.set_connect_state()
    protocol: Any = server.connection()._protocol.factory.buildProtocol(None)
    transport = StringTransport()
    protocol.makeConnection(transport)

    def steps(number: int) -> None:
        for _ in range(number):
            with suppress(SSL.WantReadError):
                client.do_handshake()
            with suppress(SSL.WantReadError):
                protocol.dataReceived(client.bio_read(65536))
            if transport.value():
                client.bio_write(transport.value())
                transport.clear()

    steps(4)
    assert client.get_protocol_version_name() == "TLSv1.2"
    assert client.renegotiate()
    with pytest.raises(SSL.Error, match="no renegotiation"):
        steps(4)


# Chains


@pytest.mark.parametrize("version", [V1_2, V1_3])
@pytest.mark.parametrize("place", ["behind the certificate", "in its own file", "in both"])
def test_the_chain_is_sent(tmp_path: Path, place: str, version: ssl.TLSVersion) -> None:
    """So that a client that knows the root alone can verify the certificate."""
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
    assert Server(Files(files)).connected(context, "ec2.example.org").ask() == b"hello"


# The name that a client asks for


NAMES = {name: name for name in ("a.example.org", "*.example.org", "*.sub.example.org", "single")}


@pytest.mark.parametrize(
    ("asked", "found"),
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
def test_names_are_looked_up_as_rfc_6125_has_them(asked: str, found: str | None) -> None:
    """In any case of letters; a wildcard stands for one label, the leftmost, and a name goes before it."""
    assert for_name(NAMES, asked) == found


@pytest.fixture
def many(tmp_path: Path) -> tuple[Server, list[Issued]]:
    """A server with several certificates, in the order of econe.conf, its own first."""
    held = [
        issued("ec2.example.org", "Exact.Example.net"),
        issued("*.example.net", key=rsa_key()),
        issued("other.example.com", "exact.example.net"),
    ]
    own, *others = [each.write(tmp_path, f"certificate-{number}") for number, each in enumerate(held)]
    return Server(Files(own, tuple(others))), held


@pytest.mark.parametrize(
    ("asked", "number"),
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
def test_clients_get_the_certificate_for_the_name_they_ask_for(
    many: tuple[Server, list[Issued]], asked: str | None, number: int, version: ssl.TLSVersion
) -> None:
    """Without a name, or for one that nobody has, ssl_cert; where several have it, the first."""
    server, held = many
    connection = server.connected(trusting(maximum_version=version), asked)
    assert connection.certificate == held[number].certificate
    assert connection.ask() == b"hello"


# New files


def reload(server: Server) -> None:
    """Have the files read anew."""
    results: list[Any] = []
    Deferred.fromCoroutine(server.tls.reload()).addBoth(results.append)
    assert results == [None]


def test_a_reload_is_for_connections_to_come(server: Server, tmp_path: Path) -> None:
    """Those that are there go on with what they began with."""
    before = server.connected()
    half_way = server.connection()
    new = issued()
    new.write(tmp_path, "own")
    reload(server)
    gc.collect()
    assert server.connected().certificate == new.certificate
    assert before.ask() == b"hello"
    assert half_way.shake_hands().certificate == before.certificate
    assert server.lines("info")[-1].startswith("new certificates are in use, the first until 20")


def test_changed_files_are_taken_at_the_next_look(server: Server, tmp_path: Path) -> None:
    """Every ten seconds, and not in between."""
    server.tls.startService()
    new = issued()
    new.write(tmp_path, "own")
    server.clock.advance(LOOK_EVERY - 0.1)
    assert server.connected().certificate != new.certificate
    server.clock.advance(0.1)
    assert server.connected().certificate == new.certificate


def test_unchanged_files_are_not_read_again(server: Server) -> None:
    """A look is a look at their dates."""
    server.tls.startService()
    before = server.reads
    for _ in range(5):
        server.clock.advance(LOOK_EVERY)
    assert server.reads == before + 5
    assert server.lines("info", "warn", "error") == []


def test_nothing_is_looked_at_any_more_once_the_service_has_stopped(server: Server) -> None:
    """The process is about to end."""
    server.tls.startService()
    server.tls.stopService()
    assert server.clock.getDelayedCalls() == []


def test_a_certificate_of_the_same_size_written_in_place_at_the_same_time_is_seen(
    server: Server, tmp_path: Path
) -> None:
    """The inode tells that it was replaced, or else the date of the change does."""
    server.tls.startService()
    path = Path(server.files.own.cert)
    seen = path.stat()
    content = path.read_bytes()
    replace_file(path, content)
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    server.clock.advance(LOOK_EVERY)
    assert len(server.lines("info")) == 1


def test_half_of_a_new_pair_is_not_taken_and_the_whole_one_is(server: Server, tmp_path: Path) -> None:
    """What is wrong is said once, however often it is looked at; the old pair goes on."""
    server.tls.startService()
    old, new = server.connected().certificate, issued()
    replace_file(Path(server.files.own.cert), new.pem)
    for _ in range(6):
        server.clock.advance(LOOK_EVERY)
        assert server.connected().certificate == old
    (said,) = server.lines("error")
    assert said.startswith("the certificates stay as they were: ")
    assert "own-cert.pem: ssl_cert: is not the certificate of the key in " in said
    replace_file(Path(server.files.own.key), key_pem(new.key))
    server.clock.advance(LOOK_EVERY)
    assert server.connected().certificate == new.certificate
    assert len(server.lines("error")) == 1


@pytest.mark.parametrize("what", ["gone", "empty", "cut off", "encrypted"])
def test_a_bad_reload_leaves_everything_as_it_was(server: Server, what: str) -> None:
    """With an error in the log, and nothing of the key in it."""
    old = server.connected().certificate
    key = Path(server.files.own.key)
    content = key.read_bytes()
    if what == "gone":
        key.unlink()
    else:
        key.write_bytes({"empty": b"", "cut off": content[:-60], "encrypted": key_pem(ec_key(), b"secret")}[what])
    reload(server)
    assert server.connected().certificate == old
    (said,) = server.lines("error")
    assert "own-key.pem: ssl_key: " in said
    assert not [line for line in content.decode().splitlines()[1:-1] if line in said]
    reload(server)
    assert len(server.lines("error")) == 2, "an administrator who asks again is told again"


def test_one_bad_certificate_of_several_leaves_all_as_they_were(many: tuple[Server, list[Issued]]) -> None:
    """They belong together."""
    server, held = many
    own = issued()
    replace_file(Path(server.files.own.cert), own.pem)
    replace_file(Path(server.files.own.key), key_pem(own.key))
    Path(server.files.others[1].cert).write_text("nonsense")
    reload(server)
    assert server.connected().certificate == held[0].certificate
    (said,) = server.lines("error")
    assert "certificate-2-cert.pem: ssl_sni: expected a certificate in PEM" in said


def test_a_certificate_that_ends_soon_is_warned_of_at_the_start_and_every_day(tmp_path: Path) -> None:
    """As long as it is in use; also of one that was fine when the server started."""
    server = Server(Files(issued(days=15.5).write(tmp_path, "own")))
    server.tls.startService()
    assert server.lines("warn") == []
    for day in range(1, 5):
        for _ in range(int(timedelta(days=1).total_seconds() / LOOK_EVERY)):
            server.clock.advance(LOOK_EVERY)
        assert len(server.lines("warn")) == max(day - 1, 0)
    assert "own-cert.pem: ssl_cert: expires soon, at 20" in server.lines("warn")[0]


# Certificates of clients


@pytest.fixture
def asking(files: CertificateFiles, tmp_path: Path) -> Server:
    """A server that asks for certificates of the authority."""
    ca = tmp_path / "clients.pem"
    ca.write_bytes(AUTHORITY.pem)
    other = issued("other.example.org").write(tmp_path, "other")
    return Server(Files(files, (other,), str(ca)))


both = pytest.mark.parametrize("version", [V1_2, V1_3])
both_names = pytest.mark.parametrize("asked", ["ec2.example.org", "other.example.org"])


@both
@both_names
def test_a_clients_certificate_is_verified_and_known(
    asking: Server, tmp_path: Path, version: ssl.TLSVersion, asked: str
) -> None:
    """Whichever certificate of ours it gets."""
    client = AUTHORITY.client("alice")
    connection = asking.connected(trusting(client.write(tmp_path, "client"), maximum_version=version), asked)
    assert connection.ask() == b"hello"
    assert connection.server.client == client.certificate


@both
def test_a_client_without_a_certificate_is_served(asking: Server, version: ssl.TLSVersion) -> None:
    """It shall have an answer that says what is missing."""
    connection = asking.connected(trusting(maximum_version=version))
    assert connection.ask() == b"hello"
    assert connection.server.client is None


def test_no_certificate_is_asked_for_where_no_authority_is_named(server: Server, tmp_path: Path) -> None:
    """Then a client does not show the one that it has."""
    connection = server.connected(trusting(AUTHORITY.client("alice").write(tmp_path, "client")))
    connection.ask()
    assert connection.server.client is None


STRANGERS = Authority("Strangers")
BAD = {
    "of another authority": (STRANGERS.client("alice"), "is of an authority that is not in ssl_client_ca"),
    "expired": (AUTHORITY.client("alice", days=-1, since=-9), "has expired"),
    "of times to come": (AUTHORITY.client("alice", since=1), "is not valid yet"),
    "of a server": (
        AUTHORITY.client("alice", usage=ExtendedKeyUsageOID.SERVER_AUTH),
        "is not for clients (extendedKeyUsage)",
    ),
    "of an authority below another": (
        Authority("Below", STRANGERS).client("alice"),
        "is of an authority that is not in ssl_client_ca",
    ),
    "too weak": (AUTHORITY.client("alice", key=rsa_key(1024)), "does not hold (OpenSSL's verification error 66)"),
}


@pytest.mark.parametrize(("client", "reason"), BAD.values(), ids=BAD.keys())
@both
@both_names
def test_a_bad_certificate_ends_the_handshake_and_the_log_says_why(
    asking: Server, tmp_path: Path, client: Issued, reason: str, version: ssl.TLSVersion, asked: str
) -> None:
    """Nothing that the client sent is read."""
    context = trusting(client.write(tmp_path, "client"), maximum_version=version, ciphers="DEFAULT:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError):
        asking.connected(context, asked).ask()
    (said,) = [line for line in asking.lines("info") if "refused" in line][:1]
    assert "CN=alice" in said or "CN=Below" in said
    assert said.endswith(reason)


def test_the_authority_of_a_client_may_be_one_below_the_root(files: CertificateFiles, tmp_path: Path) -> None:
    """Then those of its siblings are not let in, nor those of the root."""
    root = Authority("Root")
    ours, theirs = Authority("Ours", root), Authority("Theirs", root)
    ca = tmp_path / "clients.pem"
    ca.write_bytes(ours.pem)
    server = Server(Files(files, (), str(ca)))
    assert server.connected(trusting(ours.client("a").write(tmp_path, "a"))).ask() == b"hello"
    for number, stranger in enumerate((theirs.client("a"), root.client("a"))):
        with pytest.raises(ssl.SSLError):
            server.connected(trusting(stranger.write(tmp_path, f"stranger-{number}"))).ask()


def test_a_new_authority_counts_for_connections_to_come(asking: Server, tmp_path: Path) -> None:
    """As a new certificate does."""
    stranger = trusting(STRANGERS.client("alice").write(tmp_path, "client"))
    with pytest.raises(ssl.SSLError):
        asking.connected(stranger).ask()
    assert asking.files.client_ca is not None
    replace_file(Path(asking.files.client_ca), STRANGERS.pem)
    reload(asking)
    assert asking.connected(stranger).ask() == b"hello"


@both_names
def test_a_reload_during_a_handshake_leaves_its_verification_whole(asking: Server, tmp_path: Path, asked: str) -> None:
    """What OpenSSL calls when the client's certificate comes is still there."""
    connection = asking.connection(trusting(AUTHORITY.client("alice").write(tmp_path, "client")), asked)
    with pytest.raises(ssl.SSLWantReadError):
        connection.tls.do_handshake()
    connection._exchange()
    reload(asking)
    gc.collect()
    connection.shake_hands()
    assert connection.ask() == b"hello"
    assert connection.server.client is not None
