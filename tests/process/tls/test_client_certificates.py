"""Client certificates: requested, verified, or refused with a reason in the log."""

from __future__ import annotations

import gc
import ssl
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from econed.config.values import CertificateFiles
from econed.process.certificates import TLSFiles
from tests.process.tls.serving_tls import AUTHORITY, V1_2, V1_3, issued, reload
from tests.support.certificates import Authority, Issued, replace_file, rsa_key
from tests.support.handshakes import Server, trusting


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
