"""TLS of the server: versions, ciphers, keys, sessions, and the chain that is sent."""

from __future__ import annotations

import ssl
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator, IStreamServerEndpoint
from twisted.internet.testing import StringTransport
from zope.interface.verify import verifyObject

from econed.process.certificates import TLSFiles
from tests.process.tls.serving_tls import V1_1, V1_2, V1_3, issued
from tests.support.certificates import Authority, ec_key, replace_file, rsa_key
from tests.support.handshakes import Nowhere, Server, trusting

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
