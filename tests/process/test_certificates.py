"""What is said of certificates that cannot be used, and of those that can and will not for long."""

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
from econed.process.certificates import Files
from econed.process.tls import context_of
from tests.support.certificates import Authority, Issued, ec_key, key_pem, rsa_key
from tests.support.handshakes import Server
from tests.support.tools import require_tool

AUTHORITY = Authority()
NAME = "ec2.example.org"


def edwards() -> bytes:
    """Return a key that few clients of EC2 would know what to do with."""
    key = ed25519.Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def problems(files: Files) -> list[str]:
    """Return what is wrong with files, without the directories they are in."""
    with pytest.raises(ConfigError) as caught:
        files.read()
    return [str(each).replace(f"{Path(files.own.cert).parent}/", "") for each in caught.value.problems]


def warnings(issued: Issued, directory: Path, now: float | None = None) -> list[str]:
    """Return what is worth a warning in a certificate, without the directory it is in."""
    moment = datetime.now(UTC).timestamp() if now is None else now
    found = Files(issued.write(directory, "own")).read().warnings(moment)
    return [str(each).replace(f"{directory}/", "") for each in found]


BAD_KEYS: dict[str, tuple[Callable[[], bytes], str]] = {
    "of another certificate": (
        lambda: key_pem(ec_key()),
        "own-cert.pem: ssl_cert: is not the certificate of the key in own-key.pem; the server's own has to stand first",
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


@pytest.mark.parametrize(("key", "said"), BAD_KEYS.values(), ids=BAD_KEYS.keys())
def test_a_key_that_cannot_be_used_is_refused_by_its_setting(
    tmp_path: Path, key: Callable[[], bytes], said: str
) -> None:
    """With the file, the key of econe.conf, and what was expected."""
    own = AUTHORITY.server(NAME).write(tmp_path, "own")
    Path(own.key).write_bytes(key())
    assert problems(Files(own)) == [said]


@pytest.mark.parametrize("content", [b"", b"nonsense", key_pem(ec_key()), AUTHORITY.pem[:-40]])
def test_a_file_without_a_certificate_is_refused_by_its_setting(tmp_path: Path, content: bytes) -> None:
    """Whichever of the settings names it."""
    own = AUTHORITY.server(NAME).write(tmp_path, "own")
    bad = tmp_path / "bad.pem"
    bad.write_bytes(content)
    said = "bad.pem: {}: expected a certificate in PEM"
    assert problems(Files(CertificateFiles(str(bad), own.key))) == [said.format("ssl_cert")]
    assert problems(Files(CertificateFiles(own.cert, own.key, str(bad)))) == [said.format("ssl_chain")]
    assert problems(Files(own, (CertificateFiles(str(bad), own.key),))) == [said.format("ssl_sni")]
    assert problems(Files(own, (), str(bad))) == [said.format("ssl_client_ca")]


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    """One start, one list."""
    gone = CertificateFiles(str(tmp_path / "gone.pem"), str(tmp_path / "gone-key.pem"))
    assert problems(Files(gone, (gone,), str(tmp_path / "gone-ca.pem"))) == [
        "gone.pem: ssl_cert: cannot be read: No such file or directory",
        "gone.pem: ssl_sni: cannot be read: No such file or directory",
        "gone-ca.pem: ssl_client_ca: cannot be read: No such file or directory",
    ]


def test_a_chain_in_the_wrong_order_is_refused(tmp_path: Path) -> None:
    """The server's own certificate stands first."""
    issued = Authority("Intermediate", AUTHORITY).server(NAME)
    own = issued.write(tmp_path, "own")
    Path(own.cert).write_bytes(Issued(issued.key, issued.chain[0], (issued.certificate,)).pem)
    assert len(problems(Files(own))) == 1


def test_key_and_certificate_may_stand_in_one_file(tmp_path: Path) -> None:
    """In either order, as HAProxy and others have them."""
    issued = AUTHORITY.server(NAME)
    both = tmp_path / "both.pem"
    for content in (issued.pem + key_pem(issued.key), key_pem(issued.key) + issued.pem):
        both.write_bytes(content)
        assert Files(CertificateFiles(str(both), str(both))).read().own.certificate == issued.certificate


def test_what_openssl_itself_refuses_is_said_by_its_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a system asks for longer keys than we do."""
    monkeypatch.setattr(tls, "CIPHERS", b"ECDHE+AESGCM:@SECLEVEL=3")
    own = AUTHORITY.server(NAME, key=rsa_key()).write(tmp_path, "own")
    with pytest.raises(ConfigError, match=r"own-cert\.pem: ssl_cert: is refused by OpenSSL: ee key too small"):
        Server(Files(own))


def test_a_usable_pair_makes_a_context(tmp_path: Path) -> None:
    """And nothing is said about it."""
    server = Server(Files(AUTHORITY.server(NAME).write(tmp_path, "own")))
    assert context_of(server.files.read(), server.tls._log) is not None
    assert server.said == []


# Warnings


def test_a_good_certificate_is_not_warned_of(tmp_path: Path) -> None:
    """With a chain in order."""
    assert warnings(AUTHORITY.server(NAME), tmp_path) == []
    assert warnings(Authority("Intermediate", AUTHORITY).server(NAME), tmp_path) == []


@pytest.mark.parametrize(
    ("days_left", "said"),
    [(14.1, None), (13.9, "expires soon, at "), (0.001, "expires soon, at "), (-1, "has expired at ")],
)
def test_a_certificate_that_ends_within_two_weeks_is_warned_of(
    tmp_path: Path, days_left: float, said: str | None
) -> None:
    """With the moment of it; one that has ended is used all the same, clients may not mind."""
    issued = AUTHORITY.server(NAME, days=days_left, since=-90)
    ends = f"{issued.certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
    assert warnings(issued, tmp_path) == ([] if said is None else [f"own-cert.pem: ssl_cert: {said}{ends}"])


def test_a_certificate_of_times_to_come_is_warned_of(tmp_path: Path) -> None:
    """The clock of this machine may be wrong."""
    issued = AUTHORITY.server(NAME)
    before = (issued.certificate.not_valid_before_utc - timedelta(days=1)).timestamp()
    begins = f"{issued.certificate.not_valid_before_utc:%Y-%m-%d %H:%M}"
    assert warnings(issued, tmp_path, before) == [f"own-cert.pem: ssl_cert: is not valid before {begins} UTC"]


def test_a_certificate_without_names_is_warned_of(tmp_path: Path) -> None:
    """No client of today looks at the common name."""
    assert warnings(AUTHORITY.server(), tmp_path) == [
        "own-cert.pem: ssl_cert: names no server (subjectAltName), so clients will not take it"
    ]


def test_a_certificate_for_addresses_alone_is_not_warned_of(tmp_path: Path) -> None:
    """Clients take it."""
    assert warnings(AUTHORITY.server("127.0.0.1", "::1"), tmp_path) == []


def test_a_certificate_that_is_signed_over_sha_1_is_warned_of(tmp_path: Path) -> None:
    """Clients have refused them for years."""
    own = AUTHORITY.server(NAME).write(tmp_path, "own")
    request, authority, names = tmp_path / "request", tmp_path / "ca.pem", tmp_path / "names"
    authority.write_bytes(key_pem(AUTHORITY.key) + AUTHORITY.pem)
    names.write_text(f"subjectAltName=DNS:{NAME}")
    openssl = require_tool("openssl")
    subprocess.run([openssl, "req", "-new", "-key", own.key, "-subj", "/CN=old", "-out", str(request)], check=True)
    signing = ["-CA", str(authority), "-sha1", "-days", "30", "-extfile", str(names), "-in", str(request)]
    subprocess.run([openssl, "x509", "-req", *signing, "-out", own.cert], check=True, capture_output=True)
    said = [str(each) for each in Files(own).read().warnings(datetime.now(UTC).timestamp())]
    assert said == [f"{own.cert}: ssl_cert: is signed over MD5 or SHA-1, so clients will not take it"]


def test_a_chain_with_a_gap_is_warned_of(tmp_path: Path) -> None:
    """Some clients find their way, others do not."""
    issued = Authority("Intermediate", AUTHORITY).server(NAME)
    assert warnings(Issued(issued.key, issued.certificate, (AUTHORITY.certificate,)), tmp_path) == [
        "own-cert.pem: ssl_cert: has a chain that is not in order: each issued by the next"
    ]


def test_an_authority_of_clients_that_has_ended_is_warned_of(tmp_path: Path) -> None:
    """Nobody can come in by it any more."""
    ca = tmp_path / "ca.pem"
    ended = AUTHORITY.client("Old Authority", days=-1, since=-9)
    ca.write_bytes(AUTHORITY.pem + ended.pem)
    files = Files(AUTHORITY.server(NAME).write(tmp_path, "own"), (), str(ca))
    ends = f"{ended.certificate.not_valid_after_utc:%Y-%m-%d %H:%M}"
    (said,) = files.read().warnings(datetime.now(UTC).timestamp())
    assert str(said) == f"{ca}: ssl_client_ca: the authority CN=Old Authority,O=ONE cloud has expired at {ends} UTC"


# Which files


def test_settings_without_a_certificate_make_no_tls() -> None:
    """Plain HTTP, as ever."""
    assert Files.of(Settings()) is None


@pytest.mark.parametrize(("auth", "client_ca"), [("ec2", None), ("x509", "/ca.pem")])
def test_clients_are_asked_for_certificates_with_auth_x509_alone(auth: str, client_ca: str | None) -> None:
    """With signatures nobody looks at them."""
    settings = Settings(
        ssl_cert="/cert.pem",
        ssl_key="/key.pem",
        ssl_chain="/chain.pem",
        ssl_sni=(CertificateFiles("/c", "/k"),),
        ssl_client_ca="/ca.pem",
        auth=auth,  # type: ignore[arg-type]
    )
    own = CertificateFiles("/cert.pem", "/key.pem", "/chain.pem")
    assert Files.of(settings) == Files(own, (CertificateFiles("/c", "/k"),), client_ca)
