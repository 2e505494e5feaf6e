"""Fixtures of the tests of TLS."""

from __future__ import annotations

from pathlib import Path

import pytest

from econed.config.values import CertificateFiles
from econed.process.certificates import TLSFiles
from tests.process.tls.serving_tls import issued
from tests.support.certificates import Issued, rsa_key
from tests.support.handshakes import Server


@pytest.fixture
def files(tmp_path: Path) -> CertificateFiles:
    """A certificate for ec2.example.org."""
    return issued().write(tmp_path, "own")


@pytest.fixture
def server(files: CertificateFiles) -> Server:
    """A server with that certificate."""
    return Server(TLSFiles(files))


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
