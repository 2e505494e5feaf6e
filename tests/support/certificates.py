"""Certificates for tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509 import Certificate, CertificateBuilder, Name, NameAttribute, random_serial_number
from cryptography.x509.oid import NameOID

SUBJECT = "/O=ONE cloud/CN=server"
"""Whose the certificate is, as openssl writes it."""


@cache
def server_certificate() -> tuple[rsa.RSAPrivateKey, Certificate]:
    """Return the key and the certificate, signed by itself, of a server of OpenNebula."""
    key = rsa.generate_private_key(65537, 2048)
    names = (NameOID.ORGANIZATION_NAME, "ONE cloud"), (NameOID.COMMON_NAME, "server")
    name = Name([NameAttribute(oid, value) for oid, value in names])
    now = datetime.now(UTC)
    builder = CertificateBuilder(name, name, key.public_key(), random_serial_number(), now, now + timedelta(days=2))
    return key, builder.sign(key, SHA256())
