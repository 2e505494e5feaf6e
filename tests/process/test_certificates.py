"""Errors for certificates that cannot be used, and warnings for those that will expire soon or that clients refuse."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from econed.config.loading import ConfigError
from econed.config.settings import Settings
from econed.config.values import CertificateFiles
from econed.process import tls
from econed.process.certificates import TLSFiles
from econed.process.tls import make_context
from tests.support.certificates import Authority, Issued, ec_key, key_pem, rsa_key
from tests.support.handshakes import Server
from tests.support.tools import require_tool

AUTHORITY = Authority()
NAME = "ec2.example.org"


def edwards() -> bytes:
    """Return a key of a kind that few EC2 clients support."""
    key = ed25519.Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def problems(files: TLSFiles) -> list[str]:
    """Return the errors for files, without their directory."""
    with pytest.raises(ConfigError) as raised:
        files.read()
    return [str(problem).replace(f"{Path(files.own.cert).parent}/", "") for problem in raised.value.problems]


def warnings(issued: Issued, directory: Path, now: float | None = None) -> list[str]:
    """Return the warnings for a certificate, without its directory."""
    moment = datetime.now(UTC).timestamp() if now is None else now
    found = TLSFiles(issued.write(directory, "own")).read().warnings(moment)
    return [str(warning).replace(f"{directory}/", "") for warning in found]


BAD_KEYS: dict[str, tuple[Callable[[], bytes], str]] = {
    "of another certificate": (
        lambda: key_pem(ec_key()),
        "own-cert.pem: ssl_cert: is not the certificate of the key in own-key.pem;"
        " the server's certificate must come first",
    ),
    "with a passphrase": (
        lambda: key_pem(ec_key(), b"secret"),
        "own-key.pem: ssl_key: has a passphrase: expected a private key without one",
    ),
    "of another kind": (edwards, "own-key.pem: ssl_key: expected an RSA key, or an EC key on P-256, P-384 or P-521"),
    "on another curve": (
        lambda: key_pem(ec_key(ec.SECP256K1())),
        "own-key.pem: ssl_key: expected an RSA key, or an EC key on P-256, P-384 or P-521",
    ),
    "too short": (
        lambda: key_pem(rsa_key(1024)),
        "own-key.pem: ssl_key: is too weak: expected an RSA key of 2048 bits or more, got 1024",
    ),
    "empty": (lambda: b"", "own-key.pem: ssl_key: expected a private key in PEM"),
    "a certificate": (lambda: AUTHORITY.pem, "own-key.pem: ssl_key: expected a private key in PEM"),
}


@pytest.mark.parametrize(("key", "expected"), BAD_KEYS.values(), ids=BAD_KEYS.keys())
def test_an_unusable_key_is_refused(tmp_path: Path, key: Callable[[], bytes], expected: str) -> None:
    """The error has the file, the key of econe.conf, and what was expected."""
    own = AUTHORITY.server(NAME).write(tmp_path, "own")
    Path(own.key).write_bytes(key())
    assert problems(TLSFiles(own)) == [expected]


@pytest.mark.parametrize("content", [b"", b"nonsense", key_pem(ec_key()), AUTHORITY.pem[:-40]])
def test_a_file_without_a_certificate_is_refused(tmp_path: Path, content: bytes) -> None:
    """In each of the settings."""
    own = AUTHORITY.server(NAME).write(tmp_path, "own")
    bad = tmp_path / "bad.pem"
    bad.write_bytes(content)
    message = "bad.pem: {}: expected a certificate in PEM"
    assert problems(TLSFiles(CertificateFiles(str(bad), own.key))) == [message.format("ssl_cert")]
    assert problems(TLSFiles(CertificateFiles(own.cert, own.key, str(bad)))) == [message.format("ssl_chain")]
    assert problems(TLSFiles(own, (CertificateFiles(str(bad), own.key),))) == [message.format("ssl_sni")]
    assert problems(TLSFiles(own, (), str(bad))) == [message.format("ssl_client_ca")]


def test_all_errors_are_reported_together(tmp_path: Path) -> None:
    """Of all files."""
    missing = CertificateFiles(str(tmp_path / "missing.pem"), str(tmp_path / "missing-key.pem"))
    assert problems(TLSFiles(missing, (missing,), str(tmp_path / "missing-ca.pem"))) == [
        "missing.pem: ssl_cert: cannot be read: No such file or directory",
        "missing.pem: ssl_sni: cannot be read: No such file or directory",
        "missing-ca.pem: ssl_client_ca: cannot be read: No such file or directory",
    ]


def test_a_chain_in_the_wrong_order_is_refused(tmp_path: Path) -> None:
    """The server's certificate must come first."""
    issued = Authority("Intermediate", AUTHORITY).server(NAME)
    own = issued.write(tmp_path, "own")
    Path(own.cert).write_bytes(Issued(issued.key, issued.chain[0], (issued.certificate,)).pem)
    assert len(problems(TLSFiles(own))) == 1


def test_key_and_certificate_may_be_in_one_file(tmp_path: Path) -> None:
    """In either order, as HAProxy expects them."""
    issued = AUTHORITY.server(NAME)
    both = tmp_path / "both.pem"
    for content in (issued.pem + key_pem(issued.key), key_pem(issued.key) + issued.pem):
        both.write_bytes(content)
        assert TLSFiles(CertificateFiles(str(both), str(both))).read().own.certificate == issued.certificate


