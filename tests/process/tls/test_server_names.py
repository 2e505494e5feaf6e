"""The certificate that a client gets for the name of a server."""

from __future__ import annotations

import ssl

import pytest

from econed.process.tls import lookup_name
from tests.process.tls.serving_tls import V1_2, V1_3
from tests.support.certificates import Issued
from tests.support.handshakes import Server, trusting

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
