"""TLS to oned: trusted authorities, and when a call was certainly not sent."""

from __future__ import annotations

import ipaddress
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from twisted.internet.defer import maybeDeferred

from econed.errors import OpenNebulaUnavailable
from econed.xmlrpc.endpoint import oned_endpoint
from econed.xmlrpc.proxy import OnedProxy
from tests.support.certificates import server_options
from tests.support.oned_stubs import replying
from tests.xmlrpc_backend.calling_oned import BackendHarness, failure_of, modern


@dataclass(frozen=True)
class Authority:
    """A certificate authority with a server certificate, and its PEM file."""

    file: Path
    options: Any


def authority(directory: Path, name: str, host: str) -> Authority:
    """Create an authority and a certificate of it for `host`, an address or a name."""
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.fromtimestamp(time.time(), UTC)

    def certificate(subject: x509.Name, key: Any, *extensions: x509.ExtensionType) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(keys[0], hashes.SHA256())

    def pem(made: x509.Certificate) -> bytes:
        return made.public_bytes(serialization.Encoding.PEM)

    root = certificate(issuer, keys[0], x509.BasicConstraints(ca=True, path_length=None))
    try:
        alternative: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        alternative = x509.DNSName(host)
    leaf = certificate(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "oned")]),
        keys[1],
        x509.SubjectAlternativeName([alternative]),
    )
    private = keys[1].private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = directory / f"{name}.pem"
    file.write_bytes(pem(root))
    return Authority(file, server_options(pem(leaf) + private))


@pytest_twisted.ensureDeferred
async def test_https_trusts_the_configured_authority(harness: BackendHarness, tmp_path: Path) -> None:
    ours = authority(tmp_path, "ours", "127.0.0.1")
    server = harness.serve(modern(replying(True, 1, 0)), tls=ours.options)
    backend = harness.backend(server.url, ca_file=ours.file)
    assert await backend.call("alice", "one.vm.action", "resume", 1) == 1


@pytest_twisted.ensureDeferred
async def test_a_file_may_have_several_authorities(harness: BackendHarness, tmp_path: Path) -> None:
    ours, other = authority(tmp_path, "ours", "127.0.0.1"), authority(tmp_path, "other", "127.0.0.1")
    both = tmp_path / "both.pem"
    both.write_bytes(other.file.read_bytes() + ours.file.read_bytes())
    server = harness.serve(modern(replying(True, 1, 0)), tls=ours.options)
    assert await harness.backend(server.url, ca_file=both).call("alice", "one.vm.action", "resume", 1) == 1


@pytest.mark.parametrize("given", ["another authority", "the system's"])
@pytest_twisted.ensureDeferred
async def test_nothing_is_sent_to_a_server_with_a_certificate_of_another_authority(
    harness: BackendHarness, tmp_path: Path, given: str
) -> None:
    ours, other = authority(tmp_path, "ours", "127.0.0.1"), authority(tmp_path, "other", "127.0.0.1")
    server = harness.serve(modern(replying(True, 1, 0)), tls=other.options)
    backend = harness.backend(server.url, ca_file=ours.file if given == "another authority" else None)
    error = await failure_of(backend.call("alice", "one.vm.action", "resume", 1))
    assert isinstance(error, OpenNebulaUnavailable)
    assert "certificate verify failed" in error.reason
    assert server.calls == []


@pytest_twisted.ensureDeferred
async def test_nothing_is_sent_to_a_server_with_a_certificate_for_another_host(
    harness: BackendHarness, tmp_path: Path
) -> None:
    ours = authority(tmp_path, "ours", "oned.example")
    server = harness.serve(modern(replying(True, 1, 0)), tls=ours.options)
    backend = harness.backend(server.url, ca_file=ours.file)
    assert isinstance(await failure_of(backend.call("alice", "one.vm.action", "resume", 1)), OpenNebulaUnavailable)
    assert server.calls == []


@pytest.mark.parametrize(
    ("what", "never_sent", "is_secure"),
    [
        ("nobody listens", True, False),
        ("nobody listens", True, True),
        ("a stranger's certificate", True, True),
        ("cut in the handshake", True, True),
        ("cut", False, False),
        ("cut", False, True),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_call_is_certainly_not_sent_only_without_a_connection(
    harness: BackendHarness, tmp_path: Path, what: str, never_sent: bool, is_secure: bool
) -> None:
    """Only then a change may be repeated. Over TLS there is a connection after the handshake."""
    ours, other = authority(tmp_path, "ours", "127.0.0.1"), authority(tmp_path, "other", "127.0.0.1")
    options = (other if "stranger" in what else ours).options if is_secure and "handshake" not in what else None
    server = harness.serve(
        lambda peer: peer.reset(), lambda peer: peer.reset() if "handshake" in what else None, tls=options
    )
    url = server.url.replace("http:", "https:") if is_secure else server.url
    if what == "nobody listens":
        await maybeDeferred(harness.ports.pop().stopListening)
    proxy = OnedProxy(
        harness.reactor, url, oned_endpoint(harness.reactor, url, ours.file if is_secure else None), 1 << 20
    )
    error = await failure_of(proxy.callRemote("one.vm.action", "session"))
    assert isinstance(error, OpenNebulaUnavailable)
    assert error.never_sent is never_sent
    assert server.calls == ([] if never_sent else ["one.vm.action"])


@pytest.mark.parametrize("url", ["", "localhost:2633", "ftp://localhost/", "http://", "http:///RPC2"])
@pytest_twisted.ensureDeferred
async def test_an_invalid_url_is_an_error(harness: BackendHarness, url: str) -> None:
    with pytest.raises(ValueError, match="not the http or https URL"):
        oned_endpoint(harness.reactor, url)


@pytest_twisted.ensureDeferred
async def test_a_file_without_an_authority_is_an_error(harness: BackendHarness, tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing")
    with pytest.raises(ValueError, match="PEM"):
        oned_endpoint(harness.reactor, "https://127.0.0.1/RPC2", empty)
    with pytest.raises(FileNotFoundError):
        oned_endpoint(harness.reactor, "https://127.0.0.1/RPC2", tmp_path / "missing.pem")