def test_a_certificate_that_openssl_refuses_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a system that requires longer keys than econed."""
    monkeypatch.setattr(tls, "CIPHERS", b"ECDHE+AESGCM:@SECLEVEL=3")
    own = AUTHORITY.server(NAME, key=rsa_key()).write(tmp_path, "own")
    with pytest.raises(ConfigError, match=r"own-cert\.pem: ssl_cert: is refused by OpenSSL: ee key too small"):
        Server(TLSFiles(own))


def test_a_usable_pair_makes_a_context(tmp_path: Path) -> None:
    """Nothing is logged."""
    server = Server(TLSFiles(AUTHORITY.server(NAME).write(tmp_path, "own")))
    assert make_context(server.files.read(), server.tls._log) is not None
    assert server.events == []


# Warnings


def test_a_valid_certificate_has_no_warning(tmp_path: Path) -> None:
    """Nor has its chain."""
    assert warnings(AUTHORITY.server(NAME), tmp_path) == []
    assert warnings(Authority("Intermediate", AUTHORITY).server(NAME), tmp_path) == []


@pytest.mark.parametrize(
    ("days_left", "warning"),
    [(14.1, None), (13.9, "expires soon, at "), (0.001, "expires soon, at "), (-1, "expired at ")],
)
def test_a_certificate_that_expires_within_two_weeks_has_a_warning(
    tmp_path: Path, days_left: float, warning: str | None
) -> None:
    """With the time of its expiry. An expired certificate is used: some clients do not check that."""
    issued = AUTHORITY.server(NAME, days=days_left, since=-90)
    expiry = f"{issued.certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
    assert warnings(issued, tmp_path) == ([] if warning is None else [f"own-cert.pem: ssl_cert: {warning}{expiry}"])


def test_a_certificate_that_is_not_valid_yet_has_a_warning(tmp_path: Path) -> None:
    """The clock of this machine may be wrong."""
    issued = AUTHORITY.server(NAME)
    before = (issued.certificate.not_valid_before_utc - timedelta(days=1)).timestamp()
    start = f"{issued.certificate.not_valid_before_utc:%Y-%m-%d %H:%M}"
    assert warnings(issued, tmp_path, before) == [f"own-cert.pem: ssl_cert: is not valid before {start} UTC"]


def test_a_certificate_without_subject_alternative_names_has_a_warning(tmp_path: Path) -> None:
    """Current clients ignore the common name."""
    assert warnings(AUTHORITY.server(), tmp_path) == [
        "own-cert.pem: ssl_cert: names no server (subjectAltName), so clients will not accept it"
    ]


def test_a_certificate_for_ip_addresses_has_no_warning(tmp_path: Path) -> None:
    """Clients accept it."""
    assert warnings(AUTHORITY.server("127.0.0.1", "::1"), tmp_path) == []


def test_a_certificate_that_is_signed_with_sha_1_has_a_warning(tmp_path: Path) -> None:
    """Clients refuse it."""
    own = AUTHORITY.server(NAME).write(tmp_path, "own")
    request, authority, names = tmp_path / "request", tmp_path / "ca.pem", tmp_path / "names"
    authority.write_bytes(key_pem(AUTHORITY.key) + AUTHORITY.pem)
    names.write_text(f"subjectAltName=DNS:{NAME}")
    openssl = require_tool("openssl")
    subprocess.run([openssl, "req", "-new", "-key", own.key, "-subj", "/CN=old", "-out", str(request)], check=True)
    signing = ["-CA", str(authority), "-sha1", "-days", "30", "-extfile", str(names), "-in", str(request)]
    subprocess.run([openssl, "x509", "-req", *signing, "-out", own.cert], check=True, capture_output=True)
    messages = [str(warning) for warning in TLSFiles(own).read().warnings(datetime.now(UTC).timestamp())]
    assert messages == [f"{own.cert}: ssl_cert: is signed with MD5 or SHA-1, so clients will not accept it"]


def test_a_chain_with_a_gap_has_a_warning(tmp_path: Path) -> None:
    """Only some clients can verify it."""
    issued = Authority("Intermediate", AUTHORITY).server(NAME)
    assert warnings(Issued(issued.key, issued.certificate, (AUTHORITY.certificate,)), tmp_path) == [
        "own-cert.pem: ssl_cert: has a chain in the wrong order: each certificate must be issued by the next"
    ]


def test_an_expired_authority_of_clients_has_a_warning(tmp_path: Path) -> None:
    """No client certificate of it is valid."""
    ca = tmp_path / "ca.pem"
    expired = AUTHORITY.client("Old Authority", days=-1, since=-9)
    ca.write_bytes(AUTHORITY.pem + expired.pem)
    files = TLSFiles(AUTHORITY.server(NAME).write(tmp_path, "own"), (), str(ca))
    expiry = f"{expired.certificate.not_valid_after_utc:%Y-%m-%d %H:%M}"
    (warning,) = files.read().warnings(datetime.now(UTC).timestamp())
    assert str(warning) == f"{ca}: ssl_client_ca: the authority CN=Old Authority,O=ONE cloud expired at {expiry} UTC"


# Files by settings


def test_without_a_certificate_there_is_no_tls() -> None:
    """Only plain HTTP."""
    assert TLSFiles.of(Settings()) is None


@pytest.mark.parametrize(("auth", "client_ca"), [("ec2", None), ("x509", "/ca.pem")])
def test_client_certificates_are_requested_only_with_auth_x509(auth: str, client_ca: str | None) -> None:
    """Otherwise requests are authenticated by signatures."""
    settings = Settings(
        ssl_cert="/cert.pem",
        ssl_key="/key.pem",
        ssl_chain="/chain.pem",
        ssl_sni=(CertificateFiles("/c", "/k"),),
        ssl_client_ca="/ca.pem",
        auth=auth,  # type: ignore[arg-type]
    )
    own = CertificateFiles("/cert.pem", "/key.pem", "/chain.pem")
    assert TLSFiles.of(settings) == TLSFiles(own, (CertificateFiles("/c", "/k"),), client_ca)
