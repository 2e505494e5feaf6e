"""Scans of the daemon's TLS: no weak protocol, no weak cipher, no known vulnerability."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.certificates import Authority, Issued, PrivateKey, ec_key, rsa_key
from tests.support.ports import free_port
from tests.support.processes import Process, until
from tests.support.running import finished, twistd
from tests.support.scans import sslscan, testssl
from tests.support.tools import require_tool
from tests.test_plugin import environment

pytestmark = pytest.mark.slow

AUTHORITY = Authority()
KEYS: dict[str, Callable[[], PrivateKey]] = {"rsa": rsa_key, "ec": ec_key}
VULNERABILITIES = {
    "heartbleed", "CCS", "ticketbleed", "ROBOT", "secure_renego", "secure_client_renego", "CRIME_TLS", "BREACH",
    "POODLE_SSL", "fallback_SCSV", "SWEET32", "FREAK", "DROWN", "LOGJAM", "BEAST", "LUCKY13", "RC4",
}  # fmt: skip


def own(key: str) -> Issued:
    """Return a certificate for this machine with a key of this type."""
    return AUTHORITY.server("localhost", "127.0.0.1", key=KEYS[key]())


def configured(directory: Path, issued: Issued, **settings: Any) -> Path:
    """Write an econe.conf with this certificate and these settings, and return its path."""
    files = issued.write(directory, "own")
    conf = directory / "econe.conf"
    conf.write_text(yaml.safe_dump({"host": "127.0.0.1", "ssl_cert": files.cert, "ssl_key": files.key, **settings}))
    return conf


@contextmanager
def daemon(directory: Path, conf: Path) -> Iterator[int]:
    """Run the daemon with --sandbox during the block, and yield its port."""
    arguments = ["econe", "--config", str(conf), "--sandbox", "--listen", "tcp:0:interface=127.0.0.1"]
    process = Process("econed", twistd(*arguments)[1:], directory, program=twistd()[0])
    try:
        yield int(process.await_output(r"EC2Site \(TLS\) starting on (\d+)"))
    finally:
        process.stop()


@contextmanager
def weak(directory: Path, *options: str) -> Iterator[int]:
    """Run OpenSSL's server with these options, which make it weak, and yield its port."""
    port = free_port()
    files = own("ec").write(directory, "weak")
    argv = ["s_server", "-accept", f"127.0.0.1:{port}", "-cert", files.cert, "-key", files.key, "-www", *options]
    process = Process("weak", argv, directory, program=require_tool("openssl"))
    try:
        until(lambda: "ACCEPT" in process.text, "a weak server to listen", 60)
        yield port
    finally:
        process.stop()


@pytest.mark.parametrize("key", KEYS)
def test_sslscan_finds_nothing_weak(tmp_path: Path, key: str) -> None:
    """TLS 1.2 and 1.3, with ephemeral keys and authenticated encryption, without compression and renegotiation."""
    with daemon(tmp_path, configured(tmp_path, own(key))) as port:
        weaknesses, ciphers = sslscan(port, tmp_path)
    assert weaknesses == set()
    assert len(ciphers) == 6, "three of TLS 1.2 and three of TLS 1.3"


def test_sslscan_finds_nothing_weak_with_client_certificates(tmp_path: Path) -> None:
    """With auth x509."""
    ca = tmp_path / "ca.pem"
    ca.write_bytes(AUTHORITY.pem)
    with daemon(tmp_path, configured(tmp_path, own("ec"), auth="x509", ssl_client_ca=str(ca))) as port:
        assert sslscan(port, tmp_path)[0] == set()


def test_testssl_finds_nothing_weak_and_nothing_vulnerable(tmp_path: Path) -> None:
    """Protocols, ciphers, forward secrecy, preferences, and all vulnerabilities that it knows."""
    with daemon(tmp_path, configured(tmp_path, own("rsa"))) as port:
        weaknesses, checks = testssl(port, tmp_path, "-p", "-s", "-f", "-P", "-U")
    assert weaknesses == set()
    assert checks >= {"SSLv2", "SSLv3", "TLS1", "TLS1_1", "TLS1_2", "TLS1_3", "cipherlist_STRONG"} | VULNERABILITIES


WEAK = {
    "a cipher of CBC": (
        ("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA"),
        "cipher ECDHE-ECDSA-AES128-SHA",
        "cipherlist_",
    ),
    "TLS 1.0": (("-tls1", "-cipher", "ALL:@SECLEVEL=0"), "protocol tls 1.0", "TLS1: "),
}


@pytest.mark.parametrize(("options", "by_sslscan", "by_testssl"), WEAK.values(), ids=WEAK.keys())
def test_the_scans_find_the_weakness_of_a_weak_server(
    tmp_path: Path, options: tuple[str, ...], by_sslscan: str, by_testssl: str
) -> None:
    """So the tests above can fail."""
    with weak(tmp_path, *options) as port:
        assert by_sslscan in sslscan(port, tmp_path)[0]
        weaknesses, _ = testssl(port, tmp_path, "-p", "-s")
    assert [weakness for weakness in weaknesses if weakness.startswith(by_testssl)], weaknesses


# Invalid certificates


@pytest.mark.parametrize("arguments", [("--sandbox",), ()], ids=["one process", "with a supervisor"])
def test_a_certificate_with_another_key_ends_the_start_with_an_error(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """Without a traceback, and without workers that start again and again."""
    conf = configured(tmp_path, own("ec"), port=free_port())
    own("ec").write(tmp_path, "other")
    conf.write_text(conf.read_text().replace("own-key.pem", "other-key.pem"))
    (tmp_path / "auth").write_text("serveradmin:secret\n")
    (tmp_path / "auth").chmod(0o600)
    done = finished(
        twistd("econe", "--config", str(conf), *arguments),
        tmp_path,
        environment(ONE_CIPHER_AUTH=str(tmp_path / "auth")),
    )
    assert done.returncode != 0
    output = done.stdout + done.stderr
    assert re.search(r"own-cert\.pem: ssl_cert: is not the certificate of the key in \S+/other-key\.pem", output), (
        output
    )
    assert "Traceback" not in output
